"""What a run that went well makes of suspicions: at its end they are notes."""

from __future__ import annotations

from dataclasses import replace

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.rules.signals import accuracy, finite
from deepbabysit.babysit.vitals import Record

# what makes learning harder, and does no harm where all was learned all the same
SUSPICIONS = frozenset({
    "learning_rate_too_high", "update_too_large", "oscillating_loss", "loss_spike", "loss_diverging", "bad_init_scale",
    "unstable_activation_scale", "initial_loss_off_chance", "bad_bias_init", "input_not_normalized",
    "input_normalized_twice", "target_not_normalized", "missing_hidden_activation", "dead_relu",
    "saturated_activation", "vanishing_gradient", "exploding_gradient", "dropout_too_high", "batch_too_small",
    "batchnorm_misuse", "class_imbalance", "unchanged_weights", "stopped_too_early", "conflicting_labels",
    "symmetric_init", "weights_diverging", "dead_weights",
})
# where one of these is known, the validation rows prove nothing
DOUBTS = frozenset({"split_leak", "feature_leak", "split_drift", "suspicious_validation", "corrupted_labels"})
CLASSES, ACCURATE = 0.08, 0.97  # validation loss against guessing, and accuracy, of a run that went well
NUMBERS = 0.05  # share of the variance that is left


def went_well(record: Record, findings: dict[str, Finding]) -> float | None:
    """Return the last validation loss against guessing where little is left to be learned, else None.

    Without validation rows, or where they are in doubt, nothing is proved.
    """
    val, guess = record.logs("val_loss"), record.run.chance
    if not val or not guess or finite(val[-3:]) != val[-3:]:
        return None
    if any(findings[code].severity != "note" for code in DOUBTS & set(findings)):
        return None
    left = max(val[-3:]) / guess
    right = accuracy(record, "val_")
    classes = "cross" in (record.run.loss or "")
    if classes and (not right or min(right[-3:]) < ACCURATE):
        return None
    return left if left <= (CLASSES if classes else NUMBERS) else None


def settle(record: Record, findings: dict[str, Finding]) -> dict[str, Finding]:
    """Return the findings after a run: warnings about what may hold up learning are notes where nothing was held up."""
    left = went_well(record, findings)
    if left is None:
        return findings
    return {
        code: replace(
            found, severity="note", confidence=0.5 * found.confidence,
            message=f"{found.message} It did no harm in this run: the validation loss ended at {left:.1%} of guessing.",
        ) if found.severity == "warning" and code in SUSPICIONS else found
        for code, found in findings.items()
    }
