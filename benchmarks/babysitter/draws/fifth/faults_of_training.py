"""Faults of rates, optimizers, batches and initial weights."""

from __future__ import annotations

from math import sqrt
from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    final,
    hidden,
    is_tokens,
    layers,
    only_dense,
    operator,
    pick,
    planned_steps,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, layer, optimizer, task_of

EACH = 10  # cases of an operator, where programs allow it
FRONT = ("Conv2D", "Conv1D", "MaxPool2D", "GlobalAvgPool2D", "Flatten", "Embedding", "GRU", "LSTM", "SimpleRNN",
         "TransformerBlock")
# sources that a recurrent layer can read: steps and numbers in each
STEPS = {"rivers": (10, 2), "levels": (15, 2), "walks": (14, 3), "phones": (24, 2), "breaths": (20, 2),
         "motors": (24, 2), "taps": (18, 2)}


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


def _schedule(r: Recipe, **schedule: Any) -> Delta:
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


def _passes(r: Recipe) -> int:
    """Return how many steps a pass has."""
    return max(1, r["data"]["rows"] // r["batch_size"])


def _front(r: Recipe) -> list[dict[str, Any]]:
    """Return the layers that bring the inputs into rows of numbers."""
    return [la for la in layers(r)[:-1] if la["class"] in FRONT]


def _normal(wide: float) -> dict[str, Any]:
    return {"name": "normal", "stddev": wide}


# -- rates -------------------------------------------------------------------------------------------------------------


@operator("learning_rate_too_high", wanted=EACH)
def _rate_of_a_paper_on_pictures(r: Recipe, rng: Any) -> Delta | None:
    """Plain momentum with the rate that a large normalized network takes with a thousand rows a step."""
    return {"optimizer": optimizer("SGD", pick(rng, 0.6, 1.6, 4.0), momentum=0.9, nesterov=pick(rng, True, False))}


@operator("learning_rate_too_high", wanted=EACH)
def _warmed_up_too_far(r: Recipe, rng: Any) -> Delta | None:
    """The rate rises for a while, and a zero was forgotten where it rises to."""
    return _schedule(r, name="warmup", steps=max(4, planned_steps(r) // 10), after=_rate(r) * pick(rng, 60, 150, 500))


@operator("learning_rate_too_high", wanted=EACH)
def _signs_with_the_rate_of_gradients(r: Recipe, rng: Any) -> Delta | None:
    """Steps by the sign alone, with a rate that is meant to be multiplied by a gradient."""
    return {"optimizer": optimizer("Lion", pick(rng, 0.05, 0.1, 0.3))}


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _decays_with_each_step(r: Recipe, rng: Any) -> Delta | None:
    """The rate was to fall a little with each pass, and falls with each step."""
    return _schedule(r, name="exponential", learning_rate=_rate(r) / 2, factor=pick(rng, 0.9, 0.8), every=1)


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _milestones_are_steps(r: Recipe, rng: Any) -> Delta | None:
    """Milestones at some passes; they are counted in steps, so all of them lie in the first pass."""
    marks = [max(1, r["epochs"] // 4), max(2, r["epochs"] // 2), max(3, 3 * r["epochs"] // 4)]
    return _schedule(r, name="piecewise", boundaries=marks, rates=[_rate(r) * 0.1**k for k in range(4)])


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _warms_up_to_the_end(r: Recipe, rng: Any) -> Delta | None:
    """The rate rises as slowly as for a run that takes weeks."""
    return _schedule(r, name="warmup", steps=planned_steps(r) * pick(rng, 30, 80, 200), after=_rate(r))


@operator("wrong_optimizer", "learning_rate_too_low", "stopped_too_early", wanted=EACH + 2)
def _sums_that_never_forget(r: Recipe, rng: Any) -> Delta | None:
    """Adagrad with the rate that is its default in one library, and sums that begin at a tenth or more."""
    return {"optimizer": optimizer("Adagrad", pick(rng, 1e-3, 3e-3), initial_accumulator_value=pick(rng, 0.1, 0.5))}


@operator("wrong_optimizer", "learning_rate_too_low", "stopped_too_early", wanted=EACH + 2)
def _descent_of_the_first_lesson(r: Recipe, rng: Any) -> Delta | None:
    """The descent of the first lesson, without momentum, with a rate that falls as in the second one."""
    steps = planned_steps(r)
    rate = pick(rng, 0.01, 0.005)
    return {"optimizer": optimizer("SGD", {"name": "step", "learning_rate": rate, "every": max(1, steps // 4),
                                           "factor": 0.5})}


# -- batches -----------------------------------------------------------------------------------------------------------


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH + 2)
def _batches_of_the_cluster(r: Recipe, rng: Any) -> Delta | None:
    """A dozen times the rows in each step, as it was on the cluster, and as many passes as before."""
    return {"batch_size": pick(rng, 10, 14, 20) * r["batch_size"]}


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH + 2)
def _all_rows_at_once(r: Recipe, rng: Any) -> Delta | None:
    """The whole table in each step, since it fits, and half as many passes again."""
    return {"batch_size": r["data"]["rows"], "epochs": r["epochs"] * 3 // 2}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH + 2)
def _learning_from_a_stream(r: Recipe, rng: Any) -> Delta | None:
    """Row by row as they come in, with a rate that suited batches, or a little more."""
    if _normed(r):
        return None
    rule = {**r["optimizer"], "learning_rate": _rate(r) * pick(rng, 8, 12, 20)}
    return {"batch_size": 1, "epochs": max(2, r["epochs"] // 9), "optimizer": rule}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH + 2)
def _smaller_to_save_memory(r: Recipe, rng: Any) -> Delta | None:
    """Two or three rows, for the memory, by Adam or NAdam with a rate that suited a hundred."""
    if _normed(r):
        return None
    rule = optimizer(pick(rng, "Adam", "NAdam"), pick(rng, 0.04, 0.08))
    return {"batch_size": pick(rng, 2, 3), "epochs": max(2, r["epochs"] // 7), "optimizer": rule}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator("symmetric_init", "bad_init_scale", "dead_relu", "unstable_activation_scale", "vanishing_gradient",
          "output_ignores_input", wanted=EACH)
def _all_hidden_begin_at_nought(r: Recipe, rng: Any) -> Delta | None:
    """Everything that is hidden begins at zero, as in a linear model, and the output does, or does not."""
    stack = layers(r)
    if len(hidden(stack)) < 2 or _normed(r):
        return None
    for la in hidden(stack):
        la["config"]["kernel_initializer"] = {"name": "constant", "value": 0.0}
    return {"layers": stack}


@operator("symmetric_init", "bad_init_scale", "unstable_activation_scale", wanted=EACH)
def _ones_by_hand(r: Recipe, rng: Any) -> Delta | None:
    """Weights were set to ones, or halves, to check the shapes, in the last hidden layer and the output."""
    stack = layers(r)
    if not hidden(stack):
        return None
    value = {"name": "constant", "value": pick(rng, 1.0, 0.5)}
    for la in (hidden(stack)[-1], stack[-1]):
        la["config"]["kernel_initializer"] = value
    return {"layers": stack}


@operator("symmetric_init", wanted=EACH)
def _one_draw_for_each_layer(r: Recipe, rng: Any) -> Delta | None:
    """One number was drawn for each layer, and written into all of its weights."""
    stack = layers(r)
    if not hidden(stack):
        return None
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "constant", "value": round(float(rng.normal(0, 0.15)), 3)}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance",
          "saturated_activation", wanted=EACH)
def _drawn_as_for_noise(r: Recipe, rng: Any) -> Delta | None:
    """Hidden weights of deviation 1, 2 or 3 in the first layer, as the generator gives them."""
    stack = layers(r)
    if not hidden(stack) or _normed(r):
        return None
    hidden(stack)[0]["config"]["kernel_initializer"] = _normal(pick(rng, 2.0, 4.0, 8.0))
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance",
          "saturated_activation", wanted=EACH)
def _from_minus_four_to_four(r: Recipe, rng: Any) -> Delta | None:
    """The last hidden layer and the output begin with weights from a wide range."""
    stack = layers(r)
    if not hidden(stack):
        return None
    wide = pick(rng, 2.0, 4.0, 8.0)
    for la in (hidden(stack)[-1], stack[-1]):
        la["config"]["kernel_initializer"] = {"name": "uniform", "minval": -wide, "maxval": wide}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "vanishing_gradient", wanted=EACH)
def _small_to_be_safe(r: Recipe, rng: Any) -> Delta | None:
    """Four layers and the output from a thousandth or less, so that nothing can explode."""
    if _normed(r):
        return None
    small, bend = _normal(pick(rng, 1e-3, 3e-3)), pick(rng, "relu", "tanh", "gelu")
    deep = [layer("Dense", units=units, activation=bend, kernel_initializer=small) for units in (32, 24, 24, 16)]
    return {"layers": [*_front(r), *deep, final(r, kernel_initializer=small)["layers"][-1]],
            "epochs": max(4, r["epochs"] // 2)}


@operator("saturated_activation", "bad_init_scale", "unstable_activation_scale", wanted=EACH + 2)
def _root_the_wrong_way_up(r: Recipe, rng: Any) -> Delta | None:
    """The root of n over two, where that of two over n was meant, before a tanh or a sigmoid."""
    stack = layers(r)
    if not hidden(stack) or _normed(r):
        return None
    width, bend = max(8, KNOWN[r["data"]["source"]].features), pick(rng, "tanh", "sigmoid")
    for la in hidden(stack):
        la["config"].update(activation=bend, kernel_initializer=_normal(round(sqrt(width / 2), 3)))
        width = max(8, la["config"].get("units", 8))
    return {"layers": stack}


@operator("saturated_activation", "bad_init_scale", "unstable_activation_scale", wanted=EACH)
def _gates_that_are_shut_or_open(r: Recipe, rng: Any) -> Delta | None:
    """A last hidden layer of gates (or bends) whose weights are so wide that each is at one of its ends."""
    stack = layers(r)
    if _normed(r):
        return None
    gates = layer("Dense", units=pick(rng, 12, 24), activation=pick(rng, "sigmoid", "tanh"),
                  kernel_initializer=_normal(pick(rng, 8.0, 20.0)))
    return {"layers": [*stack[:-1], gates, stack[-1]]}


@operator("exploding_gradient", "bad_init_scale", "unstable_activation_scale", "initial_loss_off_chance", wanted=EACH)
def _ten_layers_twice_as_loud(r: Recipe, rng: Any) -> Delta | None:
    """Nine or ten layers, each of which makes what comes in twice or three times as large."""
    if not only_dense(r):
        return None
    loud, bend = _normal(round(pick(rng, 3.2, 4.5, 6.0) / sqrt(24), 3)), pick(rng, "relu", "leaky_relu", "elu")
    deep = [layer("Dense", units=24, activation=bend, kernel_initializer=loud) for _ in range(pick(rng, 9, 10))]
    return {"layers": [*deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2)}


@operator("exploding_gradient", "bad_init_scale", "unstable_activation_scale", "saturated_activation",
          "initial_loss_off_chance", wanted=EACH + 2)
def _memory_that_grows(r: Recipe, rng: Any) -> Delta | None:
    """A plain recurrent layer, drawn with one and the same deviation in all places: each step doubles what was."""
    source = r["data"]["source"]
    if not is_tokens(r) and source not in STEPS:
        return None
    wide = _normal(pick(rng, 0.5, 0.7, 1.0))
    loop = layer("SimpleRNN", units=24, activation=pick(rng, "relu", "leaky_relu"), kernel_initializer=wide,
                 recurrent_initializer=wide)
    rule = optimizer(pick(rng, "Adam", "RMSprop"), 3e-3)
    if is_tokens(r):
        return {"layers": [layers(r)[0], loop, layers(r)[-1]], "optimizer": rule}
    front = layer("Reshape", target_shape=list(STEPS[source]))
    return {"layers": [front, loop, layers(r)[-1]], "data": {"shape": [KNOWN[source].features]}, "optimizer": rule}


@operator("bad_bias_init", "initial_loss_off_chance", "unstable_activation_scale", "saturated_activation", wanted=EACH)
def _biases_as_large_as_the_layer(r: Recipe, rng: Any) -> Delta | None:
    """The biases were given the number of units by mistake."""
    stack = layers(r)
    if not hidden(stack) or _normed(r):
        return None
    for la in hidden(stack):
        width = la["config"].get("units", la["config"].get("filters"))
        la["config"]["bias_initializer"] = {"name": "constant", "value": float(pick(rng, 1, 2) * width)}
    return {"layers": stack}


@operator("bad_bias_init", "initial_loss_off_chance", wanted=EACH)
def _begins_where_last_year_ended(r: Recipe, rng: Any) -> Delta | None:
    """The output begins at last year's mean, in the units of last year."""
    if task_of(r) != "regression":
        return None
    return final(r, bias_initializer={"name": "constant", "value": pick(rng, -1.0, 1.0) * pick(rng, 50.0, 250.0)})


@operator("bad_bias_init", "initial_loss_off_chance", wanted=EACH)
def _certain_before_it_has_seen_any(r: Recipe, rng: Any) -> Delta | None:
    """The output begins certain of one class: a share in per cent was taken for its logarithm."""
    if task_of(r) == "regression":
        return None
    if task_of(r) == "binary":
        return final(r, bias_initializer={"name": "constant", "value": pick(rng, -1.0, 1.0) * pick(rng, 50.0, 99.0)})
    return final(r, bias_initializer={"name": "uniform", "minval": 0.0, "maxval": pick(rng, 100.0, 250.0)})


@operator("dead_relu", "bad_bias_init", "vanishing_gradient", "unstable_activation_scale", "output_ignores_input",
          "symmetric_init", wanted=EACH + 2)
def _shut_from_the_start(r: Recipe, rng: Any) -> Delta | None:
    """Biases well below zero in one layer of rectifiers, that were meant for another scale of inputs."""
    stack = layers(r)
    able = [la for la in hidden(stack) if la["config"].get("activation") == "relu"]
    if not able or _normed(r):
        return None
    able[pick(rng, 0, -1)]["config"]["bias_initializer"] = {"name": "uniform", "minval": -60.0, "maxval": -30.0}
    return {"layers": stack}


@operator("dead_relu", "bad_init_scale", "unstable_activation_scale", "vanishing_gradient", "output_ignores_input",
          wanted=EACH + 2)
def _rectified_below_sigmoids(r: Recipe, rng: Any) -> Delta | None:
    """Sigmoids, and behind them rectifiers with negative weights: what comes in is positive, so they stay shut."""
    if _normed(r):
        return None
    low = {"name": "uniform", "minval": -pick(rng, 0.4, 1.0), "maxval": -0.05}
    two = [layer("Dense", units=24, activation="sigmoid", kernel_initializer="glorot_uniform"),
           layer("Dense", units=pick(rng, 8, 16), activation="relu", kernel_initializer=low)]
    return {"layers": [*layers(r)[:-1], *two, layers(r)[-1]]}


@operator("vanishing_gradient", "bad_init_scale", "unstable_activation_scale", "dead_relu", wanted=EACH + 2)
def _a_twentieth_in_every_layer(r: Recipe, rng: Any) -> Delta | None:
    """Eight to twelve layers from a deviation of 0.05, the default of old."""
    if _normed(r):
        return None
    bend = pick(rng, "relu", "elu", "tanh")
    deep = [layer("Dense", units=24, activation=bend, kernel_initializer=_normal(0.05))
            for _ in range(pick(rng, 8, 10, 12))]
    rule = pick(rng, r["optimizer"], optimizer("SGD", 0.02, momentum=0.9))
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2), "optimizer": rule}


@operator("vanishing_gradient", "saturated_activation", "unstable_activation_scale", wanted=EACH + 2)
def _old_units_with_a_new_start(r: Recipe, rng: Any) -> Delta | None:
    """Six to nine layers of sigmoids, as in the old book, from the start that is right for rectifiers."""
    deep = [layer("Dense", units=20, activation="sigmoid", kernel_initializer="he_normal")
            for _ in range(pick(rng, 6, 8, 9))]
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2)}
