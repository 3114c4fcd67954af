"""Compiled activations: the digits of their polynomials, what is not finite, and the layers' products with them."""

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime import threads
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.runtime.registry import find_device
from deepbabysit_numpy.compiled.loading import LISTENERS, Compiled

pytest.importorskip("numba")

ROOT = Path(__file__).resolve().parents[1]
# the errors that the module names, in units of the last place: float32, float64
ULPS = {
    "exp": (1.0, 1.0), "decay": (1.0, 1.0), "expm1": (1.6, 1.9), "log": (0.9, 0.9), "tanh": (2.6, 2.6),
    "sigmoid": (2.5, 2.0), "erf": (1.1, 3.0), "log1p": (1.5, 1.5), "softplus_tail": (1.7, 1.7),
}
GIVES_SUBNORMAL = ("exp", "expm1", "log", "log1p", "tanh", "erf")
LONG = np.longdouble


def oracle(name: str, x: np.ndarray) -> np.ndarray:
    """The value in a wider dtype than that of x."""
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64 if x.dtype == np.float32 else LONG)
        if name == "sigmoid":
            return 1 / (1 + np.exp(-wide))
        if name == "softplus_tail":
            return np.log1p(np.exp(-np.abs(wide)))
        if name == "erf":
            return np.array([math.erf(float(v)) for v in wide])
        return getattr(np, {"decay": "exp"}.get(name, name))(wide)


def everywhere(dtype: type, name: str) -> np.ndarray:
    """Numbers of every exponent, many where the function bends, and those at the ends of the range."""
    rng = np.random.default_rng(7)
    count = 20_000 if name == "erf" else 300_000
    if dtype is np.float32:
        any_bits = rng.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32).view(dtype)
    else:
        any_bits = rng.integers(0, 2**64, count, dtype=np.uint64).view(dtype)
    edge = 110.0 if dtype is np.float32 else 750.0
    limits = np.finfo(dtype)
    ends = [0.0, -0.0, limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, limits.max, limits.min]
    ends += [np.nan, np.inf, -np.inf, 88.72283, -87.33654, -103.97, 709.7827, -708.39, -745.13, 1.0, -1.0, 6.0, 4.0]
    parts = (any_bits, rng.uniform(-edge, edge, count), rng.uniform(-3, 3, count), rng.normal(0, 0.01, count), ends)
    x = np.concatenate([np.asarray(p, dtype) for p in parts])
    return -np.abs(x) if name == "decay" else x


def applied(name: str, x: np.ndarray) -> np.ndarray:
    from deepbabysit_numpy.compiled.code import functions

    out = np.empty_like(x)
    getattr(functions, name)(x, out)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ULPS)
def test_the_polynomials_keep_the_digits_that_they_promise(name, dtype):
    if dtype is np.float64 and np.finfo(LONG).eps >= np.finfo(np.float64).eps:
        pytest.skip("no wider float here")
    x = everywhere(dtype, name)
    found, wide = applied(name, x), oracle(name, x)
    with np.errstate(all="ignore"):
        expected = wide.astype(dtype)
        finite = np.isfinite(expected)
        assert (np.isnan(found) == np.isnan(expected)).all()
        assert (found[np.isinf(expected)] == expected[np.isinf(expected)]).all()
        assert (np.signbit(found) == np.signbit(expected))[~np.isnan(expected)].all()
        unit = np.spacing(np.maximum(np.abs(expected), np.finfo(dtype).smallest_subnormal)).astype(wide.dtype)
        if name not in GIVES_SUBNORMAL:
            normal = np.abs(expected) >= 2 * np.finfo(dtype).tiny
            assert (np.abs(found[finite & ~normal]) < 3 * np.finfo(dtype).tiny).all()
            finite &= normal
        # math.erf, the only oracle of erf in float64, is itself off by one unit
        allowed = ULPS[name][dtype is np.float64] + (1.0 if name == "erf" and dtype is np.float64 else 0.0)
        assert (np.abs(found.astype(wide.dtype) - wide)[finite] / unit[finite]).max() <= allowed


