"""Several replays of a recorded step by one launch, where all that changes between them is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Array
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import find_plan

Told = Sequence[tuple[Array, np.ndarray]]
Fill = Callable[[int, Sequence[Array]], list[Any]]

_LINE = 16  # bytes: where the values for an array begin in a row of the table


class Several:
    """Replays of one recording as one program of the backend.

    What the host tells each of them lies in a table on the device, sent as a whole; a replay begins by copying its row
    to where its kernels read.

    Arguments:
        device: where it runs.
        calls: of the recording.
        fills: for each replay the calls that bring its inputs to their places.
        told: for each replay the arrays that the host writes before it, and the values; the first run takes these.
    """

    def __init__(
        self, device: Device, calls: Sequence[Any], fills: Sequence[Sequence[Any]], told: Sequence[Told]
    ) -> None:
        self._device = device
        self._targets = [array for array, _ in told[0]]
        self._places = np.cumsum([0, *[-(-a.nbytes // _LINE) * _LINE for a in self._targets]]).tolist()
        shape = (len(fills), max(self._places[-1], 1))
        self._host = np.zeros(shape, np.uint8)
        self._table = device.backend.empty(shape, np.uint8)
        every = [call for row, fill in enumerate(fills) for call in (*self._copies(row), *fill, *calls)]
        program = device.backend.program
        assert program is not None
        self._send(told)
        self.program = program(device, every, times=len(fills))

    def _copies(self, row: int) -> list[Any]:
        """Return the calls that copy a row of the table to where it is read."""
        made = []
        for array, begin in zip(self._targets, self._places, strict=False):
            source = self._table[row, begin : begin + array.nbytes].view(np.int32)
            target = array.reshape(-1).view(np.int32)
            made.append((find_plan(self._device, SPECS["copy"], (source,), {}).run, (target,), (source,), ()))
        return made

    def _send(self, told: Sequence[Told]) -> None:
        for row, writes in enumerate(told):
            for begin, (array, values) in zip(self._places, writes, strict=False):
                self._host[row, begin : begin + array.nbytes] = values.reshape(-1).view(np.uint8)
        self._device.write(self._table, self._host)

    def __call__(self, told: Sequence[Told]) -> None:
        """Run them all."""
        assert self.program is not None
        self._send(told)
        self.program()

    def takes(self, told: Sequence[Told]) -> bool:
        """Tell whether the same arrays are written."""
        return all(
            len(writes) == len(self._targets)
            and all(a is b for (a, _), b in zip(writes, self._targets, strict=True)) for writes in told
        )


def tellable(told: Sequence[Told]) -> bool:
    """Tell whether every replay is told values of the same arrays, in pieces of whole words."""
    return all(
        [id(a) for a, _ in writes] == [id(a) for a, _ in told[0]]
        and all(a.flags.c_contiguous and a.nbytes % 4 == 0 for a, _ in writes)
        for writes in told
    )


def last_of_each(writes: Told) -> Told:
    """Return what stands in each array after writes to it, one after the other."""
    return list({id(array): (array, values) for array, values in writes}.values())
