"""Record and replay of steps: the same bits as eager, and honest about what cannot be recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.autograd import replay as replay_module
from deepbabysit.autograd.replay import Replay
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.record import aside

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


def watched_step(large: int = 3) -> tuple[Any, Any, Any, list[int]]:
    """Return a step, the same step with something done beside it, what that has seen, and who ran in Python."""
    device = db.devices()[0]
    ran, seen = [0, 0], device.asarray(np.zeros(large, np.float32))

    def step(x: Any) -> Any:
        ran[0] += 1
        return db.ops.tanh(x * 2.0) + 1.0

    def watched(x: Any) -> Any:
        result = step(x)
        ran[1] += 1
        aside(lambda: call(device, SPECS["copy"], (result.data,), outs=(seen,)))
        return result

    return step, watched, seen, ran


def test_a_watched_step_and_the_step_alone_are_one_recording() -> None:
    step, watched, seen, ran = watched_step()
    replay = Replay(step, db.devices()[0], watched=watched)
    xs = [np.full(3, float(n), np.float32) for n in range(6)]
    expected = [np.tanh(x * 2.0) + 1.0 for x in xs]
    for n in (0, 1):  # eagerly, then recorded
        np.testing.assert_array_equal(replay.watch([xs[n]])[0].numpy(), expected[n])
        np.testing.assert_array_equal(seen, expected[n])
    np.testing.assert_array_equal(replay([xs[2]])[0].numpy(), expected[2])
    np.testing.assert_array_equal(seen, expected[1])  # nobody looked
    np.testing.assert_array_equal(replay.watch([xs[3]])[0].numpy(), expected[3])
    np.testing.assert_array_equal(seen, expected[3])
    assert ran == [2, 2]
    assert replay.replays == 1


def test_a_step_that_was_recorded_alone_is_watched_eagerly() -> None:
    step, watched, seen, ran = watched_step()
    replay = Replay(step, db.devices()[0], watched=watched)
    for n in range(4):
        (replay.watch if n > 1 else replay)([np.full(3, float(n), np.float32)])
    assert ran == [4, 2]
    np.testing.assert_array_equal(seen, np.tanh(np.full(3, 6.0, np.float32)) + 1.0)


def test_a_watched_recording_keeps_no_memory_beside_a_large_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_module, "LARGEST", 1 << 16)
    for large, replayed in ((1 << 10, True), (1 << 17, False)):
        step, watched, seen, ran = watched_step(large)
        replay = Replay(step, db.devices()[0], watched=watched)
        for n in range(4):
            replay.watch([np.full(large, float(n), np.float32)])
        assert ran == ([2, 2] if replayed else [4, 4])
        np.testing.assert_array_equal(seen, np.tanh(np.full(large, 6.0, np.float32)) + 1.0)
        replay([np.zeros(large, np.float32)])
        assert replay.replays == 1  # the step alone is recorded


def test_layers_that_run_as_one_alone_are_recorded_without_the_tap() -> None:
    model = db.Sequential([db.layers.Dense(5, input_shape=4), db.layers.BatchNorm(), db.layers.Activation("relu")])
    seen: list[str] = []

    def step(x: Any) -> Any:
        with db.training():
            return model(x)

    replay = Replay(step, model.device, watched=step)
    x = RNG.standard_normal((6, 4)).astype(np.float32)
    for _ in range(3):
        with surroundings(tap=lambda layer, result: seen.append(layer.path)):
            replay.watch([x])
    assert len(seen) == 3 * 4
    names: list[set[str]] = []
    with surroundings(tap=None):
        for _ in range(3):
            replay([x])
    for entry in replay._entries.values():
        assert entry.recording is not None
        names.append({run.func.__name__ for run, *_ in entry.recording._calls if hasattr(run, "func")})
    assert any("batch_norm_relu" in name for name in names[0]), names


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


@pytest.mark.parametrize("between", [False, True])
def test_what_is_done_beside_a_step_waits_for_its_end_where_it_can(between: bool) -> None:
    device = db.devices()[0]
    w, kept, seen, half = (device.asarray(np.zeros(4, np.float32)) for _ in range(4))

    def copy(of: Any, to: Any) -> None:
        call(device, SPECS["copy"], (of,), outs=(to,))

    def step(x: Any) -> Any:
        moved = db.ops.tanh(x)  # lies in the recording
        call(device, SPECS["add"], (w, moved.data), outs=(w,))
        aside(copy, w, half) if between and watching else None
        call(device, SPECS["multiply"], (w, w), outs=(w,))
        aside(copy, moved.data, seen) if watching else None
        return moved

    def watched(x: Any) -> Any:
        aside(copy, w, kept)  # has to come before the step
        return step(x)

    replay, watching = Replay(step, device, watched=watched), True
    expected = np.zeros(4, np.float32)
    for n in range(6):
        x = np.full(4, 0.1 * n, np.float32)
        watching = n % 3 < 2
        (replay.watch if watching else replay)([x])
        before, added = expected, expected + np.tanh(x)
        expected = added * added
        np.testing.assert_array_equal(w, expected)
        if watching:
            np.testing.assert_array_equal(kept, before)
            np.testing.assert_array_equal(seen, np.tanh(x))
            np.testing.assert_array_equal(half, added if between else 0.0)
    (entry,) = replay._watched.values()
    assert (entry.around is None) == between
    assert (entry.recording is None) != between
