"""Products of few rows with a large matrix, as a dense layer has them: the large one is read where it lies, once.

BLAS copies every operand into an order of its own first; a few rows do not pay that back. Every sum has its own lane
and runs in the order of what is summed; only `forward` divides what is summed, and so its bits depend on `parts`.

Tiles of a result are `high` by `wide`, or `tall` by `slim` where its columns are the few rows; `part` and `parts`
divide the rows of the large matrix among a team.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.registers import register_bytes, tile_rows
from deepbabysit_numpy.compiled.code.rules import adam
from deepbabysit_numpy.compiled.code.tiles import strip
from deepbabysit_numpy.compiled.jit import exact

_BYTES = register_bytes()
_WIDE, _HIGH = (0,) * 3, (0,) * tile_rows(3)
_SLIM, _TALL = (0,) * 2, (0,) * tile_rows(2)
_NARROW = (0,)
_HEIGHT, _TALLNESS = len(_HIGH), len(_TALL)
_STEPS = 128  # of what is summed at once: as many rows of the large matrix are walked along side by side
_LINE = 64
_BLOCK = 1 << 17  # bytes of gradient that wait for their update: they and what is updated stay in the second cache


@exact
def _share(part: Any, parts: Any, count: Any) -> Any:
    return count * part // parts, count * (part + 1) // parts


@exact
def _rows(part: Any, parts: Any, inner: Any) -> Any:
    """Return the first row of the large matrix that belongs to a part, and the one after its last: whole tiles."""
    begin, end = _share(part, parts, inner // _HEIGHT)
    return begin * _HEIGHT, inner if part == parts - 1 else end * _HEIGHT


@exact
def _along(x: Any, w: Any, y: Any, first: Any, last: Any, column: Any, width: Any) -> None:
    """Add ``x[:, first:last] w[first:last]`` to some columns of y, or begin with it: one tile wide."""
    rows, size = x.shape[0], w.itemsize
    lanes = len(width) * _BYTES // size
    down, x_row, y_row = w.strides[0], x.strides[0], y.strides[0]
    at = w.ctypes.data + first * down + column * size
    for row in range(0, rows, _HEIGHT):
        line = row // _HEIGHT * _LINE  # every row of tiles asks for other lines of the tile after the next
        strip(
            width, _HIGH, w, x.ctypes.data + row * x_row + first * size, x_row, size, at, down, last - first,
            y.ctypes.data + row * y_row + column * size, y_row, 0, min(lanes, w.shape[1] - column),
            2 * lanes * size + line if line < lanes * size else 0,
        )


@exact
def forward(part: Any, parts: Any, x: Any, w: Any, sums: Any) -> None:
    """``sums[part] = x w`` over a part of what is summed: x (rows, inner), w (inner, columns).

    The number of rows is a multiple of a tile's. Whoever runs a part reads the rows of `w` that the same part of the
    other functions reads and writes: they stay in the cache of its core.
    """
    columns = w.shape[1]
    begin, end = _rows(part, parts, w.shape[0])
    y = sums[part]
    y[:] = 0.0
    lane = _BYTES // w.itemsize
    whole = (columns + lane - 1) // lane // len(_WIDE) * len(_WIDE) * lane
    for k in range(begin, end, _STEPS):
        last = min(k + _STEPS, end)
        for column in range(0, whole, len(_WIDE) * lane):
            _along(x, w, y, k, last, column, _WIDE)
        if columns - whole > lane:
            _along(x, w, y, k, last, whole, _SLIM)
        elif columns > whole:
            _along(x, w, y, k, last, whole, _NARROW)


@exact
def gather(part: Any, parts: Any, sums: Any, y: Any) -> None:
    """Add up the sums of all parts."""
    begin, end = _share(part, parts, y.shape[0])
    for i in range(begin, end):
        for j in range(y.shape[1]):
            y[i, j] = sums[0, i, j] + sums[1, i, j]
        for number in range(2, sums.shape[0]):
            for j in range(y.shape[1]):
                y[i, j] += sums[number, i, j]


@exact
def backward(part: Any, parts: Any, turned: Any, w: Any, y: Any) -> None:
    """``y = g w^T``: turned = g^T (columns, rows), w (inner, columns), y (rows, inner)."""
    columns, rows = turned.shape
    inner, size = w.shape[0], w.itemsize
    lanes = len(_SLIM) * _BYTES // size
    begin, end = _share(part, parts, (inner + _TALLNESS - 1) // _TALLNESS)
    down, across = w.strides[0], turned.strides[0]
    room = np.empty((_TALLNESS, lanes), w.dtype)
    for tile in range(begin, end):
        place = min(tile * _TALLNESS, inner - _TALLNESS)
        for row in range(0, rows, lanes):
            valid = min(lanes, rows - row)
            strip(
                _SLIM, _TALL, w, w.ctypes.data + place * down, down, size, turned.ctypes.data + row * size, across,
                columns, room.ctypes.data, lanes * size, 1, valid, 0,
            )
            for i in range(valid):
                for j in range(_TALLNESS):
                    y[row + i, place + j] = room[j, i]


@exact
def _slopes(x: Any, g: Any, out: Any, first: Any, last: Any) -> None:
    """``out = x[:, first:last]^T g``; there are at least as many rows of the result as a tile has."""
    rows, inner = x.shape
    columns, size = g.shape[1], g.itemsize
    lanes = len(_WIDE) * _BYTES // size
    for column in range(0, columns, lanes):
        valid = min(lanes, columns - column)
        for tile in range(first, last, _HEIGHT):
            place = min(tile, last - _HEIGHT)
            strip(
                _WIDE, _HIGH, g, x.ctypes.data + place * size, size, x.strides[0], g.ctypes.data + column * size,
                g.strides[0], rows, out.ctypes.data + (place - first) * out.strides[0] + column * size, out.strides[0],
                1, valid, 0,
            )


@exact
def _end(first: Any, end: Any, row: Any) -> Any:
    """Return where a block of rows that begins there ends; nothing less than a tile is left over."""
    last = first + max(_BLOCK // row // _HEIGHT, 1) * _HEIGHT
    return last if last + _HEIGHT <= end else end


@exact
def slopes(part: Any, parts: Any, x: Any, g: Any, out: Any) -> None:
    """``out = x^T g``: x (rows, inner), g (rows, columns)."""
    first, end = _rows(part, parts, x.shape[1])
    while first < end:
        last = _end(first, end, out.strides[0])
        _slopes(x, g, out[first:last], first, last)
        first = last


@exact
def slopes_adam(part: Any, parts: Any, x: Any, g: Any, out: Any, keep: Any, plan: Any, w: Any, states: Any,
                own: Any) -> None:
    """Do what `slopes` and `rules.adam` do, block by block: the gradient need not go to memory.

    Arguments:
        out: memory of the gradient, written where `keep[0]` is not 0.
        plan: as in `rules`, of one segment that begins at 0.
        w, states: flat, of this segment.
    """
    columns, written = out.shape[1], keep[0] != 0
    first, end = _rows(part, parts, out.shape[0])
    room = np.empty((1 if written else _end(0, end - first, out.strides[0]) + _HEIGHT, columns), w.dtype)
    while first < end:
        last = _end(first, end, out.strides[0])
        block = out[first:last] if written else room[: last - first]
        _slopes(x, g, block, first, last)
        a, b = first * columns, last * columns
        adam(0, 1, plan, w[a:b], block.reshape((last - first) * columns), (states[0][a:b], states[1][a:b]), own)
        first = last
