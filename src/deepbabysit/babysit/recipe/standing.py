"""Where a run stands in the recipe: the first step that its findings send it back to."""

from __future__ import annotations

from collections.abc import Sequence

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.recipe.steps import TITLES
from deepbabysit.babysit.vitals import Record

_CODES = {
    "look": """
        nan_in_data input_not_normalized input_normalized_twice target_not_normalized constant_feature duplicate_rows
        conflicting_labels class_imbalance corrupted_labels split_leak feature_leak split_drift suspicious_validation
        target_out_of_range unshuffled_rows""",
    "skeleton": """
        loss_shape_mismatch wrong_loss_for_output missing_output_activation double_softmax one_unit_softmax
        missing_hidden_activation symmetric_init bad_init_scale bad_bias_init unstable_activation_scale
        initial_loss_off_chance loss_reduction_sum output_ignores_input batch_leak mode_bug batchnorm_misuse
        wrong_gradient missing_zero_grad memory_growth slow_input no_better_than_baseline""",
    "overfit": """
        nan_loss nan_in_layer loss_diverging loss_spike vanishing_gradient exploding_gradient dead_relu
        saturated_activation update_too_large update_too_small learning_rate_too_high learning_rate_too_low
        not_learning oscillating_loss unchanged_weights dead_weights weights_diverging class_collapse underfitting
        wrong_optimizer""",
    "regularize": "overfitting regularization_missing regularization_too_strong dropout_too_high",
    "tune": "batch_too_small batch_too_large",
    "squeeze": "stopped_too_early overtraining",
}
STEP_OF = {code: step for step, codes in _CODES.items() for code in codes.split()}
GOALS = {
    "look": "the data must be right before a network can be",
    "skeleton": "the way from data to loss must be right, and beat dumb baselines",
    "overfit": "the training loss must come down first, without regularization",
    "regularize": "the training part is learned; now the validation score counts",
    "tune": "search rate, dropout, L2 and sizes from coarse to fine on the validation part",
    "squeeze": "train longer with a falling rate, average several, use the test part once",
}


def standing(record: Record, findings: Sequence[Finding]) -> str:
    """Return one sentence: which step of the recipe the run stands at, and why."""
    order = list(TITLES)
    grave = [f for f in findings if f.severity != "note" and f.code in STEP_OF]
    if grave:
        first = min(grave, key=lambda f: order.index(STEP_OF[f.code]))
        step, why = STEP_OF[first.code], f"because of {first.code}; {GOALS[STEP_OF[first.code]]}"
    elif record.epochs and not record.run.validation_samples:
        step, why = "skeleton", "because nothing is held out to choose by; pass validation_data or validation_split"
    else:
        step, why = "tune", f"nothing stands in the way of it; {GOALS['tune']}"
    return f"in the recipe: step {order.index(step) + 1} of {len(order)}, {TITLES[step]}: {why}"
