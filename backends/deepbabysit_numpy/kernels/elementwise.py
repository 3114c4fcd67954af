"""Elementwise kernels: NumPy's ufuncs with `out=`, and a few made of several passes over a buffer.

NumPy's floating-point warnings are left to whoever calls: `numpy.errstate` costs more than a small operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel


def _unary(ufunc: Any) -> Kernel:
    def run(ctx: Any, outs: Any, x: Any) -> None:
        ufunc(x, outs[0])

    return Kernel(run)


def _binary(ufunc: Any) -> Kernel:
    def run(ctx: Any, outs: Any, x: Any, y: Any) -> None:
        ufunc(x, y, out=outs[0])

    return Kernel(run)


def _where(ctx: Any, outs: Any, condition: Any, x: Any, y: Any) -> None:
    # by memory, not by identity: a replay hands over other array objects on the same memory
    out = outs[0]
    if np.may_share_memory(out, x):
        if out is not x:
            np.copyto(out, x)
        np.copyto(out, y, where=np.logical_not(condition))
        return
    if out is not y:
        np.copyto(out, y)
    np.copyto(out, x, where=condition)


def _copy(ctx: Any, outs: Any, x: Any) -> None:
    np.copyto(outs[0], x)


def _astype(ctx: Any, outs: Any, x: Any, *, dtype: Any) -> None:
    np.copyto(outs[0], x, casting="unsafe")


# a Python number costs a ufunc twice the time of an array without axes
_ZERO = {dtype: np.zeros((), dtype) for dtype in "efdg"}


def _relu(ctx: Any, outs: Any, x: Any) -> None:
    np.maximum(x, _ZERO[x.dtype.char], out=outs[0])


def _relu_gradient(ctx: Any, outs: Any, g: Any, y: Any) -> None:
    out = outs[0]
    if out is not g:
        np.copyto(out, g)
    np.copyto(out, 0, where=np.logical_not(y > 0))  # not a product: 0 times an infinite gradient is NaN


def _sigmoid(ctx: Any, outs: Any, x: Any) -> None:
    y = outs[0]
    np.multiply(x, 0.5, y)
    np.tanh(y, y)
    np.multiply(y, 0.5, y)
    np.add(y, 0.5, y)


def _like_output(forms: Any, **attrs: Any) -> Any:
    return (forms[1],)


def _sigmoid_gradient(ctx: Any, outs: Any, g: Any, y: Any) -> None:
    slope = ctx.scratch[0]
    np.subtract(1.0, y, slope)
    np.multiply(slope, y, slope)
    np.multiply(slope, g, outs[0])


def _tanh_gradient(ctx: Any, outs: Any, g: Any, y: Any) -> None:
    slope = ctx.scratch[0]
    np.multiply(y, y, slope)
    np.subtract(1.0, slope, slope)
    np.multiply(slope, g, outs[0])


def _softmax(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
    y = outs[0]
    np.subtract(x, x.max(axis=axis, keepdims=True), y)
    np.exp(y, y)
    np.divide(y, y.sum(axis=axis, keepdims=True), y)


def _log_softmax(ctx: Any, outs: Any, x: Any, *, axis: int = -1) -> None:
    y = outs[0]
    np.subtract(x, x.max(axis=axis, keepdims=True), y)
    np.subtract(y, np.log(np.exp(y).sum(axis=axis, keepdims=True)), y)


def _softmax_gradient(ctx: Any, outs: Any, g: Any, y: Any, *, axis: int = -1) -> None:
    weighted = ctx.scratch[0]
    np.multiply(g, y, weighted)
    np.subtract(g, weighted.sum(axis=axis, keepdims=True), weighted)
    np.multiply(weighted, y, outs[0])


def _log_softmax_gradient(ctx: Any, outs: Any, g: Any, y: Any, *, axis: int = -1) -> None:
    powers = ctx.scratch[0]
    np.exp(y, powers)
    np.multiply(powers, g.sum(axis=axis, keepdims=True), powers)
    np.subtract(g, powers, outs[0])


KERNELS: dict[str, Kernel] = {
    **{
        name: _unary(getattr(np, name))
        for name in (
            "negative", "absolute", "sign", "floor", "tanh", "isfinite", "isnan", "logical_not", "sin", "cos", "exp",
            "expm1", "log", "log1p", "sqrt",
        )
    },
    **{
        name: _binary(getattr(np, name))
        for name in (
            "add", "subtract", "multiply", "maximum", "minimum", "equal", "not_equal", "less", "less_equal",
            "greater", "greater_equal", "logical_and", "logical_or", "divide", "power",
        )
    },
    "where": Kernel(_where),
    "copy": Kernel(_copy),
    "astype": Kernel(_astype),
    "relu": Kernel(_relu),
    "relu_gradient": Kernel(_relu_gradient),
    "sigmoid": Kernel(_sigmoid),
    "softmax": Kernel(_softmax),
    "log_softmax": Kernel(_log_softmax),
    "sigmoid_gradient": Kernel(_sigmoid_gradient, scratch=_like_output),
    "tanh_gradient": Kernel(_tanh_gradient, scratch=_like_output),
    "softmax_gradient": Kernel(_softmax_gradient, scratch=_like_output),
    "log_softmax_gradient": Kernel(_log_softmax_gradient, scratch=_like_output),
}
