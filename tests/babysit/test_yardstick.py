"""What cheap models reach on the same rows, and what rules make of a run that ends above or below it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from records import kernel, record, step
from small_tasks import check, loud, network
from test_rules_data import ask

import deepbabysit as db
from deepbabysit.babysit.facts import label_facts
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.rules.capacity import too_small
from deepbabysit.babysit.rules.reach import reach
from deepbabysit.babysit.rules.rule import RULES
from deepbabysit.babysit.settling import BOTTLENECK, settle
from deepbabysit.babysit.shortfall import shortfall
from deepbabysit.babysit.vitals import EpochVitals, LayerFacts, Record
from deepbabysit.babysit.yardstick import CENTERS, Yardstick, measure

RINGS = np.random.default_rng(3)


def rings(rows: int, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Two circles, one in the other: no line parts them."""
    y = np.arange(rows) % 2
    angle, radius = RINGS.uniform(0, 2 * np.pi, rows), 1.0 + y + RINGS.normal(0, noise, rows)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), y


X, Y = rings(400)
XV, YV = rings(120)


def known(y: np.ndarray = Y, x: np.ndarray = X, xv: np.ndarray = XV, yv: np.ndarray = YV) -> Yardstick:
    found = measure([x], y, [xv], yv, label_facts(y))
    assert found is not None
    return found


# -- the yardstick itself ----------------------------------------------------------------------------------------------


def test_a_kernel_model_sees_what_a_line_does_not() -> None:
    found = known()
    assert found.curved > 0.97 and found.own_curved > 0.97 and found.linear < 0.7
    assert found.best == found.curved and found.doubted == found.held_doubted == 0.0
    assert found.loss is not None and found.loss < 0.15
    assert found.guess == 0.5


def test_rows_left_out_of_their_own_fit_are_those_of_fits_without_them() -> None:
    x, y = X[:60], X[:60, :1] ** 2 + 0.1 * RINGS.normal(size=(60, 1)).astype(np.float32)
    assert len(x) < CENTERS
    found = measure([x], y, [XV], XV[:, :1] ** 2, label_facts(y))
    assert found is not None and found.kind == "numbers"
    # noise that nobody can know is not learned by heart: its share of the variance is left
    noise = 0.01 / float(y.var())
    assert 0.6 * noise < 1.0 - found.own_curved < 2.5 * noise
    assert found.spread == pytest.approx(float((XV[:, 0] ** 2).var()), rel=1e-5)


def test_labels_in_another_order_are_not_known_and_wrong_ones_are_doubted() -> None:
    nothing = known(RINGS.permutation(Y))
    assert nothing.own < 0.62 and nothing.best < 0.65
    some = Y.copy()
    some[:180] = RINGS.permutation(some[:180])
    half = known(some)
    assert half.doubted is not None and 0.1 < half.doubted < 0.45 and half.held_doubted == 0.0


def test_rows_that_are_not_finite_and_one_hot_targets_change_nothing() -> None:
    x = np.r_[X, np.full((3, 2), np.nan, np.float32)]
    y = np.r_[Y, [0, 1, 0]]
    assert replace(known(y, x), of=400) == known()
    rows = np.eye(2, dtype=np.float32)
    assert known(rows[Y], yv=rows[YV]).curved == known().curved


def test_too_few_rows_and_several_targets_are_not_measured() -> None:
    assert measure([X[:30]], Y[:30], [XV], YV, label_facts(Y[:30])) is None
    assert measure([X], Y, [XV[:10]], YV[:10], label_facts(Y)) is None
    assert measure([X], X, [XV], XV, label_facts(X)) is None


# -- a run beside it ---------------------------------------------------------------------------------------------------

GOOD = Yardstick("classes", 400, 200, 0.5, 0.6, 0.95, 0.6, 0.95, 0.0, 0.0, 0.15)


def end(accuracy: float, loss: float = 0.3, train: float | None = None, **more: Any) -> Record:
    """A run of six epochs that ends so, with a yardstick of 95 % right."""
    train = accuracy if train is None else train
    curves = {
        "loss": [2.2, 1.9, 1.8, 1.8, 1.8, 1.8], "val_loss": [2.2, *[loss] * 5], "accuracy": [0.1, *[train] * 5],
        "val_accuracy": [0.1, *[accuracy] * 5],
    }
    probes = {"yardstick": more.pop("known", GOOD)}
    return record({**curves, **more.pop("curves", {})}, probes=probes, **more)


