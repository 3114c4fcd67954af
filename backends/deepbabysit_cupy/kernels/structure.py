"""Shapes, slices, joins, borders and sliding windows: views where the memory allows it, else one copy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.structure import plain_key, window_count
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import around, bits, launch, packed, rowwise, short
from deepbabysit_cupy.kernels.maps import run_map, steps

_FILE = "structure.cu"
_AXES = 6  # of a border or an index


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


def _placed(ctx: Any, out: Any, x: Any, value: float, axes: list[tuple[int, int, int, int]]) -> None:
    """Fill `out` with a value and put `x` into it: per axis of `out`, from the front, (start, step, count, stride)."""
    numbers: list[int] = []
    for length, axis in zip(reversed(out.shape), reversed(axes), strict=True):
        numbers += [length, *axis]
    numbers += [1, 0, 1, 1, 0] * (_AXES - out.ndim)
    filled = np.uint64(np.array(value).astype(out.dtype).view(f"u{out.dtype.itemsize}"))
    launch(ctx, _FILE, "placed", (bits(out),), out.size, (out, x, filled, out.size, *numbers))


def _pad(ctx: Any, outs: Any, x: Any, *, widths: Any, value: float = 0.0) -> None:
    pairs = zip(widths, x.shape, steps(x, x.shape), strict=True)
    _placed(ctx, outs[0], x, value, [(before, 1, n, stride) for (before, _), n, stride in pairs])


def _embed_slice(ctx: Any, outs: Any, x: Any, *, shape: Any, key: Any) -> None:
    places: list[tuple[int, int, int]] = []
    own: list[Any] = []  # how x is read so that its axes are those of the result
    for item in key:
        if item is None:
            own.append(0)
        elif isinstance(item, tuple):
            found = range(*slice(*item[1:]).indices(shape[len(places)]))
            # backwards: the same places from the other end
            own.append(slice(None, None, 1 if found.step > 0 else -1))
            found = found if found.step > 0 else found[::-1]
            places.append((found.start, found.step, len(found)))
        else:
            own.append(None)
            places.append((item % shape[len(places)], 1, 1))
    places += [(0, 1, n) for n in shape[len(places) :]]
    x = x[(*own, ...)]
    strides = steps(x, x.shape)
    _placed(ctx, outs[0], x, 0.0, [(*place, stride) for place, stride in zip(places, strides, strict=True)])


def _concat(ctx: Any, outs: Any, *arrays: Any, axis: int = 0) -> None:
    out, axis = outs[0], axis % arrays[0].ndim
    if any(x.dtype != out.dtype for x in arrays):
        start = 0
        for x in arrays:
            part = out[(*[slice(None)] * axis, slice(start, start + x.shape[axis]), ...)]
            run_map("astype", ctx, (part,), (x,), {"dtype": out.dtype.name})
            start += x.shape[axis]
        return
    _parts("join", ctx, out, [(x, x.shape[axis]) for x in arrays], axis)


def _unstack(ctx: Any, outs: Any, x: Any, *, axis: int = 0) -> None:
    _parts("split", ctx, x, [(out, 1) for out in outs], axis % x.ndim)


def _parts(name: str, ctx: Any, whole: Any, parts: list[tuple[Any, int]], axis: int) -> None:
    """Copy between an array and parts of it that stand side by side along an axis, eight parts at a launch."""
    before, after = around(whole.shape, axis)
    size, after = packed(after, whole, *[part for part, _ in parts])
    parts = [part for part in parts if part[1]]
    start = 0
    for first in range(0, len(parts), 8):
        some = parts[first : first + 8]
        total = sum(length for _, length in some)
        numbers = [n for part in (*some, *[(whole, 0)] * (8 - len(some))) for n in part]
        launch(
            ctx, _FILE, name, (size,), before * total * after,
            (whole, before, whole.shape[axis], after, start, len(some), *numbers),
        )
        start += total


def _few_axes(forms: Any, **attrs: Any) -> bool:
    return len(attrs.get("shape", forms[0].shape)) <= _AXES


KERNELS: dict[str, Kernel] = {
    "reshape": Kernel(lambda ctx, outs, x, *, shape: x.reshape(shape), view=True),
    "flatten_rows": Kernel(lambda ctx, outs, x: x.reshape(len(x), prod(x.shape[1:])), view=True),
    "permute_dims": Kernel(lambda ctx, outs, x, *, axes: x.transpose(axes), view=True),
    "broadcast_to": Kernel(lambda ctx, outs, x, *, shape: ctx.backend.xp.broadcast_to(x, shape), view=True),
    "flip": Kernel(_flip, view=True),
    "getitem": Kernel(lambda ctx, outs, x, *, key: x[plain_key(key)], view=True),
    "stop_gradient": Kernel(lambda ctx, outs, x: x, view=True),
    "window_view": Kernel(_window_view, view=True),
    "pad": Kernel(_pad, supports=short("pad", _few_axes)),
    "embed_slice": Kernel(_embed_slice, supports=short("embed_slice", _few_axes)),
    "concat": rowwise("concat", _concat),
    "unstack": rowwise("unstack", _unstack),
}
