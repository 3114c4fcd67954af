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
from benchmarks.babysitter.recipes import KNOWN, Recipe, layer, optimizer, task_of

EACH = 11  # cases of an operator, where programs allow it
RECURRENT = ("GRU", "LSTM")


def _classes(r: Recipe) -> int:
    return KNOWN[r["data"]["source"]].classes


def _recurrent(r: Recipe) -> bool:
    return any(la["class"] in RECURRENT for la in r["layers"])


def _behind(r: Recipe, make: Any, kinds: tuple[str, ...] = ("Dense",)) -> Delta | None:
    """Return a delta with layers behind each hidden one of some kinds."""
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        stack += [la, *(make() if la["class"] in kinds else [])]
    return {"layers": [*stack, layers(r)[-1]]} if len(stack) >= len(r["layers"]) else None


# -- activations and outputs -------------------------------------------------------------------------------------------


@operator("missing_hidden_activation", wanted=EACH)
def _norms_without_bends(r: Recipe, rng: Any) -> Delta | None:
    """Linear layers with batch normalization between them."""
    if not hidden(r["layers"]) or is_tokens(r):
        return None
    plain = {**r, **each(r, activation=None, kernel_initializer="glorot_uniform")}
    return _behind(plain, lambda: [layer("BatchNorm", momentum=0.9)], ("Dense", "Conv2D", "Conv1D"))


@operator("missing_hidden_activation", wanted=EACH)
def _activation_named_linear(r: Recipe, rng: Any) -> Delta | None:
    """Activations are layers of their own, and do nothing."""
    if not hidden(r["layers"]):
        return None
    plain = {**r, **each(r, activation=None, kernel_initializer="orthogonal")}
    return _behind(plain, lambda: [layer("Activation", activation="linear")], ("Dense", "Conv2D", "Conv1D"))


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _tanh_output(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation="tanh")


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _hidden_activation_at_the_end(r: Recipe, rng: Any) -> Delta | None:
    return None if task_of(r) == "regression" else final(r, activation=pick(rng, "elu", "selu", "gelu", "leaky_relu"))


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH)
def _told_from_logits(r: Recipe, rng: Any) -> Delta | None:
    """The loss is told that it gets logits, and gets probabilities."""
    if task_of(r) == "regression":
        return None
    return {"loss": {"name": r["loss"], "from_logits": True}}


@operator("double_softmax", "wrong_loss_for_output", wanted=2 * EACH)
def _sigmoids_then_softmax(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    stack = final(r, activation=pick(rng, "sigmoid", "softmax"))["layers"]
    return {"layers": [*stack, layer("Activation", activation="softmax")] if rng.random() < 0.5 else [
        *stack, layer("Activation", activation="softmax"), layer("Activation", activation="softmax")]}


@operator("one_unit_softmax", "wrong_loss_for_output", wanted=EACH)
def _softmax_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation="softmax") if task_of(r) == "regression" else None


@operator("one_unit_softmax", "wrong_loss_for_output", wanted=EACH)
def _one_softmax_by_squares(r: Recipe, rng: Any) -> Delta | None:
    return final(r, pick(rng, "mse", "mae"), activation="softmax") if task_of(r) == "binary" else None


# -- losses, targets, shapes -------------------------------------------------------------------------------------------


@operator("wrong_loss_for_output", "loss_shape_mismatch", wanted=EACH)
def _class_as_a_number(r: Recipe, rng: Any) -> Delta | None:
    """One linear unit is fitted to the numbers of the classes."""
    return final(r, pick(rng, "mse", "mae"), units=1, activation=None) if task_of(r) == "multiclass" else None


