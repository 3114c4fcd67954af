"""Activation functions and their gradients in one pass: what several ufuncs do happens in registers.

Arrays are flat and do not overlap (the wrappers see to it): so each loop is vectorized.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

from deepbabysit.kernels.activations import SELU_ALPHA, SELU_SCALE
from deepbabysit.kernels.elementwise import TWO_OVER_ROOT_PI
from deepbabysit_numpy.compiled.code.mathematics import decay, erf, expm1, sigmoid, softplus_tail, wide
from deepbabysit_numpy.compiled.jit import jit

_ROOT_HALF, _DENSITY = sqrt(0.5), 1.0 / sqrt(2.0 * pi)
_SLOPE, _CUBIC = 2.0 * sqrt(2.0 / pi), 0.044715  # twice the slope: (1 + tanh(u)) / 2 = sigmoid(2 u)
_SELU_LOW = SELU_SCALE * SELU_ALPHA


@jit
def relu_gradient(g: Any, y: Any, out: Any) -> None:
    """``g where y > 0, else 0``."""
    wide()
    zero = out.dtype.type(0.0)
    for i in range(out.size):
        v = g[i]
        out[i] = v if y[i] > zero else zero


@jit
def leaky_relu(x: Any, out: Any, slope: Any) -> None:
    """``x where x > 0, else slope x``."""
    wide()
    real = out.dtype.type
    zero, factor = real(0.0), real(slope)
    for i in range(out.size):
        v = x[i]
        out[i] = v if v > zero else factor * v


@jit
def leaky_relu_gradient(g: Any, y: Any, out: Any, slope: Any) -> None:
    """``g where y > 0, else slope g``."""
    wide()
    real = out.dtype.type
    zero, factor = real(0.0), real(slope)
    for i in range(out.size):
        v = g[i]
        out[i] = v if y[i] > zero else factor * v


@jit
def elu(x: Any, out: Any, alpha: Any) -> None:
    """``x where x > 0, else alpha expm1(x)``."""
    wide()
    real = out.dtype.type
    zero, factor = real(0.0), real(alpha)
    for i in range(out.size):
        v = x[i]
        low = factor * expm1(v)
        out[i] = v if v > zero else low


@jit
def elu_gradient(g: Any, y: Any, out: Any, alpha: Any) -> None:
    """``g where y > 0, else g (y + alpha)``."""
    wide()
    real = out.dtype.type
    zero, offset = real(0.0), real(alpha)
    for i in range(out.size):
        v, low = g[i], g[i] * (y[i] + offset)
        out[i] = v if y[i] > zero else low


@jit
def selu(x: Any, out: Any) -> None:
    """``s (x where x > 0, else a expm1(x))``."""
    wide()
    real = out.dtype.type
    zero, high, factor = real(0.0), real(SELU_SCALE), real(_SELU_LOW)
    for i in range(out.size):
        v = x[i]
        low = factor * expm1(v)
        out[i] = high * v if v > zero else low


@jit
def selu_gradient(g: Any, y: Any, out: Any) -> None:
    """``s g where y > 0, else g (y + s a)``."""
    wide()
    real = out.dtype.type
    zero, high, offset = real(0.0), real(SELU_SCALE), real(_SELU_LOW)
    for i in range(out.size):
        slope = y[i] + offset
        out[i] = g[i] * (high if y[i] > zero else slope)


@jit
def error_function(x: Any, out: Any) -> None:
    """``erf(x)``."""
    wide()
    for i in range(out.size):
        out[i] = erf(x[i])


@jit
def erf_gradient(g: Any, x: Any, out: Any) -> None:
    """``g 2 / sqrt(pi) exp(-x^2)``."""
    wide()
    factor = out.dtype.type(TWO_OVER_ROOT_PI)
    for i in range(out.size):
        v = x[i]
        out[i] = g[i] * (factor * decay(-(v * v)))


@jit
def gelu(x: Any, out: Any) -> None:
    """``x Phi(x)``."""
    wide()
    real = out.dtype.type
    half, one, scale = real(0.5), real(1.0), real(_ROOT_HALF)
    for i in range(out.size):
        v = x[i]
        out[i] = half * v * (one + erf(v * scale))


@jit
def gelu_gradient(g: Any, x: Any, out: Any) -> None:
    """``g (Phi(x) + x phi(x))``."""
    wide()
    real = out.dtype.type
    half, one, scale, density = real(0.5), real(1.0), real(_ROOT_HALF), real(_DENSITY)
    for i in range(out.size):
        v = x[i]
        out[i] = g[i] * (half * (one + erf(v * scale)) + v * (decay(-half * v * v) * density))


@jit
def _within(x: Any) -> Any:
    """Keep x within 10 of 0; NaN stays."""
    x = type(x)(10.0) if x > type(x)(10.0) else x
    return type(x)(-10.0) if x < type(x)(-10.0) else x


@jit
def gelu_tanh(x: Any, out: Any) -> None:
    """``x (1 + tanh(u)) / 2`` with ``u = sqrt(2 / pi) (x + 0.044715 x^3)``."""
    wide()
    real = out.dtype.type
    zero, one, slope, cubic = real(0.0), real(1.0), real(_SLOPE), real(_CUBIC)
    for i in range(out.size):
        near = _within(x[i])
        gate = sigmoid(slope * near * (one + cubic * near * near))
        out[i] = x[i] * (gate if near > real(-10.0) else zero)


@jit
def gelu_tanh_gradient(g: Any, x: Any, out: Any) -> None:
    """``g (s + x s (1 - s) 2 u')`` with ``s = sigmoid(2 u)``."""
    wide()
    real = out.dtype.type
    one, slope, cubic, three = real(1.0), real(_SLOPE), real(_CUBIC), real(3.0 * _CUBIC)
    for i in range(out.size):
        near = _within(x[i])
        square = near * near
        gate = sigmoid(slope * near * (one + cubic * square))
        out[i] = g[i] * (gate + near * gate * (one - gate) * (slope * (one + three * square)))


@jit
def logistic(x: Any, out: Any) -> None:
    """``sigmoid(x)``."""
    wide()
    for i in range(out.size):
        out[i] = sigmoid(x[i])


@jit
def sigmoid_gradient(g: Any, y: Any, out: Any) -> None:
    """``g y (1 - y)``."""
    wide()
    one = out.dtype.type(1.0)
    for i in range(out.size):
        out[i] = g[i] * (y[i] * (one - y[i]))


@jit
def tanh_gradient(g: Any, y: Any, out: Any) -> None:
    """``g (1 - y^2)``."""
    wide()
    one = out.dtype.type(1.0)
    for i in range(out.size):
        out[i] = g[i] * (one - y[i] * y[i])


@jit
def silu(x: Any, out: Any) -> None:
    """``x sigmoid(x)``."""
    wide()
    for i in range(out.size):
        out[i] = x[i] * sigmoid(x[i])


@jit
def silu_gradient(g: Any, x: Any, out: Any) -> None:
    """``g s (1 + x (1 - s))`` with ``s = sigmoid(x)``."""
    wide()
    one = out.dtype.type(1.0)
    for i in range(out.size):
        gate = sigmoid(x[i])
        out[i] = g[i] * (gate * (one + x[i] * (one - gate)))


@jit
def softplus(x: Any, out: Any) -> None:
    """``max(x, 0) + log(1 + exp(-|x|))``."""
    wide()
    zero = out.dtype.type(0.0)
    for i in range(out.size):
        v = x[i]
        out[i] = (v if v > zero else zero) + softplus_tail(v)
