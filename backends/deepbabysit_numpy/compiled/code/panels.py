"""Panels of a matrix product: operands in the order in which the tile in the vector registers takes them.

The left operand's panels have `HIGH` rows, the right one's `WIDE` columns (two vectors). A tile of the result stays in
registers while the loop runs over what is summed: all of it, or blocks of at most `DEEP` that follow each other, cut by
the shapes alone.
"""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.code.registers import register_bytes, tall_rows
from deepbabysit_numpy.compiled.code.tiles import beside, panel, turn
from deepbabysit_numpy.compiled.jit import exact

BYTES = register_bytes()
SLIM, NARROW, TALL = (0,) * 2, (0,), (0,) * tall_rows()
HIGH = len(TALL)
DEEP = 1024  # of what is summed at once
_LINE = 64


@exact
def share(part: Any, parts: Any, count: Any) -> Any:
    """Return the first of `count` things that belongs to a part, and the one after its last."""
    return count * part // parts, count * (part + 1) // parts


@exact
def lay(source: Any, first: Any, last: Any, begin: Any, valid: Any, turned: Any, to: Any, high: Any) -> None:
    """Copy columns `begin` to `begin + valid` of some rows into a panel of `high` columns, row after row.

    `turned`: the rows are columns of `source`.
    """
    size = source.itemsize
    lanes = BYTES // size
    down = source.strides[0]
    for lane in range(0, high, lanes):
        some, target = min(lanes, high - lane), to + lane * size
        if turned:
            place = source.ctypes.data + first * size
            row = begin + min(lane, valid - 1)
            there = valid - min(lane, valid - 1)
            turn(source, place + row * down, down, there, last - first, target, high * size, some)
        else:
            place = source.ctypes.data + first * down + (begin + lane) * size
            beside(source, place, down, max(valid - lane, 0), last - first, target, high * size, some)


@exact
def by_panels(x: Any, turned: Any, room: Any, place: Any, begin: Any, end: Any, bias: Any, rectify: Any,
              y: Any) -> None:
    """Compute the rows of some panels, `begin` to `end`; y: these rows; `place`: memory for their left operand."""
    rows, columns = y.shape
    inner = x.shape[0] if turned else x.shape[1]
    size, across = x.itemsize, y.strides[0]
    lane = BYTES // size
    wide = len(SLIM) * lane
    blocks = (inner + DEEP - 1) // DEEP
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        depth = last - first
        fresh, rectified = 1 if block == 0 else 0, rectify if block == blocks - 1 else 0
        for number in range(begin, end):
            row = (number - begin) * HIGH
            lay(x, first, last, number * HIGH, min(HIGH, rows - row), not turned, place + row * depth * size, HIGH)
        for column in range(0, columns, wide):
            valid = min(wide, columns - column)
            w = room.ctypes.data + (column * inner + first * wide) * size
            left = place
            start = bias.ctypes.data + column * size if bias.size else 0
            soon = room.ctypes.data + ((column + wide) * inner + first * wide) * size
            for row in range(0, rows, HIGH):
                ahead = soon + row // HIGH * depth * _LINE if row < 2 * HIGH else left
                some = min(HIGH, rows - row)
                left, to = place + row * depth * size, y.ctypes.data + row * across + column * size
                if valid > lane:
                    panel(SLIM, TALL, x, left, w, depth, to, across, start, fresh, rectified, some, valid,
                          ahead, _LINE)
                else:
                    panel(NARROW, TALL, x, left, w, depth, to, across, start, fresh, rectified, some, valid,
                          ahead, _LINE)


@exact
def rectangle(x: Any, turned: Any, w: Any, other: Any, place: Any, rows: Any, columns: Any, bias: Any, rectify: Any,
              y: Any, above: Any) -> None:
    """Compute some rows and columns of ``x w + bias`` where nothing is copied yet: (first, after the last) of each.

    `turned`, `other`: whether x and w are; `place`: memory for a panel of each; `above`: how many rows y is without.
    """
    inner = x.shape[0] if turned else x.shape[1]
    size, across = x.itemsize, y.strides[0]
    wide = len(SLIM) * BYTES // size
    blocks = (inner + DEEP - 1) // DEEP
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        depth = last - first
        fresh, rectified = 1 if block == 0 else 0, rectify if block == blocks - 1 else 0
        right = place + HIGH * depth * size
        for row in range(rows[0], rows[1], HIGH):
            some = min(HIGH, rows[1] - row)
            lay(x, first, last, row, some, not turned, place, HIGH)
            for column in range(columns[0], columns[1], wide):
                valid = min(wide, columns[1] - column)
                lay(w, first, last, column, valid, other, right, wide)
                start = bias.ctypes.data + column * size if bias.size else 0
                to = y.ctypes.data + (row - above) * across + column * size
                panel(SLIM, TALL, x, place, right, depth, to, across, start, fresh, rectified, some, valid, right, 0)
