"""A named data set with what one must know to use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set: arrays, names, where it comes from and under which licence.

    task: "binary", "multiclass", "regression" or "text". x: rows first. y: int64 class codes, float32 amounts, or None
    (text). x_test, y_test: the published test part, None where there is none. feature_names: one per input column
    (empty for images and text). class_names: in the order of the codes (for text: the vocabulary). schema: JSON-able
    facts; for tables the schema that `read_table` takes.
    """

    name: str
    task: str
    x: NDArray[Any]
    y: NDArray[Any] | None
    x_test: NDArray[Any] | None = None
    y_test: NDArray[Any] | None = None
    feature_names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    licence: str = ""

    @property
    def train(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """The training part as (x, y): everything where no test part is published."""
        return self.x, self.y

    @property
    def test(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """The published test part as (x, y)."""
        if self.x_test is None:
            raise ValueError(f"{self.name} has no published test part; cut one off with db.data.split(data.x, data.y)")
        return self.x_test, self.y_test

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
        """Yield the training part and the published test part: ``(x, y), (x_test, y_test) = db.datasets.mnist()``."""
        return iter((self.train, self.test))

    def describe(self) -> str:
        """Say in one paragraph what is in it, with class counts, source and licence."""
        told = [f"{self.name}: {self.task}, {len(self.x)} rows of shape {self.x.shape[1:]} and type {self.x.dtype}."]
        if self.x_test is not None:
            told.append(f"Published test part: {len(self.x_test)} rows.")
        if self.task == "text":
            told.append(f"Vocabulary of {len(self.class_names)}.")
        elif self.class_names and self.y is not None:
            counts = np.bincount(self.y, minlength=len(self.class_names)).tolist()
            shown = ", ".join(f"{name} {count}" for name, count in zip(self.class_names, counts, strict=True))
            told.append(f"Classes: {shown}.")
        elif self.y is not None:
            told.append(f"Target from {self.y.min():g} to {self.y.max():g}, mean {self.y.mean():g}.")
        told.append(f"Source: {self.source}. Licence: {self.licence}.")
        return " ".join(told)

    def __repr__(self) -> str:
        return f"<{self.describe()}>"
