"""Matrix products of many rows: both operands are copied into the order in which registers take them, then multiplied.

The right operand is copied once, as panels of `WIDE` columns; the left one by whoever needs it, block by block, as
panels of `HIGH` rows. A tile of the result stays in registers while the loop runs over what is summed: all of it, or
blocks of at most `DEEP` that follow each other, cut by the shapes alone. So every sum has one order, whoever computes
it and however rows are divided among a team.

An operand that is `turned` lies the other way round: (columns, inner) on the right, (inner, rows) on the left.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.dense import slopes
from deepbabysit_numpy.compiled.code.registers import register_bytes, tall_rows
from deepbabysit_numpy.compiled.code.rules import adam
from deepbabysit_numpy.compiled.code.tiles import beside, panel, turn
from deepbabysit_numpy.compiled.jit import exact

_BYTES = register_bytes()
_SLIM, _NARROW, _TALL = (0,) * 2, (0,), (0,) * tall_rows()
_HIGH = len(_TALL)
_DEEP = 1024  # of what is summed at once
_LINE = 64
_BLOCK = 8  # panels of rows that are computed together: they stay in the second cache with one of columns


@exact
def _share(part: Any, parts: Any, count: Any) -> Any:
    return count * part // parts, count * (part + 1) // parts


@exact
def _lay(source: Any, first: Any, last: Any, begin: Any, valid: Any, turned: Any, to: Any, high: Any) -> None:
    """Copy columns `begin` to `begin + valid` of some rows into a panel of `high` columns, row after row.

    `turned`: the rows are columns of `source`.
    """
    size = source.itemsize
    lanes = _BYTES // size
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
def right(part: Any, parts: Any, w: Any, turned: Any, room: Any) -> None:
    """Copy the right operand: panel after panel, `room` has one element for each of theirs."""
    columns, inner = w.shape if turned else (w.shape[1], w.shape[0])
    wide = len(_SLIM) * _BYTES // w.itemsize
    begin, end = _share(part, parts, (columns + wide - 1) // wide)
    for number in range(begin, end):
        place = room.ctypes.data + number * inner * wide * w.itemsize
        _lay(w, 0, inner, number * wide, min(wide, columns - number * wide), turned, place, wide)


@exact
def _block(x: Any, turned: Any, room: Any, place: Any, begin: Any, end: Any, bias: Any, rectify: Any, y: Any) -> None:
    """Compute the rows of some panels, `begin` to `end`; y: these rows; `place`: memory for their left operand."""
    rows, columns = y.shape
    inner = x.shape[0] if turned else x.shape[1]
    size, across = x.itemsize, y.strides[0]
    lane = _BYTES // size
    wide = len(_SLIM) * lane
    blocks = (inner + _DEEP - 1) // _DEEP
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        depth = last - first
        fresh, rectified = 1 if block == 0 else 0, rectify if block == blocks - 1 else 0
        for number in range(begin, end):
            row = (number - begin) * _HIGH
            _lay(x, first, last, number * _HIGH, min(_HIGH, rows - row), not turned, place + row * depth * size, _HIGH)
        for column in range(0, columns, wide):
            valid = min(wide, columns - column)
            w = room.ctypes.data + (column * inner + first * wide) * size
            left = place
            start = bias.ctypes.data + column * size if bias.size else 0
            soon = room.ctypes.data + ((column + wide) * inner + first * wide) * size
            for row in range(0, rows, _HIGH):
                ahead = soon + row // _HIGH * depth * _LINE if row < 2 * _HIGH else left
                some = min(_HIGH, rows - row)
                left, to = place + row * depth * size, y.ctypes.data + row * across + column * size
                if valid > lane:
                    panel(_SLIM, _TALL, x, left, w, depth, to, across, start, fresh, rectified, some, valid,
                          ahead, _LINE)
                else:
                    panel(_NARROW, _TALL, x, left, w, depth, to, across, start, fresh, rectified, some, valid,
                          ahead, _LINE)


@exact
def _place(part: Any, parts: Any, rooms: Any) -> Any:
    """Return where a part's own memory begins: on a cache line."""
    return rooms.ctypes.data + rooms.size // parts // 64 * 64 * part * rooms.itemsize


