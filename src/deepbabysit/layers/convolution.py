"""Convolution layers; images are (N, H, W, C), sequences (N, T, C)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, final

import numpy as np

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.convolution import resolve_padding, resolve_transposed_padding
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.affine import Affine, positive_int
from deepbabysit.layers.checks import IMAGE, SEQUENCE, need_axes, need_floats

_AFFINE_CONV = SPECS["affine_conv"]


def sizes(layer: str, name: str, value: Any, space: int) -> tuple[int, ...]:
    """Return a size given as one number or as one for each axis.

    >>> sizes("Conv2D", "kernel_size", 3, 2)
    (3, 3)
    """
    items = (value,) * space if isinstance(value, int | np.integer) else tuple(value)
    if len(items) != space:
        raise ValueError(f"{layer}: {name} must be one whole number or {space} of them; got {value!r}")
    return tuple(positive_int(layer, name, n) for n in items)


def check_padding(layer: str, padding: Any, space: int) -> Any:
    """Refuse a padding that is none, where the layer is made."""
    known = padding.lower() if isinstance(padding, str) else padding
    try:
        resolve_padding(known, (8,) * space, (3,) * space, (1,) * space, (1,) * space)
    except ValueError as error:
        raise ValueError(f"{layer}: {error}") from None
    return known


class _Convolution(Affine):
    """What the convolution layers share: window, strides, padding, dilation."""

    def __init__(
        self, space: int, kernel_size: Any, strides: Any, padding: Any, dilation_rate: Any, *rest: Any
    ) -> None:
        super().__init__(*rest)
        kind = type(self).__name__
        self.space = space
        self.kernel_size = sizes(kind, "kernel_size", kernel_size, space)
        self.strides = sizes(kind, "strides", strides, space)
        self.padding = check_padding(kind, padding, space)
        self.dilation_rate = sizes(kind, "dilation_rate", dilation_rate, space)

    def check(self, shape: Sequence[int], channels: int | None) -> None:
        """Refuse an input that is no image or sequence with that many channels."""
        need_axes(self, tuple(shape), IMAGE if self.space == 2 else SEQUENCE, channels)

    def steps(self, x: Tensor) -> dict[str, Any]:
        """Return stride, padding and dilation for an input."""
        padding = resolve_padding(self.padding, x.shape[1:-1], self.kernel_size, self.strides, self.dilation_rate)
        return {"stride": self.strides, "padding": padding, "dilation": self.dilation_rate}

    def finish(self, y: Tensor, activation: str) -> Tensor:
        """Compute bias and activation."""
        if self.bias is not None:
            y = y + self.bias
        return y if activation == "linear" else getattr(ops, activation)(y)


class _Conv(_Convolution):
    """Conv1D and Conv2D."""

    filters: int
    groups: int

    def build(self, *inputs: Form) -> None:
        """Make the kernel (window..., in / groups, filters) and the bias (filters,)."""
        form = inputs[0]
        self.check(form.shape, None)
        channels = form.shape[-1]
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"layer {self.path} ({type(self).__name__}): groups={self.groups} must divide the {channels} input "
                f"channels and the {self.filters} filters"
            )
        self.add_kernel((*self.kernel_size, channels // self.groups, self.filters), form)
        self.add_bias(self.filters, form)

    def product(self, x: Tensor, activation: str) -> Tensor:
        """Compute the convolution with bias and activation."""
        self.check(x.data.shape, self.kernel.data.shape[-2] * self.groups)
        need_floats(self, x.data.dtype)
        attrs = {**self.steps(x), "groups": self.groups}
        # a backend without the fused kernel has one for each part
        if self.bias is None or "affine_conv" not in x.device.backend.kernels:
            return self.finish(ops.conv(x, self.kernel, **attrs), activation)
        y: Tensor = apply(_AFFINE_CONV, (x, self.kernel, self.bias), {**attrs, "activation": activation})
        return y

    def rescale(self, factor: Any) -> None:
        """Multiply the product by a number or by one number per filter."""
        self.kernel.assign(self.kernel.numpy() * np.asarray(factor), "rescale()")


@final
class Conv1D(_Conv):
    """Convolution over sequences.

    Arguments:
        filters: number of output channels.
        kernel_size: length of the window.
        strides, dilation_rate: steps between windows, and within one.
        padding: "valid" (none), "same" (the length stays, over the stride), "causal" (the past only), a number, or one
            (before, after) pair.
        groups: input and output channels are divided into that many independent groups.
        activation and the rest: as in `Dense`.

    Input (N, T, C), output (N, T', filters). Parameters: kernel (window, C / groups, filters), bias (filters,).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
    ) -> None:
        super().__init__(
            1, kernel_size, strides, padding, dilation_rate, activation, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint, input_shape, name,
        )
        self.filters = positive_int("Conv1D", "filters", filters)
        self.groups = positive_int("Conv1D", "groups", groups)


