"""The three parts of the data: to train on, to choose by, and to be looked at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from deepbabysit.babysit.preparation import as_tuple, bare
from deepbabysit.data.datasets.dataset import Dataset
from deepbabysit.data.splits import Split, split

Pair = tuple[Any, np.ndarray]


class Parts(NamedTuple):
    """(x, y) of each part; x is an array or a tuple of arrays."""

    train: Pair
    validation: Pair
    test: Pair


def parts_of(data: Any, seed: int) -> Parts:
    """Return the parts of what a user gave.

    Arguments:
        data: three pairs (x, y); a `db.data.split` into three; a `Dataset` (split 80/10/10, or 90/10 where it has a
            test part of its own).
        seed: of a split that is made here.

    Raises:
        TypeError: it is none of these.
        ValueError: a part is empty, or x and y have different lengths.
    """
    if isinstance(data, Dataset):
        if data.y is None:
            raise TypeError(f"{data.name} has no targets; give three pairs (x, y)")
        if data.x_test is None:
            found: Any = tuple(split(data.x, data.y, (0.8, 0.1, 0.1), seed=seed))
        else:
            found = (*split(data.x, data.y, (0.9, 0.1), seed=seed), (data.x_test, data.y_test))
    else:
        found = tuple(data) if isinstance(data, Split | tuple | list) else None
    if found is None or len(found) != 3 or not all(isinstance(p, tuple | list) and len(p) == 2 for p in found):
        raise TypeError(
            "data are three pairs ((x, y) to train on, to choose by, to be tested once), a db.data.split(x, y) into "
            f"three, or a data set such as db.datasets.digits(); got {type(data).__name__}"
        )
    parts = []
    for name, (x, y) in zip(Parts._fields, found, strict=True):
        xs, ys = as_tuple(x), np.asarray(y)
        if not len(ys) or any(len(a) != len(ys) for a in xs):
            raise ValueError(f"the {name} part has {len(xs[0])} rows of x and {len(ys)} of y")
        parts.append((bare(xs), ys))
    return Parts(*parts)


def take(pair: Pair, rows: np.ndarray) -> Pair:
    """Return some rows of a part."""
    return bare(tuple(a[rows] for a in as_tuple(pair[0]))), pair[1][rows]


def zeroed(pair: Pair) -> Pair:
    """Return a part whose inputs say nothing."""
    return bare(tuple(np.zeros_like(a) for a in as_tuple(pair[0]))), pair[1]
