"""The rules of the architecture hold, and each of them notices when it is broken."""

from pathlib import Path

import architecture_rules as rules
import pytest

ROOT = Path(__file__).resolve().parents[1]
OVER_SOURCE = [
    rules.floors,
    rules.circles,
    rules.backend_imports,
    rules.cupy_imports,
    rules.long_files,
    rules.drawers,
    rules.executed_data,
    rules.fastmath,
    rules.machine_paths,
    rules.missing_docstrings,
]


@pytest.mark.parametrize("rule", OVER_SOURCE, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule):
    assert rule(ROOT) == [], rule.__doc__


def test_the_rules_see_the_project():
    """A rule over no files would hold too."""
    names = {path.relative_to(ROOT).as_posix() for path in rules.python_files(ROOT, "src", "backends")}
    assert {"src/deepbabysit/errors.py", "backends/deepbabysit_numpy/backend.py"} <= names
    files = {path.relative_to(ROOT).as_posix() for path in rules.project_files(ROOT)}
    assert names | {"README.md", "pyproject.toml"} <= files
    assert len(list(rules.running_imports(ROOT))) > 100


def test_importing_the_package_stays_light():
    found = rules.import_effects(ROOT / "src", ROOT / "backends")
    assert found == {"modules": [], "threads": []}


# What the rules say about small trees.


@pytest.fixture
def tree(tmp_path):
    """Write files into a tree: `tree({"src/deepbabysit/x.py": "..."})` returns its root."""

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def package(**files: str) -> dict[str, str]:
    return {f"src/deepbabysit/{name.replace('__', '/')}.py": text for name, text in files.items()}


HEIGHTS = [name for floor in rules.FLOORS for name in floor]
DOWNWARD = [
    (upper, lower)
    for height, floor in enumerate(rules.FLOORS)
    for upper in floor
    for below in rules.FLOORS[height + 1 :]
    for lower in below
]


def test_every_floor_may_look_up_and_none_down(tree):
    for upper, lower in DOWNWARD:
        assert rules.HEIGHT[upper] < rules.HEIGHT[lower]
    assert (HEIGHTS[0], HEIGHTS[-1]) == ("errors", "cli")
    files = package(**{f"{lower}__from_{upper}": f"import deepbabysit.{upper}.m" for upper, lower in DOWNWARD})
    assert rules.floors(tree(files)) == []


def test_no_floor_looks_down(tree):
    files = package(**{f"{upper}__from_{lower}": f"import deepbabysit.{lower}.m" for upper, lower in DOWNWARD})
    assert len(rules.floors(tree(files))) == len(DOWNWARD)


@pytest.mark.parametrize(
    "text",
    [
        "import deepbabysit.layers",
        "import deepbabysit.layers.dense as dense",
        "from deepbabysit import layers",
        "from deepbabysit.layers import Dense",
        "from deepbabysit.layers.dense import Dense",
        "from ..layers import Dense",
        "from .. import layers",
        "def f():\n    from deepbabysit.layers import Dense",
        "class A:\n    def f(self):\n        import deepbabysit.layers",
        "try:\n    import deepbabysit.layers\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('deepbabysit.layers')",
        "import importlib\nimportlib.import_module(f'deepbabysit.layers.{name}')",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    import deepbabysit.layers",
        "if not TYPE_CHECKING:\n    import deepbabysit.layers",
    ],
)
def test_every_form_of_an_import_is_seen(tree, text):
    (found,) = rules.floors(tree(package(runtime__m=text)))
    assert found.startswith("src/deepbabysit/runtime/m.py:")
    assert "runtime imports layers" in found


def test_imports_that_only_name_types_are_free(tree):
    text = "import typing\nif typing.TYPE_CHECKING:\n    from deepbabysit.layers import Dense"
    assert rules.floors(tree(package(runtime__m=text))) == []


def test_a_floor_may_import_itself_and_the_standard_library(tree):
    lines = ["import json", "from . import o", "from deepbabysit.runtime.o import a"]
    lines.append("from deepbabysit import __version__")
    files = package(runtime__m="\n".join(lines), losses="from deepbabysit import metrics")
    assert rules.floors(tree(files)) == []


