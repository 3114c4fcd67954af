"""Reduction primitives and what is made of them: sums, extremes, means, variances, log-sum-exp.

Ties of ``max`` and ``min`` share the gradient in equal parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import (
    is_floating,
    need_floating,
    normalize_axes,
    normalize_axis,
    reduced,
    show_shape,
)
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

Axis = int | tuple[int, ...] | None


def _draw_axis(rng: np.random.Generator, rank: int) -> Axis:
    kind = int(rng.integers(0, 3))
    if kind == 0 or rank == 0:
        return None
    if kind == 1:
        return int(rng.integers(-rank, rank))
    size = int(rng.integers(1, rank + 1))
    return tuple(int(a) for a in rng.permutation(rank)[:size])


def reduction_samples(draw: Any = drawing.normal, empty: bool = True) -> Any:
    """Return `samples` for a reduction with `axis` and `keepdims`."""

    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for _ in range(8):
            shape = drawing.draw_shape(rng)
            attrs = {"axis": _draw_axis(rng, len(shape)), "keepdims": bool(rng.random() < 0.5)}
            yield Sample((draw(rng, shape),), attrs)
        yield Sample((drawing.strided(draw(rng, (3, 4))),), {"axis": 0})
        yield Sample((draw(rng, (4, 3)).T,), {"axis": 1})
        if empty:
            yield Sample((draw(rng, (0, 3)),), {"axis": 0})
            yield Sample((draw(rng, (3, 0)),), {"axis": 0})

    return samples


def _reduction_infer(name: str, dtype_of: Any = None, floating: bool = False) -> Any:
    def infer(shapes: Any, dtypes: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Form, ...]:
        if floating:
            need_floating(name, dtypes[0])
        axes = normalize_axes(name, axis, len(shapes[0]))
        return (Form(reduced(shapes[0], axes, keepdims), dtype_of(dtypes[0]) if dtype_of else dtypes[0]),)

    return infer


def _bad_axis() -> list[BadInput]:
    return [
        BadInput((np.ones((2, 3)),), {"axis": 2}, ValueError, "axis 2 does not exist"),
        BadInput((np.ones((2, 3)),), {"axis": (0, 0)}, ValueError, "names an axis twice"),
    ]


def _spread(op: Any, g: Any, shape: Any, axis: Axis, keepdims: bool) -> Any:
    """Give a reduced cotangent the shape of the input again."""
    if not keepdims:
        g = op.reshape(g, shape=reduced(shape, normalize_axes("sum", axis, len(shape)), True))
    return g if g.shape == shape else op.broadcast_to(g, shape=shape)


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if is_floating(dtype) else np.dtype(np.int64)


def sum_(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum over axes; integers and booleans are summed as 64-bit integers."""
    if is_floating(x.dtype):
        return xp.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)
    return xp.sum(x, axis=axis, keepdims=keepdims, dtype=xp.int64)


SUM = define(
    sum_, infer=_reduction_infer("sum", _sum_dtype), samples=reduction_samples(), errors=_bad_axis,
    vjp=lambda op, g, x, out, needs, axis, keepdims: (_spread(op, g[0], x[0].shape, axis, keepdims),),
)


