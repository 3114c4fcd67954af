"""Convolutions as matrix products of columns, a block of images at a time.

A block's columns (one row for every position, one column for every element of its window) are copied from a strided
view into scratch memory and multiplied by BLAS at once, while they are in the cache. The block is about 1 MiB: smaller
ones make products too small for BLAS (measured at 3x3, 32 to 128 channels: 128 KiB costs 15 to 120 % more), larger ones
gain at most 2 % and leave a second-level cache. A sequence is an image of height 1. float16 is computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from deepbabysit.kernels.convolution import transposed_space
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel

BLOCK_BYTES = 1 << 20


class Layout(NamedTuple):
    """A convolution over planes: lengths, steps, and how it is cut into blocks."""

    n: int
    h: int
    w: int
    c: int
    kh: int
    kw: int
    f: int
    sh: int
    sw: int
    top: int
    bottom: int
    left: int
    right: int
    dh: int
    dw: int
    oh: int
    ow: int
    groups: int
    images: int  # images in a block
    rows: int  # rows of positions in a block; all of them where a block holds several images

    @property
    def padded(self) -> bool:
        """Whether there is a border."""
        return bool(self.top or self.bottom or self.left or self.right)

    @property
    def pointwise(self) -> bool:
        """Whether every window is one element, and every element a window."""
        return self.kh == self.kw == self.sh == self.sw == self.groups == 1 and not self.padded

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group."""
        return self.groups == self.c > 1

    @property
    def depth(self) -> int:
        """Channels of a group."""
        return self.c // self.groups

    @property
    def border(self) -> tuple[int, int, int, int]:
        """Shape of a block of images with their border."""
        return (self.images, self.h + self.top + self.bottom, self.w + self.left + self.right, self.c)


