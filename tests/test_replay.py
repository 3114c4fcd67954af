"""Record and replay of steps: the same bits as eager, and honest about what cannot be recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepbabysit as db

RNG = np.random.default_rng(0)
BATCHES = [RNG.standard_normal((8, 5)).astype(np.float32) for _ in range(6)]
TARGETS = [RNG.integers(0, 3, 8) for _ in range(6)]


def network() -> db.Sequential:
    db.set_seed(1)
    return db.Sequential([
        db.layers.Dense(7, "tanh", input_shape=5), db.layers.BatchNorm(), db.layers.Dropout(0.3), db.layers.Dense(3),
    ])


def by_hand(recorded: bool, optimizer: str) -> tuple[list[np.ndarray], list[float]]:
    model = network()
    opt = getattr(db.optimizers, optimizer)(model.parameters(), 0.01)

    def step(x: Any, y: Any) -> Any:
        with db.training():
            loss = db.losses.cross_entropy(y, model(x))
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    run = db.record(step) if recorded else step
    losses = [run(db.tensor(x), db.tensor(y)).item() for x, y in zip(BATCHES, TARGETS, strict=True)]
    return model.get_weights(), losses


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "RMSprop", "Lion"])
def test_a_recorded_hand_written_step_gives_the_same_bits(optimizer: str) -> None:
    eager, recorded = by_hand(False, optimizer), by_hand(True, optimizer)
    assert eager[1] == recorded[1]
    assert all(np.array_equal(a, b) for a, b in zip(eager[0], recorded[0], strict=True))
    assert len(set(eager[1])) == len(BATCHES)


def test_reading_a_value_inside_is_refused_with_its_line_and_the_step_stays_eager() -> None:
    from deepbabysit.autograd.replay import Replay

    said: list[str] = []
    device = db.devices()[0]

    def step(x: Any) -> Any:
        if x.sum().item() > 1e9:
            return x
        return x * 2

    replay = Replay(step, device, say=said.append)
    results = [replay([np.full((2,), float(n), np.float32)])[0].tolist() for n in range(4)]
    assert results == [[0.0, 0.0], [2.0, 2.0], [4.0, 4.0], [6.0, 6.0]]
    assert len(said) == 1
    assert "item()" in said[0]
    assert "test_replay.py" in said[0]


def test_a_new_shape_is_recorded_anew() -> None:
    double = db.record(lambda x: x * 2)
    for rows in (3, 3, 3, 2, 2, 2, 3):
        x = np.full((rows, 2), rows, np.float32)
        np.testing.assert_array_equal(double(x).numpy(), 2 * x)


def test_copies_through_strange_layouts_are_repeated() -> None:
    flat = db.record(lambda x: x.T.reshape(-1) + 1.0)
    for n in range(4):
        x = RNG.standard_normal((3, 4)).astype(np.float32) + n
        np.testing.assert_array_equal(flat(x).numpy(), x.T.reshape(-1) + 1)


def test_memory_that_is_used_again_inside_a_recording_is_right() -> None:
    def chain(x: Any) -> Any:
        for k in range(6):
            x = db.ops.tanh(x * 1.5 + float(k))
        return x.sum(axis=0)

    recorded = db.record(chain)
    for n in range(4):
        x = RNG.standard_normal((300, 200)).astype(np.float32) * (n + 1)
        np.testing.assert_array_equal(recorded(x).numpy(), chain(db.tensor(x)).numpy())


def test_results_are_copies() -> None:
    double = db.record(lambda x: x * 2)
    kept = [double(np.array([float(n), 0.0], np.float32)) for n in range(5)]
    assert [k.tolist()[0] for k in kept] == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_a_step_must_return_tensors() -> None:
    with pytest.raises(TypeError, match="returns a Tensor"):
        db.record(lambda x: 3.0)(np.ones(2, np.float32))


def test_a_hook_keeps_the_step_eager_and_is_called_each_time() -> None:
    model = network()
    seen: list[int] = []
    remove = model.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(1))
    model.compile("adam", "cross_entropy")
    model.fit(np.concatenate(BATCHES), np.concatenate(TARGETS), batch_size=8, epochs=2, verbose=0)
    assert len(seen) >= 12
    remove()
    before = len(seen)
    model.fit(np.concatenate(BATCHES), np.concatenate(TARGETS), batch_size=8, epochs=2, verbose=0)
    assert len(seen) == before
