"""Dropout with its draws made on the way: Philox4x64-10 as `deepbabysit.kernels.random` lays it out."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deepbabysit_numpy.compiled.jit import jit

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ZERO, _ONE, _EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)


@intrinsic
def _high(typing_context: Any, x: Any, y: Any) -> Any:
    """Return the upper 64 bits of a product of 64-bit words: one instruction."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), code


@jit
def _block(block: Any, step: Any, call: Any, seed: Any, stream: Any) -> Any:
    """Return the four words of a block."""
    c0, c1, c2, c3 = block, step, call, _ZERO
    k0, k1 = seed, stream
    for _ in range(10):
        high0, low0 = _high(c0, _M0), c0 * _M0
        high1, low1 = _high(c2, _M1), c2 * _M1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += _W0
        k1 += _W1
    return c0, c1, c2, c3


@jit
def dropout(
    x: Any, y: Any, factor: Any, control: Any, begin: Any, columns: Any, stream: Any, call: Any, limit: Any, kept: Any
) -> None:
    """Work on elements from `begin` of a draw on; x, y and factor begin there."""
    real = x.dtype.type
    value, none = real(kept), real(0.0)
    seed, step = control[0], control[1]
    first = control[2] * np.uint64(columns) + np.uint64(begin)
    block = first // _EIGHT
    skip = np.int64(first % _EIGHT)
    draws = np.empty(8, np.uint32)
    size = x.size
    place = 0
    while place < size:
        a, b, c, d = _block(block, step, call, seed, stream)
        block += _ONE
        draws[0], draws[1] = np.uint32(a & _LOW), np.uint32(a >> _HALF)
        draws[2], draws[3] = np.uint32(b & _LOW), np.uint32(b >> _HALF)
        draws[4], draws[5] = np.uint32(c & _LOW), np.uint32(c >> _HALF)
        draws[6], draws[7] = np.uint32(d & _LOW), np.uint32(d >> _HALF)
        if skip == 0 and place + 8 <= size:
            for j in range(8):
                f = value if draws[j] >= limit else none
                factor[place + j] = f
                y[place + j] = x[place + j] * f
            place += 8
        else:
            for j in range(skip, min(8, skip + size - place)):
                f = value if draws[j] >= limit else none
                factor[place] = f
                y[place] = x[place] * f
                place += 1
            skip = 0
