"""``db.ops.conv1d`` and ``conv2d``: the operation `conv` with the arguments that users write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepbabysit.autograd.tensor import Tensor, apply, tensor
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.convolution import resolve_padding


def conv1d(
    x: Any, kernel: Any, bias: Any = None, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Convolve sequences: x (N, length, in), kernel (width, in / groups, out); `conv2d` says the rest.

    >>> import deepbabysit as db
    >>> db.ops.conv1d([[[1.0], [2.0], [4.0]]], [[[1.0]], [[10.0]]]).tolist()
    [[[21.0], [42.0]]]
    """
    return _convolution("conv1d", 1, x, kernel, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any, kernel: Any, bias: Any = None, stride: Any = 1, padding: Any = "valid", dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Convolve images: ``y[n, p, f] = sum over o, c of x[n, p * stride + o * dilation - before, c] * kernel[o, c, f]``.

    Arguments:
        x: images (N, height, width, in), channels last.
        kernel: (height, width, in / groups, out).
        bias: (out,) to add, or None.
        stride, dilation: a whole number, or one for each axis of space.
        padding: "valid", "same", a whole number, one number per axis, or (before, after) per axis.
        groups: how many independent convolutions the channels are divided into.

    Raises:
        ValueError: shapes do not fit, or the window is larger than the image.

    >>> import numpy as np, deepbabysit as db
    >>> db.ops.conv2d(np.ones((1, 5, 5, 1)), np.ones((3, 3, 1, 2)), padding="same", stride=2).shape
    (1, 3, 3, 2)
    """
    return _convolution("conv2d", 2, x, kernel, bias, stride, padding, dilation, groups)


def _convolution(
    name: str, space: int, x: Any, kernel: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    image, weights = (v if isinstance(v, Tensor) else tensor(v) for v in (x, kernel))
    if image.ndim != space + 2 or weights.ndim != space + 2:
        raise ValueError(
            f"{name}: x must be (N, {'space, ' * space}C) and kernel ({'window, ' * space}C, out); got "
            f"{image.shape} and {weights.shape}"
        )
    steps, gaps = (_per_axis(name, what, v, space) for what, v in (("stride", stride), ("dilation", dilation)))
    attrs = {
        "stride": steps,
        "padding": resolve_padding(padding, image.shape[1:-1], weights.shape[:space], steps, gaps),
        "dilation": gaps,
        "groups": groups,
    }
    result: Tensor = apply(SPECS["conv"], (image, weights), attrs)
    return result if bias is None else result + bias


def _per_axis(name: str, what: str, value: Any, space: int) -> tuple[int, ...]:
    items = tuple(value) if isinstance(value, Sequence) else (value,) * space
    if len(items) != space or not all(isinstance(n, int) and n >= 1 for n in items):
        raise ValueError(f"{name}: {what} is a whole number of at least 1, or {space} of them; got {value!r}")
    return items
