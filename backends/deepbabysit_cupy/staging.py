"""From the host to the device without waiting: values go through pinned memory, copies follow on a stream.

What a step reads (a batch) goes over a stream of its own to one of two landings on the device while the step before is
computed; from there it is moved to its place when the stream of the steps comes to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PIECE = 16 << 20  # bytes of pinned memory that one copy takes at most
BUFFERS = 4  # of each size: while the device reads one, the host fills the next
SMALL = 1 << 18  # bytes of the buffers of one size that there may be before the host waits
LEAST, MOST = 1 << 16, 1 << 26  # bytes of what goes over a landing
_LEAST = 4096


class _Buffer:
    """Pinned memory, and the mark behind the last copy from it."""

    __slots__ = ("event", "memory")

    def __init__(self, memory: np.ndarray, event: Any) -> None:
        self.memory = memory
        self.event = event


class _Landing:
    """Memory of the device that copies arrive in, and the marks behind arrival and departure."""

    __slots__ = ("arrived", "left", "memory")

    def __init__(self, memory: Any, arrived: Any, left: Any) -> None:
        self.memory = memory
        self.arrived = arrived
        self.left = left


class Staging:
    """Pinned buffers of one device, and landings, by size.

    Arguments:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._landings: dict[int, list[_Landing]] = {}
        self._rings: dict[int, list[_Buffer]] = {}
        self._next: dict[int, int] = {}

    def _buffer(self, size: int) -> _Buffer:
        """Return a buffer of at least `size` bytes that the device does not read any more."""
        rounded = max(_LEAST, 1 << (size - 1).bit_length())
        ring = self._rings.setdefault(rounded, [])
        if len(ring) < BUFFERS:
            ring.append(self._made(rounded))
            return ring[-1]
        place = self._next.get(rounded, 0)
        if not ring[place].event.done and (len(ring) + 1) * rounded <= SMALL:
            ring.insert(place, self._made(rounded))
        self._next[rounded] = (place + 1) % len(ring)
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
        pair = self._landings.setdefault(size, [])
        if len(pair) < 2:
            try:
                memory = self._cupy.empty((size,), np.uint8)
            except MemoryError:  # a step has to fit first
                self.copy(target, values, stream)
                return
            made = _Landing(memory, self._mark(), self._mark())
            made.left.record(stream)  # the stream may still use this memory for somebody who gave it back
            pair.append(made)
        landing = pair.pop(0)
        pair.append(landing)
        self._copies.wait_event(landing.left)
        self.copy(landing.memory, values, self._copies)
        landing.arrived.record(self._copies)
        stream.wait_event(landing.arrived)
        target.data.copy_from_device_async(landing.memory.data, size, stream)
        landing.left.record(stream)

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
        self._landings.clear()
        held = sum(size * len(ring) for size, ring in self._rings.items())
        for ring in self._rings.values():
            for buffer in ring:
                buffer.event.synchronize()
        self._rings.clear()
        self._next.clear()
        return held
