"""Statistics that tell how a training goes: of tensors, of the segments of a flat buffer, of the units of a layer.

A row of statistics has one number for each member of `Statistic`; a measure of units one row for each member of
`UnitStatistic`. All are float64, of fixed shape, and stay on the device, so that they can be part of a recorded step.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import need_floating, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

Segments = tuple[tuple[int, int], ...]


class Statistic(IntEnum):
    """Columns of `tensor_statistics`, `segment_statistics` and `change_statistics`.

    COUNT is the number of all values, ZEROS of those that are 0, NON_FINITE of those that are NaN or infinite; the
    others are about the finite values. Where there are none, mean, deviation and extremes are NaN, ABSOLUTE_MAXIMUM
    and NORM are 0.

    COUNT: number of values. MEAN: arithmetic mean. STD: root of the mean squared deviation from it (divided by the
    number of finite values). MINIMUM, MAXIMUM: extremes. ABSOLUTE_MAXIMUM: largest magnitude. NORM: root of the sum of
    squares.
    """

    COUNT = 0
    MEAN = 1
    STD = 2
    MINIMUM = 3
    MAXIMUM = 4
    ABSOLUTE_MAXIMUM = 5
    ZEROS = 6
    NON_FINITE = 7
    NORM = 8


class UnitStatistic(IntEnum):
    """Rows of `unit_activity`: each is about all values of a unit, that is of one place on the last axis.

    POSITIVE: how many are above 0. ZEROS: how many are 0. BEYOND: how many are at least `limit` away from `center`.
    NON_FINITE: how many are NaN or infinite. MINIMUM, MAXIMUM: extremes of the finite ones, NaN where there are none.
    """

    POSITIVE = 0
    ZEROS = 1
    BEYOND = 2
    NON_FINITE = 3
    MINIMUM = 4
    MAXIMUM = 5


_FLOAT64 = np.dtype(np.float64)
_TOLERANCE = {"float32": Tolerance(2e-6, 1e-30), "float64": Tolerance(1e-10, 1e-13), "float16": Tolerance(2e-6, 1e-30)}


def _row(xp: Any, x: Any) -> Any:
    """Return the statistics of one array, scaled by its largest magnitude so that no square overflows."""
    x = xp.astype(xp.reshape(x, (-1,)), xp.float64)
    count = xp.sum(xp.ones_like(x))
    x = xp.concat((x, xp.full((1,), float("nan"), dtype=xp.float64)))  # so that there is always something to reduce
    finite = xp.isfinite(x)
    nothing = xp.zeros_like(x)
    inside = xp.sum(xp.where(finite, nothing + 1.0, nothing))
    some = inside > 0
    absent = xp.zeros_like(inside) + float("nan")
    clean = xp.where(finite, x, nothing)
    largest = xp.max(xp.abs(clean))
    scale = xp.where(largest > 0, largest, xp.ones_like(largest))
    divisor = xp.where(some, inside, xp.ones_like(inside))
    unit = clean / scale
    mean = xp.sum(unit) / divisor
    deviation = xp.where(finite, unit - mean, nothing)
    infinite = nothing + float("inf")
    return xp.stack(
        (
            count,
            xp.where(some, mean * scale, absent),
            xp.where(some, xp.sqrt(xp.sum(deviation * deviation) / divisor) * scale, absent),
            xp.where(some, xp.min(xp.where(finite, x, infinite)), absent),
            xp.where(some, xp.max(xp.where(finite, x, -infinite)), absent),
            largest,
            xp.sum(xp.where(x == 0.0, nothing + 1.0, nothing)),
            count - inside,
            xp.sqrt(xp.sum(unit * unit)) * scale,
        )
    )


def tensor_statistics(xp: Any, x: Any) -> Any:
    """Measure an array of any shape: one number for each member of `Statistic`, in float64."""
    return _row(xp, x)


def segment_statistics(xp: Any, x: Any, *, segments: Segments) -> Any:
    """Measure parts ``(begin, length)`` of a flat buffer: a row of `Statistic` for each, in float64."""
    if not segments:
        return xp.zeros((0, len(Statistic)), dtype=xp.float64)
    return xp.stack([_row(xp, x[begin : begin + length]) for begin, length in segments])


def change_statistics(xp: Any, x: Any, before: Any, *, segments: Segments) -> Any:
    """Measure ``x - before`` in parts ``(begin, length)`` of two flat buffers: a row of `Statistic` for each."""
    return segment_statistics(xp, x - before, segments=segments)


def inner_products(xp: Any, x: Any, y: Any) -> Any:
    """Return ``x . y, x . x, y . y`` of two flat buffers, in float64."""
    x, y = xp.astype(x, xp.float64), xp.astype(y, xp.float64)
    return xp.stack((xp.sum(x * y), xp.sum(x * x), xp.sum(y * y)))


def unit_activity(xp: Any, x: Any, *, center: float = 0.0, limit: float = float("inf")) -> Any:
    """Measure each unit of the last axis over all other axes: (members of `UnitStatistic`, units), in float64.

    A unit that is dead has no POSITIVE value; one that is saturated has most of its values BEYOND: ``|x - center| >=
    limit``, for example ``center=0.5, limit=0.49`` after a sigmoid, ``limit=0.99`` after tanh.
    """
    units = x.shape[-1]
    x = xp.astype(xp.reshape(x, (-1, units) if units else (0, 0)), xp.float64)
    x = xp.concat((x, xp.full((1, units), float("nan"), dtype=xp.float64)))  # so that there is always a row
    finite = xp.isfinite(x)
    nothing = xp.zeros_like(x)
    one, infinite = nothing + 1.0, nothing + float("inf")
    absent = xp.zeros_like(x[0]) + float("nan")
    some = xp.any(finite, axis=0)
    distance = xp.abs(xp.where(finite, x, nothing) - center)
    beyond = xp.logical_or(xp.logical_and(finite, distance >= limit), xp.abs(x) == float("inf"))
    return xp.stack(
        (
            xp.sum(xp.where(x > 0, one, nothing), axis=0),
            xp.sum(xp.where(x == 0, one, nothing), axis=0),
            xp.sum(xp.where(beyond, one, nothing), axis=0),
            xp.sum(xp.where(finite, nothing, one), axis=0) - 1.0,
            xp.where(some, xp.min(xp.where(finite, x, infinite), axis=0), absent),
            xp.where(some, xp.max(xp.where(finite, x, -infinite), axis=0), absent),
        )
    )


# -- shapes and samples ----------------------------------------------------------------------------------------------


def _tensor_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    need_floating("tensor_statistics", dtypes[0])
    return (Form((len(Statistic),), _FLOAT64),)


def _segments_infer(name: str) -> Any:
    def infer(shapes: Any, dtypes: Any, *, segments: Segments) -> tuple[Form, ...]:
        need_floating(name, dtypes[0])
        if len(shapes[0]) != 1:
            raise ValueError(f"{name}: x must be a flat buffer, with one axis; got shape {show_shape(shapes[0])}")
        if any((s, d) != (shapes[0], dtypes[0]) for s, d in zip(shapes[1:], dtypes[1:], strict=True)):
            raise ValueError(
                f"{name}: before must match x, {dtypes[0]} {show_shape(shapes[0])}; got {dtypes[1]} "
                f"{show_shape(shapes[1])}"
            )
        for begin, length in segments:
            if begin < 0 or length < 0 or begin + length > shapes[0][0]:
                raise ValueError(
                    f"{name}: the segment ({begin}, {length}) does not lie in a buffer of {shapes[0][0]} values; "
                    f"a segment is (begin, length)"
                )
        return (Form((len(segments), len(Statistic)), _FLOAT64),)

    return infer


def _special(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw values that statistics get wrong easily."""
    yield rng.standard_normal(5000) * 1e-3 + 1000.0  # a deviation far below the mean
    yield np.concatenate(([1e4], rng.standard_normal(3000)))  # the first is far from the others
    yield np.abs(rng.standard_normal(40)) + 0.5
    yield -np.abs(rng.standard_normal(40)) - 0.5
    yield np.where(rng.random(4100) < 0.5, 0.0, rng.standard_normal(4100))
    yield np.array([0.0, -0.0, 0.0])
    yield np.array([2.5])
    yield np.full(9, np.nan)
    yield np.array([np.inf, -np.inf])
    for broken in (np.nan, np.inf, -np.inf):
        x = rng.standard_normal(5003)
        x[::1000] = broken
        yield x
    yield np.array([3.0, np.nan, -4.0])
    yield np.array([1e30, -3e30, 2.5e30])  # squares leave the range of float32
    yield np.array([1e-30, -3e-30, 2.5e-30])


