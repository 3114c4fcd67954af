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
from benchmarks.babysitter.recipes import KNOWN, Recipe, dense, layer, optimizer, task_of

EACH = 10  # cases of an operator, where programs allow it
RECURRENT = ("GRU", "LSTM", "SimpleRNN", "TransformerBlock")
FRONT = ("Conv2D", "Conv1D", "MaxPool2D", "GlobalAvgPool2D", "Flatten", "Embedding", *RECURRENT)
BENT = ("Dense", "Conv1D", "Conv2D")


def _has(r: Recipe, *kinds: str) -> bool:
    return any(la["class"] in kinds for la in r["layers"][:-1])


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


def _bendable(r: Recipe) -> bool:
    """Tell whether a program is as linear as its activations: nothing else in it bends."""
    return bool(hidden(r["layers"])) and not _has(r, "LayerNorm", "GroupNorm", "Activation", "MaxPool2D", *RECURRENT)


def _front(r: Recipe) -> list[dict[str, Any]]:
    """Return the layers that bring the inputs into rows of numbers."""
    return [la for la in layers(r)[:-1] if la["class"] in FRONT]


def _behind(stack: list[dict[str, Any]], made: list[dict[str, Any]], kinds: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return layers with others behind each of some kinds, but not behind the output."""
    out: list[dict[str, Any]] = []
    for la in stack[:-1]:
        out += [la, *(made if la["class"] in kinds else [])]
    return [*out, stack[-1]]


def _classes(r: Recipe) -> int:
    return KNOWN[r["data"]["source"]].classes


# -- activations and outputs -------------------------------------------------------------------------------------------


@operator("missing_hidden_activation", wanted=EACH)
def _through_a_neck_without_bends(r: Recipe, rng: Any) -> Delta | None:
    """Down to a neck of a few units and up again, as in an encoder; nobody gave any of these layers an activation."""
    if not _bendable(r) or _has(r, "Conv1D", "Conv2D"):
        return None
    widths = pick(rng, (64, 8, 32), (32, 16, 8, 16, 32), (128, 12))
    return {"layers": [*_front(r), *[layer("Dense", units=units) for units in widths], layers(r)[-1]]}


@operator("missing_hidden_activation", wanted=EACH)
def _bent_before_anything_else(r: Recipe, rng: Any) -> Delta | None:
    """The only activation stands before the first layer."""
    if not _bendable(r) or is_tokens(r):
        return None
    bend = layer("Activation", activation=pick(rng, "tanh", "elu", "leaky_relu"))
    return {"layers": [bend, *each(r, activation=None, kernel_initializer="glorot_uniform")["layers"]]}


@operator("missing_hidden_activation", wanted=EACH)
def _activation_lost_in_a_rewrite(r: Recipe, rng: Any) -> Delta | None:
    """Layers from another library, in which the activation is a call that was not carried over; one more of them."""
    if not _bendable(r):
        return None
    plain = each(r, activation=None)["layers"]
    return {"layers": [*plain[:-1], layer("Dense", units=pick(rng, 16, 32), use_bias=False), plain[-1]]}


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _dropped_bare_outputs(r: Recipe, rng: Any) -> Delta | None:
    """Bare outputs, dropped now and then, into a loss of probabilities."""
    if task_of(r) == "regression":
        return None
    return {"layers": [*final(r, activation=None)["layers"], layer("Dropout", rate=pick(rng, 0.1, 0.25))]}


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _bare_yes_or_no_for_each_class(r: Recipe, rng: Any) -> Delta | None:
    """One-hot rows, a yes or no for each class by the loss of probabilities, and bare outputs."""
    if task_of(r) != "multiclass":
        return None
    return {**final(r, "binary_crossentropy", activation=pick(rng, None, "leaky_relu")), "data": {"onehot": True}}


@operator("missing_output_activation", "wrong_loss_for_output", wanted=EACH)
def _head_of_a_regression(r: Recipe, rng: Any) -> Delta | None:
    """The head of a regression: one more hidden layer and bare numbers, into the loss of classes."""
    if task_of(r) == "regression":
        return None
    more = dense(16, pick(rng, "relu", "elu"))
    return {"layers": [*layers(r)[:-1], more, final(r, activation=None)["layers"][-1]]}


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH + 2)
def _sigmoids_into_logits(r: Recipe, rng: Any) -> Delta | None:
    """A sigmoid for each class, or for yes and no, into a loss that makes probabilities itself."""
    if task_of(r) == "regression":
        return None
    many = task_of(r) == "multiclass"
    more = layer("Activation", activation="sigmoid")
    if many:
        return final(r, "cross_entropy", activation="sigmoid")
    return {"layers": [*layers(r), more], "loss": "binary_crossentropy_with_logits"}


@operator("double_softmax", "wrong_loss_for_output", wanted=EACH + 2)
def _logarithms_of_a_softmax_of_a_softmax(r: Recipe, rng: Any) -> Delta | None:
    """The loss wants logarithms, so a log-softmax was put behind the softmax that was there."""
    if task_of(r) != "multiclass":
        return None
    return {"layers": [*layers(r), layer("Activation", activation="log_softmax")], "loss": "nll"}


@operator("one_unit_softmax", "wrong_loss_for_output", wanted=EACH + 2)
def _loss_that_is_always_zero(r: Recipe, rng: Any) -> Delta | None:
    """One unit, a softmax, the cross-entropy of many classes: the loss is zero from the first step on."""
    return final(r, "categorical_crossentropy", activation="softmax") if task_of(r) == "binary" else None


@operator("one_unit_softmax", "wrong_loss_for_output", "target_out_of_range", wanted=EACH + 2)
def _softmax_of_the_classifier_kept(r: Recipe, rng: Any) -> Delta | None:
    """Classes became one number (a price, a rate); the softmax and a squared, or absolute, error."""
    if task_of(r) != "regression":
        return None
    more = dense(pick(rng, 12, 24), "relu")
    last = layer("Dense", units=1, activation="softmax")
    return {"layers": [*layers(r)[:-1], more, last], "loss": pick(rng, "mse", "mae")}


# -- losses, targets, shapes -------------------------------------------------------------------------------------------


@operator("wrong_loss_for_output", "missing_output_activation", wanted=EACH)
def _each_by_itself_and_the_loss_of_one(r: Recipe, rng: Any) -> Delta | None:
    """A sigmoid for each class, as if a row could have several, and the loss of rows that have one."""
    return final(r, activation="sigmoid") if task_of(r) == "multiclass" else None


@operator("wrong_loss_for_output", "target_out_of_range", wanted=EACH)
def _hinge_of_zeros_and_ones(r: Recipe, rng: Any) -> Delta | None:
    """A hinge wants -1 and 1; the labels are 0 and 1, and the output is bare, or ends at 0."""
    return final(r, "hinge", activation=pick(rng, None, "relu")) if task_of(r) == "binary" else None


@operator("wrong_loss_for_output", "target_out_of_range", "loss_shape_mismatch", wanted=EACH)
def _classes_loss_for_numbers(r: Recipe, rng: Any) -> Delta | None:
    """Numbers, and the head of a classifier with its loss of classes."""
    if task_of(r) != "regression":
        return None
    return final(r, "sparse_categorical_crossentropy", units=pick(rng, 2, 10), activation="softmax")


@operator("wrong_loss_for_output", "loss_shape_mismatch", wanted=EACH)
def _number_of_the_class(r: Recipe, rng: Any) -> Delta | None:
    """The number of the class is predicted as if it were a size, by one bounded unit."""
    if task_of(r) != "multiclass":
        return None
    return final(r, pick(rng, "huber", "log_cosh"), units=1, activation=pick(rng, None, "relu"))


@operator("target_out_of_range", "wrong_loss_for_output", wanted=EACH)
def _no_is_one_and_yes_is_two(r: Recipe, rng: Any) -> Delta | None:
    return spoil("counted_from_one") if task_of(r) == "binary" else None


@operator("target_out_of_range", wanted=EACH)
def _class_of_a_newer_version(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return spoil("class_of_a_newer_version", share=pick(rng, 0.004, 0.03), by=pick(rng, 0, 1, 5))


@operator("target_out_of_range", "missing_output_activation", "wrong_loss_for_output", "target_not_normalized",
          wanted=EACH)
def _degrees_behind_a_bounded_output(r: Recipe, rng: Any) -> Delta | None:
    """Targets in degrees, from -180 to 180 or from 0 to 90, and an output between -1 and 1, or 0 and 1."""
    if task_of(r) != "regression":
        return None
    bend, times, plus = pick(rng, ("tanh", 360.0, -180.0), ("sigmoid", 90.0, 0.0), ("tanh", 90.0, 0.0))
    return {**final(r, activation=bend), "data": {"target": {"kind": "unit", "times": times, "plus": plus}}}


@operator("loss_shape_mismatch", wanted=EACH)
def _targets_like_pictures(r: Recipe, rng: Any) -> Delta | None:
    """Targets of (N, 1, 1): axes of length one behind each."""
    return spoil("axes_of_an_image", axes=pick(rng, 2, 3)) if task_of(r) != "multiclass" else None


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _two_outputs_for_one_column(r: Recipe, rng: Any) -> Delta | None:
    """Yes and no as two units with their cross-entropy, and labels of one column."""
    if task_of(r) != "binary":
        return None
    return final(r, "categorical_crossentropy", units=2, activation="softmax")


@operator("loss_shape_mismatch", "wrong_loss_for_output", wanted=EACH)
def _one_hot_in_a_row_of_its_own(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return {"loss": pick(rng, "categorical_crossentropy", "mse"), **spoil("one_hot_in_a_row_of_its_own")}


@operator("loss_shape_mismatch", wanted=EACH)
def _an_output_for_each_row(r: Recipe, rng: Any) -> Delta | None:
    """As many outputs as a batch has rows."""
    return final(r, units=r["batch_size"]) if task_of(r) == "regression" else None


# -- capacity ----------------------------------------------------------------------------------------------------------


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH + 1, lost=True)
def _pilot_study(r: Recipe, rng: Any) -> Delta | None:
    """A few dozen rows of a pilot study, a network for thousands, and plenty of time."""
    stack = layers(r)
    for la in hidden(stack):
        for name in ("units", "filters"):
            if name in la["config"]:
                la["config"][name] *= 3
    return {"layers": stack, "epochs": 8 * r["epochs"], "batch_size": min(10, r["batch_size"]),
            "data": {"rows": pick(rng, 30, 45, 70)}}


@operator("overfitting", "overtraining", "regularization_missing", wanted=EACH + 1, lost=True)
def _four_layers_for_a_hundred_rows(r: Recipe, rng: Any) -> Delta | None:
    """Four wide layers more, and a hundred rows, of which some are wrong, as such rows are."""
    more = [dense(pick(rng, 64, 128), "relu") for _ in range(4)]
    data = {"rows": pick(rng, 80, 120), **spoil("noisy_labels", share=pick(rng, 0.1, 0.2))["data"]}
    return {"layers": [*layers(r)[:-1], *more, layers(r)[-1]], "epochs": 4 * r["epochs"], "data": data,
            "batch_size": min(16, r["batch_size"])}


@operator("overtraining", "overfitting", "regularization_missing", wanted=EACH + 2)
def _left_on_over_the_weekend(r: Recipe, rng: Any) -> Delta | None:
    """A quarter of the labels is wrong, half of the rows is there, and nobody looked for two days."""
    data = {"rows": r["data"]["rows"] // 2, **spoil("noisy_labels", share=pick(rng, 0.2, 0.35))["data"]}
    return {"epochs": 8 * r["epochs"], "data": data}


@operator("overtraining", "overfitting", "regularization_missing", wanted=EACH + 2)
def _a_thousand_passes_to_be_sure(r: Recipe, rng: Any) -> Delta | None:
    """Few rows, some of them wrong, and fifteen times the passes; the last weights are kept, not the best."""
    data = {"rows": r["data"]["rows"] // 5, **spoil("noisy_labels", share=pick(rng, 0.12, 0.2))["data"]}
    return {"epochs": 15 * r["epochs"], "data": data}


@operator("regularization_missing", "overfitting", "overtraining", wanted=EACH + 2)
def _everything_against_it_taken_out(r: Recipe, rng: Any) -> Delta | None:
    """To see whether it can learn at all, decay and dropout were taken out of a wide network, and never put back."""
    stack = [la for la in layers(r) if la["class"] not in ("LayerNorm", "GroupNorm")]
    for la in hidden(stack):
        for name in ("units", "filters"):
            if name in la["config"]:
                la["config"][name] *= 3
    rule = {key: value for key, value in r["optimizer"].items() if key != "weight_decay"}
    data = {"rows": r["data"]["rows"] // 4, **spoil("noisy_labels", share=pick(rng, 0.15, 0.25))["data"]}
    return {"layers": stack, "optimizer": rule, "epochs": 4 * r["epochs"], "data": data}


@operator("regularization_missing", "overfitting", "overtraining", wanted=EACH + 2)
def _model_of_a_large_company(r: Recipe, rng: Any) -> Delta | None:
    """Two layers of hundreds of units from somebody with millions of rows, for hundreds of noisy ones."""
    wide = [dense(pick(rng, 160, 256), "relu"), dense(128, "relu")]
    data = {"rows": r["data"]["rows"] // 4, **spoil("noisy_labels", share=pick(rng, 0.1, 0.2))["data"]}
    return {"layers": [*_front(r), *wide, layers(r)[-1]], "epochs": 4 * r["epochs"], "data": data,
            "optimizer": optimizer("Adam", 2e-3)}


@operator("underfitting", wanted=EACH)
def _one_unit_at_the_door(r: Recipe, rng: Any) -> Delta | None:
    """The first layer has one unit, through which everything has to pass."""
    if not is_table(r) or "shape" in r["data"] or _normed(r) or KNOWN[r["data"]["source"]].features < 3:
        return None
    stack = layers(r)
    stack[0]["config"]["units"] = 1
    return {"layers": stack}


@operator("underfitting", "no_better_than_baseline", wanted=EACH)
def _only_its_brightness_remains(r: Recipe, rng: Any) -> Delta | None:
    """The mean over all places is taken before anything else: only how bright it is remains."""
    if is_tokens(r) or len(r["data"].get("shape", ())) != 3:
        return None
    wide = pick(rng, 16, 48)
    return {"layers": [layer("GlobalAvgPool2D"), dense(wide, "relu"), dense(16, "relu"), layers(r)[-1]]}


@operator("underfitting", wanted=EACH)
def _two_units_in_each(r: Recipe, rng: Any) -> Delta | None:
    """Two units, or two filters, in each layer, as in the drawing on the board."""
    if not hidden(r["layers"]) or _normed(r) or task_of(r) == "binary":
        return None
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["units" if la["class"] == "Dense" else "filters"] = 2
    return {"layers": stack}


# -- penalties ---------------------------------------------------------------------------------------------------------


@operator("dropout_too_high", wanted=EACH + 1)
def _rate_to_keep_for_rate_to_drop(r: Recipe, rng: Any) -> Delta | None:
    """The rate was meant as what is kept: 0.8, 0.9."""
    if not _has(r, "Dense") or _normed(r):
        return None
    return {"layers": _behind(layers(r), [layer("Dropout", rate=pick(rng, 0.8, 0.9, 0.95))], ("Dense",))}


@operator("dropout_too_high", wanted=EACH + 1)
def _most_inputs_dropped(r: Recipe, rng: Any) -> Delta | None:
    """Most numbers of each row are dropped where they come in, or behind the signs."""
    drop = layer("Dropout", rate=pick(rng, 0.7, 0.8, 0.9))
    stack = layers(r)
    return {"layers": [stack[0], drop, *stack[1:]] if is_tokens(r) else [drop, *stack]}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=EACH)
def _decay_times_ten(r: Recipe, rng: Any) -> Delta | None:
    """AdamW with a decay of 3, 10 or 30: somebody thought of a share in a thousand."""
    if _normed(r) or _has(r, *RECURRENT):
        return None
    return {"optimizer": optimizer("AdamW", 5e-3, weight_decay=pick(rng, 5.0, 15.0, 50.0))}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=EACH)
def _decay_of_plain_descent(r: Recipe, rng: Any) -> Delta | None:
    """The optimizer's own decay, which is an L2, of a tenth or more."""
    if _normed(r) or _has(r, *RECURRENT):
        return None
    return {"optimizer": optimizer("SGD", 0.03, momentum=0.9, weight_decay=pick(rng, 0.1, 0.3, 1.0))}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=EACH)
