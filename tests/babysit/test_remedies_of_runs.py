"""Findings of a run can be acted upon: every remedy that can be applied gives another setup that builds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import test_remedies
from records import found, kernel, record, step, units

import deepbabysit as db
from deepbabysit.babysit.codes import CODES
from deepbabysit.babysit.facts import data_facts
from deepbabysit.babysit.setup import Setup, setup_of
from deepbabysit.babysit.vitals import LayerFacts, Record

L = db.layers
FLAT, CRAWL = {"loss": [1.5] * 5}, {"loss": [2.38, 2.37, 2.36, 2.35, 2.34]}
DOWN = [2.0 * 0.75**i for i in range(12)]
TURNED = [1.5, 1.2, 0.95, 0.8, 0.75, 0.8, 0.95, 1.15, 1.35, 1.6, 1.8, 2.0]


def moves(ratio: float, **more: Any) -> list[Any]:
    return [step(20 + i, [kernel("0.kernel", update=ratio)], epoch=i // 3, **more) for i in range(15)]


def flow(*gradients: float) -> list[Any]:
    return [step(i, [kernel(f"{n}.kernel", gradient=g) for n, g in enumerate(gradients)]) for i in range(4)]


def spiked() -> list[float]:
    return [2.0, *[0.5] * 40, 30.0, 6.0, 3.0, 1.5, *[0.5] * 40]


def collapsed() -> list[Any]:
    return [step(i, epoch=i // 3, predicted={3: 31, 1: 1}, actual=dict.fromkeys(range(4), 8)) for i in range(12)]


def pulled() -> list[Any]:
    return [step(i, [kernel("0.kernel", gradient=0.5, penalty=0.8)], epoch=4) for i in range(4)]


def noisy(noise: float) -> list[Any]:
    return [step(i, [kernel("0.kernel", update=0.01)], epoch=4, noise=noise) for i in range(8)]


def ordered() -> Record:
    labels = np.repeat(np.arange(3), 100)
    made = record()
    made.data = data_facts([np.random.default_rng(0).standard_normal((300, 6))], labels)
    made.run = replace(made.run, shuffled=False, batch_size=32)
    return made


LOSSES = [1.5] * 60
POOR = {"loss": [1.5, 1.4, 1.39, 1.385, 1.384, 1.384], "val_loss": [1.5, 1.45, 1.42, 1.41, 1.41, 1.41]}
UNFINISHED = [2.2, 2.0, 1.8, 1.6, 1.4]
RUNS: dict[str, Callable[[], Record]] = {
    "nan_loss": lambda: record(losses=[2.4, 2.0, math.nan]),
    "nan_in_layer": lambda: record(losses=[2.4, math.nan], probes={"origin": {
        "pass": "forward", "layer": "0", "operation": "linear", "rows": [3], "nan": 1, "infinite": 0, "largest": 1e30,
        "step": 1, "epoch": 0}}),
    "loss_diverging": lambda: record(losses=[*[2.4] * 5, *[1.0] * 10, *[20.0] * 20]),
    "loss_spike": lambda: record({"loss": [0.5]}, losses=spiked()),
    "vanishing_gradient": lambda: record(losses=LOSSES, steps=flow(1e-7, 1e-5, 1e-3, 0.1)),
    "exploding_gradient": lambda: record(losses=LOSSES, steps=flow(500.0, 50.0, 1.0)),
    "dead_relu": lambda: record(losses=LOSSES, steps=[step(9, layers=[units("0", dead=6), units("1", dead=10)])]),
    "saturated_activation": lambda: record(
        losses=LOSSES, steps=[step(i, layers=[units("0", saturated=0.8), units("1")]) for i in range(3)]),
    "update_too_large": lambda: record(FLAT, moves(0.3)),
    "update_too_small": lambda: record(CRAWL, moves(1e-6)),
    "learning_rate_too_high": lambda: record(FLAT, moves(0.06)),
    "learning_rate_too_low": lambda: record(CRAWL, moves(1e-5), rate=1e-6),
    "not_learning": lambda: record({"loss": [2.31, 2.30] * 5}, start=2.31),
    "oscillating_loss": lambda: record({"loss": [1.5, 0.9, 1.6, 0.8, 1.5, 0.9, 1.6, 0.9, 1.5, 0.8]}),
    "unchanged_weights": lambda: record(
        FLAT, [step(i, [kernel("0.kernel", gradient=1e-9, update=0.0)]) for i in range(3)]),
    "dead_weights": lambda: record(
        FLAT, [step(0, [kernel("0.kernel", std=0.1)]), step(9, [kernel("0.kernel", std=0.001)])], l1=0.01),
    "weights_diverging": lambda: record(
        FLAT, [step(i, [kernel("0.kernel", weight=1.6**i)], epoch=i // 3) for i in range(9)]),
    "overfitting": lambda: record({"loss": DOWN, "val_loss": TURNED}),
    "overtraining": lambda: record({"loss": DOWN, "val_loss": TURNED}),
    "underfitting": lambda: record(POOR),
    "stopped_too_early": lambda: record({"loss": UNFINISHED, "val_loss": UNFINISHED}),
    "regularization_too_strong": lambda: record({"loss": [5.0] * 5, "data_loss": [1.0] * 5}, pulled(), l1=0.01),
    "regularization_missing": lambda: record(
        {"loss": [2.0 * 0.3**i for i in range(8)], "val_loss": [1.5, 1.3, 1.25, 1.3, 1.4, 1.5, 1.6, 1.7]}),
    "dropout_too_high": lambda: record(
        {"loss": [2.4, 2.2, 2.1, 2.1], "val_loss": [1.8, 1.5, 1.3, 1.2]}, dropout=0.9),
    "batch_too_small": lambda: record({"loss": [1.2, 1.1, 1.1, 1.1, 1.1]}, noisy(5000.0), batch_size=2),
    "batch_too_large": lambda: record({"loss": [2.3, 2.2, 2.1, 2.0]}, noisy(50.0), losses=[2.3, 2.2, 2.1, 2.0],
                                      batch_size=960, per_epoch=1, epochs=4),
    "wrong_optimizer": lambda: record(
        {"loss": DOWN}, probes={"other_optimizer": {"name": "Adam", "own": 1.2, "other": 0.3}}),
    "no_better_than_baseline": lambda: record({"loss": [2.31, 2.30] * 5}, start=2.31),
    "class_collapse": lambda: record({"loss": [1.4] * 4}, collapsed(), start=1.4),
    "suspicious_validation": lambda: record(
        {"loss": [1.5, 1.2, 1.0, 0.95, 0.93, 0.92, 0.91, 0.91, 0.9], "val_loss": [0.3] * 9}),
    "unshuffled_rows": ordered,
    "batchnorm_misuse": lambda: record(
        {"loss": [0.7**i for i in range(5)], "val_loss": [3.0, 3.1, 3.2, 3.1, 3.0]}, losses=[1.0] * 100,
        layers=[LayerFacts("1", "BatchNorm", settings={"momentum": 0.99})]),
}
# somebody's code, data that nobody here can put right, or the machine
BY_HAND = {
    "conflicting_labels", "output_ignores_input", "batch_leak", "mode_bug", "missing_zero_grad", "wrong_gradient",
    "slow_input", "memory_growth", "loss_reduction_sum",
}


def setup(norm: bool) -> Setup:
    """A training with something of everything that can be changed."""
    middle = L.BatchNorm() if norm else L.Dense(16, "tanh")
    model = db.Sequential([
        L.Dense(16, "sigmoid", kernel_regularizer=db.regularizers.l1(0.01), input_shape=6), middle, L.Dropout(0.9),
        L.Dense(3, "softmax"),
    ])
    model.compile(db.optimizers.SGD(0.0123), "sparse_categorical_crossentropy", ["accuracy"])
    return setup_of(model, epochs=3, batch_size=256, shuffle=False)


@pytest.mark.parametrize("code", RUNS)
def test_remedies_of_a_run_change_its_setup(code: str) -> None:
    seen = found(RUNS[code](), *(["check"] if code == "unshuffled_rows" else []))[code]
    before = setup(norm=code == "batchnorm_misuse")
    able = [remedy for remedy in seen.remedies if remedy.apply is not None]
    assert able
    refused = 0
    for remedy in able:
        assert remedy.apply is not None
        try:
            after = remedy.apply(before)
        except ValueError:
            refused += 1  # dropout that is stronger already
            continue
        assert after != before
        assert Setup.from_dict(json.loads(json.dumps(after.as_dict())), db.Model).as_dict() == after.as_dict()
        assert after.build(0).compiled
    assert refused < len(able)


def test_every_code_can_be_mended_or_is_left_to_people() -> None:
    checked = {code for _, _, code in test_remedies.CASES.values()}
    assert set(CODES) == checked | set(RUNS) | BY_HAND
    assert not BY_HAND & (checked | set(RUNS))
