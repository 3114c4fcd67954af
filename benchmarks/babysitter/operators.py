"""Operators: what goes wrong with a program, as a delta of its recipe. Those of the two pools are different ones.

An operator takes a recipe and a generator and returns a delta (entries that replace those of the recipe, ``data`` entry
by entry), or None where it does not apply. `codes` are the labels: the names that are right for this fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.babysitter.programs import KNOWN, Recipe, layer, optimizer, task_of
from benchmarks.babysitter.sources import IMAGES

Delta = dict[str, Any]
Make = Callable[[Recipe, np.random.Generator], Delta | None]


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to go wrong (`codes` name it), or one that only looks so (`codes` empty)."""

    name: str
    pool: str
    codes: tuple[str, ...]
    make: Make
    copies: int = 1


OPERATORS: list[Operator] = []


def operator(pool: str, *codes: str, copies: int = 1) -> Callable[[Make], Make]:
    """Register a fault operator under its function's name; the first code is the one that is claimed.

    `copies`: so many variants for each program, where few programs can have the fault.
    """

    def register(make: Make) -> Make:
        OPERATORS.append(Operator(getattr(make, "__name__", "").removeprefix("_"), pool, codes, make, copies))
        return make

    return register


def apply(recipe: Recipe, delta: Mapping[str, Any]) -> Recipe:
    """Return the recipe with a delta."""
    made = deepcopy(dict(recipe))
    for key, value in delta.items():
        made[key] = {**made[key], **value} if key == "data" else value
    return made


DEV, SEALED = "development", "sealed"


def pick(rng: np.random.Generator, *values: Any) -> Any:
    """Return one of the values."""
    return values[int(rng.integers(len(values)))]


def layers(recipe: Recipe) -> list[dict[str, Any]]:
    """Return a copy of the layers that may be changed."""
    return deepcopy(recipe["layers"])


