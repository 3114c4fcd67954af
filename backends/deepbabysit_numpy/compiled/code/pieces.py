"""Products of float32 in the matrix registers: operands are copied as blocks of pieces (see `matrix`).

A panel has 32 rows of the left operand, or as many columns of the right one: block after block of what is summed.
What is summed is cut as in `panels`, so that panels stay in the cache. Panels of results that are not all finite are
made once more in vector registers.
"""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.code.matrix import BLOCK, LANES, RESULT, SIDE, multiply, prepare, release, settle, split
from deepbabysit_numpy.compiled.code.panels import rectangle
from deepbabysit_numpy.compiled.jit import exact

_ONE, _TWO = (0,), (0,) * 2
_DEEP = 32  # blocks of what is summed at once
_LINE = 64


@exact
def lay(source: Any, along: Any, turned: Any, begin: Any, end: Any, first: Any, valid: Any, to: Any) -> None:
    """Copy a panel of `valid` rows or columns, from `first` on, and the steps `begin` to `end` of what is summed.

    Arguments:
        along: whether what is summed follows each other in memory.
        turned: whether numbers that follow each other in memory go to rows of their own.
    """
    down = source.strides[0]
    for block in range((end - begin + SIDE - 1) // SIDE):
        step = begin + block * SIDE
        few, more = min(LANES, end - step), end - step - LANES
        for side in range(0, valid, LANES):
            some, place = min(LANES, valid - side), to + block * BLOCK + side * SIDE * 2
            if along:
                at = source.ctypes.data + (first + side) * down + step * 4
                split(_ONE, turned, at, down, LANES * 4, some, some, few, more, place)
            else:
                at = source.ctypes.data + step * down + (first + side) * 4
                split(_ONE, turned, at, down, LANES * down, few, more, some, some, place)


@exact
def _tile(left: Any, right: Any, blocks: Any, source: Any, rows: Any, valid: Any, init: Any, fresh: Any, rectify: Any,
          y: Any, to: Any, ahead: Any) -> Any:
    """Compute the result of two panels; tells whether it is finite."""
    if valid > LANES:
        if rows > LANES:
            multiply(_TWO, _TWO, left, right, blocks, source, ahead)
        else:
            multiply(_TWO, _ONE, left, right, blocks, source, ahead)
    elif rows > LANES:
        multiply(_ONE, _TWO, left, right, blocks, source, ahead)
    else:
        multiply(_ONE, _ONE, left, right, blocks, source, ahead)
    return settle(_TWO, source, rows, valid, init, fresh, rectify, to, y.strides[0])


@exact
def cut(inner: Any) -> Any:
    """Return how many blocks what is summed has, and how often it is cut."""
    count = (inner + SIDE - 1) // SIDE
    return count, (count + _DEEP - 1) // _DEEP


@exact
def right(w: Any, turned: Any, begin: Any, end: Any, room: Any) -> None:
    """Copy some panels of the right operand; each has what is summed from its beginning to its end."""
    columns, inner = w.shape if turned else (w.shape[1], w.shape[0])
    count, _ = cut(inner)
    for number in range(begin, end):
        place = room.ctypes.data + number * count * BLOCK
        lay(w, turned, turned, 0, inner, number * SIDE, min(SIDE, columns - number * SIDE), place)


@exact
def left(x: Any, turned: Any, begin: Any, end: Any, room: Any) -> None:
    """Copy some panels of the left operand: cut by cut, in each panel after panel."""
    rows, inner = (x.shape[1], x.shape[0]) if turned else x.shape
    count, cuts = cut(inner)
    panels = (rows + SIDE - 1) // SIDE
    for number in range(cuts):
        first, last = count * number // cuts, count * (number + 1) // cuts
        for some in range(begin, end):
            to = room.ctypes.data + (first * panels + some * (last - first)) * BLOCK
            valid = min(SIDE, rows - some * SIDE)
            lay(x, not turned, turned, first * SIDE, min(last * SIDE, inner), some * SIDE, valid, to)


@exact
def by_rows(x: Any, turned: Any, w: Any, other: Any, room: Any, place: Any, begin: Any, end: Any, bias: Any,
            rectify: Any, y: Any) -> None:
    """Compute the rows of some panels, `begin` to `end`; y: these rows.

    Arguments:
        turned, other: whether x and w are.
        room: w, as `right` copied it.
        place: memory for a result, and for the rows' left operand.
    """
    rows, columns = y.shape
    inner = x.shape[0] if turned else x.shape[1]
    count, cuts = cut(inner)
    across, bad = y.strides[0], 0
    prepare()
    for number in range(cuts):
        first, last = count * number // cuts, count * (number + 1) // cuts
        depth = last - first
        fresh, rectified = 1 if number == 0 else 0, rectify if number == cuts - 1 else 0
        for some in range(begin, end):
            to = place + RESULT + (some - begin) * depth * BLOCK
            valid = min(SIDE, rows - (some - begin) * SIDE)
            lay(x, not turned, turned, first * SIDE, min(last * SIDE, inner), some * SIDE, valid, to)
        for column in range(0, columns, SIDE):
            panel = room.ctypes.data + (column // SIDE * count + first) * BLOCK
            start = bias.ctypes.data + column * 4 if bias.size else 0
            for some in range(end - begin):
                ahead = panel + count * BLOCK + some * depth * 24 * _LINE
                to = y.ctypes.data + some * SIDE * across + column * 4
                if not _tile(place + RESULT + some * depth * BLOCK, panel, depth, place, min(SIDE, rows - some * SIDE),
                             min(SIDE, columns - column), start, fresh, rectified, y, to, ahead):
                    bad |= 1 << some
    release()
    for some in range(end - begin):
        if bad >> some & 1:
            row = (begin + some) * SIDE
            rectangle(x, turned, w, other, place, (row, min(row + SIDE, begin * SIDE + rows)), (0, columns), bias,
                      rectify, y, begin * SIDE)


@exact
def by_columns(x: Any, other: Any, w: Any, turned: Any, room: Any, place: Any, begin: Any, end: Any, bias: Any,
               rectify: Any, y: Any) -> None:
    """Compute the columns of some panels, `begin` to `end`, and copy the panels of w for it.

    Arguments:
        other, turned: whether x and w are.
        room: x, as `left` copied it.
        place: memory for a result, and for a panel of w.
    """
    rows, columns = y.shape
    inner = w.shape[1] if turned else w.shape[0]
    count, cuts = cut(inner)
    panels = (rows + SIDE - 1) // SIDE
    across = y.strides[0]
    prepare()
    for number in range(cuts):
        first, last = count * number // cuts, count * (number + 1) // cuts
        depth = last - first
        fresh, rectified = 1 if number == 0 else 0, rectify if number == cuts - 1 else 0
        for column in range(begin * SIDE, min(end * SIDE, columns), SIDE):
            valid = min(SIDE, columns - column)
            start = bias.ctypes.data + column * 4 if bias.size else 0
            lay(w, turned, turned, first * SIDE, min(last * SIDE, inner), column, valid, place + RESULT)
            finite = True
            for some in range(panels):
                panel = room.ctypes.data + (first * panels + some * depth) * BLOCK
                to = y.ctypes.data + some * SIDE * across + column * 4
                finite &= _tile(panel, place + RESULT, depth, place, min(SIDE, rows - some * SIDE), valid, start, fresh,
                                rectified, y, to, panel + depth * BLOCK)
            if number == cuts - 1 and not finite:  # what was not before is not now
                release()
                rectangle(x, other, w, turned, place, (0, rows), (column, column + valid), bias, rectify, y, 0)
                prepare()
    release()
