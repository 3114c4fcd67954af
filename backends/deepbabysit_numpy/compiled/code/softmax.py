"""Softmax and its relatives row by row, some rows at a time: exp runs over all of them, however short a row is."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.half import narrow, widen
from deepbabysit_numpy.compiled.code.mathematics import decay, exp, log, order, place, wide
from deepbabysit_numpy.compiled.jit import jit, ordered

_BLOCK = 4096  # elements: they stay in the first cache


@jit
def step_of(width: Any) -> Any:
    """Return how many rows of that width are worked on at a time."""
    return max(_BLOCK // width, 1)


@jit
def shift(x: Any, out: Any, i: Any) -> Any:
    """Write row i less its largest element, and return that; NaN is the largest."""
    highest = order(x[i, 0])
    for j in range(x.shape[1]):
        rank = order(x[i, j])
        highest = rank if rank > highest else highest
    largest = place(highest)
    for j in range(x.shape[1]):
        out[i, j] = x[i, j] - largest
    return largest


@jit
def decay_rows(out: Any, begin: Any, end: Any) -> None:
    """Take exp of rows that hold nothing above 0."""
    wide()
    part = out[begin:end].reshape((end - begin) * out.shape[1])
    for k in range(part.size):
        part[k] = decay(part[k])


@ordered
def _in_turn(x: Any, first: Any, second: Any) -> Any:
    """Subtract the largest element before the logarithm, so that a large x costs no digits."""
    return (x - first) - second


@jit
def softmax(x: Any, out: Any) -> None:
    """``exp(x - m) / sum(exp(x - m))``."""
    rows, width = x.shape
    one, step = x.dtype.type(1.0), step_of(width)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        for i in range(begin, end):
            shift(x, out, i)
        decay_rows(out, begin, end)
        for i in range(begin, end):
            total = x.dtype.type(0.0)
            for j in range(width):
                total += out[i, j]
            share = one / total
            for j in range(width):
                out[i, j] *= share


@jit
def log_softmax(x: Any, out: Any) -> None:
    """``x - m - log(sum(exp(x - m)))``."""
    rows, width = x.shape
    step = step_of(width)
    largest, totals = np.empty(step, x.dtype), np.empty(step, x.dtype)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        for i in range(begin, end):
            largest[i - begin] = shift(x, out, i)
        decay_rows(out, begin, end)
        for i in range(begin, end):
            total = x.dtype.type(0.0)
            for j in range(width):
                total += out[i, j]
            totals[i - begin] = total
        for k in range(end - begin):
            totals[k] = log(totals[k])
        for i in range(begin, end):
            first, second = largest[i - begin], totals[i - begin]
            for j in range(width):
                out[i, j] = _in_turn(x[i, j], first, second)


@jit
def softmax_gradient(g: Any, y: Any, out: Any) -> None:
    """``y (g - sum(g y))``."""
    rows, width = y.shape
    for i in range(rows):
        total = y.dtype.type(0.0)
        for j in range(width):
            total += g[i, j] * y[i, j]
        for j in range(width):
            out[i, j] = y[i, j] * (g[i, j] - total)


@jit
def log_softmax_gradient(g: Any, y: Any, out: Any) -> None:
    """``g - exp(y) sum(g)``."""
    wide()
    rows, width = y.shape
    step = step_of(width)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        powers = out[begin:end].reshape((end - begin) * width)
        levels = y[begin:end].reshape((end - begin) * width)
        for k in range(powers.size):
            powers[k] = exp(levels[k])
        for i in range(begin, end):
            total = y.dtype.type(0.0)
            for j in range(width):
                total += g[i, j]
            for j in range(width):
                out[i, j] = g[i, j] - out[i, j] * total


@jit
def attention_weights(scores: Any, first: Any, causal: Any) -> None:
    """Softmax of each row, in place; where no key may be seen 0. Row r belongs to query ``first + r``."""
    rows, keys = scores.shape
    real = scores.dtype.type
    zero, one, hidden = real(0.0), real(1.0), real(-np.inf)
    step = step_of(keys)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        for i in range(begin, end):
            seen = min(first + i + 1, keys) if causal else keys
            row = scores[i]
            highest = order(row[0])
            for j in range(seen):
                rank = order(row[j])
                highest = rank if rank > highest else highest
            largest = place(highest)
            if largest == hidden:
                largest = zero
            for j in range(seen):
                row[j] -= largest
            for j in range(seen, keys):
                row[j] = hidden
        decay_rows(scores, begin, end)
        for i in range(begin, end):
            total = zero
            for j in range(keys):
                total += scores[i, j]
            share = one / (one if total == zero else total)
            for j in range(keys):
                scores[i, j] *= share


@jit
def attention_pull(product: Any, weights: Any) -> None:
    """``product = weights (product - sum(product weights))``, in place."""
    rows, keys = product.shape
    for i in range(rows):
        total = product.dtype.type(0.0)
        for j in range(keys):
            total += product[i, j] * weights[i, j]
        for j in range(keys):
            product[i, j] = (product[i, j] - total) * weights[i, j]


# -- float16: rows of float32 in the first cache -----------------------------------------------------------------------


@jit
def _blocks(x: Any) -> Any:
    """Return blocks of as many rows as are worked on at a time."""
    return np.empty((3, min(step_of(x.shape[1]), x.shape[0]), x.shape[1]), np.float32)


@jit
def _open(source: Any, block: Any) -> Any:
    """Return rows of float16 (as uint16) as the first ones of a block."""
    rows, width = source.shape
    widen(source.reshape(rows * width), block[:rows].reshape(rows * width))
    return block[:rows]


@jit
def _close(block: Any, target: Any) -> None:
    rows, width = target.shape
    narrow(block[:rows].reshape(rows * width), target.reshape(rows * width))


@jit
def half_softmax(x: Any, out: Any) -> None:
    """`softmax` of float16."""
    blocks = _blocks(out)
    for begin in range(0, out.shape[0], blocks.shape[1]):
        part = slice(begin, min(begin + blocks.shape[1], out.shape[0]))
        softmax(_open(x[part], blocks[0]), blocks[2, : part.stop - begin])
        _close(blocks[2], out[part])


@jit
def half_log_softmax(x: Any, out: Any) -> None:
    """`log_softmax` of float16."""
    blocks = _blocks(out)
    for begin in range(0, out.shape[0], blocks.shape[1]):
        part = slice(begin, min(begin + blocks.shape[1], out.shape[0]))
        log_softmax(_open(x[part], blocks[0]), blocks[2, : part.stop - begin])
        _close(blocks[2], out[part])


@jit
def half_softmax_gradient(g: Any, y: Any, out: Any) -> None:
    """`softmax_gradient` of float16."""
    blocks = _blocks(out)
    for begin in range(0, out.shape[0], blocks.shape[1]):
        part = slice(begin, min(begin + blocks.shape[1], out.shape[0]))
        softmax_gradient(_open(g[part], blocks[0]), _open(y[part], blocks[1]), blocks[2, : part.stop - begin])
        _close(blocks[2], out[part])


@jit
def half_log_softmax_gradient(g: Any, y: Any, out: Any) -> None:
    """`log_softmax_gradient` of float16."""
    blocks = _blocks(out)
    for begin in range(0, out.shape[0], blocks.shape[1]):
        part = slice(begin, min(begin + blocks.shape[1], out.shape[0]))
        log_softmax_gradient(_open(g[part], blocks[0]), _open(y[part], blocks[1]), blocks[2, : part.stop - begin])
        _close(blocks[2], out[part])
