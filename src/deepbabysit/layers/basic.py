"""Layers without weights: activations, dropout, shapes, joins, functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.errors import unknown
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import show_shape
from deepbabysit.layers.checks import refuse
from deepbabysit.layers.functions import get_activation
from deepbabysit.layers.layer import Layer
from deepbabysit.runtime.context import current
from deepbabysit.runtime.random import stream_number, streams

_DROPOUT = SPECS["dropout"]


@final
class Activation(Layer):
    """An activation function as a layer.

    Arguments:
        activation: a name (relu, leaky_relu, elu, selu, gelu, gelu_tanh, silu or swish, softplus, sigmoid, tanh,
            softmax, log_softmax, linear) or a function of a Tensor. ``gelu`` is the exact form ``x Phi(x)``,
            ``gelu_tanh`` its approximation (Hendrycks and Gimpel, 2016).

    >>> import deepbabysit as db
    >>> db.layers.Activation("relu")(db.tensor([[-1.0, 2.0]])).tolist()
    [[0.0, 2.0]]
    """

    def __init__(self, activation: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.activation = get_activation(activation)

    def call(self, x: Tensor) -> Tensor:
        """Compute the activation."""
        return self.activation(x)


@final
class LeakyReLU(Layer):
    """Leaky rectified linear unit: ``x`` where x > 0, else ``slope * x`` (Maas et al., ICML workshop 2013).

    Arguments:
        slope: slope for negative x; Keras' default is 0.3.
    """

    def __init__(self, slope: float = 0.01, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.slope = float(slope)

    def call(self, x: Tensor) -> Tensor:
        """Compute the activation."""
        return ops.leaky_relu(x, slope=self.slope)


@final
class Dropout(Layer):
    """Set elements to zero in training, and divide the others by ``1 - rate``; at test time do nothing.

    Srivastava et al., JMLR 15 (2014). Which elements fall out is a function of seed, step, the layer's path, how often
    it was called in this step, and the row in the whole batch.

    Arguments:
        rate: fraction that is set to zero, at least 0 and below 1.
        per: "unit" draws for every element; "channel" draws once for all positions of a channel of (N, ..., C)
            (Tompson et al., CVPR 2015).
    """

    def __init__(self, rate: float, per: str = "unit", input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
            raise ValueError(f"Dropout: rate is the fraction set to zero, at least 0 and below 1; got {rate!r}")
        if per not in ("unit", "channel"):
            raise ValueError(f"Dropout: {unknown('per', per, ('unit', 'channel'))}")
        self.rate = float(rate)
        self.per = per

    def call(self, x: Tensor) -> Tensor:
        """Drop in training."""
        if not self.rate or not current().training:
            return x
        shape = x.shape
        noise = (shape[0], *(1,) * (len(shape) - 2), shape[-1]) if self.per == "channel" and len(shape) > 2 else None
        return drop(self, x, self.rate, noise)


def drop(layer: Layer, x: Tensor, rate: float, noise_shape: tuple[int, ...] | None = None) -> Tensor:
    """Apply dropout with the random stream of a layer."""
    found = streams()
    control = Tensor(found.control(x.device), x.device)
    attrs = {
        "rate": rate,
        "stream": stream_number(layer.path),
        "call": found.next_call(layer.path),
        "noise_shape": noise_shape,
    }
    return apply(_DROPOUT, (x, control), attrs)[0]


@final
class Flatten(Layer):
    """Make one row of every sample: (N, a, b, ...) becomes (N, a*b*...).

    >>> import deepbabysit as db
    >>> db.layers.Flatten(input_shape=(28, 28)).input_shape
    (28, 28)
    """

    def __init__(self, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)

    def call(self, x: Tensor) -> Tensor:
        """Flatten all axes but the first."""
        return ops.flatten_rows(x)


@final
class Reshape(Layer):
    """Give every sample another shape: (N, ...) becomes (N, *target_shape).

    Arguments:
        target_shape: shape of one sample; one -1 is filled in.
    """

    def __init__(self, target_shape: Any, input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        shape = (target_shape,) if isinstance(target_shape, int) else tuple(target_shape)
        if any(n < 1 and n != -1 for n in shape) or sum(n == -1 for n in shape) > 1:
            raise ValueError(
                f"Reshape: target_shape holds positive whole numbers and at most one -1; got {target_shape}"
            )
        self.target_shape = tuple(int(n) for n in shape)

    def call(self, x: Tensor) -> Tensor:
        """Reshape each sample."""
        count, known = 1, 1
        for n in x.shape[1:]:
            count *= n
        for n in self.target_shape:
            known *= n if n != -1 else 1
        if count % known or (-1 not in self.target_shape and count != known):
            raise refuse(
                self,
                f"samples of {known} numbers{' (or a multiple)' if -1 in self.target_shape else ''} for the shape "
                f"{self.target_shape}",
                f"{show_shape(x.shape)}, which are {count} per sample",
                "Use a target_shape of that many numbers, or -1 for one axis",
            )
        target = tuple(count // known if n == -1 else n for n in self.target_shape)
        return x.reshape((x.shape[0], *target))


@final
class Add(Layer):
    """Add tensors of one shape: ``Add()([a, b])`` (a residual connection).

    Raises:
        ValueError: the shapes differ (nothing is repeated silently).
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name=name)

    def call(self, *tensors: Any) -> Tensor:
        """Add them."""
        parts = _several(self, tensors)
        for part in parts[1:]:
            if part.shape != parts[0].shape:
                raise refuse(
                    self, f"tensors of one shape, {show_shape(parts[0].shape)}", show_shape(part.shape),
                    "Bring them to one shape first, for example with a Dense or a 1x1 Conv2D",
                )
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total


@final
class Concatenate(Layer):
    """Join tensors along an axis: ``Concatenate()([a, b])``.

    Arguments:
        axis: the axis along which the lengths may differ.
    """

    def __init__(self, axis: int = -1, name: str | None = None) -> None:
        super().__init__(name=name)
        self.axis = axis

    def call(self, *tensors: Any) -> Tensor:
        """Join them."""
        return ops.concat(_several(self, tensors), axis=self.axis)


def _several(layer: Layer, tensors: Sequence[Any]) -> list[Tensor]:
    parts = [part for item in tensors for part in (item if isinstance(item, list | tuple) else (item,))]
    if len(parts) < 2:
        raise refuse(layer, "a list of at least two tensors", f"{len(parts)}", f"Call it as {layer.path}([a, b])")
    return parts


@final
class Lambda(Layer):
    """A function as a layer: ``Lambda(lambda x: x * 2)``.

    Arguments:
        function: function of one or more Tensors, made of operations.
        name: name in paths and messages.

    A model file holds no code: saving needs a function registered under a name (`layers.register`), which loading finds
    again.
    """

    def __init__(self, function: Callable[..., Any], input_shape: Any = None, name: str | None = None) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if not callable(function):
            raise TypeError(f"Lambda takes a function of a Tensor; got {function!r}")
        self.function = function

    def call(self, *inputs: Any) -> Any:
        """Call the function."""
        return self.function(*inputs)
