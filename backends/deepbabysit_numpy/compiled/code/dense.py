"""Around the dense layer's products: bias and activation in one pass, and their gradients in one."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.mathematics import sigmoid, tanh
from deepbabysit_numpy.compiled.jit import exact, jit

_BLOCK = 4096  # elements: they stay in the first cache


@jit
def bias_relu(y: Any, bias: Any, rectify: Any) -> None:
    """``y = max(y + bias, 0)``, or without the maximum; NaN stays."""
    zero = y.dtype.type(0.0)
    rows, width = y.shape
    if rectify:
        for i in range(rows):
            for j in range(width):
                v = y[i, j] + bias[j]
                y[i, j] = zero if v <= zero else v
    else:
        for i in range(rows):
            for j in range(width):
                y[i, j] += bias[j]


@jit
def _biased(y: Any, bias: Any, begin: Any, end: Any) -> Any:
    """Add the bias to some rows; returns them as one axis: no loop over them is too short to be vectorized."""
    width = bias.size
    for i in range(begin, end):
        for j in range(width):
            y[i, j] += bias[j]
    return y[begin:end].reshape((end - begin) * width)


@jit
def bias_sigmoid(y: Any, bias: Any) -> None:
    """``y = sigmoid(y + bias)``."""
    rows, step = y.shape[0], max(_BLOCK // bias.size, 1)
    for begin in range(0, rows, step):
        part = _biased(y, bias, begin, min(begin + step, rows))
        for k in range(part.size):
            part[k] = sigmoid(part[k])


@jit
def bias_tanh(y: Any, bias: Any) -> None:
    """``y = tanh(y + bias)``."""
    rows, step = y.shape[0], max(_BLOCK // bias.size, 1)
    for begin in range(0, rows, step):
        part = _biased(y, bias, begin, min(begin + step, rows))
        for k in range(part.size):
            part[k] = tanh(part[k])


@exact
def slopes(g: Any, y: Any, out: Any, total: Any, kind: Any) -> None:
    """``out = g a'(y)`` and its sum over some rows; kinds: 0 linear, 1 relu, 2 sigmoid, 3 tanh."""
    real = y.dtype.type
    zero, one = real(0.0), real(1.0)
    rows, width = y.shape
    made = np.empty(width, y.dtype)  # `out` may be `g`, and a loop over both is not vectorized then
    for j in range(width):
        total[j] = zero
    for i in range(rows):
        if kind == 1:
            for j in range(width):
                slope = g[i, j]
                made[j] = slope if y[i, j] > zero else zero
        elif kind == 2:
            for j in range(width):
                made[j] = g[i, j] * (y[i, j] * (one - y[i, j]))
        elif kind == 3:
            for j in range(width):
                made[j] = g[i, j] * (one - y[i, j] * y[i, j])
        else:
            for j in range(width):
                made[j] = g[i, j]
        for j in range(width):
            out[i, j] = made[j]
            total[j] += made[j]


@exact
def gather(sums: Any, total: Any) -> None:
    """Add up what `slopes` found in some rows each, in order."""
    for j in range(total.size):
        total[j] = 0.0
    for i in range(sums.shape[0]):
        for j in range(total.size):
            total[j] += sums[i, j]


@exact
def gradient(g: Any, y: Any, out: Any, by_bias: Any, kind: Any, tall: Any) -> None:
    """Do what `slopes` does for all rows, and add up its sums of `tall` rows each as `gather` does."""
    rows, width = y.shape
    some = np.empty(width, y.dtype)
    for j in range(width):
        by_bias[j] = 0.0
    for begin in range(0, rows, tall):
        end = min(begin + tall, rows)
        slopes(g[begin:end], y[begin:end], out[begin:end], some, kind)
        for j in range(width):
            by_bias[j] += some[j]
