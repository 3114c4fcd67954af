"""Arithmetic, exponentials, comparisons, choice: all generated from their references."""

from __future__ import annotations

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.maps import mapped

NAMES = (
    "absolute", "add", "astype", "copy", "cos", "divide", "equal", "erf", "exp", "expm1", "floor", "greater",
    "greater_equal", "isfinite", "isnan", "less", "less_equal", "log", "log1p", "logical_and", "logical_not",
    "logical_or", "maximum", "minimum", "move_loss_scale", "multiply", "negative", "not_equal", "power", "sign",
    "sin", "sqrt", "subtract", "tanh", "where",
)  # fmt: skip

KERNELS: dict[str, Kernel] = {name: mapped(name) for name in NAMES}