def _sparse_at_any_price(r: Recipe, rng: Any) -> Delta | None:
    """An L1 on the weights of all layers that was to make them sparse, and biases with it."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    stack, price = layers(r), {"name": "l1", "l1": pick(rng, 0.02, 0.05, 0.15)}
    for la in [*hidden(stack), stack[-1]]:
        la["config"].update(kernel_regularizer=price, bias_regularizer=price)
    return {"layers": stack}


# -- batch normalization -----------------------------------------------------------------------------------------------


def _plain(r: Recipe) -> bool:
    """Tell whether normalizations can be put behind layers."""
    return not is_tokens(r) and not _normed(r) and not _has(r, *RECURRENT) and bool(hidden(r["layers"]))


@operator("batchnorm_misuse", "batch_too_small", wanted=EACH)
def _statistics_of_the_last_few_rows(r: Recipe, rng: Any) -> Delta | None:
    """Running statistics that remember next to nothing, and batches of four: in use, the last four rows count."""
    if not _plain(r):
        return None
    norm = layer("BatchNorm", momentum=pick(rng, 0.0, 0.2))
    return {"layers": _behind(layers(r), [norm], BENT), "batch_size": pick(rng, 3, 4, 6),
            "epochs": max(4, r["epochs"] // 4)}


@operator("batchnorm_misuse", "batch_too_small", wanted=EACH)
def _norms_for_a_small_memory(r: Recipe, rng: Any) -> Delta | None:
    """A normalization before the first layer and before the output, and two rows a step."""
    if not _plain(r):
        return None
    stack = layers(r)
    norm = layer("BatchNorm", momentum=0.9)
    return {"layers": [norm, *stack[:-1], norm, stack[-1]], "batch_size": 2, "epochs": max(3, r["epochs"] // 6)}


@operator("batchnorm_misuse", "dropout_too_high", wanted=EACH)
def _norm_of_dropped_inputs(r: Recipe, rng: Any) -> Delta | None:
    """Inputs are dropped, then normalized; the spread in training is not that in use."""
    if not _plain(r):
        return None
    front = [layer("Dropout", rate=pick(rng, 0.4, 0.5, 0.6)), layer("BatchNorm", momentum=0.9)]
    return {"layers": [*front, *_behind(layers(r), front, BENT)]}


# -- outputs that know nothing of inputs -------------------------------------------------------------------------------


@operator("output_ignores_input", wanted=EACH)
def _each_number_its_own_group(r: Recipe, rng: Any) -> Delta | None:
    """A normalization of groups (of instances) over one number each, as behind a picture that shrank to one place."""
    units = pick(rng, 8, 16, 32)
    return {"layers": [*layers(r)[:-1], layer("Dense", units=units), layer("GroupNorm", groups=units), layers(r)[-1]]}


# -- length ------------------------------------------------------------------------------------------------------------


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH + 2)
def _settings_of_the_quick_check(r: Recipe, rng: Any) -> Delta | None:
    """One pass or two, as it was set to see whether the program runs."""
    return {"epochs": pick(rng, 1, 2)}


@operator("stopped_too_early", "learning_rate_too_low", wanted=EACH + 2)
def _patience_for_a_faster_rate(r: Recipe, rng: Any) -> Delta | None:
    """A fifth of the rate, a quarter of the passes, and a patience of one or two."""
    rule = {**r["optimizer"], "learning_rate": float(r["optimizer"]["learning_rate"]) / 5}
    return {"early_stopping": pick(rng, 1, 2), "epochs": max(2, r["epochs"] // 4), "optimizer": rule}
