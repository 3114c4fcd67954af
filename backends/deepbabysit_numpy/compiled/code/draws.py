"""Dropout with its draws made on the way: Philox4x64-10 as `deepbabysit.kernels.random` lays it out."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_ZERO, _EIGHT = np.uint64(0), np.uint64(8)
_BLOCKS = 128


@jit
def _high(x: Any, y_low: Any, y_high: Any) -> Any:
    """Return the upper 64 bits of a product of 64-bit words, made of 32-bit pieces: this form is vectorized."""
    low, high = x & _LOW, x >> _HALF
    cross, other = low * y_high, high * y_low
    carry = ((low * y_low) >> _HALF) + (cross & _LOW) + (other & _LOW)
    return high * y_high + (cross >> _HALF) + (other >> _HALF) + (carry >> _HALF)


@jit
def _fill(words: Any, block: Any, step: Any, call: Any, seed: Any, stream: Any) -> None:
    """Write the four words of so many blocks into the four rows of `words`; each round passes over all blocks."""
    for i in range(words.shape[1]):
        words[0, i], words[1, i], words[2, i], words[3, i] = block + np.uint64(i), step, call, _ZERO
    k0, k1 = seed, stream
    m0_low, m0_high, m1_low, m1_high = _M0 & _LOW, _M0 >> _HALF, _M1 & _LOW, _M1 >> _HALF
    for _ in range(10):
        for i in range(words.shape[1]):
            c0, c1, c2, c3 = words[0, i], words[1, i], words[2, i], words[3, i]
            words[0, i] = _high(c2, m1_low, m1_high) ^ c1 ^ k0
            words[1, i] = c2 * _M1
            words[2, i] = _high(c0, m0_low, m0_high) ^ c3 ^ k1
            words[3, i] = c0 * _M0
        k0 += _W0
        k1 += _W1


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
    rows = np.empty((4, _BLOCKS), np.uint64)
    words = np.empty(4 * _BLOCKS, np.uint64)
    halves = words.view(np.uint32)  # the low half comes first on every machine this kernel is chosen on
    size = x.size
    place = 0
    while place < size:
        blocks = min(_BLOCKS, (size - place + skip + 7) // 8)
        _fill(rows, block, step, call, seed, stream)
        for i in range(_BLOCKS):
            for j in range(4):
                words[4 * i + j] = rows[j, i]
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
