"""Joins, borders and sliding windows; the windows of an image are a view."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from deepbabysit.kernels.structure import plain_key
from deepbabysit.runtime.backend import Kernel


def _concat(ctx: Any, outs: Any, *arrays: Any, axis: int = 0) -> None:
    np.concatenate(arrays, axis=axis, out=outs[0])


def _pad(ctx: Any, outs: Any, x: Any, *, widths: Any, value: float = 0.0) -> None:
    out = outs[0]
    out.fill(value)
    out[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x


def _embed_slice(ctx: Any, outs: Any, x: Any, *, shape: Any, key: Any) -> None:
    out = outs[0]
    out.fill(0)
    out[plain_key(key)] = x


def _window_view(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, dilation: Any) -> Any:
    space = len(window)
    counts = tuple(
        (x.shape[1 + i] - (window[i] - 1) * dilation[i] - 1) // stride[i] + 1 for i in range(space)
    )
    steps = x.strides[1 : 1 + space]
    strides = (
        x.strides[0],
        *(s * t for s, t in zip(steps, stride, strict=True)),
        *(s * d for s, d in zip(steps, dilation, strict=True)),
        x.strides[-1],
    )
    return as_strided(x, (x.shape[0], *counts, *window, x.shape[-1]), strides, writeable=False)


def _window_sum(ctx: Any, outs: Any, x: Any, *, space: Any, stride: Any, dilation: Any) -> None:
    out = outs[0]
    out.fill(0)
    axes = len(space)
    counts, window = x.shape[1 : 1 + axes], x.shape[1 + axes : 1 + 2 * axes]
    everything = (slice(None),) * (1 + axes)
    for offset in np.ndindex(*window):
        places = tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, dilation, counts, stride, strict=True)
        )
        target = out[(slice(None), *places)]
        np.add(target, x[(*everything, *offset)], target)


KERNELS: dict[str, Kernel] = {
    "concat": Kernel(_concat),
    "pad": Kernel(_pad),
    "embed_slice": Kernel(_embed_slice),
    "window_view": Kernel(_window_view, view=True),
    "window_sum": Kernel(_window_sum),
}
