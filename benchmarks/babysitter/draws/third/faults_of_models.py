"""Faults of activations, outputs, losses, shapes, capacity, penalties and length."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    each,
    final,
    hidden,
    is_table,
    is_tokens,
    layers,
    operator,
    pick,
    spoil,
)
from benchmarks.babysitter.recipes import Recipe, layer, optimizer, task_of

EACH = 11  # cases of an operator, where programs allow it
BENT = ("Dense", "Conv1D", "Conv2D")
RECURRENT = ("GRU", "LSTM", "SimpleRNN")


def _has(r: Recipe, *kinds: str) -> bool:
    return any(la["class"] in kinds for la in r["layers"][:-1])


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


def _front(r: Recipe) -> list[dict[str, Any]]:
    """Return the layers that bring the inputs into rows of numbers."""
    kinds = ("Conv2D", "Conv1D", "MaxPool2D", "GlobalAvgPool2D", "Flatten", "Embedding", *RECURRENT)
    return [la for la in layers(r)[:-1] if la["class"] in kinds]


def _behind(stack: list[dict[str, Any]], made: list[dict[str, Any]], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return layers with others behind each of some kinds, but not behind the output."""
    out: list[dict[str, Any]] = []
    for la in stack[:-1]:
        out += [la, *(made if la["class"] in kinds else [])]
    return [*out, stack[-1]]


# -- activations and outputs -------------------------------------------------------------------------------------------


@operator("missing_hidden_activation", wanted=EACH)
def _dropout_for_a_bend(r: Recipe, rng: Any) -> Delta | None:
    """Linear layers, and between them a little dropout, in the belief that it bends."""
    if not hidden(r["layers"]) or _has(r, "LayerNorm", "GroupNorm", *RECURRENT):
        return None
    plain = each(r, activation=None, kernel_initializer="glorot_normal")["layers"]
    return {"layers": _behind(plain, [layer("Dropout", rate=0.1)], ("Dense",))}


@operator("missing_hidden_activation", wanted=EACH)
def _more_layers_of_the_same(r: Recipe, rng: Any) -> Delta | None:
    """It did not learn, so layers were added: none of them has an activation."""
    if not hidden(r["layers"]) or _has(r, "LayerNorm", "GroupNorm", *RECURRENT):
        return None
    plain = each(r, activation=None, kernel_initializer="glorot_uniform")["layers"]
    more = [layer("Dense", units=units) for units in pick(rng, (64, 32), (48, 48, 24))]
    return {"layers": [*plain[:-1], *more, plain[-1]]}


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _softplus_at_the_end(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation="softplus")


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _leaky_layer_at_the_end(r: Recipe, rng: Any) -> Delta | None:
    """The same block again for the output: a dense layer, and a leaky rectifier as a layer of its own."""
    if task_of(r) == "regression":
        return None
    return {"layers": [*final(r, activation=None)["layers"], layer("LeakyReLU")]}


@operator("missing_output_activation", "wrong_loss_for_output", "batchnorm_misuse", wanted=EACH)
def _norm_at_the_end(r: Recipe, rng: Any) -> Delta | None:
    """Bare outputs, normalized over the batch, are taken for probabilities."""
    if task_of(r) == "regression":
        return None
    return {"layers": [*final(r, activation=None)["layers"], layer("BatchNorm", momentum=0.9)]}


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH)
def _softmax_module_and_its_loss(r: Recipe, rng: Any) -> Delta | None:
    """A softmax (sigmoid) as the last module, and a loss that has one of its own, with smoothed labels or without."""
    if task_of(r) == "regression":
        return None
    many = task_of(r) == "multiclass"
    last = layer("Activation", activation="softmax" if many else "sigmoid")
    loss: Any = "cross_entropy" if many else "binary_crossentropy_with_logits"
    if many and rng.random() < 0.5:
        loss = {"name": "cross_entropy", "label_smoothing": 0.05}
    return {"layers": [*final(r, activation=None)["layers"], last], "loss": loss}


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH)
def _sigmoid_behind_softmax(r: Recipe, rng: Any) -> Delta | None:
    """Each class is asked on its own, behind a softmax that is still there."""
    if task_of(r) != "multiclass":
        return None
    return {"layers": [*layers(r), layer("Activation", activation="sigmoid")],
            "loss": "binary_crossentropy", "data": {"onehot": True}}


@operator("one_unit_softmax", "wrong_loss_for_output", "double_softmax", wanted=EACH)
def _one_softmax_and_logits(r: Recipe, rng: Any) -> Delta | None:
    """One unit with a softmax, into a loss that expects none."""
    if task_of(r) != "binary":
        return None
    return final(r, "binary_crossentropy_with_logits", activation="softmax")


@operator("one_unit_softmax", "wrong_loss_for_output", "target_out_of_range", wanted=EACH)
def _softmax_for_shares(r: Recipe, rng: Any) -> Delta | None:
    """Targets between 0 and 1 look like probabilities, so a softmax was put behind the one output."""
    if task_of(r) != "regression":
        return None
    return {**final(r, pick(rng, "mae", "huber"), activation="softmax"), "data": {"target": "unit"}}


