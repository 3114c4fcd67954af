"""Activations: generated from their references where they work element by element."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import mapped

NAMES = (
    "elu", "elu_gradient", "gelu", "gelu_gradient", "leaky_relu", "leaky_relu_gradient", "relu", "relu_gradient",
    "selu", "selu_gradient", "sigmoid", "sigmoid_gradient", "silu", "silu_gradient", "softplus", "tanh_gradient",
)  # fmt: skip

KERNELS: dict[str, Kernel] = {name: mapped(name) for name in NAMES}
