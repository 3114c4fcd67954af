"""Watching hand-written loops: gradients that stay, graphs that are kept, wrong modes, silence where all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import deepbabysit as db

X = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def network(dropout: float = 0.0) -> Any:
    db.set_seed(0)
    middle = [db.layers.Dropout(dropout)] if dropout else []
    return db.Sequential([
        db.layers.Dense(16, activation="relu", input_shape=6), *middle, db.layers.Dense(2),
    ])


def loop(
    model: Any, steps: int = 40, zero: bool = True, keep: Callable[[Any], None] | None = None,
    training: bool = True, watched: bool = True, clear_after: bool = False,
) -> tuple[Any, list[str]]:
    said: list[str] = []
    db.set_seed(1)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    sitter = db.babysit.watch(model, optimizer, say=said.append, every=1)

    def run() -> None:
        for _ in range(steps):
            if zero and not clear_after:
                optimizer.zero_grad()
            if training:
                with db.training():
                    loss = db.losses.cross_entropy(Y, model(X))
            else:
                loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            optimizer.step()
            if clear_after:
                optimizer.zero_grad()
            if keep is not None:
                keep(loss)
            if watched:
                sitter.step(loss)

    if watched:
        with sitter:
            run()
    else:
        run()
    return sitter, said


def codes(sitter: Any) -> list[str]:
    return [finding.code for finding in sitter.findings]


@pytest.mark.parametrize("clear_after", [False, True])
def test_a_healthy_loop_is_silent(clear_after: bool) -> None:
    sitter, said = loop(network(0.2), clear_after=clear_after)
    assert codes(sitter) == []
    assert said == []
    assert len(sitter.record.losses) == 40
    assert sitter.record.steps[5].parameters["0.kernel"].gradient.norm > 0


def test_watching_changes_no_bit() -> None:
    models = [network(0.2), network(0.2)]
    for model, watched in zip(models, (True, False), strict=True):
        loop(model, watched=watched)
    for mine, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_gradients_that_are_never_cleared() -> None:
    sitter, said = loop(network(), steps=10, zero=False)
    assert codes(sitter)[0] == "missing_zero_grad"
    finding = sitter.findings[0]
    assert finding.severity == "error"
    assert finding.remedies[0].code == "optimizer.zero_grad()"
    assert "missing_zero_grad" in said[0]


def test_gradients_added_up_over_micro_batches_on_purpose() -> None:
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=1) as sitter:
        for _ in range(12):
            optimizer.zero_grad()
            for part in (slice(0, 32), slice(32, 64)):
                loss = db.losses.cross_entropy(Y[part], model(X[part]))
                loss.backward()
            optimizer.step(0.5)
            sitter.step(loss)
    assert codes(sitter) == []


@pytest.mark.parametrize("parts", [1, 2, 4, 0])
def test_updates_after_some_steps(parts: int) -> None:
    """Gradients are gathered over several steps: those between two updates change nothing; 0: there is no update."""
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=8) as sitter:
        for number in range(160):
            loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            if parts and number % parts == parts - 1:
                optimizer.step(1.0 / parts)
            if not parts or number % parts == parts - 1:
                optimizer.zero_grad()
            sitter.step(loss)
    assert ("unchanged_weights" in codes(sitter)) is (parts == 0)
    if parts:
        assert len(sitter.record.steps) > 10
        assert all(step.parameters["0.kernel"].update > 0 for step in sitter.record.steps)


def test_losses_kept_as_tensors() -> None:
    kept: list[Any] = []
    sitter, _ = loop(network(), steps=140, keep=kept.append)
    assert codes(sitter) == ["memory_growth"]
    assert sitter.findings[0].evidence["per_step"] > 1


def test_losses_kept_as_numbers() -> None:
    kept: list[float] = []
    sitter, _ = loop(network(), steps=140, keep=lambda loss: kept.append(loss.item()))
    assert codes(sitter) == []


def test_training_in_inference_mode() -> None:
    sitter, _ = loop(network(0.5), steps=10, training=False)
    assert codes(sitter) == ["mode_bug"]
    assert "1" in sitter.findings[0].message


def test_without_modal_layers_the_mode_does_not_matter() -> None:
    assert codes(loop(network(), steps=10, training=False)[0]) == []


def evaluated(training: bool) -> list[str]:
    model = network(0.5)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=1) as sitter:
        for _ in range(10):
            optimizer.zero_grad()
            with db.training():
                loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
            with db.no_grad():
                if training:
                    with db.training():
                        model(X)
                else:
                    model(X)
    return codes(sitter)


def test_evaluation_in_training_mode() -> None:
    assert evaluated(True) == ["mode_bug"]
    assert evaluated(False) == []


def test_a_recorded_step_is_no_missing_zero_grad() -> None:
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)

    @db.record
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = db.losses.cross_entropy(y, model(x))
        loss.backward()
        optimizer.step()
        return loss

    with db.babysit.watch(model, optimizer, say=lambda _: None) as sitter:
        for _ in range(12):
            sitter.step(step(X, Y))
    assert codes(sitter) == []


def test_epochs_of_a_loop_are_judged() -> None:
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 1e-7)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=5) as sitter:
        for _ in range(5):
            for _ in range(30):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(Y, model(X))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
            sitter.epoch()
    assert codes(sitter)[0] == "learning_rate_too_low"
    assert len(sitter.record.epochs) == 5


def test_proxies_of_things_that_are_gone_do_no_harm():
    import weakref

    from deepbabysit.babysit.watching import _alive

    class Thing:
        pass

    thing = Thing()
    proxy = weakref.proxy(thing)
    del thing
    assert _alive() >= 0
    del proxy
