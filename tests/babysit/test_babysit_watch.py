"""Watching hand-written loops: gradients that stay, graphs that are kept, wrong modes, silence where all is well."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
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


def cleared(how: str) -> Any:
    """Return the watch of a loop that clears its gradients in some way."""
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    head = db.optimizers.SGD(model.layers[-1].parameters(), 0.05)
    optimizer.bind(model.parameters())
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=4) as sitter:
        for number in range(24):
            if how == "head":
                head.zero_grad()
            elif how == "second" and number % 2 == 0 or how == "skipped once" and number != 7:
                optimizer.zero_grad()
            elif how == "by hand":
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.grad.data[...] = 0.0
            loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
    return sitter


@pytest.mark.parametrize("how", ["head", "second"])
def test_gradients_that_are_cleared_in_part(how: str) -> None:
    finding = cleared(how).findings[0]
    assert finding.code == "missing_zero_grad"
    assert finding.evidence["names"] == ["0.kernel", "0.bias", *(["1.kernel", "1.bias"] if how == "second" else [])]
    assert ("2 of 4 tensors" in finding.message) is (how == "head")


@pytest.mark.parametrize("how", ["by hand", "skipped once"])
def test_gradients_that_are_cleared_in_another_way(how: str) -> None:
    assert "missing_zero_grad" not in codes(cleared(how))


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


def reduced(reduce: Callable[[Any], Any], rate: float, batch: int = 32) -> Any:
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), rate)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=4) as sitter:
        for number in range(12):
            optimizer.zero_grad()
            rows = slice(number % 2 * batch, number % 2 * batch + batch)
            loss = reduce((db.ops.softmax(model(X[rows]), axis=-1) - np.eye(2, dtype=np.float32)[Y[rows]]) ** 2)
            loss.backward()
            optimizer.step()
            sitter.step(loss)
    return sitter


@pytest.mark.parametrize("reduce", [
    lambda e: e.sum(), lambda e: e.sum(axis=-1).mean() * 32.0, lambda e: sum([e[i : i + 1].sum() for i in range(32)]),
], ids=["sum", "times", "one by one"])
def test_a_sum_with_the_rate_of_a_mean(reduce: Callable[[Any], Any]) -> None:
    finding = reduced(reduce, 0.1).findings[0]
    assert (finding.code, finding.severity) == ("loss_reduction_sum", "warning")
    assert finding.evidence["factor"] == pytest.approx(1.0)
    assert finding.evidence["rows"] == 32


@pytest.mark.parametrize(
    "reduce", [lambda e: e.mean(), lambda e: e.sum() / 64.0, lambda e: e.sum(axis=-1).mean(), lambda e: e.mean() * 4.0,
     lambda e: sum([e[i : i + 1].sum() for i in range(32)]) / 32.0],
    ids=["mean", "divided", "rows", "weighted", "one by one"],
)
def test_means_in_other_words(reduce: Callable[[Any], Any]) -> None:
    sitter = reduced(reduce, 0.1)
    assert "loss_reduction_sum" not in codes(sitter)
    assert sitter.record.probes["reduction"]["factor"] < 0.1


def test_a_sum_with_the_rate_of_a_sum_is_only_noted() -> None:
    assert [f.severity for f in reduced(lambda e: e.sum(), 0.1 / 32).findings] == ["note"]


class Leaky(db.Function):
    """A leaky rectifier; `right`: whether its backward knows of the slope."""

    def __init__(self, right: bool) -> None:
        self.right = right

    def forward(self, x: Any) -> Any:
        self.save(x)
        return db.ops.where(x > 0.0, x, x * 0.1)

    def backward(self, gradient: Any) -> Any:
        (x,) = self.saved
        return db.ops.where(x > 0.0, gradient, gradient * (0.1 if self.right else 1.0))


OF_LAYERS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "wrong backward": (lambda x: Leaky(False)(x), ["wrong_gradient"]),
    "right backward": (lambda x: Leaky(True)(x), []),
    "mean of the batch": (lambda x: x - x.mean(axis=0, keepdims=True), ["batch_leak"]),
    "mean of the row": (lambda x: x - x.mean(axis=-1, keepdims=True), []),
    "nothing": (lambda x: x * 0.0, ["output_ignores_input"]),
    "logarithm": (lambda x: db.ops.log(db.ops.relu(x)), ["nan_in_layer", "nan_loss"]),
}


@pytest.mark.parametrize("case", OF_LAYERS)
def test_layers_of_a_loop_are_tried_out(case: str) -> None:
    function, expected = OF_LAYERS[case]
    db.set_seed(0)
    model = db.Sequential([
        db.layers.Dense(16, input_shape=6), db.layers.Lambda(function), db.layers.Dense(8, "tanh"), db.layers.Dense(2)])
    before = [np.array(w) for w in model.get_weights()]
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with np.errstate(all="ignore"), db.babysit.watch(model, optimizer, say=lambda _: None, every=8) as sitter:
        for _ in range(6):
            optimizer.zero_grad()
            loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
    assert codes(sitter)[: max(len(expected), 1)] == expected
    assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    if case == "logarithm":
        finding = sitter.findings[0]
        assert finding.evidence["operation"] == "log" and finding.layer == "1" and finding.step == 0


LOSSES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "softmax twice": (lambda p: db.losses.cross_entropy(Y, db.ops.softmax(p, axis=-1)), ["double_softmax"]),
    "probabilities": (
        lambda p: db.losses.get("sparse_categorical_crossentropy")(Y, db.ops.softmax(p, axis=-1)), []),
    "rows against rows": (lambda p: ((p[:, :1] - Y.astype(np.float32)) ** 2).mean(), ["loss_shape_mismatch"]),
    "columns": (lambda p: ((p[:, :1] - Y.astype(np.float32)[:, None]) ** 2).mean(), []),
    "every pair": (lambda p: db.ops.exp(p[:, 0] - p[:, :1]).mean(), []),
}


def said_of(function: Callable[[Any], Any]) -> list[str]:
    """Return what is found in six steps with a loss that is a function of the outputs."""
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.01)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=8) as sitter:
        for _ in range(6):
            optimizer.zero_grad()
            loss = function(model(X))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
    return codes(sitter)


@pytest.mark.parametrize("case", LOSSES)
def test_losses_written_by_hand(case: str) -> None:
    function, expected = LOSSES[case]
    assert said_of(function) == expected


def test_probabilities_stay_probabilities_when_they_are_mixed() -> None:
    def mixed(p: Any) -> Any:
        return db.losses.cross_entropy(Y, 0.9 * db.ops.softmax(p / 2.0, axis=-1) + 0.05)

    def between(p: Any) -> Any:
        return db.losses.cross_entropy(Y, p * db.ops.softmax(p, axis=-1))  # gated logits

    assert said_of(mixed) == ["double_softmax"]
    assert said_of(between) == []


def by_two(clear: str, gathered: int = 1) -> list[str]:
    """Return what is found where two optimizers share a model, and the first one clears its gradients or does not."""
    model = network()
    first = db.optimizers.Adam(model.layers[0].parameters(), 1e-3)
    watched = db.optimizers.Adam(model.layers[-1].parameters(), 1e-3)
    with db.babysit.watch(model, watched, say=lambda _: None, every=4) as sitter:
        for number in range(24):
            watched.zero_grad()
            loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            watched.step()
            if number % gathered == gathered - 1:
                first.step(1.0 / gathered)
                if clear == "by hand":
                    for parameter in first.parameters:
                        parameter.grad.data[...] = 0.0
                elif clear:
                    first.zero_grad()
            sitter.step(loss)
    return codes(sitter)


@pytest.mark.parametrize("gathered", [1, 3])
def test_gradients_of_another_optimizer(gathered: int) -> None:
    assert by_two("", gathered) == ["missing_zero_grad"]
    assert by_two("called", gathered) == by_two("by hand", gathered) == []


def updated(how: str) -> Any:
    """Return the watch of a loop that makes its updates in some way."""
    model, kinds = network(), {"made": db.optimizers.Adam, "made without states": db.optimizers.SGD}
    optimizer = kinds.get(how, db.optimizers.Adam)(model.parameters(), 1e-3)
    kept = [np.array(w) for w in model.get_weights()]
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=4) as sitter:
        for number in range(24):
            if how.startswith("made") or (how == "restarted" and number % 10 == 9):
                optimizer = type(optimizer)(model.parameters(), 1e-3)
            for part in (slice(0, 32), slice(32, 64)) if how == "twice" else (slice(0, 64),):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(Y[part], model(X[part]))
                loss.backward()
                optimizer.step()
            if how == "used again":
                optimizer.step()
            if how == "exchanged":
                now = [np.array(w) for w in model.get_weights()]
                model.set_weights(kept)
                model.set_weights(now)
            elif how == "put back":
                model.set_weights(kept)
            sitter.step(loss)
    return sitter


@pytest.mark.parametrize(("how", "expected"), [
    ("used again", ("missing_zero_grad", "warning")), ("twice", None), ("made", ("wrong_optimizer", "warning")),
    ("made without states", ("wrong_optimizer", "note")), ("restarted", ("wrong_optimizer", "note")),
    ("put back", ("unchanged_weights", "error")), ("exchanged", None), ("plainly", None),
])
def test_updates_that_are_lost_or_made_twice(how: str, expected: tuple[str, str] | None) -> None:
    assert [(f.code, f.severity) for f in updated(how).findings] == ([expected] if expected else [])


@pytest.mark.parametrize(("how", "expected"), [("tape", ["mode_bug"]), ("inference", []), ("used", [])])
def test_rows_that_are_tried_in_training_mode(how: str, expected: list[str]) -> None:
    model = network(0.3)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=4) as sitter:
        for _ in range(10):
            optimizer.zero_grad()
            with nullcontext() if how == "inference" else db.training():
                tried = db.losses.cross_entropy(Y[:9], model(X[:9]))
            with db.training():
                loss = db.losses.cross_entropy(Y, model(X))
            (loss + tried if how == "used" else loss).backward()
            optimizer.step()
            sitter.step(loss)
    assert codes(sitter) == expected


def test_the_lines_at_which_a_loop_gets_its_batches() -> None:
    from deepbabysit.babysit.waiting import Standing

    seen: dict[str, bool] = {}
    standing = Standing({})

    def look(name: str) -> str:
        seen[name] = standing.gives(sys._getframe())
        return name

    def report() -> None:
        nonlocal standing
        standing = Standing.of(sys._getframe(1))

    def batches() -> Iterator[str]:
        for _ in range(3):
            yield look("generator")

    def step() -> None:
        look("read by the step")
        report()
        look("written by the step")

    def loop(inner: bool) -> None:
        for _ in range(2):
            look("checkpoint")
            kept = look("opened")
            for _ in batches():
                look("made in the body")
                step() if inner else report()
                look("log")
            look("log of a pass")
            while (number := len(look("condition") + kept)) < 0:
                look(str(number))

    for inner in (False, True):
        seen.clear()
        loop(inner)
        gives = [name for name, given in seen.items() if given]
        assert gives == ["opened", "generator", "made in the body", *(["read by the step"] if inner else [])]


def test_what_is_done_after_a_pass_is_no_waiting() -> None:
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)

    def run(before: float, after: float) -> dict[str, float]:
        with db.babysit.watch(model, optimizer, say=lambda _: None) as sitter:
            for _ in range(12):
                time.sleep(before)
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(Y, model(X))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
                time.sleep(after)
        return dict(sitter.record.probes["waits"])

    seen = run(0.0, 0.09)
    assert seen["waiting"] < 0.2 < seen["apart"]
    seen = run(0.09, 0.0)
    assert seen["apart"] < 0.2 < seen["waiting"]


def waits(pauses: Callable[[int], float], evaluated: float = 0.0) -> tuple[float, float]:
    """Return the seconds that a loop waited and worked, as they were seen."""
    model = network()
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with db.babysit.watch(model, optimizer, say=lambda _: None) as sitter:
        for number in range(12):
            time.sleep(pauses(number))
            optimizer.zero_grad()
            loss = db.losses.cross_entropy(Y, model(X))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
            with db.no_grad():
                time.sleep(evaluated)
                model(X)
    seen = sitter.record.probes["waits"]
    return seen["waiting"], seen["working"]


def test_waiting_for_batches_is_measured() -> None:
    waiting, _ = waits(lambda number: 0.03)
    assert waiting >= 8 * 0.03  # neither the first one nor the three longest


def test_a_slow_start_stalls_and_evaluations_are_no_waiting() -> None:
    assert waits(lambda number: 0.4 if number in (0, 6, 9) else 0.0, 0.03)[0] < 0.3


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


def test_operations_that_are_kept_are_counted_and_those_that_are_gone_are_not():
    from deepbabysit.babysit.handwork import alive

    weight = db.tensor(np.ones(3, np.float32), requires_grad=True)
    before = alive()
    kept = [weight * 2.0 + 1.0 for _ in range(10)]
    assert alive() - before == 20
    del kept
    assert alive() == before


@pytest.mark.parametrize("apart", [True, False])
def test_labels_that_do_not_belong_to_their_rows(apart: bool) -> None:
    model, rng = network(), np.random.default_rng(0)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=8) as sitter:
        for _ in range(120):
            rows, others = rng.permutation(64)[:32], rng.permutation(64)[:32]
            optimizer.zero_grad()
            loss = db.losses.cross_entropy(Y[others if apart else rows], model(X[rows]))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
    assert codes(sitter) == (["corrupted_labels"] if apart else [])