def test_how_far_a_run_came() -> None:
    far = reach(end(0.6))
    assert far is not None and far.short and not far.met and far.gap == pytest.approx(0.35) and far.errors > 6
    as_good = reach(end(0.94))
    assert as_good is not None and as_good.met and not as_good.short
    dear = reach(end(0.94, loss=1.2))  # right, but far less sure than a cheap model
    assert dear is not None and not dear.met and dear.short
    unsure = reach(end(0.85, known=replace(GOOD, held_rows=24)))  # 24 rows tell nothing
    assert unsure is not None and unsure.met
    assert reach(record({"val_accuracy": [0.9]})) is None


def test_cheap_models_of_few_rows_of_many_or_of_images_prove_nothing() -> None:
    run = end(0.94)
    for weaker in (
        replace(GOOD, curved=0.90, of=10_000),  # with all of them they would reach 98 %
        replace(GOOD, own_guess=0.9),  # they learned next to nothing
        replace(GOOD, curved=0.8, wide=True),
    ):
        run.probes["yardstick"] = weaker
        assert not reach(run).met and not reach(run).short  # type: ignore[union-attr]
    run.probes["yardstick"] = replace(GOOD, wide=True)
    assert reach(run).met  # type: ignore[union-attr]


def test_of_numbers_the_variance_that_is_explained_counts() -> None:
    numbers = Yardstick("numbers", 400, 200, 0.0, 0.5, 0.9, 0.5, 0.9, spread=2.0)
    run = {"loss": "mse", "task": "regression", "chance": 2.0}
    made = record({"loss": [2.0, 1.0], "val_loss": [2.0, 1.0]}, probes={"yardstick": numbers}, **run)
    found = reach(made)
    assert found is not None and found.score == 0.5 and found.short
    made.probes["yardstick"] = replace(numbers, curved=0.51)
    assert reach(made).met  # type: ignore[union-attr]
    lost = record({"loss": [2.0, float("nan")], "val_loss": [2.0, float("nan")]}, probes={"yardstick": numbers}, **run)
    assert reach(lost).short  # type: ignore[union-attr]


# -- what becomes of findings ------------------------------------------------------------------------------------------


def warned(code: str, severity: Any = "warning", **evidence: Any) -> dict[str, Finding]:
    return {code: Finding(code, severity, 0.8, "Seen: 3 (limit 2).", evidence)}


def test_a_run_as_good_as_cheap_models_was_held_up_by_nothing() -> None:
    for code in ("bad_init_scale", "learning_rate_too_high", "missing_hidden_activation"):
        assert settle(end(0.94), warned(code))[code].severity == "note"
        short = settle(end(0.6), warned(code))[code]
        assert short.severity == "warning" and short.confidence > 0.8
    assert settle(end(0.94), warned("double_softmax", "error"))["double_softmax"].severity == "error"
    spoilt = {**warned("bad_init_scale"), **warned("class_imbalance")}  # the cheap models had the same rows
    assert settle(end(0.94), spoilt)["bad_init_scale"].severity == "warning"


def test_what_passed_is_a_note_unless_what_it_left_behind_is_there() -> None:
    calm = end(0.88, steps=[step(n, [kernel("0.kernel")]) for n in range(20)])
    healed = settle(calm, warned("not_learning"))["not_learning"]
    assert healed.severity == "note" and "no longer so" in healed.message
    both = settle(calm, {**warned("learning_rate_too_high"), **warned("weights_diverging")})
    assert both["learning_rate_too_high"].severity == "warning"


def test_what_was_only_noted_speaks_where_the_run_fell_short() -> None:
    assert settle(end(0.6), warned("wrong_loss_for_output", "note"))["wrong_loss_for_output"].severity == "warning"
    assert settle(end(0.94), warned("wrong_loss_for_output", "note"))["wrong_loss_for_output"].severity == "note"


