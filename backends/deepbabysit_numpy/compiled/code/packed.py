"""Matrix products of many rows: both operands are copied into the order in which registers take them, then multiplied.

The right operand is copied once, as panels of columns; the left one by whoever needs it, block by block, as panels of
rows. So every sum has one order, whoever computes it and however rows are divided among a team.

`high` says how many rows a panel has, and so which registers multiply: `panels.HIGH` of them in vector registers,
`matrix.SIDE` (float32 only) in matrix registers. An operand that is `turned` lies the other way round: (columns, inner)
on the right, (inner, rows) on the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code import pieces
from deepbabysit_numpy.compiled.code.dense import slopes
from deepbabysit_numpy.compiled.code.matrix import SIDE
from deepbabysit_numpy.compiled.code.panels import BYTES, DEEP, HIGH, NARROW, SLIM, TALL, by_panels, lay, share
from deepbabysit_numpy.compiled.code.registers import has_matrix_registers
from deepbabysit_numpy.compiled.code.rules import adam
from deepbabysit_numpy.compiled.code.tiles import panel
from deepbabysit_numpy.compiled.jit import exact

_LINE = 64
_BLOCK, _WIDER = 8, 4  # panels of rows that are computed together: they stay in the second cache with one of columns
_MATRIX = has_matrix_registers()  # asked by itself: where it is False, no more of it is compiled


@exact
def right(part: Any, parts: Any, high: Any, w: Any, turned: Any, room: Any) -> None:
    """Copy the right operand: panel after panel; pieces take one and a half times its memory."""
    columns, inner = w.shape if turned else (w.shape[1], w.shape[0])
    if _MATRIX:  # noqa: SIM102
        if high == SIDE:
            begin, end = share(part, parts, (columns + SIDE - 1) // SIDE)
            pieces.right(w, turned, begin, end, room)
            return
    wide = len(SLIM) * BYTES // w.itemsize
    begin, end = share(part, parts, (columns + wide - 1) // wide)
    for number in range(begin, end):
        place = room.ctypes.data + number * inner * wide * w.itemsize
        lay(w, 0, inner, number * wide, min(wide, columns - number * wide), turned, place, wide)


@exact
def _block(high: Any, x: Any, turned: Any, w: Any, other: Any, room: Any, place: Any, begin: Any, end: Any, bias: Any,
           rectify: Any, y: Any) -> None:
    """Compute the rows of some panels, `begin` to `end`; y: these rows; `place`: memory for their left operand."""
    if _MATRIX:  # noqa: SIM102
        if high == SIDE:
            pieces.by_rows(x, turned, w, other, room, place, begin, end, bias, rectify, y)
            return
    by_panels(x, turned, room, place, begin, end, bias, rectify, y)


@exact
def _many(high: Any) -> Any:
    return _WIDER if high == SIDE else _BLOCK


@exact
def _place(part: Any, parts: Any, rooms: Any) -> Any:
    """Return where a part's own memory begins: on a cache line."""
    return rooms.ctypes.data + rooms.size // parts // 64 * 64 * part * rooms.itemsize


