"""Numbers below the smallest normal one count as 0 in training, in this thread only, and nowhere else."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.runtime import subnormals
from deepbabysit.runtime.subnormals import flushed

TINY = np.finfo(np.float32).tiny
needs_mode = pytest.mark.skipif(not subnormals.supported(), reason="the processor's mode cannot be set here")


def kept() -> bool:
    """Tell whether NumPy computes with subnormal numbers now."""
    return bool((np.full(40, TINY) * np.float32(0.25)).all())


def is_subnormal(x: np.ndarray) -> np.ndarray:
    return (x != 0) & (np.abs(x) < TINY)


def test_the_mode_is_there_on_linux():
    known = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64")
    assert subnormals.supported() == known


@needs_mode
def test_inside_they_are_zero_and_outside_what_they_were():
    assert kept()
    with flushed():
        assert not kept()
        with flushed():
            assert not kept()
        assert not kept()
        small = np.array([1e-39, -1e-45, 1e-30], np.float32)
        assert (small * np.float32(1.0)).tolist() == [0.0, 0.0, float(np.float32(1e-30))]
    assert kept()
    with pytest.raises(KeyError), flushed():
        raise KeyError
    assert kept()


@needs_mode
def test_another_thread_keeps_its_own():
    found = []
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        inside.wait()
        found.append(kept())
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with flushed():
        inside.set()
        done.wait()
        assert not kept()
    thread.join()
    assert found == [True]


def model(seed: int = 0) -> db.Model:
    db.set_seed(seed)
    made = db.Sequential([db.layers.Dense(70, "relu", input_shape=60), db.layers.Dense(5)])
    made.compile(db.optimizers.Adam(1e-3), "cross_entropy")
    return made


def batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((64, 60)).astype("f"), rng.integers(0, 5, 64)


@needs_mode
def test_training_leaves_no_subnormal_states_and_restores_the_mode():
    made, (x, y) = model(), batch()
    x[:, :30] = 0.0  # gradients of these weights are 0: their moments only decay
    made.fit(x, y, epochs=1, batch_size=64, verbose=0)
    state = made.optimizer.state_dict()
    for key, values in state["arrays"].items():
        if key.endswith("/m"):
            values[...] = 2 * TINY
    made.optimizer.load_state_dict(state)
    made.fit(x, y, epochs=30, batch_size=64, verbose=0)
    assert kept()
    moments = [v for k, v in made.optimizer.state_dict()["arrays"].items() if k.endswith(("/m", "/v"))]
    assert sum(int((v == 0).sum()) for v in moments) >= 30 * 70
    assert not any(is_subnormal(v).any() for v in moments)


def trajectory(how: str) -> list[bytes]:
    """Train with gradients around the smallest normal number, in one of the ways in which a step can be written."""
    made, (x, y) = model(), batch()
    made.layers[-1].kernel.assign(made.layers[-1].kernel.numpy() * np.float32(160.0))
    optimizer = db.optimizers.Adam(made.parameters(), 1e-3)

    def step(x, y):
        with db.training():
            loss = db.losses.cross_entropy(y, made(x)) * 1e-36
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss

    run = db.record(step) if how == "record" else step
    for _ in range(12):
        run(db.tensor(x), db.tensor(y))
    arrays = {**optimizer.state_dict()["arrays"], **{p.name: p.numpy() for p in made.parameters()}}
    assert not any(is_subnormal(np.asarray(v)).any() for v in arrays.values())
    assert any((np.asarray(v) == 0).mean() > 0.01 for v in arrays.values())
    return [np.asarray(arrays[key]).tobytes() for key in sorted(arrays)]


@needs_mode
def test_replay_gives_the_bits_of_eager_steps():
    assert trajectory("eager") == trajectory("record")


def test_importing_sets_nothing():
    text = "import numpy as np, deepbabysit as db; db.tensor(1.0); x = np.full(9, 1e-38, 'f'); print((x / 10).all())"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_where_the_mode_is_unknown_nothing_changes(monkeypatch):
    subnormals._mode.cache_clear()
    try:
        monkeypatch.setattr(subnormals, "_LAYOUTS", {})
        assert not subnormals.supported()
        with flushed():
            assert kept()
        assert kept()
    finally:
        monkeypatch.undo()
        subnormals._mode.cache_clear()


@needs_mode
def test_a_mode_that_does_nothing_is_not_taken(monkeypatch):
    subnormals._mode.cache_clear()
    try:
        other = {"x86_64": (7, 0x0040), "aarch64": (0, 1 << 25)}[platform.machine()]  # results stay subnormal with it
        monkeypatch.setattr(subnormals, "_LAYOUTS", {(sys.platform, platform.machine()): other})
        assert not subnormals.supported()
    finally:
        monkeypatch.undo()
        subnormals._mode.cache_clear()
    assert kept() and subnormals.supported()
