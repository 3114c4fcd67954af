"""Statistics in blocks that stay in the cache."""

from __future__ import annotations

from math import inf, isfinite, nan, sqrt
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.kernels.statistics import Segments, Statistic, UnitStatistic
from deepbabysit.runtime.backend import Kernel

_BLOCK = 8192  # values, in float64


def _scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    size = 1
    for length in forms[0].shape:
        size *= length
    return (Form((min(size, _BLOCK),), np.dtype(np.float64)),) * 2


def _measure(ctx: Any, row: Any, x: Any, before: Any = None) -> None:
    """Write the statistics of a flat array into a row."""
    found = _pass(ctx, x, before, 1.0)
    size = max(abs(found[3]), abs(found[4])) if found[1] else 0.0
    if size and not 1e-140 < size < 1e140:  # squares would leave the range of float64
        found = _pass(ctx, x, before, min(1.0 / size, 1e300))
    zeros, inside, mean, low, high, deviations, factor = found
    row[Statistic.COUNT] = x.shape[0]
    row[Statistic.ZEROS] = zeros
    row[Statistic.NON_FINITE] = x.shape[0] - inside
    if inside:
        row[Statistic.MEAN] = mean / factor
        row[Statistic.STD] = sqrt(deviations / inside) / factor
        row[Statistic.MINIMUM], row[Statistic.MAXIMUM] = low, high
        row[Statistic.ABSOLUTE_MAXIMUM] = size
        row[Statistic.NORM] = sqrt(deviations + inside * mean * mean) / factor
    else:
        row[[Statistic.MEAN, Statistic.STD, Statistic.MINIMUM, Statistic.MAXIMUM]] = nan
        row[[Statistic.ABSOLUTE_MAXIMUM, Statistic.NORM]] = 0.0


def _pass(ctx: Any, x: Any, before: Any, factor: float) -> tuple[Any, ...]:
    """Measure block by block, joined by Chan, Golub and LeVeque's formula (1983); moments are those of ``factor x``."""
    wide_whole, other_whole = ctx.scratch
    zeros = inside = 0
    mean = deviations = 0.0
    low, high = inf, -inf
    for first in range(0, x.shape[0], _BLOCK):
        block = x[first : first + _BLOCK]
        wide, other = wide_whole[: block.shape[0]], other_whole[: block.shape[0]]
        np.copyto(wide, block)
        if before is not None:
            np.subtract(block, before[first : first + _BLOCK], out=wide, dtype=x.dtype)
        zeros += wide.shape[0] - int(np.count_nonzero(wide))
        total = float(np.add.reduce(wide))
        if not isfinite(total):
            wide = wide[np.isfinite(wide)]
            other = other[: wide.shape[0]]
            total = float(np.add.reduce(wide))
        count = wide.shape[0]
        if not count:
            continue
        low, high = min(low, float(np.minimum.reduce(wide))), max(high, float(np.maximum.reduce(wide)))
        if factor != 1.0:
            wide = np.multiply(wide, factor, out=other)
            total = float(np.add.reduce(wide))
        here = total / count
        np.subtract(wide, here, out=other)
        step = here - mean
        inside += count
        mean += step * (count / inside)
        deviations += float(np.dot(other, other)) + step * step * (count * ((inside - count) / inside))
    return zeros, inside, mean, low, high, deviations, factor


def _tensor(ctx: Any, outs: Any, x: Any) -> None:
    with np.errstate(all="ignore"):
        _measure(ctx, outs[0], x.reshape(-1))


def _segments(ctx: Any, outs: Any, x: Any, *, segments: Segments) -> None:
    with np.errstate(all="ignore"):
        for row, (begin, length) in zip(outs[0], segments, strict=True):
            _measure(ctx, row, x[begin : begin + length])


def _change(ctx: Any, outs: Any, x: Any, before: Any, *, segments: Segments) -> None:
    with np.errstate(all="ignore"):
        for row, (begin, length) in zip(outs[0], segments, strict=True):
            _measure(ctx, row, x[begin : begin + length], before[begin : begin + length])


def _units(ctx: Any, outs: Any, x: Any, *, center: float = 0.0, limit: float = inf) -> None:
    out = outs[0]
    rows = x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, x.shape[-1])
    out.fill(0.0)
    low, high = out[UnitStatistic.MINIMUM], out[UnitStatistic.MAXIMUM]
    low.fill(inf)
    high.fill(-inf)
    step = max(_BLOCK // max(rows.shape[1], 1), 1)
    with np.errstate(all="ignore"):
        for first in range(0, rows.shape[0], step):
            block = rows[first : first + step].astype(np.float64)
            finite = np.isfinite(block)
            out[UnitStatistic.POSITIVE] += (block > 0.0).sum(axis=0)
            out[UnitStatistic.ZEROS] += (block == 0.0).sum(axis=0)
            out[UnitStatistic.BEYOND] += ((np.abs(block - center) >= limit) | (np.abs(block) == inf)).sum(axis=0)
            out[UnitStatistic.NON_FINITE] += (~finite).sum(axis=0)
            np.minimum(low, block.min(axis=0, initial=inf, where=finite), out=low)
            np.maximum(high, block.max(axis=0, initial=-inf, where=finite), out=high)
    low[low == inf] = nan
    high[high == -inf] = nan


def _inner_products(ctx: Any, outs: Any, x: Any, y: Any) -> None:
    outs[0][:] = np.dot(x, y), np.dot(x, x), np.dot(y, y)


KERNELS: dict[str, Kernel] = {
    "tensor_statistics": Kernel(_tensor, scratch=_scratch, contiguous=True),
    "segment_statistics": Kernel(_segments, scratch=_scratch, contiguous=True),
    "change_statistics": Kernel(_change, scratch=_scratch, contiguous=True),
    "inner_products": Kernel(_inner_products, dtypes=frozenset({"float32", "float64"}), contiguous=True),
    "unit_activity": Kernel(_units, contiguous=True),
}
