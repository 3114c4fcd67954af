"""Turns a recorded list of calls into a program: rows of machine calls, and calls of Python between them.

Every call that has rows is run both ways on copies of its arrays, and on noise in them: only one whose rows give the
bits of its kernel is taken. That also proves what shapes alone decide, such as the order of a sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from deepbabysit.runtime.buffers import ALIGNMENT
from deepbabysit.runtime.chains import Chain, extent
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.late import Late
from deepbabysit.runtime.subnormals import flushed
from deepbabysit_numpy.compiled.convolution import convolves
from deepbabysit_numpy.compiled.dense import threaded
from deepbabysit_numpy.compiled.loading import LISTENERS
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.compiled.team import LOAN, ends
from deepbabysit_numpy.compiled.team import parts as parts_of
from deepbabysit_numpy.program.crew import ASLEEP, CREW
from deepbabysit_numpy.program.entry import Entry
from deepbabysit_numpy.program.forms import FORMS
from deepbabysit_numpy.program.fusing import fuse
from deepbabysit_numpy.program.machine import Row, Rows
from deepbabysit_numpy.program.rows import address
from deepbabysit_numpy.program.tracing import Trace

LARGEST = 1 << 19  # bytes of a call's arrays: above, the call itself costs nothing next to what it does
_MOST_PIECES = 1024  # calls of a chain that become rows: with more, calling them costs nothing, and writing them does

_NOISE = 40_009  # a prime: what is repeated has no period in common with rows

_FAILED = "a compiled kernel of a recorded step failed; please report this"

Call = tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]


def _run(device: Device, call: Call) -> None:
    run, outs, ins, scratch = call
    if scratch:
        device.scratch = scratch
    run(outs, *ins)
    device.scratch = ()


def trace(device: Device, call: Call, team: bool = True) -> Trace | None:
    """Return the rows of a call, or None where it has none; `team`: whether a crew may work them off."""
    if isinstance(call[0], Chain):
        return _chain(device, call[0], team)
    found = _traced(device, call, team)
    return found if found is not None and (found.alike or not _large(call)) else None


def _traced(device: Device, call: Call, team: bool) -> Trace | None:
    run, outs, ins, scratch = call
    arrays = [*outs, *ins, *scratch]
    if not all(type(a) is np.ndarray for a in arrays):
        return None
    found = Trace(arrays, team)
    wrapped = [tuple(map(found.wrap, group)) for group in (outs, ins, scratch)]
    form = FORMS.get(getattr(run, "func", None))  # type: ignore[arg-type]
    before, thread = device.scratch, threading.get_ident()
    device.scratch = wrapped[2]
    LISTENERS[thread] = found
    try:
        if form is not None:
            form(device, wrapped[0], *wrapped[1], **run.keywords)  # type: ignore[attr-defined]
        else:
            run(wrapped[0], *wrapped[1])
    except Exception:  # arrays without values can make a kernel raise anything; then it stays as it is
        return None
    finally:
        device.scratch = before
        del LISTENERS[thread]
    return found


def _alone(device: Device, call: Call) -> Trace | None:
    return _traced(device, call, False)


def _chain(device: Device, chain: Chain, team: bool) -> Trace | None:
    """Return the rows of a chain; a crew shares its pieces, and each member has memory of its own for them."""
    first, last = chain.pieces[0], chain.pieces[-1]
    if len(chain.pieces) * len(first) > _MOST_PIECES:
        return None
    # all pieces but the last have one form
    if not all(same_bits(device, call, _alone) for call in (*first, *last)):
        return None
    found = Trace([], team)
    size = max(a.size for _, outs, _, _ in first for a in outs)
    work = float(size * len(first) * len(chain.pieces))
    count = parts_of(len(chain.pieces), work, LEAST["elements awake"]) if team else 1
    lists: list[list[Row]] = []
    for begin, end in ends(len(chain.pieces), count):
        rows: list[Row] = []
        spaces = [(extent(space), _room(*extent(space))) for space in chain.spaces] if lists else []
        for call in (call for piece in chain.pieces[begin:end] for call in piece):
            own: Call = (call[0], *[tuple([_elsewhere(a, spaces) for a in group]) for group in call[1:]])  # type: ignore[assignment]
            one = _alone(device, own)
            if one is None:
                return None
            rows += one.rows
            found.kept += [own, one.kept, one.made]
        lists.append(rows)
    if count > 1:
        found.add(found.together(lists), True)
    else:
        for row in lists[0]:
            found.add(row, True)
    return found


def _elsewhere(array: np.ndarray, spaces: Sequence[tuple[tuple[int, int], np.ndarray]]) -> np.ndarray:
    """Return an array at the same place of another memory, where it lies in one of these."""
    begin, end = extent(array)
    for (first, last), memory in spaces:
        if first <= begin and end <= last:
            return np.ndarray(array.shape, array.dtype, memory, address(array) - first, array.strides)
    return array


def _large(call: Call) -> bool:
    return sum(a.nbytes for group in call[1:] for a in group) > LARGEST


class _Elsewhere:
    """A call on copies of its arrays: they lie to each other, and on cache lines, as the originals do."""

    def __init__(self, call: Call) -> None:
        run, *groups = call
        arrays = list({id(a): a for group in groups for a in group}.values())
        spans: list[list[int]] = []
        for begin, end in sorted(map(extent, arrays)):
            if spans and begin < spans[-1][1]:
                spans[-1][1] = max(spans[-1][1], end)
            else:
                spans.append([begin, end])
        rooms = [(begin, end, _room(begin, end)) for begin, end in spans]
        self._originals = arrays
        self._fillers = []
        made = {}
        for array in arrays:
            first, last = extent(array)
            begin, memory = next((b, m) for b, e, m in rooms if b <= first and last <= e)
            form = (array.shape, array.dtype, memory, address(array) - begin, array.strides)
            self._fillers.append(np.ndarray(*form))
            made[id(array)] = np.ndarray(*form)
            made[id(array)].flags.writeable = array.flags.writeable
        self.call: Call = (run, *[tuple([made[id(a)] for a in group]) for group in groups])  # type: ignore[assignment]

    def results(self, values: Sequence[np.ndarray], run: Callable[[], Any]) -> list[bytes]:
        """Return the bits of the outputs when the arrays held these values."""
        for filler, value in zip(self._fillers, values, strict=True):
            filler[...] = value
        run()
        return [out.tobytes() for out in self.call[1]]

    def values(self, noise: bool) -> list[np.ndarray]:
        """Return what the originals hold, or noise in place of all that is no whole number."""
        begins = range(0, _NOISE, max(_NOISE // len(self._originals), 1)) if self._originals else ()
        return [
            np.resize(_noise()[begin:], a.shape).astype(a.dtype) if noise and a.dtype.kind == "f" else a.copy()
            for begin, a in zip(begins, self._originals, strict=False)
        ]


@cache
def _noise() -> np.ndarray:
    """Return random numbers: drawing them takes longer than all that is done with them."""
    return np.random.default_rng(0).standard_normal(2 * _NOISE)


def _room(begin: int, end: int) -> np.ndarray:
    memory = np.empty(end - begin + 2 * ALIGNMENT, np.uint8)
    start = (begin - address(memory)) % ALIGNMENT
    return memory[start : start + end - begin]


def same_bits(device: Device, call: Call, traced: Callable[[Device, Call], Trace | None] = trace) -> bool:
    """Tell whether the rows of a call give its kernel's bits, on what its arrays hold now and on noise."""
    copy = _Elsewhere(call)
    found = traced(device, copy.call)
    if found is None:
        return False
    rows = Rows(found.rows)
    failed: list[int] = []
    for noise in (True, False):
        values = copy.values(noise)
        try:
            with np.errstate(all="ignore"):
                expected = copy.results(values, lambda: _run(device, copy.call))
        except (ArithmeticError, ValueError, TypeError, IndexError):
            if noise:
                continue  # not what this kernel is for
            return False
        if copy.results(values, lambda: failed.append(rows())) != expected:
            return False
    return not any(failed)


