"""Rows by number: gathered, and added up in the order of the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import exact, jit


@jit
def _row(numbers: Any, i: Any, length: Any) -> Any:
    """Return the row that a number names, counted from the end where it is negative; -1 where it names none."""
    number = np.int64(numbers[i])
    number += length if number < 0 else 0
    return number if 0 <= number < length else np.int64(-1)


@jit
def take(x: Any, numbers: Any, out: Any) -> Any:
    """Copy rows; returns False at a number that names none."""
    length, width = x.shape
    for i in range(numbers.size):
        row = _row(numbers, i, length)
        if row < 0:
            return False
        for j in range(width):
            out[i, j] = x[row, j]
    return True


@jit
def scatter_add(values: Any, numbers: Any, out: Any) -> Any:
    """Add rows into zeros; returns False at a number that names none."""
    length, width = out.shape
    out[:] = out.dtype.type(0.0)
    for i in range(numbers.size):
        row = _row(numbers, i, length)
        if row < 0:
            return False
        for j in range(width):
            out[row, j] += values[i, j]
    return True


@exact
def take_scaled(x: Any, numbers: Any, shift: Any, scale: Any, out: Any) -> Any:
    """Copy rows as ``(row - shift) / scale``, rounded as NumPy does it; returns False at a number that names none."""
    length, width = x.shape
    real, single = out.dtype.type, shift.size == 1
    for i in range(numbers.size):
        row = _row(numbers, i, length)
        if row < 0:
            return False
        source, target = x[row], out[i]
        if single:
            for j in range(width):
                target[j] = real((np.float64(source[j]) - shift[0]) / scale[0])
        else:
            for j in range(width):
                target[j] = real((np.float64(source[j]) - shift[j]) / scale[j])
    return True
