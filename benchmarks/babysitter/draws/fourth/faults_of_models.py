"""Faults of activations, outputs, losses, shapes, capacity, penalties and length."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    each,
    final,
    hidden,
    is_tokens,
    layers,
    operator,
    pick,
    spoil,
)
from benchmarks.babysitter.recipes import Recipe, layer, optimizer, task_of

EACH = 11  # cases of an operator, where programs allow it
RECURRENT = ("GRU", "LSTM", "SimpleRNN", "TransformerBlock")


def _has(r: Recipe, *kinds: str) -> bool:
    return any(la["class"] in kinds for la in r["layers"][:-1])


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


def _bendable(r: Recipe) -> bool:
    """Tell whether a program is as linear as its activations: nothing else in it bends."""
    return bool(hidden(r["layers"])) and not _has(r, "LayerNorm", "GroupNorm", "RMSNorm", "Activation", *RECURRENT)


def _behind(stack: list[dict[str, Any]], made: list[dict[str, Any]], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return layers with others behind each of some kinds, but not behind the output."""
    out: list[dict[str, Any]] = []
    for la in stack[:-1]:
        out += [la, *(made if la["class"] in kinds else [])]
    return [*out, stack[-1]]


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


# -- activations and outputs -------------------------------------------------------------------------------------------


@operator("missing_hidden_activation", wanted=EACH)
def _leak_of_one(r: Recipe, rng: Any) -> Delta | None:
    """Leaky rectifiers whose slope is 1 on both sides: they were told what to keep, not what to leak."""
    if not _bendable(r) or _has(r, "MaxPool2D"):
        return None
    plain = each(r, activation=None)["layers"]
    return {"layers": _behind(plain, [layer("LeakyReLU", slope=pick(rng, 0.97, 1.0))], ("Dense", "Conv1D", "Conv2D"))}


