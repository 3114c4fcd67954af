"""Activation functions and their gradients, in blocks that stay in the cache.

Each of them is several passes of ufuncs; over a block of 16 Ki elements the passes after the first read the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import pi, sqrt
from typing import Any

import numpy as np

from deepbabysit.kernels.activations import SELU_ALPHA, SELU_SCALE
from deepbabysit.kernels.elementwise import TWO_OVER_ROOT_PI
from deepbabysit.kernels.elementwise import erf as erf_reference
from deepbabysit.kernels.namespace import Namespace
from deepbabysit.runtime.backend import Kernel

BLOCK = 16 * 1024  # elements: three float32 blocks and the temporaries fit into a 1 MiB second-level cache
_NAMESPACE = Namespace(np)


def blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Cut arrays of one shape into flat blocks; arrays that are not contiguous, or small, come whole."""
    first = arrays[0]
    size = first.size
    if not first.ndim:  # ufuncs turn arrays without axes into scalars, which nothing can be written into
        yield tuple([a.reshape(1) for a in arrays])
        return
    if size <= BLOCK or any(a.shape != first.shape or not a.flags.c_contiguous for a in arrays):
        yield arrays
        return
    flat = [a.reshape(-1) for a in arrays]
    for start in range(0, size, BLOCK):
        yield tuple([a[start : start + BLOCK] for a in flat])


def _elementwise(step: Callable[..., None]) -> Kernel:
    """Return the kernel that runs ``step(out, *ins, **attrs)`` on blocks; float16 is computed in float32."""

    def run(ctx: Any, outs: Any, *ins: Any, **attrs: Any) -> None:
        out = outs[0]
        if out.dtype == np.float16:
            for target, *sources in blocks(out, *ins):
                wide = np.empty(target.shape, np.float32)
                step(wide, *[a.astype(np.float32) for a in sources], **attrs)
                np.copyto(target, wide, casting="same_kind")
            return
        for target, *sources in blocks(out, *ins):
            step(target, *sources, **attrs)

    return Kernel(run)


def _leaky_relu(y: Any, x: Any, *, slope: float = 0.01) -> None:
    if slope <= 1.0:
        np.maximum(x, np.multiply(x, slope), out=y)
    else:
        np.minimum(x, np.multiply(x, slope), out=y)


def _leaky_relu_gradient(out: Any, g: Any, y: Any, *, slope: float = 0.01) -> None:
    kept = y > 0
    scaled = np.multiply(g, slope)
    np.copyto(scaled, g, where=kept)
    np.copyto(out, scaled)


def _elu(y: Any, x: Any, *, alpha: float = 1.0) -> None:
    low = np.expm1(np.minimum(x, 0))
    np.multiply(low, alpha, low)
    np.copyto(low, x, where=x > 0)
    np.copyto(y, low)


def _elu_gradient(out: Any, g: Any, y: Any, *, alpha: float = 1.0) -> None:
    low = np.add(y, alpha)
    np.multiply(low, g, low)
    np.copyto(low, g, where=y > 0)
    np.copyto(out, low)


def _selu(y: Any, x: Any) -> None:
    low = np.expm1(np.minimum(x, 0))
    np.multiply(low, SELU_ALPHA, low)
    np.copyto(low, x, where=x > 0)
    np.multiply(low, SELU_SCALE, y)


def _selu_gradient(out: Any, g: Any, y: Any) -> None:
    factor = np.add(y, SELU_SCALE * SELU_ALPHA)
    np.copyto(factor, SELU_SCALE, where=y > 0, casting="same_kind")
    np.multiply(factor, g, out)


def _gate(x: Any) -> Any:
    """Return the logistic function of x."""
    gate = np.multiply(x, 0.5)
    np.tanh(gate, gate)
    np.multiply(gate, 0.5, gate)
    return np.add(gate, 0.5, gate)


def _silu(y: Any, x: Any) -> None:
    np.multiply(x, _gate(x), y)


def _silu_gradient(out: Any, g: Any, x: Any) -> None:
    gate = _gate(x)
    slope = np.subtract(1.0, gate)
    np.multiply(slope, x, slope)
    np.add(slope, 1.0, slope)
    np.multiply(slope, gate, slope)
    np.multiply(slope, g, out)


def _softplus(y: Any, x: Any) -> None:
    tail = np.abs(x)
    np.negative(tail, tail)
    np.exp(tail, tail)
    np.log1p(tail, tail)
    np.add(np.maximum(x, 0), tail, y)


# Abramowitz and Stegun 7.1.26: erf within 1.5e-7, which is the last bit of float32 near 1.
_AS_P = 0.3275911
_AS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


