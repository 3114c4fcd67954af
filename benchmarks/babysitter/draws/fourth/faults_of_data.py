"""Faults of inputs, targets, labels and splits."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import Delta, is_table, is_tokens, operator, pick, spoil
from benchmarks.babysitter.recipes import Recipe, task_of

EACH = 11  # cases of an operator, where programs allow it
# sources whose rows are not so easy that the clear ones among them could not promise more
HARD = ("triage", "waveform", "ringnorm", "display", "fraud", "upper_halves", "moods", "alike", "yin_yang")


def _scaled(r: Recipe, **slips: Any) -> Delta | None:
    return None if is_tokens(r) else {"data": {"scale": {"kind": r["data"]["scale"], **slips}}}


def _held(r: Recipe, **slips: Any) -> Delta:
    return {"data": {"held_scale": {"kind": r["data"]["scale"], **slips}}}


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
def _looks_back_too_far(r: Recipe, rng: Any) -> Delta | None:
    """Means over the last days: the first rows have none."""
    return spoil("lagged", share=pick(rng, 0.005, 0.03, 0.1)) if is_table(r) else None


@operator("nan_in_data", wanted=EACH, lost=True)
def _targets_not_written_down(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "regression":
        return None
    return spoil("unrecorded_targets", share=pick(rng, 0.003, 0.02, 0.1))


@operator("nan_in_data", wanted=EACH)
def _divided_by_own_deviation(r: Recipe, rng: Any) -> Delta | None:
    """Pictures and signals, each divided by its own deviation, and a few of them are blank."""
    return spoil("flat_frames", share=pick(rng, 0.003, 0.02, 0.1)) if _images(r) else None


# -- scales ------------------------------------------------------------------------------------------------------------


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _half_in_other_units(r: Recipe, rng: Any) -> Delta | None:
    """Half of the columns come from a file that counts in thousandths."""
    if not is_table(r) or _normed_first(r):
        return None
    return _scaled(r, columns=0.5, times=pick(rng, 30.0, 100.0, 1000.0))


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _scaler_of_other_units(r: Recipe, rng: Any) -> Delta | None:
    """The scaler was fitted on metres and is given centimetres or millimetres: (100 x - mean) / deviation."""
    if not is_table(r) or _normed_first(r):
        return None
    times = pick(rng, 10.0, 100.0, 1000.0)
    return _scaled(r, times=times, plus=(times - 1.0) * pick(rng, 2.0, 4.0))


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _counts_of_the_converter(r: Recipe, rng: Any) -> Delta | None:
    """Pictures and signals as the converter gives them: 10, 12 or 14 bits."""
    top = 2.0 ** pick(rng, 10, 12, 14)
    return _scaled(r, times=top, plus=-pick(rng, 0.0, 0.5) * top) if _images(r) and not _normed_first(r) else None


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _shares_made_percent_backwards(r: Recipe, rng: Any) -> Delta | None:
    """Columns between 0 and 1 already, divided by 100 or 1000 once more."""
    if not is_table(r) or _normed_first(r):
        return None
    return {"data": {"scale": {"kind": "minmax", "times": pick(rng, 0.03, 0.01, 0.001)}}}


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _standardized_then_divided(r: Recipe, rng: Any) -> Delta | None:
    """Mean off and by the deviation, then by 255 as in the tutorial."""
    if not _images(r) or _normed_first(r):
        return None
    wide = pick(rng, 0.2, 0.3)
    return _scaled(r, times=1.0 / (255.0 * wide), plus=-0.5 / (255.0 * wide))


@operator("target_not_normalized", wanted=EACH)
def _pascals(r: Recipe, rng: Any) -> Delta | None:
    """Targets are pressures in pascals: some thousands around a hundred thousand; or in hectopascals."""
    if task_of(r) != "regression":
        return None
    times, plus = pick(rng, (900.0, 101_325.0), (9.0, 1013.25), (3000.0, 95_000.0))
    return {"data": {"target": {"times": times, "plus": plus}}}


@operator("target_not_normalized", wanted=EACH)
def _calendar_years(r: Recipe, rng: Any) -> Delta | None:
    """Targets are years, counted from the birth of Christ or from 1900."""
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"times": pick(rng, 12.0, 25.0), "plus": pick(rng, 1985.0, 300.0)}}}


# -- labels ------------------------------------------------------------------------------------------------------------


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _pages_in_another_order(r: Recipe, rng: Any) -> Delta | None:
    return spoil("pages_swapped", size=pick(rng, 5, 20, 60))


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _buffer_never_filled_again(r: Recipe, rng: Any) -> Delta | None:
    return spoil("buffer_of_labels", size=pick(rng, 16, 32, 64))


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _crowd_that_guesses(r: Recipe, rng: Any) -> Delta | None:
    return spoil("crowd", share=pick(rng, 0.4, 0.6, 0.8))


@operator("corrupted_labels", "suspicious_validation", "split_drift", wanted=EACH, lost=True)
def _experts_for_the_held_rows(r: Recipe, rng: Any) -> Delta | None:
    """Training rows labelled by a crowd, held-out ones by experts: the held-out score is far better."""
    return spoil("crowd", share=pick(rng, 0.4, 0.6, 0.8), held=False)


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH // 2, lost=True)
def _one_class_called_another(r: Recipe, rng: Any) -> Delta | None:
    return spoil("one_for_another", share=pick(rng, 0.5, 0.7)) if task_of(r) != "regression" else None


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH, lost=True)
def _tomorrows_noise(r: Recipe, rng: Any) -> Delta | None:
    return spoil("chance_to_be_predicted")


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH, lost=True)
def _means_of_wrong_groups(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("wrong_groups", size=pick(rng, 8, 20, 50))


@operator("conflicting_labels", "corrupted_labels", "class_imbalance", wanted=EACH, lost=True)
def _before_and_after(r: Recipe, rng: Any) -> Delta | None:
    return spoil("after_treatment", share=pick(rng, 0.5, 0.75, 1.0)) if task_of(r) != "regression" else None


@operator("conflicting_labels", "corrupted_labels", "duplicate_rows", wanted=EACH + 3, lost=True)
def _joined_by_address(r: Recipe, rng: Any) -> Delta | None:
    """Regression, too: the same inputs with other numbers."""
    return spoil("one_address", size=pick(rng, 4, 8, 16))


# -- inputs that say nothing, or too much ------------------------------------------------------------------------------


@operator("output_ignores_input", "constant_feature", wanted=EACH, lost=True)
def _all_of_it_filled_in(r: Recipe, rng: Any) -> Delta | None:
    """Every number is the one that is written where nothing was measured."""
    fill = 0.0 if is_tokens(r) else pick(rng, 0.0, -1.0, 1.0)
    return {"data": {"scale": {"kind": r["data"]["scale"], "constant": fill}}}


@operator("constant_feature", "no_better_than_baseline", "underfitting", wanted=EACH + 3, lost=True)
def _most_columns_filled_in(r: Recipe, rng: Any) -> Delta | None:
    """Most columns were not read and hold what is written where nothing was measured."""
    if not is_table(r):
        return None
    return _scaled(r, columns=pick(rng, 0.5, 0.7, 0.9), constant=pick(rng, 0.0, -1.0))


@operator("constant_feature", "no_better_than_baseline", "underfitting", wanted=EACH + 3, lost=True)
def _most_of_the_sensor_covered(r: Recipe, rng: Any) -> Delta | None:
    """Most pixels, or moments of a signal, are always black."""
    return _scaled(r, columns=pick(rng, 0.75, 0.9, 0.97), constant=0.0) if _images(r) else None


@operator("feature_leak", wanted=EACH)
def _score_of_an_older_model(r: Recipe, rng: Any) -> Delta | None:
    return spoil("old_score", noise=pick(rng, 0.05, 0.15, 0.3)) if _bare(r) and task_of(r) != "multiclass" else None


@operator("feature_leak", wanted=EACH)
def _paid_when_it_was_known(r: Recipe, rng: Any) -> Delta | None:
    return spoil("refund") if _bare(r) else None


# -- splits and counts -------------------------------------------------------------------------------------------------


def _few(r: Recipe, rng: Any, kind: str, **settings: Any) -> Delta:
    """Few rows, which are learned by heart: so the leak shows."""
    data = {"rows": pick(rng, 70, 130), **spoil(kind, **settings)["data"]}
    return {"data": data, "epochs": 3 * r["epochs"], "batch_size": min(r["batch_size"], 16)}


@operator("split_leak", "duplicate_rows", "overfitting", wanted=EACH, lost=True)
def _copied_then_split(r: Recipe, rng: Any) -> Delta | None:
    return _few(r, rng, "augmented_before_split", copies=pick(rng, 3, 5, 8))


@operator("split_leak", "duplicate_rows", "overfitting", wanted=EACH // 2, lost=True)
def _augmented_then_split(r: Recipe, rng: Any) -> Delta | None:
    """The same with a little noise: no row is exactly another one."""
    if is_tokens(r):
        return None
    return _few(r, rng, "augmented_before_split", copies=pick(rng, 4, 8), jitter=pick(rng, 1e-4, 1e-3, 5e-3))


@operator("split_leak", "overfitting", "duplicate_rows", wanted=EACH, lost=True)
def _topped_up_from_a_dump(r: Recipe, rng: Any) -> Delta | None:
    return _few(r, rng, "topped_up", share=pick(rng, 0.6, 0.8, 1.0), held=pick(rng, 40, 80))


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _another_scaler_for_held(r: Recipe, rng: Any) -> Delta | None:
    """Training rows have mean 0, held-out ones lie between 0 and 1; pictures lie in 0 to 1 and in -1 to 1."""
    if is_tokens(r):
        return None
    if is_table(r):
        return {"data": {"held_scale": "minmax"}}
    return _held(r, times=2.0, plus=-1.0)


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _half_of_the_columns_moved(r: Recipe, rng: Any) -> Delta | None:
    """Held-out rows come from the next season: some columns lie higher, by one, two or four deviations."""
    return _held(r, columns=pick(rng, 0.3, 0.6), plus=pick(rng, 1.0, 2.0, 4.0)) if is_table(r) else None


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _columns_of_the_held_file_swapped(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("held_columns_swapped")


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _held_file_full_of_gaps(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("held_with_gaps", share=pick(rng, 0.2, 0.4, 0.7))


@operator("suspicious_validation", "split_drift", wanted=2 * EACH)
def _only_clear_rows_held(r: Recipe, rng: Any) -> Delta | None:
    return spoil("only_clear_rows_held", near=pick(rng, 5, 9, 15)) if r["data"]["source"] in HARD else None


@operator("class_imbalance", "class_collapse", wanted=EACH, lost=True)
def _days_without_events(r: Recipe, rng: Any) -> Delta | None:
    return spoil("days_without_events", times=pick(rng, 12, 25, 60)) if task_of(r) != "regression" else None


@operator("class_imbalance", "class_collapse", wanted=EACH, lost=True)
def _each_class_a_fraction(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return spoil("halving_classes", base=pick(rng, 15.0, 40.0) if task_of(r) == "binary" else pick(rng, 4.0, 7.0))


@operator("class_collapse", "class_imbalance", wanted=2 * EACH)
def _weights_the_wrong_way(r: Recipe, rng: Any) -> Delta | None:
    """Weights of classes from another program: one class weighs as much as thirty, a hundred or a thousand others."""
    if task_of(r) == "regression":
        return None
    count = {"binary": 2}.get(task_of(r)) or r["layers"][-1]["config"]["units"]
    weights = [1.0] * count
    weights[int(rng.integers(count))] = pick(rng, 30.0, 100.0, 1000.0)
    return {"class_weight": weights}


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _few_users_do_everything(r: Recipe, rng: Any) -> Delta | None:
    return spoil("busy_users", power=pick(rng, 1.6, 2.0, 3.0))


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _table_of_every_night(r: Recipe, rng: Any) -> Delta | None:
    return spoil("nightly_copies", nights=pick(rng, 12, 25, 50))