def sum_to(xp: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
    """Sum so that the result has the given shape: the adjoint of broadcasting to ``x.shape``."""
    extra = len(x.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1
    )
    if not axes:
        return xp.reshape(x, shape)
    return xp.reshape(xp.sum(x, axis=axes, keepdims=True), shape)


def _sum_to_infer(shapes: Any, dtypes: Any, *, shape: tuple[int, ...]) -> tuple[Form, ...]:
    given = shapes[0]
    extra = len(given) - len(shape)
    if extra < 0 or any(n not in (1, given[extra + i]) for i, n in enumerate(shape)):
        raise ValueError(f"sum_to: {show_shape(given)} cannot be summed to {show_shape(shape)}")
    return (Form(shape, dtypes[0]),)


def _sum_to_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(8):
        shape = drawing.draw_shape(rng)
        yield Sample((drawing.normal(rng, shape),), {"shape": drawing.partner_shape(rng, shape)})
    yield Sample((drawing.normal(rng, (0, 3)),), {"shape": (1, 3)})


SUM_TO = define(
    sum_to, infer=_sum_to_infer, samples=_sum_to_samples,
    errors=lambda: [BadInput((np.ones((2, 3)),), {"shape": (2, 2)}, ValueError, "cannot be summed")],
    vjp=lambda op, g, x, out, needs, shape: (op.broadcast_to(g[0], shape=x[0].shape),),
)


def max_(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest value over axes; equal largest values share the gradient."""
    return xp.max(x, axis=axis, keepdims=keepdims)


def min_(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest value over axes; equal smallest values share the gradient."""
    return xp.min(x, axis=axis, keepdims=keepdims)


def _extreme_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: Axis, keepdims: bool) -> Any:
    shape = x[0].shape
    chosen = op.equal(x[0], _spread(op, out[0], shape, axis, keepdims))
    hits = op.astype(chosen, dtype=g[0].dtype)
    count = op.sum(hits, axis=axis, keepdims=True)
    share = op.divide(hits, op.broadcast_to(count, shape=shape))
    return (op.multiply(_spread(op, g[0], shape, axis, keepdims), share),)


def _nonempty_infer(name: str) -> Any:
    base = _reduction_infer(name)

    def infer(shapes: Any, dtypes: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Form, ...]:
        form = base(shapes, dtypes, axis=axis, keepdims=keepdims)
        if any(shapes[0][a] == 0 for a in normalize_axes(name, axis, len(shapes[0]))):
            raise ValueError(f"{name}: an axis of length 0 has no {name}imum; the array has shape {shapes[0]}")
        return form

    return infer


def _no_empty() -> list[BadInput]:
    return [*_bad_axis(), BadInput((np.ones((0, 3)),), {"axis": 0}, ValueError, "length 0")]


MAX = define(max_, infer=_nonempty_infer("max"), samples=reduction_samples(drawing.distinct, empty=False),
             errors=_no_empty, vjp=_extreme_vjp, saves_inputs=(0,), saves_outputs=(0,))
MIN = define(min_, infer=_nonempty_infer("min"), samples=reduction_samples(drawing.distinct, empty=False),
             errors=_no_empty, vjp=_extreme_vjp, saves_inputs=(0,), saves_outputs=(0,))


def _index_infer(name: str) -> Any:
    def infer(shapes: Any, dtypes: Any, *, axis: int = -1) -> tuple[Form, ...]:
        where = normalize_axis(name, axis, len(shapes[0]))
        if shapes[0][where] == 0:
            raise ValueError(f"{name}: axis {axis} has length 0; there is nothing to choose from")
        return (Form(reduced(shapes[0], (where,), False), np.dtype(np.int64)),)

    return infer


def _index_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng, (1, 4))
        yield Sample((drawing.distinct(rng, shape),), {"axis": int(rng.integers(-len(shape), len(shape)))})
    yield Sample((np.array([[1.0, 3.0, 3.0]]),), {"axis": 1})  # the first of equals


