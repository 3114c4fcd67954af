"""Finding NaN and infinity in data, with the rows that hold them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepbabysit.data.rows import as_rows, leaves, row_list
from deepbabysit.runtime import threads

_BLOCK = 1 << 20  # elements looked at in one go: the temporary mask stays small
_SHARED = 1 << 24  # bytes that several threads look at together


def check_finite(name: str, array: Any) -> None:
    """Raise when data hold NaN or infinity, and say in which rows.

    name: what to call the data in the message (``"x"``). array: an array (rows first), or a tuple or mapping of
    arrays. Integers, booleans and text are never scanned. Sources that are not arrays are not scanned.

    Raises ValueError with how many rows are bad, the first of them (counting from 0) and one position.

    >>> check_finite("x", np.ones((3, 2)))
    >>> check_finite("x", np.array([[0.0, 1.0], [2.0, np.nan]]))
    Traceback (most recent call last):
    ...
    ValueError: x holds NaN or infinity in 1 of 2 rows: row 1 (counting from 0); first: nan at x[1, 1]. Remove these \
rows, or fill the cells from training rows (db.data.MeanImputer)
    """
    for leaf_name, leaf in leaves(name, as_rows(name, array)):
        if isinstance(leaf, np.ndarray):
            bad = bad_rows(leaf)
            if len(bad):
                raise ValueError(_message(leaf_name, leaf, bad))


def bad_rows(array: NDArray[Any]) -> NDArray[np.int64]:
    """Return the numbers of the rows that hold NaN or infinity."""
    if array.dtype.kind in "biuSUmM" or array.size == 0:
        return np.empty(0, np.int64)
    count = threads.count() if array.nbytes >= _SHARED else 1
    if count == 1:
        return _bad_rows(array, 0, len(array))
    from concurrent.futures import ThreadPoolExecutor  # a thread alone gets half of the memory's bandwidth

    ends = [len(array) * part // count for part in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:
        return np.concatenate(list(pool.map(partial(_bad_rows, array), ends, ends[1:])))


def _bad_rows(array: NDArray[Any], first: int, last: int) -> NDArray[np.int64]:
    step = max(1, _BLOCK // max(1, array.size // len(array)))
    found: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for start in range(first, last, step):
        block = array[start : min(start + step, last)]
        if _surely_finite(block):
            continue
        fine = np.isfinite(block)
        if not fine.all():
            found.append(np.flatnonzero(~fine.reshape(len(fine), -1).all(axis=1)) + start)
    return np.concatenate(found)


def _surely_finite(block: NDArray[Any]) -> bool:
    """Tell by the sum of squares, one pass of BLAS, that all are finite; large numbers may make it infinite, too."""
    if block.dtype.char not in "fd" or not block.flags.c_contiguous:
        return False
    flat = block.reshape(-1)
    with np.errstate(all="ignore"):
        return math.isfinite(np.dot(flat, flat))


def _message(name: str, array: NDArray[Any], bad: NDArray[np.int64]) -> str:
    first = int(bad[0])
    row = np.asarray(array[first])
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(row))[0])
    place = ", ".join(str(i) for i in (first, *where))
    plural = "s" if len(bad) > 1 else ""
    return (
        f"{name} holds NaN or infinity in {len(bad)} of {len(array)} rows: row{plural} {row_list(bad)} "
        f"(counting from 0); first: {row[where]} at {name}[{place}]. Remove these rows, or fill the cells from "
        f"training rows (db.data.MeanImputer)"
    )
