"""Dense, the fully connected layer."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor, apply
from deepbabysit.errors import unknown
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.affine import Affine, positive_int, weight_dtype
from deepbabysit.layers.checks import need_features, need_floats

_LINEAR = SPECS["linear"]
REPARAMETRIZATIONS = ("centered_weight_norm",)


@final
class Dense(Affine):
    """Fully connected layer: ``activation(x @ kernel + bias)``.

    Arguments:
        units: number of outputs.
        activation: a name (``"relu"``), a function of a Tensor, or None.
        use_bias: whether a bias is added.
        kernel_initializer, bias_initializer: what `initializers.get` takes.
        kernel_regularizer, bias_regularizer: what `regularizers.get` takes.
        kernel_constraint, bias_constraint: what `constraints.get` takes.
        input_shape: shape of one sample, in the first layer of a stack.
        name: name in paths and messages.
        reparametrize: "centered_weight_norm" computes with
            ``w = gamma * (v - mean(v)) / |v - mean(v)|`` for each unit, where v is a column of `kernel` and gamma (one
            per unit, from 1) is trained too; gradients flow through the formula (Huang et al., ICCV 2017).

    Input (N, ..., features), output (N, ..., units). Parameters: kernel (features, units), bias (units,).

    >>> import deepbabysit as db
    >>> layer = db.layers.Dense(3, activation="relu")
    >>> layer(db.tensor([[1.0, 2.0], [3.0, 4.0]])).shape, layer.kernel.shape
    ((2, 3), (2, 3))
    """

    def __init__(
        self,
        units: int,
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
        reparametrize: str | None = None,
    ) -> None:
        super().__init__(
            activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
            kernel_constraint, bias_constraint, input_shape, name,
        )
        if reparametrize is not None and reparametrize not in REPARAMETRIZATIONS:
            raise ValueError(unknown("reparametrization", reparametrize, REPARAMETRIZATIONS))
        self.units = positive_int("Dense", "units", units)
        self.reparametrize = reparametrize
        self.gamma: Any = None

    def build(self, *inputs: Form) -> None:
        """Make kernel and bias for the input's last axis."""
        form = inputs[0]
        need_features(self, form.shape, None)
        self.add_kernel((form.shape[-1], self.units), form)
        self.add_bias(self.units, form)
        if self.reparametrize:
            self.add_parameter("gamma", (self.units,), "ones", dtype=weight_dtype(form))

    def weight(self) -> Tensor:
        """Return the matrix that multiplies the input: the kernel, or what the reparametrization makes of it."""
        if not self.reparametrize:
            return self.kernel
        centered = self.kernel - self.kernel.mean(axis=0, keepdims=True)
        # the small number keeps a column of equal weights at 0 instead of 0 / 0
        length = ((centered * centered).sum(axis=0, keepdims=True) + 1e-24).sqrt()
        return centered / length * self.gamma

    def product(self, x: Tensor, activation: str) -> Tensor:
        """Compute ``activation(x @ weight + bias)``."""
        shape = x.data.shape
        need_floats(self, x.data.dtype)
        if len(shape) < 2 or shape[-1] != self.kernel.data.shape[0]:
            need_features(self, x.shape, self.kernel.shape[0])
        weight = self.weight()
        if self.bias is not None:
            return apply(_LINEAR, (x, weight, self.bias), {"activation": activation})
        rows = x if len(shape) == 2 else x.reshape((-1, shape[-1]))
        y = ops.matmul(rows, weight)
        if len(shape) != 2:
            y = y.reshape((*shape[:-1], self.units))
        return y if activation == "linear" else getattr(ops, activation)(y)

    def rescale(self, factor: Any) -> None:
        """Multiply the product by a number or by one number per unit."""
        target = self.gamma if self.gamma is not None else self.kernel
        target.assign(target.numpy() * np.asarray(factor), "rescale()")
