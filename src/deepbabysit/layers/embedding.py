"""Embedding: a table of vectors, read by number."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from deepbabysit import constraints, initializers, regularizers
from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.spec import Form
from deepbabysit.layers.affine import positive_int, weight_dtype
from deepbabysit.layers.layer import Layer
from deepbabysit.runtime.context import current


@final
class Embedding(Layer):
    """Look up one vector for each whole number (Bengio et al., JMLR 2003).

    Arguments:
        input_dim: how many numbers there are; ids are 0 to ``input_dim - 1``.
        output_dim: length of a vector.
        embeddings_initializer, embeddings_regularizer, embeddings_constraint: as in `Dense`.

    Input (N, ...) of whole numbers, output (N, ..., output_dim). Parameter: embeddings (input_dim, output_dim).

    Raises:
        ValueError: an id is outside; the id and its place are named. (Inside of a recorded step an id below 0 is moved
            past the end, so that the look-up refuses it too.)
        TypeError: the ids are no whole numbers.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        input_shape: Any = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name, input_shape=input_shape)
        self.input_dim = positive_int("Embedding", "input_dim", input_dim)
        self.output_dim = positive_int("Embedding", "output_dim", output_dim)
        self._start = initializers.get(embeddings_initializer)
        self._penalty = regularizers.get(embeddings_regularizer)
        self._limit = constraints.get(embeddings_constraint)
        self.embeddings: Any = None

    def build(self, *inputs: Form) -> None:
        """Make the table."""
        self.add_parameter(
            "embeddings", (self.input_dim, self.output_dim), self._start, self._penalty, self._limit,
            weight_dtype(inputs[0]),
        )

    def call(self, ids: Tensor) -> Tensor:
        """Look up."""
        if ids.dtype.kind not in "iu":
            if not ids.device.abstract:
                raise TypeError(
                    f"layer {self.path} (Embedding): expected whole numbers; got {ids.dtype}. "
                    f"Convert first: ids.astype('int64')"
                )
            ids = ids.astype(np.int64)  # Input() makes float32 when nobody says otherwise
        elif current().recorder is not None:
            ids = ops.where(ids < 0, self.input_dim, ids)
        elif isinstance(ids.data, np.ndarray) and ids.size:
            self._check(ids.data)
        return ops.take(self.embeddings, ids, axis=0)

    def _check(self, values: np.ndarray) -> None:
        if values.min() >= 0 and values.max() < self.input_dim:
            return
        place = tuple(int(i) for i in np.argwhere((values < 0) | (values >= self.input_dim))[0])
        raise ValueError(
            f"layer {self.path} (Embedding): expected ids 0 to {self.input_dim - 1}; got {int(values[place])} at "
            f"{list(place)}. Make input_dim larger than the largest id, or look at how the ids are made"
        )
