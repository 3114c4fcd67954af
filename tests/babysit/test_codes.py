"""The table of finding codes."""

from __future__ import annotations

import re

import pytest

import deepbabysit as db
from deepbabysit.babysit.codes import CODES
from deepbabysit.babysit.finding import SEVERITIES

# Every code that a rule may use, by the phases in which it is looked for: those of RULES, and unshuffled_rows.
PHASES = {
    "step": "nan_loss nan_in_layer loss_diverging loss_spike vanishing_gradient exploding_gradient dead_relu "
    "saturated_activation update_too_large update_too_small unchanged_weights missing_zero_grad slow_input "
    "memory_growth",
    "check": "nan_in_data unstable_activation_scale symmetric_init bad_init_scale bad_bias_init "
    "initial_loss_off_chance wrong_loss_for_output missing_output_activation "
    "one_unit_softmax missing_hidden_activation target_out_of_range input_not_normalized "
    "input_normalized_twice target_not_normalized constant_feature duplicate_rows conflicting_labels class_imbalance "
    "output_ignores_input batch_leak split_leak feature_leak split_drift unshuffled_rows mode_bug "
    "batchnorm_misuse wrong_gradient",
    "check step": "loss_reduction_sum double_softmax loss_shape_mismatch",
    "step epoch": "learning_rate_too_high learning_rate_too_low",
    "epoch": "not_learning oscillating_loss dead_weights weights_diverging overfitting overtraining "
    "batch_too_small batch_too_large wrong_optimizer suspicious_validation",
    "check epoch": "underfitting dropout_too_high class_collapse regularization_too_strong",
    "check epoch end": "corrupted_labels",
    "end": "stopped_too_early regularization_missing no_better_than_baseline",
}


def test_every_code_stands_in_the_table_with_its_phases() -> None:
    wanted = {code: tuple(phases.split()) for phases, codes in PHASES.items() for code in codes.split()}
    assert {name: code.phases for name, code in CODES.items()} == wanted


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_code_says_what_why_and_what_to_do(name: str) -> None:
    code = CODES[name]
    text = db.babysit.explain(name)
    assert code.severity in SEVERITIES
    assert code.title and code.seen and code.why and code.source and code.remedies
    assert all(other in CODES and other != name for other in code.also)
    assert text.startswith(f"{name}: ")
    assert code.remedies[0][:30] in re.sub(r"\s+", " ", text)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 100
    assert repr(text) == str(text)


def test_an_unknown_code_gets_the_nearest_names() -> None:
    with pytest.raises(ValueError, match="did you mean 'dead_relu'"):
        db.babysit.explain("dead_rellu")
    with pytest.raises(ValueError, match="unknown finding code 3"):
        db.babysit.explain(3)  # type: ignore[arg-type]


def test_code_in_remedies_names_things_that_exist() -> None:
    for code in CODES.values():
        for path in re.findall(r"\bdb((?:\.\w+)+)", " ".join(code.remedies)):
            found = db
            for part in path.strip(".").split("."):
                found = getattr(found, part)
