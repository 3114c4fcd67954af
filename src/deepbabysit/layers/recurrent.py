"""Recurrent layers over sequences (N, T, features)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, final

import numpy as np

from deepbabysit import constraints, initializers, regularizers
from deepbabysit.autograd import ops
from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import unknown
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.affine import positive_int, weight_dtype
from deepbabysit.layers.checks import need_axes, need_floats
from deepbabysit.layers.functions import get_activation
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.registry import layer_from_config, layer_to_config

AXES = ("N", "T", "features")


class Recurrent(Layer):
    """What the recurrent layers share: the product of the inputs for all steps at once, then one step after another.

    Attributes:
        kernel: (features, gates * units).
        recurrent_kernel: (units, gates * units).
        bias: (gates * units,), or None.
    """

    gates = 1

    def __init__(
        self, units: int, use_bias: bool, kernel_initializer: Any, recurrent_initializer: Any, bias_initializer: Any,
        kernel_regularizer: Any, recurrent_regularizer: Any, kernel_constraint: Any, recurrent_constraint: Any,
        return_sequences: bool, return_state: bool, go_backwards: bool, input_shape: Any, name: str | None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.units = positive_int(type(self).__name__, "units", units)
        self.use_bias = use_bias
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self._kernel_start = initializers.get(kernel_initializer)
        self._recurrent_start = initializers.get(recurrent_initializer)
        self._bias_start = initializers.get(bias_initializer)
        self._kernel_penalty = regularizers.get(kernel_regularizer)
        self._recurrent_penalty = regularizers.get(recurrent_regularizer)
        self._kernel_limit = constraints.get(kernel_constraint)
        self._recurrent_limit = constraints.get(recurrent_constraint)
        self.kernel: Any = None
        self.recurrent_kernel: Any = None
        self.bias: Any = None

    @abstractmethod
    def bias_shape(self) -> tuple[int, ...]:
        """Return the shape of the bias."""

    @abstractmethod
    def start_bias(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Return the first values of the bias."""

    @abstractmethod
    def input_bias(self) -> Tensor | None:
        """Return the part of the bias that is added to the product of the inputs."""

    @abstractmethod
    def first_state(self, x: Tensor, given: Any) -> list[Tensor]:
        """Return the state before the first step, from what the caller gave or zeros."""

    @abstractmethod
    def step(self, z: Tensor, state: list[Tensor], fresh: bool) -> list[Tensor]:
        """Return the state after one step, the output first; `fresh` where the state before is all zeros."""

    def build(self, *inputs: Form) -> None:
        """Make kernel, recurrent kernel and bias."""
        form = inputs[0]
        need_axes(self, form.shape, AXES)
        width, dtype = self.gates * self.units, weight_dtype(form)
        self.add_parameter(
            "kernel", (form.shape[-1], width), self._kernel_start, self._kernel_penalty, self._kernel_limit, dtype
        )
        self.add_parameter(
            "recurrent_kernel", (self.units, width), self._recurrent_start, self._recurrent_penalty,
            self._recurrent_limit, dtype,
        )
        if self.use_bias:
            self.add_parameter("bias", self.bias_shape(), self.start_bias, dtype=dtype)

    def call(self, x: Tensor, initial_state: Any = None) -> Any:
        """Run over the sequence; returns the last output, or all of them, and the state where that was asked for."""
        need_axes(self, x.shape, AXES, self.kernel.shape[0])
        need_floats(self, x.dtype)
        bias = self.input_bias()
        if bias is None:
            bias = tensor_operations(x.device).zeros((self.kernel.shape[1],), x.dtype)
        steps = ops.unstack(ops.linear(x, self.kernel, bias), axis=1)
        if isinstance(steps, Tensor):
            steps = (steps,)
        state = self.first_state(x, initial_state)
        fresh = initial_state is None
        outputs = []
        for z in reversed(steps) if self.go_backwards else steps:
            state = self.step(z, state, fresh)
            fresh = False
            outputs.append(state[0])
        result = tensor_operations(x.device).stack(outputs, axis=1) if self.return_sequences else outputs[-1]
        return (result, *state) if self.return_state else result

    def zeros(self, x: Tensor) -> Tensor:
        """Return a state of zeros for the batch."""
        return tensor_operations(x.device).zeros((x.shape[0], self.units), x.dtype)

    def given_states(self, x: Tensor, given: Any, count: int) -> list[Tensor]:
        """Return the states that the caller gave, or zeros."""
        if given is None:
            return [self.zeros(x) for _ in range(count)]
        states = list(given) if isinstance(given, list | tuple) else [given]
        if len(states) != count or any(s.shape != (x.shape[0], self.units) for s in states):
            raise ValueError(
                f"layer {self.path} ({type(self).__name__}): expected initial_state as {count} tensor(s) "
                f"(N={x.shape[0]}, units={self.units}); got {[list(s.shape) for s in states]}"
            )
        return states


