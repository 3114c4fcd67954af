"""Input: a symbolic tensor, the beginning of a functional model."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.shapes import BATCH
from deepbabysit.layers.layer import as_shape
from deepbabysit.runtime.reference import ShapeArray
from deepbabysit.runtime.registry import shapes_device


def Input(shape: Any, dtype: Any = np.float32, name: str | None = None) -> Tensor:  # noqa: N802  (Keras' name)
    """Return a symbolic tensor: the shape of one sample, without values.

    Layers and operations called with it infer their shapes and become part of the graph that `Model` is built from.

    Arguments:
        shape: shape of one sample, a whole number or a tuple (without the batch axis).
        dtype: type of the elements.
        name: name for messages.

    >>> import deepbabysit as db
    >>> x = db.Input(shape=29)
    >>> x
    Tensor(shape=(None, 29), dtype=float32, device=shapes)
    """
    result = symbolic((BATCH, *as_shape(shape)), dtype)
    result.extra = {"input": name or "input"}
    return result


def symbolic(shape: tuple[int, ...], dtype: Any = np.float32) -> Tensor:
    """Return a tensor with this shape (batch axis included) and no values."""
    return Tensor(ShapeArray(shape, dtype), shapes_device())