ACTIVATIONS = [
    ("leaky_relu", {"slope": 0.2}), ("leaky_relu", {"slope": 3.0}), ("elu", {"alpha": 0.7}), ("selu", {}),
    ("gelu", {"approximate": "none"}), ("gelu", {"approximate": "tanh"}), ("silu", {}), ("softplus", {}),
    ("sigmoid", {}), ("erf", {}), ("exp", {}), ("expm1", {}), ("log", {}), ("log1p", {}), ("tanh", {}),
]
GRADIENTS = [
    ("relu_gradient", {}), ("leaky_relu_gradient", {"slope": 0.2}), ("elu_gradient", {"alpha": 0.7}),
    ("selu_gradient", {}), ("gelu_gradient", {"approximate": "none"}), ("gelu_gradient", {"approximate": "tanh"}),
    ("silu_gradient", {}), ("sigmoid_gradient", {}), ("tanh_gradient", {}), ("erf_gradient", {}),
]


def both(device, name, arrays, attrs, outs=None):
    """What the compiled kernel and what the reference in float64 give."""
    plan = find_plan(device, SPECS[name], arrays, attrs)
    assert plan.kernel in device.backend.kernels[name].variants
    found = call(device, SPECS[name], arrays, attrs, outs)
    wide = tuple(a.astype(np.float64) for a in arrays)
    return found, call(find_device("cpu:reference"), SPECS[name], wide, attrs)


def close(found, expected, rtol, atol):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.astype(one.dtype), rtol=rtol, atol=atol)


def numbers(dtype, size, seed):
    rng = np.random.default_rng(seed)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, -1e-30, 100.0, -100.0, 1e4, -1e4]
    return np.concatenate([special, rng.normal(0, 3, size)]).astype(dtype)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "attrs"), ACTIVATIONS + GRADIENTS)
def test_values_at_numbers_of_every_kind(compiled, name, attrs, dtype):
    rtol, atol = (4e-6, 4e-7) if dtype is np.float32 else (1e-14, 1e-14)
    for size in (1, 7, 30, 1000):
        x = numbers(dtype, size, size)
        arrays = (x,)
        if name.endswith("_gradient"):
            g = np.random.default_rng(1).standard_normal(x.size).astype(dtype)
            arrays = (g, x)
        close(*both(compiled, name, arrays, attrs), rtol, atol)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("name", "attrs"), ACTIVATIONS + GRADIENTS)
def test_in_the_memory_of_the_input_the_bits_are_the_same(compiled, name, attrs):
    rng = np.random.default_rng(0)
    arrays = tuple(rng.standard_normal((3, 40_001)).astype("f") for _ in range(1 + name.endswith("_gradient")))
    (apart,) = call(compiled, SPECS[name], arrays, attrs)
    kept = arrays[0].copy()
    call(compiled, SPECS[name], arrays, attrs, (arrays[0],))
    assert arrays[0].tobytes() == apart.tobytes()
    assert kept.tobytes() != apart.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape", [(1, 3, 1), (700, 3, 10), (3, 2, 5000), (4, 5, 6, 7)])
def test_the_dense_product_with_its_activation(compiled, activation, shape, dtype):
    rng = np.random.default_rng(0)
    *lead, inner, width = shape
    x, kernel, bias = (rng.standard_normal(s).astype(dtype) for s in ((*lead, inner), (inner, width), (width,)))
    rtol, atol = (2e-5, 2e-6) if dtype is np.float32 else (1e-12, 1e-13)
    close(*both(compiled, "linear", (x, kernel, bias), {"activation": activation}), rtol, atol)
    g, y = (rng.standard_normal((*lead, width)).astype(dtype) for _ in range(2))
    close(*both(compiled, "linear_gradient", (g, y), {"activation": activation}), 10 * rtol, 20 * atol)


def test_small_arrays_and_those_of_two_shapes_keep_the_plain_kernel():
    device = find_device("cpu")
    plain = device.backend.kernels["gelu"]

    def chosen(size):
        return find_plan(device, SPECS["gelu"], (np.ones(size, "f"),), {}).kernel

    assert chosen(100) is plain
    assert chosen(100_000) is plain.variants[0]
    pair = np.ones((300, 100), "f"), np.ones(100, "f")
    repeated = find_plan(device, SPECS["silu_gradient"], pair, {}).kernel
    assert repeated is device.backend.kernels["silu_gradient"]


