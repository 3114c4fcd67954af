"""Random words, and dropout that draws on its way: Philox4x64-10 as `deepbabysit.kernels.random` lays it out."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deepbabysit_numpy.compiled.code.rules import cut
from deepbabysit_numpy.compiled.jit import jit

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_ZERO, _EIGHT = np.uint64(0), np.uint64(8)
_BLOCKS = 128


@intrinsic
def _product(context: Any, x: Any, y: Any) -> Any:
    """Return the upper and the lower half of a product of 64-bit words: one instruction on most machines.

    Made of 32-bit pieces it could be vectorized: as fast with 512-bit registers, slower with shorter ones.
    """
    halves = types.UniTuple(types.uint64, 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        product = builder.mul(*[builder.zext(argument, wide) for argument in arguments])
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return context.make_tuple(builder, halves, [upper, builder.trunc(product, word)])

    return halves(types.uint64, types.uint64), generate


@jit
def _fill(words: Any, blocks: Any, block: Any, step: Any, call: Any, seed: Any, stream: Any) -> None:
    """Write the four words of each of so many blocks."""
    for i in range(blocks):
        c0, c1, c2, c3 = block + np.uint64(i), step, call, _ZERO
        k0, k1 = seed, stream
        for _ in range(10):
            upper0, lower0 = _product(c0, _M0)
            upper1, lower1 = _product(c2, _M1)
            c0, c1, c2, c3 = upper1 ^ c1 ^ k0, lower1, upper0 ^ c3 ^ k1, lower0
            k0 += _W0
            k1 += _W1
        words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3] = c0, c1, c2, c3


@jit
def random_words(out: Any, control: Any, columns: Any, stream: Any, call: Any) -> None:
    """The 32-bit words of a draw."""
    first = control[2] * np.uint64(columns)
    block, skip = first // _EIGHT, np.int64(first % _EIGHT)
    words = np.empty(4 * _BLOCKS, np.uint64)
    halves = words.view(np.uint32)
    place = 0
    while place < out.size:
        blocks = min(_BLOCKS, (out.size - place + skip + 7) // 8)
        _fill(words, blocks, block, control[1], call, control[0], stream)
        block += np.uint64(blocks)
        count = min(8 * blocks - skip, out.size - place)
        target, source = out[place : place + count], halves[skip : skip + count]
        for j in range(count):
            target[j] = source[j]
        place += count
        skip = np.int64(0)


@jit
def dropout(
    part: Any, parts: Any, x: Any, y: Any, factor: Any, control: Any, columns: Any, stream: Any, call: Any, limit: Any,
    kept: Any,
) -> None:
    """Draw some kilobytes of words, then use them: a loop that only draws, and one that only compares, run fast."""
    real = x.dtype.type
    value, none = real(kept), real(0.0)
    seed, step = control[0], control[1]
    place, size = cut(part, parts, x)
    first = control[2] * np.uint64(columns) + np.uint64(place)
    block = first // _EIGHT
    skip = np.int64(first % _EIGHT)
    words = np.empty(4 * _BLOCKS, np.uint64)
    halves = words.view(np.uint32)  # the low half comes first on every machine this kernel is chosen on
    while place < size:
        blocks = min(_BLOCKS, (size - place + skip + 7) // 8)
        _fill(words, blocks, block, step, call, seed, stream)
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
