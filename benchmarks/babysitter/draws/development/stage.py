"""What loops that are written out whole begin with: rows, batches, a network, somebody watching."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.sources import Prepared

BATCH, PASSES = 32, 15


def table(data: Prepared) -> tuple[np.ndarray, np.ndarray]:
    return data.train.x.reshape(len(data.train.x), -1), np.asarray(data.train.y).reshape(-1).astype(np.int64)


def pieces(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    order = rng.permutation(count)
    yield from (order[i : i + BATCH] for i in range(0, count - BATCH + 1, BATCH))


def dense(inputs: int, *units: int, end: int, hidden: str = "tanh", middle: tuple[Any, ...] = ()) -> Any:
    first = db.layers.Dense(units[0], hidden, input_shape=inputs)
    return db.Sequential([first, *middle, *(db.layers.Dense(n, hidden) for n in units[1:]), db.layers.Dense(end)])


def watched(model: Any, optimizer: Any) -> Any:
    return db.babysit.watch(model, optimizer, say=lambda _: None, every=8, batch=BATCH)


def begin(data: Prepared, seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Set the seed; return inputs and labels of the training rows, and a generator for their order."""
    db.set_seed(seed)
    return *table(data), np.random.default_rng(seed)
