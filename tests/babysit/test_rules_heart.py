"""Rows learned by heart, and classes that the loss asks for: which name is said first, and what looks alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from records import codes, found, record, step

import deepbabysit as db
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.facts import class_pulls, data_facts, label_facts
from deepbabysit.babysit.rules.signals import lopsided, promised
from deepbabysit.babysit.shortfall import shortfall
from deepbabysit.babysit.yardstick import Yardstick

DOWN = [2.0 * 0.7**i for i in range(16)]


def turned(by: float, right: float, at: int = 4) -> dict[str, list[float]]:
    """Curves whose validation loss is best at an epoch and rises by so much of guessing, as answers get worse."""
    later = range(16 - at)
    val = [1.1 + 0.1 * (at - i) for i in range(at)] + [1.1 + 2.3 * by * min(i / 8, 1.0) for i in later]
    answers = [0.5 + 0.05 * i for i in range(at)] + [0.7 - right * min(i / 8, 1.0) for i in later]
    return {"loss": DOWN, "val_loss": val, "accuracy": [0.72] * 16, "val_accuracy": answers}


def first(made: Any) -> str | None:
    engine = Engine(made)
    for phase in ("step", "epoch", "end"):
        engine.ask(phase)  # type: ignore[arg-type]
    loud = [f.code for f in engine.ranked() if f.severity != "note"]
    return loud[0] if loud else None


def test_going_on_that_cost_what_counts_is_overtraining() -> None:
    assert first(record(turned(0.15, 0.05))) == "overtraining"
    for by, right in ((0.07, 0.05), (0.15, 0.0)):  # little of the loss; no answers
        assert found(record(turned(by, right)))["overtraining"].severity == "note"
    assert first(record(turned(0.15, 0.05), early_stopping=True)) is None  # the best epoch was given back


def test_a_turn_late_in_the_run_is_overfitting() -> None:
    late = turned(0.3, 0.05, at=9)
    assert first(record(late, dropout=0.2)) == "overfitting"


def test_training_that_got_worse_as_well_is_not_by_heart() -> None:
    curves = {**turned(0.8, 0.2), "loss": [1.0 + 0.05 * i for i in range(16)]}
    assert not {"overtraining", "overfitting"} & codes(record(curves))


def test_of_numbers_some_of_the_variance_is_what_counts() -> None:
    def numbers(rise: float) -> Any:
        val = [0.5, 0.3, 0.1, 0.1, 0.1, *[0.1 + rise * min(i / 6, 1.0) for i in range(11)]]
        return record({"loss": [0.5 * 0.6**i for i in range(16)], "val_loss": val}, loss="mse", task="regression",
                      chance=1.0, classes=None)

    assert first(numbers(0.06)) == "overtraining"
    assert first(numbers(0.03)) is None


def test_nothing_that_regularizes_stands_before_overfitting_where_stopping_would_not_have_helped() -> None:
    train = [2.0 * 0.4**i for i in range(12)]
    curves = {"loss": train, "val_loss": [1.6, 1.5, *[1.4] * 10], "accuracy": [0.99] * 12, "val_accuracy": [0.5] * 12}
    assert first(record(curves)) == "regularization_missing"
    assert first(record(curves, dropout=0.3)) == "overfitting"


def test_training_figures_of_lopsided_weights_say_nothing() -> None:
    made = record(turned(0.6, 0.2))
    assert first(made) == "overtraining"
    y = np.arange(60) % 2
    weights = np.where(y == 0, 30.0, 1.0)
    facts = data_facts((np.arange(60.0).reshape(-1, 1),), y)
    pulls = class_pulls(facts.labels, y, weights, {})
    made.data = type("Facts", (), {"pulls": pulls})()
    assert lopsided(made) and first(made) is None


# -- what would come ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("curve", "said"), [
    ([2.0, 1.4, 1.1, 0.7, 0.4], True),  # low, and falling by as much in each epoch
    ([2.0, 1.0, 0.6, 0.5, 0.46, 0.45], False),
    ([2.3] * 6, False),
])
def test_what_as_many_epochs_again_would_bring(curve: list[float], said: bool) -> None:
    made = record({"loss": curve, "val_loss": [v + 0.01 for v in curve]})
    assert ("stopped_too_early" in codes(made, "end")) is said


def test_the_promise_is_the_smaller_one_of_both_parts() -> None:
    falling = [2.0, 1.5, 1.0, 0.5]
    assert promised(record({"loss": falling, "val_loss": falling})) == pytest.approx(0.5 * (1 - 0.5 / 1.5) / np.log(10))
    assert promised(record({"loss": falling, "val_loss": [2.0, 1.5, 1.5, 1.5]})) == 0.0
    assert promised(record({"loss": [2.0]})) is None


# -- classes -----------------------------------------------------------------------------------------------------------


def lopsided_by(counts: list[int], weights: dict[int, float] | None, in_loss: list[float] | None = None) -> Any:
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.random.default_rng(0).normal(size=(len(y), 4)).astype(np.float32)
    model = db.Sequential([db.layers.Dense(len(counts), input_shape=4)])
    loss = db.losses.cross_entropy if in_loss is None else db.losses.cross_entropy.with_(class_weight=in_loss)
    model.compile("adam", loss)
    seen = db.babysit.check(model, x, y, class_weight=weights, budget=0.1)
    return {f.code: f for f in seen}.get("class_collapse"), seen


@pytest.mark.parametrize(("counts", "weights", "said"), [
    ([60, 60, 60], {0: 1.0, 1: 40.0, 2: 1.0}, True),
    ([180, 20], {0: 9.0, 1: 1.0}, True),  # turned round
    ([180, 20], {0: 1.0, 1: 9.0}, False),  # even
    ([60, 60], {0: 1.0, 1: 5.0}, False),  # what an error costs
    ([60, 60], {0: 1.0, 1: 0.0}, True),
    ([190, 10], {0: 1.0, 1: 1.0}, False),  # uneven rows, and no more uneven by the weights
])
def test_weights_that_make_the_loss_ask_for_one_class(counts: list[int], weights: Any, said: bool) -> None:
    finding, _ = lopsided_by(counts, weights)
    assert (finding is not None) is said
    if finding is not None:
        assert finding.severity == "warning" and "limit 10" in finding.message


def test_weights_in_the_loss_count_as_well() -> None:
    finding, _ = lopsided_by([60, 60], None, [1.0, 40.0])
    assert finding is not None and finding.evidence["pulls"]["1"] == pytest.approx(40 / 41)
    finding, seen = lopsided_by([190, 10], None, [1.0, 19.0])
    assert finding is None
    assert all(f.severity == "note" for f in seen if f.code == "class_imbalance")  # they are weighed already


def test_what_each_class_counts() -> None:
    y = np.eye(3)[[0, 0, 1, 2]]
    assert class_pulls(label_facts(y), y, np.array([1.0, 1.0, 2.0, 4.0]), {}) == {0: 0.25, 1: 0.25, 2: 0.5}
    assert class_pulls(label_facts(y), y, None, {}) == {}
    assert class_pulls(label_facts(y), y, np.ones((4, 2)), {}) == {}
    numbers = np.linspace(0.0, 1.0, 50)
    assert class_pulls(label_facts(numbers), numbers, np.ones(50), {}) == {}


@pytest.mark.parametrize(("smoothing", "said"), [(0.0, False), (0.1, False), (0.3, False), (0.8, True), (1.0, True)])
def test_labels_that_are_smoothed_away(smoothing: float, said: bool) -> None:
    seen = found(record(smoothing=smoothing), "check")
    assert ("regularization_too_strong" in seen) is said
    if said:
        assert f"smoothing of {smoothing:g}" in seen["regularization_too_strong"].message


def test_a_short_run_that_got_better_in_every_epoch_was_too_short() -> None:
    slow = [2.30, 2.295, 2.29, 2.28, 2.265, 2.25]
    known = {"yardstick": Yardstick("classes", 500, 200, 0.1, 0.9, 0.9, 0.9, 0.9, loss=0.3)}
    curves = {"loss": slow, "val_loss": slow, "accuracy": [0.2] * 6, "val_accuracy": [0.2] * 6}
    for steps, said in ((100, True), (400, False)):
        losses = np.interp(np.linspace(0, 5, steps), range(6), slow)
        assert ("stopped_too_early" in codes(record(curves, losses=losses, probes=known), "end")) is said
    flat = {**curves, "val_loss": [2.30, 2.295, 2.29, 2.27, 2.28, 2.25]}
    assert "stopped_too_early" not in codes(record(flat, losses=np.linspace(2.3, 2.1, 100), probes=known), "end")


def test_many_steps_of_a_few_rows_are_noise_and_not_too_few() -> None:
    curve = [0.9, 0.95]
    known = {"yardstick": Yardstick("classes", 500, 200, 0.1, 0.9, 0.9, 0.9, 0.9, loss=0.3)}
    curves = {"loss": curve, "val_loss": curve, "accuracy": [0.7] * 2, "val_accuracy": [0.7] * 2}
    for batch, noise, code in ((2, 500.0, "batch_too_small"), (2, 10.0, "stopped_too_early"),
                               (32, 5000.0, "stopped_too_early")):
        steps = [step(i, noise=noise) for i in range(8)]
        made = record(curves, steps, losses=[0.9] * 900, probes=known, batch_size=batch)
        said = shortfall(made)
        assert said is not None and said.code == code
