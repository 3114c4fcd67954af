"""Random numbers as a pure function of a counter: Philox4x64-10, and dropout drawn from it.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

Layout, the same on every backend. The *control* array holds ``(seed, step, first global row, 0)`` as uint64. The key is
``(seed, stream)``, the counter ``(block, step, call, 0)``. Element ``e`` of a draw (counted in rows of the whole batch,
so that micro-batches continue where the last one ended) is the low or high half (``e % 2``) of word ``e // 2 % 4`` of
block ``e // 8``.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.elementwise import like
from deepbabysit.kernels.shapes import need_floating
from deepbabysit.kernels.spec import BadInput, Form, Sample, Shape, define

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 0xFFFFFFFF
CONTROL_SIZE = 4


def _multiply_high(xp: Any, x: Any, factor: int) -> Any:
    """Return the upper 64 bits of a 128-bit product, made of 32-bit pieces."""
    low, high = x & _LOW, x >> 32
    b_low, b_high = factor & _LOW, factor >> 32
    cross = low * b_high
    other = high * b_low
    carry = ((low * b_low) >> 32) + (cross & _LOW) + (other & _LOW)
    return high * b_high + (cross >> 32) + (other >> 32) + (carry >> 32)


def philox(xp: Any, counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]) -> tuple[Any, Any, Any, Any]:
    """Encrypt counters with ten rounds of Philox4x64; all arguments are uint64 arrays that broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply_high(xp, c0, _MULTIPLIERS[0]), c0 * _MULTIPLIERS[0]
        high1, low1 = _multiply_high(xp, c2, _MULTIPLIERS[1]), c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0, c1, c2, c3


def random_words(xp: Any, control: Any, *, shape: Shape, stream: int, call: int = 0) -> Any:
    """Draw 32-bit words: the same for the same seed, step, stream, call, global row and column."""
    count = prod(shape)
    columns = prod(shape[1:])
    first = control[2] * columns
    begin, skip = first // 8, first % 8
    blocks = xp.astype(xp.arange(count // 8 + 2), xp.uint64) + begin
    zeros = blocks - blocks
    key = (zeros + control[0], zeros + xp.asarray(stream, dtype=xp.uint64))
    counter = (blocks, zeros + control[1], zeros + xp.asarray(call, dtype=xp.uint64), zeros)
    words = xp.stack(philox(xp, counter, key), axis=1)
    halves = xp.reshape(xp.stack((words & _LOW, words >> 32), axis=2), (-1,))
    chosen = xp.take(halves, xp.astype(xp.arange(count), xp.uint64) + skip, axis=0)
    return xp.reshape(xp.astype(chosen, xp.uint32), shape)


def _control(seed: int, step: int, row: int = 0) -> np.ndarray:
    return np.array([seed, step, row, 0], np.uint64)


def _need_control(name: str, shape: Shape, dtype: np.dtype[Any]) -> None:
    if shape != (CONTROL_SIZE,) or dtype != np.uint64:
        raise TypeError(f"{name}: the control array must be four uint64 (seed, step, row, 0); got {dtype} {shape}")


def _words_infer(shapes: Any, dtypes: Any, *, shape: Shape, stream: int, call: int = 0) -> tuple[Form, ...]:
    _need_control("random_words", shapes[0], dtypes[0])
    return (Form(tuple(shape), np.dtype(np.uint32)),)


def _words_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in ((0,), (1,), (7,), (3, 5), (2, 3, 4), ()):
        control = _control(int(rng.integers(2**63)), int(rng.integers(1000)), int(rng.integers(100)))
        yield Sample((control,), {"shape": shape, "stream": int(rng.integers(2**63)), "call": int(rng.integers(3))})


RANDOM_WORDS = define(random_words, infer=_words_infer, samples=_words_samples, differentiable=())


def dropout(
    xp: Any, x: Any, control: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Shape | None = None
) -> Any:
    """Set elements to zero with probability `rate` and divide the others by ``1 - rate``; also returns that factor.

    Srivastava et al., JMLR 15 (2014), in the inverted form: nothing is left to do at test time. `noise_shape` has
    length 1 where a mask is shared along an axis.
    """
    shape = x.shape if noise_shape is None else noise_shape
    words = xp.random_words(control, shape=shape, stream=stream, call=call)
    kept = words >= int(round(rate * 2**32))
    factor = xp.astype(kept, x.dtype) / (1.0 - rate)
    return x * factor, factor


def _dropout_infer(
    shapes: Any, dtypes: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Shape | None = None
) -> tuple[Form, ...]:
    _need_control("dropout", shapes[1], dtypes[1])
    need_floating("dropout", dtypes[0])
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"dropout: rate must be at least 0 and below 1; got {rate}. To drop nothing use 0.0")
    noise = shapes[0] if noise_shape is None else noise_shape
    if len(noise) != len(shapes[0]) or any(a not in (1, b) for a, b in zip(noise, shapes[0], strict=True)):
        raise ValueError(f"dropout: noise_shape {noise} does not repeat to {shapes[0]}")
    return (Form(shapes[0], dtypes[0]), Form(tuple(noise), dtypes[0]))


def _dropout_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for rate in (0.0, 0.1, 0.5, 0.9):
        shape = drawing.draw_shape(rng, (1, 4))
        control = _control(int(rng.integers(2**63)), int(rng.integers(1000)), int(rng.integers(9)))
        yield Sample((drawing.normal(rng, shape), control), {"rate": rate, "stream": int(rng.integers(2**63))})
    yield Sample(
        (drawing.normal(rng, (3, 2, 4)), _control(1, 2)), {"rate": 0.5, "stream": 3, "noise_shape": (3, 1, 4)}
    )
    yield Sample((drawing.normal(rng, (0, 4)), _control(1, 2)), {"rate": 0.5, "stream": 3})


def _dropout_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, **attrs: Any) -> Any:
    if g[0] is None:
        return None, None
    return like(op, op.multiply(g[0], out[1]), x[0]), None


DROPOUT = define(
    dropout, infer=_dropout_infer, samples=_dropout_samples, vjp=_dropout_vjp, saves_outputs=(1,),
    differentiable=(0,),
    errors=lambda: [BadInput((np.ones(3), _control(0, 0)), {"rate": 1.0, "stream": 0}, ValueError, "below 1")],
)
