"""What a run that went well makes of suspicions: at its end they are notes."""

from __future__ import annotations

import math
from dataclasses import replace

from deepbabysit.babysit.engine import Engine, causes_of
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.rules.capacity import too_small
from deepbabysit.babysit.rules.heart import overfitting
from deepbabysit.babysit.rules.initialization import activation_after
from deepbabysit.babysit.rules.reach import NEAR, Reach, reach
from deepbabysit.babysit.rules.rule import RULES
from deepbabysit.babysit.rules.signals import accuracy, finite
from deepbabysit.babysit.shortfall import shortfall
from deepbabysit.babysit.vitals import Record

# what makes learning harder, and does no harm where all was learned all the same
SUSPICIONS = frozenset({
    "learning_rate_too_high", "update_too_large", "oscillating_loss", "loss_spike", "loss_diverging", "bad_init_scale",
    "unstable_activation_scale", "initial_loss_off_chance", "bad_bias_init", "input_not_normalized",
    "input_normalized_twice", "target_not_normalized", "missing_hidden_activation", "dead_relu",
    "saturated_activation", "vanishing_gradient", "exploding_gradient", "dropout_too_high", "batch_too_small",
    "batchnorm_misuse", "class_imbalance", "unchanged_weights", "stopped_too_early", "conflicting_labels",
    "symmetric_init", "weights_diverging", "dead_weights", "class_collapse",
})
# where one of these is known, the validation rows prove nothing
DOUBTS = frozenset({"split_leak", "feature_leak", "split_drift", "suspicious_validation", "corrupted_labels"})
# where one of these is known, the cheap models were spoilt like the run
SPOILT = frozenset({"class_imbalance", "duplicate_rows", "conflicting_labels", "nan_in_data", "constant_feature"})
COPIES = 0.5  # but so large a share of copies leaves most of what the rows know
# what a run that ended as well as cheap models was not held up by
HELD_UP = SUSPICIONS - SPOILT - {"batchnorm_misuse"} | {
    "not_learning", "underfitting", "learning_rate_too_low", "no_better_than_baseline", "regularization_too_strong",
    "batch_too_large", "class_collapse", "update_too_small",
}
# of few rows and models that fit them by heart, cheap models are no measure; of good ones they are
OVERFIT = frozenset({"overfitting", "overtraining", "regularization_missing"})
GOOD = 0.85
CLOSE, DEAR = 0.05, 0.2  # so close to cheap models, in score and in loss against guessing, nothing is lost by heart
CERTAIN = 0.85  # a curve that turned as well is more than a gap
LEARNED = 0.95  # score on training rows that nothing has held up
UNUSUAL = frozenset({"wrong_loss_for_output"})  # pairs that work, if less well; those that cannot work are errors
# what is judged by the last steps and epochs, and may pass
PASSING = frozenset({
    "not_learning", "dead_relu", "saturated_activation", "oscillating_loss", "learning_rate_too_high",
    "learning_rate_too_low", "update_too_large", "update_too_small", "vanishing_gradient", "exploding_gradient",
    "unchanged_weights", "class_collapse", "suspicious_validation", "overfitting",
})
# what only the course of a run says, so that little of it needs a run that fell short
OF_THE_RUN = PASSING - {"overfitting"} | {"batch_too_small", "batch_too_large", "underfitting", "stopped_too_early"}
# what a cause that nobody has named looks like
SYMPTOMS = frozenset({
    "initial_loss_off_chance", "not_learning", "no_better_than_baseline", "oscillating_loss", "stopped_too_early",
})
# what is only noted before a run, and names a cause where the run falls short, or so far below cheap models
NOTED = frozenset({
    "wrong_loss_for_output", "bad_init_scale", "bad_bias_init", "unstable_activation_scale", "input_not_normalized",
    "overfitting", "batchnorm_misuse", "missing_hidden_activation", "dead_relu",
})
NOTABLE, SURE = 0.05, 0.7
PROVED = 0.7  # a warning that is less sure needs a run that fell short
SURER = 0.4  # share of the doubt about a warning that a run takes away by falling short
BOTTLENECK, TURNED = (next(known for known in RULES if known.judge is judge) for judge in (too_small, overfitting))
# what a bottleneck makes of gradients and losses
OF_SIZE = frozenset({
    "not_learning", "dead_relu", "saturated_activation", "learning_rate_too_high", "learning_rate_too_low",
    "output_ignores_input", "unchanged_weights", "class_collapse", "no_better_than_baseline", "vanishing_gradient",
    "update_too_small", "oscillating_loss", "stopped_too_early", "initial_loss_off_chance", "bad_init_scale",
    "unstable_activation_scale",
})
# share of the way from guessing to the lowest loss that two softmax allow, left in a run that went well
DOUBLED = 0.12
CLASSES, ACCURATE = 0.12, 0.97  # validation loss against guessing, and accuracy, of a run that went well
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
    """Return the findings after a run: what may hold up learning is a note where nothing was held up.

    Little is left to be learned, or the run ended as well as cheap models that were fitted to the same rows in closed
    form (`rules.reach`): those know nothing of rates, first weights and activations.
    """
    # that weights which are to be trained get no gradient is true of the code, however the run went
    certain = {code: found for code, found in findings.items() if found.evidence.get("reached") is False}
    findings = {code: found for code, found in findings.items() if code not in certain}
    left = went_well(record, findings)
    if left is not None:
        words = f"the validation loss ended at {left:.1%} of guessing"
        findings = {
            code: _harmless(found, words) if found.severity == "warning" and code in SUSPICIONS else found
            for code, found in findings.items()
        }
    doubled = _as_sure_as_allowed(record, findings)
    if doubled is not None:  # what the run scored and lost means something else then
        return doubled
    stand = reach(record)
    findings = _healed(record, findings, stand)
    spoilt = SPOILT - ({"duplicate_rows"} if _few_copies(findings) else set())
    if stand is not None and stand.met and not _loud(findings, DOUBTS | spoilt):
        findings = {
            code: _harmless(found, stand.words()) if found.severity != "note" and not found.evidence.get("alone") and (
                code in (HELD_UP | (SPOILT - spoilt) if not _given(found) or _as_good(found, stand) else ())
                or (code in OVERFIT and stand.score >= GOOD and not found.evidence.get("costs"))
                or (code in UNUSUAL and found.severity == "warning" and _answered(found, stand))) else found
            for code, found in findings.items()
        }
    if stand is not None and math.isfinite(stand.lacking) and not stand.below(CLOSE, 2.0) and (
        stand.dear is not None and stand.dear <= DEAR
    ):
        findings = {
            code: _harmless(found, stand.words()) if found.severity != "note" and code in OVERFIT and (
                found.confidence < CERTAIN and not found.evidence.get("costs")) else found
            for code, found in findings.items()
        }
    if stand is not None and (stand.train or 0.0) > LEARNED and _loud(findings, OVERFIT):
        words = f"{stand.train:.0%} of the training rows are right" if not stand.numbers else (
            f"{stand.train:.0%} of the variance of the training rows is explained")
        findings = {
            code: replace(found, severity="note", confidence=0.5 * found.confidence, message=(
                f"{found.message} It held nothing up in the end: {words}."
            )) if found.severity != "note" and code in OF_THE_RUN and not _given(found) else found
            for code, found in findings.items()
        }
    if stand is not None and math.isfinite(stand.lacking) and not stand.short:
        findings = {
            code: _unproved(found) if found.severity == "warning" and code in OF_THE_RUN and found.confidence < PROVED
            else found for code, found in findings.items()
        }
    narrow = BOTTLENECK.ask(record)
    if narrow:
        cut = "one_unit_softmax" in findings or not _rectified(record, narrow[0].layer)
        findings = {
            code: _explained(found, "A model that is too small") if (
                found.severity != "note" and code in OF_SIZE
                and not (cut and code == "output_ignores_input" and found.severity == "error")) else found
            for code, found in findings.items()
        }
    held = findings.get("underfitting")
    if held is not None and held.severity != "note" and held.epoch is None and "stopped_too_early" in findings:
        stopped = _explained(findings["stopped_too_early"], "A model that cannot learn a few rows")
        findings = {**findings, "stopped_too_early": stopped}
    findings = _promoted(record, findings, stand)
    if all(found.severity == "note" or code in SYMPTOMS for code, found in findings.items()):
        said = shortfall(record)
        if said is not None:
            findings = {**findings, said.code: said}
    if stand is not None and stand.short:  # that something is wrong is known then
        findings = {
            code: replace(found, confidence=found.confidence + SURER * (1.0 - found.confidence))
            if found.severity != "note" else found for code, found in findings.items()
        }
    return {**findings, **certain}