def test_the_face_of_the_package_may_name_everything(tree):
    files = dict.fromkeys(("__init__.py", "__main__.py"), "import deepbabysit\nimport deepbabysit.cli")
    assert rules.floors(tree({f"src/deepbabysit/{name}": text for name, text in files.items()})) == []


@pytest.mark.parametrize(
    "text", ["import deepbabysit as db", "from deepbabysit import Tensor", "import_module(f'deepbabysit.{name}')"]
)
def test_the_lazy_names_are_no_way_around(tree, text):
    assert len(rules.floors(tree(package(cli__m=text)))) == 1


def test_a_new_folder_needs_a_floor(tree):
    (found,) = rules.floors(tree(package(helpers__m="")))
    assert "'helpers' has no floor" in found


def test_what_has_no_floor_cannot_be_imported(tree):
    (found,) = rules.floors(tree(package(cli__m="import deepbabysit.helpers.m")))
    assert found == "src/deepbabysit/cli/m.py:1: imports deepbabysit.helpers.m, which has no floor"


def test_circles_are_found_through_functions_and_packages(tree):
    files = package(
        runtime__a="from deepbabysit.runtime import b",
        runtime__b="from deepbabysit.runtime.c import x",
        runtime__c="def f():\n    import deepbabysit.runtime.a",
    )
    files["src/deepbabysit/runtime/__init__.py"] = ""
    (found,) = rules.circles(tree(files))
    assert found == "deepbabysit.runtime.a -> deepbabysit.runtime.b -> deepbabysit.runtime.c -> deepbabysit.runtime.a"


def test_a_module_and_its_package_make_a_circle(tree):
    files = {
        "backends/plug/__init__.py": "from plug.inside import one",
        "backends/plug/inside.py": "from plug import two",
    }
    assert rules.circles(tree(files)) == ["plug -> plug.inside -> plug"]


def test_types_and_diamonds_make_no_circle(tree):
    files = package(
        runtime__a="from deepbabysit.runtime import b, c",
        runtime__b="from deepbabysit.runtime import d",
        runtime__c="from deepbabysit.runtime import d",
        runtime__d="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from deepbabysit.runtime import a",
    )
    files["src/deepbabysit/runtime/__init__.py"] = ""
    assert rules.circles(tree(files)) == []


@pytest.mark.parametrize("name", ["errors", "kernels", "runtime"])
def test_backends_stand_on_three_floors(tree, name):
    texts = ["import numpy", f"from deepbabysit.{name}.m import a", "from plug.n import b", "from . import c"]
    assert rules.backend_imports(tree({"backends/plug/m.py": "\n".join(texts)})) == []


@pytest.mark.parametrize(
    "text",
    ["from deepbabysit.autograd import Tensor", "from deepbabysit import layers", "import deepbabysit", "import other"],
)
def test_backends_stand_on_nothing_else(tree, text):
    files = {"backends/plug/m.py": f"def f():\n    {text}", "backends/other/__init__.py": ""}
    (found,) = rules.backend_imports(tree(files))
    assert found.startswith("backends/plug/m.py:2: ")


@pytest.mark.parametrize(
    "text",
    ["import cupy", "import cupy.cuda", "from cupyx import jit", "import_module('cupy')", "require('cupy', 'cuda12')"],
)
def test_cupy_stays_in_its_backend(tree, text):
    places = ["src/deepbabysit/io/m.py", "backends/deepbabysit_numpy/m.py", "backends/deepbabysit_cupy/m.py"]
    found = rules.cupy_imports(tree(dict.fromkeys(places, text)))
    assert [line.partition(":")[0] for line in found] == places[:2]


