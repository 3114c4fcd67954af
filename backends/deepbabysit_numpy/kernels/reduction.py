"""Reductions with `out=`."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel


def _reduce(ufunc: Any) -> Kernel:
    reduce = ufunc.reduce

    def run(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
        out = outs[0]
        reduce(x, axis=axis, dtype=out.dtype, out=out, keepdims=keepdims)

    return Kernel(run)


def _sum_to(ctx: Any, outs: Any, x: Any, *, shape: tuple[int, ...]) -> None:
    out = outs[0]
    extra = x.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1)
    np.add.reduce(x, axis=axes, out=out.reshape((1,) * extra + shape), keepdims=True)


def _mean(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
    out = outs[0]
    np.add.reduce(x, axis=axis, out=out, keepdims=keepdims)
    np.divide(out, x.size // max(out.size, 1), out)


def _var(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
    out, (centered,) = outs[0], ctx.scratch
    count = x.dtype.type(x.size // max(out.size, 1))
    np.subtract(x, np.add.reduce(x, axis=axis, keepdims=True) / count, centered)
    np.multiply(centered, centered, centered)
    np.add.reduce(centered, axis=axis, out=out, keepdims=keepdims)
    np.divide(out, count, out)


def _logsumexp(ctx: Any, outs: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> None:
    out, (terms,) = outs[0], ctx.scratch
    highest = np.maximum.reduce(x, axis=axis, keepdims=True)
    finite = np.isfinite(highest)
    level = np.where(finite, highest, x.dtype.type(0.0))
    with np.errstate(all="ignore"):
        np.subtract(x, level, terms)
        np.exp(terms, terms)
        total = np.log(np.add.reduce(terms, axis=axis, keepdims=True)) + level
    np.copyto(out, np.where(finite, total, highest).reshape(out.shape))


def _argmax(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
    np.argmax(x, axis=axis, out=outs[0])


def _argmin(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
    np.argmin(x, axis=axis, out=outs[0])


def _cumulative_sum(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
    np.cumsum(x, axis=axis, dtype=outs[0].dtype, out=outs[0])


KERNELS: dict[str, Kernel] = {
    "sum": _reduce(np.add),
    "max": _reduce(np.maximum),
    "min": _reduce(np.minimum),
    "any": _reduce(np.logical_or),
    "all": _reduce(np.logical_and),
    "sum_to": Kernel(_sum_to),
    "mean": Kernel(_mean),
    "var": Kernel(_var, scratch=lambda forms, **attrs: (forms[0],)),
    "logsumexp": Kernel(_logsumexp, scratch=lambda forms, **attrs: (forms[0],)),
    "argmax": Kernel(_argmax),
    "argmin": Kernel(_argmin),
    "cumulative_sum": Kernel(_cumulative_sum),
}
