"""Device memory of the emulated CuPy: allocations between fences, pools, what the device has counted."""

from __future__ import annotations

import ctypes
from collections import Counter
from contextlib import contextmanager
from typing import Any

import numpy as np
from host_build import HostModule

GUARD = 64
FRESH, FREED, FENCE = 0xCD, 0xDD, 0xAB


class CUDARuntimeError(RuntimeError):
    """A fault that the driver would report."""


class OutOfMemoryError(MemoryError):
    """The device is full."""


class EmulatorError(AssertionError):
    """Something that a real device would do silently: a write beyond a buffer, a replay over memory given back."""


class Allocation:
    """A piece of device memory between two fences."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = np.empty(size + 2 * GUARD + 64, np.uint8)
        start = GUARD + (-(self.memory.ctypes.data + GUARD)) % 64
        self.inside = self.memory[start : start + size]
        self.before = self.memory[start - GUARD : start]
        self.after = self.memory[start + size : start + size + GUARD]
        self.before[:] = self.after[:] = FENCE
        self.inside[:] = FRESH
        self.ptr = self.memory.ctypes.data + start
        self.number = State.take()
        self.alive = True
        self.shared = False  # whether anybody may get it once it is free

    def check(self) -> None:
        """Raise where something was written beyond the ends."""
        if not ((self.before == FENCE).all() and (self.after == FENCE).all()):
            raise EmulatorError(f"a kernel wrote beyond a buffer of {self.size} bytes")


class Leaving:
    """A copy to the host: what it carries, where to, and after which work of which stream it is there."""

    def __init__(self, address: int, values: bytes, stream: Any) -> None:
        self.address = address
        self.values = values
        self.stream = stream.number
        self.when = stream.knows[stream.number]


class _State:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = 0
        self.waits: list[tuple[Any, int]] = []  # streams that wait for another one
        self.used = 0
        self.limit = 8 << 30
        self.allocations: dict[int, Allocation] = {}
        self.launches: Counter[str] = Counter()
        self.order, self.turn = "turns", 0  # every launch in another order of threads and blocks than the one before
        self.synchronizations = 0
        self.current: Any = None
        self.modules: dict[bytes, HostModule] = {}
        self.devices = 1
        self.sent = 0  # bytes copied from the host
        self.pending: list[Any] = []  # copies from the host that the device has not come to
        self.caught_up = 0  # how often it has done some
        self.refusals = 1  # so often a copy to the host is not there yet when somebody asks
        self.leaving: list[Leaving] = []  # copies to the host that it has not waited for
        self.capability = 90
        self.accesses: dict[int, dict[int, int]] = {}  # allocation -> stream -> when it was last used there
        self.waited: dict[int, int] = {}  # stream -> until when the host has waited for it

    def catch_up(self) -> None:
        """Do the copies that come before whatever is done next."""
        waiting, self.pending = self.pending, []
        self.caught_up += bool(waiting)
        for pointer, address, size in waiting:
            target = pointer.mem.allocation.inside[pointer.start : pointer.start + size]
            target[:] = np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)

    def deliver(self) -> None:
        """Let the host have what it has waited for."""
        here = [copy for copy in self.leaving if self.waited.get(copy.stream, 0) >= copy.when]
        self.leaving = [copy for copy in self.leaving if copy not in here]
        for copy in here:
            ctypes.memmove(copy.address, copy.values, len(copy.values))

    def use(self, stream: Any, numbers: Any, name: str) -> None:
        """Note that a stream uses allocations; raise where another one does and nobody waits for it."""
        if stream is None or stream.null_stream:
            return
        learn(stream.knows, self.waited)
        stream.knows[stream.number] = stream.knows.get(stream.number, 0) + 1
        for number in set(numbers):
            found = self.accesses.setdefault(number, {})
            for other, when in found.items():
                if stream.knows.get(other, 0) < when:
                    raise EmulatorError(f"{name} uses memory of another stream, and waits for no event of it")
            found[stream.number] = stream.knows[stream.number]

    def take(self) -> int:
        self.count += 1
        return self.count

    def find(self, ptr: int) -> Allocation | None:
        for allocation in self.allocations.values():
            if allocation.ptr <= ptr < allocation.ptr + max(1, allocation.size):
                return allocation
        return None


def learn(mine: dict[int, int], others: dict[int, int]) -> None:
    """Take over what others know of how far streams are."""
    for stream, when in others.items():
        mine[stream] = max(mine.get(stream, 0), when)


State = _State()


# -- memory ------------------------------------------------------------------------------------------------------------


class Memory:
    """A block of device memory that a MemoryPointer keeps alive."""

    def __init__(self, allocation: Allocation, pool: MemoryPool | None) -> None:
        self.allocation = allocation
        self.pool = pool
        self.ptr = allocation.ptr

    def __del__(self) -> None:
        allocation = self.allocation
        allocation.check()
        if self.pool is not None and not self.pool.gone:
            allocation.inside[:] = FREED
            allocation.alive = False
            self.pool.free.setdefault(allocation.size, []).append(allocation)
        else:
            _release(allocation)


def _release(allocation: Allocation) -> None:
    allocation.alive = False
    allocation.inside[:] = FREED
    if State.allocations.pop(allocation.number, None) is not None:
        State.used -= allocation.size


class UnownedMemory:
    """Memory that belongs to somebody else: an address, and what keeps it."""

    def __init__(self, ptr: int, size: int, owner: Any, device_id: int = -1) -> None:
        allocation = State.find(ptr)
        if allocation is None or not allocation.alive or ptr + size > allocation.ptr + allocation.size:
            raise EmulatorError(f"{size} bytes at an address that is not in use")
        self.allocation = allocation
        self.ptr = ptr
        self._owner = owner


class MemoryPointer:
    """Where an array begins in its block."""

    def __init__(self, mem: Memory, offset: int) -> None:
        self.mem = mem
        self.offset = offset

    @property
    def ptr(self) -> int:
        return self.mem.ptr + self.offset

    @property
    def start(self) -> int:
        """Where it begins in the allocation."""
        return self.ptr - self.mem.allocation.ptr

    def copy_from_host_async(self, mem: int, size: int, stream: Any = None) -> None:
        """Copy bytes of the host, later: when the stream comes to it."""
        if stream is not None and stream.capturing:
            raise EmulatorError("a copy from the host would be captured with its address")
        State.use(stream, [self.mem.allocation.number], "a copy from the host")
        State.sent += size
        State.pending.append((self, mem, size))

    def copy_from_device_async(self, source: MemoryPointer, size: int, stream: Any = None) -> None:
        """Copy bytes within the device."""
        State.use(stream, [self.mem.allocation.number, source.mem.allocation.number], "a copy")
        State.catch_up()
        mine, theirs = self.mem.allocation.inside, source.mem.allocation.inside
        mine[self.start : self.start + size] = theirs[source.start : source.start + size]

    def copy_to_host_async(self, mem: int, size: int, stream: Any = None) -> None:
        """Copy bytes to the host; they are there when it has waited for the stream."""
        if stream is None or stream.capturing:
            raise EmulatorError("a copy to the host needs a stream that is not captured")
        State.use(stream, [self.mem.allocation.number], "a copy to the host")
        State.catch_up()
        ctypes.memset(mem, FRESH, size)
        inside = self.mem.allocation.inside
        State.leaving.append(Leaving(mem, inside[self.start : self.start + size].tobytes(), stream))

    def __add__(self, by: int) -> MemoryPointer:
        return MemoryPointer(self.mem, self.offset + by)


class MemoryPool:
    """Blocks by size; what was freed is given out again, as CuPy does."""

    def __init__(self, allocator: Any = None) -> None:
        self.free: dict[int, list[Allocation]] = {}
        self.total = 0
        self.gone = False  # cyclic garbage: what it gave out may be finalized after it

    def __del__(self) -> None:
        self.gone = True
        self.free_all_blocks()

    def malloc(self, size: int) -> MemoryPointer:
        rounded = -(-max(size, 1) // 512) * 512
        kept = self.free.get(rounded)
        if kept:
            allocation = kept.pop()
            allocation.inside[:] = FRESH
            allocation.alive = True
            # what was there before is gone: a graph that still uses it is found out
            del State.allocations[allocation.number]
            allocation.number = State.take()
            State.allocations[allocation.number] = allocation
        else:
            if State.used + rounded > State.limit:
                raise OutOfMemoryError(f"Out of memory allocating {rounded} bytes (allocated: {State.used} bytes)")
            allocation = Allocation(rounded)
            State.allocations[allocation.number] = allocation
            State.used += rounded
            self.total += rounded
        allocation.shared = self is POOL
        return MemoryPointer(Memory(allocation, self), 0)

    def used_bytes(self) -> int:
        return self.total_bytes() - self.free_bytes()

    def free_bytes(self) -> int:
        return sum(size * len(kept) for size, kept in self.free.items())

    def total_bytes(self) -> int:
        return self.total

    def free_all_blocks(self, stream: Any = None) -> None:
        for kept in self.free.values():
            for allocation in kept:
                self.total -= allocation.size
                _release(allocation)
        self.free.clear()


class Pinned(np.ndarray):
    """Memory of the host that copies arrive in: who looks at it too early is found out."""

    def __array_finalize__(self, source: Any) -> None:
        if isinstance(source, Pinned) and State.leaving:
            begin = self.__array_interface__["data"][0]
            end = begin + self.nbytes
            if any(copy.address < end and begin < copy.address + len(copy.values) for copy in State.leaving):
                raise EmulatorError("the host reads what it has not waited for")


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return np.empty(shape, dtype).view(Pinned)


POOL = MemoryPool()
ALLOCATOR: list[Any] = []


def alloc(size: int) -> MemoryPointer:
    return (ALLOCATOR[-1] if ALLOCATOR else POOL.malloc)(size)


@contextmanager
def using_allocator(allocator: Any) -> Any:
    ALLOCATOR.append(allocator)
    try:
        yield
    finally:
        ALLOCATOR.pop()