# -- losses, targets, shapes -------------------------------------------------------------------------------------------


@operator("wrong_loss_for_output", "missing_output_activation", wanted=EACH)
def _divergence_of_bare_outputs(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return {**final(r, "kl_divergence", activation=None), "data": {"onehot": True}}


@operator("wrong_loss_for_output", "target_out_of_range", wanted=EACH)
def _logits_loss_of_numbers(r: Recipe, rng: Any) -> Delta | None:
    """The loss of yes and no, kept from another program, for numbers of any size."""
    return {"loss": "binary_crossentropy_with_logits"} if task_of(r) == "regression" else None


@operator("wrong_loss_for_output", "target_out_of_range", wanted=EACH)
def _hinge_as_of_vectors(r: Recipe, rng: Any) -> Delta | None:
    """The hinge, since support vectors have one for numbers, too: but this one is that of classes."""
    return {"loss": "hinge"} if task_of(r) == "regression" else None


@operator("target_out_of_range", "wrong_loss_for_output", wanted=EACH)
def _white_is_yes(r: Recipe, rng: Any) -> Delta | None:
    return spoil("percent_labels", yes=pick(rng, 100, 255)) if task_of(r) == "binary" else None


@operator("target_out_of_range", wanted=EACH)
def _class_to_be_ignored(r: Recipe, rng: Any) -> Delta | None:
    return spoil("void_class", share=pick(rng, 0.01, 0.05)) if task_of(r) == "multiclass" else None


@operator("target_out_of_range", "missing_output_activation", "wrong_loss_for_output", "target_not_normalized",
          wanted=EACH)
def _percent_behind_sigmoid(r: Recipe, rng: Any) -> Delta | None:
    """Targets from 0 to 100, and an output that ends at 1."""
    if task_of(r) != "regression":
        return None
    return {**final(r, activation="sigmoid"), "data": {"target": {"kind": "unit", "times": 100.0}}}


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _encoded_twice(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return {"loss": "categorical_crossentropy", **spoil("twice_encoded")}


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _two_softmax_units_for_yes_and_no(r: Recipe, rng: Any) -> Delta | None:
    """Two units with a softmax, against one column of 0 and 1."""
    return final(r, units=2, activation="softmax") if task_of(r) == "binary" else None


@operator("loss_shape_mismatch", wanted=EACH)
def _next_values_too(r: Recipe, rng: Any) -> Delta | None:
    return spoil("horizon", steps=pick(rng, 2, 4)) if task_of(r) == "regression" else None


# -- capacity ----------------------------------------------------------------------------------------------------------


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _layers_piled_up(r: Recipe, rng: Any) -> Delta | None:
    """Three more wide layers for few rows, of which some are labelled wrongly."""
    more = [layer("Dense", units=pick(rng, 80, 128), activation="relu", kernel_initializer="he_normal")
            for _ in range(3)]
    data = {"rows": pick(rng, 60, 100), **spoil("noisy_labels", share=0.15)["data"]}
    return {"layers": [*layers(r)[:-1], *more, layers(r)[-1]], "epochs": 4 * r["epochs"], "data": data,
            "batch_size": min(16, r["batch_size"])}


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _everything_wider(r: Recipe, rng: Any) -> Delta | None:
    """Every layer many times as wide, for few rows, and for long."""
    stack = layers(r)
    for la in stack[:-1]:
        for name, times in (("units", 6), ("filters", 3), ("output_dim", 3)):
            if name in la["config"]:
                la["config"][name] *= times
    return {"layers": stack, "epochs": 6 * r["epochs"], "data": {"rows": pick(rng, 50, 80)},
            "batch_size": min(12, r["batch_size"])}


@operator("underfitting", "regularization_too_strong", wanted=EACH)
def _weights_held_short(r: Recipe, rng: Any) -> Delta | None:
    """A limit of the weights' length that was meant to be 3."""
    short = {"name": "max_norm", "max_value": pick(rng, 0.03, 0.1)}
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_constraint"] = short
    return {"layers": stack} if hidden(stack) else None


@operator("underfitting", wanted=EACH)
def _pixels_one_by_one(r: Recipe, rng: Any) -> Delta | None:
    """Convolutions of one pixel, and the mean over all places: nothing is known of neighbours."""
    if not _has(r, "Conv2D"):
        return None
    first = next(la for la in layers(r) if la["class"] == "Conv2D")
    first["config"].update(kernel_size=1, strides=1)
    return {"layers": [first, layer("GlobalAvgPool2D"), layers(r)[-1]]}


@operator("underfitting", wanted=EACH)
def _squeezed_in_the_middle(r: Recipe, rng: Any) -> Delta | None:
    """The first layer has one unit (a column of the table by mistake), all others what they had."""
    stack = layers(r)
    if not is_table(r) or stack[0]["class"] != "Dense":
        return None
    stack[0]["config"]["units"] = 1
    return {"layers": stack}


# -- penalties ---------------------------------------------------------------------------------------------------------


@operator("dropout_too_high", wanted=EACH)
def _kept_for_dropped(r: Recipe, rng: Any) -> Delta | None:
    """The share to keep, as it was once asked for, in place of the share to drop: behind the last hidden layer."""
    return {"layers": [*layers(r)[:-1], layer("Dropout", rate=pick(rng, 0.9, 0.97)), layers(r)[-1]]}


@operator("dropout_too_high", wanted=EACH)
def _dropped_where_it_enters(r: Recipe, rng: Any) -> Delta | None:
    """Dropout behind each convolution and embedding, at the rate of a dense layer and more."""
    kinds = ("Conv2D", "Conv1D", "Embedding")
    if not _has(r, *kinds):
        return None
    return {"layers": _behind(layers(r), [layer("Dropout", rate=pick(rng, 0.75, 0.85))], kinds)}


@operator("regularization_too_strong", "dead_weights", wanted=EACH)
def _decay_of_sgd(r: Recipe, rng: Any) -> Delta | None:
    """A decay of weights for a rate a hundred times smaller."""
    rule = optimizer("SGD", 0.03, momentum=0.9, weight_decay=pick(rng, 0.2, 0.5))
    return None if _normed(r) else {"optimizer": rule}


@operator("regularization_too_strong", "dead_weights", wanted=EACH)
def _first_layer_penalized(r: Recipe, rng: Any) -> Delta | None:
    """A search for the columns that matter: L1 on the first layer, far too much of it."""
    stack = layers(r)
    if not hidden(stack) or is_tokens(r) or _normed(r):
        return None
    hidden(stack)[0]["config"]["kernel_regularizer"] = {"name": "l1", "l1": pick(rng, 0.05, 0.3)}
    return {"layers": stack}


# -- batch normalization -----------------------------------------------------------------------------------------------


@operator("batchnorm_misuse", "batch_too_small", wanted=EACH)
def _momentum_of_the_others(r: Recipe, rng: Any) -> Delta | None:
    """The momentum weighs the new value in one library and the old one in the other: the last small batch is all."""
    if is_tokens(r) or _normed(r):
        return None
    norm = layer("BatchNorm", momentum=pick(rng, 0.01, 0.1))
    stack = layers(r)
    return {"layers": [*stack[:-1], norm, stack[-1]], "batch_size": pick(rng, 4, 5), "epochs": max(3, r["epochs"] // 4)}


@operator("batchnorm_misuse", "dropout_too_high", wanted=EACH)
def _norm_behind_dropout(r: Recipe, rng: Any) -> Delta | None:
    """Dropout, and a normalization behind it that counts the spread of training and meets that of use."""
    if is_tokens(r) or _normed(r) or _has(r, *RECURRENT):
        return None
    rate = pick(rng, 0.6, 0.7)
    stack = layers(r)
    return {"layers": [*stack[:-1], layer("Dropout", rate=rate), layer("BatchNorm", momentum=0.9), stack[-1]]}


@operator("batchnorm_misuse", "input_not_normalized", wanted=EACH)
def _momentum_for_a_million_pictures(r: Recipe, rng: Any) -> Delta | None:
    """Inputs as they came behind a normalization whose statistics are meant for far longer trainings."""
    if not is_table(r) or _normed(r) or r["data"]["source"] not in ("borehole", "piston", "houses", "birds", "churn"):
        return None
    return {"layers": [layer("BatchNorm", momentum=pick(rng, 0.9997, 0.99997)), *layers(r)], "data": {"scale": "none"}}


# -- outputs that know nothing of inputs -------------------------------------------------------------------------------


@operator("output_ignores_input", wanted=EACH)
def _norm_over_one_channel(r: Recipe, rng: Any) -> Delta | None:
    """A normalization over the channels of a picture that has one: nothing but zeros."""
    if r["data"].get("shape", [0])[-1] != 1:
        return None
    return {"layers": [layer("LayerNorm"), *layers(r)]}


@operator("output_ignores_input", "one_unit_softmax", wanted=EACH)
def _gate_of_one(r: Recipe, rng: Any) -> Delta | None:
    """A gate of one unit with a softmax before the output: it is always 1."""
    gate = layer("Dense", units=1, activation="softmax", kernel_initializer="glorot_normal")
    return {"layers": [*layers(r)[:-1], gate, layers(r)[-1]]}


# -- length ------------------------------------------------------------------------------------------------------------


@operator("stopped_too_early", "learning_rate_too_low", "batch_too_large", wanted=EACH)
def _settings_of_a_demo(r: Recipe, rng: Any) -> Delta | None:
    """Three passes with batches of 128, as the first page of the manual has it."""
    return {"epochs": pick(rng, 2, 3), "batch_size": 128}


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _budget_ran_out(r: Recipe, rng: Any) -> Delta | None:
    """A third of the rate, to be safe, and a fifth of the passes, for it took so long."""
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / 3}
    return {"epochs": max(1, r["epochs"] // 5), "optimizer": rule}
