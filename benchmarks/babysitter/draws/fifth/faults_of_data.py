"""Faults of inputs, targets, labels and splits."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import Delta, is_table, is_tokens, operator, pick, spoil
from benchmarks.babysitter.recipes import KNOWN, Recipe, task_of

EACH = 10  # cases of an operator, where programs allow it
# tables whose columns are far from mean 0 and deviation 1, and from each other, as they come
FAR = ("turbine", "exchanger", "rents", "batteries", "minerals", "triangles", "visitors", "rains", "rivers")
# sources whose rows are not so easy that the clear ones among them could not promise more
HARD = ("visitors", "rains", "edges", "queens", "motors")
# sources of which a few dozen rows tell nearly all
EASY = ("minerals", "levels", "phones", "scratches", "smiles", "tiles")


def _scaled(r: Recipe, **slips: Any) -> Delta | None:
    return None if is_tokens(r) else {"data": {"scale": {"kind": r["data"]["scale"], **slips}}}


def _images(r: Recipe) -> bool:
    return not is_table(r) and not is_tokens(r)


def _bare(r: Recipe) -> bool:
    """Tell whether a column can be added: a table that nothing puts into another shape."""
    return is_table(r) and "shape" not in r["data"]


def _normed_first(r: Recipe) -> bool:
    """Tell whether a normalization stands so early that scales of inputs matter little."""
    return any("Norm" in la["class"] for la in r["layers"][:2])


# -- numbers that are none ---------------------------------------------------------------------------------------------


@operator("nan_in_data", wanted=EACH)
def _question_not_on_every_form(r: Recipe, rng: Any) -> Delta | None:
    return spoil("question_not_asked", share=pick(rng, 0.005, 0.05, 0.3)) if is_table(r) else None


@operator("nan_in_data", wanted=EACH)
def _growth_since_nothing(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("growth_from_zero", share=pick(rng, 0.003, 0.01, 0.05))


@operator("nan_in_data", wanted=EACH, lost=True)
def _logarithm_of_what_was_not_sold(r: Recipe, rng: Any) -> Delta | None:
    return spoil("logarithm_of_no_sale", share=pick(rng, 0.003, 0.03)) if task_of(r) == "regression" else None


# -- scales ------------------------------------------------------------------------------------------------------------


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _table_as_it_was_read(r: Recipe, rng: Any) -> Delta | None:
    """Nobody scaled anything: years beside shares, euros beside rooms."""
    if r["data"]["source"] not in FAR or _normed_first(r):
        return None
    return {"data": {"scale": "none"}}


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _bytes_or_millivolts(r: Recipe, rng: Any) -> Delta | None:
    """Pictures from 0 to 255, signals in millivolts."""
    return _scaled(r, times=pick(rng, 100.0, 255.0, 1000.0)) if _images(r) and not _normed_first(r) else None


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _missing_is_minus_999(r: Recipe, rng: Any) -> Delta | None:
    """Columns are scaled, but what was missing in them is -999, -9999 or 1e6."""
    if not is_table(r) or _normed_first(r):
        return None
    return spoil("missing_as_a_number", value=pick(rng, -999.0, -9999.0, 1e6), share=pick(rng, 0.02, 0.06))


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH + 1)
def _by_the_handbook_again(r: Recipe, rng: Any) -> Delta | None:
    """Columns of mean 0 and deviation 1, from which the handbook's mean is taken, and divided by its deviation."""
    if not is_table(r) or _normed_first(r):
        return None
    mean, wide = pick(rng, (120.0, 80.0), (100.0, 15.0), (3.0, 200.0))
    return _scaled(r, times=1.0 / wide, plus=-mean / wide)


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH + 1)
def _brought_to_one_twice(r: Recipe, rng: Any) -> Delta | None:
    """Pixels between 0 and 1 already, and the network's own preparation: divided by 127.5, less one; or by 255."""
    if not _images(r) or _normed_first(r):
        return None
    plus = pick(rng, -1.0, -1.0, 0.0)
    return _scaled(r, times=(2.0 if plus else 1.0) / 255.0, plus=plus)


@operator("target_not_normalized", wanted=EACH + 1)
def _prices_in_full(r: Recipe, rng: Any) -> Delta | None:
    """Targets in euros: a few hundred thousand, give or take eighty thousand; or salaries; or rents."""
    if task_of(r) != "regression":
        return None
    wide, mean = pick(rng, (80_000.0, 250_000.0), (12_000.0, 42_000.0), (300.0, 900.0))
    return {"data": {"target": {"times": wide, "plus": mean}}}


