"""Pooled memory: views keep it, dead buffers come back, and a recording that reuses memory replays right."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.runtime.buffers import ALIGNMENT, SMALL, BufferPool, HostArena, ThreadPools, _size_class
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.record import Recorder
from deepbabysit.runtime.registry import find_device

CPU = find_device("cpu")
F8 = np.dtype(np.float64)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_comes_back_and_is_aligned() -> None:
    pool = BufferPool()
    one = pool.empty((100, 100), F8)
    assert address(one) % ALIGNMENT == 0
    assert one.flags.c_contiguous
    where = address(one)
    other = pool.empty((100, 100), F8)
    assert address(other) != where
    del one
    assert address(pool.empty((50, 200), F8)) == where


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[3:5],
        lambda a: a.T,
        lambda a: a.reshape(-1)[7:],
        lambda a: a[::-1],
        lambda a: a.view(np.int64),
        lambda a: a[None].T[5],
        lambda a: np.broadcast_to(a[0], (4, 100)),
        lambda a: a[1:][1:][1:],
        lambda a: as_strided(a, (2, 2), (8, 8)),
        lambda a: memoryview(a),
        lambda a: a[:0],
    ],
)
def test_every_view_keeps_the_memory(view: object) -> None:
    pool = BufferPool()
    buffer = pool.empty((100, 100), F8)
    where = address(buffer)
    part = view(buffer)  # type: ignore[operator]
    del buffer
    assert address(pool.empty((100, 100), F8)) != where
    assert pool.free() >= 0
    assert pool.raw(pool.empty((100, 100), F8)) is not None
    del part


def test_small_arrays_are_left_to_numpy() -> None:
    pool = BufferPool()
    array = pool.empty((SMALL // 8 - 1,), F8)
    assert pool.held() == 0
    assert pool.raw(array) is None


def test_free_gives_back_what_is_not_used_and_can_be_called_again() -> None:
    pool = BufferPool()
    kept = pool.empty((100, 100), F8)
    kept[...] = 1.0
    lost = pool.empty((300, 300), F8)
    size = pool.held()
    del lost
    freed = pool.free()
    assert 0 < freed < size
    assert pool.held() == size - freed
    assert pool.free() == 0
    assert kept.sum() == 10_000.0
    del kept
    assert pool.free() > 0
    assert pool.free() == pool.held() == 0
    assert pool.empty((100, 100), F8).shape == (100, 100)


def test_size_classes_waste_at_most_a_quarter() -> None:
    for size in (SMALL, SMALL + 1, 100_000, 1_000_001, 3 << 20, (1 << 30) + 1):
        assert size <= _size_class(size) <= size * 1.25 + 4096


def test_each_thread_has_its_own_pool() -> None:
    pools = ThreadPools()
    mine = pools.pool
    seen = []
    thread = threading.Thread(target=lambda: seen.append(pools.pool))
    thread.start()
    thread.join()
    assert seen[0] is not mine


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[3:5, ::2],
        lambda a: a.T,
        lambda a: a[::-1],
        lambda a: a[:0],
        lambda a: a[2, 3, ...],
        lambda a: np.broadcast_to(a[0], (4, 100)),
    ],
)
def test_pinned_arrays_see_the_same_memory_and_do_not_keep_it(view: object) -> None:
    arena = HostArena()
    buffer = arena.empty((100, 100), F8)
    buffer[...] = np.arange(10_000.0).reshape(100, 100)
    part = view(buffer)  # type: ignore[operator]
    pinned = arena.pin(part)
    assert pinned.shape == part.shape
    assert pinned.strides == part.strides
    np.testing.assert_array_equal(pinned, part)
    if part.size:
        assert address(pinned) == address(part)
    where = address(buffer)
    del buffer, part
    assert address(arena.empty((100, 100), F8)) == where


def test_arrays_of_others_are_pinned_as_they_are() -> None:
    arena = HostArena()
    foreign = np.ones((100, 100))
    assert arena.pin(foreign) is foreign


@pytest.mark.parametrize("side", [8, 120])
def test_a_recording_that_reuses_memory_replays_right(side: int) -> None:
    """Large intermediate results die during the recording and their memory serves later ones."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, side, side))

    def step(x: Tensor) -> Tensor:
        h = x
        for _ in range(6):
            h = (h @ x * 0.1 + h.T).tanh()
            h = (h * (h > 0.0).astype(h.dtype)).reshape(side, side) + h[::-1]
        return h.sum(axis=0)

    def eager(values: np.ndarray) -> np.ndarray:
        return step(Tensor(CPU.asarray(values), CPU)).numpy().copy()

    x = Tensor(CPU.asarray(first), CPU)
    recorder = Recorder(CPU)
    with surroundings(recorder=recorder):
        y = step(x)
    recording = recorder.finish()
    assert y.numpy().tobytes() == eager(first).tobytes()
    for values in (second, first, second):
        CPU.write(x.data, values)
        recording.replay()
        assert y.numpy().tobytes() == eager(values).tobytes()
    if side == 120:
        calls = len(recording)
        held = recorder.arena._pool.held()  # type: ignore[attr-defined]
        assert held < calls * side * side * 8 / 2, "dead buffers were not used again"


def test_a_recorded_gradient_of_large_arrays_replays_right() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((2, 90, 90))

    def step(x: Tensor) -> np.ndarray:
        x.grad = None
        (((x @ x).tanh() * x).exp().mean()).backward()
        assert x.grad is not None
        return x.grad.data

    x = Tensor(CPU.asarray(values[0]), CPU, requires_grad=True)
    recorder = Recorder(CPU)
    with surroundings(recorder=recorder):
        gradient = step(x)
    recording = recorder.finish()
    CPU.write(x.data, values[1])
    recording.replay()
    fresh = step(Tensor(CPU.asarray(values[1]), CPU, requires_grad=True))
    assert gradient.tobytes() == fresh.tobytes()


def test_a_recording_gets_the_memory_of_the_steps_before_it():
    from deepbabysit_numpy import open_backend

    backend = open_backend()
    held = backend.empty((300, 300), np.dtype(np.float32))
    backend.empty((300, 300), np.dtype(np.float32))  # nobody uses it any more
    backend.arena()
    assert backend.free() == 0
    assert held.shape == (300, 300)