@operator("wrong_loss_for_output", "one_unit_softmax", wanted=EACH)
def _divergence_of_one_unit(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": "kl_divergence"} if task_of(r) == "binary" else None


@operator("wrong_loss_for_output", "target_out_of_range", "one_unit_softmax", wanted=EACH)
def _crossentropy_of_a_number(r: Recipe, rng: Any) -> Delta | None:
    return final(r, pick(rng, "categorical_crossentropy", "kl_divergence")) if task_of(r) == "regression" else None


@operator("target_out_of_range", "missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _tanh_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    return final(r, activation=pick(rng, "tanh", "sigmoid")) | {
        "data": {"target": {"times": pick(rng, 1.0, 3.0)}}} if task_of(r) == "regression" else None


@operator("target_out_of_range", "wrong_loss_for_output", wanted=EACH)
def _minus_and_plus(r: Recipe, rng: Any) -> Delta | None:
    return spoil("plus_minus") if task_of(r) == "binary" else None


@operator("target_out_of_range", wanted=EACH)
def _codes_of_classes(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return spoil("codes_of_classes", times=pick(rng, 10, 100)) if rng.random() < 0.5 else spoil("unknown_class")


@operator("loss_shape_mismatch", wanted=EACH)
def _not_flattened(r: Recipe, rng: Any) -> Delta | None:
    """Flatten is forgotten, or the whole sequence returned: an output for every place."""
    stack = layers(r)
    kept = [la for la in stack if la["class"] != "Flatten"]
    for la in kept:
        if la["class"] in RECURRENT:
            la["config"]["return_sequences"] = True
    return {"layers": kept} if kept != r["layers"] else None


@operator("loss_shape_mismatch", wanted=EACH)
def _flat_targets(r: Recipe, rng: Any) -> Delta | None:
    """Targets (N,) against outputs (N, 1)."""
    return None if task_of(r) == "multiclass" else {"data": {"flat": True}}


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _column_too_many(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return {"loss": "categorical_crossentropy", "data": {"onehot": True, "more": pick(rng, 1, 2)}}


# -- capacity ----------------------------------------------------------------------------------------------------------


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _columns_that_know_nothing(r: Recipe, rng: Any) -> Delta | None:
    if not is_table(r):
        return None
    return {**spoil("useless_columns", columns=pick(rng, 60, 150), rows=pick(rng, 80, 150)), "epochs": 4 * r["epochs"],
            **each(r, units=96)}


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH, lost=True)
def _huge_for_few(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    dense = [la for la in hidden(stack) if la["class"] == "Dense"]
    for la in dense:
        la["config"]["units"] = pick(rng, 128, 256)
    if not dense:
        return None
    return {"layers": stack, "epochs": 5 * r["epochs"], "data": {"rows": pick(rng, 50, 90)}}


@operator("underfitting", wanted=EACH)
def _through_one_number(r: Recipe, rng: Any) -> Delta | None:
    """A layer of one unit before the output."""
    if task_of(r) != "multiclass":
        return None
    squeeze = layer("Dense", units=1, activation=pick(rng, "tanh", "relu", "elu"), kernel_initializer="glorot_normal")
    return {"layers": [*layers(r)[:-1], squeeze, layers(r)[-1]]}


@operator("underfitting", wanted=EACH)
def _two_units(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in stack[:-1]:
        for name in ("units", "filters", "output_dim"):
            if name in la["config"]:
                la["config"][name] = 2
    return {"layers": stack}


@operator("underfitting", wanted=EACH)
def _mean_of_the_picture(r: Recipe, rng: Any) -> Delta | None:
    """Only the mean over all places is left of what the first layer sees."""
    kinds = [la["class"] for la in r["layers"]]
    if "Conv2D" not in kinds:
        return None
    first = layers(r)[0]
    first["config"]["filters"] = pick(rng, 1, 2)
    return {"layers": [first, layer("GlobalAvgPool2D"), layers(r)[-1]]}


# -- penalties ---------------------------------------------------------------------------------------------------------


@operator("dropout_too_high", wanted=EACH)
def _inputs_dropped(r: Recipe, rng: Any) -> Delta | None:
    if is_tokens(r):
        return None
    return {"layers": [layer("Dropout", rate=pick(rng, 0.75, 0.92)), *layers(r)]}


@operator("dropout_too_high", wanted=EACH)
def _dropped_three_times(r: Recipe, rng: Any) -> Delta | None:
    """Dropout upon dropout: 0.55 or more, three times."""
    rate = pick(rng, 0.55, 0.7)
    return {"layers": [*layers(r)[:-1], *[layer("Dropout", rate=rate) for _ in range(3)], layers(r)[-1]]}


@operator("regularization_too_strong", wanted=EACH)
def _elastic(r: Recipe, rng: Any) -> Delta | None:
    both = {"name": "l1_l2", "l1": pick(rng, 0.01, 0.05), "l2": pick(rng, 0.05, 0.2)}
    return each(r, kernel_regularizer=both) if hidden(r["layers"]) else None


@operator("regularization_too_strong", "wrong_optimizer", wanted=EACH)
def _decay_of_weights(r: Recipe, rng: Any) -> Delta | None:
    rate = r["optimizer"]["learning_rate"]
    rate = rate if r["optimizer"]["name"] in ("Adam", "AdamW", "NAdam") else 2e-3
    return {"optimizer": optimizer("AdamW", rate, weight_decay=pick(rng, 10.0, 40.0))}


@operator("regularization_too_strong", "underfitting", wanted=EACH)
def _output_penalized(r: Recipe, rng: Any) -> Delta | None:
    return final(r, kernel_regularizer={"name": "l1", "l1": pick(rng, 0.1, 1.0)})


# -- batch normalization -----------------------------------------------------------------------------------------------


@operator("batchnorm_misuse", wanted=EACH)
def _norm_of_three(r: Recipe, rng: Any) -> Delta | None:
    """Batches of three rows, and the outputs normalized over them."""
    if is_tokens(r):
        return None
    stack = layers(r)
    stack.insert(len(stack) - 1, layer("BatchNorm", momentum=0.9))
    return {"layers": stack, "batch_size": 3, "epochs": max(2, r["epochs"] // 6)}


@operator("batchnorm_misuse", wanted=EACH)
def _statistics_behind(r: Recipe, rng: Any) -> Delta | None:
    """Running statistics that need ten times more steps than there are."""
    made = _behind(r, lambda: [layer("BatchNorm", momentum=0.999)], ("Dense", "Conv2D", "Conv1D"))
    return made and {**made, "batch_size": 100}


@operator("batchnorm_misuse", wanted=EACH)
def _norm_of_the_output(r: Recipe, rng: Any) -> Delta | None:
    """The outputs themselves are normalized, so that their scale is lost; the numbers meant are elsewhere."""
    if task_of(r) != "regression":
        return None
    return {"layers": [*layers(r), layer("BatchNorm", center=False, scale=False, momentum=0.99)], "batch_size": 8,
            "epochs": max(3, r["epochs"] // 3)}


# -- length ------------------------------------------------------------------------------------------------------------


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _one_pass(r: Recipe, rng: Any) -> Delta | None:
    return {"epochs": 1, "batch_size": pick(rng, r["batch_size"], 2 * r["batch_size"])}


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _impatient(r: Recipe, rng: Any) -> Delta | None:
    """A noisy validation loss and no patience."""
    return {"early_stopping": 0, "epochs": max(4, r["epochs"] // 4), "batch_size": 4 * r["batch_size"]}
