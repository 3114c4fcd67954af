"""Memory of a recorded step on the device: private to it, at addresses that stay, planned when the calls are known."""

from __future__ import annotations

import weakref
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array, Shape
from deepbabysit.runtime.backend import Arena
from deepbabysit_cupy.planning import Buffer, lay_out

Call = tuple[Any, tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]


def extent(array: Any) -> tuple[int, int]:
    """Return the addresses between which an array lies."""
    begin = end = int(array.data.ptr)
    if not array.size:
        return begin, end
    for length, step in zip(array.shape, array.strides, strict=True):
        if step > 0:
            end += (length - 1) * step
        else:
            begin += (length - 1) * step
    return begin, end + array.dtype.itemsize


def overlap(x: tuple[int, int], y: tuple[int, int]) -> bool:
    """Tell whether two ranges of addresses share a byte."""
    return x[0] < y[1] and y[0] < x[1]


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
        copy: the kernel of `copy`, whose calls are avoided where their source can be written in place.
    """

    def __init__(self, cupy: Any, copy: Any) -> None:
        self._cupy = cupy
        self._copy = copy
        self._pool = cupy.cuda.MemoryPool()
        self._device = cupy.cuda.Device().id
        self._rooms: dict[int, _Room] = {}  # the buffer that lies at an address now
        self._pins: dict[int, tuple[_Room, Any]] = {}
        self._block: Any = None
        self.size = 0
        self.asked = 0
        super().__init__(self._lease)

    def _lease(self, shape: Shape, dtype: Any) -> Array:
        size = prod(shape) * np.dtype(dtype).itemsize
        memory = self._pool.malloc(max(size, 1))
        lease = _Lease(memory)
        self._rooms[int(memory.ptr)] = _Room(int(memory.ptr), size, lease)
        return self._at(int(memory.ptr), size, lease, shape, dtype, None)

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
        self._pins[id(pinned)] = (room, pinned)
        return pinned

    def _room(self, array: Any) -> _Room | None:
        found = self._pins.get(id(array))
        return None if found is None else found[0]

    def finish(self, calls: list[Any], flags: list[bool], device: Any) -> list[Any]:
        """Return the calls with every buffer that only the recording needs at its planned place."""
        private = {id(room) for room, _ in self._pins.values() if room.lease() is None}
        calls = self._without_copies(calls, private)
        spans: dict[int, list[int]] = {}
        rooms: dict[int, _Room] = {}
        for number, (_, *groups) in enumerate(calls):
            for array in (a for group in groups for a in group):
                room = self._room(array)
                if room is not None and id(room) in private:
                    rooms[id(room)] = room
                    span = spans.setdefault(id(room), [number, number])
                    span[1] = number
        keys = list(spans)
        places, self.size = lay_out([Buffer(rooms[key].size, *spans[key]) for key in keys])
        self.asked = sum(rooms[key].size for key in keys)
        self._pool.free_all_blocks()
        if self.size:
            self._block = self._pool.malloc(self.size)
        place_of = dict(zip(keys, places, strict=True))
        moved = {}
        for key, (room, array) in self._pins.items():
            place = place_of.get(id(room))
            if place is not None:
                offset = place + int(array.data.ptr) - room.base
                moved[key] = self._at(
                    int(self._block.ptr), self.size, self._block, array.shape, array.dtype, array.strides, offset
                )
        result = [
            (run, *[tuple([moved.get(id(a), a) for a in group]) for group in groups]) for run, *groups in calls
        ]
        self._pins.clear()
        self._rooms.clear()
        return result

    def _without_copies(self, calls: list[Any], private: set[int]) -> list[Any]:
        """Let a call write straight to where its result is copied next, where nobody else sees the result."""
        touched: dict[int, list[int]] = {}
        for number, (_, *groups) in enumerate(calls):
            for array in (a for group in groups for a in group):
                room = self._room(array)
                if room is not None:
                    touched.setdefault(id(room), []).append(number)
        result = list(calls)
        for number, (run, outs, ins, _) in enumerate(calls):
            if getattr(run, "func", None) is not self._copy:
                continue
            (target,), (source,) = outs, ins
            room = self._room(source)
            if room is None or id(room) not in private or len(touched[id(room)]) != 2:
                continue
            if not (source.flags.c_contiguous and target.flags.c_contiguous and source.dtype == target.dtype):
                continue
            maker = touched[id(room)][0]
            made = result[maker]
            places = [p for p, out in enumerate(made[1]) if self._room(out) is room]
            if len(places) != 1 or made[1][places[0]].nbytes != source.nbytes:
                continue
            out = made[1][places[0]]
            here = extent(target)
            between = [a for call in result[maker:number] if call is not None for group in call[1:] for a in group]
            if not out.flags.c_contiguous or any(overlap(extent(a), here) for a in between):
                continue
            outs = tuple([target.reshape(out.shape) if p == places[0] else o for p, o in enumerate(made[1])])
            result[maker] = (made[0], outs, *made[2:])
            result[number] = None
            known = self._room(target)
            if known is not None:  # the target is a buffer of the recording: its view is one, too
                view = outs[places[0]]
                self._pins[id(view)] = (known, view)
        return [call for call in result if call is not None]
