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
    only_dense,
    operator,
    pick,
    planned_steps,
    spoil,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, layer, optimizer, task_of

FEW = 4  # cases of an operator that was added while limits were made

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


# -- added while limits were made: other layers, other ways ------------------------------------------------------------


def _classes(r: Recipe) -> int:
    task = task_of(r)
    return 0 if task == "regression" else 2 if task == "binary" else int(r["layers"][-1]["config"]["units"])


@operator("class_collapse", "class_imbalance", wanted=FEW)
def _weights_by_rank_in_the_loss(r: Recipe, rng: Any) -> Delta | None:
    """The loss weighs classes by a power of their number, as if they were listed by how rare they are."""
    if task_of(r) != "multiclass":
        return None
    power = pick(rng, 2.5, 3.5, 5.0)
    weights = [float((k + 1) ** -power) for k in range(_classes(r))]
    return {"loss": {"name": r["loss"], "class_weight": weights}}


@operator("class_collapse", "class_imbalance", wanted=FEW)
def _one_class_weighs_nothing(r: Recipe, rng: Any) -> Delta | None:
    """A class was to be left out for a test; its weight is still 0."""
    if not _classes(r):
        return None
    weights = [1.0] * _classes(r)
    weights[int(rng.integers(len(weights)))] = 0.0
    return {"class_weight": weights}


@operator("overfitting", "overtraining", "regularization_missing", wanted=FEW, lost=True)
def _memory_for_forty(r: Recipe, rng: Any) -> Delta | None:
    """A recurrent layer with a large memory reads forty pictures line by line, again and again."""
    if r["data"]["source"] != "digits":
        return None
    stack = [layer("Reshape", target_shape=[8, 8]), layer("GRU", units=pick(rng, 64, 96)), layers(r)[-1]]
    data = {"rows": pick(rng, 40, 60), "shape": [64], **spoil("noisy_labels", share=0.1)["data"]}
    return {"layers": stack, "optimizer": optimizer("Adam", 5e-3), "epochs": 60, "batch_size": 10, "data": data}


@operator("overtraining", "overfitting", "regularization_missing", wanted=FEW)
def _one_restart_after_another(r: Recipe, rng: Any) -> Delta | None:
    """A rate that begins again and again, for eight times as long as it takes, on a third of the rows."""
    if not only_dense(r):
        return None
    steps, rate = planned_steps(r), r["optimizer"]["learning_rate"]
    data = {"rows": r["data"]["rows"] // 3, **spoil("noisy_labels", share=pick(rng, 0.1, 0.2))["data"]}
    stack = layers(r)
    for la in hidden(stack):
        la["config"]["units"] *= 2
    schedule = {"name": "cosine", "learning_rate": 2 * rate, "steps": steps, "restarts": True}
    return {"layers": stack, "epochs": 8 * r["epochs"], "data": data,
            "optimizer": {**r["optimizer"], "learning_rate": schedule}}


@operator("regularization_missing", "overfitting", "overtraining", wanted=FEW)
def _columns_crossed_with_each_other(r: Recipe, rng: Any) -> Delta | None:
    """Two very wide layers of smooth units for few rows of a table with noise, by RMSprop."""
    if task_of(r) != "regression":
        return None
    wide = [layer("Dense", units=256, activation="silu", kernel_initializer="he_normal") for _ in range(2)]
    data = {"rows": pick(rng, 40, 70), **spoil("noisy_labels", share=0.1)["data"]}
    return {"layers": [*wide, layers(r)[-1]], "optimizer": optimizer("RMSprop", 1e-3), "epochs": 120,
            "batch_size": 10, "data": data}


@operator("underfitting", wanted=FEW)
def _two_numbers_of_a_picture(r: Recipe, rng: Any) -> Delta | None:
    """The first layer makes two numbers of each row, wide layers follow."""
    if not only_dense(r) or r["data"]["source"] not in ("digits", "wine", "auto-mpg", "diabetes", "waves"):
        return None
    stack = layers(r)
    stack[0]["config"]["units"] = pick(rng, 1, 2)
    return {"layers": [stack[0], layer("Dense", units=48, activation="relu"), *stack[1:]]}


@operator("regularization_too_strong", "underfitting", wanted=FEW)
def _length_of_a_tenth(r: Recipe, rng: Any) -> Delta | None:
    """Weights of every unit are held at a length of a tenth or less."""
    limit = {"name": "max_norm", "max_value": pick(rng, 0.03, 0.1)}
    stack = layers(r)
    for la in stack:
        if la["class"] in ("Dense", "Conv2D"):
            la["config"]["kernel_constraint"] = limit
    return {"layers": stack}


@operator("regularization_too_strong", "underfitting", wanted=FEW)
def _smoothed_to_nothing(r: Recipe, rng: Any) -> Delta | None:
    """Labels of which nine tenths are smoothed away."""
    if task_of(r) != "multiclass":
        return None
    loss = {"name": "cross_entropy", "label_smoothing": pick(rng, 0.8, 0.95)}
    return {**final(r, activation=None), "loss": loss}


@operator("regularization_too_strong", "dead_weights", "underfitting", wanted=FEW)
def _decay_instead_of_rate(r: Recipe, rng: Any) -> Delta | None:
    """AdamW whose decay was taken for a rate of decay by step."""
    return {"optimizer": optimizer("AdamW", 5e-3, weight_decay=pick(rng, 5.0, 20.0, 60.0))}


@operator("stopped_too_early", "learning_rate_too_low", wanted=FEW)
def _rate_gone_long_before_the_end(r: Recipe, rng: Any) -> Delta | None:
    """A cosine whose steps are those of a run a fifteenth as long: after that nothing moves."""
    steps = max(2, planned_steps(r) // pick(rng, 15, 30))
    schedule = {"name": "cosine", "learning_rate": r["optimizer"]["learning_rate"], "steps": steps}
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


@operator("stopped_too_early", "learning_rate_too_low", wanted=FEW)
def _no_patience_with_noise(r: Recipe, rng: Any) -> Delta | None:
    """A third of the rate, a fifth of the passes, and an end at the first that is no better."""
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / 3}
    return {"early_stopping": 1, "epochs": max(3, r["epochs"] // 5), "optimizer": rule}


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
