"""Half precision to single and back, on the bits (uint16), so that it is vectorized on every machine.

The method is that of F. Giesen's ``half_to_float_fast4`` and ``float_to_half_fast3_rtne``: whole-number additions move
the exponent, and a float addition shifts what is subnormal in half precision. No float here is subnormal in single
precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.code.mathematics import bits, number
from deepbabysit_numpy.compiled.jit import jit, ordered

_MAGNITUDE, _SIGN = np.int32(0x7FFF), np.int32(0x8000)
_THIRTEEN, _SIXTEEN, _ONE = np.int32(13), np.int32(16), np.int32(1)
_HALF_INFINITY, _INFINITY, _QUIET = np.int32(0x7C00), np.int32(0x7F800000), np.int32(0x7E00)
_LARGEST = np.int32((127 + 16) << 23)  # 65536: from here on infinite
_NORMAL = np.int32(113 << 23)  # the smallest normal half
_DENORMAL = np.int32(((127 - 15) + (23 - 10) + 1) << 23)
_REBIAS = np.int32((15 - 127) * (1 << 23) + 0xFFF)
_UP, _STEP = np.int32(112 << 23), np.int32(1 << 23)


@ordered
def _widened(half: Any) -> Any:
    word = np.int32(half)
    size = np.int32(word & _MAGNITUDE)
    base = np.int32(np.int32(size << _THIRTEEN) + _UP)
    small = bits(number(np.int32(base + _STEP)) - number(_NORMAL))
    value = small if size < np.int32(0x400) else base
    value = np.int32(base + _UP) if size >= _HALF_INFINITY else value
    return number(np.int32(value | np.int32(np.int32(word & _SIGN) << _SIXTEEN)))


@ordered
def _narrowed(x: Any) -> Any:
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


@jit
def widen(source: Any, target: Any) -> None:
    """float16 (as uint16) to float32."""
    for i in range(target.size):
        target[i] = _widened(source[i])


@jit
def narrow(source: Any, target: Any) -> None:
    """float32 to float16 (as uint16), to the nearest, ties to even; NaN stays NaN."""
    for i in range(target.size):
        target[i] = _narrowed(source[i])
