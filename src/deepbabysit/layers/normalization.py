"""Normalizations over the batch, over the features of a sample, over groups of channels."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from deepbabysit import constraints, initializers, regularizers
from deepbabysit.autograd import ops
from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.shapes import show_shape
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.affine import positive_int, weight_dtype
from deepbabysit.layers.checks import need_features, refuse
from deepbabysit.layers.layer import Layer
from deepbabysit.runtime.context import current, no_grad


class _Norm(Layer):
    """What the normalizations share: a scale and a shift per feature."""

    def __init__(
        self, epsilon: float, center: bool, scale: bool, gamma_initializer: Any, beta_initializer: Any,
        gamma_regularizer: Any, gamma_constraint: Any, input_shape: Any, name: str | None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if not epsilon > 0:
            raise ValueError(f"{type(self).__name__}: epsilon must be above 0; got {epsilon!r}")
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self._gamma_start = initializers.get(gamma_initializer)
        self._beta_start = initializers.get(beta_initializer)
        self._gamma_penalty = regularizers.get(gamma_regularizer)
        self._gamma_limit = constraints.get(gamma_constraint)
        self.gamma: Any = None
        self.beta: Any = None

    def add_scale_and_shift(self, form: Form) -> None:
        """Make gamma and beta for the last axis, where there are any."""
        features, dtype = (form.shape[-1],), weight_dtype(form)
        if self.scale:
            self.add_parameter("gamma", features, self._gamma_start, self._gamma_penalty, self._gamma_limit, dtype)
        if self.center:
            self.add_parameter("beta", features, self._beta_start, dtype=dtype)

    def scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return gamma and beta; ones and zeros where there are none."""
        gamma, beta = self.gamma, self.beta
        if gamma is None or beta is None:
            xp, features = tensor_operations(x.device), (x.shape[-1],)
            gamma = xp.ones(features, x.dtype) if gamma is None else gamma
            beta = xp.zeros(features, x.dtype) if beta is None else beta
        return gamma, beta

    def check(self, x: Tensor) -> None:
        """Refuse an input of another width than the layer was built for."""
        known = self.gamma if self.gamma is not None else self.beta
        need_features(self, x.shape, None if known is None else known.shape[0])


