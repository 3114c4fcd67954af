"""Inputs of a recording that are read where they lie, so that a large batch is not copied for every replay.

The calls that read an input get views of the new array in place of those of the recording's own. That is done where
only calls read it, and where nothing that the recording writes shares memory with the array.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit.runtime.chains import Call, Chain, extent

LARGE = 1 << 19  # bytes of every view: smaller ones are read faster where they are copied to, in the cache
_STEP = 16  # bytes: where NumPy's own large arrays begin


class Late:
    """An input of a recording.

    Arguments:
        slot: its array in the recording.
        readers: calls that read it; they are changed in place.
        written: addresses between which the recording writes, in order.

    Attributes:
        slot, written: the same.
        source: what is read now.
        readers: the calls.
    """

    __slots__ = ("_places", "readers", "slot", "source", "written")

    def __init__(self, slot: np.ndarray, readers: list[list[Any]], written: list[tuple[int, int]]) -> None:
        begin, end = extent(slot)
        self.slot = self.source = slot
        self.written = written
        self.readers = readers
        self._places = [
            (call, number, a.shape, extent(a)[0] - begin, a.strides)
            for call in readers for number, a in enumerate(call[2]) if meet(extent(a), (begin, end))
        ]

    def read(self, array: Any) -> bool:
        """Let the calls read an array of the slot's shape; False where they cannot: they read the slot."""
        fits = type(array) is np.ndarray and array.flags.c_contiguous and array.dtype == self.slot.dtype
        if fits:
            begin = array.ctypes.data
            end = begin + array.nbytes
            place = bisect_right(self.written, (begin, end))
            fits = begin % _STEP == 0 and not any(
                meet((begin, end), span) for span in self.written[max(place - 1, 0) : place + 1]
            )
        self.source = source = array if fits else self.slot
        for call, number, shape, offset, strides in self._places:
            ins = list(call[2])
            ins[number] = np.ndarray(shape, source.dtype, source, offset, strides)
            call[2] = tuple(ins)
        return fits


def meet(x: tuple[int, int], y: tuple[int, int]) -> bool:
    """Tell whether two spans of addresses have a byte in common."""
    return x[0] < y[1] and y[0] < x[1]


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def late_inputs(calls: list[Call], slots: Sequence[Any], results: Sequence[Any]) -> list[Late | None]:
    """Return, for each input of a recording, how calls come to read another array; None where they cannot.

    Arguments:
        calls: changed: those that read such an input become lists.
        slots: the inputs.
        results: what the step returns.
    """
    written = _joined([extent(a) for call in calls for a in (*call[1], *call[3]) if a.size])
    taken = [extent(a) for a in results] + written
    found: list[Late | None] = []
    for slot in slots:
        span = extent(slot)
        places = [i for i, call in enumerate(calls) if any(meet(extent(a), span) for a in call[2])]
        views = [a for i in places for a in calls[i][2] if meet(extent(a), span)]
        fits = slot.nbytes > LARGE and slot.flags.c_contiguous and not any(meet(span, other) for other in taken)
        fits = fits and all(a.nbytes > LARGE and a.dtype == slot.dtype for a in views)
        fits = fits and not any(meet(span, extent(other)) for other in slots if other is not slot)
        if not fits or any(isinstance(calls[i][0], Chain) for i in places):
            found.append(None)
            continue
        for i in places:
            if not isinstance(calls[i], list):
                calls[i] = list(calls[i])  # type: ignore[call-overload]
        found.append(Late(slot, [calls[i] for i in places], written))  # type: ignore[misc]
    return found
