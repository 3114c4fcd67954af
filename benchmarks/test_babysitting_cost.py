"""What watching costs: `fit` of eight workloads with and without the babysitter, in turns; the check before apart.

    pytest benchmarks/test_babysitting_cost.py -s

Times are those of the processor (one thread), so that what else runs on the machine counts little. Of each workload the
median over pairs of runs is printed, and at the end the median over the workloads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from benchmarks.conftest import CLOCK, measured_by_children
from deepbabysit.babysit.budget import SHARE
from deepbabysit.babysit.sitter import Sitter

L = db.layers
ROUNDS, LONG_ROUNDS = 5, 11
GOAL = 0.03  # of the time of the steps, median over the workloads


def _dense(*sizes: int, activation: str = "relu", norm: bool = False, dropout: float = 0.0) -> Any:
    stack: list[Any] = []
    for number, size in enumerate(sizes[1:-1]):
        stack.append(L.Dense(size, activation, **({} if number else {"input_shape": sizes[0]})))
        stack += [L.BatchNorm()] if norm else []
        stack += [L.Dropout(dropout)] if dropout else []
    return db.Sequential([*stack, L.Dense(sizes[-1])])


def _lenet() -> Any:
    return db.Sequential([
        L.Conv2D(6, 5, padding="same", activation="relu", input_shape=(28, 28, 1)), L.MaxPool2D(2),
        L.Conv2D(16, 5, activation="relu"), L.MaxPool2D(2), L.Flatten(), L.Dense(120, "relu"), L.Dense(84, "relu"),
        L.Dense(10),
    ])


def _small_images() -> Any:
    return db.Sequential([
        L.Conv2D(8, 3, activation="relu", input_shape=(8, 8, 1)), L.BatchNorm(), L.MaxPool2D(2), L.Flatten(),
        L.Dense(10),
    ])


# name -> (model, shape of a sample, classes, rows, batch, epochs); each runs one to two seconds on one processor
WORKLOADS: dict[str, tuple[Callable[[], Any], tuple[int, ...], int, int, int, int]] = {
    "tiny MLP": (lambda: _dense(29, 16, 2), (29,), 2, 12_800, 32, 150),
    "tiny MLP, short epochs": (lambda: _dense(29, 16, 2), (29,), 2, 242, 32, 3500),
    "table": (lambda: _dense(13, 64, 32, 3, activation="tanh"), (13,), 3, 1280, 32, 900),
    "deep, normalized": (lambda: _dense(20, *[32] * 6, 5, norm=True), (20,), 5, 1280, 32, 60),
    "worked example": (lambda: _dense(784, 512, 256, 10, dropout=0.1), (784,), 10, 6400, 128, 10),
    "small CNN": (_small_images, (8, 8, 1), 10, 1280, 32, 250),
    "LeNet-5": (_lenet, (28, 28, 1), 10, 960, 32, 25),
    "LSTM": (lambda: db.Sequential([L.LSTM(24, input_shape=(12, 6)), L.Dense(4)]), (12, 6), 4, 1280, 32, 80),
}


@cache
def _data(name: str) -> tuple[np.ndarray, np.ndarray]:
    _, shape, classes, rows, _, _ = WORKLOADS[name]
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, rows)
    prototypes = rng.standard_normal((classes, *shape)) * 3 / np.sqrt(np.prod(shape))
    return (prototypes[y] + rng.standard_normal((rows, *shape))).astype(np.float32), y


def _seconds(name: str, sitter: Callable[[], Any]) -> float:
    """Return the processor time of one training from its first line to its end."""
    build, _, _, _, batch, epochs = WORKLOADS[name]
    x, y = _data(name)
    db.set_seed(1)
    model = build()
    model.compile(db.optimizers.Adam(1e-3), "cross_entropy", metrics=["accuracy"])
    babysit = sitter()
    begun = time.process_time()
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, babysit=babysit, seed=1, device="cpu")
    return time.process_time() - begun


KINDS: dict[str, Callable[[], Any]] = {
    "alone": lambda: False, "watched": lambda: Sitter(check=False), "watched and checked": lambda: True,
}
_costs: dict[str, tuple[float, float]] = {}


@measured_by_children
@pytest.mark.parametrize("name", WORKLOADS)
def test_watching(benchmark: Any, pytestconfig: pytest.Config, name: str) -> None:
    rounds = LONG_ROUNDS if pytestconfig.getoption("--long") else ROUNDS
    for kind in KINDS.values():
        _seconds(name, kind)  # whatever is compiled is compiled now
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(rounds):
        order = list(KINDS) if turn % 2 else list(KINDS)[::-1]
        for kind in order:
            times[kind].append(_seconds(name, KINDS[kind]))
    alone = times["alone"]
    share = {
        kind: statistics.median(mine / other for mine, other in zip(times[kind], alone, strict=True)) - 1
        for kind in list(KINDS)[1:]
    }
    watching, whole = share["watched"], share["watched and checked"]
    _costs[name] = (watching, whole - watching)
    benchmark.extra_info.update(watching=watching, checking=whole - watching, alone=statistics.median(alone))
    shown = iter(times["watched"])

    def turn_of() -> None:
        CLOCK.now += next(shown)

    benchmark.pedantic(turn_of, rounds=rounds, iterations=1)
    print(
        f"{name}: {statistics.median(alone):.2f} s, watching {watching:+.1%}, the check before {whole - watching:+.1%} "
        f"(at most {SHARE:.0%})"
    )


def test_the_median_over_the_workloads() -> None:
    if len(_costs) < len(WORKLOADS):
        pytest.skip("not every workload was measured")
    watching = statistics.median(cost for cost, _ in _costs.values())
    print(f"median: watching {watching:+.1%} (goal {GOAL:.0%})")
    assert watching <= GOAL
