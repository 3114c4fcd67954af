"""Reductions over neighbouring axes: of an array ``x[outer, reduced, inner]`` over its middle axis.

Sums go in blocks of the array's own dtype, which are added up in float64.
"""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.jit import jit

_BLOCK = 4096  # values of a row that are summed in their own dtype
_NARROW = 64
_ROWS = 128  # rows of columns that are


@jit
def _short(x: Any) -> Any:
    """Return the sum of a short row."""
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
    squares, rest = x.dtype.type(0.0), x.dtype.type(0.0)
    for i in range(x.size):
        d = x[i] - mean
        squares += d * d
        rest += d
    return squares, rest


@jit
def _add(row: Any, part: Any) -> None:
    for j in range(part.size):
        part[j] += row[j]


@jit
def _add_squares(row: Any, middle: Any, part: Any) -> None:
    for j in range(part.size):
        d = row[j] - middle[j]
        part[j] += d * d


@jit
def _columns(x: Any, middle: Any, squared: Any, part: Any, total: Any, out: Any, divisor: Any) -> None:
    """Sum the columns of `out`'s width, or their squared deviations; a row of `x` holds one or several rows of them."""
    columns = out.size
    for j in range(total.size):
        total[j] = 0.0
    for first in range(0, x.shape[0], _ROWS):
        for j in range(part.size):
            part[j] = 0.0
        for i in range(first, min(first + _ROWS, x.shape[0])):
            if squared:
                _add_squares(x[i], middle, part)
            else:
                _add(x[i], part)
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
    for j in range(best.size):
        v = row[j]
        best[j] = v if v > best[j] or v != v else best[j]


@jit
def _best(row: Any, lanes: Any) -> Any:
    """Return the largest value of a long row, or NaN where it holds one."""
    width = lanes.size
    blocks = row[: row.size // width * width].reshape(-1, width)
    lanes[:] = blocks[0]
    for i in range(1, blocks.shape[0]):
        for j in range(width):
            v = blocks[i, j]
            lanes[j] = v if v > lanes[j] or v != v else lanes[j]
    few = lanes.reshape(-1, 8)
    for i in range(1, few.shape[0]):
        for j in range(8):
            v = few[i, j]
            few[0, j] = v if v > few[0, j] or v != v else few[0, j]
    best = lanes[0]
    for j in range(1, 8):
        v = lanes[j]
        best = v if v > best or v != v else best
    for i in range(blocks.size, row.size):
        v = row[i]
        best = v if v > best or v != v else best
    return best


@jit
def largest(x: Any, lanes: Any, out: Any) -> None:
    """``out[a, b] = max_r x[a, r, b]``; NaN wins."""
    columns = out.shape[1]
    if columns == 1:
        rows = x.reshape(out.shape[0], -1)
        length = rows.shape[1]
        if length % 16 == 0 and length < _BLOCK:
            cube, few = rows.reshape(out.shape[0], -1, 16), lanes[:16]
            for a in range(out.shape[0]):
                for j in range(16):
                    few[j] = cube[a, 0, j]
                for i in range(1, cube.shape[1]):
                    for j in range(16):
                        v = cube[a, i, j]
                        few[j] = v if v > few[j] or v != v else few[j]
                best = few[0]
                for j in range(1, 16):
                    v = few[j]
                    best = v if v > best or v != v else best
                out[a, 0] = best
        elif length >= lanes.size:
            for a in range(out.shape[0]):
                out[a, 0] = _best(rows[a], lanes)
        else:
            for a in range(out.shape[0]):
                best = rows[a, 0]
                for r in range(1, rows.shape[1]):
                    v = rows[a, r]
                    best = v if v > best or v != v else best
                out[a, 0] = best
        return
    for a in range(out.shape[0]):
        lanes[:] = x[a, 0]
        for i in range(1, x.shape[1]):
            _higher(x[a, i], lanes)
        for j in range(columns, lanes.size):
            v = lanes[j]
            k = j % columns
            lanes[k] = v if v > lanes[k] or v != v else lanes[k]
        out[a, :] = lanes[:columns]
