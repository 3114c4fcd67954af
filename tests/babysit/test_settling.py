"""At the end of a run that went well suspicions are notes; of one that did not, or of errors and doubts, nothing is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from records import record

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.settling import settle, went_well
from deepbabysit.babysit.yardstick import Yardstick

WELL = {"val_loss": [0.5, 0.1, 0.05, 0.05, 0.04], "val_accuracy": [0.9, 0.97, 0.98, 0.98, 0.98]}


def found(code: str, severity: Any = "warning") -> dict[str, Finding]:
    return {code: Finding(code, severity, 0.8, "Seen: 3 (limit 2).")}


def test_a_suspicion_is_a_note_after_a_run_that_went_well() -> None:
    settled = settle(record(WELL), found("missing_hidden_activation"))["missing_hidden_activation"]
    assert (settled.severity, settled.confidence) == ("note", 0.4)
    assert "did no harm in this run: the validation loss ended at 2.2% of guessing" in settled.message


@pytest.mark.parametrize(
    "curves",
    [
        {},
        {"val_loss": WELL["val_loss"]},  # nobody says how many are right
        {**WELL, "val_accuracy": [0.9] * 5},
        {**WELL, "val_loss": [0.5, 0.1, 0.05, 0.05, 0.4]},
        {**WELL, "val_loss": [0.5, 0.1, 0.05, float("nan"), 0.04]},
    ],
)
def test_what_did_not_go_well_or_is_not_known_settles_nothing(curves: Any) -> None:
    before = found("missing_hidden_activation")
    assert settle(record(curves), before) == before


def test_errors_and_what_makes_validation_doubtful_stay() -> None:
    for before in (found("double_softmax", "error"), found("split_leak"), found("regularization_missing")):
        assert settle(record(WELL), before) == before
    both = {**found("bad_init_scale"), **found("split_leak", "error")}
    assert settle(record(WELL), both) == both  # the validation rows prove nothing
    noted = {**found("bad_init_scale"), **found("split_leak", "note")}
    assert settle(record(WELL), noted)["bad_init_scale"].severity == "note"


def test_a_curve_that_turned_and_came_back_is_a_note() -> None:
    settled = settle(record({**WELL, "loss": WELL["val_loss"]}), found("overfitting"))
    assert settled["overfitting"].severity == "note"


def test_weights_of_classes_pass_only_with_a_score_that_is_as_good() -> None:
    said = Finding("class_collapse", "warning", 0.85, "Seen: 30 (limit 10).", {"pulls": {"0": 0.9, "1": 0.1}})
    known = Yardstick("classes", 500, 200, 0.5, 0.9, 0.9, 0.9, 0.9, loss=0.3)
    for right, loss, severity in ((0.9, 0.3, "note"), (0.86, 0.3, "warning"), (0.9, 0.5, "warning")):
        curves = {"loss": [0.6, 0.3, 0.2], "val_loss": [0.7, 0.5, loss], "val_accuracy": [0.6, 0.7, right]}
        seen = record(curves)
        seen.probes["yardstick"] = known
        assert settle(seen, {"class_collapse": said})["class_collapse"].severity == severity


def test_a_model_that_cannot_learn_a_few_rows_was_not_stopped_too_early() -> None:
    stopped = Finding("stopped_too_early", "warning", 0.75, "Falls: 0.1 (limit 0.09).", epoch=2)
    curves = {"loss": [9.0, 2.0, 1.9], "val_loss": [5.0, 2.0, 1.9]}
    noted = found("underfitting", "note")
    for said, severity in ((found("underfitting"), "note"), ({}, "warning"), (noted, "warning")):
        assert settle(record(curves), {**said, "stopped_too_early": stopped})["stopped_too_early"].severity == severity


def test_a_doubled_softmax_whose_loss_came_down_to_the_lowest_did_no_harm() -> None:
    said = Finding("double_softmax", "error", 0.98, "Twice: 2 (limit 1).", {"floor": 1.46})
    before = {"double_softmax": said, "underfitting": Finding("underfitting", "warning", 0.7, "Poor: 1.5 (limit 0.9).")}
    settled = settle(record({"val_loss": [2.0, 1.6, 1.5, 1.5]}), before)  # guessing: 2.3
    assert [settled[code].severity for code in before] == ["note", "note"]
    for curves, finding in (
        ({"val_loss": [2.0, 1.9, 1.8, 1.7]}, said),  # far from it
        ({"val_loss": [2.0, 1.6, 1.5, 1.5]}, replace(said, evidence={"floor": None})),  # wrong outputs
        ({}, said),
    ):
        assert settle(record(curves), {"double_softmax": finding})["double_softmax"].severity == "error"


def test_of_numbers_little_variance_must_be_left() -> None:
    numbers = {"loss": "mse", "task": "regression", "chance": 1.0, "classes": None}
    assert went_well(record({"val_loss": [0.04, 0.04, 0.045]}, **numbers), {}) == 0.045
    assert went_well(record({"val_loss": [0.04, 0.04, 0.06]}, **numbers), {}) is None


def test_weights_that_nothing_reaches_are_said_however_the_run_went() -> None:
    for reached, severity in ((False, "warning"), (True, "note")):
        before = {"unchanged_weights": Finding("unchanged_weights", "warning", 0.9, "Seen.", {"reached": reached})}
        assert settle(record(WELL), before)["unchanged_weights"].severity == severity
