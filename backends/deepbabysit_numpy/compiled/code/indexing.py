"""Rows by number: gathered, and added up in the order of the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit_numpy.compiled.jit import jit


@jit
def take(x: Any, numbers: Any, out: Any) -> Any:
    """Copy rows; returns False at a number that names none."""
    length, width = x.shape
    for i in range(numbers.size):
        number = np.int64(numbers[i])
        if number < 0:
            number += length
        if number < 0 or number >= length:
            return False
        for j in range(width):
            out[i, j] = x[number, j]
    return True


@jit
def scatter_add(values: Any, numbers: Any, out: Any) -> Any:
    """Add rows into zeros; returns False at a number that names none."""
    length, width = out.shape
    out[:] = out.dtype.type(0.0)
    for i in range(numbers.size):
        number = np.int64(numbers[i])
        if number < 0:
            number += length
        if number < 0 or number >= length:
            return False
        for j in range(width):
            out[number, j] += values[i, j]
    return True
