"""Statistics of tensors: one pass over memory; blocks are looked at twice while they are in the first-level cache.

The extremes are found among the bits as whole numbers, whose order is that of the numbers for each sign: such loops are
vectorized without a promise that there is no NaN. NaN and infinity are found by the sum of squares, which they spoil;
only then are values looked at one by one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit

_ROWS = 1 << 20  # whole numbers below 2^24 are exact in float32
_LEAST, _MOST, _LARGEST = 1e-140, 1e140, 1e290  # the squares of such values are normal numbers in float64


@jit
def _sums(x: Any, shift: Any) -> Any:
    """Return the sum of ``x - shift`` and that of its squares."""
    total, squares = 0.0, 0.0
    for i in range(x.size):
        d = np.float64(x[i]) - shift
        total += d
        squares += d * d
    return total, squares


@jit
def _range(bits: Any, plain: Any, mask: Any, low: Any, high: Any, least: Any, most: Any) -> Any:
    """Return the extremes of the bits, with a sign and without, so far; and how many values are zero."""
    whole = bits.dtype.type
    zeros = whole(0)
    for i in range(bits.size):
        b, p = bits[i], plain[i]
        low = min(low, b)
        high = max(high, b)
        least = min(least, p)
        most = max(most, p)
        zeros = whole(zeros + whole(whole(b & mask) == whole(0)))
    return low, high, least, most, zeros


@jit
def _difference(x: Any, before: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = x[i] - before[i]


@jit
def _carefully(x: Any, before: Any, differ: Any, row: Any) -> None:
    """Measure finite values only, scaled by the largest, so that no square overflows or vanishes."""
    inside, zeros = 0, 0
    low, high = np.inf, -np.inf
    for i in range(x.size):
        v = np.float64(x[i] - before[i] if differ else x[i])
        if abs(v) < np.inf:  # math.isfinite(v) is v - v == 0, which "reassoc" may fold
            inside += 1
            zeros += v == 0.0
            low = min(low, v)
            high = max(high, v)
    row[6], row[7] = zeros, x.size - inside
    if not inside:
        return
    size = max(abs(low), abs(high))
    factor = 1.0 if size == 0.0 else min(1.0 / size, 1e300)
    shift = low * factor
    total, squares = 0.0, 0.0
    for i in range(x.size):
        v = np.float64(x[i] - before[i] if differ else x[i])
        if abs(v) < np.inf:  # math.isfinite(v) is v - v == 0, which "reassoc" may fold
            d = v * factor - shift
            total += d
            squares += d * d
    mean = shift + total / inside
    rest = max(squares - total * (total / inside), 0.0)
    row[1], row[2], row[3], row[4], row[5] = mean / factor, math.sqrt(rest / inside) / factor, low, high, size
    row[8] = math.sqrt(rest + inside * mean * mean) / factor


@jit
def segments(
    x: Any, bits: Any, plain: Any, before: Any, differ: Any, block: Any, block_bits: Any, block_plain: Any, mask: Any,
    begins: Any, lengths: Any, out: Any,
) -> None:
    """Write a row for each segment of `x`, or of ``x - before``.

    `bits` and `plain` are the values as whole numbers with a sign and without. Seen with a sign, positive numbers are
    in order, and below them the negative ones the other way round.
    """
    edge = np.empty(2, bits.dtype)
    whole, natural = bits.dtype.type, plain.dtype.type
    for place in range(begins.size):
        begin, length = begins[place], lengths[place]
        row = out[place]
        row[0], row[5], row[6], row[7], row[8] = length, 0.0, 0.0, 0.0, 0.0
        row[1], row[2], row[3], row[4] = np.nan, np.nan, np.nan, np.nan
        if not length:
            continue
        shift = np.float64(x[begin] - before[begin] if differ else x[begin])
        total, squares, zeros = 0.0, 0.0, 0
        low, high = mask, whole(~mask)
        least, most = natural(~natural(0)), natural(0)
        for first in range(begin, begin + length, block.size):
            last = min(first + block.size, begin + length)
            if differ:
                end = last - first
                values, signed, natural_bits = block[:end], block_bits[:end], block_plain[:end]
                _difference(x[first:last], before[first:last], values)
            else:
                values, signed, natural_bits = x[first:last], bits[first:last], plain[first:last]
            t, s = _sums(values, shift)
            low, high, least, most, z = _range(signed, natural_bits, mask, low, high, least, most)
            total += t
            squares += s
            zeros += z
        edge[0] = low if low >= 0 else whole(most)
        edge[1] = high if high >= 0 else whole(least)
        ends = edge.view(x.dtype)
        a, b = np.float64(ends[0]), np.float64(ends[1])
        size = max(abs(a), abs(b))
        if not (squares < _LARGEST and (_LEAST < size < _MOST or size == 0.0)):
            _carefully(x[begin : begin + length], before[begin : begin + length], differ, row)
            continue
        mean = shift + total / length
        rest = max(squares - total * (total / length), 0.0)
        row[1], row[2], row[3], row[4], row[5] = mean, math.sqrt(rest / length), a, b, size
        row[6], row[8] = zeros, math.sqrt(rest + length * mean * mean)


@jit
def _four(a: Any, b: Any, c: Any, d: Any, middle: Any, far: Any, counts: Any, ends: Any) -> None:
    """Add four rows to the counts and extremes of their columns."""
    real = a.dtype.type
    zero, one, none = real(0.0), real(1.0), real(np.inf)
    for j in range(a.size):
        positive = zeros = beyond = broken = zero
        low, high = ends[0, j], ends[1, j]
        for v in (a[j], b[j], c[j], d[j]):
            size = abs(v)
            finite = size < none
            positive += one if v > zero else zero
            zeros += one if v == zero else zero
            beyond += one if abs(v - middle) >= far or size == none else zero
            broken += zero if finite else one
            low = v if v < low and finite else low
            high = v if v > high and finite else high
        counts[0, j] += positive
        counts[1, j] += zeros
        counts[2, j] += beyond
        counts[3, j] += broken
        ends[0, j], ends[1, j] = low, high


@jit
def units(x: Any, center: Any, limit: Any, missing: Any, counts: Any, ends: Any, out: Any) -> None:
    """Count and bound the values of each column of `out`; a row of `x` holds one or several rows of values.

    `missing` is a row of NaN, which stands in for rows that lack.
    """
    real = x.dtype.type
    middle, far = real(center), real(limit)
    rows, width = x.shape
    columns = out.shape[1]
    for j in range(columns):
        out[0, j], out[1, j], out[2, j], out[3, j], out[4, j], out[5, j] = 0.0, 0.0, 0.0, 0.0, np.inf, -np.inf
    for j in range(width):
        ends[0, j], ends[1, j] = real(np.inf), real(-np.inf)
    for first in range(0, rows, _ROWS):
        last = min(first + _ROWS, rows)
        for k in range(4):
            for j in range(width):
                counts[k, j] = real(0.0)
        for i in range(first, last - 3, 4):
            _four(x[i], x[i + 1], x[i + 2], x[i + 3], middle, far, counts, ends)
        for i in range(first + (last - first) // 4 * 4, last):
            _four(x[i], missing, missing, missing, middle, far, counts, ends)
            for j in range(width):
                counts[3, j] -= real(3.0)
        for k in range(4):
            for j in range(width):
                out[k, j % columns] += counts[k, j]
    for j in range(width):
        k = j % columns
        out[4, k] = min(out[4, k], np.float64(ends[0, j]))
        out[5, k] = max(out[5, k], np.float64(ends[1, j]))
    for j in range(columns):
        if out[4, j] > out[5, j]:
            out[4, j], out[5, j] = np.nan, np.nan
