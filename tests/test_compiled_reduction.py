"""Compiled reductions: every split of the axes, lengths around their blocks, digits of long sums, NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepbabysit as db
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call, find_plan

NAMES = ["sum", "mean", "max", "var"]


def reduce(device: Device, name: str, x: np.ndarray, **attrs: Any) -> np.ndarray:
    plan = find_plan(device, SPECS[name], (x,), attrs)
    assert plan.kernel is device.backend.kernels[name].variants[0]
    return call(device, SPECS[name], (x,), attrs)[0]


def expected(name: str, x: np.ndarray, axis: Any, keepdims: bool = False) -> np.ndarray:
    return getattr(np, name)(x.astype(np.longdouble), axis=axis, keepdims=keepdims).astype(np.float64)


SHAPES = [
    (1, 7), (7, 1), (5, 10), (40, 10), (129, 3), (256, 300), (3, 4, 5), (2, 130, 6), (4, 3, 256), (6, 16), (3, 64),
    (2, 200), (5, 33), (4096,), (4097,), (2, 4100), (8, 4, 4, 2), (9001,), (1, 1, 1), (2, 12288),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_run_of_axes(compiled, shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype) + dtype_one(dtype)
    tolerance = 3e-6 if dtype == "float32" else 1e-13
    for name in NAMES:
        for first in range(len(shape)):
            for last in range(first + 1, len(shape) + 1):
                axis = tuple(range(first, last))
                for keepdims in (False, True):
                    found = reduce(compiled, name, x, axis=axis, keepdims=keepdims)
                    wanted = expected(name, x, axis, keepdims)
                    assert found.shape == wanted.shape and found.dtype == np.dtype(dtype)
                    if name == "max":
                        np.testing.assert_array_equal(found, wanted)
                    else:
                        scale = np.abs(x).sum() if name == "sum" else 1.0
                        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * scale)


def dtype_one(dtype: str) -> Any:
    return np.dtype(dtype).type(1.0)


@pytest.mark.parametrize("shape", [(500_000,), (500_000, 2), (3, 100_000)], ids=str)
def test_long_sums_keep_their_digits(compiled, shape):
    x = (np.random.default_rng(1).random(shape) + 1000.0).astype(np.float32)
    axis = 0 if len(shape) < 3 and shape[0] > 3 else 1
    np.testing.assert_allclose(reduce(compiled, "sum", x, axis=axis), expected("sum", x, axis), rtol=2e-6)
    np.testing.assert_allclose(reduce(compiled, "mean", x, axis=axis), expected("mean", x, axis), rtol=2e-6)
    np.testing.assert_allclose(reduce(compiled, "var", x, axis=axis), expected("var", x, axis), rtol=1e-4)


@pytest.mark.parametrize("shape", [(7,), (100,), (5000,), (40, 10), (40, 32), (40, 70), (40, 300), (3, 6000)], ids=str)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_what_is_not_finite_comes_through(compiled, shape, value):
    rng = np.random.default_rng(2)
    for axis in range(len(shape)):
        for place in (0, -1, int(rng.integers(shape[axis]))):
            x = rng.standard_normal(shape).astype(np.float32)
            x[(slice(None),) * axis + (place,)] = value
            for name in NAMES:
                with np.errstate(invalid="ignore"):
                    wanted = getattr(np, name)(x, axis=axis)
                found = reduce(compiled, name, x, axis=axis)
                np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted), err_msg=name)
                np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted), err_msg=name)
                if name == "max":
                    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", NAMES)
def test_axes_apart_and_other_layouts(compiled, name):
    x = np.random.default_rng(3).standard_normal((6, 5, 8))
    plan = find_plan(compiled, SPECS[name], (x,), {"axis": (0, 2)})
    assert plan.kernel is compiled.backend.kernels[name]
    for axis in (0, 1, 2, (0, 2), (0, 1), None):
        for array in (x, x.transpose(2, 0, 1), x[::-1, ::2], x[:, :, 1]):
            if array.ndim == 2 and axis in (2, (0, 2)):
                continue
            found = call(compiled, SPECS[name], (array,), {"axis": axis})[0]
            np.testing.assert_allclose(found, getattr(np, name)(array, axis=axis), rtol=1e-12, atol=1e-13)


def test_results_go_into_strided_buffers(compiled):
    x = np.random.default_rng(4).standard_normal((30, 12))
    for name in ("sum", "mean", "max"):
        out = np.full((12, 2), 7.0)
        call(compiled, SPECS[name], (x,), {"axis": 0}, outs=(out[:, 0],))
        np.testing.assert_allclose(out[:, 0], getattr(np, name)(x, axis=0), rtol=1e-12)
        assert (out[:, 1] == 7.0).all()


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2))
def test_sum_to_is_the_sum_over_leading_axes(rows, columns, extra):
    from deepbabysit.runtime.registry import find_device

    x = np.random.default_rng(5).standard_normal((2,) * extra + (rows, columns))
    for shape in ((columns,), (1, columns), (rows, columns), (rows, 1), (1, 1)):
        (found,) = call(find_device("cpu"), SPECS["sum_to"], (x,), {"shape": shape})
        axes = tuple(range(x.ndim - 2)) + (() if shape in ((rows, columns), (rows, 1)) else (x.ndim - 2,))
        axes += (x.ndim - 1,) if shape[-1] == 1 and columns > 1 else ()
        np.testing.assert_allclose(found, x.sum(axis=axes).reshape(shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(64, 10), (64, 513), (2, 3, 5)])
def test_sum_to(compiled, shape):
    x = np.random.default_rng(6).standard_normal(shape).astype(np.float32)
    for target in (shape[-1:], (1,) * (len(shape) - 1) + shape[-1:], (1,) * len(shape)):
        plan = find_plan(compiled, SPECS["sum_to"], (x,), {"shape": target})
        assert plan.kernel is compiled.backend.kernels["sum_to"].variants[0]
        (found,) = call(compiled, SPECS["sum_to"], (x,), {"shape": target})
        axes = tuple(range(len(shape) - 1)) + ((len(shape) - 1,) if target[-1] == 1 else ())
        wanted = x.astype(float).sum(axis=axes).reshape(target)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_same_bits_twice(compiled):
    x = np.random.default_rng(7).standard_normal((3001, 17)).astype(np.float32)
    for name in NAMES:
        for axis in (0, 1, None):
            one, two = (reduce(compiled, name, x.copy(), axis=axis) for _ in range(2))
            assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 5), (70, 90), (2, 9000), (300, 10), (4097,), (4, 3, 8)], ids=str)
def test_logsumexp(compiled, shape, dtype):
    x = (np.random.default_rng(8).standard_normal(shape) * 30.0).astype(dtype)
    axes = [tuple(range(first, last)) for last in range(1, len(shape) + 1) for first in range(last)]
    for axis in (*axes, -1, None):
        found = reduce(compiled, "logsumexp", x, axis=axis)
        wanted = np.logaddexp.reduce(x.astype(np.longdouble), axis=axis if axis is not None else tuple(range(x.ndim)))
        near = float(np.finfo(dtype).eps) * np.log(x.size)  # a result near 0 is a difference of numbers up to log(n)
        rtol = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(found, wanted.astype(float), rtol=rtol, atol=near)


@pytest.mark.parametrize("way", ["compiled", "plain", "reference"])
def test_logsumexp_at_the_ends_as_in_torch(compiled, way, monkeypatch):
    torch = pytest.importorskip("torch")
    from deepbabysit.autograd.tensor import Tensor
    from deepbabysit.runtime.registry import find_device
    from deepbabysit_numpy.compiled import sizes

    if way == "plain":
        monkeypatch.setitem(sizes.LEAST, "reduction", 1 << 60)
    device = find_device("cpu:reference") if way == "reference" else compiled
    inf = np.inf
    x = np.array([
        [-inf, 0.0, 1.0], [inf, 0.0, 1.0], [-inf] * 3, [np.nan, 0.0, 1.0], [1e4, 1e4, -1e4], [1.0, 2.0, 3.0],
        [-np.nan, inf, 1.0], [-inf, -inf, -np.nan],
    ])
    peer = torch.tensor(x, requires_grad=True)
    wanted = torch.logsumexp(peer, dim=1)
    ours = Tensor(device.asarray(x), device, requires_grad=True)
    with np.errstate(all="ignore"):
        found = db.ops.logsumexp(ours, axis=1)
        columns = db.ops.logsumexp(Tensor(device.asarray(x.T.copy()), device), axis=0)
        found.sum().backward()
    wanted.sum().backward()
    np.testing.assert_allclose(columns.numpy(), wanted.detach().numpy(), rtol=1e-14)
    np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), rtol=1e-14)
    regular = [0, 4, 5]
    np.testing.assert_allclose(ours.grad.numpy()[regular], peer.grad.numpy()[regular], rtol=1e-13)
