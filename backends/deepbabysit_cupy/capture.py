"""A recorded step as one CUDA graph: captured once, replayed with one launch, with the same bits as its calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from deepbabysit.runtime.notices import NOTICES
from deepbabysit_cupy.merging import Launch, merged
from deepbabysit_cupy.waves import Item, Work, again, arrange, work_of


class Uncapturable(RuntimeError):
    """A call cannot be part of a graph; the message names it."""


class Program:
    """A captured step.

    Attributes:
        graph: CuPy's graph.
        merged: how many calls share a launch with others.
    """

    def __init__(self, backend: Any, graph: Any, kept: list[Any], merged: int) -> None:
        self._backend = backend
        self._kept = kept  # addresses in the graph stay valid as long as it lives
        self.graph = graph
        self.merged = merged

    def __call__(self) -> None:
        """Run the step once."""
        backend = self._backend
        backend.enter()
        self.graph.launch(backend.stream)


def _name(backend: Any, call: Any) -> str:
    """Return the operation that a call is."""
    run = call[0]
    function = getattr(run, "func", run)
    for name, kernel in backend.kernels.items():
        if function is kernel.run or any(function is variant.run for variant in kernel.variants):
            return str(name)
    spec = next((a for a in getattr(run, "args", ()) if hasattr(a, "reference")), None)
    return str(getattr(spec, "name", getattr(function, "__name__", "a call")))


class _Capture:
    """A block in which work is written down instead of being done."""

    def __init__(self, backend: Any, pool: Any) -> None:
        self._backend = backend
        self._allocator = backend.xp.cuda.using_allocator(pool.malloc)
        self.graph: Any = None

    def __enter__(self) -> _Capture:
        self._backend.enter()
        self._allocator.__enter__()
        try:
            self._backend.stream.begin_capture()
        except BaseException:
            self._allocator.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self.graph = self._backend.stream.end_capture()
            else:
                with suppress(Exception):  # what went wrong before is what counts
                    self._backend.stream.end_capture()
        finally:
            self._allocator.__exit__(kind, error, trace)


def _run(device: Any, call: Any) -> None:
    run, outs, ins, scratch = call
    if scratch:
        device.scratch = scratch
    try:
        run(outs, *ins)
    except Exception as error:  # whatever a library refuses while a stream is captured
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Uncapturable(f"{_name(device.backend, call)} cannot be captured ({text})") from error
    finally:
        device.scratch = ()


def program(device: Any, calls: Sequence[Any], times: int = 1) -> Callable[[], None] | None:
    """Capture recorded calls, run them once, and return what repeats them; None, and nothing run, where that fails.

    Arguments:
        device: where they run.
        calls: `times` the same ones, but for where they read.
        times: the order is chosen once.
    """
    backend = device.backend
    pool = backend.xp.cuda.MemoryPool()
    try:
        works, plain = _look(device, calls, pool)
        items = again(arrange(works[: len(works) // times]), works, times) if backend.merging else []
        together = sum(len(item.works) for item in items if item.alone is None)
        if together:
            graph, extra = _merge(device, items, pool)
        else:
            graph, extra = plain, []
    except Uncapturable as refusal:
        NOTICES.tell(f"the step runs without a CUDA graph: {refusal}")
        return None
    except Exception as error:  # the end of the capture, a merged kernel: the calls themselves still run
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        NOTICES.tell(f"the step runs without a CUDA graph: {text[:200]}")
        return None
    # what kernels took from elsewhere: tables and numbers
    found = Program(backend, graph, [pool, *device.constants(), *extra], together)
    found()
    return found


def _look(device: Any, calls: Sequence[Any], pool: Any) -> tuple[list[Work], Any]:
    """Capture the calls as they are; returns what each of them does, and the graph."""
    library, ticket = device.backend.library, device.backend.ticket
    works = []
    with _Capture(device.backend, pool) as capture:
        for call in calls:
            made: list[Launch | None] = []
            with library.heard_by(made.append):
                _run(device, call)
            works.append(work_of(call, made, ticket))
    return works, capture.graph


def _merge(device: Any, items: Sequence[Item], pool: Any) -> tuple[Any, list[Any]]:
    """Capture the calls in their new order, with merged launches."""
    backend = device.backend
    # one for each merged launch, and for each part that counts blocks: they run at the same time
    tickets = backend.asarray(np.zeros(len(items) + sum(len(item.works) for item in items), np.uint32))
    given = (tickets[place : place + 1] for place in range(tickets.shape[0]))
    ready: list[Callable[[], None] | Work] = []
    extra: list[Any] = [tickets]

    def own(works: Sequence[Work]) -> list[Launch]:
        launches = [work.launch for work in works if work.launch is not None]
        return [
            replace(launch, arguments=tuple(next(given) if a is backend.ticket else a for a in launch.arguments))
            for launch in launches
        ]

    for item in items:
        alone = item.alone
        if alone is not None:
            ready.append(alone)
            continue
        text, blocks, arguments = merged([own(lane) for lane in item.lanes], own(item.tail), next(given))
        function = backend.library.made(text, "merged")
        threads = item.works[0].launch.block if item.works[0].launch is not None else ()
        ready.append(Launch(function, text, "merged", (blocks,), threads, arguments, 0).run)
    with _Capture(backend, pool) as capture:
        for step in ready:
            if not isinstance(step, Work):
                step()
            elif step.launch is not None:
                step.launch.run()
            else:
                _run(device, step.call)
    return capture.graph, extra


