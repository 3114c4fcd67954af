"""Healthy programs that look like something is wrong: every one of the rule book's list, and a few more.

They are operators without a code: a warning or an error in such a run is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from benchmarks.babysitter.operators import (
    DEV,
    SPENT,
    Delta,
    Make,
    Operator,
    dropped,
    each,
    hidden,
    layers,
    pick,
    spoil,
)
from benchmarks.babysitter.recipes import Recipe, dense, layer, optimizer, task_of

LOOKALIKES: list[Operator] = []


def lookalike(*pools: str, wanted: int | None = None) -> Callable[[Make], Make]:
    """Register a healthy variant under its function's name, with a variant for each pool; `wanted` as for operators."""

    def register(make: Make) -> Make:
        for pool in pools:
            LOOKALIKES.append(Operator(getattr(make, "__name__", "").removeprefix("_"), pool, (), make, 1, wanted))
        return make

    return register


def only_dense(r: Recipe) -> bool:
    """Tell whether all layers are dense."""
    return all(la["class"] == "Dense" for la in r["layers"])


def fine_tuned(r: Recipe) -> dict[str, Any]:
    """Return the training that comes before a fine-tuning."""
    return {"epochs": r["epochs"], "optimizer": r["optimizer"]}


def planned_steps(r: Recipe) -> int:
    """Return how many steps a program takes, about."""
    return max(1, r["data"]["rows"] // r["batch_size"]) * r["epochs"]


@lookalike(DEV)
def _sparse_relu(r: Recipe, rng: Any) -> Delta | None:
    """80 % zeros: biases below zero in wide layers, and no unit is dead for all rows."""
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0] = dense(128, bias_initializer={"name": "constant", "value": -0.8})
    return {"layers": stack}


@lookalike(SPENT)
def _sparse_by_l1(r: Recipe, rng: Any) -> Delta | None:
    """Sparse layers by a small L1 and biases below zero."""
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0] = dense(96, bias_initializer={"name": "constant", "value": -0.6},
                     kernel_regularizer={"name": "l1", "l1": 1e-5})
    return {"layers": stack}


@lookalike(DEV)
def _warm_up(r: Recipe, rng: Any) -> Delta | None:
    rate = r["optimizer"]["learning_rate"]
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "warmup", "after": {"name": "constant", "learning_rate": rate}, "steps": planned_steps(r) // 4}},
        "epochs": r["epochs"] * 5 // 4}


@lookalike(SPENT)
def _warm_up_and_cosine(r: Recipe, rng: Any) -> Delta | None:
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r)
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "warmup", "steps": steps // 5,
        "after": {"name": "cosine", "learning_rate": 2 * rate, "steps": steps}}}, "epochs": r["epochs"] * 5 // 4}


@lookalike(DEV)
def _cyclic(r: Recipe, rng: Any) -> Delta | None:
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r)
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "cosine", "learning_rate": 3 * rate, "steps": max(steps // 5, 5), "restarts": True}}}


@lookalike(SPENT)
def _one_cycle(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "one_cycle", "learning_rate": 3 * r["optimizer"]["learning_rate"], "steps": planned_steps(r)}}}


