"""What a crew divides in programs beside products: the bits of the kernel, whoever does which part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import deepbabysit as db
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime import chains, threads
from deepbabysit_numpy.compiled import attention, dense, draws, reduction
from deepbabysit_numpy.program import building, machine
from deepbabysit_numpy.program.tracing import Trace

DEVICE = db.devices()[0]


@pytest.fixture(autouse=True, params=[2, 3])
def several_threads(request) -> Any:
    before = threads.count()
    db.set_num_threads(request.param)
    yield request.param
    db.set_num_threads(before)


def divided(
    run: Callable[..., Any], outs: Sequence[np.ndarray], ins: Sequence[np.ndarray], scratch: Sequence[np.ndarray] = ()
) -> Trace:
    """Return the rows of a call that a crew shares, when they have given what the call gives."""
    first = [array.copy() for array in (*outs, *ins)]
    building._run(DEVICE, (run, tuple(outs), tuple(ins), tuple(scratch)))
    expected = [out.tobytes() for out in outs]
    for array, values in zip((*outs, *ins), first, strict=True):
        array[...] = values
    found = building.trace(DEVICE, (run, tuple(outs), tuple(ins), tuple(scratch)))
    assert found is not None
    assert found.crew > 0
    assert machine.Rows(found.rows)() == 0
    assert [out.tobytes() for out in outs] == expected
    return found


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "linear"])
@pytest.mark.parametrize("shape", [(64, 500), (61, 513), (300, 64)])
def test_the_gradient_before_an_activation(shape, activation, inside, dtype):
    rng = np.random.default_rng(0)
    g, y = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    g[3, 5], y[7, 2], y[8, 2] = np.nan, 0.0, -0.0
    out, by_bias = g if inside else np.full(shape, np.nan, dtype), np.full(shape[1], np.nan, dtype)
    gradient = dense.VARIANTS["linear_gradient"].run
    divided(lambda outs, g, y: gradient(DEVICE, outs, g, y, activation=activation), [out, by_bias], [g, y])


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_bias_and_rectifier_follow_the_sums_that_the_same_hands_made(activation):
    rng = np.random.default_rng(1)
    x, w, b = (rng.standard_normal(s).astype("f") for s in ((64, 784), (784, 500), (500,)))
    kernel = dense.VARIANTS["linear"]
    assert kernel.scratch is not None
    rooms = kernel.scratch([Form(a.shape, a.dtype) for a in (x, w, b)], activation=activation)
    scratch = [np.empty(room.shape, room.dtype) for room in rooms]

    def run(outs: Any, *ins: Any) -> None:
        kernel.run(DEVICE, outs, *ins, activation=activation)

    found = divided(run, [np.full((64, 500), np.nan, "f")], [x, w, b], scratch)
    assert len(found.rows) == 2  # the products; and all that comes after them


def test_values_that_lie_here_and_there_are_moved():
    x = np.random.default_rng(2).standard_normal((64, 301)).astype("f")
    divided(lambda outs, x: np.copyto(outs[0], x.T), [np.empty((301, 64), "f")], [x])


def test_a_mask_is_drawn():
    x = np.random.default_rng(3).standard_normal((33, 512)).astype("f")
    control = np.array([3, 5, 7, 0], np.uint64)
    run = draws.VARIANTS["dropout"].run
    outs = [np.empty_like(x), np.empty_like(x)]
    divided(lambda outs, x, control: run(DEVICE, outs, x, control, rate=0.1, stream=9), outs, [x, control])


@pytest.mark.parametrize("shape", [(101, 997), (90_001,)])
def test_pieces_of_a_chain(monkeypatch, shape):
    monkeypatch.setattr(chains, "LEAST", 0)
    monkeypatch.setattr(chains, "PIECE", 8192)
    rng = np.random.default_rng(4)
    a, x, b = (rng.standard_normal(shape).astype("f") for _ in range(3))
    inner, y = np.empty_like(x), np.full_like(x, np.nan)

    def ufunc(function: Any) -> Callable[..., None]:
        return lambda outs, *ins: function(*ins, out=outs[0])

    calls: list[Any] = [
        (ufunc(np.multiply), (inner,), (a, x), ()), (ufunc(np.add), (inner,), (inner, b), ()),
        (ufunc(np.tanh), (inner,), (inner,), ()), (ufunc(np.multiply), (y,), (inner, x), ()),
    ]  # fmt: skip
    (call,) = chains.merge_chains(calls, [True] * 4, lambda array: array is inner, DEVICE)
    assert len(call[0].spaces) == 1
    found = divided(*call[:3])
    assert len(found.rows) == 1
    written = {chains.extent(one[1][0])[0] for one in found.kept if isinstance(one, tuple)}
    first, last = chains.extent(y)
    assert len([place for place in written if not first <= place < last]) == found.crew + 1  # no two use one memory
    np.testing.assert_array_equal(y, np.tanh(a * x + b) * x)


def test_a_chain_of_very_many_pieces_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(building, "_MOST_PIECES", 9)
    monkeypatch.setattr(chains, "LEAST", 0)
    monkeypatch.setattr(chains, "PIECE", 640)
    x = np.ones(6400, "f")
    calls: list[Any] = [(lambda outs, x: np.negative(x, outs[0]), (np.empty_like(x),), (x,), ()) for _ in range(2)]
    (call,) = chains.merge_chains(calls, [True] * 2, lambda array: False, DEVICE)
    assert building.trace(DEVICE, call) is None


@pytest.mark.parametrize("name", ["max", "sum", "mean", "var"])
def test_reductions_of_rows(name):
    x = np.random.default_rng(5).standard_normal((301, 400)).astype("f")
    x[300, 7] = np.nan
    kernel = reduction.VARIANTS[name]
    assert kernel.scratch is not None
    rooms = [np.empty(room.shape, room.dtype) for room in kernel.scratch([Form(x.shape, x.dtype)], axis=1)]

    divided(lambda outs, x: kernel.run(DEVICE, outs, x, axis=1), [np.full(301, np.nan, "f")], [x], rooms)


def test_heads_of_attention():
    rng = np.random.default_rng(6)
    q, k, v = (rng.standard_normal((2, 6, 64, 32)).astype("f") for _ in range(3))
    kernel = attention.VARIANTS["attention"]
    assert kernel.scratch is not None
    rooms = [np.empty(room.shape, room.dtype) for room in kernel.scratch([Form(a.shape, a.dtype) for a in (q, k, v)])]
    divided(lambda outs, *ins: kernel.run(DEVICE, outs, *ins), [np.full_like(q, np.nan)], [q, k, v], rooms)