@exact
def product(part: Any, parts: Any, x: Any, turned: Any, room: Any, rooms: Any, bias: Any, rectify: Any, y: Any) -> None:
    """``y = x w + bias`` (no bias where its size is 0), `rectify` not 0: numbers below 0 become 0.

    Arguments:
        room: w, as `right` copied it.
        rooms: memory for the parts' own copies, as much for each.
    """
    begin, end = _share(part, parts, (y.shape[0] + _HIGH - 1) // _HIGH)
    place = _place(part, parts, rooms)
    for number in range(begin, end, _BLOCK):
        last = min(number + _BLOCK, end)
        _block(x, turned, room, place, number, last, bias, rectify, y[number * _HIGH : last * _HIGH])


@exact
def left(part: Any, parts: Any, x: Any, turned: Any, room: Any) -> None:
    """Copy the left operand: block after block of what is summed, in each panel after panel."""
    rows, inner = (x.shape[1], x.shape[0]) if turned else x.shape
    panels, blocks = (rows + _HIGH - 1) // _HIGH, (inner + _DEEP - 1) // _DEEP
    begin, end = _share(part, parts, panels)
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        for number in range(begin, end):
            to = room.ctypes.data + (first * panels + number * (last - first)) * _HIGH * x.itemsize
            _lay(x, first, last, number * _HIGH, min(_HIGH, rows - number * _HIGH), not turned, to, _HIGH)


@exact
def columns(part: Any, parts: Any, w: Any, turned: Any, room: Any, rooms: Any, bias: Any, rectify: Any, y: Any) -> None:
    """Do what `product` does where the right operand is the large one: everybody copies panels of it just before use.

    Arguments:
        room: x, as `left` copied it.
        rooms: memory for the parts' own copies, as much for each.
    """
    rows, width = y.shape
    inner = w.shape[1] if turned else w.shape[0]
    size, across = w.itemsize, y.strides[0]
    lane = _BYTES // size
    wide = len(_SLIM) * lane
    place = _place(part, parts, rooms)
    panels, blocks = (rows + _HIGH - 1) // _HIGH, (inner + _DEEP - 1) // _DEEP
    begin, end = _share(part, parts, (width + wide - 1) // wide)
    for block in range(blocks):
        first, last = inner * block // blocks, inner * (block + 1) // blocks
        depth = last - first
        fresh, rectified = 1 if block == 0 else 0, rectify if block == blocks - 1 else 0
        for number in range(begin, end):
            column = number * wide
            valid = min(wide, width - column)
            _lay(w, first, last, column, valid, turned, place, wide)
            start = bias.ctypes.data + column * size if bias.size else 0
            row, place_in_row = (column + wide, first) if turned else (first, column + wide)
            soon = w.ctypes.data + row * w.strides[0] + place_in_row * size
            for some in range(panels):
                # the next panel: its lines one after the other, or the first and the second line of each row
                ahead, step = soon + some * (depth if turned else 1) * _LINE, _LINE if turned else w.strides[0]
                x = room.ctypes.data + (first * panels + some * depth) * _HIGH * size
                if some >= 2:
                    ahead, step = x, _LINE
                to, there = y.ctypes.data + some * _HIGH * across + column * size, min(_HIGH, rows - some * _HIGH)
                if valid > lane:
                    panel(_SLIM, _TALL, w, x, place, depth, to, across, start, fresh, rectified, there, valid, ahead,
                          step)
                else:
                    panel(_NARROW, _TALL, w, x, place, depth, to, across, start, fresh, rectified, there, valid, ahead,
                          step)


@exact
def product_slopes(part: Any, parts: Any, x: Any, turned: Any, room: Any, rooms: Any, bias: Any, g: Any, y: Any,
                   out: Any, sums: Any, kind: Any) -> None:
    """Do what `product` does with `g`, and `dense.slopes` with it, block by block: a row of `sums` for each panel."""
    begin, end = _share(part, parts, sums.shape[0])
    place = _place(part, parts, rooms)
    for number in range(begin, end, _BLOCK):
        last = min(number + _BLOCK, end)
        _block(x, turned, room, place, number, last, bias, 0, g[number * _HIGH : last * _HIGH])
        for panel_number in range(number, last):
            a, b = panel_number * _HIGH, min((panel_number + 1) * _HIGH, g.shape[0])
            slopes(g[a:b], y[a:b], out[a:b], sums[panel_number], kind)


@exact
def product_adam(part: Any, parts: Any, x: Any, turned: Any, room: Any, rooms: Any, bias: Any, out: Any, keep: Any,
                 plan: Any, w: Any, states: Any, own: Any) -> None:
    """Do what `product` and `rules.adam` do, block by block, as `thin.slopes_adam` does."""
    rows, columns = out.shape
    begin, end = _share(part, parts, (rows + _HIGH - 1) // _HIGH)
    place = _place(part, parts, rooms)
    written = keep[0] != 0
    waiting = np.empty((1 if written else _BLOCK * _HIGH, columns), w.dtype)
    for number in range(begin, end, _BLOCK):
        last = min(number + _BLOCK, end)
        first, after = number * _HIGH, min(last * _HIGH, rows)
        block = out[first:after] if written else waiting[: after - first]
        _block(x, turned, room, place, number, last, bias, 0, block)
        a, b = first * columns, after * columns
        adam(0, 1, plan, w[a:b], block.reshape((after - first) * columns), (states[0][a:b], states[1][a:b]), own)
