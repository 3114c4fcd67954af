"""Turns a recorded list of calls into a program: rows of machine calls, and calls of Python between them.

Every call that has rows is run both ways on what its buffers hold, and on noise of the same shapes: only one whose
rows give the bits of its kernel is taken. That also proves what shapes alone decide, such as the order of a sum.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepbabysit.runtime.chains import Chain
from deepbabysit.runtime.device import Device
from deepbabysit_numpy.compiled.loading import LISTENERS
from deepbabysit_numpy.program.forms import FORMS
from deepbabysit_numpy.program.machine import Row, Rows
from deepbabysit_numpy.program.tracing import Trace

LARGEST = 1 << 19  # bytes of a call's arrays: above, the call itself costs nothing next to what it does

Call = tuple[Callable[..., None], tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]


def _run(device: Device, call: Call) -> None:
    run, outs, ins, scratch = call
    if scratch:
        device.scratch = scratch
    run(outs, *ins)


def trace(device: Device, call: Call) -> Trace | None:
    """Return the rows of a call, or None where it has none."""
    run, outs, ins, scratch = call
    arrays = [*outs, *ins, *scratch]
    if isinstance(run, Chain):
        return None
    if not all(type(a) is np.ndarray for a in arrays) or sum(a.nbytes for a in arrays) > LARGEST:
        return None
    found = Trace(arrays)
    wrapped = [tuple(map(found.wrap, group)) for group in (outs, ins, scratch)]
    form = FORMS.get(getattr(run, "func", None))  # type: ignore[arg-type]
    before, thread = device.scratch, threading.get_ident()
    device.scratch = wrapped[2]
    LISTENERS[thread] = found.native
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


def _bits(arrays: Sequence[np.ndarray]) -> list[bytes]:
    return [a.tobytes() for a in arrays]


def _restore(arrays: Sequence[np.ndarray], values: Sequence[np.ndarray]) -> None:
    for array, value in zip(arrays, values, strict=True):
        array[...] = value


def _same_on_noise(device: Device, call: Call, rows: Rows) -> bool:
    """Compare both ways on noise; the buffers are as before afterwards."""
    _, outs, ins, _ = call
    everything = [a for a in (*outs, *ins) if a.flags.writeable]
    saved = [a.copy() for a in everything]
    random = np.random.default_rng(0)
    noise = [random.standard_normal(a.shape).astype(a.dtype) if a.dtype.kind == "f" else a.copy() for a in everything]
    try:
        _restore(everything, noise)
        try:
            with np.errstate(all="ignore"):
                _run(device, call)
        except (ArithmeticError, ValueError, TypeError, IndexError):
            return True  # not what this kernel is for
        expected = _bits(outs)
        _restore(everything, noise)
        return rows() == 0 and _bits(outs) == expected
    finally:
        _restore(everything, saved)


def _accepted(device: Device, call: Call, rows: Rows) -> bool:
    """Run a call both ways; tells whether all bits are equal. Afterwards the call has happened once."""
    _, outs, _, _ = call
    if not _same_on_noise(device, call, rows):
        _run(device, call)
        return False
    saved = [a.copy() for a in outs]
    _run(device, call)
    results = [a.copy() for a in outs]
    _restore(outs, saved)
    if rows() == 0 and _bits(outs) == _bits(results):
        return True
    _restore(outs, results)
    return False


class Program:
    """A step as machine rows and calls of Python, in order.

    Attributes:
        rows: how many rows there are.
        calls: the calls that stayed in Python.
    """

    def __init__(self, device: Device, parts: list[Any], kept: list[Any]) -> None:
        self._device = device
        self._parts = parts
        self._kept = kept
        self.rows = sum(len(part[2]) for part in parts if part[0] is not None)
        self.calls = [part[1] for part in parts if part[0] is None]

    def __call__(self) -> None:
        """Run the step once."""
        for rows, call, _ in self._parts:
            if rows is None:
                _run(self._device, call)
            elif rows():
                raise RuntimeError("a compiled kernel of a recorded step failed; please report this")


def build(device: Device, calls: Sequence[Call]) -> Program:
    """Run a recorded step once, and return the program that repeats it."""
    parts: list[Any] = []
    kept: list[Any] = []
    pending: list[Row] = []
    for call in calls:
        found = trace(device, call)
        if found is None or not _accepted(device, call, Rows(found.rows)):
            if found is None:
                _run(device, call)
            if pending:
                parts.append((Rows(pending), None, pending))
                pending = []
            parts.append((None, call, ()))
            continue
        kept += [found.kept, call[1], call[2], call[3]]
        pending += found.rows
    if pending:
        parts.append((Rows(pending), None, pending))
    return Program(device, parts, kept)
