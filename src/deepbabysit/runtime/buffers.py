"""Pooled host memory: large NumPy buffers are used again instead of being asked from the system each time.

A fresh large array costs a page fault for every 4 KiB that is touched; a training step asks for the same sizes again
and again. Small arrays are left to NumPy, which caches them itself.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Shape
from deepbabysit.runtime.backend import Arena
from deepbabysit.runtime.chains import ELEMENTWISE, extent, merge_chains
from deepbabysit.runtime.late import late_inputs
from deepbabysit.runtime.moves import spare_copies

SMALL = 32 * 1024  # bytes; below this NumPy's and malloc's own caches are as fast
ALIGNMENT = 64  # bytes: a cache line, and the widest vector register

# References to a lease that nobody uses: the pool's list, the loop variable, getrefcount's argument.
_IDLE = 3


class _Block:
    """A piece of memory and the array that users of it depend on."""

    __slots__ = ("lease", "raw")

    def __init__(self, size: int) -> None:
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        # a memoryview between the two arrays stops NumPy from looking through the lease to the memory behind it,
        # so that every view of a buffer keeps the lease, and the lease's reference count tells whether it is in use
        self.raw = memory.data[start : start + size]
        self.lease = np.frombuffer(self.raw, np.uint8)


def _in_use(block: _Block) -> bool:
    lease = block.lease
    return sys.getrefcount(lease) > _IDLE


def _size_class(size: int) -> int:
    """Round up to a power of two or to one of three steps between: at most a quarter is wasted."""
    step = 1 << max(size.bit_length() - 3, 12)
    return -(-size // step) * step


class BufferPool:
    """Buffers of one device and one thread.

    >>> pool = BufferPool()
    >>> first = pool.empty((100, 100), np.float64)
    >>> address = first.ctypes.data
    >>> del first
    >>> pool.empty((100, 100), np.float64).ctypes.data == address
    True
    """

    def __init__(self, small: int = SMALL) -> None:
        self._small = small
        self._blocks: dict[int, list[_Block]] = {}
        self._next: dict[int, int] = {}

    def empty(self, shape: Shape, dtype: Any) -> np.ndarray:
        """Return an uninitialized array; its memory comes back when the last view of it is gone."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < self._small:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, buffer=self._lease(_size_class(size)))

    def _lease(self, size: int) -> np.ndarray:
        blocks = self._blocks.setdefault(size, [])
        count = len(blocks)
        start = self._next.get(size, 0)
        for step in range(count):
            place = (start + step) % count
            lease = blocks[place].lease
            if sys.getrefcount(lease) == _IDLE:
                self._next[size] = place + 1
                return lease
        block = _Block(size)
        blocks.append(block)
        return block.lease

    def raw(self, array: np.ndarray) -> memoryview | None:
        """Return the memory behind a pooled array or a view of one, or None."""
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        for blocks in self._blocks.values():
            for block in blocks:
                if block.lease is base:
                    return block.raw
        return None

    def held(self) -> int:
        """Return the bytes of all pooled memory, in use or not."""
        return sum(size * len(blocks) for size, blocks in self._blocks.items())

    def idle(self) -> list[tuple[int, int]]:
        """Return the addresses between which memory that is not in use lies."""
        every = [block for blocks in self._blocks.values() for block in blocks]
        return [extent(block.lease) for block in every if not _in_use(block)]

    def free(self) -> int:
        """Give memory that is not in use back to the system; returns the number of bytes."""
        before = self.held()
        for blocks in self._blocks.values():
            blocks[:] = [block for block in blocks if _in_use(block)]
        self._next.clear()
        return before - self.held()


class ThreadPools(threading.local):
    """One pool for each thread: nothing is locked, and no buffer moves between threads while it is used."""

    def __init__(self) -> None:
        self.pool = BufferPool()


class HostArena(Arena):
    """Memory of a recording on the CPU: buffers that died during the recording are used again within it.

    A replay repeats the same calls in the same order, so what a reused buffer holds at each moment is the same.
    """

    def __init__(self) -> None:
        self._pool = BufferPool()
        super().__init__(self._pool.empty)

    def held(self) -> int:
        """Return the bytes of its buffers."""
        return self._pool.held()

    def pin(self, array: np.ndarray) -> np.ndarray:
        """Return an array over the same memory that does not count as a user of it."""
        raw = self._pool.raw(array)
        if raw is None:
            return array
        offset = array.ctypes.data - np.frombuffer(raw, np.uint8).ctypes.data
        return np.ndarray(array.shape, array.dtype, raw, offset, array.strides)

    def finish(self, calls: list[Any], names: list[str], device: Any) -> list[Any]:
        """Spare copies, merge elementwise chains, and let go of the memory that nothing needs any more."""
        idle = self._pool.idle()

        def private(array: np.ndarray) -> bool:
            begin, end = extent(array)
            return any(first <= begin and end <= last for first, last in idle)

        calls, kept = spare_copies(calls, [name == "copy" for name in names], private)
        merged = merge_chains(calls, [names[place] in ELEMENTWISE for place in kept], private, device)
        self._pool.free()
        return merged

    def late_inputs(self, calls: list[Any], slots: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        """Return, for each input, what lets calls read another array in its place, or None."""
        return list(late_inputs(calls, slots, results))
