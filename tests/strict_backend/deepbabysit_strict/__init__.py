"""A backend written as a third party would: found by its entry point, it shows what the boundary promises.

Fresh memory is full of NaN, kernels get read-only views of their inputs, and the namespace has the names of the array
API standard (2024.12) and no others. The device ``cpu:strict`` runs the CPU's kernels in this way,
``cpu:strict:references`` has none, so that every reference runs with array-API names only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Arena, Backend, Kernel
from deepbabysit.runtime.host import HostBackend

_STANDARD = frozenset(
    [
        "e",
        "inf",
        "nan",
        "newaxis",
        "pi",
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
        "complex64",
        "complex128",
        "arange",
        "asarray",
        "empty",
        "empty_like",
        "eye",
        "from_dlpack",
        "full",
        "full_like",
        "linspace",
        "meshgrid",
        "ones",
        "ones_like",
        "tril",
        "triu",
        "zeros",
        "zeros_like",
        "astype",
        "can_cast",
        "finfo",
        "iinfo",
        "isdtype",
        "result_type",
        "abs",
        "acos",
        "acosh",
        "add",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bitwise_and",
        "bitwise_left_shift",
        "bitwise_invert",
        "bitwise_or",
        "bitwise_right_shift",
        "bitwise_xor",
        "ceil",
        "clip",
        "conj",
        "copysign",
        "cos",
        "cosh",
        "divide",
        "equal",
        "exp",
        "expm1",
        "floor",
        "floor_divide",
        "greater",
        "greater_equal",
        "hypot",
        "imag",
        "isfinite",
        "isinf",
        "isnan",
        "less",
        "less_equal",
        "log",
        "log1p",
        "log2",
        "log10",
        "logaddexp",
        "logical_and",
        "logical_not",
        "logical_or",
        "logical_xor",
        "maximum",
        "minimum",
        "multiply",
        "negative",
        "nextafter",
        "not_equal",
        "positive",
        "pow",
        "real",
        "reciprocal",
        "remainder",
        "round",
        "sign",
        "signbit",
        "sin",
        "sinh",
        "square",
        "sqrt",
        "subtract",
        "tan",
        "tanh",
        "trunc",
        "take",
        "take_along_axis",
        "matmul",
        "matrix_transpose",
        "tensordot",
        "vecdot",
        "broadcast_arrays",
        "broadcast_to",
        "concat",
        "expand_dims",
        "flip",
        "moveaxis",
        "permute_dims",
        "repeat",
        "reshape",
        "roll",
        "squeeze",
        "stack",
        "tile",
        "unstack",
        "argmax",
        "argmin",
        "count_nonzero",
        "nonzero",
        "searchsorted",
        "where",
        "unique_all",
        "unique_counts",
        "unique_inverse",
        "unique_values",
        "argsort",
        "sort",
        "cumulative_prod",
        "cumulative_sum",
        "max",
        "mean",
        "min",
        "prod",
        "std",
        "sum",
        "var",
        "all",
        "any",
        "diff",
        "linalg",
    ]
)


class StandardNames:
    """NumPy, cut down to the names of the array API standard."""

    def __getattr__(self, name: str) -> Any:
        if name not in _STANDARD:
            raise AttributeError(f"{name!r} is not a name of the array API standard")
        return getattr(np, name)


class StrictBackend(HostBackend):
    """NumPy arrays whose fresh memory is poisoned."""

    name = "strict"

    def __init__(self, kernels: dict[str, Kernel]) -> None:
        self.xp = StandardNames()
        self.kernels = kernels

    def to_host(self, array: Any) -> np.ndarray:
        """Return a copy: the host never shares memory with this device."""
        return np.array(array)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return memory that is full of NaN, or of a pattern."""
        array = np.empty(shape, dtype)
        array.fill(np.nan if array.dtype.kind == "f" else 1 if array.dtype.kind == "b" else 0x5A)
        return array

    def arena(self) -> Arena:
        """Return memory for a recording."""
        return Arena(self.empty)

    def free(self) -> int:
        """Return 0."""
        return 0


def _guarded(kernel: Kernel) -> Kernel:
    def run(ctx: Any, outs: Any, *ins: Any, **attrs: Any) -> Any:
        readonly = []
        for array in ins:
            view = array.view()
            view.flags.writeable = False
            readonly.append(view)
        return kernel.run(ctx, outs, *readonly, **attrs)

    return replace(kernel, run=run)


def open_backend() -> dict[str, Backend]:
    """Open the backend (the entry point)."""
    from deepbabysit_numpy.kernels import KERNELS

    return {
        "cpu:strict": StrictBackend({name: _guarded(kernel) for name, kernel in KERNELS.items()}),
        "cpu:strict:references": StrictBackend({}),
    }
