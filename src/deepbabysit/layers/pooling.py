"""Pooling layers: windows of an image become one number per channel."""

from __future__ import annotations

from typing import Any, final

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.convolution import resolve_padding
from deepbabysit.layers.checks import IMAGE, need_axes
from deepbabysit.layers.convolution import check_padding, sizes
from deepbabysit.layers.layer import Layer


class _Pooling(Layer):
    """What both poolings share."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        kind = type(self).__name__
        self.pool_size = sizes(kind, "pool_size", pool_size, 2)
        self.strides = self.pool_size if strides is None else sizes(kind, "strides", strides, 2)
        self.padding = check_padding(kind, padding, 2)

    def windows(self, x: Tensor) -> dict[str, Any]:
        """Return window, stride and padding for an input."""
        need_axes(self, x.shape, IMAGE)
        padding = resolve_padding(self.padding, x.shape[1:-1], self.pool_size, self.strides, (1, 1))
        return {"window": self.pool_size, "stride": self.strides, "padding": padding}


@final
class MaxPool2D(_Pooling):
    """Largest value of each window.

    Arguments:
        pool_size: (height, width) of the window, or one number.
        strides: steps between windows; None takes the window's size.
        padding: as in `Conv2D`; what is added is never the largest.

    Input (N, H, W, C), output (N, H', W', C).
    """

    def call(self, x: Tensor) -> Tensor:
        """Pool."""
        return ops.max_pool(x, **self.windows(x))


@final
class AvgPool2D(_Pooling):
    """Mean of each window; what is padded does not count.

    Arguments:
        pool_size, strides, padding: as in `MaxPool2D`.

    Input (N, H, W, C), output (N, H', W', C).
    """

    def call(self, x: Tensor) -> Tensor:
        """Pool."""
        return ops.avg_pool(x, **self.windows(x))


@final
class GlobalAvgPool2D(Layer):
    """Mean over all positions of an image (Lin, Chen and Yan, ICLR 2014).

    Arguments:
        keepdims: keep the two axes with length 1.

    Input (N, H, W, C), output (N, C).
    """

    def __init__(self, keepdims: bool = False, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.keepdims = keepdims

    def call(self, x: Tensor) -> Tensor:
        """Average."""
        need_axes(self, x.shape, IMAGE)
        return x.mean(axis=(1, 2), keepdims=self.keepdims)
