"""Where raw rows come from: what a source is, the folder of data files, and rows that stand there once."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

import deepbabysit as db

Raw = tuple[np.ndarray, np.ndarray, str]


class Source(NamedTuple):
    """A source of data; what is written here is checked when the data are read.

    Attributes:
        task: ``binary``, ``multiclass`` or ``regression``.
        features, classes: of a row; no classes for numbers.
        make: returns all rows.
        brightest: of images and signals, the largest value; 0 for columns of a table.
        signs: of rows of signs, how many there are.
    """

    task: str
    features: int
    classes: int
    make: Callable[[], Raw]
    brightest: float = 0.0
    signs: int = 0


def data_folder() -> Path:
    """Return where the files of data sets that are not bundled lie."""
    return Path(os.environ.get("DEEPBABYSIT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def needed(name: str) -> Path:
    """Return the folder of a data set; nothing is downloaded for a benchmark.

    Raises:
        FileNotFoundError: it is not there.
    """
    folder = data_folder() / name
    if not folder.is_dir():
        raise FileNotFoundError(folder)
    return folder


def once(rows: Raw) -> Raw:
    """Return rows without those whose inputs stand there already: split by chance, they would be on both sides."""
    x, y, task = rows
    _, first = np.unique(np.ascontiguousarray(x), axis=0, return_index=True)
    keep = np.sort(first)
    return x[keep], y[keep], task


def bundled(name: str) -> Raw:
    """Return a data set that the package brings or reads."""
    if name == "heart":
        needed("heart")
    data = getattr(db.datasets, name)()
    return np.asarray(data.x, np.float32).reshape(len(data.x), -1), np.asarray(data.y), data.task


def table(folder: str, target: str | int, drop: tuple[str, ...] = ()) -> Raw:
    """Return the numbers of a CSV file without rows that miss one."""
    path = next((data_folder() / folder).glob("*.csv"))
    with path.open(encoding="utf-8-sig", newline="") as file:
        head, *rows = list(csv.reader(file))
    names = [name.strip() for name in head]
    last = names.index(target) if isinstance(target, str) else target % len(names)
    columns = [i for i, name in enumerate(names) if name not in drop and i != last]
    kept = []
    for row in rows:
        try:
            kept.append([float(row[i]) for i in (*columns, last)])
        except (ValueError, IndexError):
            continue
    table = np.array(kept, np.float32)
    return table[:, :-1], table[:, -1], "regression"


def blobs(seed: int, classes: int, features: int, spread: float) -> Raw:
    """Return 1200 points around so many centers."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1.0, (classes, features))
    y = np.arange(1200) % classes
    return (centers[y] + rng.normal(0, spread, (1200, features))).astype(np.float32), y, "multiclass"
