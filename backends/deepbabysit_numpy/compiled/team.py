"""A team of threads for compiled kernels: each runs the same function on its parts of the rows.

The workers are threads of Python that enter functions compiled without the GIL; between jobs they sleep on a lock and
take no processor (waking one costs 5 microseconds where a core is free). Numba's own parallel loops are not used: one
of its layers spins between loops and fights the threads of BLAS, the other ends the process when two threads enter it.

On Linux every worker stays on a core of its own, and a job goes to those whose core is not the caller's: the system
likes to wake a thread where it was called from, and then both would take turns on one core.

How rows are divided follows from `parts` alone. So the bits depend on the number of threads at most, not on who was
free: where another thread of the program has the team, all parts are run one after the other. After a fork the child
builds a team of its own when it first needs one.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Any

from deepbabysit.runtime import blas, subnormals, threads
from deepbabysit_numpy.compiled.loading import LISTENERS, Compiled
from deepbabysit_numpy.compiled.sizes import LEAST


def parts(rows: int, work: float, least: float = 1 << 17, number: int | None = None) -> int:
    """Return into how many parts to divide rows that take so many operations; every part gets at least `least`.

    There are at most `number` (None: the number of threads now).

    >>> parts(10, 1000)
    1
    """
    return max(min(threads.count() if number is None else number, rows, int(work // max(least, 1))), 1)


def in_program() -> bool:
    """Tell whether a program with a crew is being made in this thread: its workers are awake, short parts pay."""
    listener = LISTENERS.get(threading.get_ident()) if LISTENERS else None
    return listener is not None and listener.team


def parts_awake(rows: int, elements: float) -> int:
    """Return into how many parts a loop over so many elements is divided: 1 outside of programs."""
    return parts(rows, elements, LEAST["elements awake"]) if in_program() else 1


def ends(length: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield where the parts of an axis begin and end."""
    return pairwise([length * part // count for part in range(count + 1)])


PATIENCE = 256  # products without a convolution before BLAS gets its threads back


def _cores() -> list[int]:
    """Return the cores that this process may use, where the system lets threads be bound to them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


@cache
def _asks_core() -> Any:
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:
        return ctypes.CDLL(None).sched_getcpu
    except (OSError, AttributeError):
        return None


def _core() -> int | None:
    """Return the core that this thread runs on, or None where nobody knows."""
    ask = _asks_core()
    return None if ask is None else int(ask())


class _Worker:
    """A thread that sleeps until it gets a job."""

    __slots__ = ("_done", "_failure", "_go", "_job", "core", "serving")

    def __init__(self, number: int, core: int | None) -> None:
        self.core = core
        self.serving: Callable[[], None] | None = None  # it watches for jobs of programs; called, it stops soon
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._job: Any = None
        self._failure: BaseException | None = None
        threading.Thread(target=self._work, name=f"deepbabysit-{number}", daemon=True).start()

    def _work(self) -> None:
        if self.core is not None:
            with suppress(OSError):  # the core was taken from this process meanwhile
                os.sched_setaffinity(0, {self.core})
        subnormals.compute_with_them()
        while True:
            self._go.acquire()
            function, arguments, flush = self._job
            try:
                if flush:
                    with subnormals.flushed():
                        function(*arguments)
                else:
                    function(*arguments)
            except BaseException as error:  # the caller raises it
                self._failure = error
            self._job = function = arguments = None
            self._done.release()

    def start(self, function: Any, arguments: tuple[Any, ...], flush: bool) -> None:
        """Give it a job; `flush` is the processor's mode (`runtime.subnormals`) that the job runs in."""
        self.settle()
        self._job = (function, arguments, flush)
        self._go.release()

    def settle(self) -> None:
        """Let it end watching for jobs of programs, if it does."""
        if self.serving is not None:
            self.serving()
            self.serving = None
            self.wait()

    def wait(self) -> BaseException | None:
        """Wait until the job is done; return what it raised."""
        self._done.acquire()
        failure, self._failure = self._failure, None
        return failure


class Team:
    """The workers of this process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin without workers: after a fork the parent's are not there."""
        self._busy = threading.Lock()
        self._workers: list[_Worker] = []

    def run(self, function: Compiled, kind: Any, parts: int, *arguments: Any) -> None:
        """Call ``function(kind, part, parts, *arguments)`` for every part from 0 to `parts` - 1, at the same time.

        Arguments:
            function: writes for different parts into different places.
            kind: as in `Compiled`.
            parts: at most the number of threads, unless that has changed in between: then the rest follows.
            arguments: what every part gets.
        """
        if parts == 1:
            function(kind, 0, 1, *arguments)
            return
        if LISTENERS:
            listener = LISTENERS.get(threading.get_ident())
            if listener is not None:
                listener.shared(function.module, function.name, [(p, parts, *arguments) for p in range(parts)])
                return
        # what has to be compiled first is compiled once, by this thread
        if not function.ready(kind) or not self._busy.acquire(blocking=False):
            for part in range(parts):
                function(kind, part, parts, *arguments)
            return
        try:
            self._share(function, kind, parts, arguments)
        finally:
            self._busy.release()

    def _choose(self, count: int) -> list[_Worker]:
        """Return so many workers that are not on the core of this thread, made where they are missing."""
        here = _core()
        chosen = [worker for worker in self._workers if worker.core is None or worker.core != here][:count]
        taken = {worker.core for worker in self._workers} | {here}
        free = [core for core in _cores() if core not in taken]
        while len(chosen) < count:
            worker = _Worker(len(self._workers) + 1, free.pop(0) if free else None)
            self._workers.append(worker)
            chosen.append(worker)
        return chosen

    def wake(
        self, count: int, awake: Callable[[int], bool],
        begin: Callable[[int], tuple[Any, tuple[Any, ...], Callable[[], None]]],
    ) -> None:
        """Let workers that are not on the core of this thread serve programs; those that do so already go on.

        Arguments:
            count: how many.
            awake: tells of a worker, by its number, whether it serves.
            begin: returns the function that it is to run, its arguments, and what makes it end soon.
        """
        if not self._busy.acquire(blocking=False):
            return  # the program runs all parts by itself
        try:
            for worker in self._choose(count):
                number = self._workers.index(worker)
                if not awake(number):
                    worker.settle()  # before its mark is set again
                    function, arguments, stop = begin(number)
                    worker.start(function, arguments, True)
                    worker.serving = stop
        finally:
            self._busy.release()

    def _share(self, function: Compiled, kind: Any, parts: int, arguments: tuple[Any, ...]) -> None:
        """Run the first part in this thread, the others in those of the workers."""
        flush = subnormals.in_force()
        running = self._choose(parts - 1)
        for number, worker in enumerate(running):
            worker.start(function, (kind, number + 1, parts, *arguments), flush)
        failure: BaseException | None = None
        try:
            function(kind, 0, parts, *arguments)
        except BaseException as error:
            failure = error
        for worker in running:  # nobody may still write into the arrays when this returns, Ctrl-C or not
            while True:
                try:
                    failure = worker.wait() or failure
                    break
                except KeyboardInterrupt as error:
                    failure = error
        if failure is not None:
            raise failure


class Loan:
    """The threads of BLAS, lent to the team while a network needs it.

    After each product they wait by spinning, for some 30 ms, on the cores where the workers are to run: with both, a
    step of a convolutional network took twice as long on two cores as with BLAS in one thread. So convolutions that use
    the team take the threads, and products give them back when many in a row have come without a convolution.
    """

    def __init__(self) -> None:
        self.held = False
        self._products = 0
        self._choices = 0

    def take(self) -> None:
        """Let BLAS use one thread from here on."""
        self._products = 0
        if not self.held or self._choices != threads.choices():
            self.held = blas.set_threads(1)
            self._choices = threads.choices()

    def product(self) -> None:
        """Count a product of BLAS (asked only while `held`)."""
        self._products += 1
        if self._products > PATIENCE:
            self.held = False
            if self._choices == threads.choices():
                blas.set_threads(threads.count())


TEAM = Team()
LOAN = Loan()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TEAM.forget)
