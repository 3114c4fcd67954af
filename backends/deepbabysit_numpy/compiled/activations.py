"""Activation functions and their gradients in one pass; and casts from and to half precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.flat import HALF_TOO, flat_kernel, narrow, sweep, widen
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

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


def _takes_cast(forms: Any, *, dtype: Any) -> bool:
    pair = {forms[0].dtype.name, np.dtype(dtype).name}
    size = prod(forms[0].shape)
    return pair == {"float16", "float32"} and size >= LEAST["elementwise"] and size > 0 and available()


def _cast(ctx: Any, outs: Any, x: Any, *, dtype: Any) -> None:
    (narrow if outs[0].dtype == np.float16 else widen)(x, outs[0])


def _on_bits(name: str, dtypes: frozenset[str]) -> Kernel:
    """Return the kernel of a function that needs only the bits of float16; other dtypes run as `flat_kernel` does."""
    function, others = Compiled("half", name), flat_kernel(_function(name), "kinked")

    def run(ctx: Any, outs: Any, *ins: Any) -> None:
        if outs[0].dtype == np.float16:
            sweep(function, outs[0], ins)
        else:
            others.run(ctx, outs, *ins)

    return replace(others, run=run, dtypes=dtypes)


VARIANTS: dict[str, Kernel] = {
    **{
        name: flat_kernel(_function(function))
        for name, function in (
            ("erf", "error_function"), ("erf_gradient", "erf_gradient"), ("sigmoid", "logistic"),
            ("sigmoid_gradient", "sigmoid_gradient"), ("tanh_gradient", "tanh_gradient"), ("silu", "silu"),
            ("silu_gradient", "silu_gradient"), ("softplus", "softplus"),
        )
    },
    **{name: flat_kernel(_function(name), "kinked") for name in ("selu", "selu_gradient")},
    **{
        name: flat_kernel(_with_number(name), "kinked")
        for name in ("leaky_relu", "leaky_relu_gradient", "elu", "elu_gradient")
    },
    "relu": _on_bits("relu", frozenset({"float16"})),  # NumPy's maximum is as fast for the others
    "relu_gradient": _on_bits("relu_gradient", HALF_TOO),
    "astype": Kernel(_cast, supports=_takes_cast, contiguous=True),
    "gelu": flat_kernel(_by_approximation("gelu", "gelu_tanh")),
    "gelu_gradient": flat_kernel(_by_approximation("gelu_gradient", "gelu_tanh_gradient")),
}
