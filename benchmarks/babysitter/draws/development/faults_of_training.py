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
def _adam_hot(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adam", pick(rng, 0.1, 0.3, 1.0))}


@operator("learning_rate_too_high")
def _rate_slipped(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * pick(rng, 100, 300)}}


@operator("learning_rate_too_low")
def _adam_cold(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adam", pick(rng, 1e-6, 3e-6, 1e-5))}


@operator("learning_rate_too_low")
def _rate_tiny(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] / pick(rng, 300, 1000)}}


@operator("wrong_optimizer", "learning_rate_too_low")
def _adadelta_as_torch(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": optimizer("Adadelta", pick(rng, 1e-3, 1e-2))}


@operator("batch_too_large", "stopped_too_early", "learning_rate_too_low")
def _full_batch(r: Recipe, rng: Any) -> Delta | None:
    return {"batch_size": 100000}


@operator("batch_too_small", "learning_rate_too_high")
def _single_rows(r: Recipe, rng: Any) -> Delta | None:
    rule = {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * 4}
    return {"batch_size": 1, "epochs": max(4, r["epochs"] // 8), "optimizer": rule}


# -- initial weights ---------------------------------------------------------------------------------------------------


@operator("symmetric_init")
def _zeros(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_initializer"] = "zeros"
    return {"layers": stack}


@operator("symmetric_init")
def _last_constant(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    hidden(stack)[-1]["config"]["kernel_initializer"] = {"name": "constant", "value": 0.05}
    return {"layers": stack}


@operator("bad_init_scale", "unstable_activation_scale", "exploding_gradient")
def _normal_wide(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "normal", "stddev": pick(rng, 1.0, 2.0, 4.0)})


@operator("bad_init_scale", "unstable_activation_scale", "vanishing_gradient")
def _normal_tiny(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_initializer={"name": "normal", "stddev": pick(rng, 1e-4, 1e-3)})


@operator("bad_init_scale", "initial_loss_off_chance", "unstable_activation_scale")
def _output_wide(r: Recipe, rng: Any) -> Delta | None:
    return final(r, kernel_initializer={"name": "normal", "stddev": pick(rng, 5.0, 20.0)})


@operator("bad_bias_init", "dead_relu")
def _biases_low(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    which = [la for la in hidden(stack) if la["config"].get("activation") == "relu" and la["config"].get("use_bias", 1)]
    for la in which:
        la["config"]["bias_initializer"] = {"name": "constant", "value": pick(rng, -4.0, -10.0)}
    return {"layers": stack} if which else None


@operator("bad_bias_init", "initial_loss_off_chance")
def _output_bias(r: Recipe, rng: Any) -> Delta | None:
    return final(r, bias_initializer={"name": "normal", "stddev": pick(rng, 10.0, 30.0)})


@operator("vanishing_gradient", "saturated_activation", "unstable_activation_scale")
def _deep_sigmoid(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    deep = [layer("Dense", units=16, activation="sigmoid", kernel_initializer="glorot_uniform")] * pick(rng, 5, 7)
    kept = [la for la in stack[:-1] if la["class"] in ("Conv2D", "MaxPool2D", "Flatten")]
    return {"layers": [*kept, *deepcopy(deep), stack[-1]]}
