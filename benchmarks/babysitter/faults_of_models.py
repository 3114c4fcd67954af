"""Faults of activations, outputs, losses, capacity, penalties and length."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    DEV,
    SPENT,
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


@operator(DEV, "missing_hidden_activation")
def _all_linear(r: Recipe, rng: Any) -> Delta | None:
    return each(r, activation=None) if len(hidden(r["layers"])) > 1 or "Conv2D" not in str(r["layers"]) else None


@operator(SPENT, "missing_hidden_activation")
def _linear_by_name(r: Recipe, rng: Any) -> Delta | None:
    return each(r, activation="linear", kernel_initializer="glorot_uniform")


@operator(DEV, "missing_output_activation", "wrong_loss_for_output")
def _bare_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=None)


@operator(SPENT, "missing_output_activation", "wrong_loss_for_output")
def _relu_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=pick(rng, "linear", "relu"))


@operator(DEV, "double_softmax", "wrong_loss_for_output")
def _probabilities_as_logits(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "cross_entropy"} if task_of(r) == "multiclass" else {
        "loss": "binary_crossentropy_with_logits"} if task_of(r) == "binary" else None


@operator(SPENT, "double_softmax", "wrong_loss_for_output")
def _softmax_twice(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "multiclass":
        return {"layers": [*layers(r), layer("Activation", activation="softmax")]}
    if task_of(r) == "binary":
        return {"layers": [*layers(r), layer("Activation", activation="sigmoid")]}
    return None


@operator(DEV, "one_unit_softmax", copies=5)
def _one_softmax(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="softmax") if task_of(r) == "binary" else None


@operator(SPENT, "one_unit_softmax", copies=5)
def _one_softmax_layer(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "binary":
        return None
    stack = final(r, activation=None)["layers"]
    return {"layers": [*stack, layer("Activation", activation="softmax")]}


@operator(DEV, "wrong_loss_for_output")
def _absolute_error_of_classes(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {"loss": pick(rng, "mae", "mse"), **({"data": {"onehot": True}} if task_of(r) == "multiclass" else {})}


@operator(DEV, "wrong_loss_for_output", "loss_shape_mismatch")
def _classes_as_numbers(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "mse"} if task_of(r) == "multiclass" else None


@operator(SPENT, "wrong_loss_for_output")
def _hinge_of_probabilities(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    more = {"data": {"onehot": True}} if task_of(r) == "multiclass" else {}
    return {"loss": pick(rng, "log_cosh", "hinge", "rmse"), **more}


@operator(SPENT, "wrong_loss_for_output", "target_out_of_range")
def _crossentropy_of_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, "binary_crossentropy", activation="sigmoid") if task_of(r) == "regression" else None


@operator(DEV, "target_out_of_range", "missing_output_activation", "wrong_loss_for_output")
def _sigmoid_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="sigmoid") if task_of(r) == "regression" else None


@operator(DEV, "target_out_of_range")
def _classes_from_one(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shift_classes") if task_of(r) == "multiclass" else None


@operator(SPENT, "target_out_of_range", "missing_output_activation", "wrong_loss_for_output")
def _bounded_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation=pick(rng, "relu", "softplus", "sigmoid")) if task_of(r) == "regression" else None


@operator(SPENT, "target_out_of_range")
def _too_few_outputs(r: Recipe, rng: Any) -> Delta | None:
    return final(r, units=KNOWN[r["data"]["source"]][3] - 1) if task_of(r) == "multiclass" else None


@operator(DEV, "loss_shape_mismatch", "wrong_loss_for_output")
def _onehot_for_indices(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"onehot": True}} if task_of(r) == "multiclass" else None


@operator(DEV, "loss_shape_mismatch")
def _two_outputs(r: Recipe, rng: Any) -> Delta | None:
    return final(r, units=2) if task_of(r) != "multiclass" else None


@operator(SPENT, "loss_shape_mismatch")
def _targets_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("wide_targets") if task_of(r) != "multiclass" else None


@operator(SPENT, "loss_shape_mismatch", "wrong_loss_for_output")
def _indices_for_onehot(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "categorical_crossentropy"} if task_of(r) == "multiclass" else None


# -- capacity, penalties, length ---------------------------------------------------------------------------------------


@operator(DEV, "overfitting", "overtraining", "regularization_missing", lost=True)
def _by_heart(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] = 128
    data = {"spoil": [{"kind": "few_rows", "rows": 60}, {"kind": "noisy_labels", "share": 0.2}]}
    return {"layers": stack, "epochs": 100, "batch_size": 16, "data": data}


@operator(SPENT, "overfitting", "overtraining", "regularization_missing", lost=True)
def _far_too_long(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] = 160
    data = {"spoil": [{"kind": "few_rows", "rows": 100}, {"kind": "noisy_labels", "share": 0.15}]}
    return {"layers": stack, "epochs": 120, "data": data}


@operator(DEV, "underfitting")
def _one_unit(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    hidden(stack)[-1]["config"]["units"] = 1
    return {"layers": stack} if hidden(stack)[-1]["class"] == "Dense" else None


@operator(SPENT, "underfitting", "missing_hidden_activation")
def _no_hidden_layer(r: Recipe, rng: Any) -> Delta | None:
    kept = [la for la in layers(r)[:-1] if la["class"] == "Flatten"]
    return {"layers": [*kept, layers(r)[-1]]}


@operator(SPENT, "underfitting")
def _narrow(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["filters" if la["class"] == "Conv2D" else "units"] = 1
    return {"layers": stack}


@operator(DEV, "stopped_too_early", "learning_rate_too_low")
def _few_epochs(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": pick(rng, 1, 2, max(2, r["epochs"] // 8))}


@operator(SPENT, "stopped_too_early", "learning_rate_too_low")
def _a_tenth(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": max(1, round(r["epochs"] * pick(rng, 0.05, 0.1, 0.15)))}


@operator(DEV, "dropout_too_high")
def _dropout_high(r: Recipe, rng: Any) -> Delta | None:
    return dropped(r, pick(rng, 0.85, 0.95))


@operator(SPENT, "dropout_too_high")
def _dropout_most(r: Recipe, rng: Any) -> Delta | None:
    return dropped(r, pick(rng, 0.8, 0.9))


@operator(DEV, "regularization_too_strong")
def _l2_strong(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l2", "l2": pick(rng, 0.1, 0.3, 1.0)})


@operator(SPENT, "regularization_too_strong")
def _l1_strong(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l1", "l1": pick(rng, 0.02, 0.1, 0.5)})


@operator(SPENT, "regularization_too_strong")
def _l2_everywhere(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_regularizer"] = {"name": "l2", "l2": pick(rng, 0.1, 0.5)}
    return {"layers": stack}


@operator(DEV, "batchnorm_misuse")
def _norm_of_two(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    stack.insert(-1, layer("BatchNorm"))
    return {"layers": stack, "batch_size": pick(rng, 1, 2), "epochs": max(3, r["epochs"] // 8)}


@operator(DEV, "batchnorm_misuse")
def _norm_of_the_start(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    stack.insert(-1, layer("BatchNorm", momentum=pick(rng, 0.9999, 1.0)))
    return {"layers": stack}


@operator(SPENT, "batchnorm_misuse")
def _norm_of_one(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    dense = [i for i, la in enumerate(stack[:-1]) if la["class"] == "Dense"]
    if not dense:
        return None
    stack.insert(dense[0] + 1, layer("BatchNorm", momentum=0.9))
    return {"layers": stack, "batch_size": 1, "epochs": max(2, r["epochs"] // 8)}


@operator(SPENT, "batchnorm_misuse")
def _norm_too_slow(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    where = next((i for i, la in enumerate(stack[:-1]) if la["class"] in ("Dense", "Conv2D")), 0)
    stack.insert(where + 1, layer("BatchNorm", momentum=0.9999))
    return {"layers": stack}
