"""Activation functions and their gradients in one pass: what several ufuncs do happens in registers.

Arrays are flat and do not overlap (the wrappers see to it): so each loop is vectorized.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any

from deepbabysit.kernels.activations import SELU_ALPHA, SELU_SCALE
from deepbabysit.kernels.elementwise import TWO_OVER_ROOT_PI
from deepbabysit_numpy.compiled.code.half import like, load, store
from deepbabysit_numpy.compiled.code.mathematics import decay, erf, expm1, sigmoid, softplus_tail, wide
from deepbabysit_numpy.compiled.jit import jit

_ROOT_HALF, _DENSITY = sqrt(0.5), 1.0 / sqrt(2.0 * pi)
_SLOPE, _CUBIC = 2.0 * sqrt(2.0 / pi), 0.044715  # twice the slope: (1 + tanh(u)) / 2 = sigmoid(2 u)
_SELU_LOW = SELU_SCALE * SELU_ALPHA


@jit
def relu_gradient(g: Any, y: Any, out: Any) -> None:
    """``g where y > 0, else 0``."""
    wide()
    zero = like(out, 0.0)
    for i in range(out.size):
        v = load(g, i)
        store(out, i, v if load(y, i) > zero else zero)


@jit
def leaky_relu(x: Any, out: Any, slope: Any) -> None:
    """``x where x > 0, else slope x``."""
    wide()
    zero, factor = like(out, 0.0), like(out, slope)
    for i in range(out.size):
        v = load(x, i)
        store(out, i, v if v > zero else factor * v)


@jit
def leaky_relu_gradient(g: Any, y: Any, out: Any, slope: Any) -> None:
    """``g where y > 0, else slope g``."""
    wide()
    zero, factor = like(out, 0.0), like(out, slope)
    for i in range(out.size):
        v = load(g, i)
        store(out, i, v if load(y, i) > zero else factor * v)


@jit
def elu(x: Any, out: Any, alpha: Any) -> None:
    """``x where x > 0, else alpha expm1(x)``."""
    wide()
    zero, factor = like(out, 0.0), like(out, alpha)
    for i in range(out.size):
        v = load(x, i)
        low = factor * expm1(v)
        store(out, i, v if v > zero else low)


@jit
def elu_gradient(g: Any, y: Any, out: Any, alpha: Any) -> None:
    """``g where y > 0, else g (y + alpha)``."""
    wide()
    zero, offset = like(out, 0.0), like(out, alpha)
    for i in range(out.size):
        v, low = load(g, i), load(g, i) * (load(y, i) + offset)
        store(out, i, v if load(y, i) > zero else low)


@jit
def selu(x: Any, out: Any) -> None:
    """``s (x where x > 0, else a expm1(x))``."""
    wide()
    zero, high, factor = like(out, 0.0), like(out, SELU_SCALE), like(out, _SELU_LOW)
    for i in range(out.size):
        v = load(x, i)
        low = factor * expm1(v)
        store(out, i, high * v if v > zero else low)


@jit
def selu_gradient(g: Any, y: Any, out: Any) -> None:
    """``s g where y > 0, else g (y + s a)``."""
    wide()
    zero, high, offset = like(out, 0.0), like(out, SELU_SCALE), like(out, _SELU_LOW)
    for i in range(out.size):
        slope = load(y, i) + offset
        store(out, i, load(g, i) * (high if load(y, i) > zero else slope))


@jit
def error_function(x: Any, out: Any) -> None:
    """``erf(x)``."""
    wide()
    for i in range(out.size):
        store(out, i, erf(load(x, i)))


@jit
def erf_gradient(g: Any, x: Any, out: Any) -> None:
    """``g 2 / sqrt(pi) exp(-x^2)``."""
    wide()
    factor = like(out, TWO_OVER_ROOT_PI)
    for i in range(out.size):
        v = load(x, i)
        store(out, i, load(g, i) * (factor * decay(-(v * v))))


@jit
def gelu(x: Any, out: Any) -> None:
    """``x Phi(x)``."""
    wide()
    half, one, scale = like(out, 0.5), like(out, 1.0), like(out, _ROOT_HALF)
    for i in range(out.size):
        v = load(x, i)
        store(out, i, half * v * (one + erf(v * scale)))


@jit
def gelu_gradient(g: Any, x: Any, out: Any) -> None:
    """``g (Phi(x) + x phi(x))``."""
    wide()
    half, one, scale, density = like(out, 0.5), like(out, 1.0), like(out, _ROOT_HALF), like(out, _DENSITY)
    for i in range(out.size):
        v = load(x, i)
        store(out, i, load(g, i) * (half * (one + erf(v * scale)) + v * (decay(-half * v * v) * density)))


@jit
def _within(x: Any) -> Any:
    """Keep x within 10 of 0; NaN stays."""
    x = type(x)(10.0) if x > type(x)(10.0) else x
    return type(x)(-10.0) if x < type(x)(-10.0) else x


@jit
def gelu_tanh(x: Any, out: Any) -> None:
    """``x (1 + tanh(u)) / 2`` with ``u = sqrt(2 / pi) (x + 0.044715 x^3)``."""
    wide()
    zero, one, slope, cubic = like(out, 0.0), like(out, 1.0), like(out, _SLOPE), like(out, _CUBIC)
    for i in range(out.size):
        near = _within(load(x, i))
        gate = sigmoid(slope * near * (one + cubic * near * near))
        store(out, i, load(x, i) * (gate if near > like(out, -10.0) else zero))


@jit
def gelu_tanh_gradient(g: Any, x: Any, out: Any) -> None:
    """``g (s + x s (1 - s) 2 u')`` with ``s = sigmoid(2 u)``."""
    wide()
    one, slope, cubic, three = like(out, 1.0), like(out, _SLOPE), like(out, _CUBIC), like(out, 3.0 * _CUBIC)
    for i in range(out.size):
        near = _within(load(x, i))
        square = near * near
        gate = sigmoid(slope * near * (one + cubic * square))
        store(out, i, load(g, i) * (gate + near * gate * (one - gate) * (slope * (one + three * square))))


@jit
def logistic(x: Any, out: Any) -> None:
    """``sigmoid(x)``."""
    wide()
    for i in range(out.size):
        store(out, i, sigmoid(load(x, i)))


@jit
def sigmoid_gradient(g: Any, y: Any, out: Any) -> None:
    """``g y (1 - y)``."""
    wide()
    one = like(out, 1.0)
    for i in range(out.size):
        store(out, i, load(g, i) * (load(y, i) * (one - load(y, i))))


@jit
def tanh_gradient(g: Any, y: Any, out: Any) -> None:
    """``g (1 - y^2)``."""
    wide()
    one = like(out, 1.0)
    for i in range(out.size):
        store(out, i, load(g, i) * (one - load(y, i) * load(y, i)))


@jit
def silu(x: Any, out: Any) -> None:
    """``x sigmoid(x)``."""
    wide()
    for i in range(out.size):
        store(out, i, load(x, i) * sigmoid(load(x, i)))


@jit
def silu_gradient(g: Any, x: Any, out: Any) -> None:
    """``g s (1 + x (1 - s))`` with ``s = sigmoid(x)``."""
    wide()
    one = like(out, 1.0)
    for i in range(out.size):
        gate = sigmoid(load(x, i))
        store(out, i, load(g, i) * (gate * (one + load(x, i) * (one - gate))))


@jit
def softplus(x: Any, out: Any) -> None:
    """``max(x, 0) + log(1 + exp(-|x|))``."""
    wide()
    zero = like(out, 0.0)
    for i in range(out.size):
        v = load(x, i)
        store(out, i, (v if v > zero else zero) + softplus_tail(v))
