"""Faults of rates, optimizers, batches and initial weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    each,
    final,
    hidden,
    layers,
    operator,
    pick,
)
from benchmarks.babysitter.recipes import Recipe, layer, optimizer

# -- rates and optimizers ----------------------------------------------------------------------------------------------


@operator("learning_rate_too_high")
def _sgd_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("SGD", pick(rng, 1.0, 2.0, 5.0), momentum=pick(rng, 0.5, 0.9))}


@operator("learning_rate_too_high")
def _rms_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("RMSprop", pick(rng, 0.1, 0.3, 1.0))}


@operator("learning_rate_too_low")
def _sgd_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("SGD", pick(rng, 1e-5, 1e-4), momentum=pick(rng, 0.0, 0.9))}


@operator("learning_rate_too_low")
def _rms_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("RMSprop", pick(rng, 1e-6, 5e-6))}


@operator("wrong_optimizer", "learning_rate_too_low")
def _adagrad_small(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adagrad", pick(rng, 1e-4, 1e-3))}


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low")
def _few_batches(r: Recipe, rng: Any) -> Delta | None:
    return {"batch_size": pick(rng, 300, 512)}


@operator("batch_too_small", "learning_rate_too_high")
def _pairs(r: Recipe, rng: Any) -> Delta | None:
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * 4}
    return {"batch_size": 2, "epochs": max(4, r["epochs"] // 6), "optimizer": rule}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator("symmetric_init")
def _constants(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "constant", "value": pick(rng, 0.02, 0.1)})


@operator("symmetric_init")
def _first_zeros(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    hidden(stack)[0]["config"]["kernel_initializer"] = pick(rng, "zeros", "ones")
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient")
def _uniform_wide(r: Recipe, rng: Any) -> Delta | None:
    wide = pick(rng, 1.0, 3.0, 5.0)
    return each(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator("bad_init_scale", "unstable_activation_scale", "vanishing_gradient")
def _uniform_tiny(r: Recipe, rng: Any) -> Delta | None:
    wide = pick(rng, 1e-4, 1e-3)
    return each(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator("bad_init_scale", "initial_loss_off_chance", "unstable_activation_scale")
def _output_uniform(r: Recipe, rng: Any) -> Delta | None:
    wide = pick(rng, 8.0, 30.0)
    return final(r, kernel_initializer={"name": "uniform", "minval": -wide, "maxval": wide})


@operator("bad_bias_init", "dead_relu", "saturated_activation")
def _first_bias(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    first = hidden(stack)[0]
    if not first["config"].get("use_bias", True) or first["config"]["activation"] in ("leaky_relu", "elu"):
        return None
    first["config"]["bias_initializer"] = {"name": "constant", "value": pick(rng, -6.0, -12.0)}
    return {"layers": stack}


@operator("bad_bias_init", "initial_loss_off_chance")
def _output_bias_uniform(r: Recipe, rng: Any) -> Delta | None:
    return final(r, bias_initializer={"name": "uniform", "minval": -pick(rng, 20.0, 50.0), "maxval": 20.0})


@operator("vanishing_gradient", "saturated_activation", "unstable_activation_scale")
def _sigmoids_wide(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    deep = [layer("Dense", units=32, activation="sigmoid", kernel_initializer="glorot_normal")] * pick(rng, 6, 8)
    kept = [la for la in stack[:-1] if la["class"] in ("Conv2D", "MaxPool2D", "Flatten")]
    return {"layers": [*kept, *deepcopy(deep), stack[-1]]}
