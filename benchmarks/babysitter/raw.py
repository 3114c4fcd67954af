"""Where raw rows come from: the folder of data files, and rows that stand there once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

Raw = tuple[np.ndarray, np.ndarray, str]


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
