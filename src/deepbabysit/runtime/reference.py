"""Two backends that need no plug-in: NumPy with no kernels at all, and shapes without values."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array, Form, Shape
from deepbabysit.runtime.backend import Arena, Backend
from deepbabysit.runtime.host import HostBackend


class ReferenceBackend(HostBackend):
    """NumPy arrays and the references: the slow, plain meaning of every operation."""

    name = "reference"

    def __init__(self) -> None:
        self.kernels = {}

    def to_host(self, array: Array) -> np.ndarray:
        """Return the array itself: it is on the host."""
        return np.asarray(array)

    def empty(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an uninitialized array."""
        return np.empty(shape, dtype)

    def arena(self) -> Arena:
        """Return memory for a recording in which every buffer is kept."""
        return Arena(self.empty)

    def free(self) -> int:
        """Return 0: nothing is pooled."""
        return 0


class ShapeArray:
    """An array without values: shape and dtype, which is all that building a model needs."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Shape, dtype: Any) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"ShapeArray({self.shape}, {self.dtype})"


class ShapeBackend(Backend):
    """Runs every operation's `infer` and nothing else."""

    name = "shapes"
    xp = np
    abstract = True

    def __init__(self) -> None:
        self.kernels = {}

    def asarray(self, values: Any, dtype: Any = None) -> ShapeArray:
        """Return the shape and dtype of these values."""
        array = values if isinstance(values, np.ndarray | ShapeArray) else np.asarray(values)
        return ShapeArray(array.shape, dtype or array.dtype)

    def to_host(self, array: Any) -> np.ndarray:
        """Refuse: there are no values."""
        raise TypeError(
            "this tensor is symbolic: it has a shape and no values yet. Build a Model from it and call the model "
            "with data, or compute with operations of db.ops instead of NumPy"
        )

    def write(self, array: Any, values: Any) -> None:
        """Do nothing: there are no values."""

    def empty(self, shape: Shape, dtype: Any) -> ShapeArray:
        """Return a shape."""
        return ShapeArray(shape, dtype)

    def of(self, form: Form) -> ShapeArray:
        """Return the array without values of that form."""
        return ShapeArray(form.shape, form.dtype)

    def synchronize(self) -> None:
        """Do nothing."""

    def owns(self, array: Any) -> bool:
        """Tell whether it is an array without values."""
        return isinstance(array, ShapeArray)

    def arena(self) -> Arena:
        """Return memory for a recording (there is none)."""
        return Arena(self.empty)

    def free(self) -> int:
        """Return 0."""
        return 0
