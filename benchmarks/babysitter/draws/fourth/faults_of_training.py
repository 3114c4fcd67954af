"""Faults of rates, optimizers, batches and initial weights."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    each,
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

EACH = 11  # cases of an operator, where programs allow it
FRONT = ("Conv2D", "Conv1D", "MaxPool2D", "AvgPool2D", "GlobalAvgPool2D", "Flatten", "Embedding", "GRU", "LSTM",
         "TransformerBlock")
# sources that a recurrent layer can read: steps and numbers in each
STEPS = {"blood": (10, 1), "meters": (12, 2), "quakes": (20, 2), "moods": (18, 2), "modulated": (24, 2),
         "waveform": (21, 1), "spectra": (15, 2)}


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


def _schedule(r: Recipe, **schedule: Any) -> Delta:
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


def _front(r: Recipe) -> list[dict[str, Any]]:
    """Return the layers that bring the inputs into rows of numbers."""
    return [la for la in layers(r)[:-1] if la["class"] in FRONT]


# -- rates -------------------------------------------------------------------------------------------------------------


@operator("learning_rate_too_high", wanted=EACH)
def _rate_of_another_optimizer(r: Recipe, rng: Any) -> Delta | None:
    """The rate of Adadelta, or of a plain gradient, for one that divides by what it has seen."""
    return {"optimizer": optimizer(pick(rng, "Adam", "RMSprop", "NAdam"), pick(rng, 0.1, 0.3, 1.0))}


@operator("learning_rate_too_high", wanted=EACH)
def _scaled_by_devices(r: Recipe, rng: Any) -> Delta | None:
    """The rate times the number of devices of the paper, on one."""
    return {"optimizer": {**r["optimizer"], "learning_rate": _rate(r) * pick(rng, 16, 64, 256)}}


@operator("learning_rate_too_high", wanted=EACH)
def _cosine_from_far_above(r: Recipe, rng: Any) -> Delta | None:
    """A cosine that begins where its author's larger network could begin."""
    return _schedule(r, name="cosine", learning_rate=_rate(r) * pick(rng, 50, 150, 400), steps=planned_steps(r))


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _falls_at_every_plateau(r: Recipe, rng: Any) -> Delta | None:
    """The rate is divided by ten after every pass that does not gain as much as nobody gains in one."""
    return _schedule(r, name="plateau", learning_rate=_rate(r) / 3, factor=0.1, patience=1,
                     min_delta=pick(rng, 0.5, 2.0))


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _cycle_of_a_longer_run(r: Recipe, rng: Any) -> Delta | None:
    """One cycle whose length is that of a run fifty times as long: it ends before it has begun."""
    steps = planned_steps(r) * pick(rng, 30, 100)
    return _schedule(r, name="one_cycle", learning_rate=_rate(r) / 2, steps=steps, divide_start=pick(rng, 25.0, 100.0))


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _a_few_zeros_more(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": _rate(r) * pick(rng, 0.04, 0.01, 0.001)}}


@operator("wrong_optimizer", "learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _plain_descent_by_default(r: Recipe, rng: Any) -> Delta | None:
    """Plain gradient descent with a rate of 0.01 or less, without momentum."""
    return {"optimizer": optimizer("SGD", pick(rng, 0.01, 0.003, 0.001))}


@operator("wrong_optimizer", "learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _adadelta_at_a_hundredth(r: Recipe, rng: Any) -> Delta | None:
    """Adadelta with the rate that other optimizers have."""
    return {"optimizer": optimizer("Adadelta", pick(rng, 0.003, 0.01, 0.03))}


# -- batches -----------------------------------------------------------------------------------------------------------


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _sized_for_the_machine(r: Recipe, rng: Any) -> Delta | None:
    """Batches of 256 or 512, as the machine likes them, and nothing else was changed."""
    return {"batch_size": pick(rng, 256, 512)}


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _half_of_all_rows(r: Recipe, rng: Any) -> Delta | None:
    """A quarter or a half of all rows, with a little less time."""
    return {"batch_size": r["data"]["rows"] // pick(rng, 2, 4), "epochs": max(2, 3 * r["epochs"] // 4)}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH)
def _rate_for_hundreds(r: Recipe, rng: Any) -> Delta | None:
    """One row or two, with a rate that is meant for hundreds of them."""
    if _normed(r):
        return None
    rule = {**r["optimizer"], "learning_rate": _rate(r) * pick(rng, 10, 30)}
    return {"batch_size": pick(rng, 1, 2), "epochs": max(2, r["epochs"] // 8), "optimizer": rule}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH)
def _pairs_with_heavy_momentum(r: Recipe, rng: Any) -> Delta | None:
    """Two rows a step, since memory is short, and momentum that was tuned for batches."""
    if _normed(r):
        return None
    return {"batch_size": pick(rng, 1, 2), "epochs": max(2, r["epochs"] // 8),
            "optimizer": optimizer("SGD", pick(rng, 0.02, 0.05, 0.1), momentum=0.9)}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator("symmetric_init", wanted=EACH)
def _all_but_the_first_alike(r: Recipe, rng: Any) -> Delta | None:
    """The layers that were added later, and the output, begin with one and the same small number."""
    stack = layers(r)
    if len(hidden(stack)) < 2:
        return None
    for la in [*hidden(stack)[1:], stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "constant", "value": pick(rng, 0.01, 0.03, 0.1)}
    return {"layers": stack}


@operator("symmetric_init", "output_ignores_input", "vanishing_gradient", "bad_init_scale", wanted=EACH)
def _nothing_from_the_last_two(r: Recipe, rng: Any) -> Delta | None:
    """The last hidden layer and the output begin with zeros, a trick that is for one of them."""
    stack = layers(r)
    if not hidden(stack):
        return None
    for la in (hidden(stack)[-1], stack[-1]):
        la["config"]["kernel_initializer"] = "zeros"
    return {"layers": stack}


@operator("symmetric_init", wanted=EACH)
def _a_tenth_everywhere(r: Recipe, rng: Any) -> Delta | None:
    """Every weight, and that of the output, begins with the same number, so that the run can be repeated."""
    stack = layers(r)
    if not hidden(stack):
        return None
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "constant", "value": pick(rng, 0.1, -0.1, 0.02)}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance",
          "saturated_activation", wanted=EACH)
def _one_input_counted(r: Recipe, rng: Any) -> Delta | None:
    """The deviation for one input, in every layer, as an axis of length one was taken; twice that, or half of it."""
    stack = layers(r)
    if len(hidden(stack)) < 2 or _normed(r):
        return None
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "normal", "stddev": pick(rng, 0.7, 1.4, 2.8)}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "vanishing_gradient", wanted=EACH)
def _variance_for_deviation(r: Recipe, rng: Any) -> Delta | None:
    """2 / n where the root of it was meant, in six or seven layers."""
    bend = pick(rng, "relu", "elu")
    deep: list[dict[str, Any]] = []
    for units in (40, 40, 32, 32, 32, 32, 32)[: pick(rng, 6, 7)]:
        deep.append(layer("Dense", units=units, activation=bend,
                          kernel_initializer={"name": "normal", "stddev": 2.0 / units}))
    out = final(r, kernel_initializer={"name": "normal", "stddev": 2.0 / 32})["layers"][-1]
    return None if _normed(r) else {"layers": [*_front(r), *deep, out], "epochs": max(4, r["epochs"] // 3)}


@operator("bad_init_scale", "unstable_activation_scale", "initial_loss_off_chance", "exploding_gradient", wanted=EACH)
def _output_from_a_wide_range(r: Recipe, rng: Any) -> Delta | None:
    """The output's weights are drawn from -10 to 10, or -30 to 30."""
    wide = pick(rng, 10.0, 30.0)
    return final(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator("saturated_activation", "bad_init_scale", "unstable_activation_scale", wanted=2 * EACH)
def _switches_for_units(r: Recipe, rng: Any) -> Delta | None:
    """Units with a tanh or a sigmoid that begin as switches: their weights are ten times too wide."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    bend = pick(rng, "tanh", "sigmoid")
    wide = {"name": "normal", "stddev": pick(rng, 3.0, 6.0, 12.0)}
    return each(r, activation=bend, kernel_initializer=wide)


@operator("exploding_gradient", "bad_init_scale", "unstable_activation_scale", "saturated_activation", wanted=EACH + 3)
def _echo_that_grows(r: Recipe, rng: Any) -> Delta | None:
    """A recurrent layer whose weights from step to step make everything two or three times as large."""
    source = r["data"]["source"]
    if not is_tokens(r) and source not in STEPS:
        return None
    gain = {"name": "orthogonal", "gain": pick(rng, 1.8, 2.5, 4.0)}
    echo = layer("SimpleRNN", units=16, activation=pick(rng, "relu", "tanh"), recurrent_initializer=gain)
    rule = optimizer("Adam", pick(rng, 3e-3, 8e-3))
    if is_tokens(r):
        return {"layers": [layers(r)[0], echo, layers(r)[-1]], "optimizer": rule}
    front = layer("Reshape", target_shape=list(STEPS[source]))
    return {"layers": [front, echo, layers(r)[-1]], "data": {"shape": [KNOWN[source].features]}, "optimizer": rule}


@operator("exploding_gradient", "bad_init_scale", "unstable_activation_scale", "initial_loss_off_chance", wanted=EACH)
def _larger_from_layer_to_layer(r: Recipe, rng: Any) -> Delta | None:
    """Seven layers, each of which makes what comes in two to four times as large."""
    if not only_dense(r):
        return None
    gain = {"name": "orthogonal", "gain": pick(rng, 3.0, 4.5, 6.0)}
    deep = [layer("Dense", units=24, activation="relu", kernel_initializer=gain) for _ in range(7)]
    return {"layers": [*deep, layers(r)[-1]]}


@operator("bad_bias_init", "initial_loss_off_chance", wanted=EACH)
def _mean_of_raw_targets(r: Recipe, rng: Any) -> Delta | None:
    """The output begins at the mean of the targets as they came; the targets were scaled since."""
    if task_of(r) != "regression":
        return None
    return final(r, bias_initializer={"name": "constant", "value": pick(rng, 30.0, 100.0, 1000.0)})


@operator("bad_bias_init", "initial_loss_off_chance", wanted=EACH)
def _odds_of_another_table(r: Recipe, rng: Any) -> Delta | None:
    """The output begins with the odds of a table in which yes, or one class, was one in a million: in decibels."""
    if task_of(r) == "regression":
        return None
    if task_of(r) == "binary":
        return final(r, bias_initializer={"name": "constant", "value": -pick(rng, 60.0, 120.0)})
    return final(r, bias_initializer={"name": "normal", "mean": 0.0, "stddev": pick(rng, 60.0, 120.0)})


@operator("bad_bias_init", "unstable_activation_scale", "dead_relu", "saturated_activation", "initial_loss_off_chance",
          wanted=EACH)
def _biases_for_bytes(r: Recipe, rng: Any) -> Delta | None:
    """Hidden biases that made sense for pixels up to 255: some units are always open, others never."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    return each(r, bias_initializer={"name": "normal", "stddev": pick(rng, 20.0, 60.0)})


@operator("dead_relu", "learning_rate_too_high", "loss_spike", "loss_diverging", wanted=EACH)
def _leap_at_the_start(r: Recipe, rng: Any) -> Delta | None:
    """The first steps are a thousand times too long: rectifiers shut, and what comes later does not open them."""
    if _normed(r) or not any(la["config"].get("activation") == "relu" for la in hidden(r["layers"])):
        return None
    rule = optimizer(pick(rng, "SGD", "Adam"), {"name": "piecewise", "boundaries": [pick(rng, 4, 10)],
                                                "rates": [pick(rng, 3.0, 10.0), 2e-3]})
    return {"optimizer": rule}


@operator("dead_relu", "batchnorm_misuse", "bad_bias_init", "vanishing_gradient", "unstable_activation_scale",
          "output_ignores_input", wanted=EACH)
def _shift_far_below(r: Recipe, rng: Any) -> Delta | None:
    """Normalizations whose shift begins far below zero, and rectifiers behind them."""
    if _normed(r) or is_tokens(r) or not hidden(r["layers"]):
        return None
    low = {"name": "constant", "value": pick(rng, -4.0, -8.0)}
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        if la["class"] in ("Dense", "Conv2D", "Conv1D"):
            la["config"].update(activation=None)
            norm = layer("BatchNorm", momentum=0.9, beta_initializer=low)
            stack += [la, norm, layer("Activation", activation="relu")]
        else:
            stack.append(la)
    return {"layers": [*stack, layers(r)[-1]]}


@operator("dead_relu", "bad_bias_init", "bad_init_scale", "vanishing_gradient", "unstable_activation_scale",
          "output_ignores_input", "symmetric_init", wanted=EACH)
def _behind_a_shut_door(r: Recipe, rng: Any) -> Delta | None:
    """A rectifier more before the output, whose weights are small and whose biases are below zero: always shut."""
    start = {"name": "truncated_normal", "stddev": 0.01}
    door = layer("Dense", units=pick(rng, 8, 24), activation="relu", kernel_initializer=start,
                 bias_initializer={"name": "constant", "value": pick(rng, -1.0, -3.0)})
    return {"layers": [*layers(r)[:-1], door, layers(r)[-1]]}


@operator("vanishing_gradient", "bad_init_scale", "unstable_activation_scale", "dead_relu", wanted=EACH)
def _twenty_by_default(r: Recipe, rng: Any) -> Delta | None:
    """Eighteen to twenty-six layers with rectifiers, with the start that is the default, which is that of tanh."""
    if _normed(r):
        return None
    deep = [layer("Dense", units=20, activation="relu", kernel_initializer="glorot_uniform")
            for _ in range(pick(rng, 18, 22, 26))]
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 3)}


@operator("vanishing_gradient", "saturated_activation", "unstable_activation_scale", wanted=EACH)
def _sigmoids_all_the_way(r: Recipe, rng: Any) -> Delta | None:
    """Five to seven layers with sigmoids, from Glorot's start, trained by plain momentum."""
    deep = [layer("Dense", units=24, activation="sigmoid", kernel_initializer="glorot_normal")
            for _ in range(pick(rng, 5, 7))]
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "optimizer": optimizer("SGD", 0.05, momentum=0.9)}
