"""Faults of rates, optimizers, batches and initial weights."""

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
    planned_steps,
)
from benchmarks.babysitter.recipes import Recipe, layer, optimizer, task_of

EACH = 11  # cases of an operator, where programs allow it


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


# -- rates -------------------------------------------------------------------------------------------------------------


@operator("learning_rate_too_high", wanted=EACH)
def _nadam_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("NAdam", pick(rng, 0.15, 0.5, 2.0))}


@operator("learning_rate_too_high", wanted=EACH)
def _signs_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Lion", pick(rng, 0.03, 0.1, 0.3))}


@operator("learning_rate_too_high", wanted=EACH)
def _rate_grows(r: Recipe, rng: Any) -> Delta | None:
    """A schedule that was meant to lower the rate raises it."""
    every = max(1, planned_steps(r) // 20)
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "exponential", "learning_rate": _rate(r), "factor": pick(rng, 1.4, 1.6), "every": every}}}


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _decays_at_once(r: Recipe, rng: Any) -> Delta | None:
    """The rate was to be halved every few epochs, and is every few steps."""
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "step", "learning_rate": _rate(r), "factor": 0.5, "every": pick(rng, 3, 6)}}}


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _warms_up_for_ever(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": {
        "name": "warmup", "after": {"name": "constant", "learning_rate": _rate(r)},
        "steps": pick(rng, 50, 200) * planned_steps(r)}}}


@operator("learning_rate_too_low", "stopped_too_early", wanted=EACH)
def _signs_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer(pick(rng, "Lion", "NAdam"), pick(rng, 2e-6, 8e-6))}


@operator("wrong_optimizer", "learning_rate_too_low", wanted=EACH)
def _sgd_with_adams_rate(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("SGD", pick(rng, 3e-4, 1e-3))}


@operator("wrong_optimizer", "learning_rate_too_low", wanted=EACH)
def _adadelta_of_keras(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adadelta", pick(rng, 3e-3, 0.02), rho=pick(rng, 0.9, 0.95))}


# -- batches -----------------------------------------------------------------------------------------------------------


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _two_batches(r: Recipe, rng: Any) -> Delta | None:
    return {"batch_size": -(-r["data"]["rows"] // pick(rng, 2, 3))}


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low", wanted=EACH)
def _all_rows_for_few_passes(r: Recipe, rng: Any) -> Delta | None:
    """All rows at once, and the rate times the root of the batch's growth, as a rule of thumb says."""
    growth = (r["data"]["rows"] / r["batch_size"]) ** 0.5
    rule = {**r["optimizer"], "learning_rate": _rate(r) * min(growth, 2.0)}
    return {"batch_size": r["data"]["rows"], "optimizer": rule}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH)
def _threes(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]):
        return None
    rule = {**r["optimizer"], "learning_rate": _rate(r) * pick(rng, 6, 10)}
    return {"batch_size": 3, "epochs": max(3, r["epochs"] // 6), "optimizer": rule}


@operator("batch_too_small", "learning_rate_too_high", wanted=EACH)
def _one_by_one_with_momentum(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]):
        return None
    return {"batch_size": 1, "epochs": max(2, r["epochs"] // 8),
            "optimizer": optimizer("SGD", pick(rng, 0.02, 0.05), momentum=0.9)}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator("symmetric_init", wanted=EACH)
def _one_number_for_all(r: Recipe, rng: Any) -> Delta | None:
    """A uniform draw between a number and itself."""
    value = pick(rng, 0.03, 0.1, -0.05)
    return each(r, kernel_initializer={"name": "uniform", "minval": value, "maxval": value}) if hidden(
        r["layers"]) else None


@operator("symmetric_init", wanted=EACH)
def _no_spread(r: Recipe, rng: Any) -> Delta | None:
    """A normal draw without deviation in the last hidden layer and in the output."""
    if not hidden(r["layers"]):
        return None
    stack = layers(r)
    for la in (hidden(stack)[-1], stack[-1]):
        la["config"]["kernel_initializer"] = {"name": "normal", "mean": pick(rng, 0.0, 0.02), "stddev": 0.0}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance",
          wanted=EACH)
def _between_zero_and_one(r: Recipe, rng: Any) -> Delta | None:
    """Weights as numpy.random.rand gives them: none is negative."""
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "uniform", "minval": 0.0, "maxval": pick(rng, 1.0, 2.0)}
    return {"layers": stack} if hidden(stack) else None


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient", "initial_loss_off_chance",
          wanted=EACH)