def _lends(device: Device, call: Call) -> bool:
    """Tell whether a call is a convolution that several threads share, and that takes them from BLAS in any replay."""
    found = trace(device, call) if convolves(call) else None
    return found is not None and found.crew > 0


class Program:
    """A step as machine rows and calls of Python, in order.

    It runs in the mode of `runtime.subnormals`, whatever is in force where it is called.

    Attributes:
        rows: how many rows there are.
        calls: the calls that stayed in Python.
        late: how many inputs are read where they lie.
        reads: ``reads(*arrays)`` is 1 where the next run takes these arrays for the inputs of the recording; else they
            have to be written into its own.
        picks: ``picks(rows, *arrays)`` is 1 where it takes these rows of arrays.
    """

    def __init__(self, device: Device, parts: list[Any], kept: list[Any], entry: Entry, late: int) -> None:
        self._device = device
        self._parts = parts
        self._kept = kept
        self.rows = sum(len(part[2]) for part in parts if part[0] is not None)
        self.late = late
        self.calls = [part[1] for part in parts if part[0] is None]
        self.reads, self.picks = entry.reads, entry.picks
        # all of it in one call
        self._whole = None if self.calls or not parts else parts[0][0].run
        self._crew = parts[0][3] if self._whole else 0

    def __call__(self) -> None:
        """Run the step once."""
        run = self._whole
        if run is None:
            self._by_parts()
            return
        if self._crew:
            LOAN.take()
        status = run()
        if status:
            _settle(run, self._crew, status)

    def giver(self, results: Sequence[np.ndarray]) -> Callable[..., int] | None:
        """Return a function that copies results into arrays of their kind that it is given."""
        entry = Entry(results)
        return entry.gives if entry.slots else None

    @flushed()
    def _by_parts(self) -> None:
        for entry, call, _, crew in self._parts:
            if entry is None:
                _run(self._device, call)
                continue
            if crew:
                LOAN.take()
            status = entry.run()
            if status:
                _settle(entry.run, crew, status)


