"""Reductions over neighbouring axes: of an array ``x[outer, reduced, inner]`` over its middle axis.

Sums go in blocks of the array's own dtype, which are added up in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.mathematics import decay, log, order, place, wide
from deepbabysit_numpy.compiled.code.softmax import decay_rows, shift, step_of
from deepbabysit_numpy.compiled.jit import jit

_BLOCK = 4096  # values of a row that are summed in their own dtype
_NARROW = 64
_ROWS = 128  # rows of columns that are


@jit
def _short(x: Any) -> Any:
    """Return the sum of a short row."""
    wide()
    part = x.dtype.type(0.0)
    for i in range(x.size):
        part += x[i]
    return part


@jit
def _sum(x: Any) -> Any:
    """Return the sum of a row in float64."""
    total = 0.0
    for first in range(0, x.size, _BLOCK):
        total += _short(x[first : first + _BLOCK])
    return total


@jit
def _deviations(x: Any, mean: Any) -> Any:
    """Return the sums of ``(x - mean)^2`` and of ``x - mean`` of a short row."""
    wide()
    squares, rest = x.dtype.type(0.0), x.dtype.type(0.0)
    for i in range(x.size):
        d = x[i] - mean
        squares += d * d
        rest += d
    return squares, rest


@jit
def _add(a: Any, b: Any, c: Any, d: Any, part: Any) -> None:
    """Add four rows: one store for four loads."""
    wide()
    for j in range(part.size):
        part[j] += (a[j] + b[j]) + (c[j] + d[j])


@jit
def _add_one(row: Any, part: Any) -> None:
    for j in range(part.size):
        part[j] += row[j]


@jit
def _add_squares(a: Any, b: Any, middle: Any, part: Any) -> None:
    wide()
    for j in range(part.size):
        first, second = a[j] - middle[j], b[j] - middle[j]
        part[j] += first * first + second * second


@jit
def _add_square(row: Any, middle: Any, part: Any) -> None:
    for j in range(part.size):
        d = row[j] - middle[j]
        part[j] += d * d


@jit
def _sum_rows(x: Any, first: Any, last: Any, middle: Any, squared: Any, part: Any) -> None:
    """Add rows, or their squared deviations, to `part`."""
    i = first
    if squared:
        while i + 2 <= last:
            _add_squares(x[i], x[i + 1], middle, part)
            i += 2
        if i < last:
            _add_square(x[i], middle, part)
    else:
        while i + 4 <= last:
            _add(x[i], x[i + 1], x[i + 2], x[i + 3], part)
            i += 4
        while i < last:
            _add_one(x[i], part)
            i += 1


@jit
def _columns(x: Any, middle: Any, squared: Any, part: Any, total: Any, out: Any, divisor: Any) -> None:
    """Sum the columns of `out`'s width, or their squared deviations; a row of `x` holds one or several rows of them."""
    columns = out.size
    for j in range(total.size):
        total[j] = 0.0
    for first in range(0, x.shape[0], _ROWS):
        for j in range(part.size):
            part[j] = 0.0
        _sum_rows(x, first, min(first + _ROWS, x.shape[0]), middle, squared, part)
        for j in range(part.size):
            total[j] += part[j]
    for j in range(columns, total.size):
        total[j % columns] += total[j]
    for j in range(columns):
        out[j] = total[j] / divisor


@jit
def sums(x: Any, part: Any, total: Any, out: Any, divisor: Any) -> None:
    """``out[a, b] = sum_r x[a, r, b] / divisor``; the last axes of `x` may hold several rows of ``out[a]`` each."""
    if out.shape[1] == 1:
        rows = x.reshape(out.shape[0], -1)
        if rows.shape[1] > _NARROW:
            for a in range(out.shape[0]):
                out[a, 0] = _sum(rows[a]) / divisor
        else:
            for a in range(out.shape[0]):
                short = x.dtype.type(0.0)
                for r in range(rows.shape[1]):
                    short += rows[a, r]
                out[a, 0] = short / divisor
    else:
        for a in range(out.shape[0]):
            _columns(x[a], part, False, part, total, out[a], divisor)


