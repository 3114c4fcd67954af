"""The dense layer: BLAS, then one pass for bias and activation; backward one for the slope and the bias gradient."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_KINDS = {"linear": 0, "relu": 1, "sigmoid": 2, "tanh": 3}
_EPILOGUE, _GRADIENT = Compiled("dense", "bias_relu"), Compiled("dense", "gradient")


def _takes_linear(forms: Any, *, activation: str = "linear") -> bool:
    x, kernel, bias = forms
    size = prod(x.shape[:-1]) * kernel.shape[1]
    # exp and tanh stay with NumPy, whose loops are vectorized
    return (
        activation in ("linear", "relu") and x.dtype == kernel.dtype == bias.dtype and size >= LEAST["linear"]
        and size > 0 and available()
    )


def _linear(ctx: Any, outs: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear") -> None:
    y = outs[0].reshape(-1, kernel.shape[1])
    np.matmul(x if x.ndim == 2 else x.reshape(-1, x.shape[-1]), kernel, y)
    _EPILOGUE(y.dtype, y, bias, activation == "relu")


def _takes_gradient(forms: Any, *, activation: str = "linear") -> bool:
    g, y = forms
    size = prod(g.shape)
    return g.dtype == y.dtype and size >= LEAST["linear_gradient"] and size > 0 and available()


def _linear_gradient(ctx: Any, outs: Any, g: Any, y: Any, *, activation: str = "linear") -> None:
    width = y.shape[-1]
    rows = outs[0].reshape(-1, width)
    _GRADIENT(y.dtype, g.reshape(-1, width), y.reshape(-1, width), rows, outs[1], _KINDS[activation])


VARIANTS: dict[str, Kernel] = {
    "linear": Kernel(_linear, dtypes=_DTYPES, supports=_takes_linear),
    "linear_gradient": Kernel(_linear_gradient, dtypes=_DTYPES, supports=_takes_gradient, contiguous=True),
}
