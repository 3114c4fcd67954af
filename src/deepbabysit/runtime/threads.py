"""Threads of kernels on the CPU: how many, and a team that shares the work of one call.

The kernels are compiled for one thread; a call is cut into parts that give the same bits however many there are. So no
second library starts threads that spin while those of BLAS want the cores.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

# what libraries of matrix products read, in the order in which OpenBLAS does
_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
Part = Callable[[int, int], None]


class Threads:
    """How many threads kernels use.

    Attributes:
        chosen: what ``db.set_num_threads`` was given, or None.
    """

    def __init__(self) -> None:
        self.chosen: int | None = None
        self._found: int | None = None

    def count(self) -> int:
        """Return the number: the chosen one, else what the environment says, else the processors we may use."""
        if self.chosen is not None:
            return self.chosen
        if self._found is None:
            self._found = _from_surroundings()
        return self._found


def _from_surroundings() -> int:
    for variable in _VARIABLES:
        text = os.environ.get(variable, "")
        if text.isdecimal() and int(text) >= 1:
            return int(text)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


class _Team:
    """Waiting threads that take parts of a call; they start at first use and end with the process."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._size = 0
        self._growing = threading.Lock()

    def run(self, part: Part, bounds: list[int]) -> None:
        """Run ``part(begin, end)`` between neighbouring bounds: the first here, the others in the team."""
        helpers = len(bounds) - 2
        self._grow(helpers)
        done: SimpleQueue[BaseException | None] = SimpleQueue()
        for begin, end in zip(bounds[1:], bounds[2:], strict=False):
            self._orders.put((part, begin, end, done))
        failure: BaseException | None = None
        try:
            part(bounds[0], bounds[1])
        finally:  # the others may still write: never leave before they are done
            for _ in range(helpers):
                failure = done.get() or failure
        if failure is not None:
            raise failure

    def _grow(self, size: int) -> None:
        if self._size >= size:
            return
        with self._growing:
            while self._size < size:
                threading.Thread(target=self._serve, name="deepbabysit-kernel", daemon=True).start()
                self._size += 1

    def _serve(self) -> None:
        while True:
            part, begin, end, done = self._orders.get()
            try:
                part(begin, end)
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)
            del part, done  # a waiting thread keeps no array alive


THREADS = Threads()
_TEAMS = [_Team()]


def _forget_team() -> None:
    """Begin anew in a forked process: threads do not live on there."""
    _TEAMS[0] = _Team()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_team)


def share(part: Part, size: int, least: int, unit: int = 16) -> None:
    """Run ``part(begin, end)`` over ``0..size`` in as many threads as pay.

    Arguments:
        part: works on a range; ranges do not touch what another one writes. It should release the GIL.
        size: how much there is to do.
        least: what a thread should have to do at least.
        unit: the bounds between parts are multiples of it.
    """
    parts = min(THREADS.count(), size // least) if size >= 2 * least else 1
    if parts <= 1:
        part(0, size)
        return
    step = -(-size // (parts * unit)) * unit
    bounds = [*range(0, size, step), size]
    _TEAMS[0].run(part, bounds)
