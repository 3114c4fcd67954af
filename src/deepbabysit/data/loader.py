"""The loader: batches of rows in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np

from deepbabysit.data.order import as_seed, batch_generator, epoch_order
from deepbabysit.data.rows import Indices, Rows, as_rows, count_rows, leaves, row_list, take

Augment: TypeAlias = Callable[[Rows, Rows, np.random.Generator], tuple[Rows, Rows]]


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the data; ``for x, y in loader`` unpacks it. The arrays are fresh copies.

    x, y: as in the data (y None when there is none), (n, ...). sample_weight: float32 (n,) or None. rows: int64 (n,),
    the row numbers in the data. start: position of the first row in the epoch.

    >>> batch = Batch(np.ones((2, 3)), np.zeros(2), None, np.arange(2), 0)
    >>> x, y = batch
    >>> x.shape, len(batch.rows)
    ((2, 3), 2)
    """

    x: Rows
    y: Rows
    sample_weight: Rows
    rows: Indices
    start: int

    def __iter__(self) -> Iterator[Rows]:
        """Yield x and y, and the weights where there are any."""
        yield self.x
        yield self.y
        if self.sample_weight is not None:
            yield self.sample_weight


class LoaderError(RuntimeError):
    """Loading or augmenting failed: the message names sample, stage and place; ``__cause__`` is the original error."""

    def __init__(self, message: str, rows: Indices, epoch: int, start: int, stage: str) -> None:
        super().__init__(message)
        self.rows = rows
        self.epoch = epoch
        self.start = start
        self.stage = stage


