"""Rules about the loop itself; those that only hand-written loops need are tested with `watch`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from records import found, record

import deepbabysit as db
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.babysit.vitals import EpochVitals


def waited(waiting: float, working: float) -> Any:
    made = record()
    made.epochs = [EpochVitals(e, {"loss": 1.0 - e / 10}, working, waiting) for e in range(3)]
    return made


def test_a_loop_that_waits_for_its_data() -> None:
    seen = found(waited(1.0, 1.0))["slow_input"]
    assert seen.evidence["share"] == 0.5
    assert "slow_input" not in found(waited(0.2, 1.0))
    assert "slow_input" not in found(waited(0.01, 0.001))  # nobody minds some milliseconds


class Slow:
    """Rows that take their time."""

    def __init__(self, rows: np.ndarray, pause: float) -> None:
        self.rows, self.pause = rows, pause

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        time.sleep(self.pause)
        return self.rows[places]


def test_waiting_is_measured() -> None:
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = db.Sequential([db.layers.Dense(2, input_shape=4)])
    model.compile("sgd", "cross_entropy")
    sitter = Sitter()
    loader = db.data.Loader(Slow(x, 0.02), y, batch_size=8, prefetch=0)
    model.fit(loader, epochs=2, verbose=0, babysit=sitter)
    waiting = sum(epoch.waiting or 0.0 for epoch in sitter.record.epochs)
    assert 0.1 < waiting < 5.0  # 16 batches of 20 ms at least, most of which were seen


def test_alive_operations_that_double_with_the_steps() -> None:
    grows = record(probes={"alive": [(8, 100), (16, 200), (32, 400), (64, 800)]})
    assert found(grows)["memory_growth"].evidence["per_step"] > 10
    steady = record(probes={"alive": [(8, 300), (16, 310), (32, 300), (64, 305)]})
    assert "memory_growth" not in found(steady)


def test_weights_that_no_optimizer_holds() -> None:
    for held, frozen, second, expected in (
        ("head", False, False, True), ("all", False, False, False), ("head", True, False, False),
        ("head", False, True, False),
    ):
        db.set_seed(0)
        model = db.Sequential([db.layers.Dense(8, "relu", input_shape=4), db.layers.Dense(2)])
        model.build_for([(4,)], [np.float32])
        if frozen:
            model.freeze("0")
        of_head = model.layers[-1].parameters()
        optimizer = db.optimizers.SGD(of_head if held == "head" else model.parameters(), 0.1)
        other = db.optimizers.SGD(model.layers[0].parameters(), 0.1) if second else None
        x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
        with db.babysit.watch(model, optimizer, say=lambda _: None, every=1) as sitter:
            for _ in range(12):
                optimizer.zero_grad()
                if other is not None:
                    other.zero_grad()
                loss = db.losses.cross_entropy(y, model(x))
                loss.backward()
                optimizer.step()
                if other is not None:
                    other.step()
                sitter.step(loss)
        said = [f for f in sitter.findings if f.code == "unchanged_weights"]
        assert bool(said) is expected, (held, frozen, second)
        if said:
            assert said[0].layer == "0" and said[0].evidence["numbers"] == 40 and said[0].evidence["of"] == 58
