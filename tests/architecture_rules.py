"""The rules of the architecture as functions over source text: each takes the root of a tree, returns what breaks it.

They read files and import nothing, so that they work on a tree that does not run, and on the small trees of their own
tests.
"""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = "deepbabysit"

# From the top down: a module imports from its own line and from the lines above it, never from below.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("kernels",),
    ("runtime",),
    ("autograd",),
    ("io",),
    ("initializers", "regularizers", "constraints", "losses", "metrics"),
    ("layers",),
    ("optimizers",),
    ("data",),
    ("training",),
    ("babysit",),
    ("report",),
    ("onnx",),
    ("models",),
    ("search", "sklearn"),
    ("testing",),
    ("bench",),
    ("cli",),
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
OPEN_TO_BACKENDS = ("errors", "kernels", "runtime")

# Served lazily and started by hand: the two files that may name anything.
EXEMPT = ("__init__", "__main__")

LINES = 600
EXCUSE = "over 600 lines because"
SOURCE_SUFFIXES = (".py", ".cu", ".cuh", ".c", ".cpp", ".h")
PICKLES = ("pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve")
PICKLE_NAMES = ("read_pickle", "to_pickle", "allow_pickle")
CUPY = ("cupy", "cupyx", "cupy_backends")
HARMLESS_FASTMATH = ("reassoc", "contract", "arcp", "nsz")
# Written in two pieces so that this file does not break the rule itself.
MACHINE_PATHS = ("/" + "work/", "/" + "root/")
NOT_AT_IMPORT = (
    "asyncio", "cupy", "deepbabysit_cupy", "deepbabysit_numpy", "jax", "matplotlib", "numba", "onnx", "optuna",
    "pandas", "rich", "scipy", "sklearn", "socket", "torch",
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One name brought in: `module` or `module.name`; line; whether only a type checker sees it."""

    module: str
    name: str
    line: int
    typing_only: bool


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def python_files(root: Path, *folders: str) -> list[Path]:
    """Return the Python files below these folders."""
    return sorted(path for folder in folders for path in (root / folder).rglob("*.py"))


def project_files(root: Path) -> list[Path]:
    """Return what git tracks or would add; everything where there is no repository."""
    if (root / ".git").exists():
        listing = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root, capture_output=True, text=True, encoding="utf-8", check=True,
        )  # fmt: skip
        return sorted(path for name in listing.stdout.split("\0") if name and (path := root / name).is_file())
    hidden = re.compile(r"__pycache__|\.(?!ci$|github$).*")  # environments, caches
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not any(hidden.fullmatch(part) for part in path.relative_to(root).parts)
    )


def module_name(path: Path, base: Path) -> str:
    """Return the dotted name of a file below base (a folder on the import path)."""
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, base: Path) -> list[Import]:
    """Return every import of a file: at the top, inside functions, by `import_module` with a literal name."""
    parts = path.relative_to(base).parts[:-1]
    found: list[Import] = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            for child in node.body:
                visit(child, True)
            for child in node.orelse:
                visit(child, typing_only)
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, "", node.lineno, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join([*parts[: len(parts) - node.level + 1], *([module] if module else [])])
            found.extend(Import(module, alias.name, node.lineno, typing_only) for alias in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__", "require") and node.args:
            name = _start_of_text(node.args[0])
            found.extend([] if name is None else [Import(name, "", node.lineno, typing_only)])
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only)

    visit(parse(path), False)
    return found


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _start_of_text(node: ast.expr) -> str | None:
    """Return a literal string, or the start of an f-string with its open end as `{}`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        return f"{node.values[0].value}{{}}"
    return None


def running_imports(root: Path) -> Iterator[tuple[Path, Import]]:
    """Yield the imports that run; those under `if TYPE_CHECKING:` never do, they only name types."""
    for folder in ("src", "backends"):
        for path in python_files(root, folder):
            for found in imports(path, root / folder):
                if not found.typing_only:
                    yield path, found


def _below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def floors(root: Path) -> list[str]:
    """Imports inside the package point up the list of floors; each module has a floor."""
    broken = []
    base = root / "src"
    for path in python_files(root, f"src/{PACKAGE}"):
        own = module_name(path, base).split(".")[1:]
        if not own or own == ["__main__"]:
            continue
        if own[0] not in HEIGHT:
            broken.append(f"{_where(root, path, 1)}: {own[0]!r} has no floor; give it a line in FLOORS")
            continue
        for found in imports(path, base):
            if found.typing_only or not _below(found.module, PACKAGE):
                continue
            target = f"{found.module}.{found.name}".split(".")[1]
            if found.module == PACKAGE and target not in HEIGHT:
                if found.name != "__version__":
                    what = found.name or "the package"
                    broken.append(f"{_where(root, path, found.line)}: {what} is no module; name the one that holds it")
            elif target not in HEIGHT:
                broken.append(f"{_where(root, path, found.line)}: imports {found.module}, which has no floor")
            elif HEIGHT[target] > HEIGHT[own[0]]:
                broken.append(f"{_where(root, path, found.line)}: {own[0]} imports {target}, a lower floor")
    return broken


def circles(root: Path) -> list[str]:
    """No module imports itself through others, in the package and in the backends."""
    known: dict[str, Path] = {}
    for folder in ("src", "backends"):
        known.update({module_name(path, root / folder): path for path in python_files(root, folder)})
    graph: dict[str, set[str]] = {name: set() for name in known if name != PACKAGE}
    for path, found in running_imports(root):
        own = module_name(path, root / path.relative_to(root).parts[0])
        full = f"{found.module}.{found.name}"
        target = full if full in known else found.module
        if own in graph and target in graph:
            graph[own].add(target)
    return [" -> ".join([*circle, circle[0]]) for circle in _circles(graph)]


def _circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the circles that a walk in depth runs into: at least one where there is any."""
    done: set[str] = set()
    found: list[list[str]] = []
    for start in sorted(graph):
        if start in done:
            continue
        trail: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [(start, iter(sorted(graph[start])))]
        trail.append(start)
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                done.add(trail.pop())
            elif following in trail:
                found.append(trail[trail.index(following) :])
            elif following not in done:
                trail.append(following)
                stack.append((following, iter(sorted(graph[following]))))
    return found


def backend_imports(root: Path) -> list[str]:
    """A backend stands on errors, kernels and runtime, and knows no other backend."""
    packages = sorted(path.name for path in (root / "backends").glob("*") if path.is_dir())
    broken = []
    for path in python_files(root, "backends"):
        own = path.relative_to(root / "backends").parts[0].removesuffix(".py")
        for found in imports(path, root / "backends"):
            if found.typing_only:
                continue
            first, _, rest = f"{found.module}.{found.name}".partition(".")
            if first == PACKAGE and rest.split(".")[0] not in OPEN_TO_BACKENDS:
                broken.append(f"{_where(root, path, found.line)}: a backend imports {found.module} ({found.name})")
            elif first in packages and first != own:
                broken.append(f"{_where(root, path, found.line)}: {own} imports {first}, another backend")
    return broken


def cupy_imports(root: Path) -> list[str]:
    """CuPy is imported in its own backend only."""
    return [
        f"{_where(root, path, found.line)}: imports {found.module}"
        for path, found in running_imports(root)
        if found.module.split(".")[0] in CUPY and path.relative_to(root).parts[:2] != ("backends", "deepbabysit_cupy")
    ]


def long_files(root: Path) -> list[str]:
    """No source file is longer than the limit without a reason at its top."""
    broken = []
    for path in project_files(root):
        if path.suffix in SOURCE_SUFFIXES:
            lines = path.read_text(encoding="utf-8").splitlines()
            if len(lines) > LINES and EXCUSE not in "\n".join(lines[:15]):
                broken.append(f"{_where(root, path, len(lines))}: {len(lines)} lines, no '{EXCUSE}' in the first 15")
    return broken


def drawers(root: Path) -> list[str]:
    """No module is called utils: a name says what is inside."""
    return [
        f"{path.relative_to(root).as_posix()}: a drawer for anything"
        for path in project_files(root)
        if path.suffix in SOURCE_SUFFIXES
        and any(re.fullmatch(r"_*(\w+_)?utils?", part) for part in path.relative_to(root).with_suffix("").parts)
    ]


def executed_data(root: Path) -> list[str]:
    """Nothing that is read can run: no pickle, marshal, eval or exec."""
    broken = [
        f"{_where(root, path, found.line)}: imports {found.module}"
        for path, found in running_imports(root)
        if found.module.split(".")[0] in PICKLES
    ]
    for path in python_files(root, "src", "backends"):
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Name) and node.id in ("eval", "exec") and isinstance(node.ctx, ast.Load):
                broken.append(f"{_where(root, path, node.lineno)}: {node.id}")
            elif isinstance(node, ast.Attribute) and (
                node.attr in PICKLE_NAMES
                or (node.attr in ("eval", "exec") and isinstance(node.value, ast.Name) and node.value.id == "builtins")
            ):
                broken.append(f"{_where(root, path, node.lineno)}: {node.attr}")
            elif isinstance(node, ast.keyword) and node.arg in PICKLE_NAMES and not _is_false(node.value):
                broken.append(f"{_where(root, path, node.value.lineno)}: {node.arg}")
    return broken


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def fastmath(root: Path) -> list[str]:
    """`fastmath=True` assumes that NaN does not exist: only the flags that leave NaN alone may be named."""
    broken = []
    for path in python_files(root, "backends"):
        for node in ast.walk(parse(path)):
            for value in _fastmath_values(node):
                if not _harmless(value):
                    broken.append(f"{_where(root, path, value.lineno)}: fastmath beyond {', '.join(HARMLESS_FASTMATH)}")
    return broken


def _fastmath_values(node: ast.AST) -> list[ast.expr]:
    """Return what is given as fastmath: as a keyword, in a dictionary of keywords, in a constant named after it."""
    if isinstance(node, ast.keyword) and node.arg == "fastmath":
        return [node.value]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "fastmath"]
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(isinstance(target, ast.Name) and "fastmath" in target.id.lower() for target in targets):
            return [node.value]
    return []


def _harmless(value: ast.expr) -> bool:
    if _is_false(value) or (isinstance(value, ast.Name) and "fastmath" in value.id.lower()):
        return True  # a constant with that name is checked where it is assigned
    if isinstance(value, ast.Call) and _called(value) in ("set", "frozenset") and len(value.args) == 1:
        return _harmless(value.args[0])
    return isinstance(value, ast.Set | ast.Tuple | ast.List) and all(
        isinstance(flag, ast.Constant) and flag.value in HARMLESS_FASTMATH for flag in value.elts
    )


def machine_paths(root: Path) -> list[str]:
    """No file names a folder of the machine it was written on."""
    broken = []
    for path in project_files(root):
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            broken += [f"{_where(root, path, number)}: {name}" for name in MACHINE_PATHS if name in line]
    return broken


def missing_docstrings(root: Path) -> list[str]:
    """Every public module, class, function and method of the package says what it is."""
    broken = []
    for path in python_files(root, f"src/{PACKAGE}"):
        parts = path.relative_to(root / "src").with_suffix("").parts
        if any(part.startswith("_") and part not in EXEMPT for part in parts):
            continue
        tree = parse(path)
        if tree.body and not ast.get_docstring(tree):
            broken.append(f"{_where(root, path, 1)}: module")
        broken += [f"{_where(root, path, node.lineno)}: {name}" for name, node in _public(tree.body, "")]
    return broken


def _public(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the public definitions without a docstring; what a function defines inside is its own business."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.startswith("_") or any(_exempting(decorator) for decorator in node.decorator_list):
                continue
            if not ast.get_docstring(node):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _public(getattr(node, part, []), prefix)


def _exempting(decorator: ast.expr) -> bool:
    """Is this the setter of a documented property, or one signature of a documented function?"""
    name = decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", "")
    return name in ("setter", "deleter", "overload")


def import_effects(*path: Path) -> dict[str, list[str]]:
    """Import the package in a fresh interpreter with these folders in front: what came with it, which threads run."""
    program = f"""
import json, os, sys, threading
before = set(sys.modules)
import {PACKAGE}
loaded = set(sys.modules) - before
tasks = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1
threads = [thread.name for thread in threading.enumerate()[1:]]
print(json.dumps({{
    "modules": sorted(name for name in {NOT_AT_IMPORT!r} if name in loaded),
    "threads": threads + ["native thread"] * (tasks - 1 - len(threads)),
}}))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    found: dict[str, list[str]] = json.loads(result.stdout)
    return found


def _where(root: Path, path: Path, line: int) -> str:
    return f"{path.relative_to(root).as_posix()}:{line}"
