"""Healthy programs that look like something is wrong: every one of the rule book's list, and a few more."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from benchmarks.babysitter.draws.development.programs import STEPS
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
from benchmarks.babysitter.recipes import KNOWN, Recipe, dense, layer, optimizer, task_of


@lookalike()
def _sparse_relu(r: Recipe, rng: Any) -> Delta | None:
    """80 % zeros: biases below zero in wide layers, and no unit is dead for all rows."""
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0] = dense(128, bias_initializer={"name": "constant", "value": -0.8})
    return {"layers": stack}


@lookalike()
def _warm_up(r: Recipe, rng: Any) -> Delta | None:
    rate = r["optimizer"]["learning_rate"]
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "warmup", "after": {"name": "constant", "learning_rate": rate}, "steps": planned_steps(r) // 4}},
        "epochs": r["epochs"] * 5 // 4}


@lookalike()
def _cyclic(r: Recipe, rng: Any) -> Delta | None:
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r)
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "cosine", "learning_rate": 3 * rate, "steps": max(steps // 5, 5), "restarts": True}}}


@lookalike()
def _tiny_batches(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]):
        return None
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / 4}
    return {"batch_size": 4, "epochs": max(5, r["epochs"] // 3), "optimizer": rule}


@lookalike()
def _dropout_half(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] *= 2
    return {**dropped({**r, "layers": stack}, 0.5), "epochs": r["epochs"] * 2}


@lookalike()
def _longer(r: Recipe, rng: Any) -> Delta | None:
    """A late plateau: the last half of the run brings nothing; the best weights are given back at the end."""
    return {"epochs": r["epochs"] * 2, "early_stopping": r["epochs"] // 2}


@lookalike()
def _weighted_imbalance(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {**spoil("thin_classes", keep=0.2), "class_weight": "balanced"}


@lookalike()
def _unscaled_behind_norm(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["use_bias"] = True
    return {"layers": [layer("BatchNorm", momentum=0.9), *stack], "data": {"scale": "none"}}


@lookalike()
def _deep_tanh(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    return {"layers": [*[deepcopy(dense(24, "tanh")) for _ in range(6)], layers(r)[-1]]}


@lookalike()
def _clipped_rnn(r: Recipe, rng: Any) -> Delta | None:
    """Images row by row through a recurrent layer, with clipped gradients."""
    if r["data"]["source"] != "digits":
        return None
    return {"layers": [layer("Reshape", target_shape=[8, 8]), layer("SimpleRNN", units=32), layers(r)[-1]],
            "optimizer": optimizer("Adam", 3e-3, clip_norm=1.0), "epochs": 20,
            "data": {"shape": [64]}}


@lookalike()
def _fine_tuning(r: Recipe, rng: Any) -> Delta | None:
    """A trained network goes on with a tiny rate: it starts good, moves little, and that is right."""
    rate = r["optimizer"]["learning_rate"]
    return {"pretrain": fine_tuned(r), "optimizer": {**r["optimizer"], "learning_rate": rate / 100},
            "epochs": max(4, r["epochs"] // 3)}


@lookalike()
def _decay(r: Recipe, rng: Any) -> Delta | None:
    rate = r["optimizer"]["learning_rate"]
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "exponential", "learning_rate": 2 * rate, "factor": 0.9, "every": max(1, planned_steps(r) // 30)}}}


@lookalike()
def _mild_l1(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l1", "l1": 1e-5})


@lookalike()
def _wide_first_layer(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0]["config"]["units"] = 200
    return {"layers": stack}


# -- added while limits were made --------------------------------------------------------------------------------------

FEW = 4


@lookalike(wanted=FEW)
def _what_a_miss_costs(r: Recipe, rng: Any) -> Delta | None:
    """One class weighs as much as two to four others, as missing it costs more."""
    if task_of(r) == "regression":
        return None
    weights = [1.0] * (r["layers"][-1]["config"]["units"] if task_of(r) == "multiclass" else 2)
    weights[int(rng.integers(len(weights)))] = pick(rng, 2.0, 4.0)
    return {"class_weight": weights}


@lookalike(wanted=FEW)
def _long_and_given_back(r: Recipe, rng: Any) -> Delta | None:
    """Six times as long, until nothing was better for eight passes: the best weights are given back."""
    return {"epochs": 6 * r["epochs"], "early_stopping": 8}


@lookalike(wanted=FEW)
def _cooled_to_nothing(r: Recipe, rng: Any) -> Delta | None:
    """The rate falls to nothing just where the run ends."""
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r) * 3 // 2
    return {"epochs": r["epochs"] * 3 // 2, "optimizer": {**r["optimizer"], "learning_rate": {
        "name": "cosine", "learning_rate": 1.5 * rate, "steps": steps}}}


@lookalike(wanted=FEW)
def _length_of_three(r: Recipe, rng: Any) -> Delta | None:
    """Weights of a unit are no longer than three, and a fifth is dropped."""
    return {**dropped(r, 0.2), "epochs": r["epochs"] * 2} if only_dense(r) else each(
        r, kernel_constraint={"name": "max_norm", "max_value": 3.0})


@lookalike(wanted=FEW)
def _wide_with_a_decay(r: Recipe, rng: Any) -> Delta | None:
    """Four times as wide, a little longer, and a decay that holds it."""
    if not only_dense(r):
        return None
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["units"] *= 4
    return {"layers": stack, "optimizer": optimizer("AdamW", 1e-3, weight_decay=pick(rng, 0.03, 0.1)),
            "epochs": r["epochs"] * 5 // 4}


# -- networks of other kinds -------------------------------------------------------------------------------------------


@lookalike(wanted=4)
def _rectified_memory(r: Recipe, rng: Any) -> Delta | None:
    """A rectified recurrent layer whose weights from step to step begin as an orthogonal matrix."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])),
                       layer("SimpleRNN", units=24, activation="relu"), layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}, "optimizer": optimizer("Adam", 3e-3), "epochs": 30}


