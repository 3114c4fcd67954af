"""From the host to the device without waiting: values go through pinned memory, copies follow on the stream."""

from __future__ import annotations

from typing import Any

import numpy as np

PIECE = 16 << 20  # bytes of pinned memory that one copy takes at most
BUFFERS = 4  # of each size: while the device reads one, the host fills the next
_LEAST = 4096


class _Buffer:
    """Pinned memory, and the mark behind the last copy from it."""

    __slots__ = ("event", "memory")

    def __init__(self, memory: np.ndarray, event: Any) -> None:
        self.memory = memory
        self.event = event


class Staging:
    """Pinned buffers of one device, by size.

    Arguments:
        cupy: the module.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._rings: dict[int, list[_Buffer]] = {}
        self._next: dict[int, int] = {}

    def _buffer(self, size: int) -> _Buffer:
        """Return a buffer of at least `size` bytes that the device does not read any more."""
        rounded = max(_LEAST, 1 << (size - 1).bit_length())
        ring = self._rings.setdefault(rounded, [])
        if len(ring) < BUFFERS:
            import cupyx

            ring.append(_Buffer(cupyx.empty_pinned((rounded,), np.uint8), self._cupy.cuda.Event(disable_timing=True)))
            return ring[-1]
        place = self._next.get(rounded, 0)
        self._next[rounded] = (place + 1) % BUFFERS
        ring[place].event.synchronize()
        return ring[place]

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
        """Give the pinned memory back; returns the number of bytes."""
        held = sum(size * len(ring) for size, ring in self._rings.items())
        for ring in self._rings.values():
            for buffer in ring:
                buffer.event.synchronize()
        self._rings.clear()
        self._next.clear()
        return held
