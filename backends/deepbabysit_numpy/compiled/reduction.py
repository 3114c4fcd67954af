"""Reductions over neighbouring axes, where NumPy's loops are short or not vectorized."""

from __future__ import annotations

import threading
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import normalize_axes
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import LISTENERS, Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels.reduction import KERNELS as PLAIN

_DTYPES = frozenset({"float32", "float64"})
_FLOAT64 = np.dtype(np.float64)
_WIDE = 256  # values: rows of columns are laid side by side until they are so long
_BLOCK = 4096  # values: of so many rows at a time exp is taken
_SUMS, _VARIANCES, _LARGEST, _LOGSUMEXP, _BY_COLUMNS = (
    Compiled("reduction", name) for name in ("sums", "variances", "largest", "logsumexp", "logsumexp_columns")
)


@lru_cache(maxsize=1024)
def _split(shape: Any, axis: Any) -> tuple[int, int, int] | None:
    """Return the lengths before, of and after the reduced axes; None where they are no neighbours."""
    axes = normalize_axes("sum", axis, len(shape))
    if not axes or axes[-1] - axes[0] != len(axes) - 1:
        return None
    first, last = axes[0], axes[-1] + 1
    return prod(shape[:first]), prod(shape[first:last]), prod(shape[last:])


@lru_cache(maxsize=1024)
def _folded(split: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the lengths with several rows side by side."""
    outer, reduced, inner = split
    while inner != 1 and inner < _WIDE and reduced % 2 == 0:
        reduced, inner = reduced // 2, inner * 2
    return outer, reduced, inner


def _takes(forms: Any, *, axis: Any = None, keepdims: bool = False) -> bool:
    shape = forms[0].shape
    size = prod(shape)
    return size >= LEAST["reduction"] and size > 0 and _split(shape, axis) is not None and available()


def _width(forms: Any, axis: Any) -> int:
    split = _split(forms[0].shape, axis)
    assert split is not None
    return _folded(split)[2]


def _scratch_sums(forms: Any, *, axis: Any = None, keepdims: bool = False) -> tuple[Form, ...]:
    width = _width(forms, axis)
    return Form((width,), forms[0].dtype), Form((width,), _FLOAT64)


def _scratch_variances(forms: Any, *, axis: Any = None, keepdims: bool = False) -> tuple[Form, ...]:
    width = _width(forms, axis)
    return Form((width,), forms[0].dtype), Form((width,), forms[0].dtype), Form((width,), _FLOAT64)


def _scratch_largest(forms: Any, *, axis: Any = None, keepdims: bool = False) -> tuple[Form, ...]:
    return (Form((_width(forms, axis),), forms[0].dtype),)


def _views(x: Any, out: Any, axis: Any) -> tuple[Any, Any, int]:
    """Return ``x[outer, reduced, inner]``, ``out[outer, columns]`` and how many values each result is made of."""
    split = _split(x.shape, axis)
    assert split is not None
    return x.reshape(_folded(split)), out.reshape(split[0], split[2]), split[1]


def _by_rows(function: Compiled, blocks: Any, scratch: Any, out: Any, *numbers: float) -> None:
    """Run ``function(blocks, *scratch, out, *numbers)``; programs share sums that lie in memory one after the other."""
    # the others use the scratch space
    count = team.parts_awake(len(blocks), float(blocks.size)) if out.shape[1] == 1 else 1
    if count == 1:
        function(blocks.dtype, blocks, *scratch, out, *numbers)
        return
    parts = [(blocks[i:j], *scratch, out[i:j], *numbers) for i, j in team.ends(len(blocks), count)]
    LISTENERS[threading.get_ident()].shared(function.module, function.name, parts)


def _total(name: str, divides: bool) -> Any:
    plain = PLAIN[name].run

    def run(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
        if not (x.flags.c_contiguous and outs[0].flags.c_contiguous):
            plain(ctx, outs, x, axis=axis, keepdims=keepdims)
            return
        blocks, out, count = _views(x, outs[0], axis)
        _by_rows(_SUMS, blocks, ctx.scratch, out, float(count) if divides else 1.0)

    return run


def _variance(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
    blocks, out, count = _views(x, outs[0], axis)
    _by_rows(_VARIANCES, blocks, ctx.scratch, out, float(count))


def _max(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
    if not (x.flags.c_contiguous and outs[0].flags.c_contiguous):
        PLAIN["max"].run(ctx, outs, x, axis=axis, keepdims=keepdims)
        return
    blocks, out, _ = _views(x, outs[0], axis)
    _by_rows(_LARGEST, blocks, ctx.scratch, out)


def _scratch_powers(forms: Any, *, axis: Any = None, keepdims: bool = False) -> tuple[Form, ...]:
    split = _split(forms[0].shape, axis)
    assert split is not None
    if split[2] == 1:
        return (Form((max(_BLOCK, split[1]),), forms[0].dtype),)
    return _scratch_variances(forms, axis=axis)


def _logsumexp(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
    out = outs[0] if outs[0].flags.c_contiguous else np.empty_like(outs[0], order="C")
    blocks, columns, _ = _views(x, out, axis)
    if columns.shape[1] == 1:
        _LOGSUMEXP(x.dtype, x.reshape(out.size, -1), *ctx.scratch, out.reshape(-1))
    else:
        _BY_COLUMNS(x.dtype, blocks, *ctx.scratch, columns)
    if out is not outs[0]:
        np.copyto(outs[0], out)


def _leading(shape: Any, target: Any) -> tuple[int, ...] | None:
    """Return the axes that `sum_to` reduces where they are the first ones, else None."""
    extra = len(shape) - len(target)
    axes = [*range(extra), *(i + extra for i, n in enumerate(target) if n == 1 and shape[i + extra] != 1)]
    return tuple(axes) if axes == list(range(len(axes))) and axes else None


def _takes_sum_to(forms: Any, *, shape: Any) -> bool:
    size = prod(forms[0].shape)
    return size >= LEAST["reduction"] and size > 0 and _leading(forms[0].shape, shape) is not None and available()


def _sum_to(ctx: Any, outs: Any, x: Any, *, shape: Any) -> None:
    if not (x.flags.c_contiguous and outs[0].flags.c_contiguous):
        PLAIN["sum_to"].run(ctx, outs, x, shape=shape)
        return
    blocks, out, _ = _views(x, outs[0], _leading(x.shape, shape))
    _SUMS(x.dtype, blocks, *ctx.scratch, out, 1.0)


def _scratch_sum_to(forms: Any, *, shape: Any) -> tuple[Form, ...]:
    return _scratch_sums(forms, axis=_leading(forms[0].shape, shape))


VARIANTS: dict[str, Kernel] = {
    "sum": Kernel(_total("sum", False), dtypes=_DTYPES, supports=_takes, scratch=_scratch_sums),
    "mean": Kernel(_total("mean", True), dtypes=_DTYPES, supports=_takes, scratch=_scratch_sums),
    "sum_to": Kernel(_sum_to, dtypes=_DTYPES, supports=_takes_sum_to, scratch=_scratch_sum_to),
    "max": Kernel(_max, dtypes=_DTYPES, supports=_takes, scratch=_scratch_largest),
    "logsumexp": Kernel(_logsumexp, dtypes=_DTYPES, supports=_takes, scratch=_scratch_powers, contiguous=True),
    "var": Kernel(_variance, dtypes=_DTYPES, supports=_takes, scratch=_scratch_variances, contiguous=True),
}
