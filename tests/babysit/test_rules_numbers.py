"""Rules about numbers that are not finite, growth and jumps: what is planted is found, what looks alike is not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from records import codes, found, kernel, record, step

FALLING = list(np.linspace(2.4, 0.3, 200))


def test_a_loss_that_is_not_finite() -> None:
    made = record(losses=[2.4, 2.0, math.nan, math.nan])
    assert found(made)["nan_loss"].step == 2
    assert found(made)["nan_loss"].evidence["last_finite"] == 2.0
    assert "nan_loss" not in found(record(losses=FALLING))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_the_origin_is_told_with_layer_operation_and_rows(bad: float) -> None:
    origin = {
        "step": 2, "epoch": 0, "pass": "forward", "layer": "1", "operation": "log", "rows": [7, 9], "nan": 0,
        "infinite": 2, "largest": 0.5,
    }
    seen = found(record(losses=[2.4, 2.0, bad], probes={"origin": origin}))["nan_in_layer"]
    assert seen.layer == "1"
    assert "log in layer 1" in seen.message
    assert "Rows concerned: 7, 9" in seen.message
    assert "log" in seen.remedies[0].text
    wide = found(record(losses=[2.4, bad], probes={"origin": {**origin, "largest": 1e30}}))["nan_in_layer"]
    assert "overflowed" in wide.message
    assert "rate" in wide.remedies[0].text
    weights = {**origin, "pass": "weights", "layer": "0.kernel"}
    assert found(record(losses=[bad], probes={"origin": weights}))["nan_in_layer"].layer == "0"


def test_a_loss_that_grows_far_above_its_start() -> None:
    grows = [2.4 * 1.1**i for i in range(40)]
    assert found(record(losses=grows))["loss_diverging"].severity == "error"
    falls_then_grows = [*np.linspace(2.4, 1.0, 50), *[1.0 * 1.05**i for i in range(40)]]
    assert found(record(losses=falls_then_grows))["loss_diverging"].severity in ("warning", "error")


def test_growth_below_the_start_is_no_divergence() -> None:
    cyclic = [2.4, *(0.2 + 0.9 * abs(math.sin(i / 20)) for i in range(300))]
    assert "loss_diverging" not in found(record(losses=cyclic))
    late_noise = [2.4, 1.0, *np.full(50, 1e-4), *np.full(20, 2e-3)]
    assert "loss_diverging" not in found(record(losses=late_noise))


def test_one_jump_far_above_everything() -> None:
    jumps = [*np.linspace(2.4, 0.2, 150), 40.0, 0.9, 0.7, 0.5, *np.full(30, 0.2)]
    seen = found(record(losses=jumps))["loss_spike"]
    assert seen.step == 150
    assert seen.evidence["ratio"] > 100


def test_noise_of_small_batches_is_no_spike() -> None:
    random = np.random.default_rng(0)
    heavy = np.concatenate([np.linspace(2.4, 0.2, 100), 0.2 * random.pareto(1.5, 400)])
    assert "loss_spike" not in found(record(losses=heavy, batch_size=1))
    assert "loss_spike" not in found(record(losses=FALLING))


def hot(ratio: float, count: int = 6) -> list:
    return [step(i, [kernel("0.kernel", update=ratio), kernel("1.kernel", update=ratio)]) for i in range(count)]


def test_growth_after_large_steps_is_the_rate() -> None:
    grows = [2.4 * 1.3**i for i in range(20)]
    made = record(losses=grows, steps=hot(0.4))
    seen = found(made)["learning_rate_too_high"]
    assert seen.severity == "error"
    assert "Try 0.0001" in seen.message
    assert "learning_rate_too_high" not in found(record(losses=grows, steps=hot(0.001)))


def test_a_broken_operation_is_not_blamed_on_the_rate() -> None:
    origin = {
        "step": 2, "epoch": 0, "pass": "forward", "layer": "1", "operation": "log", "rows": [], "nan": 1,
        "infinite": 0, "largest": 0.5,
    }
    made = record(losses=[2.4, 2.3, 2.2, math.nan], steps=hot(0.2), probes={"origin": origin})
    assert "learning_rate_too_high" not in codes(made)
