"""Half precision: its conversions bit by bit, and the kernels that compute it in single precision."""

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check

pytest.importorskip("numba")

EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16)


def same(found, expected):
    assert found.dtype == expected.dtype
    equal = (found == expected) | (np.isnan(found) & np.isnan(expected))
    assert equal.all()
    assert (np.signbit(found) == np.signbit(expected)).all()


def cast(device, x, dtype):
    plan = find_plan(device, SPECS["astype"], (x,), {"dtype": np.dtype(dtype)})
    assert plan.kernel in device.backend.kernels["astype"].variants
    return call(device, SPECS["astype"], (x,), {"dtype": np.dtype(dtype)})[0]


def test_every_half_becomes_the_same_single(compiled):
    same(cast(compiled, EVERY_HALF, "float32"), EVERY_HALF.astype(np.float32))


def singles():
    """Every half, the middles between them and their neighbours, any bits, and what is not finite."""
    halves = EVERY_HALF[np.isfinite(EVERY_HALF)].astype(np.float32)
    halves.sort()
    middles = (halves[1:] + halves[:-1]) / 2  # ties
    around = (np.nextafter(middles, np.float32(s * np.inf)) for s in (-1, 1))
    any_bits = np.random.default_rng(0).integers(0, 2**32, 300_000, dtype=np.uint64).astype(np.uint32).view("f")
    ends = np.array([65519.996, 65520.0, -65520.0, 3e38, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 0.0, -0.0], "f")
    return np.concatenate([halves, middles, *around, any_bits, ends])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_singles_become_the_nearest_half(compiled):
    x = singles()
    same(cast(compiled, x, "float16"), x.astype(np.float16))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_processors_without_the_instructions_give_the_same(compiled):
    import numba

    from deepbabysit_numpy.compiled.code.half import from_bits, to_bits

    same(numba.vectorize(["f4(u2)"])(lambda x: from_bits(x))(EVERY_HALF.view("u2")), EVERY_HALF.astype("f4"))
    x = singles()
    same(numba.vectorize(["u2(f4)"])(lambda x: to_bits(x))(x).view("f2"), x.astype("f2"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_relu_of_every_half(compiled):
    (y,) = call(compiled, SPECS["relu"], (EVERY_HALF,))
    same(y, np.where(EVERY_HALF < 0, np.float16(0.0), EVERY_HALF + np.float16(0.0)))
    g = EVERY_HALF[::-1].copy()
    same(call(compiled, SPECS["relu_gradient"], (g, y))[0], np.where(y > 0, g, np.float16(0.0)))


def test_other_casts_keep_the_plain_kernel(compiled):
    plain = compiled.backend.kernels["astype"]
    for source, target in (("f4", "f8"), ("f2", "f8"), ("i4", "f4"), ("f2", "i4")):
        plan = find_plan(compiled, SPECS["astype"], (np.ones(5, source),), {"dtype": np.dtype(target)})
        assert plan.kernel is plain


def names():
    from deepbabysit_numpy.compiled.table import VARIANTS

    return sorted(name for name, kernel in VARIANTS.items() if kernel.dtypes and "float16" in kernel.dtypes)


def test_these_kernels_take_half_precision():
    assert {"gelu", "relu_gradient", "softmax", "sigmoid_cross_entropy", "erf"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_half_precision_conforms(compiled, name):
    settings = Settings(draws=1, dtypes=("float16",))
    assert run_check(compiled, SPECS[name], "values", settings).status == "kernel"
    assert run_check(compiled, SPECS[name], "layouts", settings).status == "kernel"


@pytest.mark.parametrize("name", ["silu", "softmax"])
def test_long_arrays_go_in_blocks(compiled, name):
    x = np.random.default_rng(0).normal(0, 3, (700, 70)).astype(np.float16)
    (found,) = call(compiled, SPECS[name], (x,))
    (wide,) = call(compiled, SPECS[name], (x.astype(np.float32),))
    same(found, wide.astype(np.float16))
