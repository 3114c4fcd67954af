"""Inputs of replays that are read where they lie: the bits of a copy, and a copy where reading would be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.autograd import replay
from deepbabysit.runtime import late, record

DEVICE = db.devices()[0]
SHAPE = (500, 784)  # more than `late.LARGE` bytes


@pytest.fixture(autouse=True, params=["calls", "program"])
def copied(request, monkeypatch) -> list[int]:
    """Replay from Python and as a program; returns the number of inputs that each replay copied."""
    monkeypatch.setattr(record, "PROGRAM_CALLS", 10**9 if request.param == "calls" else 1)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 0)
    counts: list[int] = []
    now = 0
    take, replayed, build = (getattr(record.Recording, name) for name in ("take", "replay", "_build"))
    write = type(DEVICE).write

    def taking(self: Any, arrays: Any) -> None:
        def writing(device: Any, array: Any, values: Any) -> None:
            nonlocal now
            now += 1
            write(device, array, values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(DEVICE), "write", writing)
            take(self, arrays)

    given: list[np.ndarray] = []

    def building(self: Any) -> bool:
        """Mark the inputs that a program takes: what it copies is seen."""
        found = build(self)
        reads = self.reads

        def reading(*arrays: Any) -> int:
            taken = reads(*arrays)
            if taken:
                given[:] = [slot for slot, _ in self._inputs]
                for slot in given:
                    slot.fill(77)
            return taken

        self.reads = reading
        return found

    def replaying(self: Any) -> None:
        nonlocal now
        replayed(self)
        counts.append(now + sum(not (slot == 77).all() for slot in given))
        given.clear()
        now = 0

    for name, function in (("take", taking), ("replay", replaying), ("_build", building)):
        monkeypatch.setattr(record.Recording, name, function)
    return counts


def batch(seed: int) -> np.ndarray:
    return DEVICE.asarray(np.random.default_rng(seed).standard_normal(SHAPE).astype("f"))


def model(seed: int = 1) -> Any:
    db.set_seed(seed)
    return db.Sequential([db.layers.Dense(64, "relu", input_shape=SHAPE[1:]), db.layers.Dense(10)])


def training(net: Any) -> Any:
    optimizer = db.optimizers.Adam(net.parameters(), 0.01)

    def step(x: Any, y: Any) -> Any:
        loss = ((net(x) - y) ** 2.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_large_batches_are_not_copied_and_the_bits_are_those_of_eager_steps(copied):
    results = []
    for enabled in (True, False):
        net = model()
        run = replay.Replay(training(net), DEVICE, enabled)
        target = DEVICE.asarray(np.ones((SHAPE[0], 10), "f"))
        losses = [run([batch(seed), target])[0].numpy().tobytes() for seed in range(6)]
        results.append(losses + [p.numpy().tobytes() for p in net.parameters()])
    assert results[0] == results[1]
    assert copied == [1] * 4  # the targets are small


def test_what_changes_between_replays_is_seen_and_what_cannot_be_read_is_copied(copied):
    net = model()
    run = replay.Replay(lambda x: net(x) * 1.0, DEVICE)
    x = batch(0)
    wide = np.random.default_rng(9).standard_normal((SHAPE[0], SHAPE[1] + 3)).astype("f")
    for array in (x, x, x, wide[:, 3:], batch(5), x, batch(6)[::-1], batch(7)):
        found = run([array])[0].numpy().tobytes()
        assert found == net(db.tensor(np.ascontiguousarray(array))).numpy().tobytes()
        x += np.float32(0.5)
    assert copied == [0, 1, 0, 0, 1, 0]


def test_an_input_that_the_step_writes_is_copied(copied):
    """The weights themselves as the batch: an update must not show before the step is over."""
    weights = []
    for enabled in (True, False):
        w = db.Parameter(np.random.default_rng(0).standard_normal(SHAPE).astype("f"), DEVICE)
        optimizer = db.optimizers.SGD([w], 0.1)

        def step(x: Any, w: Any = w, optimizer: Any = optimizer) -> Any:
            loss = (w * x).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return (x * 2.0).sum() + loss

        run = replay.Replay(step, DEVICE, enabled)
        losses = [run([w.data])[0].numpy().tobytes() for _ in range(5)]
        weights.append([*losses, w.numpy().tobytes()])
    assert weights[0] == weights[1]
    assert copied == [1] * 3


def test_a_result_that_is_the_input_is_copied(copied):
    run = replay.Replay(lambda x: (x, x.reshape(-1), x.sum()), DEVICE)
    for seed in range(4):
        array = batch(seed)
        whole, flat, _ = run([array])
        assert whole.numpy().tobytes() == flat.numpy().tobytes() == array.tobytes()
    assert copied == [1, 1]


def test_small_inputs_and_pieces_of_large_ones_are_copied(copied):
    small = replay.Replay(lambda x: x @ x.T, DEVICE)
    part = replay.Replay(lambda x: x[:3] @ x[:3].T, DEVICE)
    for seed in range(4):
        array = batch(seed)
        assert small([array[:20]])[0].numpy().tobytes() == (array[:20] @ array[:20].T).tobytes()
        assert part([array])[0].numpy().tobytes() == (array[:3] @ array[:3].T).tobytes()
    assert copied == [1] * 4


def test_addresses_are_compared_as_ranges():
    assert late._joined([(5, 9), (0, 3), (2, 4), (9, 12)]) == [(0, 4), (5, 12)]
