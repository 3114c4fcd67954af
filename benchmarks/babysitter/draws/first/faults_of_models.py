"""Faults of activations, outputs, losses, capacity, penalties and length."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    dropped,
    each,
    final,
    hidden,
    layers,
    operator,
    pick,
    spoil,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, layer, task_of

# -- activations and outputs -------------------------------------------------------------------------------------------


@operator("missing_hidden_activation")
def _linear_by_name(r: Recipe, rng: Any) -> Delta | None:
    return each(r, activation="linear", kernel_initializer="glorot_uniform")


@operator("missing_output_activation", "wrong_loss_for_output")
def _relu_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=pick(rng, "linear", "relu"))


@operator("double_softmax", "wrong_loss_for_output")
def _softmax_twice(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "multiclass":
        return {"layers": [*layers(r), layer("Activation", activation="softmax")]}
    if task_of(r) == "binary":
        return {"layers": [*layers(r), layer("Activation", activation="sigmoid")]}
    return None


@operator("one_unit_softmax", copies=5)
def _one_softmax_layer(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "binary":
        return None
    stack = final(r, activation=None)["layers"]
    return {"layers": [*stack, layer("Activation", activation="softmax")]}


@operator("wrong_loss_for_output")
def _hinge_of_probabilities(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    more = {"data": {"onehot": True}} if task_of(r) == "multiclass" else {}
    return {"loss": pick(rng, "log_cosh", "hinge", "rmse"), **more}


@operator("wrong_loss_for_output", "target_out_of_range")
def _crossentropy_of_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, "binary_crossentropy", activation="sigmoid") if task_of(r) == "regression" else None


@operator("target_out_of_range", "missing_output_activation", "wrong_loss_for_output")
def _bounded_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation=pick(rng, "relu", "softplus", "sigmoid")) if task_of(r) == "regression" else None


@operator("target_out_of_range")
def _too_few_outputs(r: Recipe, rng: Any) -> Delta | None:
    return final(r, units=KNOWN[r["data"]["source"]].classes - 1) if task_of(r) == "multiclass" else None


@operator("loss_shape_mismatch")
def _targets_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("wide_targets") if task_of(r) != "multiclass" else None


@operator("loss_shape_mismatch", "wrong_loss_for_output")
def _indices_for_onehot(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "categorical_crossentropy"} if task_of(r) == "multiclass" else None


# -- capacity, penalties, length ---------------------------------------------------------------------------------------


@operator("overfitting", "overtraining", "regularization_missing", lost=True)
def _far_too_long(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] = 160
    data = {"spoil": [{"kind": "few_rows", "rows": 100}, {"kind": "noisy_labels", "share": 0.15}]}
    return {"layers": stack, "epochs": 120, "data": data}


@operator("underfitting", "missing_hidden_activation")
def _no_hidden_layer(r: Recipe, rng: Any) -> Delta | None:
    kept = [la for la in layers(r)[:-1] if la["class"] == "Flatten"]
    return {"layers": [*kept, layers(r)[-1]]}


@operator("underfitting")
def _narrow(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["filters" if la["class"] == "Conv2D" else "units"] = 1
    return {"layers": stack}


@operator("stopped_too_early", "learning_rate_too_low")
def _a_tenth(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": max(1, round(r["epochs"] * pick(rng, 0.05, 0.1, 0.15)))}


@operator("dropout_too_high")
def _dropout_most(r: Recipe, rng: Any) -> Delta | None:
    return dropped(r, pick(rng, 0.8, 0.9))


@operator("regularization_too_strong")
def _l1_strong(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l1", "l1": pick(rng, 0.02, 0.1, 0.5)})


@operator("regularization_too_strong")
def _l2_everywhere(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_regularizer"] = {"name": "l2", "l2": pick(rng, 0.1, 0.5)}
    return {"layers": stack}


@operator("batchnorm_misuse")
def _norm_of_one(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    dense = [i for i, la in enumerate(stack[:-1]) if la["class"] == "Dense"]
    if not dense:
        return None
    stack.insert(dense[0] + 1, layer("BatchNorm", momentum=0.9))
    return {"layers": stack, "batch_size": 1, "epochs": max(2, r["epochs"] // 8)}


@operator("batchnorm_misuse")
def _norm_too_slow(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    where = next((i for i, la in enumerate(stack[:-1]) if la["class"] in ("Dense", "Conv2D")), 0)
    stack.insert(where + 1, layer("BatchNorm", momentum=0.9999))
    return {"layers": stack}
