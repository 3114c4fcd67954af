"""Matrix products by BLAS, into given buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.team import LOAN


def _matmul(ctx: Any, outs: Any, x: Any, y: Any) -> None:
    if LOAN.held:
        LOAN.product()
    np.matmul(x, y, outs[0])


def activate(y: Any, activation: str) -> None:
    """Compute a fused activation in place."""
    if activation == "relu":
        np.maximum(y, 0, out=y)
    elif activation == "tanh":
        np.tanh(y, y)
    elif activation == "sigmoid":
        np.multiply(y, 0.5, y)
        np.tanh(y, y)
        np.multiply(y, 0.5, y)
        np.add(y, 0.5, y)


def _linear(ctx: Any, outs: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear") -> None:
    y = outs[0]
    if LOAN.held:
        LOAN.product()
    if x.ndim == 2:
        np.matmul(x, kernel, y)
    else:
        np.matmul(x.reshape(-1, x.shape[-1]), kernel, y.reshape(-1, y.shape[-1]))
    np.add(y, bias, y)
    activate(y, activation)


def _linear_gradient(ctx: Any, outs: Any, g: Any, y: Any, *, activation: str = "linear") -> None:
    out, by_bias = outs
    # where the gradient comes in the memory of the output, the slope needs memory of its own
    slope = np.empty_like(out) if out is g or np.may_share_memory(out, g) else out
    if activation == "relu":
        if out is not g:
            np.copyto(out, g)
        np.copyto(out, 0, where=np.logical_not(y > 0))
    elif activation == "sigmoid":
        np.subtract(1.0, y, slope)
        np.multiply(slope, y, slope)
        np.multiply(slope, g, out)
    elif activation == "tanh":
        np.multiply(y, y, slope)
        np.subtract(1.0, slope, slope)
        np.multiply(slope, g, out)
    elif out is not g:
        np.copyto(out, g)
    np.add.reduce(out.reshape(-1, out.shape[-1]), axis=0, out=by_bias)


KERNELS: dict[str, Kernel] = {
    "matmul": Kernel(_matmul),
    "linear": Kernel(_linear),
    "linear_gradient": Kernel(_linear_gradient),
}
