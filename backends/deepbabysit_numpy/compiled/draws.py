"""Random words, and dropout in one pass over words that have just been drawn."""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DROPOUT, _WORDS = Compiled("draws", "dropout"), Compiled("draws", "random_words")


def _takes(forms: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Any = None) -> bool:
    size = prod(forms[0].shape if noise_shape is None else noise_shape)
    return sys.byteorder == "little" and size >= LEAST["dropout"] and size > 0 and available()


def _dropout(
    ctx: Any, outs: Any, x: Any, control: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Any = None
) -> None:
    y, factor = outs
    columns, kind = prod(factor.shape[1:]), x.dtype
    limit, kept = np.uint32(min(round(rate * 2**32), 2**32 - 1)), 1.0 / (1.0 - rate)
    number, order = np.uint64(stream), np.uint64(call)
    count = team.parts_awake(factor.size, 4.0 * factor.size)  # a draw takes as long as four other loops
    shared = factor.shape != x.shape  # a mask that is repeated is drawn by itself, then multiplied
    source, target = (np.empty_like(factor),) * 2 if shared else (x, y)
    flat = [array.reshape(-1) for array in (source, target, factor)]
    team.TEAM.run(_DROPOUT, kind, count, *flat, control, columns, number, order, limit, kept)
    if shared:
        np.multiply(x, factor, y)


def _takes_words(forms: Any, *, shape: Any, stream: int, call: int = 0) -> bool:
    size = prod(shape)
    return sys.byteorder == "little" and size >= LEAST["dropout"] and size > 0 and available()


def _random_words(ctx: Any, outs: Any, control: Any, *, shape: Any, stream: int, call: int = 0) -> None:
    out = outs[0].reshape(-1)
    _WORDS(out.dtype, out, control, prod(shape[1:]), np.uint64(stream), np.uint64(call))


VARIANTS: dict[str, Kernel] = {
    "dropout": Kernel(_dropout, dtypes=frozenset({"float32", "float64"}), supports=_takes, contiguous=True),
    "random_words": Kernel(_random_words, supports=_takes_words, contiguous=True),
}
