"""Rows as columns of numbers that cheap models can read: ids are written out, everything else is laid flat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Arrays = Sequence[np.ndarray]
Reader = Callable[[Arrays, np.ndarray], np.ndarray]

PLACES = 512  # so many columns may say which id stands where; beyond it only how often each occurs
COMMON = 256  # so many ids are counted, the most frequent ones


def reader(x: Arrays, rows: np.ndarray, ids: Sequence[bool] = ()) -> Reader:
    """Return what lays rows flat, (N, columns); the ids it knows are those of these rows.

    >>> x = [np.array([[0, 2], [2, 0], [0, 0]])]
    >>> read = reader(x, np.arange(3), [True])
    >>> read(x, np.array([0, 2])).tolist()  # which id is first, which is second, how often each occurs
    [[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 1.0, 0.0, 2.0, 0.0]]
    """
    flags = [*ids, *[False] * (len(x) - len(ids))]
    known = [_levels(array[rows]) if flag else None for array, flag in zip(x, flags, strict=True)]

    def read(arrays: Arrays, chosen: np.ndarray) -> np.ndarray:
        parts = []
        for array, levels in zip(arrays, known, strict=True):
            values = array[chosen].reshape(len(chosen), -1)
            parts.append(np.asarray(values, np.float64) if levels is None else _written(values, levels))
        return np.concatenate(parts, axis=1)

    return read


def _levels(values: np.ndarray) -> np.ndarray:
    levels, counts = np.unique(values, return_counts=True)
    return np.sort(levels[np.argsort(-counts, kind="stable")[:COMMON]])


def _written(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    if values.shape[1] * len(levels) <= PLACES:
        there = values[:, :, None] == levels
        placed = there.reshape(len(values), -1).astype(np.float64)
        return np.concatenate((placed, there.sum(axis=1).astype(np.float64)), axis=1)
    number = np.clip(np.searchsorted(levels, values), 0, len(levels) - 1)
    row, _ = np.nonzero(found := levels[number] == values)
    counted: np.ndarray = np.bincount(
        row * len(levels) + number[found], minlength=len(values) * len(levels)
    ).reshape(len(values), -1).astype(np.float64)
    return counted
