"""Cutting one long sequence of ids into training windows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def windows(ids: Any, length: int, stride: int | None = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut a sequence into windows and their next-token targets: ``x[i] = ids[s : s + length]``, ``y[i]`` one later.

    ids: (N,) integers. length: tokens per window. stride: from one start to the next (default: length, no overlap). The
    tokens after the last whole window are not used. Returns read-only views (n, length) that share the memory of ids.

    Raises ValueError when the sequence is too short for one window.

    >>> x, y = windows(np.arange(10), length=3)
    >>> x.tolist(), y.tolist()
    ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    """
    array = np.asarray(ids)
    stride = length if stride is None else stride
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"ids must be one row of integers, got shape {array.shape} and dtype {array.dtype}")
    if length < 1 or stride < 1:
        raise ValueError(f"length and stride must be at least 1, got length={length}, stride={stride}")
    if len(array) < length + 1:
        raise ValueError(f"a window of {length} and its targets need {length + 1} ids, got {len(array)}")
    both = np.lib.stride_tricks.sliding_window_view(array, length + 1)[::stride]
    return both[:, :-1], both[:, 1:]
