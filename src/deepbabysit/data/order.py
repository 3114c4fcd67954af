"""The order of an epoch and the random streams of its batches, as pure functions of (seed, epoch, row).

The bits come from NumPy's Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
a counter-based generator: key = (seed, purpose), counter = (0, row, epoch, 0). Only its raw words are used for the
order, so the order does not change when NumPy changes how it shuffles.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ORDER = 0x6F72646572  # purposes: one key space each, so that no two streams share bits
_AUGMENT = 0x6175676D
_SPLIT = 0x73706C6974


def as_seed(seed: Any) -> int:
    """Return a seed as an integer below 2**64; ``None`` draws one from the operating system."""
    if seed is None:
        return int.from_bytes(os.urandom(7), "little")
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed must be an integer or None, got {seed!r}; for instance seed=0")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must lie between 0 and 2**64 - 1, got {seed}")
    return int(seed)


def _bits(seed: int, purpose: int, epoch: int = 0, row: int = 0) -> np.random.Philox:
    key = np.array([seed, purpose], dtype=np.uint64)
    counter = np.array([0, row, epoch, 0], dtype=np.uint64)
    return np.random.Philox(key=key, counter=counter)


def epoch_order(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the order in which an epoch visits the rows: a permutation, pure function of (rows, seed, epoch).

    Every row gets a random word whose low bits are replaced by the row number; sorting the words shuffles the rows.
    (At least 64 - log2(rows) random bits each: 40 for 16 million rows.)

    rows: how many. seed: 0 .. 2**64-1. epoch: 0, 1, ... Returns int64 (rows,).

    >>> epoch_order(5, seed=0, epoch=0).tolist() == epoch_order(5, seed=0, epoch=0).tolist()
    True
    >>> sorted(epoch_order(5, seed=0, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """
    return _shuffled(rows, _bits(as_seed(seed), _ORDER, epoch))


def _shuffled(rows: int, bits: np.random.Philox) -> NDArray[np.int64]:
    words = bits.random_raw(rows)
    low = np.uint64((1 << max(rows - 1, 0).bit_length()) - 1)
    words &= ~low
    words |= np.arange(rows, dtype=np.uint64)
    words.sort()
    words &= low
    return words.view(np.int64)


def split_order(rows: int, seed: int, stream: int = 0) -> NDArray[np.int64]:
    """Return the shuffled row numbers that a split works from."""
    return _shuffled(rows, _bits(seed, _SPLIT, stream))


def batch_generator(seed: int, epoch: int, row: int) -> np.random.Generator:
    """Return the generator of the batch that starts at this row of the epoch, for augmentation."""
    return np.random.Generator(_bits(seed, _AUGMENT, epoch, row))