def _erf_single(x: Any, gauss: Any) -> Any:
    """Return erf(x) in float32, given ``gauss = exp(-x^2)``."""
    t = np.abs(x)
    np.multiply(t, _AS_P, t)
    np.add(t, 1.0, t)
    np.divide(1.0, t, t)
    total = np.multiply(t, _AS[0])
    for coefficient in _AS[1:]:
        np.add(total, coefficient, total)
        np.multiply(total, t, total)
    np.multiply(total, gauss, total)
    np.subtract(1.0, total, total)
    return np.copysign(total, x, total)


def _erf(y: Any, x: Any) -> None:
    if x.dtype == np.float32:
        # below 2^-7 the series is exact to the last bit, and the fit above is not
        near = np.abs(x) < 0.0078125
        value = _erf_single(x, np.exp(-np.multiply(x, x)))
        if near.any():
            small = 1.1283791670955126 * (x - x * x * x * np.float32(1 / 3))
            np.copyto(value, small, where=near, casting="same_kind")
        np.copyto(y, value)
    else:
        np.copyto(y, erf_reference(_NAMESPACE, x))


def _erf_gradient(out: Any, g: Any, x: Any) -> None:
    slope = np.multiply(x, x)
    np.negative(slope, slope)
    np.exp(slope, slope)
    np.multiply(slope, TWO_OVER_ROOT_PI, slope)
    np.multiply(g, slope, out)


def _normal_cdf(x: Any, gauss: Any) -> Any:
    """Return the normal distribution function, given ``gauss = exp(-x^2 / 2)``."""
    scaled = np.multiply(x, x.dtype.type(sqrt(0.5)))
    cdf = _erf_single(scaled, gauss) if x.dtype == np.float32 else erf_reference(_NAMESPACE, scaled)
    np.add(cdf, 1.0, cdf)
    return np.multiply(cdf, 0.5, cdf)


def _gauss(x: Any) -> Any:
    gauss = np.multiply(x, x)
    np.multiply(gauss, -0.5, gauss)
    return np.exp(gauss, gauss)


_SLOPE = sqrt(2.0 / pi)
_CUBIC = 0.044715


def _gelu_level(x: Any) -> tuple[Any, Any]:
    """Return x within (-10, 10) and the tanh of the approximation."""
    near = np.clip(x, -10.0, 10.0)
    level = np.multiply(near, near)
    np.multiply(level, _SLOPE * _CUBIC, level)
    np.add(level, _SLOPE, level)
    np.multiply(level, near, level)
    return near, np.tanh(level, level)


def _gelu(y: Any, x: Any, *, approximate: str = "none") -> None:
    if approximate == "tanh":
        _, level = _gelu_level(x)
        np.add(level, 1.0, level)
        np.multiply(level, 0.5, level)
        np.multiply(level, x, y)
    else:
        np.multiply(_normal_cdf(x, _gauss(x)), x, y)


def _gelu_gradient(out: Any, g: Any, x: Any, *, approximate: str = "none") -> None:
    if approximate == "tanh":
        near, level = _gelu_level(x)
        slope = np.multiply(near, near)
        np.multiply(slope, 1.5 * _SLOPE * _CUBIC, slope)
        np.add(slope, 0.5 * _SLOPE, slope)
        np.multiply(slope, near, slope)
        np.multiply(slope, 1.0 - level * level, slope)
        np.multiply(level, 0.5, level)
        np.add(level, 0.5, level)
        np.add(slope, level, slope)
    else:
        gauss = _gauss(x)
        slope = _normal_cdf(x, gauss)
        np.multiply(gauss, 1.0 / sqrt(2.0 * pi), gauss)
        np.multiply(gauss, x, gauss)
        np.add(slope, gauss, slope)
    np.multiply(slope, g, out)


KERNELS: dict[str, Kernel] = {
    "erf": _elementwise(_erf),
    "erf_gradient": _elementwise(_erf_gradient),
    "leaky_relu": _elementwise(_leaky_relu),
    "leaky_relu_gradient": _elementwise(_leaky_relu_gradient),
    "elu": _elementwise(_elu),
    "elu_gradient": _elementwise(_elu_gradient),
    "selu": _elementwise(_selu),
    "selu_gradient": _elementwise(_selu_gradient),
    "gelu": _elementwise(_gelu),
    "gelu_gradient": _elementwise(_gelu_gradient),
    "silu": _elementwise(_silu),
    "silu_gradient": _elementwise(_silu_gradient),
    "softplus": _elementwise(_softplus),
}