@lru_cache(maxsize=4096)
def _layout(
    shape: Any, window: Any, f: int, stride: Any, padding: Any, dilation: Any, groups: int, itemsize: int
) -> Layout | None:
    """Return the layout, or None for more than two axes of space."""
    if len(window) == 1:
        shape, window = (shape[0], 1, *shape[1:]), (1, *window)
        stride, padding, dilation = (1, *stride), ((0, 0), *padding), (1, *dilation)
    if len(window) != 2:
        return None
    n, h, w, c = shape
    (kh, kw), (sh, sw), (dh, dw) = window, stride, dilation
    (top, bottom), (left, right) = padding
    oh = (h + top + bottom - (kh - 1) * dh - 1) // sh + 1
    ow = (w + left + right - (kw - 1) * dw - 1) // sw + 1
    # a depthwise convolution holds a block of the image and of the result, the others a block of columns
    width = 3 * f if groups == c > 1 else kh * kw * (c // groups)
    budget = max(BLOCK_BYTES // (max(width, 1) * itemsize), 1)
    images = max(min(n, budget // (oh * ow)), 1)
    rows = oh if budget >= oh * ow else max(budget // ow, 1)
    return Layout(n, h, w, c, kh, kw, f, sh, sw, top, bottom, left, right, dh, dw, oh, ow, groups, images, rows)


def _work(dtype: Any) -> Any:
    """Return the dtype that is computed in."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _steps(stride: Any, padding: Any, dilation: Any, groups: int = 1) -> tuple[Any, Any, Any, int]:
    return stride, padding, dilation, groups


def _windows(lay: Layout, x: Any, border: Any) -> Iterator[tuple[int, int, int, int, Any]]:
    """Yield (first image, images, first row, rows, view of the windows) for every block."""
    for first in range(0, lay.n, lay.images):
        count = min(lay.images, lay.n - first)
        area = x[first : first + count]
        if border is not None:
            border[:count, lay.top : lay.top + lay.h, lay.left : lay.left + lay.w] = area
            area = border[:count]
        s0, s1, s2, s3 = area.strides
        strides = (s0, s1 * lay.sh, s2 * lay.sw, s1 * lay.dh, s2 * lay.dw, s3)
        for row in range(0, lay.oh, lay.rows):
            rows = min(lay.rows, lay.oh - row)
            shape = (count, rows, lay.ow, lay.kh, lay.kw, lay.c)
            yield first, count, row, rows, as_strided(area[:, row * lay.sh :], shape, strides, writeable=False)


def _matrices(kernel: Any, groups: int, dtype: Any) -> Any:
    """Write a kernel as matrices: (groups, window * in, out of a group)."""
    depth, out = kernel.shape[-2], kernel.shape[-1] // groups
    if groups == 1:
        return kernel.reshape(1, -1, out).astype(dtype, copy=False)
    parts = kernel.reshape(-1, depth, groups, out).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(parts, dtype).reshape(groups, -1, out)


# -- forward ---------------------------------------------------------------------------------------------------------


def _column_scratch(lay: Layout, dtype: Any, product: bool) -> tuple[Form, ...]:
    """Return scratch: the border, the columns, and a product where the result cannot be written to directly."""
    positions = lay.images * lay.rows * lay.ow
    return (
        Form(lay.border if lay.padded else (0,), dtype),
        Form((positions * lay.kh * lay.kw * lay.depth,), dtype),
        Form((positions * (lay.f // lay.groups) if product else 0,), dtype),
    )


def _forward_scratch(lay: Layout, dtype: Any) -> tuple[Form, ...]:
    if lay.pointwise:
        return ()
    if lay.depthwise:
        return _depthwise_scratch(lay, _work(dtype))
    return _column_scratch(lay, _work(dtype), lay.groups > 1 or dtype == np.float16)


def _forward(lay: Layout, scratch: Any, x: Any, kernel: Any, y: Any) -> None:
    """Write the convolution of planes x into y."""
    work = _work(y.dtype)
    if lay.depthwise:
        _depthwise(lay, scratch, x, kernel.astype(work, copy=False), y)
        return
    matrices = _matrices(kernel, lay.groups, work)
    if lay.pointwise:
        rows = x.reshape(-1, lay.c).astype(work, copy=False)
        if y.dtype == work:
            np.matmul(rows, matrices[0], out=y.reshape(-1, lay.f))
        else:
            y[...] = np.matmul(rows, matrices[0]).reshape(y.shape)
        return
    border, columns, product = scratch
    if lay.padded:
        border.fill(0)
    width, out = matrices.shape[1:]
    for first, count, row, rows, view in _windows(lay, x, border if lay.padded else None):
        target = y[first : first + count, row : row + rows].reshape(-1, lay.f)
        positions = len(target)
        block = columns[: positions * width].reshape(positions, width)
        spread = block.reshape(*view.shape[:-1], lay.depth)
        for group in range(lay.groups):
            np.copyto(spread, view[..., group * lay.depth : (group + 1) * lay.depth])
            if not product.size:
                np.matmul(block, matrices[0], out=target)
            else:
                part = product[: positions * out].reshape(positions, out)
                np.matmul(block, matrices[group], out=part)
                target[:, group * out : (group + 1) * out] = part


# -- depthwise: a product and a sum for each element of the window, no columns ----------------------------------------


def _depthwise_scratch(lay: Layout, dtype: Any) -> tuple[Form, ...]:
    """Return scratch: the border with repeated channels, and two blocks of the result."""
    images, h, w, _ = lay.border
    block = (images, lay.oh, lay.ow, lay.f)
    return Form((images, h, w, lay.f), dtype), Form(block, dtype), Form(block, dtype)


def _repeated(lay: Layout, area: Any, border: Any) -> Any:
    """Return a block of images with their border, each channel repeated for each output made of it."""
    inner = border[: len(area), lay.top : lay.top + lay.h, lay.left : lay.left + lay.w]
    inner.reshape(*inner.shape[:-1], lay.c, -1)[...] = area[..., None]
    return border[: len(area)]


def _places(lay: Layout) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """Yield every element of the window with the positions it meets in an image with border."""
    for i in range(lay.kh):
        for j in range(lay.kw):
            yield i, j, (
                slice(None),
                slice(i * lay.dh, i * lay.dh + (lay.oh - 1) * lay.sh + 1, lay.sh),
                slice(j * lay.dw, j * lay.dw + (lay.ow - 1) * lay.sw + 1, lay.sw),
            )


def _depthwise(lay: Layout, scratch: Any, x: Any, kernel: Any, y: Any) -> None:
    border, term, total = scratch
    border.fill(0)
    # one row of weights per row of the image, so that the inner loop of the product runs over a whole row
    weights = np.tile(kernel.reshape(lay.kh, lay.kw, 1, lay.f), (1, 1, lay.ow, 1))
    for first in range(0, lay.n, lay.images):
        target = y[first : first + lay.images]
        count = len(target)
        area = _repeated(lay, x[first : first + count], border)
        result = target if y.dtype == total.dtype else total[:count]
        for i, j, place in _places(lay):
            if i == j == 0:
                np.multiply(area[place], weights[0, 0], out=result)
            else:
                np.multiply(area[place], weights[i, j], out=term[:count])
                np.add(result, term[:count], out=result)
        if result is not target:
            np.copyto(target, result, casting="same_kind")


def _depthwise_input_gradient(lay: Layout, scratch: Any, g: Any, kernel: Any, dx: Any) -> None:
    border, term, _ = scratch
    weights = np.tile(kernel.reshape(lay.kh, lay.kw, 1, lay.f), (1, 1, lay.ow, 1))
    for first in range(0, lay.n, lay.images):
        source = g[first : first + lay.images]
        count = len(source)
        area = border[:count]
        area.fill(0)
        for i, j, place in _places(lay):
            np.multiply(source, weights[i, j], out=term[:count], casting="same_kind")
            np.add(area[place], term[:count], out=area[place])
        inner = area[:, lay.top : lay.top + lay.h, lay.left : lay.left + lay.w]
        if lay.f == lay.c:
            dx[first : first + count] = inner
        else:
            dx[first : first + count] = inner.reshape(*inner.shape[:-1], lay.c, -1).sum(axis=-1)


def _depthwise_kernel_gradient(lay: Layout, scratch: Any, x: Any, g: Any, dk: Any) -> None:
    border, term, _ = scratch
    border.fill(0)
    total = np.zeros((lay.kh, lay.kw, lay.f), border.dtype)
    for first in range(0, lay.n, lay.images):
        source = g[first : first + lay.images]
        count = len(source)
        area = _repeated(lay, x[first : first + count], border)
        block = term[:count]
        for i, j, place in _places(lay):
            np.multiply(area[place], source, out=block, casting="same_kind")
            total[i, j] += block.reshape(count * lay.oh, -1).sum(axis=0).reshape(lay.ow, lay.f).sum(axis=0)
    dk[...] = total.reshape(dk.shape)


# -- gradients -------------------------------------------------------------------------------------------------------


def _mirrored(lay: Layout, itemsize: int) -> Layout | None:
    """Return the convolution of the gradient with the reversed kernel that is this one's adjoint, where it is faster.

    That is so for stride 1, a border inside the window, and not many more outputs than inputs.
    """
    if lay.sh != 1 or lay.sw != 1 or lay.f > 2 * lay.c or lay.groups > 1 or lay.pointwise:
        return None
    over, beside = (lay.kh - 1) * lay.dh, (lay.kw - 1) * lay.dw
    if max(lay.top, lay.bottom) > over or max(lay.left, lay.right) > beside:
        return None
    padding = ((over - lay.top, over - lay.bottom), (beside - lay.left, beside - lay.right))
    image, dilation = (lay.n, lay.oh, lay.ow, lay.f), (lay.dh, lay.dw)
    return _layout(image, (lay.kh, lay.kw), lay.c, (1, 1), padding, dilation, 1, itemsize)


def _input_scratch(lay: Layout, dtype: Any) -> tuple[Form, ...]:
    work = _work(dtype)
    if lay.pointwise:
        return ()
    if lay.depthwise:
        return _depthwise_scratch(lay, work)
    mirrored = _mirrored(lay, work.itemsize)
    if mirrored is not None:
        return _forward_scratch(mirrored, dtype)
    positions = lay.images * lay.rows * lay.ow
    return Form(lay.border, work), Form((lay.kh * lay.kw * positions * lay.depth,), work)


def _input_gradient(lay: Layout, scratch: Any, g: Any, kernel: Any, dx: Any) -> None:
    """Write the adjoint of the convolution, applied to planes g, into dx."""
    work = _work(dx.dtype)
    kernel = kernel.astype(work, copy=False).reshape(lay.kh, lay.kw, lay.depth, lay.f)
    if lay.pointwise:
        rows = g.reshape(-1, lay.f).astype(work, copy=False)
        if dx.dtype == work:
            np.matmul(rows, kernel[0, 0].T, out=dx.reshape(-1, lay.c))
        else:
            dx[...] = np.matmul(rows, kernel[0, 0].T).reshape(dx.shape)
        return
    if lay.depthwise:
        _depthwise_input_gradient(lay, scratch, g, kernel, dx)
        return
    mirrored = _mirrored(lay, work.itemsize)
    if mirrored is not None:
        _forward(mirrored, scratch, g, np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2)), dx)
        return
    border, parts = scratch
    out = lay.f // lay.groups
    # (groups, window, out, in): one product for each element of the window, so that sums run over whole rows
    matrices = np.ascontiguousarray(
        kernel.reshape(-1, lay.depth, lay.groups, out).transpose(2, 0, 3, 1)
    )
    for first in range(0, lay.n, lay.images):
        count = min(lay.images, lay.n - first)
        area = border[:count]
        area.fill(0)
        for row in range(0, lay.oh, lay.rows):
            source = g[first : first + count, row : row + lay.rows]
            rows = source.shape[1]
            source = source.reshape(-1, lay.f).astype(work, copy=False)
            product = parts[: lay.kh * lay.kw * len(source) * lay.depth].reshape(-1, len(source), lay.depth)
            for group in range(lay.groups):
                np.matmul(source[:, group * out : (group + 1) * out], matrices[group], out=product)
                channels = slice(group * lay.depth, (group + 1) * lay.depth)
                for i in range(lay.kh):
                    y0 = row * lay.sh + i * lay.dh
                    for j in range(lay.kw):
                        x0 = j * lay.dw
                        target = area[
                            :, y0 : y0 + (rows - 1) * lay.sh + 1 : lay.sh,
                            x0 : x0 + (lay.ow - 1) * lay.sw + 1 : lay.sw, channels,
                        ]
                        np.add(target, product[i * lay.kw + j].reshape(target.shape), out=target)
        dx[first : first + count] = area[:, lay.top : lay.top + lay.h, lay.left : lay.left + lay.w]


def _kernel_scratch(lay: Layout, dtype: Any) -> tuple[Form, ...]:
    work = _work(dtype)
    if lay.pointwise:
        return ()
    if lay.depthwise:
        return _depthwise_scratch(lay, work)
    size = lay.groups * lay.kh * lay.kw * lay.depth * (lay.f // lay.groups)
    border, columns, _ = _column_scratch(lay, work, False)
    return border, columns, Form((size,), work), Form((size // lay.groups,), work)


def _kernel_gradient(lay: Layout, scratch: Any, x: Any, g: Any, dk: Any) -> None:
    """Write the gradient for the kernel into dk."""
    work = _work(dk.dtype)
    if not lay.n:
        dk.fill(0)
        return
    if lay.pointwise:
        rows = x.reshape(-1, lay.c).astype(work, copy=False)
        product = np.matmul(rows.T, g.reshape(-1, lay.f).astype(work, copy=False))
        dk[...] = product.reshape(dk.shape)
        return
    if lay.depthwise:
        _depthwise_kernel_gradient(lay, scratch, x, g, dk)
        return
    border, columns, totals, product = scratch
    if lay.padded:
        border.fill(0)
    width, out = lay.kh * lay.kw * lay.depth, lay.f // lay.groups
    totals = totals.reshape(lay.groups, width, out)
    product = product.reshape(width, out)
    started = False
    for first, count, row, rows, view in _windows(lay, x, border if lay.padded else None):
        source = g[first : first + count, row : row + rows].reshape(-1, lay.f).astype(work, copy=False)
        block = columns[: len(source) * width].reshape(len(source), width)
        spread = block.reshape(*view.shape[:-1], lay.depth)
        for group in range(lay.groups):
            np.copyto(spread, view[..., group * lay.depth : (group + 1) * lay.depth])
            part = source[:, group * out : (group + 1) * out]
            if started:
                np.matmul(block.T, part, out=product)
                np.add(totals[group], product, out=totals[group])
            else:
                np.matmul(block.T, part, out=totals[group])
        started = True
    parts = totals.reshape(lay.groups, lay.kh * lay.kw, lay.depth, out).transpose(1, 2, 0, 3)
    dk.reshape(lay.kh * lay.kw, lay.depth, lay.groups, out)[...] = parts


# -- the table -------------------------------------------------------------------------------------------------------


def planes(array: Any) -> Any:
    """Return images; a sequence is an image of height 1."""
    return array if array.ndim == 4 else array.reshape(array.shape[0], 1, *array.shape[1:])


class Shapes(NamedTuple):
    """What a layout is made of, read from the inputs of one of the operations."""

    shape: Any
    window: Any
    f: int
    steps: Any
    dtype: Any

    @property
    def layout(self) -> Layout | None:
        """The layout."""
        return _layout(self.shape, self.window, self.f, *self.steps, _work(self.dtype).itemsize)


def of_conv(x: Any, kernel: Any, attrs: Any) -> Shapes:
    """Read the shapes of a convolution from its inputs."""
    return Shapes(x.shape, kernel.shape[:-2], kernel.shape[-1], _steps(**attrs), np.result_type(x.dtype, kernel.dtype))


def of_depthwise(x: Any, kernel: Any, attrs: Any) -> Shapes:
    """Read the shapes of a depthwise convolution from its inputs."""
    steps = _steps(**attrs, groups=kernel.shape[-2])
    outputs = kernel.shape[-2] * kernel.shape[-1]
    return Shapes(x.shape, kernel.shape[:-2], outputs, steps, np.result_type(x.dtype, kernel.dtype))


def of_input_gradient(g: Any, kernel: Any, attrs: Any) -> Shapes:
    """Read the shapes of the gradient for the input from its inputs."""
    steps = _steps(**{k: v for k, v in attrs.items() if k != "space"})
    shape = (g.shape[0], *attrs["space"], kernel.shape[-2] * steps[-1])
    return Shapes(shape, kernel.shape[:-2], kernel.shape[-1], steps, np.result_type(g.dtype, kernel.dtype))


def of_transpose(x: Any, kernel: Any, attrs: Any) -> Shapes:
    """Read the shapes of a transposed convolution from its inputs."""
    steps = _steps(**{k: v for k, v in attrs.items() if k != "output_padding"})
    space = transposed_space(x.shape[1:-1], kernel.shape[:-2], *steps[:3], attrs.get("output_padding"))
    shape = (x.shape[0], *space, kernel.shape[-2] * steps[-1])
    return Shapes(shape, kernel.shape[:-2], kernel.shape[-1], steps, np.result_type(x.dtype, kernel.dtype))


def of_kernel_gradient(x: Any, g: Any, attrs: Any) -> Shapes:
    """Read the shapes of the gradient for the kernel from its inputs."""
    steps = _steps(**{k: v for k, v in attrs.items() if k != "window"})
    return Shapes(x.shape, attrs["window"], g.shape[-1], steps, np.result_type(x.dtype, g.dtype))


def _kernel(shapes: Any, compute: Any, scratch: Any, kernel_first: bool = False) -> Kernel:
    """Return a kernel: `shapes` reads the layout from the inputs, `compute` works on planes."""

    def run(ctx: Any, outs: Any, first: Any, second: Any, **attrs: Any) -> None:
        lay = shapes(first, second, attrs).layout
        space = planes(second) if kernel_first else second
        compute(lay, ctx.scratch, planes(first), space, outs[0] if kernel_first else planes(outs[0]))

    def need(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        found = shapes(*forms, attrs)
        needed: tuple[Form, ...] = scratch(found.layout, found.dtype)
        return needed

    return Kernel(run, scratch=need, supports=lambda forms, **attrs: shapes(*forms, attrs).layout is not None)


KERNELS: dict[str, Kernel] = {
    "conv": _kernel(of_conv, _forward, _forward_scratch),
    "depthwise_conv": _kernel(of_depthwise, _forward, _forward_scratch),
    "conv_input_gradient": _kernel(of_input_gradient, _input_gradient, _input_scratch),
    "conv_transpose": _kernel(of_transpose, _input_gradient, _input_scratch),
    "conv_kernel_gradient": _kernel(of_kernel_gradient, _kernel_gradient, _kernel_scratch, kernel_first=True),
}