class Parts:
    """Runs what a program would write down, part by part, the last one first; counts the parts."""

    team = True

    def __init__(self):
        self.counts = []

    def shared(self, module, name, parts):
        self.counts.append(len(parts))
        del LISTENERS[threading.get_ident()]
        for arguments in reversed(parts):
            Compiled(module, name)(arguments[0].dtype, *arguments)
        LISTENERS[threading.get_ident()] = self


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", ["relu_gradient", "gelu", "silu", "softmax"])
def test_programs_divide_loops_and_keep_their_bits(compiled, monkeypatch, name, dtype):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1009, 101)).astype(dtype)
    ins = (x, x[::-1].copy()) if name == "relu_gradient" else (x,)
    attrs = {"axis": 1} if name == "softmax" else {}
    (expected,) = call(compiled, SPECS[name], ins, attrs)
    monkeypatch.setattr(threads, "_CHOSEN", [3])
    parts, out = Parts(), np.full_like(x, np.nan)
    LISTENERS[threading.get_ident()] = parts
    try:
        compiled.backend.kernels[name].variants[0].run(compiled, (out,), *ins, **attrs)
    finally:
        del LISTENERS[threading.get_ident()]
    assert parts.counts == [3]
    assert out.tobytes() == expected.tobytes()


SLOWER = """
import numpy as np
from deepbabysit_numpy.compiled.functions import least
print(least("exp", "float32"), least("expm1", "float64"))
"""


def test_functions_are_compiled_where_numpy_has_no_wide_loops():
    wide = ("AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512_ICL", "AVX512_SPR", "X86_V4")
    for disabled, expected in (("", None), (" ".join(wide), "elementwise elementwise")):
        path = os.pathsep.join(str(ROOT / folder) for folder in ("src", "backends"))
        environment = {**os.environ, "PYTHONPATH": path, "NPY_DISABLE_CPU_FEATURES": disabled}
        command = [sys.executable, "-W", "ignore", "-c", SLOWER]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        found = done.stdout.split()
        assert set(found) <= {"elementwise", "beside_wide_loops"}
        assert expected in (None, done.stdout.strip())


def test_beside_wide_loops_numpy_stays():
    device = find_device("cpu")
    x = np.ones(100_000, "f")
    kernel = device.backend.kernels["exp"]
    from deepbabysit_numpy.compiled.functions import least

    expected = kernel if least("exp", "float32") == "beside_wide_loops" else kernel.variants[0]
    assert find_plan(device, SPECS["exp"], (x,), {}).kernel is expected


@pytest.mark.peers
@pytest.mark.parametrize(("name", "attrs", "peer"), [
    ("gelu", {"approximate": "none"}, "gelu"), ("gelu", {"approximate": "tanh"}, "gelu"), ("selu", {}, "selu"),
    ("silu", {}, "silu"), ("elu", {"alpha": 0.7}, "elu"), ("softplus", {}, "softplus"), ("sigmoid", {}, "sigmoid"),
])
def test_torch_agrees(compiled, name, attrs, peer):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(0, 4, 5000).astype("f")
    (found,) = call(compiled, SPECS[name], (x,), attrs)
    expected = getattr(torch.nn.functional, peer)(torch.from_numpy(x), **attrs).numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("shape", [(), (1,), (3, 7), (5, 1000), (2, 3, 1025)])
@pytest.mark.parametrize("row", [0, 1, 3, 1_000_003])
def test_random_words_are_those_of_the_specification(compiled, shape, row):
    control = np.array([2**64 - 1, 5, row, 0], np.uint64)
    attrs = {"shape": shape, "stream": 2**63 + 11, "call": 2}
    plan = find_plan(compiled, SPECS["random_words"], (control,), attrs)
    assert plan.kernel in compiled.backend.kernels["random_words"].variants
    (found,) = call(compiled, SPECS["random_words"], (control,), attrs)
    (expected,) = call(find_device("cpu:reference"), SPECS["random_words"], (control,), attrs)
    assert found.tobytes() == expected.tobytes()