def test_long_files_need_a_reason_at_the_top(tree):
    reason = f"# {rules.EXCUSE} it is a table\n"
    files = {
        "src/deepbabysit/exact.py": "x = 1\n" * rules.LINES,
        "src/deepbabysit/excused.py": reason + "x = 1\n" * rules.LINES,
        "tests/long.py": "x = 1\n" * rules.LINES + "x = 1\n",
        "backends/plug/late.cu": "\n" * 15 + reason + "\n" * rules.LINES,
        "CHANGELOG.md": "x\n" * 1000,
    }
    found = rules.long_files(tree(files))
    assert [line.partition(":")[0] for line in found] == ["backends/plug/late.cu", "tests/long.py"]


@pytest.mark.parametrize("name", ["utils.py", "_utils.py", "utils/a.py", "image_utils.py", "util.py"])
def test_drawers_are_found(tree, name):
    files = {f"src/deepbabysit/data/{name}": "", "src/deepbabysit/data/utility_theory.py": ""}
    assert len(rules.drawers(tree(files))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from marshal import loads",
        "import cloudpickle as c",
        "eval('1')",
        "exec('x = 1')",
        "run = eval",
        "import builtins\nbuiltins.exec('1')",
        "np.load(f, allow_pickle=True)",
        "pd.read_pickle(f)",
    ],
)
@pytest.mark.parametrize("place", ["src/deepbabysit/io/m.py", "backends/plug/m.py"])
def test_data_that_could_run_is_found(tree, place, text):
    assert len(rules.executed_data(tree({place: text}))) == 1


@pytest.mark.parametrize(
    "text", ["model.eval()", "def eval(self): ...", "'''pickle eval(1)'''", "np.load(f, allow_pickle=False)"]
)
def test_evaluation_modes_and_words_are_no_execution(tree, text):
    assert rules.executed_data(tree({"src/deepbabysit/io/m.py": text})) == []


@pytest.mark.parametrize(
    "text",
    [
        "njit(fastmath=True)(f)",
        "@njit(cache=True, fastmath=True)\ndef f(): ...",
        "njit(fastmath={'reassoc', 'nnan'})",
        "njit(fastmath='fast')",
        "njit(fastmath=flags)",
        "options = {'fastmath': True}",
        "FASTMATH = True",
        "FASTMATH: bool = True",
        "FASTMATH = frozenset({'ninf'})",
    ],
)
def test_fastmath_that_blinds_nan_checks_is_found(tree, text):
    assert len(rules.fastmath(tree({"backends/plug/m.py": text}))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "njit(fastmath=False)",
        "njit(fastmath={'reassoc', 'contract', 'arcp', 'nsz'})",
        "FASTMATH = frozenset({'reassoc'})\nnjit(fastmath=FASTMATH)",
        "# fastmath=True blinds NaN checks",
    ],
)
def test_harmless_fastmath_passes(tree, text):
    assert rules.fastmath(tree({"backends/plug/m.py": text})) == []


@pytest.mark.parametrize("name", rules.MACHINE_PATHS)
def test_folders_of_one_machine_are_found(tree, name):
    root = tree({"README.md": f"fine\nsee {name}x\n", "src/a.py": "'/home/you/work'\n"})
    (root / "image.bin").write_bytes(b"\0" + name.encode())
    assert rules.machine_paths(root) == [f"README.md:2: {name}"]


def test_missing_docstrings_are_found(tree):
    text = '''
def public(): ...
def _private(): ...
class Layer:
    """A layer."""
    def call(self):
        def inner(): ...
    def _hidden(self): ...
    def __repr__(self): ...
    @property
    def rate(self):
        """The rate."""
    @rate.setter
    def rate(self, value): ...
if True:
    class Other: ...
'''
    files = package(layers__m=text, layers___private="def f(): ...", layers__empty="")
    files["tests/test_m.py"] = "def test_m(): ..."
    found = rules.missing_docstrings(tree(files))
    assert [line.partition(": ")[2] for line in found] == ["module", "public", "Layer.call", "Other"]


def test_what_an_import_loads_and_starts_is_seen(tree):
    root = tree({
        "deepbabysit/__init__.py": "import rich\nimport threading\n"
        "threading.Thread(target=threading.Event().wait, name='watcher', daemon=True).start()\n",
        "rich.py": "",
    })
    assert rules.import_effects(root) == {"modules": ["rich"], "threads": ["watcher"]}
