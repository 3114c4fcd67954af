"""Windows of images: their geometry, pooling, and the adjoint of showing them. A sequence is an image of height 1."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from deepbabysit.kernels.structure import window_count
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import launch, rowwise, same_floats

FILE = "windows.cu"


class Geometry(NamedTuple):
    """What windows.cu knows by the same name, in the same order."""

    n: int
    h: int
    w: int
    c: int
    kh: int
    kw: int
    sh: int
    sw: int
    top: int
    left: int
    dh: int
    dw: int
    oh: int
    ow: int

    @property
    def window(self) -> int:
        """Elements of a window."""
        return self.kh * self.kw

    @property
    def positions(self) -> int:
        """Windows of an image."""
        return self.oh * self.ow


def geometry(shape: Any, window: Any, stride: Any, padding: Any, dilation: Any) -> Geometry:
    """Return the geometry of windows over images of a shape with one or two axes of space."""
    if len(window) == 1:
        shape, window = (shape[0], 1, *shape[1:]), (1, *window)
        stride, padding, dilation = (1, *stride), ((0, 0), *padding), (1, *dilation)
    counts = [
        window_count(length + before + after, size, step, wide)
        for length, (before, after), size, step, wide in zip(
            shape[1:-1], padding, window, stride, dilation, strict=True
        )
    ]
    return Geometry._make((*shape, *window, *stride, padding[0][0], padding[1][0], *dilation, *counts))


def plane(forms: Any, **attrs: Any) -> bool:
    """Tell whether there are one or two axes of space, of one floating dtype."""
    space = len(attrs["stride"])
    return space <= 2 and same_floats(forms)


def _pool(largest: bool) -> Any:
    def run(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, padding: Any) -> None:
        found = geometry(x.shape, window, stride, padding, (1,) * len(window))
        launch(ctx, FILE, "pool", (x.dtype.name,), outs[0].size, (outs[0], x, int(largest), *found))

    return run


def _max_gradient(ctx: Any, outs: Any, g: Any, x: Any, y: Any, *, window: Any, stride: Any, padding: Any) -> None:
    found = geometry(x.shape, window, stride, padding, (1,) * len(window))
    launch(ctx, FILE, "max_pool_gradient", (x.dtype.name,), x.size, (outs[0], g, x, y, *found))


def _avg_gradient(ctx: Any, outs: Any, g: Any, *, space: Any, window: Any, stride: Any, padding: Any) -> None:
    found = geometry(outs[0].shape, window, stride, padding, (1,) * len(window))
    launch(ctx, FILE, "avg_pool_gradient", (g.dtype.name,), outs[0].size, (outs[0], g, *found))


def uncolumns(ctx: Any, image: Any, parts: Any, found: Geometry, groups: int) -> None:
    """Add windows (groups, positions, window, channels of a group) back into images."""
    launch(ctx, FILE, "uncolumns", (image.dtype.name,), prod(found[:4]), (image, parts, groups, *found))


def _window_sum(ctx: Any, outs: Any, x: Any, *, space: Any, stride: Any, dilation: Any) -> None:
    window = x.shape[1 + len(space) : 1 + 2 * len(space)]
    uncolumns(ctx, outs[0], x, geometry(outs[0].shape, window, stride, ((0, 0),) * len(space), dilation), 1)


KERNELS: dict[str, Kernel] = {
    "max_pool": rowwise("max_pool", _pool(True), plane),
    "avg_pool": rowwise("avg_pool", _pool(False), plane),
    "max_pool_gradient": rowwise("max_pool_gradient", _max_gradient, plane),
    "avg_pool_gradient": rowwise("avg_pool_gradient", _avg_gradient, plane),
    "window_sum": rowwise("window_sum", _window_sum, plane),
}
