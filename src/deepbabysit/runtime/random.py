"""Random streams: every draw is a pure function of (seed; step, layer path, call, global row, column)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deepbabysit.kernels.random import CONTROL_SIZE
from deepbabysit.runtime.context import current

if TYPE_CHECKING:
    from deepbabysit.runtime.device import Device


@lru_cache(maxsize=4096)
def stream_number(path: str) -> int:
    """Return the 64-bit number of a named stream (the first 8 bytes of its BLAKE2b hash).

    >>> stream_number("encoder.dropout") == stream_number("encoder.dropout") != stream_number("dropout")
    True
    """
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


class Streams:
    """Where the draws of a run stand: seed, step, first global row, and how often each path was called in this step.

    Arguments:
        seed: a whole number from 0 to 2**64 - 1.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = _checked_seed(seed)
        self.step = 0
        self.row = 0
        self.calls: dict[str, int] = {}
        self._made: dict[str, int] = {}
        self._controls: dict[Device, Any] = {}
        self._tells: list[Callable[..., None]] = []  # write them

    def begin(self, step: int, row: int = 0) -> None:
        """Begin a step, or a micro-batch of one that starts at global row `row`: calls are counted from 0 again."""
        self.step, self.row = step, row
        self.calls.clear()
        for tell in self._tells:
            tell(self.seed, step, row, 0)

    def advance(self) -> None:
        """Begin the next step."""
        self.step += 1
        self.row = 0
        if self.calls:
            self.calls.clear()
        for tell in self._tells:
            tell(self.seed, self.step, 0, 0)

    def next_call(self, path: str) -> int:
        """Return how often this path has drawn in this step, and count one more."""
        call = self.calls.get(path, 0)
        self.calls[path] = call + 1
        return call

    def next_made(self, path: str) -> int:
        """Return how many layers outside of models began with this path since the seed was set, and count one more."""
        count = self._made.get(path, 0)
        self._made[path] = count + 1
        return count

    def control(self, device: Device) -> Any:
        """Return the device's control array (seed, step, row, 0); kernels read it, so a replay sees the new step."""
        control = self._controls.get(device)
        if control is None:
            control = device.asarray(np.array([self.seed, self.step, self.row, 0], np.uint64))
            self._controls[device] = control
            self._tells.append(device.writer(control))
        assert control.shape == (CONTROL_SIZE,)
        return control

    @contextmanager
    def rewound(self, calls: dict[str, int], step: int | None = None, row: int | None = None) -> Iterator[None]:
        """Go back to an earlier point for a block: recomputation then draws what was drawn before.

        Arguments:
            calls: how often each path had drawn.
            step, row: where the streams stood, if they have moved on since.
        """
        kept, here = dict(self.calls), (self.step, self.row)
        there = (self.step if step is None else step, self.row if row is None else row)
        self._move(there, calls)
        try:
            yield
        finally:
            self._move(here, kept)

    def _move(self, place: tuple[int, int], calls: dict[str, int]) -> None:
        if place != (self.step, self.row):
            self.begin(*place)
        self.calls.clear()
        self.calls.update(calls)


def _checked_seed(seed: int) -> int:
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= int(seed) < 2**64:
        raise ValueError(f"a seed is a whole number from 0 to 2**64 - 1; got {seed!r}")
    return int(seed)


class _ThreadStreams(threading.local):
    def __init__(self) -> None:
        self.streams = Streams(0)


_OWN = _ThreadStreams()


def streams() -> Streams:
    """Return the random streams in force: those of the run, or the thread's own."""
    return current().streams or _OWN.streams


def advance() -> None:
    """Begin the next step of the streams in force."""
    (current().streams or _OWN.streams).advance()


def set_seed(seed: int) -> None:
    """Start the thread's random streams afresh from a seed: weights, dropout and shuffling follow from it.

    >>> import deepbabysit as db
    >>> db.set_seed(7)
    """
    _OWN.streams = Streams(seed)


def host_generator(path: str, seed: int | None = None) -> np.random.Generator:
    """Return a NumPy generator for a named purpose (initial weights, splits): a function of seed and name only.

    >>> host_generator("dense.kernel", 1).random() == host_generator("dense.kernel", 1).random()
    True
    """
    start = streams().seed if seed is None else _checked_seed(seed)
    return np.random.Generator(np.random.Philox(key=np.array([start, stream_number(path)], np.uint64)))