@final
class Loader:
    """Give the data in batches, each row exactly once per epoch, the same batches for the same (seed, epoch).

    x, y: arrays with rows first (N, ...), or tuples or mappings of such arrays (several inputs), or *sources*: anything
    with ``__len__`` and a ``__getitem__`` that takes an int64 array of row numbers and returns these rows. A source
    given as x without y may return ``(x, y)`` or ``(x, y, sample_weight)``. dtypes are kept: uint8 images stay uint8.
    Data are not scanned for NaN: see `check_finite`.
    batch_size: rows per batch; the last batch of an epoch has what is left (``drop_last=True`` leaves it out).
    shuffle: a new order each epoch, see `epoch_order`; otherwise the order of the data.
    augment: ``(x, y, rng) -> (x, y)`` on a whole batch; rng is a NumPy Generator that is a pure function of
    (seed, epoch, position of the batch), so a resumed run augments as the uninterrupted one did. It may write into the
    arrays it gets.
    seed: 0 .. 2**64-1, or None for a fresh one (then read it from ``.seed``).
    prefetch: batches made ahead by one background thread; 0 for none.
    sample_weight: (N,), or (N, T) for the positions of sequences; finite and not negative.

    Every batch is gathered into newly allocated arrays, so a batch is never overwritten while somebody holds it.
    (Reusing buffers was measured to gain nothing: the allocator already recycles the memory.)

    Iterating runs epoch 0, then 1, 2, ... one per ``iter()``; ``epoch(e, start)`` gives any epoch from any row.

    Raises ValueError for an empty data set, unequal lengths, a batch larger than the data; TypeError for what is no
    data; while iterating, `LoaderError` with the sample that failed.

    >>> loader = Loader(np.arange(5.0), np.arange(5), batch_size=2, shuffle=False)
    >>> [batch.x.tolist() for batch in loader]
    [[0.0, 1.0], [2.0, 3.0], [4.0]]
    >>> len(loader), loader.rows
    (3, 5)
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        batch_size: int = 32,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int | None = 0,
        prefetch: int = 2,
        sample_weight: Any = None,
        drop_last: bool = False,
    ) -> None:
        self.x = as_rows("x", x)
        self.y = None if y is None else as_rows("y", y)
        self.sample_weight = None if sample_weight is None else _as_weights(sample_weight)
        self.rows = count_rows(x=self.x, y=self.y, sample_weight=self.sample_weight)
        self.batch_size = _whole("batch_size", batch_size, least=1)
        if self.batch_size > self.rows:
            raise ValueError(
                f"batch_size {self.batch_size} is larger than the data set of {self.rows} rows; "
                f"use batch_size={self.rows} or smaller"
            )
        if augment is not None and not callable(augment):
            raise TypeError(f"augment must be a function (x, y, rng) -> (x, y), got {augment!r}")
        self.shuffle = bool(shuffle)
        self.augment = augment
        self.seed = as_seed(seed)
        self.prefetch = _whole("prefetch", prefetch, least=0)
        self.drop_last = bool(drop_last)
        self._next_epoch = 0
        # Only a lone source may hand out targets together with inputs; a tuple of sources means several inputs.
        self._combined = self.y is None and not isinstance(self.x, (np.ndarray, tuple, dict))

    def __len__(self) -> int:
        return self.rows // self.batch_size if self.drop_last else -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        return self.epoch(epoch)

    def order(self, epoch: int) -> Indices:
        """Return the row numbers in the order in which this epoch visits them, int64 (N,)."""
        if self.shuffle:
            return epoch_order(self.rows, self.seed, _whole("epoch", epoch, least=0))
        return np.arange(self.rows, dtype=np.int64)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of one epoch, from its row ``start`` on (0 .. rows).

        With ``start`` a multiple of the batch size the batches are those that an uninterrupted epoch gives from there.
        The iterator has ``close()``, which ends its background thread; so does dropping it.
        """
        _whole("epoch", epoch, least=0)
        if not 0 <= _whole("start", start, least=0) <= self.rows:
            raise ValueError(f"start must lie between 0 and the {self.rows} rows of the epoch, got {start}")
        batches = self._batches(int(epoch), int(start))
        if not self.prefetch:
            return batches
        from deepbabysit.data.prefetch import Prefetched

        return Prefetched(batches, self.prefetch)

    def _batches(self, epoch: int, start: int) -> Generator[Batch, None, None]:
        order = self.order(epoch)
        end = self.rows - self.rows % self.batch_size if self.drop_last else self.rows
        for at in range(start, end, self.batch_size):
            yield self._batch(epoch, at, order[at : min(at + self.batch_size, end)].copy())

    def _batch(self, epoch: int, start: int, rows: Indices) -> Batch:
        y: Rows = None
        weight: Rows = None
        x = self._gather("x", self.x, epoch, start, rows)
        if self._combined and isinstance(x, tuple):
            if len(x) not in (2, 3):
                raise ValueError(
                    f"x[rows] returned a tuple of {len(x)}; a source returns x, (x, y) or (x, y, sample_weight)"
                )
            x, y, weight = (*x, None)[:3]
            count_rows(rows=rows, x=x, y=y, sample_weight=weight)
        if self.y is not None:
            y = self._gather("y", self.y, epoch, start, rows)
        if self.sample_weight is not None:
            weight = self.sample_weight.take(rows, axis=0)
        if self.augment is not None:
            x, y = self._augmented(x, y, epoch, start, rows)
        return Batch(x, y, weight, rows, start)

    def _gather(self, name: str, data: Rows, epoch: int, start: int, rows: Indices) -> Rows:
        try:
            got = take(data, rows)
        except MemoryError:
            raise
        except Exception as error:
            sample = _first_failing(data, rows)
            told = f"sample {sample}" if sample is not None else f"samples {row_list(rows)}"
            told = f"{told} of {name} could not be loaded"
            raise self._failed(told, f"{name}[rows]", error, epoch, start, rows) from error
        if not (self._combined and isinstance(got, tuple)):
            for leaf_name, leaf in leaves(name, got):
                if len(leaf) != len(rows):
                    raise ValueError(f"{leaf_name}[rows] returned {len(leaf)} rows for {len(rows)} row numbers")
        return got

    def _augmented(self, x: Rows, y: Rows, epoch: int, start: int, rows: Indices) -> tuple[Rows, Rows]:
        assert self.augment is not None
        try:
            result = self.augment(x, y, batch_generator(self.seed, epoch, start))
        except MemoryError:
            raise
        except Exception as error:
            told = f"augment failed on the batch of samples {row_list(rows)}"
            raise self._failed(told, "augment", error, epoch, start, rows) from error
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(f"augment must return (x, y), got {type(result).__name__}; for x alone: return x, y")
        if (result[1] is None) != (y is None):
            raise ValueError("augment must return y when there is a y, and None when there is none: return x, y")
        for name, part in zip("xy", result, strict=True):
            for leaf_name, leaf in leaves(name, part) if part is not None else ():
                if len(leaf) != len(rows):
                    raise ValueError(f"augment returned {len(leaf)} rows of {leaf_name} for a batch of {len(rows)}")
        return result

    def _failed(self, what: str, stage: str, error: Exception, epoch: int, start: int, rows: Indices) -> LoaderError:
        place = f"epoch {epoch}, batch at row {start}"
        return LoaderError(f"{what} ({place}): {type(error).__name__}: {error}", rows, epoch, start, stage)

    def __repr__(self) -> str:
        return f"Loader({self.rows} rows in {len(self)} batches of {self.batch_size}, seed {self.seed})"


def _first_failing(data: Rows, rows: Indices) -> int | None:
    """Load the rows of a failed batch one by one: which sample is it?"""
    for i in range(len(rows)):
        try:
            take(data, rows[i : i + 1])
        except Exception:
            return int(rows[i])
    return None


def _as_weights(sample_weight: Any) -> Rows:
    weights = as_rows("sample_weight", sample_weight)
    if not isinstance(weights, np.ndarray) or weights.ndim < 1 or weights.dtype.kind not in "biuf":
        shape = getattr(weights, "shape", type(weights).__name__)
        raise ValueError(f"sample_weight must be one number per row, shape (N,), or per position, (N, T); got {shape}")
    wrong = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise ValueError(
            f"sample_weight must be finite and not negative; row {int(wrong[0][0])} has {weights[tuple(wrong[0])]} "
            f"({len(np.unique(wrong[:, 0]))} rows are wrong)"
        )
    return weights.astype(np.float32, copy=False)


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)