def _settle(run: Callable[..., int], crew: int, status: int) -> None:
    """Run rows whose crew was asleep; raise what failed."""
    if status == ASLEEP:
        CREW.call(crew)
        status = run(True)
    if status:
        raise RuntimeError(_FAILED)


def build(
    device: Device, calls: Sequence[Call], slots: Sequence[np.ndarray] = (), late: Sequence[Late | None] = ()
) -> Program:
    """Run a recorded step once, and return the program that repeats it.

    Arguments:
        device, calls: of the recording; calls that read a late input are lists.
        slots: inputs that runs may be given.
        late: for each of them how it is read where it lies, if it is.
    """
    parts: list[Any] = []
    kept: list[Any] = []
    moving = {number: found for number, found in enumerate(late) if found is not None}
    waiting: list[tuple[Any, int, int, list[Rows]]] = []  # calls with late inputs, and which of the rows are theirs
    followers: dict[int, list[np.ndarray]] = {}  # the rows of these calls
    # threads of BLAS wait by spinning where a crew would work: a step has one of them
    team = not any(map(threaded, calls)) or any(_lends(device, call) for call in calls)
    fused = fuse(calls) if team else {}
    entry = first = Entry(slots, tuple(moving), next((found.written for found in moving.values()), ()))
    moving = moving if first.slots else {}
    pending, crew = _inputs(entry, kept, team)
    pending = [*[first.follow(number, ()) for number in moving], *pending]

    def close() -> None:
        nonlocal pending, crew, entry
        if pending:
            made = Rows(pending)
            entry.work_off(made, crew)
            parts.append((entry, None, pending, crew))
            entry = Entry()
            for call, begin, end, inner in waiting:
                own = [*made.numbers[begin:end], *[row for rows in inner for row in rows.numbers]]
                followers[id(call)] = [*followers.get(id(call), ()), *own]
            waiting.clear()
            pending, crew = [], 0

    for number, call in enumerate(calls):
        found = fused.get(number)
        if found is not None:
            if Rows(found.rows)():
                raise RuntimeError(_FAILED)
        else:
            found = trace(device, call, team)
            if isinstance(call, list) and not (found and found.alike):
                found = None
            proven = _large(call) or isinstance(call[0], Chain)
            if found is not None and not proven and not same_bits(device, call):
                found = None
            _run(device, call)
        if found is None:
            close()
            parts.append((None, call, (), 0))
            continue
        kept += [found.kept, found.made, call[1], call[3]]
        for done in (call, *found.also):
            if isinstance(done, list):
                waiting.append((done, len(pending), len(pending) + len(found.rows), found.made))
            else:
                kept.append(done[2])
        pending += found.rows
        crew = max(crew, found.crew)
    close()
    late_ones = len(moving)
    for place, (number, found_late) in enumerate(moving.items()):
        rows = [followers.get(id(call)) for call in found_late.readers]
        if None in rows:  # a call of Python reads it, from its slot
            first.copied(number)
            late_ones -= 1
        else:
            told = first.follow(number, [row for some in rows if some for row in some])
            parts[0][0].rows.numbers[place][:] = told
    return Program(device, parts, kept, first, late_ones)


def _inputs(entry: Entry, kept: list[Any], team: bool) -> tuple[list[Row], int]:
    """Return the rows that copy the inputs, and how many threads help."""
    trace = Trace([], team)
    for rows in entry.fetching(team):
        trace.add(rows[0] if len(rows) == 1 else trace.together([[row] for row in rows]))
    kept += [trace.kept, trace.made]
    return trace.rows, trace.crew
