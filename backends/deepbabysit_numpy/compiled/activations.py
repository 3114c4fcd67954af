"""Activation functions and their gradients in one pass; exp and its relatives are polynomials in vector registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.flat import flat_kernel
from deepbabysit_numpy.compiled.loading import Compiled

_Choice = Callable[..., tuple[Compiled, tuple[Any, ...]]]


def _function(name: str) -> Compiled:
    return Compiled("activations", name)


def _with_number(name: str) -> _Choice:
    """Choose one function and hand over the one attribute."""
    function = _function(name)

    def choose(**attrs: float) -> tuple[Compiled, tuple[Any, ...]]:
        return function, (*map(float, attrs.values()),)

    return choose


def _by_approximation(exact: str, approximate: str) -> _Choice:
    """Choose one of two functions."""
    functions = {"none": (_function(exact), ()), "tanh": (_function(approximate), ())}
    return lambda *, approximate="none": functions[approximate]


VARIANTS: dict[str, Kernel] = {
    **{
        name: flat_kernel(_function(function))
        for name, function in (
            ("relu_gradient", "relu_gradient"), ("selu", "selu"), ("selu_gradient", "selu_gradient"),
            ("erf", "error_function"), ("sigmoid", "logistic"), ("silu", "silu"), ("silu_gradient", "silu_gradient"),
            ("softplus", "softplus"), ("sigmoid_gradient", "sigmoid_gradient"), ("tanh_gradient", "tanh_gradient"),
        )
    },
    **{
        name: flat_kernel(_with_number(name))
        for name in ("leaky_relu", "leaky_relu_gradient", "elu", "elu_gradient")
    },
    "gelu": flat_kernel(_by_approximation("gelu", "gelu_tanh")),
    "gelu_gradient": flat_kernel(_by_approximation("gelu_gradient", "gelu_tanh_gradient")),
}