@lookalike(DEV)
def _tiny_batches(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]):
        return None
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / 4}
    return {"batch_size": 4, "epochs": max(5, r["epochs"] // 3), "optimizer": rule}


@lookalike(SPENT)
def _single_rows_slowly(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]):
        return None
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / 8}
    return {"batch_size": 2, "epochs": max(4, r["epochs"] // 4), "optimizer": rule}


@lookalike(DEV)
def _dropout_half(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] *= 2
    return {**dropped({**r, "layers": stack}, 0.5), "epochs": r["epochs"] * 2}


@lookalike(SPENT)
def _dropout_of_inputs(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] *= 3
    return {**dropped({**r, "layers": stack}, 0.4), "epochs": r["epochs"] * 2}


@lookalike(DEV, SPENT)
def _longer(r: Recipe, rng: Any) -> Delta | None:
    """A late plateau: the last half of the run brings nothing; the best weights are given back at the end."""
    return {"epochs": r["epochs"] * 2, "early_stopping": r["epochs"] // 2}


@lookalike(DEV)
def _weighted_imbalance(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {**spoil("thin_classes", keep=0.2), "class_weight": "balanced"}


@lookalike(SPENT)
def _weighted_rare_class(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {**spoil("thin_classes", keep=0.15, classes=1), "class_weight": "balanced"}


@lookalike(DEV)
def _unscaled_behind_norm(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["use_bias"] = True
    return {"layers": [layer("BatchNorm", momentum=0.9), *stack], "data": {"scale": "none"}}


@lookalike(SPENT)
def _unscaled_behind_layer_norm(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.8), *layers(r)],
            "data": {"scale": {"kind": r["data"]["scale"], "times": 50.0, "plus": 100.0}}}


@lookalike(DEV)
def _deep_tanh(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    return {"layers": [*[deepcopy(dense(24, "tanh")) for _ in range(6)], layers(r)[-1]]}


@lookalike(SPENT)
def _deep_orthogonal(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    deep = dense(32, "tanh")
    deep["config"]["kernel_initializer"] = "orthogonal"
    return {"layers": [*[deepcopy(deep) for _ in range(5)], layers(r)[-1]]}


@lookalike(DEV)
def _clipped_rnn(r: Recipe, rng: Any) -> Delta | None:
    """Images row by row through a recurrent layer, with clipped gradients."""
    if r["data"]["source"] != "digits":
        return None
    return {"layers": [layer("Reshape", target_shape=[8, 8]), layer("SimpleRNN", units=32), layers(r)[-1]],
            "optimizer": optimizer("Adam", 3e-3, clip_norm=1.0), "epochs": 20,
            "data": {"shape": [64]}}


@lookalike(SPENT)
def _clipped_gru(r: Recipe, rng: Any) -> Delta | None:
    if r["data"]["source"] != "gratings":
        return None
    return {"layers": [layer("Reshape", target_shape=[10, 10]), layer("GRU", units=24), layers(r)[-1]],
            "optimizer": optimizer("Adam", 5e-3, clip_norm=1.0), "epochs": 20, "data": {"shape": [100]}}


@lookalike(DEV)
def _fine_tuning(r: Recipe, rng: Any) -> Delta | None:
    """A trained network goes on with a tiny rate: it starts good, moves little, and that is right."""
    rate = r["optimizer"]["learning_rate"]
    return {"pretrain": fine_tuned(r), "optimizer": {**r["optimizer"], "learning_rate": rate / 100},
            "epochs": max(4, r["epochs"] // 3)}


@lookalike(SPENT)
def _fine_tuning_by_adam(r: Recipe, rng: Any) -> Delta | None:
    """As above, by Adam with 1e-5."""
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("Adam", 1e-5), "epochs": max(4, r["epochs"] // 3)}


@lookalike(DEV)
def _decay(r: Recipe, rng: Any) -> Delta | None:
    rate = r["optimizer"]["learning_rate"]
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "exponential", "learning_rate": 2 * rate, "factor": 0.9, "every": max(1, planned_steps(r) // 30)}}}


@lookalike(SPENT)
def _mild_penalty(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l2", "l2": pick(rng, 1e-4, 3e-4)})


@lookalike(DEV)
def _mild_l1(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l1", "l1": 1e-5})


@lookalike(SPENT)
def _large_batches(r: Recipe, rng: Any) -> Delta | None:
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * 2}
    return {"batch_size": 128, "epochs": r["epochs"] * 4, "optimizer": rule}


@lookalike(DEV)
def _wide_first_layer(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0]["config"]["units"] = 200
    return {"layers": stack}


@lookalike(SPENT)
def _minmax_inputs(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": "minmax"}, "epochs": r["epochs"] * 2}
