"""The check itself: it changes nothing, raises only for its own arguments, and says what it could not look at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_tasks import L, check, loud, model_for, scaled

import deepbabysit as db
from deepbabysit.babysit import budget, facts, sitter
from deepbabysit.babysit import preflight as module
from deepbabysit.babysit.budget import budget_for, planned_seconds
from deepbabysit.babysit.preflight import NEEDS, preflight
from deepbabysit.babysit.reading import model_facts
from deepbabysit.babysit.rules import load
from deepbabysit.babysit.rules.rule import RULES
from deepbabysit.babysit.vitals import LayerFacts, ModelFacts, RunFacts
from deepbabysit.runtime.random import streams


def everything(model: Any) -> dict[str, np.ndarray]:
    """Return weights, states, gradients and optimizer states as they are."""
    found = dict(model.state_dict())
    for name, parameter in model.named_parameters():
        found[f"grad {name}"] = np.zeros(0) if parameter.grad is None else np.array(parameter.grad.numpy())
    for number, flat in enumerate(model.optimizer._flats):
        found[f"g {number}"] = np.array(flat.g)
        found.update({f"{number} {name}": np.array(state) for name, state in flat.states.items()})
    return found


def deep(rate: float = 0.3) -> Any:
    model = db.Sequential([
        L.Dense(24, use_bias=False, input_shape=13), L.BatchNorm(momentum=0.9), L.Activation("relu"), L.Dropout(rate),
        L.Dense(3, "softmax", kernel_regularizer=db.regularizers.l2(1e-3)),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_not_a_bit_of_the_model_changes() -> None:
    x, y, xv, yv, _ = scaled("wine")
    model = deep()
    model.fit(x, y, epochs=2, verbose=0, babysit=False)
    model.train()
    called: list[Any] = []
    model.layers[0].register_forward_hook(lambda layer, inputs, output: called.append(layer))
    homes = [(p.device, id(p.data), "slot" in (p.extra or {}), p.requires_grad) for p in model.parameters()]
    before, steps, hooks = everything(model), model.optimizer.steps, [len(layer._hooks) for _, layer in model.walk()]
    place = (streams().seed, streams().step, streams().row, dict(streams().calls), dict(streams()._made))
    inputs = x.copy(), y.copy(), xv.copy(), yv.copy()
    check(model, x, y, (xv, yv), range_test=True)
    after = everything(model)
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name], err_msg=name)
    assert model.optimizer.steps == steps and model._mode is True and not called
    assert [(p.device, id(p.data), "slot" in (p.extra or {}), p.requires_grad) for p in model.parameters()] == homes
    assert [len(layer._hooks) for _, layer in model.walk()] == hooks
    assert (streams().seed, streams().step, streams().row, dict(streams().calls), dict(streams()._made)) == place
    for given, kept in zip((x, y, xv, yv), inputs, strict=True):
        np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("built", [True, False])
def test_a_run_after_the_check_is_the_run_without_it(built: bool) -> None:
    x, y, xv, yv, _ = scaled("wine")
    losses = []
    for checked in (False, True):
        db.set_seed(11)
        first = {"input_shape": 13} if built else {}
        model = db.Sequential([L.Dense(16, "relu", **first), L.Dropout(0.3), L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        if checked:
            check(model, x, y, (xv, yv))
            assert model.built is built
        history = model.fit(x, y, epochs=3, validation_data=(xv, yv), verbose=0, babysit=False)
        losses.append((history.history["loss"], history.history["val_loss"], model.get_weights()[0].tolist()))
    assert losses[0] == losses[1]


def test_the_same_check_gives_the_same_findings() -> None:
    x, y, xv, yv, _ = scaled("wine")
    one, two = (check(deep(), x * 50, y, (xv, yv)) for _ in range(2))
    assert [f.as_dict() for f in one] == [f.as_dict() for f in two]


def test_wrong_things_are_findings_and_bad_arguments_are_errors() -> None:
    x, y, _, _, _ = scaled("wine")
    model = model_for("wine")
    with pytest.raises(TypeError, match="got list"):
        db.babysit.check([1], x, y)
    with pytest.raises(ValueError, match="budget"):
        db.babysit.check(model, x, y, budget=0)
    with pytest.raises(TypeError, match="did you mean 'validation_data'"):
        db.babysit.check(model, x, y, val_data=(x, y))
    with pytest.raises(ValueError, match="142 rows and y has 100"):
        check(model, x, y[:100])
    with pytest.raises(TypeError, match="x must hold numbers"):
        check(model, np.array([["a", "b"]]), y)
    with pytest.raises(TypeError, match="x is missing"):
        check(model, None, y)
    with pytest.raises(ValueError, match="at least one row"):
        check(model, x[:0], y[:0])
    with pytest.raises(TypeError, match="validation_data is"):
        check(model, x, y, 3)
    for bad_y in (y + 7, y.astype(np.float64) + 0.5, np.stack([y, y], axis=1), -y):
        assert check(model, x, bad_y).errors
    assert check(model, np.full_like(x, np.nan), y).errors
    assert check(model, np.zeros_like(x), y).errors


def test_a_model_that_cannot_run_is_said_and_the_data_are_looked_at_all_the_same() -> None:
    x, y, _, _, _ = scaled("wine")

    class Broken(db.Model):
        def __init__(self) -> None:
            super().__init__()
            self.a = L.Dense(3)

        def call(self, x: Any) -> Any:
            raise RuntimeError("not today")

    model = Broken()
    model.compile("adam", "cross_entropy")
    bad = x.copy()
    bad[3, 1] = np.inf
    found = check(model, bad, y)
    assert "not today" in found.failure and "not today" in str(found)
    assert found.codes == ["nan_in_data"] and "batch_leak" in found.skipped
    assert "features=13" in check(model_for("wine"), x[:, :5], y).failure


def test_every_code_of_the_check_is_asked_or_named_as_not_asked() -> None:
    load()
    codes = {code for rule in RULES if rule.phase == "check" for code in rule.codes}
    assert codes == set(NEEDS)
    x, y, xv, yv, _ = scaled("wine")
    full = check(model_for("wine"), x, y, (xv, yv))
    assert set(full.asked) | set(full.skipped) == codes
    # there is no operation with a backward of its own, and no range test
    assert set(full.skipped) == {
        "wrong_gradient", "learning_rate_too_high", "learning_rate_too_low", "unshuffled_rows",
    }
    bare = check(model_for("wine", compiled=False), x, None)
    assert {"split_leak", "class_imbalance", "underfitting", "wrong_loss_for_output"} <= set(bare.skipped)
    assert {"batch_leak", "symmetric_init", "input_not_normalized"} <= set(bare.asked)
    assert set(bare.passed) == set(bare.asked) - set(bare.codes)


def test_text_says_counts_numbers_and_what_was_not_asked() -> None:
    x, y, _, _, _ = scaled("wine")
    text = str(check(model_for("wine", kernel="zeros"), x, y))
    assert "1. error: symmetric_init in 0" in text and "limit" in text
    assert 'kernel_initializer="he_normal"' in text
    assert "not asked (there is no validation data): split_leak, split_drift" in text
    clean = check(model_for("wine"), x, y)
    assert "nothing was found" in str(clean) and "does not prove" in str(clean)
    assert max(map(len, text.splitlines())) <= 110 and text.isascii()


def test_when_the_time_is_spent_nothing_more_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, _, _, _ = scaled("wine")
    ticks = iter(range(100_000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(ticks)))
    found = db.babysit.check(model_for("wine"), x, y, budget=3.0)
    assert found.skipped["underfitting"] == found.skipped["batch_leak"] == "the time was spent"
    assert "nan_in_data" in found.asked


def test_budget_of_a_run() -> None:
    assert [budget_for(s) for s in (10.0, 3600.0, None, 0.5)] == [0.5, 2.0, 2.0, 0.025]
    short, long = RunFacts(steps=10, epochs=2, batch_size=32), RunFacts(steps=1000, epochs=50, batch_size=128)
    dense, norm = LayerFacts("0", "Dense"), LayerFacts("1", "BatchNorm")
    small, large = ModelFacts((dense,) * 3, parameters=1000), ModelFacts((dense,) * 3, parameters=500_000)
    assert planned_seconds(RunFacts(), small) is None
    assert (planned_seconds(short, small) or 0) < 0.1 < 60 < (planned_seconds(long, large, 1_000_000) or 0)
    deep = [replace(small, layers=(layer,) * 3) for layer in (dense, norm)]
    assert (planned_seconds(short, deep[0]) or 0) < (planned_seconds(short, deep[1]) or 0)
    assert (planned_seconds(long, small) or 0) < (planned_seconds(long, small, 100_000) or 0)


def test_more_threads_make_a_run_of_products_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    run, model = RunFacts(steps=100, epochs=10, batch_size=512), ModelFacts((), parameters=500_000)
    seconds = []
    for number in (1, 2):
        monkeypatch.setattr(budget.threads, "count", lambda number=number: number)
        seconds.append(planned_seconds(run, model) or 0.0)
    assert 1.8 * seconds[1] < seconds[0] < 2.0 * seconds[1]


def test_a_model_that_would_take_too_long_is_left_alone() -> None:
    x, y, _, _, _ = scaled("wine")
    model, run = model_for("wine"), RunFacts(batch_size=16, steps=9, epochs=1)
    large = replace(model_facts(model), parameters=50_000_000)
    _, found = preflight(model, x, y, None, run, 0.005, facts=large)
    assert "too short" in found.failure and found.skipped["double_softmax"] == "the model did not run"
    _, small = preflight(model, x, y, None, run, 0.005, facts=model_facts(model))
    assert not small.failure and "double_softmax" in small.asked


def test_what_would_take_longer_than_is_left_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).standard_normal((900, 30))
    labels = (rows[:, 0] > 0).astype(np.int64)
    monkeypatch.setattr(facts, "A_ROW", 1.0)
    found = facts.data_facts([rows], labels, deadline=100.0, clock=lambda: 0.0)
    assert list(found.skipped) == ["copies"] and found.association is not None and found.association.rows == 800
    found = facts.data_facts([rows], labels, deadline=0.03, clock=lambda: 0.0)
    assert found.association is not None and found.association.rows == facts.FEWER
    assert facts.data_facts([rows], labels, deadline=0.001, clock=lambda: 0.0).looked == 100


def test_preflight_fills_in_what_the_run_did_not_know() -> None:
    x, y, xv, yv, _ = scaled("wine")
    record, found = preflight(deep(), x, y, (xv, yv), RunFacts(batch_size=16, steps=9, epochs=40), 30.0)
    assert record.run.task == "multiclass" and record.run.chance == pytest.approx(np.log(3))
    assert record.run.batch_size == 16 and record.data.rows == len(x) and record.model.output_activation == "softmax"
    assert [layer.kind for layer in record.model.layers] == ["Dense", "BatchNorm", "Activation", "Dropout", "Dense"]
    assert not loud(found)


def test_loaders_sources_tensors_and_several_inputs() -> None:
    x, y, xv, yv, _ = scaled("wine")
    model = model_for("wine")
    for given in (
        (db.data.Loader(x, y, batch_size=16), None, db.data.Loader(xv, yv, batch_size=16)),
        (db.tensor(x), db.tensor(y), (db.tensor(xv), db.tensor(yv))),
        (x.tolist(), y.tolist(), (xv.tolist(), yv.tolist())),
    ):
        found = check(model, *given)
        assert not loud(found) and found.record.data.rows == len(x) and found.record.data.overlap is not None

    class Rows:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, rows: Any) -> Any:
            return x[rows], y[rows]

    assert not loud(check(model, db.data.Loader(Rows(), batch_size=16), None))
    left, right = db.Input(6, name="left"), db.Input(7, name="right")
    h = L.Concatenate()([L.Dense(16, "relu")(left), L.Dense(16, "relu")(right)])
    joined = db.Model([left, right], L.Dense(3, "softmax")(h))
    joined.compile("adam", "sparse_categorical_crossentropy")
    for both in ((x[:, :6], x[:, 6:]), {"right": x[:, 6:], "left": x[:, :6]}):
        assert not loud(check(joined, both, y))


def test_a_range_test_finds_where_a_rate_learns_and_where_it_diverges() -> None:
    x, y, _, _, _ = scaled("digits")
    model = model_for("digits")
    found = check(model, x, y, range_test=True).record.probes["range"]
    assert found.best is not None and 1e-4 < found.best < 0.3
    assert found.diverged is None or found.diverged > found.best
    assert len(found.rates) == len(found.losses) > 20
    assert check(model, x, y).record.probes.get("range") is None


@pytest.mark.parametrize(("rate", "codes"), [(1e-3, []), (20.0, ["learning_rate_too_high"]),
                                             (1e-7, ["learning_rate_too_low"])])
def test_a_rate_against_the_range_test(rate: float, codes: list[str]) -> None:
    x, y, _, _, _ = scaled("digits")
    model = model_for("digits")
    model.compile(db.optimizers.SGD(rate, momentum=0.9) if rate > 1 else db.optimizers.Adam(rate), model.loss)
    found = check(model, x, y, range_test=True)
    assert loud(found) == codes, found.record.probes["range"]


def test_labels_of_the_validation_part_are_held_against_the_output_too() -> None:
    x, y, _, _, _ = scaled("wine")
    model = db.Sequential([L.Dense(8, "relu", input_shape=13), L.Dense(3)]).compile("adam", "cross_entropy")
    right, wrong = ((x[1::2], y[1::2] + more) for more in (0, 3))
    found = db.babysit.check(model, x[::2], y[::2], validation_data=wrong)
    assert found.codes[0] == "target_out_of_range" and found[0].message.startswith("validation data: ")
    assert "target_out_of_range" not in db.babysit.check(model, x[::2], y[::2], validation_data=right).codes


def short_run(monkeypatch: pytest.MonkeyPatch, wide: float) -> tuple[Any, list[dict[str, Any]]]:
    """Train where there is no time to look at data before the run; returns the history and how they were looked at."""
    made: list[dict[str, Any]] = []
    real = sitter.preflight

    def noted(*given: Any, **how: Any) -> Any:
        made.append(how)
        return real(*given, **how)

    monkeypatch.setattr(sitter, "budget_for", lambda seconds: 1e-5)
    monkeypatch.setattr(sitter, "preflight", noted)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 8)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    db.set_seed(0)
    model = db.Sequential([db.layers.Dense(16, "relu", input_shape=8), db.layers.Dense(2)])
    model.compile(db.optimizers.Adam(1e-2), "cross_entropy", ["accuracy"])
    x[300:] = wide * x[300:] + (wide > 1.0) * 10.0
    return model.fit(x[:300], y[:300], epochs=30, validation_data=(x[300:], y[300:]), seed=0, verbose=0), made


def test_data_are_looked_at_after_a_short_run_that_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    history, made = short_run(monkeypatch, wide=20.0)
    assert [bool(how.get("trained")) for how in made] == [False, True]
    assert history.findings[0].code == "split_drift" and history.findings[0].severity != "note"
    assert "there was no time" not in history.verdict()


def test_data_of_a_short_run_that_went_well_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    history, made = short_run(monkeypatch, wide=1.0)
    assert len(made) == 1 and all(found.severity == "note" for found in history.findings)
    assert "there was no time for others" in history.verdict()


def test_constants_in_the_code_of_a_model_stand_where_it_does() -> None:
    """The check tries small models on the reference; a constant of the model's device must not stop it."""
    half = db.tensor(np.full(6, 0.5, np.float32))

    def found(function: Any) -> Any:
        model = db.Sequential([db.layers.Dense(6, "tanh", input_shape=4), db.layers.Lambda(function),
                               db.layers.Dense(3)])
        model.compile("sgd", "cross_entropy")
        rng = np.random.default_rng(0)
        x = rng.standard_normal((64, 4)).astype(np.float32)
        return db.babysit.check(model, x, x[:, :3].argmax(axis=1))

    kept, lost = found(lambda x: x * half + db.ops.zeros((6,))), found(lambda x: db.ops.ones_like(x) + 0.0 * x)
    assert kept.failure == lost.failure == ""
    assert "output_ignores_input" in kept.asked and "output_ignores_input" not in [f.code for f in kept]
    assert lost[0].code == "output_ignores_input"
