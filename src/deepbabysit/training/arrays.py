"""What users hand to fit, evaluate and predict, made into arrays that a step can take; bad data is refused here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.data.checks import check_finite
from deepbabysit.data.loader import Loader

Leaves = tuple[np.ndarray, ...]


def arrange(x: Any, layer: Any) -> Any:
    """Return inputs in the order of the model's `Input`s: a dict by their names, a list as a tuple.

    Raises:
        KeyError: a dict has other names than the inputs.
    """
    inputs = list(getattr(layer, "inputs", ()))
    if isinstance(x, Mapping) and not hasattr(x, "to_numpy") and inputs:
        names = layer.input_names
        if len(x) == len(inputs) == 1:
            return x
        if len(set(names)) < len(names):
            raise KeyError(
                f"x is a dict, and the model's inputs have no names to tell them apart ({names}); name them: "
                f"db.Input(..., name='left'), or pass a list in the order of the inputs"
            )
        if set(names) != set(x):
            raise KeyError(f"x has the names {sorted(map(str, x))}; the model's inputs are {names}")
        return tuple(x[name] for name in names)
    if isinstance(x, list) and inputs:
        alone = len(x) == len(inputs) == 1 and len(getattr(x[0], "shape", ())) == len(inputs[0].shape)
        return tuple(x) if alone or len(inputs) > 1 else x
    return x


def as_arrays(name: str, value: Any, dtype: np.dtype[Any], notes: list[str]) -> Leaves:
    """Return the arrays in what a user gave: one array, or several for several inputs.

    Arguments:
        name: "x" or "y", for messages.
        value: an array, Tensor, data frame, nested lists; a tuple or dict of them for several.
        dtype: the model's dtype; other floating arrays are converted once, and `notes` says so.
        notes: gets a line for each conversion.

    Raises:
        TypeError: the values are not numbers.
        ValueError: a value is not finite (with row numbers), or there are no rows.
    """
    if isinstance(value, Mapping):
        items: Sequence[Any] = list(value.values())
    elif isinstance(value, tuple):
        items = list(value)
    else:
        items = [value]
    result = []
    for number, item in enumerate(items):
        label = name if len(items) == 1 else f"{name}[{number}]"
        result.append(_as_array(label, item, dtype, notes))
    rows = {len(a) for a in result}
    if len(rows) > 1:
        raise ValueError(f"the arrays of {name} have different numbers of rows: {[len(a) for a in result]}")
    return tuple(result)


def _as_array(name: str, value: Any, dtype: np.dtype[Any], notes: list[str]) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.numpy()
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif hasattr(value, "get") and hasattr(value, "__cuda_array_interface__"):
        value = value.get()
    if hasattr(value, "__iter__") and not hasattr(value, "__len__") and not hasattr(value, "__array__"):
        raise TypeError(
            f"{name} is a {type(value).__name__}, which is read once and has no length; collect it into arrays, or "
            f"use db.data.Loader(x, y, batch_size=32)"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} cannot be made an array: its rows have different lengths ({error})") from error
    if array.dtype.kind in "OUS":
        raise TypeError(
            f"{name} must hold numbers; got {array.dtype} such as {array.reshape(-1)[0]!r}. Encode text first: "
            f"db.data.read_table for tables, numpy.unique(labels, return_inverse=True) for labels"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{name} must have one row per sample; got a single number {value!r}")
    if len(array) == 0:
        raise ValueError(f"{name} is empty: shape {array.shape}. There is nothing to learn from")
    if array.dtype.kind == "f":
        check_finite(name, array)
        if array.dtype != dtype:
            if not isinstance(value, list | tuple):
                notes.append(f"{name}: {array.dtype} converted to {dtype}")
            array = array.astype(dtype)
    elif array.dtype.kind == "b":
        array = array.astype(dtype if name.startswith("x") else np.int64)
    return array


def check_rows(x: Leaves, y: Leaves | None) -> int:
    """Return the number of samples; x and y must agree."""
    rows = len(x[0])
    if y is not None and len(y[0]) != rows:
        raise ValueError(
            f"x has {rows} rows and y has {len(y[0])}; every sample needs one target. "
            f"Shapes: {[a.shape for a in x]} and {[a.shape for a in y]}"
        )
    return rows


def weights_of(
    sample_weight: Any, class_weight: Any, y: Leaves, rows: int, dtype: np.dtype[Any]
) -> np.ndarray | None:
    """Return one weight per sample (or per position of a sequence) from sample and class weights, or None."""
    weight: np.ndarray | None = None
    if sample_weight is not None:
        weight = np.asarray(sample_weight, dtype=dtype)
        if weight.ndim < 1 or len(weight) != rows:
            raise ValueError(f"sample_weight must hold one weight per row, {rows} in all; got shape {weight.shape}")
        if not np.isfinite(weight).all() or (weight < 0).any():
            raise ValueError("sample_weight must be finite and not negative")
    if class_weight is not None:
        labels = y[0]
        if labels.ndim > 1 and labels.shape[-1] > 1:
            labels = labels.argmax(axis=-1)
        labels = labels.reshape(labels.shape[0], *[n for n in labels.shape[1:] if n != 1])
        if labels.dtype.kind == "f" and (labels != np.round(labels)).any():
            raise ValueError("class_weight needs classes; the targets are not whole numbers")
        table = dict(class_weight) if isinstance(class_weight, Mapping) else dict(enumerate(class_weight))
        found = np.unique(labels).tolist()
        missing = [c for c in found if int(c) not in table]
        if missing:
            raise ValueError(f"class_weight has no weight for class {missing[0]:g}; it names {sorted(table)}")
        by_class = np.zeros(int(max(max(table), max(found))) + 1, dtype)
        for c, value in table.items():
            by_class[int(c)] = value
        factor = by_class[labels.astype(np.int64)]
        weight = factor if weight is None else weight.reshape(-1, *[1] * (factor.ndim - 1)) * factor
    return weight


@dataclass(slots=True)
class Source:
    """Data as the loop takes it.

    Attributes:
        loader: gives the batches.
        inputs: how many arrays x has.
        targets: how many arrays y has.
        weighted: whether batches carry weights.
        rows: number of samples.
        shapes: shapes of one sample of each input.
        dtypes: dtypes of the inputs as the model sees them.
        layer: whose inputs a dict is sorted for.
    """

    loader: Loader
    inputs: int
    targets: int
    weighted: bool
    rows: int
    shapes: list[tuple[int, ...]]
    dtypes: list[np.dtype[Any]]
    layer: Any = None

    def arrays(self, batch: Any) -> list[np.ndarray]:
        """Return the arrays of a batch, flat, as the step takes them."""
        result = [
            a if a.dtype == dtype else a.astype(dtype)
            for a, dtype in zip(leaves(arrange(batch.x, self.layer)), self.dtypes, strict=True)
        ]
        if self.targets:
            result.extend(leaves(batch.y))
        if self.weighted:
            result.append(np.asarray(batch.sample_weight))
        return result


def leaves(value: Any) -> list[np.ndarray]:
    """Return the arrays in a batch's x or y."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    return [value]
