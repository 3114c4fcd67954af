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
    size = prod(forms[0].shape)
    same = noise_shape is None or tuple(noise_shape) == tuple(forms[0].shape)
    return same and sys.byteorder == "little" and size >= LEAST["dropout"] and size > 0 and available()


def _dropout(
    ctx: Any, outs: Any, x: Any, control: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Any = None
) -> None:
    x, y, factor = x.reshape(-1), outs[0].reshape(-1), outs[1].reshape(-1)
    columns, kind = prod(outs[0].shape[1:]), x.dtype
    limit, kept = np.uint32(min(round(rate * 2**32), 2**32 - 1)), 1.0 / (1.0 - rate)
    number, order = np.uint64(stream), np.uint64(call)
    count = team.parts_awake(x.size, float(x.size))
    team.TEAM.run(_DROPOUT, kind, count, x, y, factor, control, columns, number, order, limit, kept)


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
