"""Between host and device without waiting: values go through pinned memory, copies follow on a stream.

What a step reads (a batch) goes over a stream of its own to one of two landings on the device while the step before is
computed; from there it is moved to its place when the stream of the steps comes to it. What a step leaves for the host
goes the same way back: to a landing, and from there over another stream of its own into pinned memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, final

import numpy as np

from deepbabysit.runtime.arrival import Arrival

PIECE = 16 << 20  # bytes of pinned memory that one copy takes at most
BUFFERS = 4  # of each size: while the device reads one, the host fills the next
SMALL = 1 << 18  # bytes of the buffers of one size that there may be before the host waits
LEAST, MOST = 1 << 16, 1 << 26  # bytes of what goes over a landing
_LEAST = 4096
_LINE = 16  # bytes: where an array begins in a landing


class _Buffer:
    """Pinned memory, the mark behind the last copy from it or to it, and whether somebody still reads it."""

    __slots__ = ("event", "lent", "memory")

    def __init__(self, memory: np.ndarray, event: Any) -> None:
        self.memory = memory
        self.event = event
        self.lent = False


class _Landing:
    """Memory of the device that copies arrive in, and the marks behind arrival and departure."""

    __slots__ = ("arrived", "left", "memory")

    def __init__(self, memory: Any, arrived: Any, left: Any) -> None:
        self.memory = memory
        self.arrived = arrived
        self.left = left


@final
class _Homeward(Arrival):
    """Arrays on their way to the host.

    Arguments:
        buffer: where they will lie; it is used again when they were read, or when nobody wants them any more.
        forms: shape, dtype and place of each.
    """

    def __init__(self, buffer: _Buffer, forms: list[tuple[Any, Any, int]]) -> None:
        self._buffer = buffer
        self._forms = forms
        self._values: list[np.ndarray] | None = None
        buffer.lent = True

    def __del__(self) -> None:
        self._buffer.lent = False

    @property
    def ready(self) -> bool:
        """Whether they are there."""
        return self._values is not None or bool(self._buffer.event.done)

    def values(self) -> list[np.ndarray]:
        """Return copies of them, as soon as they are there."""
        if self._values is None:
            if not self.ready:
                self._buffer.event.synchronize()
            memory = self._buffer.memory
            self._values = [
                np.array(memory[begin : begin + prod(shape) * dtype.itemsize]).view(dtype).reshape(shape)
                for shape, dtype, begin in self._forms
            ]
        return self._values


class Staging:
    """Pinned buffers of one device, and landings, by size.

    Arguments:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._home = cupy.cuda.Stream(non_blocking=True)
        self._landings: dict[int, list[_Landing]] = {}
        self._departures: dict[int, list[_Landing]] = {}
        self._returns: dict[int, list[_Buffer]] = {}
        self._rings: dict[int, list[_Buffer]] = {}
        self._next: dict[int, int] = {}

    def _buffer(self, size: int) -> _Buffer:
        """Return a buffer of at least `size` bytes that the device does not read any more."""
        rounded = _rounded(size)
        ring = self._rings.setdefault(rounded, [])
        if len(ring) < BUFFERS:
            ring.append(self._made(rounded))
            return ring[-1]
        place = self._next.get(rounded, 0)
        if not ring[place].event.done and (len(ring) + 1) * rounded <= SMALL:
            ring.insert(place, self._made(rounded))
        self._next[rounded] = (place + 1) % len(ring)
        if not ring[place].event.done:
            ring[place].event.synchronize()
        return ring[place]

    def _made(self, size: int) -> _Buffer:
        import cupyx

        return _Buffer(cupyx.empty_pinned((size,), np.uint8), self._mark())

    def _mark(self) -> Any:
        return self._cupy.cuda.Event(disable_timing=True)

    def bring(self, target: Any, values: np.ndarray, stream: Any) -> None:
        """Copy values into an array that the stream reads, ahead of what the stream is at."""
        size = target.nbytes
        if not LEAST <= size <= MOST:
            self.copy(target, values, stream)
            return
        landing = self._landing(self._landings, size, stream)
        if landing is None:
            self.copy(target, values, stream)
            return
        self._copies.wait_event(landing.left)
        self.copy(landing.memory, values, self._copies)
        landing.arrived.record(self._copies)
        stream.wait_event(landing.arrived)
        target.data.copy_from_device_async(landing.memory.data, size, stream)
        landing.left.record(stream)

    def _landing(self, kept: dict[int, list[_Landing]], size: int, stream: Any) -> _Landing | None:
        """Return one of the two landings of a size, in turns; None where there is no memory: steps come first."""
        pair = kept.setdefault(size, [])
        if len(pair) < 2:
            try:
                memory = self._cupy.empty((size,), np.uint8)
            except MemoryError:
                return None
            made = _Landing(memory, self._mark(), self._mark())
            made.left.record(stream)  # the stream may still use this memory for somebody who gave it back
            pair.append(made)
        landing = pair.pop(0)
        pair.append(landing)
        return landing

    def fetch(self, arrays: Sequence[Any], stream: Any) -> Arrival:
        """Begin to copy contiguous arrays to the host, as they are when the stream comes to it."""
        ends = np.cumsum([0, *[-(-a.nbytes // _LINE) * _LINE for a in arrays]]).tolist()
        size = _rounded(max(ends[-1], 1))
        buffer = self._return(size)
        landing = self._landing(self._departures, size, stream)
        if landing is None:
            for array, begin in zip(arrays, ends, strict=False):
                array.data.copy_to_host_async(buffer.memory.ctypes.data + begin, array.nbytes, stream)
            buffer.event.record(stream)
        else:
            stream.wait_event(landing.left)
            for array, begin in zip(arrays, ends, strict=False):
                (landing.memory.data + begin).copy_from_device_async(array.data, array.nbytes, stream)
            landing.arrived.record(stream)
            self._home.wait_event(landing.arrived)
            landing.memory.data.copy_to_host_async(buffer.memory.ctypes.data, ends[-1], self._home)
            landing.left.record(self._home)
            buffer.event.record(self._home)
        return _Homeward(buffer, [(a.shape, a.dtype, begin) for a, begin in zip(arrays, ends, strict=False)])

    def _return(self, size: int) -> _Buffer:
        """Return a buffer of a size that nobody reads and nothing is copied to."""
        kept = self._returns.setdefault(size, [])
        for buffer in kept:
            if not buffer.lent and buffer.event.done:
                return buffer
        kept.append(self._made(size))
        return kept[-1]

    def copy(self, target: Any, values: np.ndarray, stream: Any) -> None:
        """Copy contiguous values into a contiguous array of the same shape and dtype."""
        source = values.reshape(-1).view(np.uint8) if values.size else values
        for begin in range(0, target.nbytes, PIECE):
            size = min(PIECE, target.nbytes - begin)
            buffer = self._buffer(size)
            buffer.memory[:size] = source[begin : begin + size]
            (target.data + begin).copy_from_host_async(buffer.memory.ctypes.data, size, stream)
            buffer.event.record(stream)

    def free(self) -> int:
        """Give the memory back; returns the number of pinned bytes."""
        self._copies.synchronize()
        self._home.synchronize()
        self._landings.clear()
        self._departures.clear()
        held = sum(size * len(ring) for size, ring in (*self._rings.items(), *self._returns.items()))
        self._returns.clear()
        for ring in self._rings.values():
            for buffer in ring:
                buffer.event.synchronize()
        self._rings.clear()
        self._next.clear()
        return held


def _rounded(size: int) -> int:
    return max(_LEAST, 1 << (size - 1).bit_length())