def test_a_shortfall_that_nobody_explained_is_told() -> None:
    assert shortfall(end(0.94)) is None
    steps = [step(n, [kernel("0.kernel", update=1e-3)]) for n in range(8)]
    cases = {
        "overfitting": end(0.6, train=0.99, steps=steps),
        "underfitting": end(0.6, steps=steps, losses=[1.8] * 180),
        "learning_rate_too_high": end(
            0.6, steps=[step(n, [kernel("0.kernel", update=0.1)]) for n in range(8)], losses=[1.8] * 180),
        "stopped_too_early": end(0.6, steps=steps, losses=np.linspace(3, 1, 180), curves={
            "loss": [2.8, 2.4, 2.0, 1.7, 1.4, 1.1]}),
        "learning_rate_too_low": end(
            0.6, steps=[step(n, [kernel("0.kernel", update=1e-4)]) for n in range(8)],
            losses=np.linspace(3, 1, 180), curves={"loss": [2.8, 2.4, 2.0, 1.7, 1.4, 1.1]}),
    }
    for code, made in cases.items():
        said = shortfall(made)
        assert said is not None and said.code == code and "95%" in said.message
        assert settle(made, {})[code].message == said.message
    silent = settle(cases["underfitting"], warned("dead_relu"))
    assert set(silent) == {"dead_relu"}  # there is a cause


def test_a_bottleneck_and_a_model_without_a_bend_are_too_small() -> None:
    def layers(*widths: int) -> list[LayerFacts]:
        sizes = [20, *widths]
        return [
            LayerFacts(str(n), "Dense", "softmax" if n == len(widths) - 1 else "relu", units, inputs)
            for n, (inputs, units) in enumerate(zip(sizes, widths, strict=False))
        ]

    class Limits:
        units, few, curved, near, gap, errors, dear, falling = 2, 4, 0.1, 0.1, 0.05, 1.5, 0.12, 0.02

    one = too_small(end(0.6, layers=layers(16, 1, 10)), Limits)
    assert one is not None and one.layer == "1" and one.evidence["too_small"]
    assert too_small(end(0.6, layers=layers(16, 16, 10)), Limits) is None
    assert too_small(end(0.94, layers=layers(16, 1, 10)), Limits) is None
    line = too_small(end(0.6, layers=layers(10)), Limits)
    assert line is not None and "no hidden layer" in line.message
    assert too_small(end(0.6, layers=layers(10), known=replace(GOOD, linear=0.93)), Limits) is None
    lines = replace(GOOD, linear=0.93)
    still = [2.0] * 6
    for width, curves, known_as, small in (
        (4, still, GOOD, True), (4, [2.0 * 0.8**n for n in range(6)], GOOD, False), (4, still, lines, False),
        (6, still, GOOD, False), (3, [2.0 * 0.8**n for n in range(6)], GOOD, True),
    ):
        made = end(0.6, layers=layers(width, 3), known=known_as, curves={"loss": curves})
        assert (too_small(made, Limits) is not None) is small, (width, curves)
    few = end(0.6, layers=layers(4, 3), known=lines)
    few.data = type("Facts", (), {"features": 300, "association": None, "labels": None})()
    few.model = replace(few.model, parameters=100)
    said = too_small(few, Limits)
    assert said is not None and "fewer than the 903 of a linear model" in said.message
    few.model = replace(few.model, parameters=1000)
    assert too_small(few, Limits) is None
    pooling = [LayerFacts("p", "GlobalAvgPool2D", None, 3), *layers(16, 10)]
    few = end(0.6, layers=pooling)
    few.data = type("Facts", (), {"features": 300, "association": None, "labels": None})()
    few.model = replace(few.model, parameters=10_000)
    said = too_small(few, Limits)
    assert said is not None and said.layer == "p" and "3 numbers of the 300" in said.message
    few.model = replace(few.model, layers=(replace(pooling[0], settings={"positions": 16}), *pooling[1:]))
    assert too_small(few, Limits) is None
    settled = settle(end(0.6, layers=layers(16, 1, 10)), warned("not_learning", "error"))
    assert settled["not_learning"].severity == "note"
    wide = settle(end(0.6, layers=layers(16, 16, 10)), warned("not_learning", "error"))
    assert wide["not_learning"].severity == "error"
    registered = next(r for r in RULES if r.judge is too_small)
    assert {n: getattr(Limits, n) for n in registered.limits} == dict(registered.limits)


