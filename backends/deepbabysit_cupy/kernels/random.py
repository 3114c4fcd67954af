"""Random words and dropout, with the bits of the CPU."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import FLOATS, launch, rowwise
from deepbabysit_cupy.kernels.maps import run_map

_FILE = "random.cu"


def _words(ctx: Any, outs: Any, control: Any, *, shape: Any, stream: int, call: int = 0) -> None:
    count = outs[0].size
    # a thread for each eight words, one more block where the first of them are another row's
    launch(
        ctx, _FILE, "random_words", ("uint32",), count and count // 8 + 2,
        (outs[0], control, count, prod(shape[1:]), np.uint64(stream), np.uint64(call)),
    )


def _dropout(
    ctx: Any, outs: Any, x: Any, control: Any, *, rate: float, stream: int, call: int = 0, noise_shape: Any = None
) -> None:
    y, factor = outs
    alone = factor.shape == y.shape
    launch(
        ctx, _FILE, "dropout", (x.dtype.name,), factor.size and factor.size // 8 + 2,
        (y, factor, x, control, int(alone), factor.size, prod(factor.shape[1:]), np.uint64(stream), np.uint64(call),
         np.uint64(round(rate * 2**32)), 1.0 - rate),
    )
    if not alone:
        run_map("multiply", ctx, (y,), (x, factor), {})


KERNELS: dict[str, Kernel] = {
    "random_words": rowwise("random_words", _words),
    "dropout": rowwise("dropout", _dropout, lambda forms, **attrs: forms[0].dtype.name in FLOATS),
}