@lookalike(wanted=4)
def _gates_that_begin_open(r: Recipe, rng: Any) -> Delta | None:
    """Gated memories one after the other, whose gates begin open."""
    source = r["data"]["source"]
    if source not in ("digits", "waves"):
        return None
    start = {"name": "constant", "value": 1.0}
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])),
                       layer("LSTM", units=24, bias_initializer=start, return_sequences=True),
                       layer("GRU", units=16), layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}, "optimizer": optimizer("Adam", 1e-2), "epochs": 30}


@lookalike(wanted=4)
def _rows_that_attend(r: Recipe, rng: Any) -> Delta | None:
    """Attention between the rows of a picture, or the columns of a table."""
    source = r["data"]["source"]
    if source not in ("digits", "wine", "blobs3"):
        return None
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])), layer("Dense", units=16),
                       layer("TransformerBlock", heads=2), layer("Flatten"), layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}, "optimizer": optimizer("Adam", 2e-3), "epochs": 25}


@lookalike(wanted=4)
def _answers_add_up(r: Recipe, rng: Any) -> Delta | None:
    """The last layer only adds, what comes before it may be of any sign."""
    if not all(la["config"].get("activation") == "tanh" for la in hidden(r["layers"])):
        return None
    stack = layers(r)
    stack[-1]["config"].update(kernel_constraint="non_neg", kernel_initializer={
        "name": "uniform", "minval": 0.0, "maxval": 0.5})
    return {"layers": stack, "epochs": 2 * r["epochs"]}


@lookalike(wanted=4)
def _distance_of_shares(r: Recipe, rng: Any) -> Delta | None:
    """Brier's score: the squared error of shares, which is least for the true ones."""
    if task_of(r) != "multiclass":
        return None
    return {"loss": pick(rng, "mse", "huber"), "data": {"onehot": True}, "epochs": 3 * r["epochs"],
            "optimizer": optimizer("Adam", 5e-3)}


@lookalike(wanted=3)
def _bends_a_little(r: Recipe, rng: Any) -> Delta | None:
    """Rectifiers that let half of what is below zero through."""
    if len(hidden(r["layers"])) < 2 or any("Norm" in la["class"] for la in r["layers"]):
        return None
    stack = []
    for la in layers(r)[:-1]:
        bent = la["class"] == "Dense"
        stack += [la, *([layer("LeakyReLU", slope=0.5)] if bent else [])]
        if bent:
            la["config"]["activation"] = None
    return {"layers": [*stack, layers(r)[-1]], "epochs": 2 * r["epochs"]}


@lookalike(wanted=3)
def _amounts_above_zero(r: Recipe, rng: Any) -> Delta | None:
    """Amounts that are never negative, and an output that is never negative either."""
    if task_of(r) != "regression":
        return None
    stack = layers(r)
    stack[-1]["config"]["activation"] = "softplus"
    return {"layers": stack, "data": {"target": {"kind": "unit", "times": 2.0, "plus": 0.2}}, "epochs": 2 * r["epochs"]}
