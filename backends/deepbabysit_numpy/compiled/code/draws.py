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
_ZERO, _EIGHT = np.uint64(0), np.uint64(8)
_BLOCKS = 128


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
    x: Any, y: Any, factor: Any, control: Any, columns: Any, stream: Any, call: Any, limit: Any, kept: Any
) -> None:
    """Draw some kilobytes of words, then use them: a loop that only draws, and one that only compares, run fast."""
    real = x.dtype.type
    value, none = real(kept), real(0.0)
    seed, step = control[0], control[1]
    first = control[2] * np.uint64(columns)
    block = first // _EIGHT
    skip = np.int64(first % _EIGHT)
    words = np.empty(4 * _BLOCKS, np.uint64)
    halves = words.view(np.uint32)  # the low half comes first on every machine this kernel is chosen on
    size = x.size
    place = 0
    while place < size:
        blocks = min(_BLOCKS, (size - place + skip + 7) // 8)
        for i in range(blocks):
            a, b, c, d = _block(block + np.uint64(i), step, call, seed, stream)
            words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = a, b, c, d
        block += np.uint64(blocks)
        count = min(8 * blocks - skip, size - place)
        draws, source = halves[skip : skip + count], x[place : place + count]
        target, factors = y[place : place + count], factor[place : place + count]
        for j in range(count):
            f = value if draws[j] >= limit else none
            factors[j] = f
            target[j] = source[j] * f
        place += count
        skip = np.int64(0)