@final
class BatchNorm(_Norm):
    """Batch normalization: ``gamma * (x - mean) / sqrt(var + epsilon) + beta`` for each feature or channel.

    In training, mean and variance (divided by the count) are those of the batch, over all axes but the last, and the
    running statistics follow: ``moving = momentum * moving + (1 - momentum) * batch``, once per step, at its end, if
    the step is accepted; a layer called twice in a step counts both calls. At test time, and when the layer is frozen,
    the running statistics are used. Ioffe and Szegedy, ICML 2015.

    Arguments:
        momentum: weight of the old value (PyTorch's momentum weighs the new one: 0.1 there is 0.9 here).
        epsilon: added to the variance.
        center, scale: whether there is a beta, a gamma.
        gamma_initializer, beta_initializer: their starts.

    Input and output (N, ..., C). Parameters: gamma, beta (C,). States: moving_mean, moving_var (C,).

    >>> import deepbabysit as db
    >>> layer = db.layers.BatchNorm()
    >>> with db.training():
    ...     y = layer(db.tensor([[1.0], [3.0]]))
    >>> [round(v, 2) for v in y.numpy()[:, 0].tolist()], round(float(layer.moving_mean.item()), 3)
    ([-1.0, 1.0], 0.02)
    """

    def __init__(
        self,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        gamma_initializer: Any = "ones",
        beta_initializer: Any = "zeros",
        gamma_regularizer: Any = None,
        gamma_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            epsilon,
            center,
            scale,
            gamma_initializer,
            beta_initializer,
            gamma_regularizer,
            gamma_constraint,
            input_shape,
            name,
        )
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"BatchNorm: momentum weighs the old value and lies in 0..1; got {momentum!r}")
        self.momentum = float(momentum)
        self.moving_mean: Any = None
        self.moving_var: Any = None
        self._estimate: list[tuple[int, np.ndarray, np.ndarray]] | None = None

    def build(self, *inputs: Form) -> None:
        """Make scale, shift and running statistics for the last axis."""
        form = inputs[0]
        need_features(self, form.shape, None)
        self.add_scale_and_shift(form)
        self.add_state("moving_mean", np.zeros(form.shape[-1], weight_dtype(form)))
        self.add_state("moving_var", np.ones(form.shape[-1], weight_dtype(form)))

    def call(self, x: Tensor, rectify: bool = False) -> Tensor:
        """Normalize with the batch's statistics in training, else with the running ones; `rectify` adds a ReLU."""
        shape = x.data.shape
        if len(shape) < 2 or shape[-1] != self.moving_mean.data.shape[0]:
            need_features(self, x.shape, self.moving_mean.shape[0])
        gamma, beta = self.scale_and_shift(x)
        training = current().training and not self.frozen
        if not training and self._estimate is None:
            infer = ops.batch_norm_relu_inference if rectify else ops.batch_norm_inference
            result: Tensor = infer(x, gamma, beta, self.moving_mean, self.moving_var, epsilon=self.epsilon)
            return result
        y, mean, var = (ops.batch_norm_relu if rectify else ops.batch_norm)(x, gamma, beta, epsilon=self.epsilon)
        if self._estimate is not None:
            self._estimate.append(
                (x.size // x.shape[-1], mean.numpy().astype(np.float64), var.numpy().astype(np.float64))
            )
        elif current().updates is not None and not x.device.abstract:
            with no_grad():
                for state, value in ((self.moving_mean, mean), (self.moving_var, var)):
                    self.update_state(state, self.latest_state(state) * self.momentum + value * (1.0 - self.momentum))
        return y

    def begin_estimate(self) -> None:
        """Use each batch's statistics from here on and note them, in inference mode too."""
        self._estimate = []

    def end_estimate(self, keep: bool = True) -> None:
        """Write what was noted since `begin_estimate` into the running statistics: mean and variance of all rows."""
        noted, self._estimate = self._estimate or [], None
        if not keep or not noted:
            return
        counts = np.array([count for count, _, _ in noted], np.float64)[:, None]
        means = np.stack([mean for _, mean, _ in noted])
        mean = (counts * means).sum(axis=0) / counts.sum()
        squares = np.stack([var for _, _, var in noted]) + (means - mean) ** 2
        self.moving_mean.assign(mean, "reestimate_statistics()")
        self.moving_var.assign((counts * squares).sum(axis=0) / counts.sum(), "reestimate_statistics()")


@final
class LayerNorm(_Norm):
    """Layer normalization: ``gamma * (x - mean) / sqrt(var + epsilon) + beta`` over the last axis (Ba et al., 2016).

    Arguments:
        epsilon: added to the variance (Keras' default is 1e-3).
        center, scale: whether there is a beta, a gamma.

    Input and output (N, ..., C). Parameters: gamma, beta (C,).
    """

    def __init__(
        self,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        gamma_initializer: Any = "ones",
        beta_initializer: Any = "zeros",
        gamma_regularizer: Any = None,
        gamma_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            epsilon,
            center,
            scale,
            gamma_initializer,
            beta_initializer,
            gamma_regularizer,
            gamma_constraint,
            input_shape,
            name,
        )

    def build(self, *inputs: Form) -> None:
        """Make scale and shift for the last axis."""
        need_features(self, inputs[0].shape, None)
        self.add_scale_and_shift(inputs[0])

    def call(self, x: Tensor) -> Tensor:
        """Normalize each row."""
        self.check(x)
        gamma, beta = self.scale_and_shift(x)
        return ops.layer_norm(x, gamma, beta, epsilon=self.epsilon)


@final
class GroupNorm(_Norm):
    """Group normalization: mean and variance over all positions and the channels of a group (Wu and He, ECCV 2018).

    Arguments:
        groups: number of groups; it must divide the channels. 1 normalizes whole samples, the number of channels gives
            instance normalization.
        epsilon: added to the variance.
        center, scale: whether there is a beta, a gamma.

    Input and output (N, ..., C). Parameters: gamma, beta (C,).
    """

    def __init__(
        self,
        groups: int = 32,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        gamma_initializer: Any = "ones",
        beta_initializer: Any = "zeros",
        gamma_regularizer: Any = None,
        gamma_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            epsilon,
            center,
            scale,
            gamma_initializer,
            beta_initializer,
            gamma_regularizer,
            gamma_constraint,
            input_shape,
            name,
        )
        self.groups = positive_int("GroupNorm", "groups", groups)

    def build(self, *inputs: Form) -> None:
        """Make scale and shift for the last axis."""
        shape = inputs[0].shape
        need_features(self, shape, None)
        if shape[-1] % self.groups:
            divisors = [n for n in range(1, shape[-1] + 1) if shape[-1] % n == 0]
            raise refuse(
                self,
                f"channels that {self.groups} groups divide",
                show_shape(shape),
                f"groups can be one of {divisors}",
            )
        self.add_scale_and_shift(inputs[0])

    def call(self, x: Tensor) -> Tensor:
        """Normalize each group."""
        self.check(x)
        gamma, beta = self.scale_and_shift(x)
        return ops.group_norm(x, gamma, beta, groups=self.groups, epsilon=self.epsilon)


@final
class RMSNorm(_Norm):
    """Root mean square normalization: ``gamma * x / sqrt(mean(x^2) + epsilon)`` over the last axis.

    Zhang and Sennrich, NeurIPS 2019.

    Arguments:
        epsilon: added to the mean square.
        scale: whether there is a gamma.

    Input and output (N, ..., C). Parameter: gamma (C,).
    """

    def __init__(
        self,
        epsilon: float = 1e-5,
        scale: bool = True,
        gamma_initializer: Any = "ones",
        gamma_regularizer: Any = None,
        gamma_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            epsilon, False, scale, gamma_initializer, "zeros", gamma_regularizer, gamma_constraint, input_shape, name
        )

    def build(self, *inputs: Form) -> None:
        """Make the scale for the last axis."""
        need_features(self, inputs[0].shape, None)
        self.add_scale_and_shift(inputs[0])

    def call(self, x: Tensor) -> Tensor:
        """Normalize each row."""
        self.check(x)
        return ops.rms_norm(x, self.scale_and_shift(x)[0], epsilon=self.epsilon)
