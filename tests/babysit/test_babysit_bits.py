"""Watching changes no bit of a run, and what it measures is what happened."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit import sampling
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.runtime import record

RNG = np.random.default_rng(0)
X = RNG.standard_normal((90, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


def dense(**options: Any) -> Any:
    return db.Sequential([db.layers.Dense(12, activation="relu", input_shape=8, **options), db.layers.Dense(3)])


def mixed() -> Any:
    return db.Sequential([
        db.layers.Dense(12, activation="tanh", input_shape=8), db.layers.Dropout(0.3), db.layers.BatchNorm(),
        db.layers.Dense(6, activation="sigmoid"), db.layers.Dense(3, activation="softmax"),
    ])


def image() -> Any:
    return db.Sequential([
        db.layers.Reshape((4, 2, 1), input_shape=8), db.layers.Conv2D(3, 2, activation="relu"), db.layers.Flatten(),
        db.layers.Dense(3),
    ])


CASES = {
    "plain": (dense, {}, {}, {}),
    "mixed": (mixed, {}, {}, {}),
    "image": (image, {}, {}, {}),
    "clipped": (mixed, {"clip_norm": 0.1}, {}, {}),
    "penalized": (lambda: dense(kernel_regularizer="l2"), {}, {}, {}),
    "accumulated": (mixed, {}, {"accumulate": 3}, {}),
    "clipped and accumulated": (mixed, {"clip_norm": 0.1}, {"accumulate": 2}, {}),
    "averaged": (dense, {"ema": 0.9}, {}, {}),
    "eager": (mixed, {}, {}, {"replay": False}),
    "wide": (dense, {}, {}, {"precision": "float64"}),
    "validated": (mixed, {}, {"validation_split": 0.2}, {}),
}


def run(case: str, babysit: Any) -> tuple[list[np.ndarray], Any]:
    build, optimizer, fit, compile_ = CASES[case]
    db.set_seed(3)
    model = build()
    model.compile(db.optimizers.Adam(0.01, **optimizer), "cross_entropy", metrics=["accuracy"], **compile_)
    history = model.fit(X, Y, batch_size=16, epochs=4, verbose=0, seed=5, babysit=babysit, **fit)
    return model.get_weights(), history


@pytest.mark.parametrize("every", [1, 3, None])
@pytest.mark.parametrize("case", CASES)
def test_weights_and_history_are_the_same_bit_for_bit(case: str, every: int | None) -> None:
    sitter = Sitter(every=every)
    watched, seen = run(case, sitter)
    alone, unseen = run(case, False)
    assert len(sitter.record.losses) > 6
    assert sitter.record.steps
    assert not sitter.engine.failed
    for mine, other in zip(watched, alone, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert seen.history == unseen.history


@pytest.mark.parametrize("case", ["mixed", "image", "penalized"])
def test_the_check_before_the_first_step_changes_no_bit(case: str) -> None:
    sitter = Sitter(every=3, check=True)
    watched, seen = run(case, sitter)
    alone, unseen = run(case, False)
    assert len(sitter.engine.before) > 15
    assert sitter.record.data is not None
    for mine, other in zip(watched, alone, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert seen.history == unseen.history


def test_what_is_measured_is_what_happened() -> None:
    sitter = Sitter(every=1)
    db.set_seed(3)
    model = dense(kernel_regularizer=db.regularizers.l1(0.01))
    model.compile(db.optimizers.SGD(0.1), "cross_entropy")
    before = model.get_weights()
    model.fit(X[:16], Y[:16], batch_size=16, epochs=1, verbose=0, seed=5, babysit=sitter, shuffle=False)
    after = model.get_weights()
    step = sitter.record.steps[0]
    db.set_seed(3)
    twin = dense(kernel_regularizer=db.regularizers.l1(0.01))
    loss = db.losses.cross_entropy(Y[:16], twin(X[:16]))
    loss.backward()
    assert step.loss == pytest.approx(loss.item(), rel=1e-6)
    kernel = step.parameters["0.kernel"]
    gradient = dict(twin.named_parameters())["0.kernel"].grad.numpy()
    assert kernel.gradient is not None
    assert kernel.gradient.norm == pytest.approx(float(np.linalg.norm(gradient)), rel=1e-5)
    assert kernel.update == pytest.approx(float(np.linalg.norm(after[0] - before[0])), rel=1e-5)
    assert kernel.weight.std == pytest.approx(float(after[0].std()), rel=1e-4)
    assert kernel.penalty == pytest.approx(0.01 * np.sqrt(96), rel=1e-6)
    assert step.parameters["1.kernel"].penalty is None
    hidden = np.maximum(X[:16] @ before[0] + before[1], 0.0)
    units = step.layers["0"].units
    assert units is not None
    assert step.layers["0"].output.zeros == int((hidden == 0).sum())
    assert units.dead == int((hidden == 0).all(axis=0).sum())
    assert step.layers["0"].output.mean == pytest.approx(float(hidden.mean()), rel=1e-5)
    assert step.rate == pytest.approx(0.1)
    assert sum(step.predicted.values()) == 16
    assert step.actual == {int(c): int(n) for c, n in zip(*np.unique(Y[:16], return_counts=True), strict=True)}


@pytest.mark.parametrize("case", ["plain", "mixed", "image"])
def test_a_look_at_a_recorded_step_shows_what_one_at_an_eager_step_does(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "PROGRAM_CALLS", 1)
    monkeypatch.setattr(record, "PROGRAM_REPLAYS", 1)
    found = []
    for replay in (True, False):
        monkeypatch.setitem(CASES, case, (*CASES[case][:3], {"replay": replay}))
        sitter = Sitter(every=2, check=False)
        run(case, sitter)
        found.append([dataclasses.replace(step, seconds=None, waiting=None) for step in sitter.record.steps])
    assert len(found[0]) > 12
    assert repr(found[0]) == repr(found[1])  # NaN is not equal to itself


def test_of_a_large_gradient_blocks_from_everywhere_are_compared() -> None:
    small = RNG.standard_normal(1000)
    assert sampling._some(small) is small
    large = np.arange(600_000)
    some = np.asarray(sampling._some(large))
    assert some.size == large.size // 4 // 256 * 256
    assert some.mean() == pytest.approx(large.mean(), rel=0.005)


def test_the_gradient_noise_is_that_of_two_batches() -> None:
    sitter = Sitter(every=100)
    db.set_seed(3)
    model = db.Sequential([db.layers.Dense(3, input_shape=8)])
    model.compile(db.optimizers.SGD(1e-12), "cross_entropy")
    twin = db.Sequential([db.layers.Dense(3, input_shape=8)])
    model.fit(X[:80], Y[:80], batch_size=40, epochs=1, verbose=0, babysit=sitter, shuffle=False)
    twin.load_state_dict(model.state_dict())
    flat = []
    for part in (slice(0, 40), slice(40, 80)):
        for parameter in twin.parameters():
            parameter.grad = None
        db.losses.cross_entropy(Y[part], twin(X[part])).backward()
        flat.append(np.concatenate([p.grad.numpy().ravel() for p in twin.parameters()]).astype(float))
    product = flat[0] @ flat[1]
    noise = (flat[0] @ flat[0] + flat[1] @ flat[1]) / 2 - product
    step = sitter.record.steps[0]
    assert step.turn == pytest.approx(product / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1]), rel=1e-3)
    assert step.noise == pytest.approx(40 * noise / product, rel=1e-3)


def test_babysit_takes_true_stop_or_false() -> None:
    model = dense()
    model.compile("sgd", "cross_entropy")
    with pytest.raises(ValueError, match="babysit is True"):
        model.fit(X, Y, babysit="loud", verbose=0)
    history = model.fit(X, Y, babysit=False, verbose=0)
    assert history.findings == []
    assert "nobody watched" in history.verdict()
    assert "checks passed" in model.fit(X, Y, verbose=0).verdict()
