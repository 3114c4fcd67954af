"""Memory of a recorded step on the device: private to it, at addresses that stay, planned when the calls are known."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array, Shape
from deepbabysit.runtime.backend import Arena
from deepbabysit.runtime.context import current
from deepbabysit.runtime.moves import spare_copies
from deepbabysit_cupy.convolving import choose
from deepbabysit_cupy.epilogues import Rewriting
from deepbabysit_cupy.fusing import fuse
from deepbabysit_cupy.planning import Buffer, lay_out


class _Lease:
    """Memory that somebody's arrays use; gone with the last of them."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self, memory: Any) -> None:
        self.memory = memory


class _Room:
    """What the arena knows of one buffer: its address and size, and whether somebody still has it."""

    __slots__ = ("base", "lease", "size")

    def __init__(self, base: int, size: int, lease: _Lease) -> None:
        self.base = base
        self.size = size
        self.lease = weakref.ref(lease)


class StaticArena(Arena):
    """Memory of one recording.

    While the step is recorded, buffers come from a pool of their own. When it is finished, those that nobody holds any
    more get their final place in one block, by their lifetimes, and the calls are rewritten to it. Nothing else ever
    uses this memory, so a graph may keep its addresses.

    Arguments:
        cupy: the module.
        empty: gives other memory of the device; asked when the device is full, so that it makes room or says why not.
    """

    def __init__(self, cupy: Any, empty: Callable[[Shape, Any], Array]) -> None:
        self._cupy = cupy
        self._elsewhere = empty
        self._pool = cupy.cuda.MemoryPool()
        self._device = cupy.cuda.Device().id
        self._rooms: dict[int, _Room] = {}  # the buffer that lies at an address now
        self._pinned: dict[int, tuple[_Room, Any]] = {}  # by the memory of arrays that calls hold
        self._block: Any = None
        self.size = 0
        self.asked = 0
        super().__init__(self._lease)

    def _lease(self, shape: Shape, dtype: Any) -> Array:
        size = prod(shape) * np.dtype(dtype).itemsize
        memory = self._take(max(size, 1))
        lease = _Lease(memory)
        self._rooms[int(memory.ptr)] = _Room(int(memory.ptr), size, lease)
        return self._at(int(memory.ptr), size, lease, shape, dtype, None)

    def _take(self, size: int) -> Any:
        try:
            return self._pool.malloc(size)
        except self._cupy.cuda.memory.OutOfMemoryError:
            self._elsewhere((size,), np.uint8)
            self._cupy.get_default_memory_pool().free_all_blocks()
            return self._pool.malloc(size)

    def _at(self, base: int, size: int, owner: Any, shape: Any, dtype: Any, strides: Any, offset: int = 0) -> Array:
        cuda = self._cupy.cuda
        memory = cuda.UnownedMemory(base, max(size, 1), owner, self._device)
        return self._cupy.ndarray(shape, dtype, cuda.MemoryPointer(memory, offset), strides)

    def pin(self, array: Array) -> Array:
        """Return an array over the same memory that does not keep it."""
        room = self._rooms.get(int(array.data.mem.ptr))
        if room is None or room.lease() is None:
            return array
        offset = int(array.data.ptr) - room.base
        pinned = self._at(room.base, room.size, self._pool, array.shape, array.dtype, array.strides, offset)
        self._pinned[id(pinned.data.mem)] = (room, pinned.data.mem)
        return pinned

    def _room(self, array: Any) -> _Room | None:
        """Return the buffer that a pinned array lies in, if nobody but the recording needs it."""
        found = self._pinned.get(id(array.data.mem))
        return None if found is None or found[0].lease() is not None else found[0]

    def _private(self, array: Any) -> bool:
        return self._room(array) is not None

    def _number(self, array: Any) -> int:
        """Return a number for the buffer that a pinned array lies in, 0 where it is not one of these."""
        found = self._pinned.get(id(array.data.mem))
        return 0 if found is None else id(found[0])

    def _fresh(self, shape: Shape, dtype: Any) -> Array:
        """Return a buffer that nobody but the recording holds."""
        return self.pin(self.empty(shape, dtype))

    def finish(self, calls: list[Any], names: list[str], device: Any) -> list[Any]:
        """Return the calls, as few as can be, with every private buffer at its planned place."""
        copies = [name == "copy" for name in names]
        calls, kept = spare_copies(calls, copies, self._private)
        names = [names[place] for place in kept]
        if current().tune:
            prefers = device.backend.chooser().prefers
            rewriting = Rewriting(device, calls, names, self._number, self._private, self._fresh, prefers)
            calls, names = rewriting.run()
            calls, names = choose(device, calls, names, self._fresh, self._private)
        calls = fuse(calls, names, self._room)
        spans: dict[int, list[int]] = {}
        rooms: dict[int, _Room] = {}
        for number, (_, *groups) in enumerate(calls):
            for array in (a for group in groups for a in group):
                room = self._room(array)
                if room is not None:
                    rooms[id(room)] = room
                    spans.setdefault(id(room), [number, number])[1] = number
        places, self.size = lay_out([Buffer(rooms[key].size, *span) for key, span in spans.items()])
        self.asked = sum(room.size for room in rooms.values())
        self._pool.free_all_blocks()
        if spans:
            self._block = self._take(max(self.size, 1))  # all of them may be empty
        place_of = dict(zip(spans, places, strict=True))

        def moved(array: Any) -> Any:
            room = self._room(array)
            if room is None:
                return array
            offset = place_of[id(room)] + int(array.data.ptr) - room.base
            base = int(self._block.ptr)
            return self._at(base, self.size, self._block, array.shape, array.dtype, array.strides, offset)

        result = [(run, *[tuple(map(moved, group)) for group in groups]) for run, *groups in calls]
        self._pinned.clear()
        self._rooms.clear()
        return result
