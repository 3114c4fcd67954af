"""Matrix products of a small batch with the weights of a dense layer, and with the gradients of its outputs.

Which function computes a product follows from its shapes and from how its operands lie; what none takes BLAS does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import packed, team
from deepbabysit_numpy.compiled.code import registers
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_FORWARD, _GATHER, _BACKWARD, _SLOPES = (
    Compiled("thin", name) for name in ("forward", "gather", "backward", "slopes")
)
SIDE = 48  # of the large matrix, at least: the columns of a tile, which the kernels take for granted
ROWS = 64  # the largest batch: beyond, BLAS' own order of the operands pays


def thin(rows: int, inner: int, columns: int) -> bool:
    """Tell whether a product of so many rows with a matrix (inner, columns), or one of its gradients, is taken."""
    wide = min(inner, columns) >= SIDE and 2.0 * rows * inner * columns >= LEAST["thin"]
    return wide and 0 < rows <= ROWS and available() and rows % registers.tile_rows(3) == 0


def divided(rows: int, inner: int, columns: int) -> int:
    """Return into how many parts a product is divided: the bits depend on it, so it follows from the shapes."""
    work = 2.0 * rows * inner * columns
    return team.parts(max(inner // SIDE, 1), work, LEAST["thin part"])


def _run(function: Compiled, number: int, work: float, *arrays: Any) -> None:
    """Run all parts, by a team where they take longer than waking one."""
    kind = arrays[-1].dtype
    if number > 1 and (team.in_program() or work >= LEAST["thin team"]):
        team.LOAN.take()
        team.TEAM.run(function, kind, number, *arrays)
    else:
        for part in range(number):
            function(kind, part, number, *arrays)


def makes_slopes(x: Any, y: Any, out: Any) -> bool:
    """Tell whether ``x y`` is a product as of a layer's few inputs, turned around, with the gradient of its outputs."""
    (m, k), n = x.shape, y.shape[1]
    return out.flags.c_contiguous and y.flags.c_contiguous and x.T.flags.c_contiguous and thin(k, m, n)


def multiply(
    x: Any, y: Any, out: Any, rooms: tuple[Any, ...], bias: Any = None, rectify: bool = False
) -> bool:
    """Write ``x y`` of matrices of one dtype; `rooms` as `rooms_of` says. Tells whether bias and rectifier are in."""
    (m, k), n = x.shape, y.shape[1]
    work = 2.0 * m * k * n
    if thin(m, k, n) and out.flags.c_contiguous and x.flags.c_contiguous:  # else `rooms` may be another call's
        if y.flags.c_contiguous:
            sums = rooms[0]
            number = len(sums)
            if number == 1:
                _run(_FORWARD, 1, work, x, y, out.reshape(1, m, n))
            else:
                _run(_FORWARD, number, work, x, y, sums)
                _run(_GATHER, number, work, sums, out)
            return False
        if len(rooms) > 1 and y.T.flags.c_contiguous:
            np.copyto(rooms[1], x.T)
            _run(_BACKWARD, divided(m, n, k), work, rooms[1], y.T, out)
            return False
    if makes_slopes(x, y, out):
        _run(_SLOPES, divided(k, m, n), work, x.T, y, out)
        return False
    if many(x, y) and packed.fits(x, y, out, rooms):
        packed.multiply(x, y, out, rooms, bias, rectify)
        return True
    if team.LOAN.held:
        team.LOAN.product()
    np.matmul(x, y, out)
    return False


def many(x: Any, y: Any) -> bool:
    """Tell whether a product of matrices of these shapes is one as in `packed`."""
    (m, k), n = x.shape, y.shape[1]
    return not takes(x, y) and packed.packs(m, k, n)


def rooms_of(x: Any, y: Any, *turned: bool) -> tuple[Form, ...]:
    """Return the scratch space of a product: for the sums of its parts, and for `x` turned around if `y` may be."""
    (m, k), n = x.shape, y.shape[1]
    if not thin(m, k, n):
        return packed.rooms_of(m, k, n, x.dtype) if many(x, y) else ()
    number = divided(m, k, n)
    sums = Form((number, m, n) if number > 1 else (1, 0, 0), x.dtype)
    return (sums, Form((k, m), x.dtype)) if turned else (sums,)


def takes(x: Any, y: Any) -> bool:
    """Tell whether a product of matrices of these shapes is taken, if they lie as it needs."""
    (m, k), n = x.shape, y.shape[1]
    return thin(m, k, n) or thin(k, m, n)


def _takes_matmul(forms: Any) -> bool:
    x, y = forms
    return len(x.shape) == len(y.shape) == 2 and x.dtype == y.dtype and (takes(x, y) or many(x, y))


def _rooms(forms: Any) -> tuple[Form, ...]:
    return rooms_of(*forms, True)


def _matmul(ctx: Any, outs: Any, x: Any, y: Any) -> None:
    multiply(x, y, outs[0], ctx.scratch)


VARIANTS: dict[str, Kernel] = {"matmul": Kernel(_matmul, scratch=_rooms, dtypes=_DTYPES, supports=_takes_matmul)}