def test_linear_layers_are_only_noted_where_a_line_is_enough() -> None:
    straight = (X[:, 0] > 0).astype(np.int64), (XV[:, 0] > 0).astype(np.int64)
    model = network(2, "multiclass", 2, activation=None)
    for (y, yv), severity in ((straight, "note"), ((Y, YV), "warning")):
        found = {f.code: f.severity for f in check(model, X, y, (XV, yv))}
        assert found["missing_hidden_activation"] == severity


# -- labels ------------------------------------------------------------------------------------------------------------


def labelled(**changes: Any) -> Record:
    made = record(probes={"yardstick": replace(GOOD, **changes)})
    made.data = check(network(2, "multiclass", 2), X, Y, (XV, YV)).record.data
    return made


def test_training_labels_that_contradict_the_inputs() -> None:
    (found,) = ask("corrupted_labels", labelled(doubted=0.45, own_curved=0.5))
    assert found.evidence["doubted"] == 0.45 and "45 %" in found.message
    assert not ask("corrupted_labels", labelled())
    hard = {"own_linear": 0.6, "own_curved": 0.65, "linear": 0.6, "curved": 0.66}
    assert not ask("corrupted_labels", labelled(doubted=0.2, held_doubted=0.2, **hard))  # surest where it is right
    assert not ask("corrupted_labels", labelled(doubted=0.45))  # known as well as those of the other part


def test_labels_that_are_wrong_where_inputs_are_clear_were_guessed() -> None:
    guessed = {"own_linear": 0.6, "own_curved": 0.7, "linear": 0.6, "curved": 0.72}
    assert ask("corrupted_labels", labelled(doubted=0.28, held_doubted=0.27, **guessed))
    assert not ask("corrupted_labels", labelled(doubted=0.16, held_doubted=0.17, **guessed))  # overlapping classes
    unknown = {"own_linear": 0.5, "own_curved": 0.55, "linear": 0.5, "curved": 0.55, "own_guess": 0.5}
    assert not ask("corrupted_labels", labelled(doubted=0.44, held_doubted=0.44, **unknown))  # nothing is known


def test_a_class_whose_rows_have_the_name_of_another_everywhere_and_classes_that_overlap() -> None:
    rng = np.random.default_rng(5)
    places, true = rng.normal(size=(900, 2)), rng.integers(0, 3, 900)
    centers = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    renamed = np.where((true == 1) & (rng.uniform(size=900) < 0.6), 2, true)
    for apart, y, codes in ((1.0, renamed, 1), (1.0, true, 0), (0.25, true, 0)):
        x = (places + apart * centers[true]).astype(np.float32)
        model = network(2, "multiclass", 3)
        found = check(model, x[:600], y[:600], (x[600:], y[600:]))
        said = [f for f in found if f.code == "corrupted_labels" and f.severity == "warning"]
        assert len(said) == codes
        if codes:
            assert (said[0].evidence["class"], said[0].evidence["other"]) == (1, 2)


def test_training_numbers_that_are_known_less_than_validation_numbers() -> None:
    numbers = {"kind": "numbers", "doubted": None, "held_doubted": None, "loss": None, "linear": 0.0, "own_linear": 0.0}
    assert not ask("corrupted_labels", labelled(**numbers, curved=0.6, own_curved=0.55))
    assert ask("corrupted_labels", labelled(**numbers, curved=0.6, own_curved=0.1))
    assert ask("corrupted_labels", labelled(**numbers, curved=0.02, own_curved=0.03))


def test_shuffled_labels_are_found_in_a_check_and_noise_of_both_parts_is_not() -> None:
    some = Y.copy()
    some[:280] = np.random.default_rng(1).permutation(some[:280])
    assert "corrupted_labels" in loud(check(network(2, "multiclass", 2), X, some, (XV, YV)))
    wide, labels = rings(400, 0.5)  # circles that overlap
    held, theirs = rings(120, 0.5)
    assert "corrupted_labels" not in loud(check(network(2, "multiclass", 2), wide, labels, (held, theirs)))


# -- losses that are no squares; rows learned by heart; batches --------------------------------------------------------


