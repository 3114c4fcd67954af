"""Compiled kernels: they pass the conformance suite at every size, and nothing breaks where Numba is missing."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.updates import TABLE_ROWS, host_control
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.runtime.notices import Notices
from deepbabysit.runtime.registry import find_device
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check

ROOT = Path(__file__).resolve().parents[1]
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("numba", "llvmlite"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
"""
TRAIN = """
import numpy as np, sys, deepbabysit as db
assert "numba" not in sys.modules
db.set_seed(0)
model = db.Sequential([db.layers.Dense(80, "relu", input_shape=60), db.layers.Dropout(0.1), db.layers.Dense(4)])
model.compile(db.optimizers.Adam(1e-2), "cross_entropy")
assert "numba" not in sys.modules
rng = np.random.default_rng(0)
x, y = rng.standard_normal((256, 60)).astype("f"), rng.integers(0, 4, 256)
history = model.fit(x, y, batch_size=64, epochs=2, verbose=1)
print("numba" in sys.modules, *[f"{loss:.4f}" for loss in history.history["loss"]])
"""


def python(text: str, **variables: str) -> subprocess.Popen[str]:
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT / "backends")))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.Popen(
        [sys.executable, "-c", text], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def output(process: subprocess.Popen[str]) -> list[str]:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    return text.splitlines()


# -- without Numba -----------------------------------------------------------------------------------------------------


def test_without_numba_the_plain_kernels_serve_and_one_line_says_so():
    lines = output(python(BLOCKED + TRAIN))
    assert len([line for line in lines if "numba is not installed" in line]) == 1
    assert "deepbabysit[fast]" in "\n".join(lines)
    assert lines[-1].startswith("False ")


# -- with it -----------------------------------------------------------------------------------------------------------


def variants() -> list[str]:
    from deepbabysit_numpy.compiled.table import VARIANTS

    return sorted(VARIANTS)


@pytest.mark.parametrize("name", variants())
def test_conformance_at_every_size(compiled, name):
    settings = Settings(draws=1, dtypes=("float32", "float64"))
    for check in CHECKS:
        outcome = run_check(compiled, SPECS[name], check, settings)
        assert outcome.status in ("kernel", "partly", "none"), outcome


def adam_arguments(size, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    table = np.zeros((TABLE_ROWS, 1))
    table[:3] = 1.0
    w, g, m, v = (rng.standard_normal(size).astype(dtype) for _ in range(4))
    return host_control(1, 1e-3), table, np.zeros(1, np.int64), np.zeros((2, 1)), w, g, m, v * v


def adam(device, arguments):
    return call(device, SPECS["adam_update"], arguments, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8})


def chosen(device, size):
    attrs = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    return find_plan(device, SPECS["adam_update"], adam_arguments(size), attrs).kernel


def test_small_arrays_keep_the_plain_kernel():
    pytest.importorskip("numba")
    device = find_device("cpu")
    plain = device.backend.kernels["adam_update"]
    assert chosen(device, 100) is plain
    assert chosen(device, 50_000) is plain.variants[0]


def test_the_choice_is_no_miss(compiled):
    adam(compiled, adam_arguments(10))
    assert not compiled.misses


def test_same_bits_twice(compiled):
    one, two = (adam(compiled, adam_arguments(450_001)) for _ in range(2))
    for x, y in zip(one, two, strict=True):
        assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("row", [0, 1, 3, 1_000_003])
def test_dropout_draws_the_bits_of_the_specification(compiled, size, row):
    x = np.ones((3, size), np.float32)
    control = np.array([2**64 - 1, 5, row, 0], np.uint64)
    attrs = {"rate": 0.37, "stream": 2**63 + 11, "call": 2}
    y, factor = call(compiled, SPECS["dropout"], (x, control), attrs)
    y_expected, expected = call(find_device("cpu:reference"), SPECS["dropout"], (x, control), attrs)
    assert factor.tobytes() == expected.tobytes()
    assert y.tobytes() == y_expected.tobytes()


@pytest.mark.parametrize("noise_shape", [(90, 1, 70), (1, 40, 70), (90, 40, 1), (90, 1, 1)])
def test_a_mask_for_many_elements_has_the_bits_of_the_specification(compiled, noise_shape):
    x = np.random.default_rng(2).standard_normal((90, 40, 70)).astype(np.float32)
    arguments = (x, np.array([7, 5, 3, 0], np.uint64))
    attrs = {"rate": 0.37, "stream": 11, "noise_shape": noise_shape}
    found, expected = (call(d, SPECS["dropout"], arguments, attrs) for d in (compiled, find_device("cpu:reference")))
    assert [a.tobytes() for a in found] == [a.tobytes() for a in expected]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen(compiled, value):
    arguments = adam_arguments(1000)
    arguments[5][::10] = value
    _, w, m, v = adam(compiled, arguments)
    expected = np.zeros(1000, bool)
    expected[::10] = True
    for array in (m, v):
        assert (~np.isfinite(array) == expected).all()
    assert (np.isnan(w) == expected).all()


def test_nan_passes_relu_clipping_and_softmax(compiled):
    rng = np.random.default_rng(0)
    x, weights, bias = rng.standard_normal((40, 8)), rng.standard_normal((8, 67)), rng.standard_normal(67)
    for dtype in (np.float32, np.float64):
        bias[::5] = np.nan
        arrays = tuple(a.astype(dtype) for a in (x, weights, bias))
        (y,) = call(compiled, SPECS["linear"], arrays, {"activation": "relu"})
        assert (np.isnan(y) == np.isnan(bias)).all()
        (g, by_bias) = call(compiled, SPECS["linear_gradient"], (y, np.ones_like(y)), {"activation": "relu"})
        assert (np.isnan(g) == np.isnan(y)).all()
        assert (np.isnan(by_bias) == np.isnan(bias)).all()
        losses, p = call(compiled, SPECS["softmax_cross_entropy"], (y.T.copy(), np.zeros(67, int)), {})
        assert (np.isnan(losses) == np.isnan(bias)).all()
        assert (np.isnan(p).all(axis=1) == np.isnan(bias)).all()
        control, *arguments = adam_arguments(1000, dtype)
        control = host_control(1, 1e-3, clip_value=0.1)
        arguments[4][::10] = np.nan
        _, w, m, v = adam(compiled, (control, *arguments))
        assert np.isnan(np.stack((w, m, v)))[:, ::10].all()
        assert np.isnan(np.stack((w, m, v))).sum() == 300


def count_nan(x):
    count = 0
    for i in range(x.size):
        if x[i] != x[i]:
            count += 1
    return count


def test_our_flags_let_a_kernel_see_nan(monkeypatch):
    pytest.importorskip("numba")
    from deepbabysit_numpy.compiled import jit

    monkeypatch.setattr(jit, "FOLDER", None)
    x = np.ones(1000, np.float32)
    x[::10] = np.nan
    assert jit.jit(count_nan)(x) == 100


def test_numba_is_loaded_at_the_first_use_only_and_the_run_says_that_it_compiles(tmp_path):
    pytest.importorskip("numba")
    first = output(python(TRAIN, DEEPBABYSIT_CACHE=str(tmp_path / "cache")))
    assert any("compiling kernels for this machine, once" in line for line in first)
    assert any(line.strip().startswith("compiled ") and line.endswith(" s") for line in first)
    again = output(python(TRAIN, DEEPBABYSIT_CACHE=str(tmp_path / "cache")))
    assert not any("compil" in line for line in again)
    assert first[-1] == again[-1]
    assert first[-1].startswith("True ")
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.name.startswith("numba-")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 or os.name == "nt"
    assert any(folder.rglob("*.nbi"))


def test_two_processes_compile_at_once(tmp_path):
    pytest.importorskip("numba")
    pair = [python(TRAIN, DEEPBABYSIT_CACHE=str(tmp_path / "cache")) for _ in range(2)]
    one, two = [output(process) for process in pair]
    assert one[-1] == two[-1]
    assert not any("compil" in line for line in output(python(TRAIN, DEEPBABYSIT_CACHE=str(tmp_path / "cache"))))


# -- the folder --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache_base(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DEEPBABYSIT_CACHE", str(tmp_path / "base"))
    return tmp_path / "base"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_the_folder_is_the_owners_alone(cache_base):
    from deepbabysit.runtime.caches import UnsafeFolder
    from deepbabysit_numpy.compiled.cache import kernel_folder

    folder = kernel_folder("0.1", "2.0", "a cpu/../x", "abc")
    assert folder == cache_base / "numba-0.1-2.0-a_cpu____x-abc"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == os.getuid()
    folder.chmod(0o770)
    with pytest.raises(UnsafeFolder, match="open to other users"):
        kernel_folder("0.1", "2.0", "a cpu/../x", "abc")
    folder.chmod(0o700)
    cache_base.chmod(0o777)
    with pytest.raises(UnsafeFolder, match="open to other users"):
        kernel_folder("0.1", "2.0", "a cpu/../x", "abc")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_a_link_and_a_foreign_folder_are_refused(cache_base, monkeypatch):
    from deepbabysit.runtime.caches import UnsafeFolder
    from deepbabysit_numpy.compiled.cache import kernel_folder

    cache_base.mkdir(mode=0o700)
    (cache_base / "elsewhere").mkdir()
    (cache_base / "numba-1-2-cpu-s").symlink_to(cache_base / "elsewhere")
    with pytest.raises(UnsafeFolder, match="no folder of its own"):
        kernel_folder("1", "2", "cpu", "s")
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    with pytest.raises(UnsafeFolder, match="another user"):
        kernel_folder("1", "2", "cpu", "t")


def test_changed_sources_get_another_folder(tmp_path):
    from deepbabysit_numpy.compiled.cache import sources_digest

    (tmp_path / "a.py").write_text("x = 1")
    before = sources_digest(tmp_path)
    (tmp_path / "a.py").write_text("x = 2")
    assert sources_digest(tmp_path) != before


# -- threads -----------------------------------------------------------------------------------------------------------

TEAM = """
import threading, numpy as np, deepbabysit as db
db.set_num_threads(2)
""" + TRAIN + """
import numba
from numba.np.ufunc import parallel
assert not parallel._is_initialized
print(threading.active_count(), numba.config.NUMBA_NUM_THREADS)
"""


def test_compiled_kernels_start_no_threads_and_numba_follows_the_setting():
    pytest.importorskip("numba")
    assert output(python(TEAM))[-1] == "1 2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_kernels_run_in_a_forked_process(compiled):
    expected = adam(compiled, adam_arguments(5000))
    child = os.fork()
    if not child:
        code = 1
        try:
            found = adam(compiled, adam_arguments(5000))
            code = int(any(x.tobytes() != y.tobytes() for x, y in zip(expected, found, strict=True)))
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("name", ["linear_gradient", "dropout"])
def test_several_python_threads_run_one_kernel_at_once(compiled, name):
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 64, 300)).astype("f")
    if name == "dropout":
        arguments, attrs = (x, np.array([1, 2, 3, 0], np.uint64)), {"rate": 0.3, "stream": 4}
    else:
        arguments, attrs = (g, x), {"activation": "relu"}
    expected = [out.tobytes() for out in call(compiled, SPECS[name], arguments, attrs)]
    wrong: list[int] = []

    def work(number):
        for _ in range(20):
            found = [out.tobytes() for out in call(compiled, SPECS[name], arguments, attrs)]
            if found != expected:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- notices -----------------------------------------------------------------------------------------------------------


def test_notices_are_said_once_to_the_run_that_listens():
    notices, heard = Notices(), []
    notices.tell("early")
    with notices.heard_by(heard.append):
        assert heard == ["early"]
        notices.tell("late")
        notices.tell("early")
    notices.tell("later")
    with notices.heard_by(heard.append):
        pass
    assert heard == ["early", "late", "later"]
