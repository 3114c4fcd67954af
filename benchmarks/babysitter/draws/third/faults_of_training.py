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
    operator,
    pick,
    planned_steps,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, layer, optimizer, task_of

EACH = 11  # cases of an operator, where programs allow it
FRONT = ("Conv2D", "Conv1D", "MaxPool2D", "GlobalAvgPool2D", "Flatten", "Embedding", "GRU", "LSTM")


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
def _peak_at_the_cliff(r: Recipe, rng: Any) -> Delta | None:
    """One cycle whose peak was read where the range test falls off."""
    return _schedule(r, name="one_cycle", learning_rate=_rate(r) * pick(rng, 80, 200), steps=planned_steps(r))


@operator("learning_rate_too_high", wanted=EACH)
def _second_phase_mistyped(r: Recipe, rng: Any) -> Delta | None:
    """The rate was to fall tenfold in the middle, and a sign was forgotten in the exponent."""
    steps, rate = planned_steps(r), _rate(r)
    times = pick(rng, 100.0, 1000.0)
    return _schedule(r, name="piecewise", boundaries=[max(1, steps // 3), max(2, 2 * steps // 3)],
                     rates=[rate, rate * times, rate * times])


@operator("learning_rate_too_high", wanted=EACH)
def _momentum_near_one(r: Recipe, rng: Any) -> Delta | None:
    """A rate that is fine by itself, with a momentum that multiplies it by a hundred."""
    return {"optimizer": optimizer("SGD", pick(rng, 0.2, 0.5), momentum=pick(rng, 0.98, 0.99))}


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _cosine_of_few_steps(r: Recipe, rng: Any) -> Delta | None:
    """The cosine was told the number of epochs where it wants that of steps: it ends at once, at zero."""
    return _schedule(r, name="cosine", learning_rate=_rate(r), steps=max(4, min(r["epochs"], planned_steps(r) // 40)))


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _rate_of_fine_tuning(r: Recipe, rng: Any) -> Delta | None:
    """The rate with which others adapt what is trained already, for weights that are not."""
    return {"optimizer": optimizer("AdamW", pick(rng, 2e-6, 1e-5), weight_decay=0.01)}


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _divided_once_more(r: Recipe, rng: Any) -> Delta | None:
    """The rate is divided by the number of rows, of a batch or of all, and the loss is a mean already."""
    rows = pick(rng, r["batch_size"] * 8, r["data"]["rows"])
    return {"optimizer": {**r["optimizer"], "learning_rate": _rate(r) / rows}}


@operator("wrong_optimizer", "learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _adagrad_by_default(r: Recipe, rng: Any) -> Delta | None:
    """Adagrad as some libraries have it by default: a rate of 0.001, sums that begin at 0.1."""
    return {"optimizer": optimizer("Adagrad", 1e-3, initial_accumulator_value=pick(rng, 0.1, 1.0))}


@operator("wrong_optimizer", "learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _epsilon_of_one(r: Recipe, rng: Any) -> Delta | None:
    """An epsilon of 1, as it was recommended for one large network."""
    name = pick(rng, "Adam", "RMSprop")
    return {"optimizer": optimizer(name, pick(rng, 1e-4, 3e-4), epsilon=1.0)}


# -- batches -----------------------------------------------------------------------------------------------------------


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _as_much_as_fits(r: Recipe, rng: Any) -> Delta | None:
    """The largest power of two that the rows fill."""
    return {"batch_size": 2 ** (r["data"]["rows"].bit_length() - 1)}


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _quicker_passes(r: Recipe, rng: Any) -> Delta | None:
    """Batches eight times as large so that a pass is quick, and two thirds of the passes."""
    return {"batch_size": 8 * r["batch_size"], "epochs": max(2, 2 * r["epochs"] // 3)}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH)
def _scaled_the_wrong_way(r: Recipe, rng: Any) -> Delta | None:
    """Batches of four, and a rate that was multiplied by as much as the batch was divided by."""
    if _normed(r):
        return None
    rule = {**r["optimizer"], "learning_rate": _rate(r) * r["batch_size"] / 4}
    return {"batch_size": 4, "epochs": max(3, r["epochs"] // 5), "optimizer": rule}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH)
def _twos_by_rms(r: Recipe, rng: Any) -> Delta | None:
    """What fits into a small memory: two rows, with a rate for sixty-four."""
    if _normed(r):
        return None
    return {"batch_size": 2, "epochs": max(2, r["epochs"] // 7),
            "optimizer": optimizer("RMSprop", pick(rng, 0.01, 0.03), momentum=pick(rng, 0.0, 0.9))}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator("symmetric_init", wanted=EACH)
def _means_of_inputs(r: Recipe, rng: Any) -> Delta | None:
    """Every weight is one over the number of inputs, so that each unit begins as their mean."""
    stack = layers(r)
    if not hidden(stack):
        return None
    width = KNOWN[r["data"]["source"]].features
    for la in hidden(stack):
        la["config"]["kernel_initializer"] = {"name": "constant", "value": 1.0 / max(width, 8)}
    return {"layers": stack}


@operator("symmetric_init", "bad_init_scale", "dead_relu", "unstable_activation_scale", "vanishing_gradient",
          "output_ignores_input", wanted=EACH)
def _gain_of_zero(r: Recipe, rng: Any) -> Delta | None:
    """A gain that was to be set later: orthogonal weights times zero."""
    return each(r, kernel_initializer={"name": "orthogonal", "gain": 0.0}) if hidden(r["layers"]) else None


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance",
          "bad_bias_init", "saturated_activation", wanted=EACH)
def _normal_everywhere(r: Recipe, rng: Any) -> Delta | None:
    """Weights and biases from a normal law of deviation 1 or 2, as random_normal gives them, the output's too."""
    stack = layers(r)
    if not hidden(stack):
        return None
    wide = pick(rng, 1.0, 2.0)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "truncated_normal", "stddev": wide}
        if la["config"].get("use_bias", True):
            la["config"]["bias_initializer"] = {"name": "normal", "stddev": wide}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance", wanted=EACH)
def _last_never_divided(r: Recipe, rng: Any) -> Delta | None:
    """The root over the number of inputs was forgotten in the output layer, and a factor left in from a trial."""
    wide = pick(rng, 6.0, 12.0)
    return final(r, kernel_initializer={"name": "truncated_normal", "stddev": wide})


@operator("bad_init_scale", "vanishing_gradient", "unstable_activation_scale", wanted=EACH)
def _hundredths_in_depth(r: Recipe, rng: Any) -> Delta | None:
    """Five layers, each with the 0.01 times normal of a lecture on small networks."""
    small = {"name": "normal", "stddev": pick(rng, 0.003, 0.01)}
    bend = pick(rng, "relu", "tanh")
    deep = [layer("Dense", units=24, activation=bend, kernel_initializer=small) for _ in range(5)]
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2)}


@operator("bad_bias_init", "unstable_activation_scale", "initial_loss_off_chance", "saturated_activation",
          wanted=EACH)
def _biases_of_twenty(r: Recipe, rng: Any) -> Delta | None:
    """Hidden biases well above zero so that no unit dies: so far above that none bends any more."""
    if not hidden(r["layers"]) or _normed(r):
        return None
    return each(r, bias_initializer={"name": "constant", "value": pick(rng, 20.0, 50.0)})


@operator("bad_bias_init", "initial_loss_off_chance", wanted=EACH)
def _counts_for_odds(r: Recipe, rng: Any) -> Delta | None:
    """The output's biases are how many rows a class has, where the logarithm of its share was meant."""
    if task_of(r) == "regression":
        return None
    rows = r["data"]["rows"]
    if task_of(r) == "binary":
        return final(r, bias_initializer={"name": "constant", "value": pick(rng, 0.5, -0.5) * rows / 4})
    share = rows / KNOWN[r["data"]["source"]].classes
    return final(r, bias_initializer={"name": "uniform", "minval": 0.4 * share, "maxval": 1.6 * share})


@operator("dead_relu", "batchnorm_misuse", "symmetric_init", "vanishing_gradient", "unstable_activation_scale",
          "output_ignores_input", wanted=EACH)
def _gamma_of_zero(r: Recipe, rng: Any) -> Delta | None:
    """Normalizations that begin with a gamma of zero, a trick for branches with a way around, where there is none."""
    if _normed(r) or is_tokens(r) or not hidden(r["layers"]):
        return None
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        if la["class"] in ("Dense", "Conv2D", "Conv1D"):
            la["config"].update(activation=None, use_bias=False)
            stack += [la, layer("BatchNorm", momentum=0.9, gamma_initializer="zeros"),
                      layer("Activation", activation="relu")]
        else:
            stack.append(la)
    return {"layers": [*stack, layers(r)[-1]]}


@operator("dead_relu", "bad_bias_init", "unstable_activation_scale", "vanishing_gradient", "output_ignores_input",
          wanted=EACH)
def _thresholds_too_high(r: Recipe, rng: Any) -> Delta | None:
    """Thresholds that were to keep layers sparse, drawn so far below zero that all units of one layer stay shut."""
    stack = layers(r)
    able = [la for la in hidden(stack) if la["config"].get("activation") == "relu"]
    if not able or _normed(r):
        return None
    able[pick(rng, 0, -1)]["config"]["bias_initializer"] = {"name": "normal", "mean": pick(rng, -15.0, -25.0),
                                                            "stddev": 1.0}
    return {"layers": stack}


@operator("vanishing_gradient", "unstable_activation_scale", "saturated_activation", wanted=EACH)
def _softmax_in_between(r: Recipe, rng: Any) -> Delta | None:
    """Hidden layers with a softmax each: what goes through shrinks from one to the next."""
    start = pick(rng, "glorot_uniform", "glorot_normal")
    deep = [layer("Dense", units=units, activation="softmax", kernel_initializer=start) for units in (32, 24, 24, 16)]
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2)}


@operator("vanishing_gradient", "saturated_activation", "unstable_activation_scale", wanted=EACH)
def _doubled_in_depth(r: Recipe, rng: Any) -> Delta | None:
    """An old network with sigmoids, made deeper layer by layer, with the uniform start of its book."""
    book = {"name": "uniform", "minval": -0.5, "maxval": 0.5}
    deep = [layer("Dense", units=12, activation="sigmoid", kernel_initializer=book) for _ in range(pick(rng, 6, 8))]
    return {"layers": [*_front(r), *deep, layers(r)[-1]], "epochs": max(4, 2 * r["epochs"] // 3)}
