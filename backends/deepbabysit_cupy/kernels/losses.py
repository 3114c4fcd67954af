"""Losses from logits: the elementwise ones are generated from their references."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import mapped

NAMES = ("log_cosh", "log_probability", "sigmoid_cross_entropy", "sigmoid_cross_entropy_gradient")

KERNELS: dict[str, Kernel] = {name: mapped(name) for name in NAMES}