@operator("missing_hidden_activation", wanted=EACH)
def _factored_in_two(r: Recipe, rng: Any) -> Delta | None:
    """Each layer was cut into two thin ones to save weights, and the activations went with the old ones."""
    if not _bendable(r) or _has(r, "Conv1D", "Conv2D"):
        return None
    out: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        if la["class"] == "Dense":
            units = la["config"]["units"]
            out += [layer("Dense", units=max(4, units // pick(rng, 2, 4))), layer("Dense", units=units)]
        else:
            out.append(la)
    return {"layers": [*out, layers(r)[-1]]}


@operator("missing_hidden_activation", wanted=EACH)
def _means_for_the_largest(r: Recipe, rng: Any) -> Delta | None:
    """Convolutions without an activation, and pooling that takes means: all of it is linear."""
    if not _bendable(r) or not _has(r, "Conv2D", "Conv1D"):
        return None
    stack = each(r, activation=None)["layers"]
    return {"layers": [layer("AvgPool2D", **la["config"]) if la["class"] == "MaxPool2D" else la for la in stack]}


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _bent_output(r: Recipe, rng: Any) -> Delta | None:
    """The bend of the hidden layers behind the output, too, and the loss of probabilities."""
    return None if task_of(r) == "regression" else final(r, activation=pick(rng, "gelu", "silu", "selu"))


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _divided_by_its_length(r: Recipe, rng: Any) -> Delta | None:
    """Bare outputs, brought to one length, are taken for probabilities."""
    if task_of(r) != "multiclass":
        return None
    return {"layers": [*final(r, activation=None)["layers"], layer(pick(rng, "RMSNorm", "LayerNorm"))]}


@operator("missing_output_activation", "wrong_loss_for_output", "loss_shape_mismatch", wanted=EACH)
def _bare_against_one_hot(r: Recipe, rng: Any) -> Delta | None:
    """One-hot rows and the loss of probabilities, behind an output without an activation, or with logarithms."""
    if task_of(r) != "multiclass":
        return None
    return {**final(r, "categorical_crossentropy", activation=pick(rng, None, "linear", "tanh")),
            "data": {"onehot": True}}


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH)
def _each_class_by_itself(r: Recipe, rng: Any) -> Delta | None:
    """One-hot rows, a sigmoid (or softmax) for each class, and the loss that has a sigmoid of its own."""
    if task_of(r) != "multiclass":
        return None
    return {**final(r, "binary_crossentropy_with_logits", activation=pick(rng, "sigmoid", "softmax")),
            "data": {"onehot": True}}


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH)
def _squeezed_again(r: Recipe, rng: Any) -> Delta | None:
    """A sigmoid behind a sigmoid, a softmax behind a softmax: once more, or twice more."""
    if task_of(r) == "regression":
        return None
    more = layer("Activation", activation="softmax" if task_of(r) == "multiclass" else "sigmoid")
    return {"layers": [*layers(r), *[more] * pick(rng, 1, 2)]}


@operator("one_unit_softmax", "wrong_loss_for_output", wanted=EACH)
def _softmax_and_absolute_error(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "binary":
        return None
    return final(r, pick(rng, "mae", "huber", "log_cosh"), activation="softmax")


@operator("one_unit_softmax", "wrong_loss_for_output", "target_out_of_range", wanted=EACH)
def _softmax_kept_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    """A program for classes, one unit in place of many, and numbers of mean 0: the softmax stayed."""
    if task_of(r) != "regression":
        return None
    return final(r, pick(rng, "mse", "log_cosh", "rmse"), activation="softmax")


# -- losses, targets, shapes -------------------------------------------------------------------------------------------


@operator("wrong_loss_for_output", "missing_output_activation", "loss_shape_mismatch", wanted=EACH)
def _likelihood_of_bare_outputs(r: Recipe, rng: Any) -> Delta | None:
    """The negative logarithm of a likelihood, as it is called, of outputs that are no logarithms."""
    return final(r, "nll", activation=pick(rng, None, "relu")) if task_of(r) == "multiclass" else None


@operator("wrong_loss_for_output", "target_out_of_range", wanted=EACH)
def _divergence_of_numbers(r: Recipe, rng: Any) -> Delta | None:
    """A divergence, or a cross-entropy of many classes, for one number."""
    return {"loss": pick(rng, "kl_divergence", "categorical_crossentropy")} if task_of(r) == "regression" else None


@operator("wrong_loss_for_output", "loss_shape_mismatch", wanted=EACH)
def _absolute_error_of_one_hot(r: Recipe, rng: Any) -> Delta | None:
    """The absolute error of one-hot rows: the middle of nearly all zeros is zero."""
    if task_of(r) != "multiclass":
        return None
    return {**final(r, "mae", activation=pick(rng, None, "sigmoid")), "data": {"onehot": True}}


@operator("target_out_of_range", wanted=EACH)
def _unknown_is_minus_one(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else spoil("unknown_is_minus_one", share=pick(rng, 0.003, 0.02, 0.1))


@operator("target_out_of_range", "wrong_loss_for_output", wanted=EACH)
def _counted_in_twos(r: Recipe, rng: Any) -> Delta | None:
    """Classes 1, 3, 5 ... as the other half of them was left out."""
    return spoil("from_one_to_stars", first=pick(rng, 0, 1)) if task_of(r) != "regression" else None


@operator("target_out_of_range", "missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _never_below_zero(r: Recipe, rng: Any) -> Delta | None:
    """An output that is never negative, since prices are not; but the targets have mean 0."""
    return final(r, activation=pick(rng, "relu", "softplus")) if task_of(r) == "regression" else None


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _one_hot_for_one_unit(r: Recipe, rng: Any) -> Delta | None:
    """Yes and no as two columns, and one unit; or three units."""
    if task_of(r) != "binary":
        return None
    return spoil("label_of_every_step", steps=pick(rng, 2, 3, 8))


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _answer_for_every_moment(r: Recipe, rng: Any) -> Delta | None:
    """Labels stand there for every moment, the network says one thing at the end."""
    if task_of(r) != "multiclass":
        return None
    return spoil("label_of_every_step", steps=pick(rng, 2, 5, 12))


@operator("loss_shape_mismatch", wanted=EACH)
def _three_quantiles(r: Recipe, rng: Any) -> Delta | None:
    """Several outputs, for several quantiles, and one target."""
    return final(r, units=pick(rng, 2, 3, 9)) if task_of(r) == "regression" else None


# -- capacity ----------------------------------------------------------------------------------------------------------


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _first_rows_only(r: Recipe, rng: Any) -> Delta | None:
    """Only the first rows of the file were read, a few of them are labelled wrongly, and it is trained for long."""
    data = {"rows": pick(rng, 40, 80, 120), **spoil("noisy_labels", share=0.12)["data"]}
    return {"data": data, "epochs": 6 * r["epochs"], "batch_size": min(16, r["batch_size"])}


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _one_huge_layer(r: Recipe, rng: Any) -> Delta | None:
    """One huge layer before the output, for few rows."""
    huge = layer("Dense", units=pick(rng, 256, 512), activation="relu", kernel_initializer="he_normal")
    data = {"rows": pick(rng, 50, 90), **spoil("noisy_labels", share=0.1)["data"]}
    return {"layers": [*layers(r)[:-1], huge, layers(r)[-1]], "epochs": 4 * r["epochs"], "data": data,
            "batch_size": min(16, r["batch_size"])}


@operator("overtraining", "overfitting", "regularization_missing", wanted=2 * EACH)
def _left_running(r: Recipe, rng: Any) -> Delta | None:
    """A third of the labels is noise, and the run goes on for many times as long as it should."""
    data = {"rows": r["data"]["rows"] // 3, **spoil("noisy_labels", share=pick(rng, 0.15, 0.3))["data"]}
    return {"epochs": pick(rng, 6, 10) * r["epochs"], "data": data}


@operator("regularization_missing", "overfitting", "overtraining", wanted=2 * EACH)
def _wide_and_nothing_against_it(r: Recipe, rng: Any) -> Delta | None:
    """Four times as wide, a quarter of the rows, hard ones among them, and nothing that regularizes."""
    stack = layers(r)
    for la in stack[:-1]:
        for name in ("units", "filters"):
            if name in la["config"] and la["class"] != "TransformerBlock":
                la["config"][name] *= 4
    data = {"rows": r["data"]["rows"] // pick(rng, 4, 6), **spoil("noisy_labels", share=0.15)["data"]}
    return {"layers": stack, "epochs": 4 * r["epochs"], "data": data}


@operator("underfitting", "no_better_than_baseline", wanted=EACH)
def _weights_never_negative(r: Recipe, rng: Any) -> Delta | None:
    """Weights that were to be readable, so none may be negative."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_constraint"] = {"name": "non_neg"}
    return {"layers": stack}


@operator("underfitting", wanted=EACH)
def _next_to_nothing_at_the_end(r: Recipe, rng: Any) -> Delta | None:
    """The last hidden layer has one unit, on which all classes have to find a place."""
    stack = layers(r)
    dense = [la for la in hidden(stack) if la["class"] == "Dense"]
    if not dense or _normed(r) or task_of(r) != "multiclass":
        return None
    dense[-1]["config"]["units"] = 1
    return {"layers": stack}


@operator("underfitting", wanted=EACH)
def _one_number_for_each_sign(r: Recipe, rng: Any) -> Delta | None:
    """Signs as one number each, one filter, one unit that remembers."""
    stack = layers(r)
    made = [name for la in stack[:-1] for name, kinds in (("filters", ("Conv2D", "Conv1D")), ("output_dim",
            ("Embedding",)), ("units", RECURRENT)) if la["class"] in kinds and la["class"] != "TransformerBlock"]
    if not made or _has(r, "GroupNorm", "TransformerBlock"):
        return None
    for la in stack[:-1]:
        if la["class"] in ("Conv2D", "Conv1D"):
            la["config"]["filters"] = 1
        elif la["class"] in ("GRU", "LSTM"):
            la["config"]["units"] = 1
        elif la["class"] == "Embedding":
            la["config"]["output_dim"] = 1
    return {"layers": stack}


# -- penalties ---------------------------------------------------------------------------------------------------------


@operator("dropout_too_high", wanted=EACH)
def _whole_maps_dropped(r: Recipe, rng: Any) -> Delta | None:
    """Whole channels are dropped behind each convolution, of which there are few."""
    if not _has(r, "Conv2D", "Conv1D"):
        return None
    drop = layer("Dropout", rate=pick(rng, 0.6, 0.75, 0.9), per="channel")
    return {"layers": _behind(layers(r), [drop], ("Conv2D", "Conv1D"))}


@operator("dropout_too_high", wanted=EACH)
def _dropped_before_and_behind(r: Recipe, rng: Any) -> Delta | None:
    """Dropout before the first layer and behind each."""
    if is_tokens(r) or not hidden(r["layers"]) or _normed(r):
        return None
    rate = pick(rng, 0.6, 0.7, 0.85)
    return {"layers": [layer("Dropout", rate=0.5), *_behind(layers(r), [layer("Dropout", rate=rate)], ("Dense",))]}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=EACH)
def _penalty_of_the_sum(r: Recipe, rng: Any) -> Delta | None:
    """A penalty that was meant for a loss that sums: far too much for one that is a mean."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_regularizer"] = {"name": "l2", "l2": pick(rng, 0.1, 0.3, 1.0)}
    return {"layers": stack}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=EACH)
def _decay_for_a_lion(r: Recipe, rng: Any) -> Delta | None:
    """Lion wants a larger decay than Adam: somebody took it by far too much."""
    if _normed(r) or _has(r, *RECURRENT):
        return None
    return {"optimizer": optimizer("Lion", 1e-3, weight_decay=pick(rng, 10.0, 30.0, 100.0))}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=EACH)
def _few_of_the_last_layer(r: Recipe, rng: Any) -> Delta | None:
    """L1 on the output's weights and those before it, until nothing is left."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    stack = layers(r)
    for la in (hidden(stack)[-1], stack[-1]):
        la["config"]["kernel_regularizer"] = {"name": "l1_l2", "l1": pick(rng, 0.03, 0.1), "l2": 0.01}
    return {"layers": stack}


# -- batch normalization -----------------------------------------------------------------------------------------------


@operator("batchnorm_misuse", "batch_too_small", wanted=EACH)
def _norms_of_two_rows(r: Recipe, rng: Any) -> Delta | None:
    """A normalization before each bend, with batches of two or three rows."""
    if is_tokens(r) or _normed(r) or _has(r, *RECURRENT) or not hidden(r["layers"]):
        return None
    out: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        bend = la["config"].pop("activation", None) if la["class"] in ("Dense", "Conv1D", "Conv2D") else None
        out += [la, *([layer("BatchNorm", momentum=0.9), layer("Activation", activation=bend)] if bend else [])]
    return {"layers": [*out, layers(r)[-1]], "batch_size": pick(rng, 2, 3), "epochs": max(3, r["epochs"] // 6)}


@operator("batchnorm_misuse", "dropout_too_high", wanted=EACH)
def _dropout_before_each_norm(r: Recipe, rng: Any) -> Delta | None:
    """Behind each bend dropout, and then a normalization, which learns the spread of what is left."""
    if is_tokens(r) or _normed(r) or _has(r, *RECURRENT) or not hidden(r["layers"]):
        return None
    made = [layer("Dropout", rate=pick(rng, 0.4, 0.5, 0.65)), layer("BatchNorm", momentum=0.9)]
    return {"layers": _behind(layers(r), made, ("Dense", "Conv1D", "Conv2D"))}


@operator("batchnorm_misuse", "stopped_too_early", wanted=EACH)
def _statistics_of_a_long_run(r: Recipe, rng: Any) -> Delta | None:
    """Statistics that move by a thousandth or less with each step, and few steps: in use they are still the start's."""
    if is_tokens(r) or _normed(r) or _has(r, *RECURRENT) or not hidden(r["layers"]):
        return None
    norm = layer("BatchNorm", momentum=pick(rng, 0.999, 0.9995, 0.9999))
    return {"layers": _behind(layers(r), [norm], ("Dense", "Conv1D", "Conv2D")),
            "epochs": max(4, r["epochs"] // 2)}


# -- outputs that know nothing of inputs -------------------------------------------------------------------------------


@operator("output_ignores_input", wanted=EACH)
def _norm_of_one_number(r: Recipe, rng: Any) -> Delta | None:
    """A number for each row, normalized over the numbers of that row: always 0."""
    norm = layer(pick(rng, "LayerNorm", "LayerNorm", "GroupNorm"))
    if norm["class"] == "GroupNorm":
        norm["config"]["groups"] = 1
    return {"layers": [*layers(r)[:-1], layer("Dense", units=1), norm, layers(r)[-1]]}


@operator("output_ignores_input", "saturated_activation", "bad_bias_init", wanted=EACH)
def _gate_that_stands_open(r: Recipe, rng: Any) -> Delta | None:
    """A few gates before the output, whose biases are so large that all of them are 1 for any input."""
    gates = layer("Dense", units=pick(rng, 1, 4), activation="sigmoid", kernel_initializer="glorot_normal",
                  bias_initializer={"name": "constant", "value": pick(rng, 40.0, 100.0)})
    return {"layers": [*layers(r)[:-1], gates, layers(r)[-1]]}


# -- length ------------------------------------------------------------------------------------------------------------


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _part_of_the_way(r: Recipe, rng: Any) -> Delta | None:
    """An eighth, a sixth or a quarter of the passes, with three quarters of the rate."""
    rule = {**r["optimizer"], "learning_rate": 0.75 * _rate(r)}
    return {"epochs": max(1, r["epochs"] // pick(rng, 4, 6, 8)), "optimizer": rule}


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _patience_of_one(r: Recipe, rng: Any) -> Delta | None:
    """Batches twice as large, a few passes, and an end at the first of them that is no better."""
    passes = max(2, r["epochs"] // pick(rng, 4, 6))
    return {"early_stopping": 1, "epochs": passes, "batch_size": 2 * r["batch_size"]}
