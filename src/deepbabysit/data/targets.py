"""What a target is made of: classes or numbers; and one-hot encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deepbabysit.data.rows import row_list
from deepbabysit.errors import nearest

_FEW = 20


def class_codes(y: NDArray[Any], force: bool = False) -> tuple[NDArray[np.int64], list[str]] | None:
    """Return (code per row, class names) of a classification target, or None when the target is numbers.

    Classes are: text; booleans; one-hot rows (two or more columns); integers, or floats that are only 0 and 1, with few
    distinct values (at most max(20, sqrt(rows))). ``force`` takes any one-column target as classes.
    """
    flat = y
    if y.ndim == 2 and y.shape[1] == 1:
        flat = y[:, 0]
    elif y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "biuf":
        if np.logical_or(y == 0, y == 1).all() and (y.sum(axis=1) == 1).all():
            return y.argmax(axis=1).astype(np.int64), [str(i) for i in range(y.shape[1])]
        return None
    if flat.ndim != 1:
        return None
    if flat.dtype.kind == "f":
        if not force and not np.logical_or(flat == 0, flat == 1).all():
            return None
    elif flat.dtype.kind not in "biuUS":
        return None
    levels, codes = np.unique(flat, return_inverse=True)
    if not force and flat.dtype.kind in "iuUS" and len(levels) > max(_FEW, int(len(flat) ** 0.5)):
        return None
    if flat.dtype.kind == "f" and (levels == np.round(levels)).all():
        names = [str(int(level)) for level in levels]
    else:
        names = [_name(level) for level in levels]
    return codes.reshape(-1).astype(np.int64), names


def _name(level: Any) -> str:
    return level.decode("utf-8", "replace") if isinstance(level, bytes) else str(level)


def one_hot(labels: Any, classes: int | Sequence[Any] | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Turn class labels into rows with a single 1: ``out[i, labels[i]] = 1``.

    labels: (N,) or (N, 1), integers 0 .. classes-1, or values found among the levels. classes: how many (default: the
    largest label + 1), or the levels in the order of their columns; text without levels uses the sorted distinct texts.
    dtype: of the result, (N, classes), float32.

    Raises ValueError for a label out of range or not among the levels, with its row (counting from 0); TypeError for
    labels that are no integers.

    >>> one_hot([2, 0], classes=3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    >>> one_hot(["b", "a"], classes=["a", "b"]).tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    >>> one_hot([0, 12], classes=10)
    Traceback (most recent call last):
    ...
    ValueError: label 12 in row 1 is out of range for 10 classes (0..9); 1 of 2 labels are. Raise classes to 13, or \
fix the row
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"labels must have shape (N,) or (N, 1), got {array.shape}; one-hot rows need no encoding")
    if isinstance(classes, (bool, float)):
        raise TypeError(f"classes must be an integer or the list of levels, got {classes!r}")
    if isinstance(classes, str):
        raise TypeError(f"classes must be an integer or the list of levels, got the text {classes!r}")
    if array.dtype.kind in "UO" and classes is None:
        classes = sorted({str(label) for label in array.tolist()})
    if classes is not None and not isinstance(classes, (int, np.integer)):
        codes = _codes_of(array, classes)
        count = len(list(classes))
    else:
        codes = _integers(array)
        count = _class_count(codes, classes)
        wrong = np.flatnonzero((codes < 0) | (codes >= count))
        if len(wrong):
            label = int(codes[wrong[0]])
            fix = f"Raise classes to {int(codes.max()) + 1}" if codes.min() >= 0 else "Labels count from 0: shift them"
            raise ValueError(
                f"label {label} in row {int(wrong[0])} is out of range for {count} classes (0..{count - 1}); "
                f"{len(wrong)} of {len(codes)} labels are. {fix}, or fix the row"
            )
    out = np.zeros((len(codes), count), dtype)
    out[np.arange(len(codes)), codes] = 1
    return out


def _integers(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind in "biu":
        if array.dtype == np.uint64 and len(array) and array.max() > np.iinfo(np.int64).max:
            raise ValueError(f"label {array.max()} is no class number")
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.isfinite(array) & (array == np.round(array)) & (np.abs(array) < 2**53)))
        if len(wrong):
            raise ValueError(
                f"label {array[wrong[0]]} in row {int(wrong[0])} is no whole number (rows {row_list(wrong)}); "
                f"one_hot needs class numbers, not measurements"
            )
        return array.astype(np.int64)
    if len(array) == 0:
        return np.empty(0, np.int64)
    raise TypeError(f"labels must be integers, or text with levels, got dtype {array.dtype}; give classes=[...]")


def _class_count(codes: NDArray[np.int64], classes: int | np.integer[Any] | None) -> int:
    if classes is not None:
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        return int(classes)
    if not len(codes):
        raise ValueError("no labels, so the number of classes is unknown; say classes=...")
    count = int(codes.max()) + 1
    if count > max(1000, 10 * len(codes)):
        raise ValueError(
            f"the largest label is {count - 1} with only {len(codes)} labels; if that is right say classes={count}"
        )
    return max(count, 1)


def _codes_of(array: NDArray[Any], levels: Iterable[Any]) -> NDArray[np.int64]:
    known = list(levels)
    if not known:
        raise ValueError("classes is empty; give at least one level")
    code = {level: i for i, level in enumerate(known)}
    if len(code) != len(known):
        raise ValueError(f"classes names a level twice: {known}")
    values = array.tolist()
    if array.dtype.kind == "S":
        values = [_name(value) for value in values]
    wrong = [i for i, value in enumerate(values) if value not in code]
    if wrong:
        value = values[wrong[0]]
        close = nearest(str(value), [str(level) for level in known])
        hint = f"; did you mean {close[0]!r}?" if close else ""
        told = ", ".join(repr(level) for level in known[:20]) + (", ..." if len(known) > 20 else "")
        raise ValueError(
            f"label {value!r} in row {wrong[0]} is not among the {len(known)} levels ({told}){hint} "
            f"{len(wrong)} of {len(values)} labels are unknown"
        )
    return np.array([code[value] for value in values], dtype=np.int64).reshape(-1)
