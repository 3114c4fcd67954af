"""Activation functions by name, as layers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import unknown

# name -> (operation, attributes)
_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("", {}),
    "relu": ("relu", {}),
    "leaky_relu": ("leaky_relu", {"slope": 0.01}),
    "elu": ("elu", {}),
    "selu": ("selu", {}),
    "gelu": ("gelu", {}),
    "gelu_tanh": ("gelu", {"approximate": "tanh"}),
    "silu": ("silu", {}),
    "softplus": ("softplus", {}),
    "sigmoid": ("sigmoid", {}),
    "tanh": ("tanh", {}),
    "softmax": ("softmax", {}),
    "log_softmax": ("log_softmax", {}),
}
_ALIASES = {"swish": "silu", "identity": "linear", "gelu_approximate": "gelu_tanh", "leakyrelu": "leaky_relu",
            "logistic": "sigmoid", "logsoftmax": "log_softmax"}
# `linear` fuses sigmoid too, but a loss wants the logits of a sigmoid, and a fused one does not have them
FUSED = ("linear", "relu", "tanh")


@final
class ActivationFunction:
    """An activation with its name.

    Attributes:
        name: one of the table, or the name of a function of the user's own.
        fused: the name under which the dense product computes it at once, or an empty string.
        source: what the user gave.
    """

    __slots__ = ("_run", "fused", "name", "source")

    def __init__(self, name: str, run: Callable[[Tensor], Any], source: Any) -> None:
        self.name = name
        self.fused = name if name in FUSED and isinstance(source, str | None) else ""
        self.source = source
        self._run = run

    def __call__(self, x: Tensor) -> Tensor:
        """Compute it."""
        return self._run(x)

    def __repr__(self) -> str:
        return f"activation {self.name}"


def get_activation(activation: Any) -> ActivationFunction:
    """Return the activation meant by None, a name, a function or a layer.

    Raises:
        ValueError: the name does not exist; the nearest ones are offered.
        TypeError: something else was given.
    """
    if isinstance(activation, ActivationFunction):
        return activation
    if activation is None:
        return ActivationFunction("linear", _same, None)
    if isinstance(activation, str):
        name = _ALIASES.get(activation.lower(), activation.lower())
        entry = _TABLE.get(name)
        if entry is None:
            raise ValueError(unknown("activation", activation, (*_TABLE, "swish")))
        return ActivationFunction(name, _runner(*entry), activation)
    if isinstance(activation, type):
        raise TypeError(
            f"an activation is a name, a function or a layer; call the class first: {activation.__name__}()"
        )
    if callable(activation):
        known = getattr(activation, "path", None) or getattr(activation, "__name__", type(activation).__name__)
        return ActivationFunction(str(known), activation, activation)
    raise TypeError(f"an activation is None, a name or a function; got {activation!r}")


def _same(x: Tensor) -> Tensor:
    return x


def _runner(operation: str, attrs: dict[str, Any]) -> Callable[[Tensor], Tensor]:
    if not operation:
        return _same
    found: Callable[..., Tensor] = getattr(ops, operation)
    if not attrs:
        return found
    return lambda x: found(x, **attrs)
