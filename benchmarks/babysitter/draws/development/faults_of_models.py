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
from benchmarks.babysitter.recipes import Recipe, layer, task_of

# -- activations and outputs -------------------------------------------------------------------------------------------


@operator("missing_hidden_activation")
def _all_linear(r: Recipe, rng: Any) -> Delta | None:
    return each(r, activation=None) if len(hidden(r["layers"])) > 1 or "Conv2D" not in str(r["layers"]) else None


@operator("missing_output_activation", "wrong_loss_for_output")
def _bare_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=None)


@operator("double_softmax", "wrong_loss_for_output")
def _probabilities_as_logits(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "cross_entropy"} if task_of(r) == "multiclass" else {
        "loss": "binary_crossentropy_with_logits"} if task_of(r) == "binary" else None


@operator("one_unit_softmax", copies=5)
def _one_softmax(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="softmax") if task_of(r) == "binary" else None


@operator("wrong_loss_for_output")
def _absolute_error_of_classes(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {"loss": pick(rng, "mae", "mse"), **({"data": {"onehot": True}} if task_of(r) == "multiclass" else {})}


@operator("wrong_loss_for_output", "loss_shape_mismatch")
def _classes_as_numbers(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "mse"} if task_of(r) == "multiclass" else None


@operator("target_out_of_range", "missing_output_activation", "wrong_loss_for_output")
def _sigmoid_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="sigmoid") if task_of(r) == "regression" else None


@operator("target_out_of_range")
def _classes_from_one(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shift_classes") if task_of(r) == "multiclass" else None


@operator("loss_shape_mismatch", "wrong_loss_for_output")
def _onehot_for_indices(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"onehot": True}} if task_of(r) == "multiclass" else None


@operator("loss_shape_mismatch")
def _two_outputs(r: Recipe, rng: Any) -> Delta | None:
    return final(r, units=2) if task_of(r) != "multiclass" else None


# -- capacity, penalties, length ---------------------------------------------------------------------------------------


@operator("overfitting", "overtraining", "regularization_missing", lost=True)
def _by_heart(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] = 128
    data = {"spoil": [{"kind": "few_rows", "rows": 60}, {"kind": "noisy_labels", "share": 0.2}]}
    return {"layers": stack, "epochs": 100, "batch_size": 16, "data": data}


@operator("underfitting")
def _one_unit(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    hidden(stack)[-1]["config"]["units"] = 1
    return {"layers": stack} if hidden(stack)[-1]["class"] == "Dense" else None


@operator("stopped_too_early", "learning_rate_too_low")
def _few_epochs(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": pick(rng, 1, 2, max(2, r["epochs"] // 8))}


@operator("dropout_too_high")
def _dropout_high(r: Recipe, rng: Any) -> Delta | None:
    return dropped(r, pick(rng, 0.85, 0.95))


@operator("regularization_too_strong")
def _l2_strong(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l2", "l2": pick(rng, 0.1, 0.3, 1.0)})


@operator("batchnorm_misuse")
def _norm_of_two(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    stack.insert(-1, layer("BatchNorm"))
    return {"layers": stack, "batch_size": pick(rng, 1, 2), "epochs": max(3, r["epochs"] // 8)}


@operator("batchnorm_misuse")
def _norm_of_the_start(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    stack.insert(-1, layer("BatchNorm", momentum=pick(rng, 0.9999, 1.0)))
    return {"layers": stack}
