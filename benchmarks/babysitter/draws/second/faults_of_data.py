"""Faults of inputs, targets, labels and splits."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    is_table,
    is_tokens,
    operator,
    pick,
    spoil,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, task_of

EACH = 11  # cases of an operator, where programs allow it
# sources whose numbers are far from mean 0 and deviation 1 as they come
FAR = ("iris", "friedman2", "friedman3", "swiss_roll", "series", "loans", "parity", "high_digits")


def _features(r: Recipe) -> int:
    return KNOWN[r["data"]["source"]].features


def _slip(r: Recipe, **slips: Any) -> Delta | None:
    return None if is_tokens(r) else {"data": {"scale": {"kind": r["data"]["scale"], **slips}}}


# -- numbers that are none ---------------------------------------------------------------------------------------------


@operator("nan_in_data", wanted=EACH)
def _join_without_partner(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("empty_rows", share=pick(rng, 0.01, 0.03, 0.08))


@operator("nan_in_data", wanted=EACH, lost=True)
def _logarithm_of_all(r: Recipe, rng: Any) -> Delta | None:
    return spoil("log_of_column", column=int(rng.integers(_features(r)))) if is_table(r) else None


@operator("nan_in_data", wanted=EACH // 2, lost=True)
def _divided_by_zero(r: Recipe, rng: Any) -> Delta | None:
    return spoil("ratio_column") if is_table(r) else None


# -- scales ------------------------------------------------------------------------------------------------------------


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _times_as_numbers(r: Recipe, rng: Any) -> Delta | None:
    """Some columns hold seconds since 1970, or years."""
    return _slip(r, columns=0.3, plus=pick(rng, 2000.0, 1.6e5, 1.6e9)) if is_table(r) else None


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _sixteen_bits(r: Recipe, rng: Any) -> Delta | None:
    return _slip(r, times=pick(rng, 4095.0, 65535.0)) if not is_table(r) else None


@operator("input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _logarithm_forgotten(r: Recipe, rng: Any) -> Delta | None:
    """Columns as wide as money: a few rows are a hundred times the others."""
    return _slip(r, power=pick(rng, 3.0, 4.0)) if is_table(r) else None


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _scaler_again(r: Recipe, rng: Any) -> Delta | None:
    """The statistics of the raw numbers are taken off numbers that are scaled already."""
    return _slip(r, again=True) if r["data"]["source"] in FAR else None


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale", wanted=EACH)
def _divided_by_many(r: Recipe, rng: Any) -> Delta | None:
    return _slip(r, times=pick(rng, 1 / 4095, 1 / 65535, 1 / 65025))


@operator("target_not_normalized", wanted=EACH)
def _kelvins(r: Recipe, rng: Any) -> Delta | None:
    """Targets lie far from zero and vary little."""
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"times": pick(rng, 5.0, 20.0), "plus": pick(rng, 300.0, 2000.0)}}}


@operator("target_not_normalized", wanted=EACH)
def _populations(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"times": pick(rng, 2e3, 3e4, 1e6), "plus": pick(rng, 0.0, 1e4)}}}


# -- labels ------------------------------------------------------------------------------------------------------------


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH, lost=True)
def _one_row_lost(r: Recipe, rng: Any) -> Delta | None:
    return spoil("misaligned", start=pick(rng, 0.02, 0.1, 0.2), by=pick(rng, 1, 2))


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH // 2, lost=True)
def _labels_sorted(r: Recipe, rng: Any) -> Delta | None:
    return spoil("sort_labels")


@operator("corrupted_labels", "no_better_than_baseline", wanted=EACH // 2, lost=True)
def _labels_reversed(r: Recipe, rng: Any) -> Delta | None:
    return spoil("reverse_labels")


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH, lost=True)
def _columns_sorted_apart(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shuffle_columns")


@operator("no_better_than_baseline", "corrupted_labels", wanted=EACH, lost=True)
def _rows_of_others(r: Recipe, rng: Any) -> Delta | None:
    return spoil("another_table")


@operator("conflicting_labels", "corrupted_labels", wanted=EACH, lost=True)
def _three_people(r: Recipe, rng: Any) -> Delta | None:
    return spoil("three_opinions", wrong=pick(rng, 0.6, 0.8)) if task_of(r) != "regression" else None


@operator("conflicting_labels", "underfitting", "no_better_than_baseline", wanted=EACH, lost=True)
def _rounded_away(r: Recipe, rng: Any) -> Delta | None:
    """Rows that differ become equal, and their classes do not."""
    if task_of(r) == "regression" or not is_table(r) or _features(r) > 4:
        return None
    return spoil("rounded", step=pick(rng, 2.0, 3.0))


# -- inputs that say nothing, or too much ------------------------------------------------------------------------------


@operator("output_ignores_input", "constant_feature", wanted=EACH, lost=True)
def _clipped_away(r: Recipe, rng: Any) -> Delta | None:
    low = pick(rng, 8.0, 20.0)
    return _slip(r, clip=[low, 2.0 * low])


@operator("output_ignores_input", "constant_feature", wanted=EACH, lost=True)
def _whole_numbers(r: Recipe, rng: Any) -> Delta | None:
    """Numbers between 0 and 1 became whole ones: all are 0."""
    return None if is_tokens(r) else {"data": {"scale": {"kind": "minmax", "times": 0.98, "plus": 0.01,
                                                         "clip": [0.0, 0.999], "whole": True}}}


@operator("feature_leak", wanted=EACH, lost=True)
def _known_later(r: Recipe, rng: Any) -> Delta | None:
    return spoil("later_column") if is_table(r) else None


@operator("feature_leak", wanted=EACH, lost=True)
def _number_of_row(r: Recipe, rng: Any) -> Delta | None:
    return spoil("row_number") if is_table(r) else None


# -- splits and counts -------------------------------------------------------------------------------------------------


@operator("split_leak", wanted=2 * EACH, lost=True)
def _held_is_training(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"rows": pick(rng, 80, 150), **spoil("held_is_training")["data"]}}


@operator("split_leak", wanted=EACH, lost=True)
def _drawn_twice(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"rows": pick(rng, 80, 150), **spoil("drawn_twice")["data"]}}


@operator("split_leak", wanted=EACH, lost=True)
def _visits_of_patients(r: Recipe, rng: Any) -> Delta | None:
    noise = 0.0 if is_tokens(r) else pick(rng, 0.0, 1e-3)
    return spoil("grouped_rows", times=pick(rng, 4, 8), noise=noise)


@operator("split_drift", "suspicious_validation", wanted=EACH)
def _held_as_it_came(r: Recipe, rng: Any) -> Delta | None:
    """Training rows are scaled, held-out rows are not."""
    return {"data": {"held_scale": "none"}} if r["data"]["source"] in FAR else None


@operator("split_drift", wanted=EACH)
def _sorted_by_column(r: Recipe, rng: Any) -> Delta | None:
    return spoil("split_by_column") if is_table(r) else None


@operator("class_imbalance", "class_collapse", wanted=EACH, lost=True)
def _one_in_hundred(r: Recipe, rng: Any) -> Delta | None:
    return spoil("one_rare", keep=pick(rng, 0.008, 0.02)) if task_of(r) != "regression" else None


@operator("class_imbalance", "class_collapse", wanted=EACH, lost=True)
def _long_tail(r: Recipe, rng: Any) -> Delta | None:
    return spoil("long_tail", factor=pick(rng, 0.08, 0.15)) if task_of(r) == "multiclass" else None


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _join_multiplies(r: Recipe, rng: Any) -> Delta | None:
    return spoil("join_multiplies", power=pick(rng, 1.3, 1.6))


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _start_of_file_again(r: Recipe, rng: Any) -> Delta | None:
    return spoil("first_rows_again", rows=pick(rng, 25, 50))