def _tensor_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        yield Sample((drawing.normal(rng, drawing.draw_shape(rng)),), gradient=False)
    for x in _special(rng):
        yield Sample((x,), gradient=False)
    yield Sample((rng.standard_normal((3, 4, 5)).transpose(2, 0, 1),), gradient=False)
    yield Sample((np.zeros((0, 3)),), gradient=False)


_PARTS = ((0, 5), (7, 0), (16, 2100), (2120, 1), (3, 9))  # with gaps, empty, overlapping, out of order


def _flat(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal(2200)
    x[[18, 1000]] = np.nan, np.inf
    return x


def _segment_samples(rng: np.random.Generator) -> Iterator[Sample]:
    yield Sample((_flat(rng),), {"segments": _PARTS}, gradient=False)
    yield Sample((rng.standard_normal(300) + 2.0,), {"segments": ((0, 100), (128, 172))}, gradient=False)
    yield Sample((rng.standard_normal(8),), {"segments": ()}, gradient=False)
    yield Sample((np.zeros(0),), {"segments": ((0, 0),)}, gradient=False)


def _change_samples(rng: np.random.Generator) -> Iterator[Sample]:
    steps = rng.integers(-8, 9, 2200) / 8.0  # differences that every dtype holds exactly
    yield Sample((_flat(rng) * 0.0 + steps, steps[::-1].copy()), {"segments": _PARTS}, gradient=False)
    yield Sample((steps, steps.copy()), {"segments": ((0, 2200),)}, gradient=False)


def _products_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    need_floating("inner_products", dtypes[0])
    if len(shapes[0]) != 1 or shapes[0] != shapes[1] or dtypes[0] != dtypes[1]:
        raise ValueError(
            f"inner_products: x and y must be flat buffers of one length and dtype; got {dtypes[0]} "
            f"{show_shape(shapes[0])} and {dtypes[1]} {show_shape(shapes[1])}"
        )
    return (Form((3,), _FLOAT64),)


def _products_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for size in (0, 1, 255, 4097, 20000):
        yield Sample((rng.standard_normal(size) + 0.5, rng.standard_normal(size) + 0.5), gradient=False)
    broken = rng.standard_normal(300)
    broken[7] = np.nan
    yield Sample((broken, rng.standard_normal(300)), gradient=False)


def _unit_samples(rng: np.random.Generator) -> Iterator[Sample]:
    yield Sample((rng.standard_normal((7, 5)),), {"limit": 1.0}, gradient=False)
    yield Sample((rng.standard_normal((33, 3, 20)),), {"center": 0.25, "limit": 0.5}, gradient=False)
    x = np.maximum(rng.standard_normal((40, 70)), 0.0)
    x[:, 3] = 0.0
    yield Sample((x,), gradient=False)
    x = rng.standard_normal((9, 6))
    x[0, 0], x[1, 0], x[2, 1], x[:, 2], x[3:, 3] = np.nan, np.inf, -np.inf, np.nan, np.inf
    yield Sample((x,), {"limit": 2.0}, gradient=False)
    yield Sample((x,), gradient=False)
    yield Sample((rng.standard_normal(4),), gradient=False)
    yield Sample((np.zeros((0, 3)),), gradient=False)
    yield Sample((np.zeros((3, 0)),), gradient=False)


def _unit_infer(shapes: Any, dtypes: Any, *, center: float = 0.0, limit: float = float("inf")) -> tuple[Form, ...]:
    need_floating("unit_activity", dtypes[0])
    if not shapes[0]:
        raise ValueError("unit_activity: units lie on the last axis; got an array without axes")
    if not limit >= 0.0:
        raise ValueError(f"unit_activity: limit is a distance from center, at least 0; got {limit}")
    return (Form((len(UnitStatistic), shapes[0][-1]), _FLOAT64),)


TENSOR_STATISTICS = define(
    tensor_statistics, infer=_tensor_infer, samples=_tensor_samples, differentiable=(), tolerance=_TOLERANCE,
    errors=lambda: [BadInput((np.arange(3),), {}, TypeError, "needs floating numbers")],
)
SEGMENT_STATISTICS = define(
    segment_statistics, infer=_segments_infer("segment_statistics"), samples=_segment_samples, differentiable=(),
    tolerance=_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones(4),), {"segments": ((2, 3),)}, ValueError, "does not lie in a buffer of 4"),
        BadInput((np.ones((2, 2)),), {"segments": ()}, ValueError, "flat buffer"),
    ],
)
CHANGE_STATISTICS = define(
    change_statistics, infer=_segments_infer("change_statistics"), samples=_change_samples, differentiable=(),
    tolerance=_TOLERANCE,
    errors=lambda: [BadInput((np.ones(4), np.ones(5)), {"segments": ()}, ValueError, "before must match x")],
)
INNER_PRODUCTS = define(
    inner_products, infer=_products_infer, samples=_products_samples, differentiable=(),
    tolerance={**_TOLERANCE, "float32": Tolerance(2e-5, 1e-5)},  # products of float32 may be added up in it
    errors=lambda: [BadInput((np.ones(4), np.ones(5)), {}, ValueError, "of one length")],
)
UNIT_ACTIVITY = define(
    unit_activity, infer=_unit_infer, samples=_unit_samples, differentiable=(), tolerance=_TOLERANCE,
    errors=lambda: [
        BadInput((np.array(1.0),), {}, ValueError, "without axes"),
        BadInput((np.ones((2, 2)),), {"limit": -1.0}, ValueError, "at least 0"),
    ],
)
