"""Faults of rates, optimizers, batches and initial weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from benchmarks.babysitter.draws.development.programs import STEPS
from benchmarks.babysitter.operators import (
    Delta,
    each,
    final,
    hidden,
    layers,
    operator,
    pick,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, layer, optimizer

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


# -- networks of other kinds -------------------------------------------------------------------------------------------


@operator("bad_init_scale", "exploding_gradient", "saturated_activation", "unstable_activation_scale", wanted=4)
def _gates_thrown_wide(r: Recipe, rng: Any) -> Delta | None:
    """Gated memories whose weights from step to step are drawn with a deviation of 2 or 5."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    wide = {"name": "normal", "stddev": pick(rng, 2.0, 5.0)}
    echo = layer(pick(rng, "LSTM", "GRU"), units=16, recurrent_initializer=wide)
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])), echo, layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}}


@operator("bad_init_scale", "exploding_gradient", "unstable_activation_scale", "initial_loss_off_chance", wanted=4)
def _identity_and_more(r: Recipe, rng: Any) -> Delta | None:
    """A rectified memory over both directions, started from uniform weights that are all above zero."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    start = {"name": "uniform", "minval": 0.0, "maxval": pick(rng, 0.3, 0.6)}
    echo = layer("Bidirectional", layer=layer("SimpleRNN", units=12, activation="relu", recurrent_initializer=start))
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])), echo, layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}}


@operator("bad_bias_init", "saturated_activation", "vanishing_gradient", "bad_init_scale", wanted=4)
def _gates_that_stay_shut(r: Recipe, rng: Any) -> Delta | None:
    """Biases of a gated memory far from zero: no gate opens, or none ever closes."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    start = {"name": "constant", "value": pick(rng, -8.0, 8.0, 20.0)}
    echo = layer("GRU", units=16, bias_initializer=start)
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])), echo, layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}}


@operator("symmetric_init", wanted=4)
def _one_memory_many_times(r: Recipe, rng: Any) -> Delta | None:
    """All units of a recurrent layer begin alike, in what they read and in what they keep."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    same = {"name": "constant", "value": pick(rng, 0.02, 0.1)}
    echo = layer(pick(rng, "SimpleRNN", "LSTM"), units=16, kernel_initializer=same, recurrent_initializer=same)
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])), echo, layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}}


@operator("bad_init_scale", "dead_relu", "unstable_activation_scale", "initial_loss_off_chance", wanted=3)
def _filters_that_all_add(r: Recipe, rng: Any) -> Delta | None:
    """Filters drawn between 0 and 1, as pictures are."""
    if r["data"]["source"] != "digits":
        return None
    start = {"kernel_initializer": {"name": "uniform", "minval": 0.0, "maxval": 1.0}, "activation": "relu"}
    return {"layers": [layer("Reshape", target_shape=[8, 8, 1]), layer("Conv2D", filters=8, kernel_size=3, **start),
                       layer("Conv2D", filters=16, kernel_size=3, **start), layer("Flatten"), layers(r)[-1]],
            "data": {"shape": [64]}}


@operator("bad_init_scale", "vanishing_gradient", "unstable_activation_scale", wanted=3)
def _whispering_memories(r: Recipe, rng: Any) -> Delta | None:
    """Three gated memories, one on the other, all drawn a hundred times too small."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    tiny = {"name": "normal", "stddev": 2e-3}
    small = {"units": 16, "kernel_initializer": tiny, "recurrent_initializer": tiny}
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])),
                       *[layer("LSTM", return_sequences=True, **small) for _ in range(2)], layer("LSTM", **small),
                       layers(r)[-1]], "data": {"shape": [KNOWN[source].features]}}


@operator("learning_rate_too_high", wanted=3)
def _memory_at_a_gallop(r: Recipe, rng: Any) -> Delta | None:
    """A gated memory, and the rate that a plain gradient once had."""
    source = r["data"]["source"]
    if source not in STEPS:
        return None
    return {"layers": [layer("Reshape", target_shape=list(STEPS[source])), layer("GRU", units=16), layers(r)[-1]],
            "data": {"shape": [KNOWN[source].features]}, "optimizer": optimizer("Adam", pick(rng, 0.2, 0.5))}