@final
class SimpleRNN(Recurrent):
    """Plain recurrent layer: ``h = activation(x @ kernel + h @ recurrent_kernel + bias)`` (Elman, 1990).

    Arguments:
        units: length of the state.
        activation: a name or a function of a Tensor.
        use_bias: whether a bias is added.
        kernel_initializer, recurrent_initializer, bias_initializer: what `initializers.get` takes.
        kernel_regularizer, recurrent_regularizer, kernel_constraint, recurrent_constraint: as in `Dense`.
        return_sequences: return the outputs of all steps (N, T, units), not the last one (N, units).
        return_state: return the last state too.
        go_backwards: run from the last step to the first; outputs are in the order in which they were made.

    Input (N, T, features). Parameters: kernel (features, units), recurrent_kernel (units, units), bias (units,).
    """

    def __init__(
        self, units: int, activation: Any = "tanh", use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None, kernel_constraint: Any = None, recurrent_constraint: Any = None,
        return_sequences: bool = False, return_state: bool = False, go_backwards: bool = False, input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            units,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            kernel_constraint,
            recurrent_constraint,
            return_sequences,
            return_state,
            go_backwards,
            input_shape,
            name,
        )
        self.activation = get_activation(activation)

    def bias_shape(self) -> tuple[int, ...]:
        """One number per unit."""
        return (self.units,)

    def start_bias(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Draw the bias."""
        return self._bias_start(shape, rng, dtype)

    def input_bias(self) -> Tensor | None:
        """The whole bias."""
        return self.bias

    def first_state(self, x: Tensor, given: Any) -> list[Tensor]:
        """Return the first h."""
        return self.given_states(x, given, 1)

    def step(self, z: Tensor, state: list[Tensor], fresh: bool) -> list[Tensor]:
        """Return the next h."""
        return [self.activation(z if fresh else z + ops.matmul(state[0], self.recurrent_kernel))]


@final
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with a forget gate (Gers et al., 2000).

    ``i, f, c', o = split(x @ kernel + h @ recurrent_kernel + bias)``; ``c = sigmoid(f) c + sigmoid(i) tanh(c')``;
    ``h = sigmoid(o) tanh(c)``. The order of the gates is i, f, c, o.

    Arguments:
        units: length of the state.
        unit_forget_bias: start the forget gate's bias at 1, so that memory lasts at first (Jozefowicz et al., ICML
            2015).
        the rest: as in `SimpleRNN`.

    Input (N, T, features). Parameters: kernel (features, 4 units), recurrent_kernel (units, 4 units), bias (4 units,).
    """

    gates = 4

    def __init__(
        self, units: int, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", unit_forget_bias: bool = True,
        kernel_regularizer: Any = None, recurrent_regularizer: Any = None, kernel_constraint: Any = None,
        recurrent_constraint: Any = None, return_sequences: bool = False, return_state: bool = False,
        go_backwards: bool = False, input_shape: Any = None, name: str | None = None,
    ) -> None:
        super().__init__(
            units,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            kernel_constraint,
            recurrent_constraint,
            return_sequences,
            return_state,
            go_backwards,
            input_shape,
            name,
        )
        self.unit_forget_bias = unit_forget_bias

    def bias_shape(self) -> tuple[int, ...]:
        """One number per unit and gate."""
        return (4 * self.units,)

    def start_bias(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Draw the bias; the forget gate's part is 1 where that was asked for."""
        values = np.array(self._bias_start(shape, rng, dtype))
        if self.unit_forget_bias:
            values[self.units : 2 * self.units] = 1.0
        return values

    def input_bias(self) -> Tensor | None:
        """The whole bias."""
        return self.bias

    def first_state(self, x: Tensor, given: Any) -> list[Tensor]:
        """Return the first h and c."""
        return self.given_states(x, given, 2)

    def step(self, z: Tensor, state: list[Tensor], fresh: bool) -> list[Tensor]:
        """Return the next h and c."""
        if not fresh:
            z = z + ops.matmul(state[0], self.recurrent_kernel)
        return list(ops.lstm_cell(z, state[1]))


@final
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., EMNLP 2014).

    ``z, r = sigmoid(...)``; with `reset_after` (the form of cuDNN and PyTorch) the candidate is
    ``tanh(x W_h + b_h + r * (h R_h + c_h))``, without it ``tanh(x W_h + b_h + (r * h) R_h)``;
    ``h = z * h + (1 - z) * candidate``. The order of the gates is z, r, h.

    Arguments:
        units: length of the state.
        reset_after: where the reset gate acts.
        the rest: as in `SimpleRNN`.

    Input (N, T, features). Parameters: kernel (features, 3 units), recurrent_kernel (units, 3 units), bias (2, 3 units)
    with `reset_after` (inputs, state), else (3 units,).
    """

    gates = 3

    def __init__(
        self, units: int, use_bias: bool = True, kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal", bias_initializer: Any = "zeros", reset_after: bool = True,
        kernel_regularizer: Any = None, recurrent_regularizer: Any = None, kernel_constraint: Any = None,
        recurrent_constraint: Any = None, return_sequences: bool = False, return_state: bool = False,
        go_backwards: bool = False, input_shape: Any = None, name: str | None = None,
    ) -> None:
        super().__init__(
            units,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            kernel_regularizer,
            recurrent_regularizer,
            kernel_constraint,
            recurrent_constraint,
            return_sequences,
            return_state,
            go_backwards,
            input_shape,
            name,
        )
        self.reset_after = reset_after

    def bias_shape(self) -> tuple[int, ...]:
        """One number per unit and gate, twice where the product of the state has its own."""
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def start_bias(self, shape: tuple[int, ...], rng: np.random.Generator, dtype: Any) -> np.ndarray:
        """Draw the bias."""
        return self._bias_start(shape, rng, dtype)

    def input_bias(self) -> Tensor | None:
        """The part for the inputs."""
        if self.bias is None or not self.reset_after:
            return self.bias
        return self.bias[0]

    def first_state(self, x: Tensor, given: Any) -> list[Tensor]:
        """Return the first h."""
        return self.given_states(x, given, 1)

    def step(self, z: Tensor, state: list[Tensor], fresh: bool) -> list[Tensor]:
        """Return the next h."""
        h = state[0]
        if self.reset_after:
            bias = None if self.bias is None else self.bias[1]
            if bias is None:
                product = ops.matmul(h, self.recurrent_kernel)
            else:
                product = ops.linear(h, self.recurrent_kernel, bias)
            return [ops.gru_cell(z, product, h)]
        n = self.units
        gates = ops.sigmoid(z[:, : 2 * n] + ops.matmul(h, self.recurrent_kernel[:, : 2 * n]))
        update, reset = gates[:, :n], gates[:, n:]
        candidate = ops.tanh(z[:, 2 * n :] + ops.matmul(reset * h, self.recurrent_kernel[:, 2 * n :]))
        return [update * h + (1.0 - update) * candidate]


MERGES = ("concat", "sum", "mul", "ave")


@final
class Bidirectional(Layer):
    """Run a recurrent layer over the sequence in both directions (Schuster and Paliwal, 1997).

    Arguments:
        layer: a recurrent layer; a second one with the same settings and its own weights runs backwards.
        merge_mode: "concat", "sum", "mul" or "ave" of both outputs; None returns them as a tuple.

    Its parameters are ``forward.kernel``, ..., ``backward.kernel``, ....

    >>> import deepbabysit as db
    >>> db.layers.Bidirectional(db.layers.LSTM(4))(db.ops.zeros((2, 5, 3))).shape
    (2, 8)
    """

    def __init__(
        self, layer: Layer, merge_mode: str | None = "concat", input_shape: Any = None, name: str | None = None
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        if not isinstance(layer, Recurrent):
            raise TypeError(f"Bidirectional takes a recurrent layer such as LSTM(16); got {layer!r}")
        if layer.return_state:
            raise ValueError("Bidirectional: the layer inside cannot have return_state=True")
        if merge_mode not in (*MERGES, None):
            raise ValueError(f"Bidirectional: {unknown('merge_mode', merge_mode, MERGES)}")
        self.merge_mode = merge_mode
        self.forward = layer
        text = layer_to_config(layer)
        settings = text["config"]
        settings |= {"go_backwards": not layer.go_backwards, "name": f"backward_{layer.name}" if layer.name else None}
        self.backward = layer_from_config({"class": text["class"], "config": settings})

    def call(self, x: Tensor) -> Any:
        """Run both directions and join them."""
        one, two = self.forward(x), self.backward(x)
        if self.forward.return_sequences:
            two = ops.flip(two, axis=1)  # back to the order of the sequence
        if self.merge_mode is None:
            return one, two
        if self.merge_mode == "concat":
            return ops.concat([one, two], axis=-1)
        if self.merge_mode == "mul":
            return one * two
        return one + two if self.merge_mode == "sum" else (one + two) * 0.5