def hidden(stack: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers with weights before the last."""
    return [la for la in stack[:-1] if la["class"] in ("Dense", "Conv2D")]


def each(recipe: Recipe, **config: Any) -> Delta:
    """Return a delta that changes all hidden layers."""
    stack = layers(recipe)
    for la in hidden(stack):
        la["config"].update(config)
    return {"layers": stack}


def final(recipe: Recipe, loss: str | None = None, **config: Any) -> Delta:
    """Return a delta that changes the output layer, and the loss where one is given."""
    stack = layers(recipe)
    stack[-1]["config"].update(config)
    return {"layers": stack, **({} if loss is None else {"loss": loss})}


def spoil(kind: str, when: str = "scaled", **settings: Any) -> Delta:
    """Return a delta that spoils the data."""
    return {"data": {"spoil": [{"kind": kind, "when": when, **settings}]}}


def is_table(recipe: Recipe) -> bool:
    """Tell whether the inputs are columns of a table."""
    return recipe["data"]["source"] not in IMAGES


def dropped(recipe: Recipe, rate: float) -> Delta:
    """Return a delta with a dropout behind each hidden layer."""
    stack = []
    for la in layers(recipe)[:-1]:
        stack.append(la)
        if la["class"] == "Dense":
            stack.append(layer("Dropout", rate=rate))
    return {"layers": [*stack, layers(recipe)[-1]]}


# -- rates and optimizers ----------------------------------------------------------------------------------------------


@operator(DEV, "learning_rate_too_high")
def _adam_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adam", pick(rng, 0.1, 0.3, 1.0))}


@operator(DEV, "learning_rate_too_high")
def _rate_slipped(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * pick(rng, 100, 300)}}


@operator(SEALED, "learning_rate_too_high")
def _sgd_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("SGD", pick(rng, 1.0, 2.0, 5.0), momentum=pick(rng, 0.5, 0.9))}


@operator(SEALED, "learning_rate_too_high")
def _rms_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("RMSprop", pick(rng, 0.1, 0.3, 1.0))}


@operator(DEV, "learning_rate_too_low")
def _adam_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adam", pick(rng, 1e-6, 3e-6, 1e-5))}


@operator(DEV, "learning_rate_too_low")
def _rate_tiny(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / pick(rng, 300, 1000)}}


@operator(SEALED, "learning_rate_too_low")
def _sgd_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("SGD", pick(rng, 1e-5, 1e-4), momentum=pick(rng, 0.0, 0.9))}


@operator(SEALED, "learning_rate_too_low")
def _rms_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("RMSprop", pick(rng, 1e-6, 5e-6))}


@operator(DEV, "wrong_optimizer", "learning_rate_too_low")
def _adadelta_as_torch(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adadelta", pick(rng, 1e-3, 1e-2))}


@operator(SEALED, "wrong_optimizer", "learning_rate_too_low")
def _adagrad_small(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adagrad", pick(rng, 1e-4, 1e-3))}


@operator(DEV, "batch_too_large", "stopped_too_early", "learning_rate_too_low")
def _full_batch(r: Recipe, rng: Any) -> Delta | None:
    return {"batch_size": 100000}


@operator(SEALED, "batch_too_large", "stopped_too_early", "learning_rate_too_low")
def _few_batches(r: Recipe, rng: Any) -> Delta | None:
    return {"batch_size": pick(rng, 300, 512)}


@operator(DEV, "batch_too_small", "learning_rate_too_high")
def _single_rows(r: Recipe, rng: Any) -> Delta | None:
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * 4}
    return {"batch_size": 1, "epochs": max(4, r["epochs"] // 8), "optimizer": rule}


@operator(SEALED, "batch_too_small", "learning_rate_too_high")
def _pairs(r: Recipe, rng: Any) -> Delta | None:
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * 4}
    return {"batch_size": 2, "epochs": max(4, r["epochs"] // 6), "optimizer": rule}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator(DEV, "symmetric_init")
def _zeros(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = "zeros"
    return {"layers": stack}


@operator(DEV, "symmetric_init")
def _last_constant(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    hidden(stack)[-1]["config"]["kernel_initializer"] = {"name": "constant", "value": 0.05}
    return {"layers": stack}


@operator(SEALED, "symmetric_init")
def _constants(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "constant", "value": pick(rng, 0.02, 0.1)})


@operator(SEALED, "symmetric_init")
def _first_zeros(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    hidden(stack)[0]["config"]["kernel_initializer"] = pick(rng, "zeros", "ones")
    return {"layers": stack}


@operator(DEV, "bad_init_scale", "unstable_activation_scale", "exploding_gradient")
def _normal_wide(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "normal", "stddev": pick(rng, 1.0, 2.0, 4.0)})


@operator(DEV, "bad_init_scale", "unstable_activation_scale", "vanishing_gradient")
def _normal_tiny(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "normal", "stddev": pick(rng, 1e-4, 1e-3)})


@operator(SEALED, "bad_init_scale", "unstable_activation_scale", "exploding_gradient")
def _uniform_wide(r: Recipe, rng: Any) -> Delta | None:
    wide = pick(rng, 1.0, 3.0, 5.0)
    return each(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator(SEALED, "bad_init_scale", "unstable_activation_scale", "vanishing_gradient")
def _uniform_tiny(r: Recipe, rng: Any) -> Delta | None:
    wide = pick(rng, 1e-4, 1e-3)
    return each(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator(DEV, "bad_init_scale", "initial_loss_off_chance", "unstable_activation_scale")
def _output_wide(r: Recipe, rng: Any) -> Delta | None:
    return final(r, kernel_initializer={"name": "normal", "stddev": pick(rng, 5.0, 20.0)})


@operator(SEALED, "bad_init_scale", "initial_loss_off_chance", "unstable_activation_scale")
def _output_uniform(r: Recipe, rng: Any) -> Delta | None:
    wide = pick(rng, 8.0, 30.0)
    return final(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator(DEV, "bad_bias_init", "dead_relu")
def _biases_low(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    which = [la for la in hidden(stack) if la["config"].get("activation") == "relu" and la["config"].get("use_bias", 1)]
    for la in which:
        la["config"]["bias_initializer"] = {"name": "constant", "value": pick(rng, -4.0, -10.0)}
    return {"layers": stack} if which else None


@operator(DEV, "bad_bias_init", "initial_loss_off_chance")
def _output_bias(r: Recipe, rng: Any) -> Delta | None:
    return final(r, bias_initializer={"name": "normal", "stddev": pick(rng, 10.0, 30.0)})


@operator(SEALED, "bad_bias_init", "dead_relu", "saturated_activation")
def _first_bias(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    first = hidden(stack)[0]
    if not first["config"].get("use_bias", True) or first["config"]["activation"] in ("leaky_relu", "elu"):
        return None
    first["config"]["bias_initializer"] = {"name": "constant", "value": pick(rng, -6.0, -12.0)}
    return {"layers": stack}


@operator(SEALED, "bad_bias_init", "initial_loss_off_chance")
def _output_bias_uniform(r: Recipe, rng: Any) -> Delta | None:
    return final(r, bias_initializer={"name": "uniform", "minval": -pick(rng, 20.0, 50.0), "maxval": 20.0})


@operator(DEV, "vanishing_gradient", "saturated_activation", "unstable_activation_scale")
def _deep_sigmoid(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    deep = [layer("Dense", units=16, activation="sigmoid", kernel_initializer="glorot_uniform")] * pick(rng, 5, 7)
    kept = [la for la in stack[:-1] if la["class"] in ("Conv2D", "MaxPool2D", "Flatten")]
    return {"layers": [*kept, *deepcopy(deep), stack[-1]]}


@operator(SEALED, "vanishing_gradient", "saturated_activation", "unstable_activation_scale")
def _sigmoids_wide(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    deep = [layer("Dense", units=32, activation="sigmoid", kernel_initializer="glorot_normal")] * pick(rng, 6, 8)
    kept = [la for la in stack[:-1] if la["class"] in ("Conv2D", "MaxPool2D", "Flatten")]
    return {"layers": [*kept, *deepcopy(deep), stack[-1]]}


# -- activations and outputs -------------------------------------------------------------------------------------------


@operator(DEV, "missing_hidden_activation")
def _all_linear(r: Recipe, rng: Any) -> Delta | None:
    return each(r, activation=None) if len(hidden(r["layers"])) > 1 or "Conv2D" not in str(r["layers"]) else None


@operator(SEALED, "missing_hidden_activation")
def _linear_by_name(r: Recipe, rng: Any) -> Delta | None:
    return each(r, activation="linear", kernel_initializer="glorot_uniform")


@operator(DEV, "missing_output_activation", "wrong_loss_for_output")
def _bare_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=None)


@operator(SEALED, "missing_output_activation", "wrong_loss_for_output")
def _relu_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=pick(rng, "linear", "relu"))


@operator(DEV, "double_softmax", "wrong_loss_for_output")
def _probabilities_as_logits(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "cross_entropy"} if task_of(r) == "multiclass" else {
        "loss": "binary_crossentropy_with_logits"} if task_of(r) == "binary" else None


@operator(SEALED, "double_softmax", "wrong_loss_for_output")
def _softmax_twice(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "multiclass":
        return {"layers": [*layers(r), layer("Activation", activation="softmax")]}
    if task_of(r) == "binary":
        return {"layers": [*layers(r), layer("Activation", activation="sigmoid")]}
    return None


@operator(DEV, "one_unit_softmax", copies=5)
def _one_softmax(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="softmax") if task_of(r) == "binary" else None


@operator(SEALED, "one_unit_softmax", copies=5)
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


@operator(DEV, "wrong_loss_for_output", "target_out_of_range")
def _classes_as_numbers(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "mse"} if task_of(r) == "multiclass" else None


@operator(SEALED, "wrong_loss_for_output")
def _hinge_of_probabilities(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    more = {"data": {"onehot": True}} if task_of(r) == "multiclass" else {}
    return {"loss": pick(rng, "log_cosh", "hinge", "rmse"), **more}


@operator(SEALED, "wrong_loss_for_output", "target_out_of_range")
def _crossentropy_of_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, "binary_crossentropy", activation="sigmoid") if task_of(r) == "regression" else None


@operator(DEV, "target_out_of_range", "missing_output_activation", "wrong_loss_for_output")
def _sigmoid_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="sigmoid") if task_of(r) == "regression" else None


@operator(DEV, "target_out_of_range")
def _classes_from_one(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shift_classes") if task_of(r) == "multiclass" else None


@operator(SEALED, "target_out_of_range", "missing_output_activation", "wrong_loss_for_output")
def _bounded_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation=pick(rng, "relu", "softplus", "sigmoid")) if task_of(r) == "regression" else None


@operator(SEALED, "target_out_of_range")
def _too_few_outputs(r: Recipe, rng: Any) -> Delta | None:
    return final(r, units=KNOWN[r["data"]["source"]][3] - 1) if task_of(r) == "multiclass" else None


@operator(DEV, "loss_shape_mismatch", "wrong_loss_for_output")
def _onehot_for_indices(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"onehot": True}} if task_of(r) == "multiclass" else None


@operator(DEV, "loss_shape_mismatch")
def _two_outputs(r: Recipe, rng: Any) -> Delta | None:
    return final(r, units=2) if task_of(r) != "multiclass" else None


@operator(SEALED, "loss_shape_mismatch")
def _targets_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("wide_targets") if task_of(r) != "multiclass" else None


@operator(SEALED, "loss_shape_mismatch", "wrong_loss_for_output")
def _indices_for_onehot(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "categorical_crossentropy"} if task_of(r) == "multiclass" else None


# -- data --------------------------------------------------------------------------------------------------------------


@operator(DEV, "nan_in_data")
def _missing_cells(r: Recipe, rng: Any) -> Delta | None:
    return spoil("bad_cells", value="nan", share=pick(rng, 0.01, 0.1))


@operator(SEALED, "nan_in_data")
def _infinite_cells(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression" and rng.random() < 0.5:
        return spoil("bad_targets", value="nan", share=0.02)
    return spoil("bad_cells", value="inf", share=pick(rng, 0.005, 0.05))


@operator(DEV, "input_not_normalized", "unstable_activation_scale")
def _raw_inputs(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": "none"}}


@operator(DEV, "input_not_normalized", "unstable_activation_scale")
def _one_column_in_grams(r: Recipe, rng: Any) -> Delta | None:
    scale = {"kind": "zscore", "times": pick(rng, 300.0, 1000.0), "columns": 0.2}
    return {"data": {"scale": scale}} if is_table(r) else None


@operator(SEALED, "input_not_normalized", "unstable_activation_scale")
def _as_measured(r: Recipe, rng: Any) -> Delta | None:
    if r["data"]["source"] in ("blobs6", "spirals", "friedman", "gratings"):
        return {"data": {"scale": {"kind": "none", "times": pick(rng, 100.0, 1000.0)}}}
    return {"data": {"scale": "none"}}


@operator(SEALED, "input_not_normalized", "unstable_activation_scale")
def _far_from_zero(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": {"kind": r["data"]["scale"], "times": 10.0, "plus": pick(rng, 100.0, 500.0)}}}


@operator(DEV, "input_normalized_twice", "input_not_normalized", "unstable_activation_scale")
def _scaled_twice(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": {"kind": r["data"]["scale"], "times": pick(rng, 1e-3, 1 / 255)}}}


@operator(SEALED, "input_normalized_twice", "input_not_normalized", "unstable_activation_scale")
def _divided_again(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"scale": {"kind": "minmax", "times": pick(rng, 1 / 255, 1e-4)}}}


@operator(DEV, "target_not_normalized", copies=5)
def _targets_in_cents(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"target": pick(rng, 100, 1000)}} if task_of(r) == "regression" else None


@operator(SEALED, "target_not_normalized", copies=5)
def _targets_in_grams(r: Recipe, rng: Any) -> Delta | None:
    return {"data": {"target": pick(rng, 50, 500)}} if task_of(r) == "regression" else None


@operator(DEV, "corrupted_labels", "no_better_than_baseline")
def _labels_shuffled(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shuffle_labels", share=pick(rng, 0.6, 1.0))


@operator(DEV, "corrupted_labels", "no_better_than_baseline")
def _inputs_sorted(r: Recipe, rng: Any) -> Delta | None:
    return spoil("sort_inputs")


@operator(SEALED, "corrupted_labels", "no_better_than_baseline")
def _labels_slipped(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shift_labels", by=pick(rng, 1, 5))


@operator(SEALED, "corrupted_labels", "no_better_than_baseline")
def _labels_half(r: Recipe, rng: Any) -> Delta | None:
    return spoil("shuffle_labels", share=0.8)


@operator(DEV, "output_ignores_input", "constant_feature")
def _inputs_lost(r: Recipe, rng: Any) -> Delta | None:
    return spoil("blank", how="zeros")


@operator(SEALED, "output_ignores_input", "constant_feature")
def _first_row_only(r: Recipe, rng: Any) -> Delta | None:
    return spoil("blank", how="first")


@operator(DEV, "split_leak")
def _copies_held_out(r: Recipe, rng: Any) -> Delta | None:
    return spoil("leak_rows", share=pick(rng, 0.5, 1.0))


@operator(SEALED, "split_leak")
def _oversampled(r: Recipe, rng: Any) -> Delta | None:
    return spoil("oversample_before_split", times=pick(rng, 3, 6))


@operator(DEV, "feature_leak")
def _answer_column(r: Recipe, rng: Any) -> Delta | None:
    return spoil("leak_feature", noise=pick(rng, 0.02, 0.1)) if is_table(r) else None


@operator(SEALED, "feature_leak")
def _answer_in_first(r: Recipe, rng: Any) -> Delta | None:
    return spoil("replace_feature", column=0) if is_table(r) else None


@operator(DEV, "split_drift", "suspicious_validation")
def _held_out_shifted(r: Recipe, rng: Any) -> Delta | None:
    return spoil("drift", by=pick(rng, 2.0, 4.0))


@operator(SEALED, "split_drift", "class_imbalance")
def _split_in_order(r: Recipe, rng: Any) -> Delta | None:
    return spoil("split_by_order")


@operator(DEV, "class_imbalance", "class_collapse")
def _rare_half(r: Recipe, rng: Any) -> Delta | None:
    return spoil("thin_classes", keep=pick(rng, 0.02, 0.05)) if task_of(r) != "regression" else None


@operator(SEALED, "class_imbalance", "class_collapse")
def _rare_last(r: Recipe, rng: Any) -> Delta | None:
    return spoil("thin_classes", keep=pick(rng, 0.01, 0.04), classes=1) if task_of(r) != "regression" else None


@operator(DEV, "conflicting_labels", "corrupted_labels")
def _labelled_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("conflict", share=pick(rng, 0.6, 1.0)) if task_of(r) != "regression" else None


@operator(SEALED, "conflicting_labels", "corrupted_labels")
def _two_opinions(r: Recipe, rng: Any) -> Delta | None:
    return spoil("conflict", share=0.9) if task_of(r) != "regression" else None


@operator(DEV, "duplicate_rows", "overfitting", "overtraining", "regularization_missing")
def _few_distinct(r: Recipe, rng: Any) -> Delta | None:
    return spoil("copy_rows", distinct=pick(rng, 0.03, 0.08))


@operator(SEALED, "duplicate_rows", "overfitting", "overtraining", "regularization_missing")
def _copies_of_few(r: Recipe, rng: Any) -> Delta | None:
    return spoil("copy_rows", distinct=0.05)


# -- capacity, penalties, length ---------------------------------------------------------------------------------------


@operator(DEV, "overfitting", "overtraining", "regularization_missing")
def _by_heart(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] = 128
    data = {"spoil": [{"kind": "few_rows", "rows": 60}, {"kind": "noisy_labels", "share": 0.2}]}
    return {"layers": stack, "epochs": 100, "batch_size": 16, "data": data}


@operator(SEALED, "overfitting", "overtraining", "regularization_missing")
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


@operator(SEALED, "underfitting", "missing_hidden_activation")
def _no_hidden_layer(r: Recipe, rng: Any) -> Delta | None:
    kept = [la for la in layers(r)[:-1] if la["class"] == "Flatten"]
    return {"layers": [*kept, layers(r)[-1]]}


@operator(SEALED, "underfitting")
def _narrow(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["filters" if la["class"] == "Conv2D" else "units"] = 1
    return {"layers": stack}


@operator(DEV, "stopped_too_early", "learning_rate_too_low")
def _few_epochs(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": pick(rng, 1, 2, max(2, r["epochs"] // 8))}


@operator(SEALED, "stopped_too_early", "learning_rate_too_low")
def _a_tenth(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": max(1, round(r["epochs"] * pick(rng, 0.05, 0.1, 0.15)))}


@operator(DEV, "dropout_too_high")
def _dropout_high(r: Recipe, rng: Any) -> Delta | None:
    return dropped(r, pick(rng, 0.85, 0.95))


@operator(SEALED, "dropout_too_high")
def _dropout_most(r: Recipe, rng: Any) -> Delta | None:
    return dropped(r, pick(rng, 0.8, 0.9))


@operator(DEV, "regularization_too_strong")
def _l2_strong(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"l1": 0.0, "l2": pick(rng, 0.1, 0.3, 1.0)})


@operator(SEALED, "regularization_too_strong")
def _l1_strong(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"l1": pick(rng, 0.02, 0.1, 0.5), "l2": 0.0})


@operator(SEALED, "regularization_too_strong")
def _l2_everywhere(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_regularizer"] = {"l1": 0.0, "l2": pick(rng, 0.1, 0.5)}
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


@operator(SEALED, "batchnorm_misuse")
def _norm_of_one(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    dense = [i for i, la in enumerate(stack[:-1]) if la["class"] == "Dense"]
    if not dense:
        return None
    stack.insert(dense[0] + 1, layer("BatchNorm", momentum=0.9))
    return {"layers": stack, "batch_size": 1, "epochs": max(2, r["epochs"] // 8)}


@operator(SEALED, "batchnorm_misuse")
def _norm_too_slow(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    where = next((i for i, la in enumerate(stack[:-1]) if la["class"] in ("Dense", "Conv2D")), 0)
    stack.insert(where + 1, layer("BatchNorm", momentum=0.9999))
    return {"layers": stack}
