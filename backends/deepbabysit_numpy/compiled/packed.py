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

RIGHT, _PRODUCT = Compiled("packed", "right"), Compiled("packed", "product")
NONE = {np.dtype(kind): np.zeros(0, kind) for kind in (np.float32, np.float64)}  # in place of a bias
_BLOCK, _DEEP = 8, 1024  # as in the code
_MOST = 1 << 26  # bytes of the right operand's copy
_LINE = 64


def _wide(itemsize: int) -> int:
    """Return how many columns a panel has."""
    return 2 * registers.register_bytes() // itemsize


def high() -> int:
    """Return how many rows a panel has."""
    return registers.tall_rows()


def packs(rows: int, inner: int, columns: int) -> bool:
    """Tell whether a product of (rows, inner) with (inner, columns) pays two copies."""
    work = 2.0 * rows * inner * columns
    return work >= LEAST["packed"] and inner * max(columns, 16) * 8 <= _MOST and available()


def _own(inner: int) -> int:
    """Return how many elements of memory a part needs for itself."""
    return (_BLOCK * registers.tall_rows() * min(inner, _DEEP) // _LINE + 2) * _LINE


def rooms_of(rows: int, inner: int, columns: int, dtype: Any) -> tuple[Form, ...]:
    """Return the scratch space of a product."""
    wide = _wide(dtype.itemsize)
    count = divided(rows, inner, columns)
    return Form((-(-columns // wide) * wide * inner,), dtype), Form((count * _own(inner),), dtype)


def divided(rows: int, inner: int, columns: int) -> int:
    """Return into how many parts a product is divided."""
    return team.parts(-(-rows // registers.tall_rows()), 2.0 * rows * inner * columns, LEAST["packed part"])


def lies(a: Any) -> bool:
    """Tell whether a matrix lies as it needs, one way or the other."""
    return bool(a.flags.c_contiguous or a.T.flags.c_contiguous)


def fits(x: Any, y: Any, out: Any, rooms: tuple[Any, ...]) -> bool:
    """Tell whether a product, of a size as in `packs`, can be computed in this memory."""
    if len(rooms) != 2 or not (out.flags.c_contiguous and lies(x) and lies(y)):
        return False
    (m, k), n = x.shape, y.shape[1]
    return rooms[0].shape == rooms_of(m, k, n, out.dtype)[0].shape and rooms[1].size >= _own(k)


def operands(x: Any, y: Any, rooms: tuple[Any, ...]) -> tuple[int, tuple[Any, ...], tuple[Any, ...]]:
    """Return how many parts there are, what `right` takes, and how the functions that multiply begin."""
    (m, k), n = x.shape, y.shape[1]
    count = min(divided(m, k, n), rooms[1].size // _own(k))
    left = (x, 0) if x.flags.c_contiguous else (x.T, 1)
    right = (y, 0) if y.flags.c_contiguous else (y.T, 1)
    return count, (*right, rooms[0]), (*left, rooms[0], rooms[1])


def multiply(x: Any, y: Any, out: Any, rooms: tuple[Any, ...], bias: Any, rectify: bool) -> None:
    """Write ``x y``, plus a bias if there is one, rectified if that is asked for."""
    count, right, left = operands(x, y, rooms)
    bias = NONE[out.dtype] if bias is None else bias
    together(RIGHT, count, 2.0 * x.size * y.shape[1], *right)
    together(_PRODUCT, count, 2.0 * x.size * y.shape[1], *left, bias, int(rectify), out)


def together(function: Compiled, count: int, work: float, *arguments: Any) -> None:
    """Run all parts, by a team where they take longer than waking one."""
    kind = arguments[0].dtype
    if count > 1 and (team.in_program() or work >= LEAST["packed team"]):
        team.LOAN.take()
        team.TEAM.run(function, kind, count, *arguments)
    else:
        function(kind, 0, 1, *arguments)
