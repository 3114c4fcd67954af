"""Convolutions: columns of windows and matrix products, a block of images at a time; depthwise ones directly.

A block's columns fit into the second-level cache of a large GPU, so that the product reads them from there.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.kernels.convolution import transposed_space
from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import launch, same_floats, short
from deepbabysit_cupy.kernels.maps import SHORT, clear, run_map
from deepbabysit_cupy.kernels.products import affine
from deepbabysit_cupy.kernels.reducing import Reduction, power, reduction, run_reduction
from deepbabysit_cupy.kernels.windows import FILE, Geometry, geometry, uncolumns
from deepbabysit_cupy.lt import Product, aligned

COLUMN_BYTES = 32 << 20
CHUNK = 2048  # positions of which a block of a depthwise kernel gradient makes a partial sum, at least
_CHUNKS = 128


class Conv(NamedTuple):
    """A convolution of given shapes.

    Attributes:
        geometry: of its windows.
        f: outputs.
        groups: of channels.
        dtype: of everything.
    """

    geometry: Geometry
    f: int
    groups: int
    dtype: np.dtype[Any]

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group."""
        return self.groups == self.geometry.c > 1

    @property
    def pointwise(self) -> bool:
        """Whether every window is one element, and every element a window: no columns are needed."""
        g = self.geometry
        return g.window == g.sh == g.sw == 1 and (g.oh, g.ow, g.top, g.left) == (g.h, g.w, 0, 0)

    @property
    def width(self) -> int:
        """Elements of a window in one group."""
        return self.geometry.window * (self.geometry.c // self.groups)

    @property
    def out(self) -> int:
        """Outputs of a group."""
        return self.f // self.groups

    @property
    def images(self) -> int:
        """Images of a block."""
        each = self.geometry.positions * self.width * self.groups
        return max(1, min(self.geometry.n, COLUMN_BYTES // (max(each, 1) * self.dtype.itemsize)))

    @property
    def column_form(self) -> Form:
        """The columns of a block."""
        size = 0 if self.pointwise or self.depthwise else self.geometry.positions * self.width * self.groups
        return Form((self.images * size,), self.dtype)

    def product(self, ctx: Any, images: int, kind: str, accumulate: bool = False) -> Product:
        """Return the product of a block of images, one batch for each group: "y", "kernel" or "columns" is made."""
        positions, width, out, f = images * self.geometry.positions, self.width, self.out, self.f
        # columns, or the pixels themselves
        lead, step = (self.geometry.c, width) if self.pointwise else (width, positions * width)
        dtype, groups, tf32 = self.dtype.name, self.groups, ctx.backend.tf32
        if kind == "y":
            return Product(positions, out, width, False, False, lead, f, f, dtype, groups, step, out, out, "", tf32)
        if kind == "kernel":
            return Product(
                width, out, positions, True, False, lead, f, f, dtype, groups, step, out, out, "", tf32, 1.0, accumulate
            )
        return Product(positions, width, out, False, True, f, f, lead, dtype, groups, out, out, step, "", tf32)


def _columns(ctx: Any, conv: Conv, x: Any, first: int, images: int, columns: Any) -> int:
    """Write the columns of a block of images; returns their address."""
    g = conv.geometry
    item = conv.dtype.itemsize
    pixels = int(x.data.ptr) + first * g.h * g.w * g.c * item
    if conv.pointwise:
        return pixels
    # sixteen bytes of neighbouring channels at a time where that is possible
    depth = g.c // conv.groups
    pack = 16 // item if depth * item % 16 == 0 and pixels % 16 == 0 and columns.data.ptr % 16 == 0 else 1
    block = g._replace(n=images, c=g.c // pack)
    count = images * g.positions * conv.width * conv.groups // pack
    launch(
        ctx, FILE, "columns", (str(item * 8 * pack),), count, (columns, x[first : first + images], conv.groups, *block)
    )
    return int(columns.data.ptr)


def _blocks(conv: Conv) -> list[tuple[int, int]]:
    """Return (first image, images) of every block."""
    n = conv.geometry.n
    return [(first, min(conv.images, n - first)) for first in range(0, n, conv.images)]


def forward(ctx: Any, conv: Conv, scratch: Any, x: Any, kernel: Any, y: Any, bias: Any, activation: str) -> None:
    """Write a convolution, with bias and activation where there is a bias."""
    if not y.size:
        return
    if conv.depthwise:
        many = conv.f // conv.geometry.c
        launch(ctx, FILE, "depthwise", (x.dtype.name,), y.size, (y, x, kernel, many, *conv.geometry))
        if bias is not None:
            run_map("biased", ctx, (y,), (y, bias), {"activation": activation})
        return
    for first, images in _blocks(conv):
        columns = _columns(ctx, conv, x, first, images, scratch[0])
        block = y[first : first + images]
        affine(ctx, conv.product(ctx, images, "y"), columns, kernel.data.ptr, block, bias, activation)


def by_input(ctx: Any, conv: Conv, scratch: Any, g: Any, kernel: Any, dx: Any) -> None:
    """Write the gradient for the input, which is the transposed convolution too."""
    if not dx.size:
        return
    if not g.size:
        clear(ctx, dx)
        return
    if conv.depthwise:
        many = conv.f // conv.geometry.c
        launch(ctx, FILE, "depthwise_input", (g.dtype.name,), dx.size, (dx, g, kernel, many, *conv.geometry))
        return
    for first, images in _blocks(conv):
        source, target = g[first : first + images], dx[first : first + images]
        made = target if conv.pointwise else scratch[0]
        affine(ctx, conv.product(ctx, images, "columns"), source.data.ptr, kernel.data.ptr, made)
        if not conv.pointwise:
            uncolumns(ctx, target, made, conv.geometry._replace(n=images), conv.groups)


def by_kernel(ctx: Any, conv: Conv, scratch: Any, x: Any, g: Any, dk: Any) -> None:
    """Write the gradient for the kernel."""
    if not dk.size:
        return
    if not g.size:
        clear(ctx, dk)
        return
    if conv.depthwise:
        found, chunk = _partial(conv)
        window, width = conv.geometry.window, min(32, power(conv.f))
        chunks = -(-conv.geometry.n * conv.geometry.positions // chunk)
        launch(
            ctx, FILE, "depthwise_kernel", (g.dtype.name,), None,
            (scratch[1], x, g, conv.f // conv.geometry.c, chunk, width, *conv.geometry),
            grid=(-(-conv.f // width), window, chunks),
        )
        assert found is not None
        run_reduction(found, ctx, (dk,), (scratch[1].reshape(chunks, -1),), (), scratch[2:])
        return
    for first, images in _blocks(conv):
        columns = _columns(ctx, conv, x, first, images, scratch[0])
        affine(ctx, conv.product(ctx, images, "kernel", first > 0), columns, g[first : first + images].data.ptr, dk)


def _partial(conv: Conv) -> tuple[Reduction | None, int]:
    """Return how the partial sums of a depthwise kernel gradient are put together, and positions of each."""
    positions = conv.geometry.n * conv.geometry.positions
    chunk = max(CHUNK, -(-positions // _CHUNKS))
    wide = np.dtype(np.float64) if conv.dtype == np.float64 else np.dtype(np.float32)
    form = Form((max(-(-positions // chunk), 1), conv.geometry.window * conv.f), wide)
    return reduction("itself", ("sum",), (form,), (0,)), chunk


def _kernel_scratch(conv: Conv) -> tuple[Form, ...]:
    if not conv.depthwise:
        return (conv.column_form,)
    found, chunk = _partial(conv)
    assert found is not None
    chunks = max(-(-conv.geometry.n * conv.geometry.positions // chunk), 1)
    partial = Form((chunks * conv.geometry.window * conv.f,), found.kinds[0])
    return (conv.column_form, partial, *found.scratch)


# -- the table -------------------------------------------------------------------------------------------------------


def of_conv(x: Any, kernel: Any, *, stride: Any, padding: Any, dilation: Any, groups: int = 1, **_: Any) -> Conv:
    """Read a convolution from its inputs."""
    return Conv(geometry(x.shape, kernel.shape[:-2], stride, padding, dilation), kernel.shape[-1], groups, x.dtype)


def of_depthwise(x: Any, kernel: Any, **steps: Any) -> Conv:
    """Read a depthwise convolution from its inputs."""
    channels, many = kernel.shape[-2:]
    return Conv(geometry(x.shape, kernel.shape[:-2], **steps), channels * many, channels, x.dtype)


def of_input_gradient(
    g: Any, kernel: Any, *, space: Any, stride: Any, padding: Any, dilation: Any, groups: int = 1
) -> Conv:
    """Read a convolution from the inputs of its gradient for the input."""
    shape = (g.shape[0], *space, kernel.shape[-2] * groups)
    return Conv(geometry(shape, kernel.shape[:-2], stride, padding, dilation), kernel.shape[-1], groups, g.dtype)


def of_transpose(x: Any, kernel: Any, *, output_padding: Any = None, **steps: Any) -> Conv:
    """Read the convolution of which a transposed one is the adjoint."""
    window = kernel.shape[:-2]
    space = transposed_space(
        x.shape[1:-1], window, steps["stride"], steps["padding"], steps["dilation"], output_padding
    )
    return of_input_gradient(x, kernel, space=space, **steps)


def of_kernel_gradient(
    x: Any, g: Any, *, window: Any, stride: Any, padding: Any, dilation: Any, groups: int = 1
) -> Conv:
    """Read a convolution from the inputs of its gradient for the kernel."""
    return Conv(geometry(x.shape, window, stride, padding, dilation), g.shape[-1], groups, x.dtype)


def _kernel(name: str, read: Any, run: Any, scratch: Any) -> Kernel:
    """Return a kernel: `read` makes the convolution from the first two inputs."""

    def supports(forms: Any, **attrs: Any) -> bool:
        if len(attrs["stride"]) > 2 or not same_floats(forms):
            return False
        conv = read(*forms[:2], **_steps(attrs))
        return prod(conv.column_form.shape) < SHORT

    return Kernel(
        run, lambda forms, **attrs: scratch(read(*forms[:2], **_steps(attrs))), supports=short(name, supports),
        contiguous=True,
    )


def _steps(attrs: Any) -> Any:
    return {key: value for key, value in attrs.items() if key != "activation"}


def _conv(read: Any) -> Any:
    def run(ctx: Any, outs: Any, x: Any, kernel: Any, *bias: Any, activation: str = "linear", **attrs: Any) -> None:
        conv = read(x, kernel, **attrs)
        forward(ctx, conv, ctx.scratch, x, kernel, outs[0], bias[0] if bias else None, activation)

    return run


def _by_input(read: Any) -> Any:
    def run(ctx: Any, outs: Any, g: Any, kernel: Any, **attrs: Any) -> None:
        by_input(ctx, read(g, kernel, **attrs), ctx.scratch, g, kernel, outs[0])

    return run


def _by_kernel(ctx: Any, outs: Any, x: Any, g: Any, **attrs: Any) -> None:
    conv = of_kernel_gradient(x, g, **attrs)
    by_kernel(ctx, conv, ctx.scratch, x, g, outs[0])
    if len(outs) > 1:
        by_bias(ctx, ctx.scratch, g, outs[1])


def _summed(g: Any) -> Reduction:
    found = reduction("itself", ("sum",), (Form((prod(g.shape[:-1]), g.shape[-1]), g.dtype),), (0,))
    assert found is not None
    return found


def by_bias(ctx: Any, scratch: Any, g: Any, db: Any) -> None:
    """Write the gradient for the bias; what it needs is the last of the scratch arrays."""
    found = _summed(g)
    mine = len(scratch) - len(found.scratch)
    run_reduction(found, ctx, (db,), (g.reshape(-1, g.shape[-1]),), (), scratch[mine:])


def bias_scratch(g: Any) -> tuple[Form, ...]:
    """Return the scratch arrays of `by_bias`."""
    return _summed(g).scratch


def _both_scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    return (*_kernel_scratch(of_kernel_gradient(*forms, **attrs)), *bias_scratch(forms[1]))


# -- both gradients by one product: recorded steps do that where it was timed and found faster -------------------------


def _with_sums(ctx: Any, conv: Conv) -> Product:
    return replace(conv.product(ctx, conv.geometry.n, "kernel"), epilogue="bgrada")


def sums_in_product(ctx: Any, conv: Conv, scratch: Any, x: Any, g: Any, dk: Any, db: Any) -> bool:
    """Tell whether the product that makes a kernel's gradient can sum up the bias' one: it reads all of `g` once."""
    if conv.depthwise or conv.groups > 1 or conv.images < conv.geometry.n or not (dk.size and g.size):
        return False
    columns = x if conv.pointwise else scratch[0]
    addresses = [int(a.data.ptr) for a in (columns, g, dk, db)]
    return bool(ctx.backend.lt.supports(_with_sums(ctx, conv), aligned(*addresses)))


def run_with_sums(ctx: Any, outs: Any, x: Any, g: Any, **attrs: Any) -> None:
    """Write the gradients for kernel and bias by a product that `sums_in_product` found."""
    conv = of_kernel_gradient(x, g, **attrs)
    columns = _columns(ctx, conv, x, 0, conv.geometry.n, ctx.scratch[0])
    dk, db = (int(out.data.ptr) for out in outs)
    ctx.backend.lt.run(_with_sums(ctx, conv), columns, g.data.ptr, dk, db, ctx.backend.stream.ptr)


def _column_scratch(conv: Conv) -> tuple[Form, ...]:
    return (conv.column_form,)


_GRADIENT = _kernel("conv_kernel_gradient", of_kernel_gradient, _by_kernel, _kernel_scratch)
KERNELS: dict[str, Kernel] = {
    "conv": _kernel("conv", of_conv, _conv(of_conv), _column_scratch),
    "affine_conv": _kernel("affine_conv", of_conv, _conv(of_conv), _column_scratch),
    "depthwise_conv": _kernel("depthwise_conv", of_depthwise, _conv(of_depthwise), _column_scratch),
    "conv_input_gradient": _kernel(
        "conv_input_gradient", of_input_gradient, _by_input(of_input_gradient), _column_scratch
    ),
    "conv_transpose": _kernel("conv_transpose", of_transpose, _by_input(of_transpose), _column_scratch),
    "conv_kernel_gradient": _GRADIENT,
    "conv_parameter_gradients": Kernel(_by_kernel, _both_scratch, supports=_GRADIENT.supports, contiguous=True),
}