@jit
def variances(x: Any, part: Any, middle: Any, total: Any, out: Any, count: Any) -> None:
    """``out[a, b] = sum_r (x[a, r, b] - mean)^2 / count``, in two passes."""
    columns = out.shape[1]
    if columns == 1:
        rows = x.reshape(out.shape[0], -1)
        for a in range(out.shape[0]):
            row = rows[a]
            mean = row.dtype.type(_sum(row) / count)
            squares, rest = 0.0, 0.0
            for first in range(0, row.size, _BLOCK):
                s, r = _deviations(row[first : first + _BLOCK], mean)
                squares += s
                rest += r
            out[a, 0] = squares / count - (rest / count) * (rest / count)  # the mean was rounded
    else:
        for a in range(out.shape[0]):
            _columns(x[a], part, False, part, total, out[a], count)
            for j in range(middle.size):
                middle[j] = out[a, j % columns]
            _columns(x[a], middle, True, part, total, out[a], count)


@jit
def _higher(row: Any, best: Any) -> None:
    wide()
    for j in range(best.size):
        v = row[j]
        best[j] = v if v > best[j] or v != v else best[j]


@jit
def _highest(x: Any, best: Any, columns: Any) -> None:
    """Write the largest of each lane, and in the first of them that of all lanes of a column."""
    best[:] = x[0]
    for i in range(1, x.shape[0]):
        _higher(x[i], best)
    for j in range(columns, best.size):
        v = best[j]
        k = j % columns
        best[k] = v if v > best[k] or v != v else best[k]


@jit
def largest(x: Any, best: Any, out: Any) -> None:
    """``out[a, b] = max_r x[a, r, b]``; NaN wins."""
    columns = out.shape[1]
    if columns == 1:
        rows = x.reshape(out.shape[0], -1)
        real = x.dtype.type
        bottom = order(real(-np.inf))
        for a in range(out.shape[0]):
            highest = lowest = order(rows[a, 0])
            for r in range(rows.shape[1]):
                rank = order(rows[a, r])
                highest = rank if rank > highest else highest
                lowest = rank if rank < lowest else lowest
            out[a, 0] = real(np.nan) if lowest < bottom else place(highest)  # below: NaN with a sign, as 0 / 0 gives
        return
    for a in range(out.shape[0]):
        _highest(x[a], best, columns)
        out[a, :] = best[:columns]


@jit
def _add_powers(row: Any, level: Any, part: Any) -> None:
    wide()
    for j in range(part.size):
        part[j] += decay(row[j] - level[j])


@jit
def logsumexp_columns(x: Any, level: Any, part: Any, total: Any, out: Any) -> None:
    """``out[a, b] = log(sum_r exp(x[a, r, b]))``; the last axes of `x` may hold several rows of ``out[a]`` each."""
    columns = out.shape[1]
    zero = x.dtype.type(0.0)
    for a in range(out.shape[0]):
        _highest(x[a], level, columns)
        out[a, :] = level[:columns]
        for j in range(level.size):
            m = out[a, j % columns]
            level[j] = m if abs(m) < np.inf else zero
            total[j] = 0.0
        for first in range(0, x.shape[1], _ROWS):
            for j in range(part.size):
                part[j] = zero
            for i in range(first, min(first + _ROWS, x.shape[1])):
                _add_powers(x[a, i], level, part)
            for j in range(part.size):
                total[j] += part[j]
        for j in range(columns, total.size):
            total[j % columns] += total[j]
        for j in range(columns):
            m = out[a, j]
            out[a, j] = math.log(total[j]) + m if abs(m) < np.inf else m


@jit
def logsumexp(x: Any, space: Any, out: Any) -> None:
    """``out[i] = log(sum_j exp(x[i, j]))``, some rows at a time."""
    rows, width = x.shape
    step = step_of(width)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        part, terms = x[begin:end], space[: (end - begin) * width].reshape(end - begin, width)
        highest = out[begin:end]
        for i in range(end - begin):
            highest[i] = shift(part, terms, i)
        decay_rows(terms, 0, end - begin)
        for i in range(end - begin):
            total = x.dtype.type(0.0)
            for j in range(width):
                total += terms[i, j]
            m = highest[i]
            if abs(m) < np.inf:
                highest[i] = log(total) + m
            else:
                for j in range(width):
                    m = part[i, j] if part[i, j] != part[i, j] else m
                highest[i] = m
