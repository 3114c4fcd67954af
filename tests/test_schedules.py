"""Schedules at known points, as pure functions, and through their configuration."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepbabysit.optimizers import SGD, schedules

EXAMPLES: list[schedules.Schedule] = [
    schedules.constant(0.1),
    schedules.step(0.1, every=7, factor=0.5),
    schedules.exponential(0.1, 0.9, every=5),
    schedules.cosine(0.1, steps=40, minimum=0.01),
    schedules.cosine(0.1, steps=10, restarts=True),
    schedules.cosine(0.1, steps=10, restarts=True, growth=2.0),
    schedules.warmup(0.1, steps=5),
    schedules.warmup(schedules.cosine(0.1, steps=30), steps=5, start=0.02),
    schedules.one_cycle(0.1, steps=50),
    schedules.piecewise([10, 20], [0.1, 0.05, 0.001]),
    schedules.plateau(0.1, patience=2),
]


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (schedules.step(1.0, every=10, factor=0.1), {0: 1.0, 9: 1.0, 10: 0.1, 20: 0.01}),
        (schedules.exponential(2.0, 0.25, every=10), {0: 2.0, 5: 1.0, 10: 0.5}),
        (schedules.cosine(1.0, steps=4), {0: 1.0, 1: 0.5 + math.sqrt(0.125), 2: 0.5, 4: 0.0, 99: 0.0}),
        (schedules.cosine(1.0, steps=4, minimum=0.5), {0: 1.0, 2: 0.75, 4: 0.5, 5: 0.5}),
        (schedules.cosine(1.0, steps=4, restarts=True), {4: 1.0, 6: 0.5, 8: 1.0}),
        (schedules.cosine(1.0, steps=4, restarts=True, growth=2.0), {4: 1.0, 8: 0.5, 12: 1.0, 20: 0.5, 28: 1.0}),
        (schedules.warmup(1.0, steps=4), {0: 0.2, 3: 0.8, 4: 1.0, 5: 1.0}),
        (schedules.warmup(schedules.cosine(1.0, steps=4), steps=1, start=0.5), {0: 0.75, 1: 1.0, 3: 0.5, 5: 0.0}),
        (schedules.piecewise([10, 20], [3.0, 2.0, 1.0]), {0: 3.0, 9: 3.0, 10: 2.0, 19: 2.0, 20: 1.0}),
    ],
)
def test_known_points(schedule: schedules.Schedule, points: dict[int, float]) -> None:
    for step, rate in points.items():
        assert schedule(step) == pytest.approx(rate, rel=1e-12, abs=1e-15), step


@pytest.mark.parametrize(("steps", "rise"), [(50, 0.3), (11, 0.5), (2, 0.9)])
def test_one_cycle_is_torchs(steps: int, rise: float) -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    peer = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.4, total_steps=steps, pct_start=rise, cycle_momentum=False
    )
    ours = schedules.one_cycle(0.4, steps=steps, rise=rise)
    for step in range(steps):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            peer.step()
    assert ours(steps + 5) == ours(steps - 1)


def test_restarts_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.4)
    peer = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=2, eta_min=0.01)
    ours = schedules.cosine(0.4, steps=5, minimum=0.01, restarts=True, growth=2.0)
    for step in range(60):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        peer.step()


@given(st.integers(0, 200), st.permutations(range(len(EXAMPLES))))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_pure_functions_of_the_step(step: int, order: list[int]) -> None:
    first = [schedule(step) for schedule in EXAMPLES]
    for index in order:
        EXAMPLES[index](step * 2 + 1)
        assert EXAMPLES[index](step) == first[index]
        assert 0.0 <= first[index] <= 0.1 + 1e-15


@pytest.mark.parametrize("schedule", EXAMPLES, ids=repr)
def test_configuration_makes_it_again(schedule: schedules.Schedule) -> None:
    again = schedules.get(json.loads(json.dumps(schedule.config())))
    assert again == schedule and type(again) is type(schedule)
    assert [again(n) for n in range(60)] == [schedule(n) for n in range(60)]


def test_plateau_lowers_waits_and_rests() -> None:
    plateau = schedules.plateau(1.0, factor=0.5, patience=2, cooldown=1, min_rate=0.2)
    rates = []
    for value in (1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, math.nan, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        plateau.observe(value)
        rates.append(plateau(0))
    # two without progress: halved; one that rests; two more; one that rests; two more: the floor
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2, 0.2, 0.2]


def test_plateau_mode_and_progress() -> None:
    up = schedules.plateau(1.0, patience=1, mode="max", min_delta=0.1)
    for value, rate in ((0.5, 1.0), (0.7, 1.0), (0.75, 0.1), (0.9, 0.1)):
        up.observe(value)
        assert up(3) == pytest.approx(rate)
    low = schedules.plateau(0.1, patience=1, min_rate=0.5)  # a floor above the rate never raises it
    low.observe(1.0)
    low.observe(1.0)
    assert low(0) == 0.1


def test_plateau_state_and_nesting() -> None:
    whole = schedules.warmup(schedules.plateau(1.0, patience=1, factor=0.5), steps=2)
    assert whole.listener is not None and whole.listener.monitor == "val_loss"
    assert whole.observe(1.0) and whole.observe(1.0)
    assert whole(2) == 0.5
    other = schedules.get(json.loads(json.dumps(whole.config())))
    assert other(2) == 1.0
    other.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert other(2) == 0.5
    assert not schedules.constant(1.0).observe(3.0)
    with pytest.raises(KeyError, match="plateau holds"):
        other.load_state_dict({"rate": 1.0})


def test_names_functions_and_numbers() -> None:
    assert schedules.get("cosine", learning_rate=1.0, steps=10)(5) == pytest.approx(0.5)
    assert schedules.get(np.float32(0.5))(7) == 0.5
    assert schedules.get(lambda step: 1.0 / (step + 1))(3) == 0.25
    assert set(schedules.NAMES) == {
        "constant", "step", "exponential", "cosine", "warmup", "one_cycle", "piecewise", "plateau"
    }
    for name, kind in schedules.NAMES.items():
        assert getattr(schedules, name) is kind


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: schedules.get("cosin"), ValueError, "did you mean 'cosine'"),
        (lambda: schedules.get("cosine"), TypeError, "needs learning_rate, steps"),
        (lambda: schedules.get("cosine", learning_rate=1, stepps=3), TypeError, "did you mean 'steps'"),
        (lambda: schedules.get(0.1, steps=3), TypeError, "go with the name"),
        (lambda: schedules.get({"steps": 3}), TypeError, "needs its name"),
        (lambda: schedules.get(None), TypeError, "number such as 1e-3"),
        (lambda: schedules.constant(-0.1), ValueError, "not negative"),
        (lambda: schedules.constant(math.nan), ValueError, "must be finite"),
        (lambda: schedules.constant(True), TypeError, "is a number"),
        (lambda: schedules.cosine(0.1, steps=0), ValueError, "at least 1"),
        (lambda: schedules.cosine(0.1, steps=2.5), ValueError, "whole number"),
        (lambda: schedules.cosine(0.1, steps=2, minimum=0.2), ValueError, "above the learning rate"),
        (lambda: schedules.cosine(0.1, steps=2, restarts=True, growth=0.5), ValueError, "at least 1"),
        (lambda: schedules.step(0.1, every=2, factor=0.0), ValueError, "above 0"),
        (lambda: schedules.piecewise([1, 2], [0.1, 0.2]), ValueError, "one rate more"),
        (lambda: schedules.piecewise([2, 1], [0.1, 0.2, 0.3]), ValueError, "must rise"),
        (lambda: schedules.plateau(0.1, factor=1.0), ValueError, "below 1"),
        (lambda: schedules.plateau(0.1, mode="mn"), ValueError, "did you mean 'min'"),
        (lambda: schedules.one_cycle(0.1, steps=1), ValueError, "at least 2"),
        (lambda: schedules.constant(0.1)(-1), ValueError, "at least 0"),
        (lambda: schedules.constant(0.1)(1.5), ValueError, "whole number"),
        (lambda: schedules.steps_per_epoch(0, 1), ValueError, "samples"),
    ],
)
def test_wrong_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_steps_per_epoch_counts_the_ragged_end() -> None:
    assert schedules.steps_per_epoch(100, 32) == 4
    assert schedules.steps_per_epoch(96, 32, accumulate=2) == 2
    assert schedules.steps_per_epoch(64, 32, accumulate=2) == 1


def test_optimizer_reads_step_zero_first() -> None:
    seen: list[int] = []

    def rate(step: int) -> float:
        seen.append(step)
        return 0.1

    optimizer = SGD(rate)
    assert optimizer.current_rate == 0.1
    assert optimizer.schedule.name == "custom"
    assert seen[0] == 0
