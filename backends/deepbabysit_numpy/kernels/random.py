"""Random words from NumPy's own Philox4x64 in C, set to the counter that the specification names."""

from __future__ import annotations

import sys
import threading
from math import prod
from typing import Any

import numpy as np
from deepbabysit.runtime.backend import Kernel

_WORD = (1 << 64) - 1


class _Generators(threading.local):
    """One bit generator for each thread; its state is set before every draw."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)


_GENERATORS = _Generators()


def _words(control: Any, count: int, columns: int, stream: int, call: int) -> np.ndarray:
    """Return the 32-bit words of a draw, as `deepbabysit.kernels.random` lays them out."""
    seed, step, row = int(control[0]), int(control[1]), int(control[2])
    first = row * columns
    begin, skip = divmod(first, 8)
    # NumPy adds one to the 256-bit counter before it makes a block
    counter = (begin | step << 64 | call << 128) - 1 & (1 << 256) - 1
    philox = _GENERATORS.philox
    philox.state = {
        "bit_generator": "Philox",
        "state": {
            "counter": np.array([counter >> shift & _WORD for shift in (0, 64, 128, 192)], np.uint64),
            "key": np.array([seed, stream], np.uint64),
        },
        "buffer": np.zeros(4, np.uint64),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    words = philox.random_raw((skip + count + 1) // 2)
    halves = words.view(np.uint32)
    if sys.byteorder == "big":  # the low half comes first in the specification
        halves = halves.reshape(-1, 2)[:, ::-1].reshape(-1)
    return halves[skip : skip + count]


def _random_words(ctx: Any, outs: Any, control: Any, *, shape: Any, stream: int, call: int = 0) -> None:
    outs[0][...] = _words(control, prod(shape), prod(shape[1:]), stream, call).reshape(shape)


def _dropout(
    ctx: Any, outs: Any, x: Any, control: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Any = None
) -> None:
    y, factor = outs
    shape = x.shape if noise_shape is None else noise_shape
    kept = _words(control, prod(shape), prod(shape[1:]), stream, call) >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
    np.multiply(kept.reshape(shape), factor.dtype.type(1.0 / (1.0 - rate)), factor)
    np.multiply(x, factor, y)


KERNELS: dict[str, Kernel] = {"random_words": Kernel(_random_words), "dropout": Kernel(_dropout)}