@operator("target_not_normalized", wanted=EACH + 1)
def _seconds_for_hours(r: Recipe, rng: Any) -> Delta | None:
    """Targets around zero, in seconds, cents or micrometres."""
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"times": pick(rng, 60.0, 100.0, 3600.0), "plus": 0.0}}}


# -- labels ------------------------------------------------------------------------------------------------------------


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _listed_as_text(r: Recipe, rng: Any) -> Delta | None:
    return spoil("names_sorted_as_text")


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _labels_of_the_batch_before(r: Recipe, rng: Any) -> Delta | None:
    return spoil("one_batch_behind", size=pick(rng, 16, 32, 64))


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _filtered_on_one_side(r: Recipe, rng: Any) -> Delta | None:
    return spoil("filtered_on_one_side", share=pick(rng, 0.05, 0.15, 0.3))


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH + 1, lost=True)
def _too_much_privacy(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("noise_for_privacy", times=pick(rng, 8.0, 15.0, 40.0))


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH + 1, lost=True)
def _hum_of_the_instrument(r: Recipe, rng: Any) -> Delta | None:
    return spoil("unplugged") if not is_tokens(r) else None


@operator("conflicting_labels", "corrupted_labels", "duplicate_rows", wanted=EACH + 1, lost=True)
def _marks_of_many_people(r: Recipe, rng: Any) -> Delta | None:
    return spoil("rated_by_many", people=pick(rng, 3, 5), wide=pick(rng, 2.5, 3.2))


@operator("conflicting_labels", "corrupted_labels", wanted=EACH + 1, lost=True)
def _old_labels_not_removed(r: Recipe, rng: Any) -> Delta | None:
    return spoil("guidelines_changed", share=pick(rng, 0.7, 0.85, 1.0)) if task_of(r) != "regression" else None


# -- inputs that say nothing, or too much ------------------------------------------------------------------------------


@operator("output_ignores_input", "constant_feature", wanted=EACH, lost=True)
def _form_never_filled_in(r: Recipe, rng: Any) -> Delta | None:
    return spoil("defaults_of_the_form")


