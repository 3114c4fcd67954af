"""Healthy programs that look like something is wrong: every one of the rule book's list, and a few more."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    dropped,
    each,
    fine_tuned,
    hidden,
    layers,
    lookalike,
    only_dense,
    pick,
    planned_steps,
    spoil,
)
from benchmarks.babysitter.recipes import Recipe, dense, layer, optimizer, task_of


@lookalike()
def _sparse_by_l1(r: Recipe, rng: Any) -> Delta | None:
    """Sparse layers by a small L1 and biases below zero."""
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0] = dense(96, bias_initializer={"name": "constant", "value": -0.6},
                     kernel_regularizer={"name": "l1", "l1": 1e-5})
    return {"layers": stack}


@lookalike()
def _warm_up_and_cosine(r: Recipe, rng: Any) -> Delta | None:
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r)
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "warmup", "steps": steps // 5,
        "after": {"name": "cosine", "learning_rate": 2 * rate, "steps": steps}}}, "epochs": r["epochs"] * 5 // 4}


@lookalike()
def _one_cycle(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "one_cycle", "learning_rate": 3 * r["optimizer"]["learning_rate"], "steps": planned_steps(r)}}}


@lookalike()
def _single_rows_slowly(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]):
        return None
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / 8}
    return {"batch_size": 2, "epochs": max(4, r["epochs"] // 4), "optimizer": rule}


@lookalike()
def _dropout_of_inputs(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] *= 3
    return {**dropped({**r, "layers": stack}, 0.4), "epochs": r["epochs"] * 2}


@lookalike()
def _longer(r: Recipe, rng: Any) -> Delta | None:
    """A late plateau: the last half of the run brings nothing; the best weights are given back at the end."""
    return {"epochs": r["epochs"] * 2, "early_stopping": r["epochs"] // 2}


@lookalike()
def _weighted_rare_class(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {**spoil("thin_classes", keep=0.15, classes=1), "class_weight": "balanced"}


@lookalike()
def _unscaled_behind_layer_norm(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.8), *layers(r)],
            "data": {"scale": {"kind": r["data"]["scale"], "times": 50.0, "plus": 100.0}}}


@lookalike()
def _deep_orthogonal(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    deep = dense(32, "tanh")
    deep["config"]["kernel_initializer"] = "orthogonal"
    return {"layers": [*[deepcopy(deep) for _ in range(5)], layers(r)[-1]]}


@lookalike()
def _clipped_gru(r: Recipe, rng: Any) -> Delta | None:
    if r["data"]["source"] != "gratings":
        return None
    return {"layers": [layer("Reshape", target_shape=[10, 10]), layer("GRU", units=24), layers(r)[-1]],
            "optimizer": optimizer("Adam", 5e-3, clip_norm=1.0), "epochs": 20, "data": {"shape": [100]}}


@lookalike()
def _fine_tuning_by_adam(r: Recipe, rng: Any) -> Delta | None:
    """As above, by Adam with 1e-5."""
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("Adam", 1e-5), "epochs": max(4, r["epochs"] // 3)}


@lookalike()
def _mild_penalty(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l2", "l2": pick(rng, 1e-4, 3e-4)})


@lookalike()
def _large_batches(r: Recipe, rng: Any) -> Delta | None:
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * 2}
    return {"batch_size": 128, "epochs": r["epochs"] * 4, "optimizer": rule}


@lookalike()
def _minmax_inputs(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": "minmax"}, "epochs": r["epochs"] * 2}
