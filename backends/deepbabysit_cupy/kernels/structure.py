"""Shapes, slices, joins, borders and sliding windows: views where the memory allows it, else one copy."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.kernels.structure import plain_key, window_count
from deepbabysit.runtime.backend import Kernel


def _window_view(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, dilation: Any) -> Any:
    space = len(window)
    lengths = zip(x.shape[1:-1], window, stride, dilation, strict=True)
    positions = tuple(window_count(*axis) for axis in lengths)
    along = x.strides[1 : 1 + space]
    strides = (
        x.strides[0],
        *(s * t for s, t in zip(along, stride, strict=True)),
        *(s * d for s, d in zip(along, dilation, strict=True)),
        x.strides[-1],
    )
    return ctx.backend.xp.ndarray((x.shape[0], *positions, *window, x.shape[-1]), x.dtype, x.data, strides)


def _flip(ctx: Any, outs: Any, x: Any, *, axis: Any = None) -> Any:
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    turned = {a % x.ndim for a in axes}
    return x[(*(slice(None, None, -1) if a in turned else slice(None) for a in range(x.ndim)), ...)]


KERNELS: dict[str, Kernel] = {
    "reshape": Kernel(lambda ctx, outs, x, *, shape: x.reshape(shape), view=True),
    "flatten_rows": Kernel(lambda ctx, outs, x: x.reshape(len(x), prod(x.shape[1:])), view=True),
    "permute_dims": Kernel(lambda ctx, outs, x, *, axes: x.transpose(axes), view=True),
    "broadcast_to": Kernel(lambda ctx, outs, x, *, shape: ctx.backend.xp.broadcast_to(x, shape), view=True),
    "flip": Kernel(_flip, view=True),
    "getitem": Kernel(lambda ctx, outs, x, *, key: x[plain_key(key)], view=True),
    "stop_gradient": Kernel(lambda ctx, outs, x: x, view=True),
    "window_view": Kernel(_window_view, view=True),
}