@exact
def product(part: Any, parts: Any, high: Any, x: Any, turned: Any, w: Any, other: Any, room: Any, rooms: Any, bias: Any,
            rectify: Any, y: Any) -> None:
    """``y = x w + bias`` (no bias where its size is 0), `rectify` not 0: numbers below 0 become 0.

    Arguments:
        room: w, as `right` copied it.
        rooms: memory for the parts' own copies, as much for each.
    """
    begin, end = share(part, parts, (y.shape[0] + high - 1) // high)
    place, many = _place(part, parts, rooms), _many(high)
    for number in range(begin, end, many):
        last = min(number + many, end)
        _block(high, x, turned, w, other, room, place, number, last, bias, rectify, y[number * high : last * high])


@exact
def left(part: Any, parts: Any, high: Any, x: Any, turned: Any, room: Any) -> None:
    """Copy the left operand: block after block of what is summed, in each panel after panel."""
    rows, inner = (x.shape[1], x.shape[0]) if turned else x.shape
    if _MATRIX:  # noqa: SIM102
        if high == SIDE:
            begin, end = share(part, parts, (rows + SIDE - 1) // SIDE)
            pieces.left(x, turned, begin, end, room)
            return
    panels, blocks = (rows + HIGH - 1) // HIGH, (inner + DEEP - 1) // DEEP
    begin, end = share(part, parts, panels)
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        for number in range(begin, end):
            to = room.ctypes.data + (first * panels + number * (last - first)) * HIGH * x.itemsize
            lay(x, first, last, number * HIGH, min(HIGH, rows - number * HIGH), not turned, to, HIGH)


@exact
def columns(part: Any, parts: Any, high: Any, w: Any, turned: Any, x: Any, other: Any, room: Any, rooms: Any, bias: Any,
            rectify: Any, y: Any) -> None:
    """Do what `product` does where the right operand is the large one: everybody copies panels of it just before use.

    Arguments:
        room: x, as `left` copied it.
        rooms: memory for the parts' own copies, as much for each.
    """
    rows, width = y.shape
    inner = w.shape[1] if turned else w.shape[0]
    size, across = w.itemsize, y.strides[0]
    lane = BYTES // size
    wide = len(SLIM) * lane
    place = _place(part, parts, rooms)
    if _MATRIX:  # noqa: SIM102
        if high == SIDE:
            begin, end = share(part, parts, (width + SIDE - 1) // SIDE)
            pieces.by_columns(x, other, w, turned, room, place, begin, end, bias, rectify, y)
            return
    panels, blocks = (rows + HIGH - 1) // HIGH, (inner + DEEP - 1) // DEEP
    begin, end = share(part, parts, (width + wide - 1) // wide)
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        depth = last - first
        fresh, rectified = 1 if block == 0 else 0, rectify if block == blocks - 1 else 0
        for number in range(begin, end):
            column = number * wide
            valid = min(wide, width - column)
            lay(w, first, last, column, valid, turned, place, wide)
            start = bias.ctypes.data + column * size if bias.size else 0
            row, place_in_row = (column + wide, first) if turned else (first, column + wide)
            soon = w.ctypes.data + row * w.strides[0] + place_in_row * size
            for some in range(panels):
                # the next panel: its lines one after the other, or the first and the second line of each row
                ahead, step = soon + some * (depth if turned else 1) * _LINE, _LINE if turned else w.strides[0]
                left = room.ctypes.data + (first * panels + some * depth) * HIGH * size
                if some >= 2:
                    ahead, step = left, _LINE
                to, there = y.ctypes.data + some * HIGH * across + column * size, min(HIGH, rows - some * HIGH)
                if valid > lane:
                    panel(SLIM, TALL, w, left, place, depth, to, across, start, fresh, rectified, there, valid, ahead,
                          step)
                else:
                    panel(NARROW, TALL, w, left, place, depth, to, across, start, fresh, rectified, there, valid, ahead,
                          step)


@exact
def product_slopes(part: Any, parts: Any, high: Any, x: Any, turned: Any, w: Any, other: Any, room: Any, rooms: Any,
                   bias: Any, g: Any, y: Any, out: Any, sums: Any, kind: Any) -> None:
    """Do what `product` does with `g`, and `dense.slopes` with it, block by block: a row of `sums` for each panel."""
    begin, end = share(part, parts, sums.shape[0])
    place, many = _place(part, parts, rooms), _many(high)
    for number in range(begin, end, many):
        last = min(number + many, end)
        _block(high, x, turned, w, other, room, place, number, last, bias, 0, g[number * high : last * high])
        for panel_number in range(number, last):
            a, b = panel_number * high, min((panel_number + 1) * high, g.shape[0])
            slopes(g[a:b], y[a:b], out[a:b], sums[panel_number], kind)


@exact
def product_adam(part: Any, parts: Any, high: Any, x: Any, turned: Any, g: Any, other: Any, room: Any, rooms: Any,
                 bias: Any, out: Any, keep: Any, plan: Any, w: Any, states: Any, own: Any) -> None:
    """Do what `product` and `rules.adam` do, block by block, as `thin.slopes_adam` does."""
    rows, columns = out.shape
    begin, end = share(part, parts, (rows + high - 1) // high)
    place, many = _place(part, parts, rooms), _many(high)
    written = keep[0] != 0
    waiting = np.empty((1 if written else many * high, columns), w.dtype)
    for number in range(begin, end, many):
        last = min(number + many, end)
        first, after = number * high, min(last * high, rows)
        block = out[first:after] if written else waiting[: after - first]
        _block(high, x, turned, g, other, room, place, number, last, bias, 0, block)
        a, b = first * columns, after * columns
        adam(0, 1, plan, w[a:b], block.reshape((after - first) * columns), (states[0][a:b], states[1][a:b]), own)
