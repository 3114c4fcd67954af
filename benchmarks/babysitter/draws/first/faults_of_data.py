"""Faults of inputs, targets, labels and splits."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    is_table,
    operator,
    pick,
    spoil,
)
from benchmarks.babysitter.recipes import Recipe, task_of

# -- data --------------------------------------------------------------------------------------------------------------


@operator("nan_in_data")
def _infinite_cells(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression" and rng.random() < 0.5:
        return spoil("bad_targets", value="nan", share=0.02)
    return spoil("bad_cells", value="inf", share=pick(rng, 0.005, 0.05))


@operator("input_not_normalized", "unstable_activation_scale")
def _as_measured(r: Recipe, rng: Any) -> Delta | None:
    if r["data"]["source"] in ("blobs6", "spirals", "friedman", "gratings"):
        return {"data": {"scale": {"kind": "none", "times": pick(rng, 100.0, 1000.0)}}}
    return {"data": {"scale": "none"}}


@operator("input_not_normalized", "unstable_activation_scale")
def _far_from_zero(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": {"kind": r["data"]["scale"], "times": 10.0, "plus": pick(rng, 100.0, 500.0)}}}


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale")
def _divided_again(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": {"kind": "minmax", "times": pick(rng, 1 / 255, 1e-4)}}}


@operator("target_not_normalized", copies=5)
def _targets_in_grams(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"target": pick(rng, 50, 500)}} if task_of(r) == "regression" else None


@operator("corrupted_labels", "no_better_than_baseline")
def _labels_slipped(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shift_labels", by=pick(rng, 1, 5))


@operator("corrupted_labels", "no_better_than_baseline", lost=True)
def _labels_half(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shuffle_labels", share=0.8)


@operator("output_ignores_input", "constant_feature", lost=True)
def _first_row_only(r: Recipe, rng: Any) -> Delta | None:
    return spoil("blank", how="first")


@operator("split_leak")
def _oversampled(r: Recipe, rng: Any) -> Delta | None:
    return spoil("oversample_before_split", times=pick(rng, 3, 6))


@operator("feature_leak", lost=True)
def _answer_in_first(r: Recipe, rng: Any) -> Delta | None:
    return spoil("replace_feature", column=0) if is_table(r) else None


@operator("split_drift", "class_imbalance")
def _split_in_order(r: Recipe, rng: Any) -> Delta | None:
    return spoil("split_by_order")


@operator("class_imbalance", "class_collapse", lost=True)
def _rare_last(r: Recipe, rng: Any) -> Delta | None:
    return spoil("thin_classes", keep=pick(rng, 0.01, 0.04), classes=1) if task_of(r) != "regression" else None


@operator("conflicting_labels", "corrupted_labels", lost=True)
def _two_opinions(r: Recipe, rng: Any) -> Delta | None:
    return spoil("conflict", share=0.9) if task_of(r) != "regression" else None


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", lost=True)
def _copies_of_few(r: Recipe, rng: Any) -> Delta | None:
    return spoil("copy_rows", distinct=0.05)
