"""Rules about the loop itself; those that only hand-written loops need are tested with `watch`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
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
    """Rows that take their time; `once`: only at that call."""

    def __init__(self, rows: np.ndarray, pause: float, once: int | None = None) -> None:
        self.rows, self.pause, self.once, self.asked = rows, pause, once, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        self.asked += 1
        if self.once in (None, self.asked):
            time.sleep(self.pause)
        return self.rows[places]


def test_waiting_is_measured() -> None:
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = db.Sequential([db.layers.Dense(2, input_shape=4)])
    model.compile("sgd", "cross_entropy")
    sitter = Sitter()
    loader = db.data.Loader(Slow(x, 0.02), y, batch_size=8, prefetch=0)
    model.fit(loader, epochs=6, verbose=0, babysit=sitter)
    waiting = sum(epoch.waiting or 0.0 for epoch in sitter.record.epochs)
    assert 0.75 < waiting < 10.0  # 48 batches of 20 ms at least; looks saw the first 17, the others wait as those did


def test_one_stall_is_no_waiting() -> None:
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    model = db.Sequential([db.layers.Dense(2, input_shape=4)])
    model.compile("sgd", "cross_entropy")
    sitter = Sitter(every=1, check=False)
    loader = db.data.Loader(Slow(x, 0.6, once=6), (x[:, 0] > 0).astype(np.int64), batch_size=8, prefetch=0)
    model.fit(loader, epochs=2, verbose=0, babysit=sitter)
    waiting = sum(epoch.waiting or 0.0 for epoch in sitter.record.epochs)
    assert waiting >= 0.6 and sitter.record.probes["stall"] >= 0.6
    made = waited(1.0, 1.0)
    made.probes["stall"] = 2.9
    assert "slow_input" not in found(made)


def test_rows_that_are_read_one_by_one() -> None:
    def read(seconds: float, epochs: int, working: float, stopped: str = "") -> Any:
        made = waited(0.0, working)
        made.probes["reading"], made.run, made.stopped = seconds, replace(made.run, epochs=epochs), stopped
        return found(made)

    seen = read(5.0, 3, 0.1)["slow_input"]
    assert seen.evidence["reading"] == 5.0 and "5.0 s before the first step" in seen.message
    assert "slow_input" not in read(5.0, 300, 0.1)  # 30 s of training are to come
    assert "slow_input" in read(5.0, 300, 0.1, "early stopping")
    assert "slow_input" not in read(0.5, 3, 0.1)


def test_loops_that_wait() -> None:
    def loop(waiting: float, working: float) -> Any:
        return found(record(probes={"waits": {"waiting": waiting, "working": working, "step": 9}}))

    assert loop(2.0, 1.0)["slow_input"].step == 9
    assert "slow_input" not in loop(2.0, 9.0)
    assert "slow_input" not in loop(0.5, 0.1)


class Rows:
    """Rows that are read one by one."""

    def __init__(self, rows: np.ndarray, first: float, pause: float) -> None:
        self.rows, self.first, self.pause = rows, first, pause

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> np.ndarray:
        row = self.rows[place]
        time.sleep(self.pause if place else self.first)
        return row


@pytest.mark.parametrize(("first", "pause", "least", "most"), [(0.0, 0.01, 0.63, 9.0), (0.3, 0.0, 0.0, 0.25)])
def test_reading_is_measured_without_its_first_row(first: float, pause: float, least: float, most: float) -> None:
    x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
    model = db.Sequential([db.layers.Dense(2, input_shape=4)])
    model.compile("sgd", "cross_entropy")
    sitter = Sitter()
    model.fit(Rows(x, first, pause), (x[:, 0] > 0).astype(np.int64), batch_size=32, verbose=0, babysit=sitter)
    assert least <= sitter.record.probes["reading"] < most
    assert sitter.record.run.samples == 64


def test_alive_operations_that_double_with_the_steps() -> None:
    grows = record(probes={"alive": [(8, 100), (16, 200), (32, 400), (64, 800)]})
    assert found(grows)["memory_growth"].evidence["per_step"] > 10
    steady = record(probes={"alive": [(8, 300), (16, 310), (32, 300), (64, 305)]})
    assert "memory_growth" not in found(steady)
    seldom = record(probes={"alive": [(16, 23), (32, 39), (64, 71)]})
    assert found(seldom)["memory_growth"].evidence["per_step"] == 1.0
    once = record(probes={"alive": [(8, 10), (16, 20), (32, 190), (64, 200)]})
    assert "memory_growth" not in found(once)


def test_weights_that_no_optimizer_holds() -> None:
    for held, frozen, second, expected in (
        ("head", False, 0, True), ("all", False, 0, False), ("head", True, 0, False),
        ("head", False, 1, False), ("head", False, 6, False),  # another optimizer, which may take its time
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
            for number in range(12):
                optimizer.zero_grad()
                if other is not None:
                    other.zero_grad()
                loss = db.losses.cross_entropy(y, model(x))
                loss.backward()
                optimizer.step()
                if other is not None and number % second == second - 1:
                    other.step()
                sitter.step(loss)
        said = [f for f in sitter.findings if f.code == "unchanged_weights"]
        assert bool(said) is expected, (held, frozen, second)
        if said:
            assert said[0].layer == "0" and said[0].evidence["numbers"] == 40 and said[0].evidence["of"] == 58
