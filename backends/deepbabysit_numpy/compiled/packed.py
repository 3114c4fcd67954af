"""Matrix products of many rows, with a bias and a rectifier where they are wanted: instead of those of BLAS.

The bits of a product follow from its shapes, not from the number of threads: it may be divided as suits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.code import registers
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_RIGHT, _PRODUCT, _LEFT, _COLUMNS = (Compiled("packed", name) for name in ("right", "product", "left", "columns"))
NONE = {np.dtype(kind): np.zeros(0, kind) for kind in (np.float32, np.float64)}  # in place of a bias
_DEEP = 1024  # as in the code
_BLOCK, _WIDER = 8, 4
_SIDE, _PIECES, _RESULT = 32, 1536, 1024  # matrix registers: rows of a panel, elements of a block and of a result
_MOST = 1 << 26  # bytes of the right operand's copy
_LINE = 64
_LARGE, _LARGE_AS_PIECES = 1 << 19, 1 << 23  # bytes of a right operand
_CACHED = 1 << 20  # bytes of a left one that stays in the second cache


def tiled(itemsize: int) -> bool:
    """Tell whether matrix registers multiply."""
    return itemsize == 4 and registers.matrix_registers()


def high(itemsize: int) -> int:
    """Return how many rows a panel has."""
    return _SIDE if tiled(itemsize) else registers.tall_rows()


def packs(rows: int, inner: int, columns: int) -> bool:
    """Tell whether a product of (rows, inner) with (inner, columns) pays two copies."""
    work = 2.0 * rows * inner * columns
    return work > 0 and work >= LEAST["packed"] and inner * max(columns, 16) * 8 <= _MOST and available()


def by_columns(rows: int, inner: int, columns: int, itemsize: int) -> bool:
    """Tell whether the left operand is copied once, and the right one by who needs it: a large one, for few rows."""
    large = _LARGE_AS_PIECES if tiled(itemsize) else _LARGE
    return inner * columns * itemsize >= large and rows * min(inner, _DEEP) * itemsize <= _CACHED


def _sizes(rows: int, inner: int, columns: int, itemsize: int) -> tuple[int, int, int]:
    """Return elements of memory: for what all share, and for each part; and into how many parts it can be divided."""
    few = by_columns(rows, inner, columns, itemsize)
    tall, deep = high(itemsize), min(inner, _DEEP)
    if tiled(itemsize):
        panels, broad = -(-rows // tall), -(-columns // tall)
        shared = (panels if few else broad) * -(-inner // tall) * _PIECES
        own = (1 if few else _WIDER) * -(-deep // tall) * _PIECES + _RESULT
    else:
        wide = 2 * registers.register_bytes() // itemsize
        panels, broad = -(-rows // tall), -(-columns // wide)
        shared, own = (panels * tall, wide * deep) if few else (broad * wide, _BLOCK * tall * deep)
        shared *= inner
    return shared, (own // _LINE + 2) * _LINE, broad if few else panels


def rooms_of(rows: int, inner: int, columns: int, dtype: Any) -> tuple[Form, ...]:
    """Return the scratch space of a product."""
    shared, own, _ = _sizes(rows, inner, columns, dtype.itemsize)
    return Form((shared,), dtype), Form((_divided(rows, inner, columns, dtype.itemsize) * own,), dtype)


def _divided(rows: int, inner: int, columns: int, itemsize: int) -> int:
    """Return into how many parts a product is divided."""
    most = _sizes(rows, inner, columns, itemsize)[2]
    return team.parts(most, 2.0 * rows * inner * columns, LEAST["packed part"])


def lies(a: Any) -> bool:
    """Tell whether a matrix lies as it needs, one way or the other."""
    return bool(a.flags.c_contiguous or a.T.flags.c_contiguous)


def fits(x: Any, y: Any, out: Any, rooms: tuple[Any, ...]) -> bool:
    """Tell whether a product, of a size as in `packs`, can be computed in this memory."""
    if len(rooms) != 2 or not (out.flags.c_contiguous and lies(x) and lies(y)):
        return False
    (m, k), n = x.shape, y.shape[1]
    shared, own, _ = _sizes(m, k, n, out.itemsize)
    return rooms[0].shape == (shared,) and rooms[1].size >= own


def operands(x: Any, y: Any, rooms: tuple[Any, ...]) -> tuple[int, tuple[Any, ...], tuple[Any, ...]]:
    """Return how many parts there are, what the copy for all takes, and how the functions that multiply begin."""
    (m, k), n = x.shape, y.shape[1]
    count = min(_divided(m, k, n, x.itemsize), rooms[1].size // _sizes(m, k, n, x.itemsize)[1])
    left = (x, 0) if x.flags.c_contiguous else (x.T, 1)
    right = (y, 0) if y.flags.c_contiguous else (y.T, 1)
    first, second = (left, right) if by_columns(m, k, n, x.itemsize) else (right, left)
    panel = high(x.itemsize)
    return count, (panel, *first, rooms[0]), (panel, *second, *first, *rooms)


def multiply(x: Any, y: Any, out: Any, rooms: tuple[Any, ...], bias: Any, rectify: bool) -> None:
    """Write ``x y``, plus a bias if there is one, rectified if that is asked for."""
    count, copied, other = operands(x, y, rooms)
    bias = NONE[out.dtype] if bias is None else bias
    (m, k), n = x.shape, y.shape[1]
    columns, work = by_columns(m, k, n, x.itemsize), 2.0 * m * k * n
    _together(_LEFT if columns else _RIGHT, count, work, *copied)
    _together(_COLUMNS if columns else _PRODUCT, count, work, *other, bias, int(rectify), out)


def _together(function: Compiled, count: int, work: float, *arguments: Any) -> None:
    """Run all parts, by a team where they take longer than waking one."""
    kind = arguments[1].dtype
    if count > 1 and (team.in_program() or work >= LEAST["packed team"]):
        team.LOAN.take()
        team.TEAM.run(function, kind, count, *arguments)
    else:
        function(kind, 0, 1, *arguments)
