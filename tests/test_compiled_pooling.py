"""Compiled pooling, gathers and scatters: every geometry, ties, NaN, borders, numbers that name no row."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime import threads
from deepbabysit.runtime.funnel import call, find_plan
from deepbabysit.runtime.registry import find_device
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.pooling import VARIANTS

pytest.importorskip("numba")

GEOMETRIES = [  # image, window, stride, padding
    ((6, 8), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((7, 9), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((7, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((6, 5), (3, 2), (1, 1), ((1, 1), (0, 1))),
    ((8, 8), (2, 3), (3, 4), ((0, 0), (2, 0))),
    ((5, 5), (5, 5), (1, 1), ((0, 0), (0, 0))),
    ((4, 4), (1, 1), (1, 1), ((0, 0), (0, 0))),
    ((9,), (3,), (2,), ((1, 1),)),
    ((4,), (1,), (3,), ((0, 0),)),
]


def attributes(geometry):
    _, window, stride, padding = geometry
    return {"window": window, "stride": stride, "padding": padding}


def pooled(geometry, dtype=np.float32, channels=5, ties=True):
    rng = np.random.default_rng(1)
    shape = (3, *geometry[0], channels)
    return (rng.integers(-3, 4, shape) if ties else rng.permutation(np.prod(shape)).reshape(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("kind", ["max", "avg"])
@pytest.mark.parametrize("number", [1, 2])
def test_every_geometry_agrees_with_the_reference(compiled, number, kind, geometry, dtype, monkeypatch):
    monkeypatch.setattr(threads, "_CHOSEN", [number])
    reference = find_device("cpu:reference")
    x, attrs = pooled(geometry, dtype), attributes(geometry)
    plan = find_plan(compiled, SPECS[f"{kind}_pool"], (x,), attrs)
    assert plan.kernel is compiled.backend.kernels[f"{kind}_pool"].variants[0]
    (y,) = call(compiled, SPECS[f"{kind}_pool"], (x,), attrs)
    (expected,) = call(reference, SPECS[f"{kind}_pool"], (x,), attrs)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    g = np.random.default_rng(2).standard_normal(y.shape).astype(dtype)
    arrays = (g, x, y) if kind == "max" else (g,)
    more = attrs if kind == "max" else {**attrs, "space": geometry[0]}
    (found,) = call(compiled, SPECS[f"{kind}_pool_gradient"], arrays, more)
    (expected,) = call(reference, SPECS[f"{kind}_pool_gradient"], arrays, more)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.sum(), g.sum(), atol=1e-4 * g.size)  # nothing is lost


@pytest.mark.parametrize("geometry", GEOMETRIES[:4])
def test_nan_fills_its_windows_and_infinity_wins(compiled, geometry):
    attrs = attributes(geometry)
    reference = find_device("cpu:reference")
    for value in (np.nan, np.inf, -np.inf):
        x = pooled(geometry, ties=False)
        x[1, 2, 3, 1] = x[2, 0, 0, 4] = value
        with np.errstate(invalid="ignore"):
            (y,) = call(compiled, SPECS["max_pool"], (x,), attrs)
            (expected,) = call(reference, SPECS["max_pool"], (x,), attrs)
            np.testing.assert_array_equal(y, expected)
            g = np.ones_like(y)
            (found,) = call(compiled, SPECS["max_pool_gradient"], (g, x, y), attrs)
            (expected,) = call(reference, SPECS["max_pool_gradient"], (g, x, y), attrs)
            np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_window_of_minus_infinity_keeps_it(compiled):
    x = np.full((1, 4, 4, 2), -np.inf, np.float32)
    (y,) = call(compiled, SPECS["max_pool"], (x,), attributes(GEOMETRIES[0]))
    assert (y == -np.inf).all()


def test_few_channels_stay_with_numpy():
    device = find_device("cpu")
    kernel = device.backend.kernels["max_pool"]
    for channels, chosen in ((1, kernel), (16, kernel.variants[0])):
        x = np.zeros((64, 28, 28, channels), np.float32)
        assert find_plan(device, SPECS["max_pool"], (x,), attributes(GEOMETRIES[0])).kernel is chosen


@pytest.mark.peers
@pytest.mark.parametrize("geometry", GEOMETRIES[:3])
def test_maximum_agrees_with_torch(compiled, geometry):
    torch = pytest.importorskip("torch")
    x, attrs = pooled(geometry, ties=False), attributes(geometry)
    _, window, stride, padding = geometry
    tx = torch.from_numpy(x).permute(0, 3, 1, 2).requires_grad_()
    ty = torch.nn.functional.max_pool2d(tx, window, stride, [pair[0] for pair in padding])
    (y,) = call(compiled, SPECS["max_pool"], (x,), attrs)
    np.testing.assert_array_equal(y, ty.detach().permute(0, 2, 3, 1).numpy())
    g = np.random.default_rng(2).standard_normal(y.shape).astype("f")
    (by_torch,) = torch.autograd.grad(ty, tx, torch.from_numpy(g).permute(0, 3, 1, 2))
    (found,) = call(compiled, SPECS["max_pool_gradient"], (g, x, y), attrs)
    np.testing.assert_allclose(found, by_torch.permute(0, 2, 3, 1).numpy(), rtol=1e-6, atol=1e-6)


# -- rows by number ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("integers", [np.int32, np.int64])
def test_rows_are_taken_and_added_up_in_order(compiled, dtype, integers):
    rng = np.random.default_rng(0)
    x, numbers = rng.standard_normal((50, 3, 7)).astype(dtype), rng.integers(-50, 50, (40, 9)).astype(integers)
    (y,) = call(compiled, SPECS["take"], (x, numbers), {})
    assert (y == x[numbers]).all()
    g = rng.standard_normal(y.shape).astype(dtype)
    (found,) = call(compiled, SPECS["scatter_add"], (g, numbers), {"shape": x.shape})
    expected = np.zeros_like(x)
    for place in np.ndindex(*numbers.shape):
        expected[numbers[place]] += g[place]
    assert found.tobytes() == expected.tobytes()
    kernels = compiled.backend.kernels
    assert find_plan(compiled, SPECS["take"], (x, numbers), {}).kernel is kernels["take"].variants[0]
    plan = find_plan(compiled, SPECS["scatter_add"], (g, numbers), {"shape": x.shape})
    assert plan.kernel is kernels["scatter_add"].variants[0]


@pytest.mark.parametrize("wrong", [50, -51, 2**31 - 1])
def test_a_number_that_names_no_row_is_refused(compiled, wrong):
    x, numbers = np.zeros((50, 4), np.float32), np.array([3, 49, -50, wrong])
    with pytest.raises(IndexError, match=f"take: index {wrong} is outside an axis of length 50"):
        call(compiled, SPECS["take"], (x, numbers), {})
    with pytest.raises(IndexError, match=f"scatter_add: index {wrong} is outside"):
        call(compiled, SPECS["scatter_add"], (np.zeros((4, 4), np.float32), numbers), {"shape": (50, 4)})


@pytest.mark.parametrize(("images", "asleep"), [(8, 1), (80, 2)])
def test_threads_that_sleep_are_woken_for_long_pools_only(monkeypatch, images, asleep):
    monkeypatch.setattr(threads, "_CHOSEN", [2])
    heard = []
    monkeypatch.setattr(team.TEAM, "run", lambda function, kind, parts, *arguments: heard.append(parts))
    x, y, lines = (np.zeros(shape, np.float32) for shape in ((images, 32, 32, 32), (images, 16, 16, 32), (2, 1024)))
    run = VARIANTS["max_pool"].run
    context = SimpleNamespace(scratch=(lines,))
    run(context, (y,), x, **attributes(GEOMETRIES[0]))
    monkeypatch.setattr(team, "in_program", lambda: True)
    run(context, (y,), x, **attributes(GEOMETRIES[0]))
    assert heard == [asleep, 2]