def _orthogonal_times_eight(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "orthogonal", "gain": pick(rng, 6.0, 15.0)}) if hidden(
        r["layers"]) else None


@operator("bad_init_scale", "unstable_activation_scale", "vanishing_gradient", wanted=EACH)
def _orthogonal_thin(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = {"name": "orthogonal", "gain": pick(rng, 0.002, 0.01)}
    return {"layers": stack} if hidden(stack) else None


@operator("bad_bias_init", "dead_relu", "saturated_activation", "unstable_activation_scale",
          "initial_loss_off_chance", wanted=EACH)
def _biases_drawn_wide(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]) or not hidden(r["layers"]):
        return None
    return each(r, bias_initializer={"name": "normal", "stddev": pick(rng, 10.0, 25.0)})


@operator("bad_bias_init", "initial_loss_off_chance", wanted=EACH)
def _bias_of_another_unit(r: Recipe, rng: Any) -> Delta | None:
    """The output begins at the mean of targets that were not scaled yet, or at odds of a million to one."""
    far = pick(rng, 30.0, 100.0) if task_of(r) == "regression" else pick(rng, 14.0, -14.0)
    return final(r, bias_initializer={"name": "constant", "value": far}) if task_of(r) != "multiclass" else None


@operator("bad_bias_init", "dead_relu", "saturated_activation", "vanishing_gradient", wanted=EACH)
def _last_hidden_shut(r: Recipe, rng: Any) -> Delta | None:
    """Biases of the last hidden layer lie so low that nothing passes."""
    stack = layers(r)
    if not hidden(stack) or stack[-2] is not hidden(stack)[-1]:
        return None
    if hidden(stack)[-1]["config"]["activation"] not in ("relu", "silu", "gelu", "tanh"):
        return None
    hidden(stack)[-1]["config"]["bias_initializer"] = {"name": "uniform", "minval": -40.0, "maxval": -15.0}
    return {"layers": stack}


@operator("dead_relu", "bad_init_scale", "unstable_activation_scale", wanted=2 * EACH)
def _negative_weights(r: Recipe, rng: Any) -> Delta | None:
    """A layer behind rectifiers (or pixels) with negative weights only: its rectifiers never open."""
    stack = layers(r)
    able = hidden(stack)
    if not able or able[-1]["config"]["activation"] != "relu" or (len(able) < 2 and is_table(r)) or is_tokens(r):
        return None
    if any("Norm" in la["class"] for la in stack):
        return None
    able[-1]["config"]["kernel_initializer"] = {"name": "uniform", "minval": -pick(rng, 0.3, 0.6), "maxval": -0.01}
    return {"layers": stack}


@operator("vanishing_gradient", "bad_init_scale", "unstable_activation_scale", wanted=EACH)
def _ten_small_tanhs(r: Recipe, rng: Any) -> Delta | None:
    """Ten narrow layers whose weights shrink what goes through."""
    small = {"name": "uniform", "minval": -pick(rng, 0.2, 0.3), "maxval": pick(rng, 0.2, 0.3)}
    deep = [layer("Dense", units=14, activation="tanh", kernel_initializer=small) for _ in range(10)]
    return {"layers": [*_kept(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2)}


@operator("vanishing_gradient", "saturated_activation", "unstable_activation_scale", wanted=EACH)
def _pyramid_of_sigmoids(r: Recipe, rng: Any) -> Delta | None:
    start = pick(rng, "lecun_uniform", "glorot_uniform", "he_normal")
    deep = [layer("Dense", units=u, activation="sigmoid", kernel_initializer=start)
            for u in (40, 36, 30, 24, 20, 16, 12, 10, 8)]
    return {"layers": [*_kept(r), *deep, layers(r)[-1]], "epochs": max(4, r["epochs"] // 2)}


def _kept(r: Recipe) -> list[dict[str, Any]]:
    """Return the layers that bring the inputs into rows of numbers."""
    return [la for la in layers(r)[:-1] if la["class"] in ("Conv2D", "Conv1D", "MaxPool2D", "Flatten", "Embedding",
                                                           "GRU", "LSTM")]
