"""Faults of activations, outputs, losses, capacity, penalties and length."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.draws.development.programs import STEPS
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


# -- networks of other kinds -------------------------------------------------------------------------------------------


@operator("wrong_loss_for_output", "missing_output_activation", wanted=4)
def _nearly_absolute(r: Recipe, rng: Any) -> Delta | None:
    """Huber's loss with its corner at next to nothing, for shares of classes: an absolute error, as good as."""
    if task_of(r) != "multiclass":
        return None
    return {"loss": {"name": "huber", "delta": pick(rng, 0.005, 0.02)}, "data": {"onehot": True}}


@operator("wrong_loss_for_output", "target_out_of_range", wanted=4)
def _margins_for_amounts(r: Recipe, rng: Any) -> Delta | None:
    """The loss of yes and no for amounts between 0 and 1 on bare outputs, or of classes for one amount."""
    if task_of(r) != "regression":
        return None
    if pick(rng, 0, 1):
        return {"loss": "sparse_categorical_crossentropy"}
    return {"loss": "binary_crossentropy_with_logits"}


@operator("wrong_loss_for_output", "loss_shape_mismatch", wanted=4)
def _amount_of_the_class(r: Recipe, rng: Any) -> Delta | None:
    """Class numbers as an amount, by absolute error, from one bare unit behind a recurrent layer."""
    source = r["data"]["source"]
    if task_of(r) != "multiclass":
        return None
    echo = [layer("Reshape", target_shape=list(STEPS[source])), layer("GRU", units=12)]
    return {"layers": [*echo, layer("Dense", units=1)], "loss": pick(rng, "mae", "log_cosh"),
            "data": {"shape": [KNOWN[source].features]}}


@operator("underfitting", "no_better_than_baseline", "regularization_too_strong", wanted=4)
def _only_pushes_no_pulls(r: Recipe, rng: Any) -> Delta | None:
    """Every weight but the first layer's must be above zero, as connections of one kind of nerve are."""
    stack = layers(r)
    if len(hidden(stack)) < 2 or any("Norm" in la["class"] for la in stack):
        return None
    for la in [*hidden(stack)[1:], stack[-1]]:
        la["config"].update(kernel_constraint="non_neg", kernel_initializer={"name": "uniform", "minval": 0.0,
                                                                             "maxval": 0.2})
    return {"layers": stack}


@operator("underfitting", wanted=4)
def _sees_no_neighbours(r: Recipe, rng: Any) -> Delta | None:
    """Filters of one point each and the mean over all places: what is left of a picture is how bright it is."""
    if r["data"]["source"] != "digits":
        return None
    eye = {"kernel_size": 1, "activation": "relu", "kernel_initializer": "he_normal"}
    return {"layers": [layer("Reshape", target_shape=[8, 8, 1]), layer("Conv2D", filters=pick(rng, 8, 16), **eye),
                       layer("Conv2D", filters=12, **eye), layer("GlobalAvgPool2D"), layers(r)[-1]],
            "data": {"shape": [64]}}


@operator("missing_hidden_activation", "underfitting", wanted=4)
def _memory_without_a_bend(r: Recipe, rng: Any) -> Delta | None:
    """A recurrent layer that was told to be linear, and a linear layer behind it."""
    source = r["data"]["source"]
    if source not in ("waves", "circles", "moons"):
        return None
    steps = STEPS.get(source, (2, 1))
    echo = layer("SimpleRNN", units=16, activation=None)
    return {"layers": [layer("Reshape", target_shape=list(steps)), echo, layer("Dense", units=16), layers(r)[-1]]}


@operator("vanishing_gradient", "unstable_activation_scale", "double_softmax", "learning_rate_too_low", wanted=4)
def _shares_in_every_layer(r: Recipe, rng: Any) -> Delta | None:
    """A softmax behind each hidden layer, as the last one has one: what passes on gets smaller each time."""
    if any("Norm" in la["class"] for la in r["layers"]) or len(hidden(r["layers"])) < 2:
        return None
    return each(r, activation="softmax", kernel_initializer="glorot_uniform")


@operator("batchnorm_misuse", "underfitting", wanted=4)
def _norm_before_the_answer(r: Recipe, rng: Any) -> Delta | None:
    """The answers before the last bend are normalized over the batch, without factors, batches of eight rows."""
    if task_of(r) == "regression":
        return None
    bend = layers(r)[-1]["config"]["activation"]
    norm = layer("BatchNorm", scale=False, center=False, momentum=0.9)
    return {"layers": [*final(r, activation=None)["layers"], norm, layer("Activation", activation=bend)],
            "batch_size": 8}


@operator("wrong_loss_for_output", "one_unit_softmax", wanted=3)
def _divergence_of_yes_or_no(r: Recipe, rng: Any) -> Delta | None:
    """The divergence between distributions, or the hinge of margins, for one sigmoid that says yes or no."""
    return {"loss": pick(rng, "kl_divergence", "hinge", "mae")} if task_of(r) == "binary" else None


@operator("target_out_of_range", "wrong_loss_for_output", wanted=3)
def _squeezed_amounts(r: Recipe, rng: Any) -> Delta | None:
    """Amounts from 0 to 3, and an output that ends at 1."""
    if task_of(r) != "regression":
        return None
    return {**final(r, activation=pick(rng, "tanh", "sigmoid")), "data": {"target": {"kind": "unit", "times": 3.0}}}