def _promoted(record: Record, findings: dict[str, Finding], stand: Reach | None) -> dict[str, Finding]:
    """Return the findings with a warning of what was only noted before the run, where it then fell short."""
    if stand is None or not (stand.short or stand.below(NOTABLE)):
        return findings
    if any(f.severity != "note" and not (code in SYMPTOMS and f.confidence < SURE) for code, f in findings.items()):
        return findings
    words = f"In this run {stand.words()}."
    return {
        code: replace(found, severity="warning", confidence=SURE, message=f"{found.message} {words}")
        if code in NOTED and found.severity == "note" and not (
            "It did no harm" in found.message or (code == "overfitting" and not TURNED.ask(record))) else found
        for code, found in findings.items()
    }


def _healed(record: Record, findings: dict[str, Finding], stand: Reach | None) -> dict[str, Finding]:
    """Return the findings with notes of what was seen on the way, and is no more.

    Where a run fell short and nothing else is known, what was seen stays.
    """
    if not any(f.severity != "note" for f in findings.values()):
        return findings
    now = Engine(record)
    for phase in ("step", "epoch", "end"):
        now.ask(phase)
    passed = {
        code for code, found in findings.items() if found.severity != "note" and code in PASSING and (
            not _given(found)) and (
            code not in now.found or now.found[code].severity == "note")
    }
    last = {code for code, found in findings.items() if found.severity != "note"} - passed
    if not last and stand is not None and stand.short:
        return findings
    explaining = {cause for code in last for cause in causes_of(code)}  # what it left behind is still there
    return {
        code: replace(found, severity="note", confidence=0.5 * found.confidence, message=(
            f"{found.message} At the end of the run it was no longer so."
        )) if code in passed - explaining else found
        for code, found in findings.items()
    }


