"""Layers that compute ``activation(product(x, kernel) + bias)``: what they share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from deepbabysit import constraints, initializers, regularizers
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.functions import get_activation
from deepbabysit.layers.layer import Layer


class Affine(Layer):
    """A layer with a kernel, perhaps a bias, and an activation.

    Attributes:
        kernel: the weights, once built.
        bias: one number per unit, or None.
        activation: the activation, with its `name`.
    """

    def __init__(
        self,
        activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        bias_constraint: Any,
        input_shape: Any,
        name: str | None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.activation = get_activation(activation)
        self.use_bias = use_bias
        # names are looked up here, so that a mistake shows where the layer is made
        self._kernel_start = initializers.get(kernel_initializer)
        self._bias_start = initializers.get(bias_initializer)
        self._kernel_penalty = regularizers.get(kernel_regularizer)
        self._bias_penalty = regularizers.get(bias_regularizer)
        self._kernel_limit = constraints.get(kernel_constraint)
        self._bias_limit = constraints.get(bias_constraint)
        self.kernel: Any = None
        self.bias: Any = None
        if isinstance(self.activation.source, Layer):
            self.activation_layer = self.activation.source

    def add_kernel(self, shape: tuple[int, ...], form: Form, fans: tuple[float, float] | None = None) -> Parameter:
        """Make the kernel for inputs of this form."""
        return self.add_parameter(
            "kernel", shape, self._kernel_start, self._kernel_penalty, self._kernel_limit, weight_dtype(form), fans
        )

    def add_bias(self, units: int, form: Form) -> None:
        """Make the bias, where there is one."""
        if self.use_bias:
            self.add_parameter(
                "bias", (units,), self._bias_start, self._bias_penalty, self._bias_limit, weight_dtype(form)
            )

    @abstractmethod
    def product(self, x: Tensor, activation: str) -> Tensor:
        """Compute kernel, bias and an activation of `functions.FUSED`."""

    @abstractmethod
    def rescale(self, factor: Any) -> None:
        """Multiply the product (without the bias) by a number, or by one number for each unit or channel."""

    def affine(self, x: Tensor) -> Tensor:
        """Compute the output before the activation."""
        return self.product(x, "linear")

    def call(self, x: Tensor) -> Tensor:
        """Compute the output."""
        activation = self.activation
        if activation.fused:
            return self.product(x, activation.fused)
        return activation(self.product(x, "linear"))


def weight_dtype(form: Form) -> np.dtype[Any]:
    """Return the type of weights for inputs of this form: float64 meets float64, everything else float32."""
    return np.dtype(np.float64 if form.dtype == np.float64 else np.float32)


def positive_int(layer: str, name: str, value: Any) -> int:
    """Return a whole number above 0, or say which argument of which layer is none.

    >>> positive_int("Dense", "units", 3)
    3
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        hint = f"; did you mean {int(value)}?" if isinstance(value, float) and value >= 1 and value.is_integer() else ""
        raise ValueError(f"{layer}: {name} must be a whole number of at least 1; got {value!r}{hint}")
    return int(value)