@final
class Conv2D(_Conv):
    """Convolution over images (LeCun et al., Proc. IEEE 1998).

    Arguments:
        filters: number of output channels.
        kernel_size: (height, width) of the window, or one number for both.
        strides, dilation_rate: steps between windows, and within one.
        padding: "valid" (none), "same" (the size stays, over the stride; an odd row or column goes behind, as in
            Keras), a number, or one (before, after) pair for each axis.
        groups: input and output channels are divided into that many independent groups.
        activation and the rest: as in `Dense`.

    Input (N, H, W, C), output (N, H', W', filters). Parameters: kernel (h, w, C / groups, filters), bias (filters,).

    >>> import deepbabysit as db
    >>> layer = db.layers.Conv2D(8, 3, padding="same", activation="relu")
    >>> layer(db.ops.zeros((2, 28, 28, 1))).shape, layer.count_params()
    ((2, 28, 28, 8), 80)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
    ) -> None:
        super().__init__(
            2, kernel_size, strides, padding, dilation_rate, activation, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint, input_shape, name,
        )
        self.filters = positive_int("Conv2D", "filters", filters)
        self.groups = positive_int("Conv2D", "groups", groups)


@final
class ConvTranspose2D(_Convolution):
    """Transposed convolution: the adjoint of `Conv2D`, which makes images larger (Dumoulin and Visin, 2016).

    Arguments:
        filters: number of output channels.
        kernel_size, strides, dilation_rate: as in `Conv2D`.
        padding: "same" gives ``H * stride`` rows, "valid" ``H * stride + max(window - stride, 0)``; numbers and pairs
            are cropped, as in PyTorch.
        output_padding: rows and columns added behind, for Keras' and PyTorch's exact sizes.
        activation and the rest: as in `Dense`.

    Input (N, H, W, C), output (N, H', W', filters). Parameters: kernel (h, w, filters, C), as in Keras; bias
    (filters,).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        output_padding: Any = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
    ) -> None:
        super().__init__(
            2, kernel_size, strides, padding, dilation_rate, activation, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint, input_shape, name,
        )
        self.filters = positive_int("ConvTranspose2D", "filters", filters)
        self.output_padding = output_padding
        crop, add = resolve_transposed_padding(
            self.padding, self.kernel_size, self.strides, self.dilation_rate, output_padding
        )
        self._steps = {"stride": self.strides, "padding": crop, "dilation": self.dilation_rate}
        self._behind = add

    def build(self, *inputs: Form) -> None:
        """Make the kernel (h, w, filters, in) and the bias (filters,)."""
        form = inputs[0]
        self.check(form.shape, None)
        channels = form.shape[-1]
        window = prod(self.kernel_size)
        self.add_kernel((*self.kernel_size, self.filters, channels), form, (window * channels, window * self.filters))
        self.add_bias(self.filters, form)

    def product(self, x: Tensor, activation: str) -> Tensor:
        """Compute the transposed convolution with bias and activation."""
        self.check(x.data.shape, self.kernel.data.shape[-1])
        need_floats(self, x.data.dtype)
        y = ops.conv_transpose(x, self.kernel, output_padding=self._behind, **self._steps)
        return self.finish(y, activation)

    def rescale(self, factor: Any) -> None:
        """Multiply the product by a number or by one number per filter."""
        self.kernel.assign(self.kernel.numpy() * np.reshape(factor, (-1, 1)), "rescale()")


@final
class DepthwiseConv2D(_Convolution):
    """Convolution of every channel by itself (Howard et al., "MobileNets", 2017).

    Arguments:
        kernel_size, strides, padding, dilation_rate: as in `Conv2D`.
        depth_multiplier: outputs per channel; channel c gives the outputs ``c * m`` to ``c * m + m - 1``.
        kernel_initializer: start of the kernel; its fan-in is the window alone.
        activation and the rest: as in `Dense`.

    Input (N, H, W, C), output (N, H', W', C * depth_multiplier). Parameters: kernel (h, w, C, depth_multiplier),
    bias (C * depth_multiplier,).
    """

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        depth_multiplier: int = 1,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        kernel_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
        bias_regularizer: Any = None,
        bias_constraint: Any = None,
    ) -> None:
        super().__init__(
            2, kernel_size, strides, padding, dilation_rate, activation, use_bias, kernel_initializer, bias_initializer,
            kernel_regularizer, bias_regularizer, kernel_constraint, bias_constraint, input_shape, name,
        )
        self.depth_multiplier = positive_int("DepthwiseConv2D", "depth_multiplier", depth_multiplier)

    def build(self, *inputs: Form) -> None:
        """Make the kernel (h, w, in, multiplier) and the bias."""
        form = inputs[0]
        self.check(form.shape, None)
        channels = form.shape[-1]
        window = prod(self.kernel_size)
        self.add_kernel(
            (*self.kernel_size, channels, self.depth_multiplier), form, (window, window * self.depth_multiplier)
        )
        self.add_bias(channels * self.depth_multiplier, form)

    def product(self, x: Tensor, activation: str) -> Tensor:
        """Compute the convolution with bias and activation."""
        self.check(x.data.shape, self.kernel.data.shape[-2])
        need_floats(self, x.data.dtype)
        return self.finish(ops.depthwise_conv(x, self.kernel, **self.steps(x)), activation)

    def rescale(self, factor: Any) -> None:
        """Multiply the product by a number or by one number per output channel."""
        given = np.asarray(factor)
        self.kernel.assign(
            self.kernel.numpy() * (given.reshape(-1, self.depth_multiplier) if given.ndim else given), "rescale()"
        )
