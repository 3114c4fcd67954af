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
def _missing_cells(r: Recipe, rng: Any) -> Delta | None:
    return spoil("bad_cells", value="nan", share=pick(rng, 0.01, 0.1))


@operator("input_not_normalized", "unstable_activation_scale")
def _raw_inputs(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": "none"}}


@operator("input_not_normalized", "unstable_activation_scale")
def _one_column_in_grams(r: Recipe, rng: Any) -> Delta | None:
    scale = {"kind": "zscore", "times": pick(rng, 300.0, 1000.0), "columns": 0.2}
    return {"data": {"scale": scale}} if is_table(r) else None


@operator("input_normalized_twice", "input_not_normalized", "unstable_activation_scale")
def _scaled_twice(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": {"kind": r["data"]["scale"], "times": pick(rng, 1e-3, 1 / 255)}}}


@operator("target_not_normalized", copies=5)
def _targets_in_cents(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"target": pick(rng, 100, 1000)}} if task_of(r) == "regression" else None


@operator("corrupted_labels", "no_better_than_baseline", lost=True)
def _labels_shuffled(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shuffle_labels", share=pick(rng, 0.6, 1.0))


@operator("corrupted_labels", "no_better_than_baseline", lost=True)
def _inputs_sorted(r: Recipe, rng: Any) -> Delta | None:
    return spoil("sort_inputs")


@operator("output_ignores_input", "constant_feature", lost=True)
def _inputs_lost(r: Recipe, rng: Any) -> Delta | None:
    return spoil("blank", how="zeros")


@operator("split_leak")
def _copies_held_out(r: Recipe, rng: Any) -> Delta | None:
    return spoil("leak_rows", share=pick(rng, 0.5, 1.0))


@operator("feature_leak")
def _answer_column(r: Recipe, rng: Any) -> Delta | None:
    return spoil("leak_feature", noise=pick(rng, 0.02, 0.1)) if is_table(r) else None


@operator("split_drift", "suspicious_validation")
def _held_out_shifted(r: Recipe, rng: Any) -> Delta | None:
    return spoil("drift", by=pick(rng, 2.0, 4.0))


@operator("class_imbalance", "class_collapse", lost=True)
def _rare_half(r: Recipe, rng: Any) -> Delta | None:
    return spoil("thin_classes", keep=pick(rng, 0.02, 0.05)) if task_of(r) != "regression" else None


@operator("conflicting_labels", "corrupted_labels", lost=True)
def _labelled_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("conflict", share=pick(rng, 0.6, 1.0)) if task_of(r) != "regression" else None


@operator("duplicate_rows", "overfitting", "overtraining", "regularization_missing", lost=True)
def _few_distinct(r: Recipe, rng: Any) -> Delta | None:
    return spoil("copy_rows", distinct=pick(rng, 0.03, 0.08))
