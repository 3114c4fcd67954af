"""Rules about the output against the loss and the targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_tasks import TABLES, L, check, loud, model_for, network, raw, scaled
from test_rules_data import ask

import deepbabysit as db
from deepbabysit.babysit.facts import data_facts
from deepbabysit.babysit.probes import LossProbe, OutputProbe
from deepbabysit.babysit.task import certainty
from deepbabysit.babysit.vitals import ModelFacts, Record, RunFacts

C = {"iris": 3, "wine": 3, "digits": 10}
ONE_HOT = "categorical_crossentropy"


def record(
    kind: str, activation: str, units: int = 3, task: str = "multiclass", y: Any = None,
    output: OutputProbe | None = None, **probes: Any,
) -> Record:
    x = np.random.default_rng(0).normal(size=(60, 3))
    labels = np.arange(60) % 3 if y is None else y
    return Record(
        run=RunFacts(task=task, loss="own", loss_kind=kind, chance=probes.pop("chance", None)),
        model=ModelFacts(output_units=units, output_activation=activation), data=data_facts([x], labels),
        probes={"output": output, **probes},
    )


FREE = OutputProbe(-2.0, 2.0, 0.0, 1.0, 3.0, 0)
SHARES = OutputProbe(0.1, 0.8, 0.33, 0.2, 1e-7, 0)


def test_a_loss_of_probabilities_needs_probabilities() -> None:
    assert ask("missing_output_activation", record("class probabilities", "linear", output=FREE))
    assert ask("missing_output_activation", record("yes-or-no probabilities", "linear", 1, "binary", output=FREE))
    assert not ask("missing_output_activation", record("class probabilities", "softmax", output=SHARES))
    assert not ask("missing_output_activation", record("class logits", "linear", output=FREE))
    own = record("class probabilities", "linear", output=SHARES)
    own.model = ModelFacts(output_units=3, output_activation=None)  # an activation of the user's own
    assert not ask("missing_output_activation", own)


def test_a_sum_doubles_with_the_batch_and_a_mean_does_not() -> None:
    assert ask("loss_reduction_sum", record("own", "linear", loss=LossProbe(10.0, 20.0, 32)))
    assert not ask("loss_reduction_sum", record("own", "linear", loss=LossProbe(10.0, 10.0, 32)))
    assert not ask("loss_reduction_sum", record("own", "linear", loss=LossProbe(0.0, 0.0, 32)))


@pytest.mark.parametrize(
    ("first", "severity"), [(1.2, None), (1.8, None), (3.0, "note"), (9.0, "warning"), (0.1, "warning"),
                            (float("nan"), "error")],
)
def test_the_first_loss_against_guessing(first: float, severity: str | None) -> None:
    found = ask(
        "initial_loss_off_chance",
        record("class logits", "linear", chance=1.0986, loss=LossProbe(first, first, 64)),
    )
    expected = "note" if first == 0.1 else severity  # below chance: perhaps a trained model
    assert [f.severity for f in found] == ([] if severity is None else [expected])


# -- on real data: what does not belong together -----------------------------------------------------------------------

FAULTS: dict[str, Any] = {
    # name -> (data, last layer, loss, change of y, code)
    "softmax and logits": ("wine", ("softmax",), "cross_entropy", None, "double_softmax"),
    "sigmoid and logits": ("breast_cancer", ("sigmoid",), "binary_crossentropy_with_logits", None, "double_softmax"),
    "no softmax": ("digits", (None,), "sparse_categorical_crossentropy", None, "missing_output_activation"),
    "no sigmoid": ("breast_cancer", (None,), "binary_crossentropy", None, "missing_output_activation"),
    "softmax of one": ("breast_cancer", ("softmax",), "binary_crossentropy", None, "one_unit_softmax"),
    "softmax of one number": ("diabetes", ("softmax",), "mse", None, "one_unit_softmax"),
    "classes of one unit": ("breast_cancer", (None,), "categorical_crossentropy", None, "one_unit_softmax"),
    "amounts as a class": ("diabetes", (None,), "cross_entropy", None, "wrong_loss_for_output"),
    "amounts as shares": ("diabetes", (None,), "kl_divergence", None, "wrong_loss_for_output"),
    "absolute error of one-hot": ("wine", ("softmax",), "mae", "one-hot", "wrong_loss_for_output"),
    "absolute error of bare outputs": ("iris", (None,), "mae", "one-hot", "wrong_loss_for_output"),
    "absolute error, nearly": ("iris", ("sigmoid",), db.losses.Huber(delta=0.01), "one-hot", "wrong_loss_for_output"),
    "absolute error of yes or no": ("breast_cancer", ("sigmoid",), "mae", None, "wrong_loss_for_output"),
    "sigmoids for classes": ("iris", ("sigmoid",), "sparse_categorical_crossentropy", None, "wrong_loss_for_output"),
    "yes-or-no of softmax": ("iris", ("softmax",), "binary_crossentropy", "one-hot", "wrong_loss_for_output"),
    "relu logits": ("digits", ("relu",), "cross_entropy", None, "wrong_loss_for_output"),
    "tanh probability": ("breast_cancer", ("tanh",), "binary_crossentropy", None, "wrong_loss_for_output"),
    "numbers as yes-or-no": ("diabetes", ("sigmoid",), "binary_crossentropy", None, "wrong_loss_for_output"),
    "relu for numbers": ("diabetes", ("relu",), "mse", None, "target_out_of_range"),
    "sigmoid for numbers": ("diabetes", ("sigmoid",), "mse", None, "target_out_of_range"),
    "tanh for numbers": ("diabetes", ("tanh",), "mae", None, "target_out_of_range"),
    "from 1": ("wine", ("softmax",), "sparse_categorical_crossentropy", "+1", "target_out_of_range"),
    "1 and 2": ("breast_cancer", ("sigmoid",), "binary_crossentropy", "+1", "target_out_of_range"),
    "column of classes": ("wine", ("softmax",), "sparse_categorical_crossentropy", "column", "loss_shape_mismatch"),
    "row of numbers": ("diabetes", (None,), "mse", "row", "loss_shape_mismatch"),
    "one-hot for sparse": ("iris", ("softmax",), "sparse_categorical_crossentropy", "one-hot", "loss_shape_mismatch"),
    "classes for one-hot": ("iris", ("softmax",), "binary_crossentropy", None, "loss_shape_mismatch"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_does_not_belong_together_is_named_first(case: str) -> None:
    name, (activation,), loss, change, code = FAULTS[case]
    x, y, _, _, task = scaled(name)
    if change == "+1":
        y = y + 1
    elif change in ("column", "row"):
        y = y.reshape(-1, 1) if change == "column" else y.reshape(-1)
    elif change == "one-hot":
        y = db.data.one_hot(y, C[name])
    model = model_for(name, last=L.Dense(C.get(name, 1), activation), loss=loss)
    found = check(model, x, y)
    assert found.codes[0] == code and found[0].severity in ("error", "warning"), str(found)
    assert found[0].layer == "2"


def test_too_few_units_and_numbers_for_classes() -> None:
    x, y, _, _, _ = scaled("digits")
    found = check(model_for("digits", last=L.Dense(9, "softmax")), x, y)
    assert found.codes[0] == "target_out_of_range" and "9" in found[0].message
    amounts = y.reshape(-1, 1).astype(np.float32)
    found = check(model_for("digits", last=L.Dense(1), loss="mse", metrics=["accuracy"]), x, amounts)
    assert found.codes[0] == "wrong_loss_for_output"
    assert "wrong_loss_for_output" not in check(network(64, "regression"), x, amounts).codes  # counts are amounts


@pytest.mark.parametrize("name", TABLES)
def test_a_loss_of_ones_own_that_sums(name: str) -> None:
    x, y, xv, yv, task = scaled(name)
    base = db.losses.get({"binary": "binary_crossentropy", "regression": "mse"}.get(
        task, "sparse_categorical_crossentropy"))
    for reduce, code in (("sum", ["loss_reduction_sum"]), ("mean", [])):
        model = model_for(name, loss=lambda t, p, r=reduce: getattr(base.per_sample(t, p), r)())
        assert loud(check(model, x, y, (xv, yv)))[:1] == code


HEALTHY: dict[str, Any] = {
    "logits": ("wine", None, "cross_entropy", False),
    "one-hot": ("wine", "softmax", ONE_HOT, True),
    "one-hot logits": ("wine", None, "cross_entropy", True),
    "log-probabilities": ("iris", "log_softmax", "nll", False),
    "squared error of softmax": ("digits", "softmax", "mse", True),  # the published table trains so
    "squared error of sigmoids": ("digits", "sigmoid", "mse", True),
    "yes-or-no logits": ("breast_cancer", None, "binary_crossentropy_with_logits", False),
    "squared error of yes or no": ("breast_cancer", "sigmoid", "mse", False),
    "huber's of shares": ("wine", "softmax", "huber", True),  # within its corner it is the squared error
    "absolute error": ("diabetes", None, "mae", False),
    "huber": ("diabetes", None, "huber", False),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_pairs_that_belong_together_are_silent(case: str) -> None:
    name, activation, loss, rows = HEALTHY[case]
    x, y, xv, yv, _ = scaled(name)
    if rows:
        y, yv = (db.data.one_hot(t, C[name]) for t in (y, yv))
    assert not loud(check(model_for(name, last=L.Dense(C.get(name, 1), activation), loss=loss), x, y, (xv, yv)))


def test_several_labels_and_positive_targets_are_silent() -> None:
    x, _, _, _, _ = scaled("wine")
    several = np.stack([x[:, 0] > 0, x[:, 1] > 0, x[:, 2] + x[:, 3] > 0], axis=1).astype(np.float32)
    model = db.Sequential([L.Dense(16, "relu", input_shape=13), L.Dense(3, "sigmoid")])
    model.compile("adam", "binary_crossentropy")
    assert not loud(check(model, x, several))
    positive = np.exp(x[:, :6].sum(axis=1, keepdims=True) / 5) / 2
    model = db.Sequential([L.Dense(16, "relu", input_shape=13), L.Dense(1, "softplus")])
    model.compile("adam", "mse")
    assert not loud(check(model, x, positive))


def test_a_softmax_of_softmax_in_the_graph() -> None:
    x, y, _, _, _ = scaled("wine")
    model = db.Sequential([L.Dense(16, "relu", input_shape=13), L.Dense(3, "softmax"), L.Activation("softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    assert check(model, x, y).codes[0] == "double_softmax"


def test_a_gate_of_one_unit_wants_no_softmax() -> None:
    x, y, _, _, _ = scaled("wine")
    for activation, units, code in (("softmax", 1, "one_unit_softmax"), ("sigmoid", 1, None), ("softmax", 2, None)):
        gate = L.Dense(units, activation)
        model = db.Sequential([L.Dense(16, "relu", input_shape=13), gate, L.Dense(3, "softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        found = check(model, x, y)
        assert ("one_unit_softmax" in found.codes) == (code is not None), str(found)
        if code is not None:
            assert found.codes[0] == code and found[0].severity == "error" and found[0].layer == "1"
            assert found.codes[1] == "output_ignores_input"


def test_the_loss_that_two_softmax_allow() -> None:
    for name, activation, loss, floor in (
        ("wine", "softmax", "cross_entropy", 0.5514),
        ("breast_cancer", "sigmoid", "binary_crossentropy_with_logits", 0.45),
    ):
        x, y, _, _, _ = scaled(name)
        found = check(model_for(name, last=L.Dense(C.get(name, 1), activation), loss=loss), x, y)
        assert found[0].code == "double_softmax" and found[0].evidence["floor"] == pytest.approx(floor, abs=0.01)
    model = db.Sequential([L.Dense(16, "relu", input_shape=13), L.Dense(3, "softmax"), L.Activation("softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y, _, _, _ = scaled("wine")
    assert check(model, x, y)[0].evidence["floor"] is None  # the outputs themselves are wrong


def test_a_last_layer_that_is_far_too_large() -> None:
    for name in ("wine", "breast_cancer", "digits"):
        x, y, _, _, task = scaled(name)
        wide = L.Dense(C.get(name, 1), "softmax" if name in C else "sigmoid",
                       kernel_initializer=db.initializers.normal(stddev=10.0))
        found = check(model_for(name, last=wide), x, y)
        assert "initial_loss_off_chance" in found.codes[:2] and loud(found)
        small = L.Dense(C.get(name, 1), "softmax" if name in C else "sigmoid", kernel_initializer="zeros")
        assert not loud(check(model_for(name, last=small), x, y))


def test_a_trained_model_may_begin_below_chance() -> None:
    x, y, xv, yv, _ = scaled("wine")
    model = model_for("wine")
    model.fit(x, y, epochs=40, verbose=0, babysit=False)
    found = check(model, x, y, (xv, yv))
    assert not loud(found) and "initial_loss_off_chance" in found.codes


def test_targets_of_raw_size_are_found_on_real_data() -> None:
    x, _, _, _, _ = scaled("diabetes")
    _, y, _, _, _ = raw("diabetes")
    found = check(model_for("diabetes"), x, y.reshape(-1, 1))
    assert found.codes[0] == "target_not_normalized" and f"mean {y.mean():.4g}" in found[0].message


def test_a_loss_that_asks_for_sure_answers() -> None:
    losses = db.losses
    for loss in ("mae", losses.Huber(delta=0.01)):
        assert certainty(losses.get(loss), (1,)) < 1.0 and certainty(losses.get(loss), (4,)) < 1.0
    for loss in ("mse", "rmse", "huber", "log_cosh"):
        assert certainty(losses.get(loss), (1,)) > 1.0 and certainty(losses.get(loss), (4,)) > 1.0