@operator("output_ignores_input", "constant_feature", wanted=EACH // 2, lost=True)
def _channel_of_opacity(r: Recipe, rng: Any) -> Delta | None:
    """The channel that was read is that of opacity: white all over; or the microphone's status, or an unknown sign."""
    return None if is_table(r) else {"data": {"scale": {"kind": r["data"]["scale"], "constant": 1.0}}}


@operator("constant_feature", "no_better_than_baseline", "underfitting", wanted=EACH + 4, lost=True)
def _collected_with_one_setting(r: Recipe, rng: Any) -> Delta | None:
    """The columns that vary in use were held fixed while rows were collected."""
    if not is_table(r) or KNOWN[r["data"]["source"]].features < 3:
        return None
    return spoil("one_setting", columns=pick(rng, 0.4, 0.6))


@operator("constant_feature", "no_better_than_baseline", "underfitting", wanted=EACH + 4, lost=True)
def _lens_half_covered(r: Recipe, rng: Any) -> Delta | None:
    return spoil("covered_window", share=pick(rng, 0.5, 0.7, 0.85)) if _images(r) else None


@operator("feature_leak", wanted=EACH + 2)
def _place_in_the_final_list(r: Recipe, rng: Any) -> Delta | None:
    return spoil("place_in_the_final_list", jitter=pick(rng, 0.005, 0.03)) if _bare(r) else None


@operator("feature_leak", wanted=EACH + 2)
def _day_on_which_it_was_known(r: Recipe, rng: Any) -> Delta | None:
    return spoil("date_of_the_outcome") if _bare(r) and task_of(r) != "regression" else None


# -- splits and counts -------------------------------------------------------------------------------------------------


def _few(r: Recipe, rng: Any, kind: str, **settings: Any) -> Delta:
    """Few rows, which are learned by heart: so the leak shows."""
    data = {"rows": pick(rng, 70, 130), **spoil(kind, **settings)["data"]}
    return {"data": data, "epochs": 3 * r["epochs"], "batch_size": min(r["batch_size"], 16)}


@operator("split_leak", "overfitting", "duplicate_rows", wanted=EACH, lost=True)
def _held_rows_never_left(r: Recipe, rng: Any) -> Delta | None:
    """The held-out rows were drawn from the training rows and stayed among them."""
    if r["data"]["source"] in EASY:
        return None
    return _few(r, rng, "held_drawn_from_training", share=pick(rng, 0.6, 0.8, 1.0))


@operator("split_leak", "duplicate_rows", "overfitting", wanted=EACH // 2, lost=True)
def _several_takes_of_everybody(r: Recipe, rng: Any) -> Delta | None:
    if is_tokens(r) or r["data"]["source"] in EASY:
        return None
    return _few(r, rng, "several_takes", takes=pick(rng, 4, 8), apart=pick(rng, 1e-3, 0.01))


@operator("split_leak", "duplicate_rows", "overfitting", wanted=EACH, lost=True)
def _evened_and_then_split(r: Recipe, rng: Any) -> Delta | None:
    """Rare classes were copied until all were even, and the rows were split afterwards."""
    if task_of(r) == "regression":
        return None
    return {"data": spoil("evened_before_split", few=pick(rng, 6, 10, 16))["data"]}


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _held_from_another_hospital(r: Recipe, rng: Any) -> Delta | None:
    return spoil("another_hospital", by=pick(rng, 0.8, 1.5)) if is_table(r) else None


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _held_in_two_tones(r: Recipe, rng: Any) -> Delta | None:
    return spoil("two_tones") if _images(r) else None


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _held_after_the_inflation(r: Recipe, rng: Any) -> Delta | None:
    return spoil("after_the_inflation", by=pick(rng, 0.7, 1.2, 2.0)) if task_of(r) == "regression" else None


@operator("split_drift", "suspicious_validation", wanted=EACH // 2)
def _held_with_another_vocabulary(r: Recipe, rng: Any) -> Delta | None:
    return spoil("another_vocabulary") if is_tokens(r) else None


@operator("suspicious_validation", "split_drift", wanted=EACH + 2)
def _rows_an_older_model_got_right(r: Recipe, rng: Any) -> Delta | None:
    if r["data"]["source"] not in HARD:
        return None
    return spoil("an_older_model_was_right", keep=pick(rng, 0.3, 0.45))


@operator("suspicious_validation", "split_drift", wanted=EACH + 2)
def _augmented_beyond_recognition(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("augmented_beyond_recognition", by=pick(rng, 1.0, 1.5, 2.0))


@operator("class_imbalance", "class_collapse", wanted=EACH + 2, lost=True)
def _as_rare_as_outside(r: Recipe, rng: Any) -> Delta | None:
    return spoil("counted_as_they_come", least=pick(rng, 0.007, 0.02)) if task_of(r) != "regression" else None


@operator("class_imbalance", "class_collapse", wanted=EACH + 2, lost=True)
def _a_handful_of_one_class(r: Recipe, rng: Any) -> Delta | None:
    return spoil("a_handful_of_one", rows=pick(rng, 3, 6)) if task_of(r) != "regression" else None


def _count(r: Recipe) -> int:
    return max(KNOWN[r["data"]["source"]].classes, 2)


@operator("class_collapse", "class_imbalance", wanted=EACH + 2)
def _class_without_weight(r: Recipe, rng: Any) -> Delta | None:
    """Weights of classes in which one of them, or a few, was given none: nobody asks for it, and it is never said."""
    if task_of(r) == "regression":
        return None
    weights = [1.0] * _count(r)
    for kind in rng.permutation(_count(r))[: pick(rng, 1, max(1, _count(r) // 2))].tolist():
        weights[kind] = 0.0
    return {"class_weight": weights}


@operator("class_collapse", "class_imbalance", wanted=EACH + 2)
def _weights_for_counts_of_before(r: Recipe, rng: Any) -> Delta | None:
    """Weights that made up for counts of one to hundreds; the rows were evened out since, the weights stayed."""
    if task_of(r) == "regression":
        return None
    rare = int(rng.integers(_count(r)))
    weights = [1.0 if kind == rare else pick(rng, 0.01, 0.003, 0.001) for kind in range(_count(r))]
    return {"class_weight": weights}


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH + 2, lost=True)
def _augmentation_that_changes_nothing(r: Recipe, rng: Any) -> Delta | None:
    return spoil("copied_until_enough", distinct=pick(rng, 25, 40, 60))


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH + 2, lost=True)
def _entries_of_the_testers(r: Recipe, rng: Any) -> Delta | None:
    return spoil("entries_of_the_testers", share=pick(rng, 0.9, 0.96), distinct=pick(rng, 5, 12))
