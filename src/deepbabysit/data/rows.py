"""Data whose first axis counts rows: one array, or a tuple or mapping of arrays that belong together.

A leaf is a NumPy array, or a *source*: anything with ``__len__`` and a ``__getitem__`` that takes an array of row
numbers. The other data modules speak to both through the few functions here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = Any  # an ndarray, a source, or a tuple / dict of those
Indices: TypeAlias = NDArray[np.int64]


def as_rows(name: str, value: Any) -> Rows:
    """Return ``value`` as arrays with a row axis; lists of arrays become tuples, lists of numbers arrays."""
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{name} is an empty mapping; give at least one array")
        return {key: _leaf(f"{name}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and value and all(_is_array(item) for item in value):
        return tuple(_leaf(f"{name}[{i}]", item) for i, item in enumerate(value))
    return _leaf(name, value)


def _is_array(item: Any) -> bool:
    """Say whether an item of a list is an array of its own: then the list means several inputs."""
    shape = getattr(item, "shape", None)
    return isinstance(shape, Sequence) and len(shape) >= 1 and not isinstance(item, np.generic)


def _leaf(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (str, bytes)):
        raise TypeError(f"{name} must be an array with one row per sample, got {type(value).__name__}")
    if hasattr(value, "iloc") and hasattr(value, "to_numpy"):  # pandas: its own [rows] would pick columns
        value = value.to_numpy()
    elif callable(getattr(value, "numpy", None)) and not hasattr(value, "__cuda_array_interface__"):
        value = value.numpy()  # tensors of this package and of others
    source = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if isinstance(value, (np.ndarray, list, tuple, range)) or not source:
        array = _array(name, value)
    else:
        return value
    if array.ndim == 0:
        raise TypeError(f"{name} must be an array with one row per sample, got the single value {array!r}")
    return array


def _array(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} is a list whose rows have different lengths, so it is no array ({error}); "
            f"pad the rows to one length first"
        ) from error
    if array.dtype.kind == "O":
        items = array.ravel().tolist()
        if items and all(isinstance(item, str) for item in items):
            return array.astype(str)
        kinds = sorted({type(item).__name__ for item in items[:1000]})
        raise TypeError(
            f"{name} has dtype object (it holds {', '.join(kinds) or 'nothing'}); expected numbers. "
            f"Convert it with np.asarray({name}, dtype='float32'), or read a CSV with db.data.read_table"
        )
    return array


def leaves(name: str, rows: Rows) -> Iterator[tuple[str, Any]]:
    """Yield (name, array) for every array of a structure."""
    if isinstance(rows, dict):
        for key, item in rows.items():
            yield f"{name}[{key!r}]", item
    elif isinstance(rows, tuple):
        for i, item in enumerate(rows):
            yield f"{name}[{i}]", item
    else:
        yield name, rows


def count_rows(**fields: Rows) -> int:
    """Return the number of rows that all given structures share; they are named in the error when they differ."""
    counts: dict[str, int] = {}
    for name, rows in fields.items():
        if rows is None:
            continue
        for leaf_name, leaf in leaves(name, rows):
            counts[leaf_name] = len(leaf)
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(f"every array needs the same number of rows (first axis): {told}")
    if not counts or not next(iter(counts.values())):
        raise ValueError(f"the data set is empty: {' and '.join(counts) or 'it'} has 0 rows; give at least one row")
    return next(iter(counts.values()))


def take(rows: Rows, indices: Indices) -> Rows:
    """Return fresh arrays holding the rows with these numbers, in this order."""
    if isinstance(rows, dict):
        return {key: take(item, indices) for key, item in rows.items()}
    if isinstance(rows, tuple):
        return tuple(take(item, indices) for item in rows)
    if isinstance(rows, np.ndarray):
        # ndarray.take copies a whole array that is not plain C order before it gathers; indexing does not.
        if rows.flags.c_contiguous and rows.flags.aligned and rows.dtype.isnative:
            return rows.take(indices, axis=0)
        return np.ascontiguousarray(rows[indices])
    return take_source(rows, indices)


def take_source(source: Any, indices: Indices) -> Rows:
    """Ask a source for rows; whatever it gives is checked for its length by the caller."""
    item = source[indices]
    if isinstance(item, dict):
        return {key: _host(part) for key, part in item.items()}
    if isinstance(item, tuple):
        return tuple(take_part if isinstance(take_part, (tuple, dict)) else _host(take_part) for take_part in item)
    return _host(item)


def _host(item: Any) -> Any:
    if isinstance(item, np.ndarray) or hasattr(item, "__cuda_array_interface__"):
        return item
    return np.asarray(item)


def row_list(indices: Any, limit: int = 5) -> str:
    """Name a few rows: ``4, 17, 58 and 12 more``.

    >>> row_list([4, 17, 58, 60], limit=2)
    '4, 17 and 2 more'
    """
    numbers = [int(i) for i in indices[:limit]]
    more = len(indices) - len(numbers)
    return ", ".join(str(i) for i in numbers) + (f" and {more} more" if more else "")