def _as_sure_as_allowed(record: Record, findings: dict[str, Finding]) -> dict[str, Finding] | None:
    """Return the findings, those of a doubled softmax notes where the loss came down to the lowest that it allows.

    Answers are right then, and the outputs in front of the loss are as sure as they should be; the loss itself, and
    accuracies that take the outputs for logits, say nothing. None where it did not.
    """
    said, val, guess = findings.get("double_softmax"), finite(record.logs("val_loss")[-2:]), record.run.chance
    floor = None if said is None else said.evidence.get("floor")
    if floor is None or len(val) < 2 or not guess or guess <= floor or _loud(findings, DOUBTS):
        return None
    left = (max(val) - floor) / (guess - floor)
    if left > DOUBLED:
        return None
    words = f"the validation loss came down to {max(val):.3g}, and {floor:.3g} is the lowest that it can be so"
    return {
        code: _harmless(found, words) if found.severity != "note" and code in HELD_UP | OVERFIT | {"double_softmax"}
        else found for code, found in findings.items()
    }


def _answered(found: Finding, stand: Reach) -> bool:
    """Tell whether right answers are all that an unusual loss owes: it may also owe shares, and none came out."""
    if not found.evidence.get("shares", True):
        return False
    return not found.evidence.get("improper") or stand.score >= ACCURATE


def _given(found: Finding) -> bool:
    """Tell whether something is known of the model's build, or of the weights of classes: it does not pass."""
    return found.code == "missing_hidden_activation" or "pulls" in found.evidence


def _as_good(found: Finding, stand: Reach) -> bool:
    """Tell whether a score, and of weights of classes a loss, is as good: that shows that it did no harm."""
    return stand.gap <= NEAR + 1e-6 and not ("pulls" in found.evidence and (stand.dear or 0.0) > NEAR + 0.01)


def _rectified(record: Record, path: str | None) -> bool:
    """Tell whether a layer's few units may all be closed, so that nothing passes whatever their weights are."""
    layer = next((layer for layer in record.model.layers if layer.path == path), None)
    return layer is not None and activation_after(record, layer) == "relu"


def _few_copies(findings: dict[str, Finding]) -> bool:
    return "duplicate_rows" in findings and findings["duplicate_rows"].evidence.get("share", 1.0) <= COPIES


def _loud(findings: dict[str, Finding], codes: frozenset[str]) -> bool:
    return any(findings[code].severity != "note" for code in codes & set(findings))


def _explained(found: Finding, cause: str) -> Finding:
    return replace(
        found, severity="note", confidence=0.5 * found.confidence, message=f"{found.message} {cause} explains it.")


def _unproved(found: Finding) -> Finding:
    return replace(
        found, severity="note", confidence=0.5 * found.confidence,
        message=f"{found.message} The run did not fall far short of what cheap models reach, so this is only noted.",
    )


def _harmless(found: Finding, words: str) -> Finding:
    return replace(
        found, severity="note", confidence=0.5 * found.confidence,
        message=f"{found.message} It did no harm in this run: {words}.",
    )
