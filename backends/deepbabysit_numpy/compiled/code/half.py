"""Half precision to single and back: by the processor's instructions, or on the bits (uint16), vectorized as well.

The method on the bits is that of F. Giesen's ``half_to_float_fast4`` and ``float_to_half_fast3_rtne``: whole-number
additions move the exponent, and a float addition shifts what is subnormal in half precision. No float here is subnormal
in single precision.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from deepbabysit_numpy.compiled.code.mathematics import bits, number, wide
from deepbabysit_numpy.compiled.jit import jit, ordered

_MAGNITUDE, _SIGN = np.int32(0x7FFF), np.int32(0x8000)
_THIRTEEN, _SIXTEEN, _ONE = np.int32(13), np.int32(16), np.int32(1)
_HALF_INFINITY, _INFINITY, _QUIET = np.int32(0x7C00), np.int32(0x7F800000), np.int32(0x7E00)
_LOWEST = np.int32(0xFC00)  # minus infinity: what is above it is NaN
_LARGEST = np.int32((127 + 16) << 23)  # 65536: from here on infinite
_NORMAL = np.int32(113 << 23)  # the smallest normal half
_DENORMAL = np.int32(((127 - 15) + (23 - 10) + 1) << 23)
_REBIAS = np.int32((15 - 127) * (1 << 23) + 0xFFF)
_UP, _STEP = np.int32(112 << 23), np.int32(1 << 23)


CONVERTS = bool(llvmlite.binding.get_host_cpu_features().get("f16c"))  # elsewhere LLVM would call a library


@intrinsic
def _extended(context: Any, half: Any) -> Any:
    """Return the float of these 16 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _truncated(context: Any, x: Any) -> Any:
    """Return the 16 bits of the nearest half."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@ordered
def from_bits(half: Any) -> Any:
    """Return the float of 16 bits, by whole-number operations."""
    word = np.int32(half)
    size = np.int32(word & _MAGNITUDE)
    base = np.int32(np.int32(size << _THIRTEEN) + _UP)
    small = bits(number(np.int32(base + _STEP)) - number(_NORMAL))
    value = small if size < np.int32(0x400) else base
    value = np.int32(base + _UP) if size >= _HALF_INFINITY else value
    return number(np.int32(value | np.int32(np.int32(word & _SIGN) << _SIXTEEN)))


@ordered
def to_bits(x: Any) -> Any:
    """Return the 16 bits of the nearest half, by whole-number operations."""
    word = bits(x)
    sign = np.int32(np.int32(word >> _SIXTEEN) & _SIGN)
    size = np.int32(word & np.int32(0x7FFFFFFF))
    odd = np.int32(np.int32(size >> _THIRTEEN) & _ONE)
    normal = np.int32(np.int32(np.int32(size + _REBIAS) + odd) >> _THIRTEEN)
    small = np.int32(bits(number(size) + number(_DENORMAL)) - _DENORMAL)
    special = _QUIET if size > _INFINITY else _HALF_INFINITY
    value = small if size < _NORMAL else normal
    value = special if size >= _LARGEST else value
    return np.uint16(value | sign)


_WIDENED, _NARROWED = (_extended, _truncated) if CONVERTS else (from_bits, to_bits)


def load(array: Any, i: Any) -> Any:
    """Return an element to compute with: of float16, which arrays hold as uint16, a float32."""
    raise NotImplementedError


def store(array: Any, i: Any, value: Any) -> None:
    """Write what was computed."""
    raise NotImplementedError


def like(array: Any, x: Any) -> Any:
    """Return a number of the kind that elements of this array are computed in."""
    raise NotImplementedError


_INLINE = {"forceinline": True, "error_model": "numpy"}


@overload(load, jit_options=_INLINE)
def _load(array: Any, i: Any) -> Any:
    def half(array: Any, i: Any) -> Any:
        return _WIDENED(array[i])

    def whole(array: Any, i: Any) -> Any:
        return array[i]

    return half if array.dtype == types.uint16 else whole


@overload(store, jit_options=_INLINE)
def _store(array: Any, i: Any, value: Any) -> Any:
    def half(array: Any, i: Any, value: Any) -> Any:
        array[i] = _NARROWED(value)

    def whole(array: Any, i: Any, value: Any) -> Any:
        array[i] = value

    return half if array.dtype == types.uint16 else whole


@overload(like, jit_options=_INLINE)
def _like(array: Any, x: Any) -> Any:
    real = np.float64 if array.dtype == types.float64 else np.float32

    def convert(array: Any, x: Any) -> Any:
        return real(x)

    return convert


@jit
def widen(source: Any, target: Any) -> None:
    """float16 (as uint16) to float32."""
    wide()
    for i in range(target.size):
        target[i] = _WIDENED(source[i])


@jit
def narrow(source: Any, target: Any) -> None:
    """float32 to float16 (as uint16), to the nearest, ties to even; NaN stays NaN."""
    wide()
    for i in range(target.size):
        target[i] = _NARROWED(source[i])


@jit
def relu(source: Any, target: Any) -> None:
    """``max(x, 0)`` on the bits of float16; NaN stays NaN."""
    wide()
    for i in range(target.size):
        word = np.int32(source[i])
        below = (word >= _SIGN) & (word <= _LOWEST)
        target[i] = np.uint16(np.int32(0) if below else word)


@jit
def relu_gradient(g: Any, y: Any, target: Any) -> None:
    """``g where y > 0, else 0`` on the bits of float16."""
    wide()
    for i in range(target.size):
        word = np.int32(y[i])
        above = (word > np.int32(0)) & (word <= _HALF_INFINITY)
        target[i] = np.uint16(np.int32(g[i]) if above else np.int32(0))