def argmax(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """Position of the largest value along an axis; the first of equals."""
    return xp.astype(xp.argmax(x, axis=axis), xp.int64)


def argmin(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """Position of the smallest value along an axis; the first of equals."""
    return xp.astype(xp.argmin(x, axis=axis), xp.int64)


ARGMAX = define(argmax, infer=_index_infer("argmax"), samples=_index_samples, differentiable=())
ARGMIN = define(argmin, infer=_index_infer("argmin"), samples=_index_samples, differentiable=())


def any_(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Tell whether at least one element over the axes is not zero."""
    return xp.any(x, axis=axis, keepdims=keepdims)


def all_(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Tell whether every element over the axes is not zero."""
    return xp.all(x, axis=axis, keepdims=keepdims)


for _test in (any_, all_):
    define(_test, infer=_reduction_infer(_test.__name__[:3], lambda dtype: np.dtype(bool)), differentiable=(),
           samples=reduction_samples(lambda rng, shape: rng.random(shape) < 0.6), errors=_bad_axis)


def cumulative_sum(xp: Any, x: Any, *, axis: int = -1) -> Any:
    """Running sum along an axis."""
    return xp.cumulative_sum(x, axis=axis)


def _cumulative_infer(shapes: Any, dtypes: Any, *, axis: int = -1) -> tuple[Form, ...]:
    normalize_axis("cumulative_sum", axis, len(shapes[0]))
    return (Form(shapes[0], _sum_dtype(dtypes[0])),)


def _cumulative_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng, (1, 4))
        yield Sample((drawing.normal(rng, shape),), {"axis": int(rng.integers(-len(shape), len(shape)))})


def _cumulative_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: int) -> Any:
    return (op.flip(op.cumulative_sum(op.flip(g[0], axis=axis), axis=axis), axis=axis),)


CUMULATIVE_SUM = define(cumulative_sum, infer=_cumulative_infer, samples=_cumulative_samples, vjp=_cumulative_vjp)

# -- composites ------------------------------------------------------------------------------------------------------


def count_over(shape: tuple[int, ...], axis: Axis) -> int:
    """Return how many elements each result of a reduction is made of."""
    return prod(shape[a] for a in normalize_axes("mean", axis, len(shape)))


def mean(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Arithmetic mean over axes."""
    return xp.sum(x, axis=axis, keepdims=keepdims) / float(count_over(x.shape, axis))


def _mean_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: Axis, keepdims: bool) -> Any:
    share = op.divide(g[0], float(count_over(x[0].shape, axis)))
    return (_spread(op, share, x[0].shape, axis, keepdims),)


def _mean_infer(name: str) -> Any:
    base = _nonempty_infer(name)

    def infer(shapes: Any, dtypes: Any, *, axis: Axis = None, keepdims: bool = False) -> tuple[Form, ...]:
        need_floating(name, dtypes[0])
        return base(shapes, dtypes, axis=axis, keepdims=keepdims)

    return infer


MEAN = define(mean, infer=_mean_infer("mean"), samples=reduction_samples(empty=False), errors=_no_empty,
              vjp=_mean_vjp, composite=True)


def var(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Variance over axes, divided by the count: ``mean((x - mean(x))^2)``, in two passes."""
    centered = x - xp.mean(x, axis=axis, keepdims=True)
    return xp.mean(centered * centered, axis=axis, keepdims=keepdims)


VAR = define(var, infer=_mean_infer("var"), samples=reduction_samples(empty=False), errors=_no_empty, composite=True,
             tolerance={"float32": Tolerance(1e-4, 1e-5)})


def logsumexp(xp: Any, x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    """Logarithm of the sum of exponentials, ``m + log(sum(exp(x - m)))`` with ``m = max(x)``: no overflow.

    Where `m` is infinite it is the result.
    """
    highest = xp.stop_gradient(xp.max(x, axis=axis, keepdims=True))
    finite = xp.isfinite(highest)
    level = xp.where(finite, highest, xp.zeros_like(highest))
    total = xp.sum(xp.exp(x - level), axis=axis, keepdims=True)
    result = xp.where(finite, xp.log(xp.where(finite, total, xp.ones_like(total))) + level, highest)
    axes = normalize_axes("logsumexp", axis, len(x.shape))
    return result if keepdims else xp.reshape(result, reduced(x.shape, axes, False))


def _logsumexp_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: Axis, keepdims: bool) -> Any:
    shape = x[0].shape
    level = _spread(op, op.where(op.isfinite(out[0]), out[0], 0.0), shape, axis, keepdims)
    return (op.multiply(op.exp(op.subtract(x[0], level)), _spread(op, g[0], shape, axis, keepdims)),)


def _logsumexp_samples(rng: np.random.Generator) -> Iterator[Sample]:
    yield from reduction_samples(lambda rng, shape: drawing.normal(rng, shape, 4.0), empty=False)(rng)
    x = rng.standard_normal((6, 5))
    x[0], x[1, 2], x[2, 3], x[3, 1], x[4] = -np.inf, -np.inf, np.inf, np.nan, 1e4
    for axis in (0, 1):
        yield Sample((x,), {"axis": axis}, gradient=False)
    yield Sample((rng.standard_normal((70, 90)) * 20.0,), {"axis": 1})


LOGSUMEXP = define(
    logsumexp, infer=_nonempty_infer("logsumexp"), errors=_no_empty, composite=True, samples=_logsumexp_samples,
    vjp=_logsumexp_vjp, saves_inputs=(0,), saves_outputs=(0,),
)
