"""Faults of inputs, targets, labels and splits."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import Delta, is_table, is_tokens, operator, pick, spoil
from benchmarks.babysitter.recipes import Recipe, task_of

EACH = 11  # cases of an operator, where programs allow it
# tables whose columns are far from mean 0 and deviation 1 as they come
FAR = ("borehole", "piston", "houses", "birds", "churn", "relief")


def _scaled(r: Recipe, **slips: Any) -> Delta | None:
    return None if is_tokens(r) else {"data": {"scale": {"kind": r["data"]["scale"], **slips}}}


def _images(r: Recipe) -> bool:
    return not is_table(r) and not is_tokens(r)


# -- numbers that are none ---------------------------------------------------------------------------------------------


@operator("nan_in_data", wanted=EACH)
def _sensor_was_off(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("sensor_gap", share=pick(rng, 0.01, 0.05, 0.2))


@operator("nan_in_data", wanted=EACH, lost=True)
def _comma_in_numbers(r: Recipe, rng: Any) -> Delta | None:
    return spoil("thousands_separator", above=pick(rng, 0.7, 0.9, 0.97)) if is_table(r) else None


@operator("nan_in_data", wanted=EACH // 2)
def _kept_in_half_precision(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("half_overflow", above=pick(rng, 0.99, 0.998))


# -- scales ------------------------------------------------------------------------------------------------------------


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _columns_passed_through(r: Recipe, rng: Any) -> Delta | None:
    """A transformer that scales some columns and passes the others as they came."""
    return _scaled(r, raw=True, columns=pick(rng, 0.5, 0.75)) if r["data"]["source"] in FAR else None


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _centered_only(r: Recipe, rng: Any) -> Delta | None:
    """The mean is taken off; nobody divides by the deviation."""
    return {"data": {"scale": "center"}} if r["data"]["source"] in FAR[:-1] else None


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _bytes_minus_mean(r: Recipe, rng: Any) -> Delta | None:
    """Pixels from 0 to 255, less the mean of other pictures."""
    return _scaled(r, times=255.0, plus=-pick(rng, 104.0, 124.0)) if _images(r) else None


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _minmax_of_the_raw(r: Recipe, rng: Any) -> Delta | None:
    """Numbers that are standardized already are put between 0 and 1 with the limits of the raw ones."""
    return _scaled(r, again="minmax") if r["data"]["source"] in FAR else None


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _picture_normalized_again(r: Recipe, rng: Any) -> Delta | None:
    """Pixels between 0 and 1 are divided by 255 once more, then a mean is taken off and a deviation divided by."""
    mean, wide = pick(rng, (0.1307, 0.3081), (0.485, 0.229), (0.5, 0.5))
    return _scaled(r, times=1.0 / 255.0 / wide, plus=-mean / wide) if _images(r) else None


@operator("target_not_normalized", wanted=EACH)
def _targets_as_they_came(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"target": "none"}} if r["data"]["source"] in ("borehole", "piston", "houses", "relief") else None


@operator("target_not_normalized", wanted=EACH)
def _tiny_shares(r: Recipe, rng: Any) -> Delta | None:
    """Targets are shares of a million, or gains of a day: all of them nearly 0."""
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"times": pick(rng, 1e-3, 3e-4, 1e-4), "plus": pick(rng, 0.0, 1e-3)}}}


# -- labels ------------------------------------------------------------------------------------------------------------


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _joined_by_a_wrong_key(r: Recipe, rng: Any) -> Delta | None:
    return spoil("wrong_key")


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _two_codings(r: Recipe, rng: Any) -> Delta | None:
    return spoil("two_codings", share=pick(rng, 0.4, 0.5))


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH // 2, lost=True)
def _labels_reshaped(r: Recipe, rng: Any) -> Delta | None:
    return spoil("reshaped_labels", columns=pick(rng, 2, 5, 10))


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH, lost=True)
def _made_anonymous(r: Recipe, rng: Any) -> Delta | None:
    return spoil("hashed") if is_table(r) else None


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH, lost=True)
def _another_column_predicted(r: Recipe, rng: Any) -> Delta | None:
    return spoil("wrong_target")


@operator("conflicting_labels", "corrupted_labels", wanted=EACH, lost=True)
def _exported_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("other_order_of_classes") if task_of(r) != "regression" else None


@operator("conflicting_labels", "corrupted_labels", wanted=EACH, lost=True)
def _once_for_each_tag(r: Recipe, rng: Any) -> Delta | None:
    return spoil("all_tags", tags=pick(rng, 2, 3)) if task_of(r) == "multiclass" else None


# -- inputs that say nothing, or too much ------------------------------------------------------------------------------


@operator("output_ignores_input", "constant_feature", wanted=EACH, lost=True)
def _mean_along_a_wrong_axis(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("mean_over_rows")


@operator("feature_leak", wanted=EACH)
def _mean_target_of_its_group(r: Recipe, rng: Any) -> Delta | None:
    return spoil("target_encoding") if is_table(r) else None


@operator("feature_leak", wanted=EACH)
def _code_of_the_bill(r: Recipe, rng: Any) -> Delta | None:
    return spoil("billing_code") if is_table(r) else None


# -- splits and counts -------------------------------------------------------------------------------------------------


def _few(r: Recipe, rng: Any, kind: str, **settings: Any) -> Delta:
    """Few rows, which are learned by heart: so the leak shows."""
    data = {"rows": pick(rng, 60, 110), **spoil(kind, **settings)["data"]}
    return {"data": data, "epochs": 3 * r["epochs"], "batch_size": min(r["batch_size"], 16)}


@operator("split_leak", "duplicate_rows", "overfitting", wanted=EACH, lost=True)
def _backup_read_too(r: Recipe, rng: Any) -> Delta | None:
    return _few(r, rng, "backup_appended", share=pick(rng, 0.6, 0.9))


@operator("split_leak", "duplicate_rows", "overfitting", wanted=EACH, lost=True)
def _drawn_until_enough(r: Recipe, rng: Any) -> Delta | None:
    return _few(r, rng, "bootstrap_before_split")


@operator("split_leak", "overfitting", wanted=EACH, lost=True)
def _fold_not_taken_out(r: Recipe, rng: Any) -> Delta | None:
    return _few(r, rng, "trained_on_everything", held=pick(rng, 40, 80))


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _held_in_other_units(r: Recipe, rng: Any) -> Delta | None:
    """Held-out rows in inches where training rows are in centimetres, or in Fahrenheit."""
    times, plus = pick(rng, (2.54, 0.0), (1.8, 3.2), (0.3048, -1.0))
    return {"data": {"held_scale": {"kind": r["data"]["scale"], "times": times, "plus": plus}}} if is_table(r) else None


@operator("split_drift", wanted=EACH)
def _held_by_another_camera(r: Recipe, rng: Any) -> Delta | None:
    """Held-out pictures and signals are dark, or bright, or upside down in brightness."""
    times, plus = pick(rng, (0.4, 0.0), (0.6, 0.5), (-1.0, 1.0))
    return {"data": {"held_scale": {"kind": r["data"]["scale"], "times": times, "plus": plus}}} if _images(r) else None


@operator("split_drift", wanted=EACH)
def _held_by_another_sensor(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("noisier_sensor", by=pick(rng, 1.0, 2.0))


@operator("class_imbalance", "class_collapse", wanted=EACH, lost=True)
def _mostly_background(r: Recipe, rng: Any) -> Delta | None:
    return spoil("one_dominant", keep=pick(rng, 0.015, 0.04)) if task_of(r) != "regression" else None


@operator("class_imbalance", "class_collapse", wanted=EACH, lost=True)
def _as_frequent_as_words(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return spoil("zipf", power=pick(rng, 3.0, 4.0) if task_of(r) == "multiclass" else 6.0)


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _frames_of_a_film(r: Recipe, rng: Any) -> Delta | None:
    return spoil("film", frames=pick(rng, 15, 30))


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _gaps_filled_forward(r: Recipe, rng: Any) -> Delta | None:
    return spoil("filled_forward", share=pick(rng, 0.93, 0.97))