def test_any_loss_of_numbers_is_judged_like_a_square() -> None:
    y, yv = ((x[:, :1] ** 2 + x[:, 1:]).astype(np.float32) for x in (X, XV))
    scores = {}
    for loss in (db.losses.mse, db.losses.mae, db.losses.huber, db.losses.huber.with_(delta=0.2), db.losses.log_cosh):
        model = db.Sequential([db.layers.Dense(4, "relu", input_shape=2), db.layers.Dense(1)])
        model.compile("adam", loss)
        made = check(model, X, y, (XV, yv)).record
        for share in (1.0, 0.25):  # what is left of the errors of guessing
            errors = np.sqrt(share) * (yv - y.mean())
            made.epochs = [EpochVitals(0, {"loss": 1.0, "val_loss": float(loss(errors, np.zeros_like(errors)).item())})]
            stand = reach(made)
            assert stand is not None and stand.best > 0.95
            scores[str(loss), share] = stand.score
        assert made.run.chance == pytest.approx(float(loss(y - y.mean(), np.zeros_like(y)).item()), rel=1e-3)
    for (_, share), score in scores.items():
        assert score == pytest.approx(1.0 - share, abs=0.05)


def test_rows_learned_by_heart_where_cheap_models_do_better() -> None:
    for score, train, count in ((0.7, 0.99, 1), (0.94, 0.99, 0), (0.7, 0.75, 0)):
        made = end(score, train=train, curves={"loss": [0.1] * 9})
        said = [f for f in ask("overfitting", made, "end") if "by heart" in f.message]
        assert len(said) == count, (score, train)
    poor = end(0.7, train=0.99, curves={"loss": [0.1] * 9})
    settled = settle(poor, {**warned("overfitting"), **warned("learning_rate_too_high")})
    assert settled["learning_rate_too_high"].severity == "note" and settled["overfitting"].severity == "warning"


def test_batch_statistics_of_few_rows_in_a_run_that_fell_behind() -> None:
    norm = LayerFacts("n", "BatchNorm", units=8)
    for score, batch, layers, count in (
        (0.7, 3, [norm], 1), (0.94, 3, [norm], 0), (0.7, 32, [norm], 0), (0.7, 3, [], 0),
        (0.7, 3, [replace(norm, settings={"positions": 64})], 0),
    ):
        assert len(ask("batchnorm_misuse", end(score, layers=layers, batch_size=batch), "end")) == count


def test_few_steps_matter_where_the_score_is_behind() -> None:
    curves = {"loss": [0.5 - 0.01 * n for n in range(12)]}
    for score, steps, epochs, count in ((0.85, 2, 12, 1), (0.94, 2, 12, 0), (0.85, 5, 6, 0)):
        made = end(score, curves={"loss": curves["loss"][:epochs]}, batch_size=480, per_epoch=steps)
        made.run = replace(made.run, epochs=epochs)
        assert len(ask("batch_too_large", made, "epoch")) == count, (score, steps)


def test_weights_that_may_only_add_are_too_little() -> None:
    def made(score: float, held: tuple[str, ...], signs: tuple[str, ...]) -> Record:
        layers = [
            LayerFacts(str(n), "Dense", "relu", 16, 20, settings={"constraint": "non_neg()"} if str(n) in held else {})
            for n in range(3)
        ]
        weights = [kernel(f"{n}.kernel") for n in range(3)]
        weights = [p._replace(weight=p.weight._replace(minimum=0.0)) if p.path[0] in signs else p for p in weights]
        return end(score, layers=layers, steps=[step(n, weights) for n in range(4)])

    every = ("0", "1", "2")
    for score, held, signs, said in (
        (0.6, every, every, True), (0.6, every[1:], every[1:], True),  # the first layer may take away
        (0.94, every, every, False),  # it learned all the same
        (0.6, every[2:], every[2:], False),  # the last one only adds up
        (0.6, every, ("0", "1"), False),  # a constraint of length: signs are free
        (0.6, (), every, False),  # nobody keeps them there
    ):
        found = BOTTLENECK.ask(made(score, held, signs))
        assert [f.code for f in found] == (["underfitting"] if said else []), (score, held, signs)
        assert not said or "non_neg" in found[0].message
