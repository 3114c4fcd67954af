"""Healthy programs that look like something is wrong."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.operators import (
    Delta,
    each,
    final,
    fine_tuned,
    hidden,
    is_table,
    is_tokens,
    layers,
    lookalike,
    only_dense,
    pick,
    planned_steps,
    spoil,
)
from benchmarks.babysitter.recipes import KNOWN, Recipe, dense, layer, optimizer, task_of

EACH = 13  # cases of one, where programs allow it
RECURRENT = ("GRU", "LSTM", "SimpleRNN", "TransformerBlock")
FAR = ("amplifier", "wing", "option", "hares", "throw", "boilers", "crops", "triage", "fraud")
STEPS = {"blood": (10, 1), "meters": (12, 2), "waveform": (7, 3), "spectra": (10, 3)}


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


def _rule(r: Recipe, factor: float = 1.0, **more: Any) -> dict[str, Any]:
    return {**r["optimizer"], "learning_rate": _rate(r) * factor, **more}


def _schedule(r: Recipe, **schedule: Any) -> dict[str, Any]:
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


# -- of the rule book's list -------------------------------------------------------------------------------------------


@lookalike(wanted=EACH)
def _one_in_five_open(r: Recipe, rng: Any) -> Delta | None:
    """A wide first layer with thresholds, so that one unit in five is open for any one row, each for some."""
    if not only_dense(r) or task_of(r) == "regression":
        return None
    low = {"name": "uniform", "minval": -1.5, "maxval": -0.6}
    return {"layers": [dense(160, bias_initializer=low), *layers(r)[1:]]}


@lookalike(wanted=EACH)
def _rises_for_two_passes(r: Recipe, rng: Any) -> Delta | None:
    """The rate rises for two passes and stays where it is."""
    steps = max(2, 2 * r["data"]["rows"] // r["batch_size"])
    return {**_schedule(r, name="warmup", steps=steps, after=_rate(r)), "epochs": r["epochs"] + 3}


@lookalike(wanted=EACH)
def _cycle_and_cool(r: Recipe, rng: Any) -> Delta | None:
    """One cycle up to three times the rate, and down to nothing."""
    return _schedule(r, name="one_cycle", learning_rate=pick(rng, 1.5, 3.0) * _rate(r), steps=planned_steps(r),
                     rise=pick(rng, 0.2, 0.4))


@lookalike(wanted=EACH)
def _five_restarts_longer_each(r: Recipe, rng: Any) -> Delta | None:
    """A cosine that begins again, and takes longer each time."""
    steps = planned_steps(r)
    return _schedule(r, name="cosine", learning_rate=2.0 * _rate(r), steps=max(5, steps // 7), restarts=True,
                     growth=2.0, minimum=_rate(r) / 30)


@lookalike(wanted=EACH)
def _fours_by_a_falling_rate(r: Recipe, rng: Any) -> Delta | None:
    """Batches of four rows: each step is mostly noise, and the rate falls with time."""
    if _normed(r) or any(la["class"] in RECURRENT for la in r["layers"]):
        return None
    epochs = max(6, r["epochs"] // 2)
    steps = r["data"]["rows"] // 4 * epochs
    return {"batch_size": 4, "epochs": epochs,
            **_schedule(r, name="cosine", learning_rate=_rate(r) / 2.5, steps=steps)}


@lookalike(wanted=EACH)
def _half_dropped_of_a_wide_layer(r: Recipe, rng: Any) -> Delta | None:
    """A layer three times as wide, of which one half is dropped: training looks worse than validation."""
    if not only_dense(r) or _normed(r) or task_of(r) == "regression":
        return None
    stack = layers(r)[:-1]
    for la in stack:
        la["config"]["units"] *= 3
    return {"layers": [*stack[:-1], stack[-1], layer("Dropout", rate=0.5), layers(r)[-1]],
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _a_few_channels_dropped(r: Recipe, rng: Any) -> Delta | None:
    """A tenth of the channels is dropped behind convolutions; a fifth of the units behind dense layers."""
    kinds = ("Conv2D", "Conv1D", "Dense")
    if _normed(r) or task_of(r) == "regression" or not hidden(r["layers"]):
        return None
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        drop = layer("Dropout", rate=0.2) if la["class"] == "Dense" else layer("Dropout", rate=0.1, per="channel")
        stack += [la, *([drop] if la["class"] in kinds else [])]
    return {"layers": [*stack, layers(r)[-1]], "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _hardly_a_mistake(r: Recipe, rng: Any) -> Delta | None:
    """Tasks in which 99 of 100 held-out rows are right, with a rate that falls at the end."""
    if r["data"]["source"] not in ("darts", "modulated", "flags", "grids", "arrows", "links", "crops", "callers"):
        return None
    epochs = r["epochs"] * 3 // 2
    steps = planned_steps(r) * 3 // 2
    return {"epochs": epochs, **_schedule(r, name="piecewise", boundaries=[steps // 2], rates=[_rate(r), _rate(r) / 8])}


@lookalike(wanted=EACH)
def _weighted_uneven_classes(r: Recipe, rng: Any) -> Delta | None:
    """One class has six times as many rows as the others, and weights that make up for it."""
    if task_of(r) == "regression":
        return None
    return {**spoil("days_without_events", times=pick(rng, 3, 5)), "class_weight": "balanced",
            "epochs": 2 * r["epochs"]}


@lookalike(wanted=EACH)
def _late_second_fall(r: Recipe, rng: Any) -> Delta | None:
    """A low rate first, so that little happens, then the usual one, then a low one again."""
    rate, steps = _rate(r), planned_steps(r) * 4 // 3
    return {**_schedule(r, name="piecewise", boundaries=[steps // 6, 5 * steps // 6],
                        rates=[rate / 6, rate * 1.3, rate / 6]), "epochs": r["epochs"] * 4 // 3}


@lookalike(wanted=EACH)
def _flat_for_the_second_half(r: Recipe, rng: Any) -> Delta | None:
    """The rate falls by steps, to a thousandth; the second half is a plateau."""
    steps = planned_steps(r) * 2
    return {**_schedule(r, name="step", learning_rate=_rate(r), every=max(1, steps * 2 // 5), factor=0.05),
            "epochs": 2 * r["epochs"]}


@lookalike(wanted=EACH)
def _ended_by_patience(r: Recipe, rng: Any) -> Delta | None:
    """Three times the passes that are needed, a patience of ten, and the best one is given back."""
    return {"epochs": 3 * r["epochs"], "early_stopping": 10}


@lookalike(wanted=EACH)
def _fine_tuned_by_nadam(r: Recipe, rng: Any) -> Delta | None:
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("NAdam", pick(rng, 2e-6, 1e-5)),
            "epochs": max(3, r["epochs"] // 4)}


@lookalike(wanted=EACH)
def _fine_tuned_by_small_steps(r: Recipe, rng: Any) -> Delta | None:
    """A trained network goes on with a plain gradient and a very small rate."""
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("SGD", pick(rng, 1e-5, 1e-4), momentum=0.9),
            "epochs": max(4, r["epochs"] // 3)}


@lookalike(wanted=EACH)
def _metres_and_pascals_behind_norm(r: Recipe, rng: Any) -> Delta | None:
    """Columns as they came, and a normalization before anything else."""
    if not is_table(r) or r["data"]["source"] not in FAR or _normed(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=pick(rng, 0.9, 0.95)), *layers(r)], "data": {"scale": "none"},
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _bytes_behind_a_layers_norm(r: Recipe, rng: Any) -> Delta | None:
    """Pictures from 0 to 255 behind a normalization of their channels, or of all that a dense layer reads."""
    if is_table(r) or is_tokens(r) or any(la["class"] in RECURRENT for la in r["layers"]) or _normed(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.9), *layers(r)],
            "data": {"scale": {"kind": r["data"]["scale"], "times": pick(rng, 255.0, 4095.0)}}}


@lookalike(wanted=EACH)
def _seven_good_tanhs(r: Recipe, rng: Any) -> Delta | None:
    """Deep, with a tanh everywhere, from orthogonal weights with the gain that tanh wants."""
    if not only_dense(r):
        return None
    deep = [dense(24, "tanh", kernel_initializer={"name": "orthogonal", "gain": 1.15}) for _ in range(7)]
    return {"layers": [*deep, layers(r)[-1]], "optimizer": optimizer("Adam", 2e-3), "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _clipped_echo(r: Recipe, rng: Any) -> Delta | None:
    """A plain recurrent layer, a gated one, or one that reads from both ends, and every gradient clipped."""
    source = r["data"]["source"]
    if not is_tokens(r) and source not in STEPS:
        return None
    kind = pick(rng, "GRU", "LSTM", "Bidirectional")
    echo = layer(kind, units=14)
    if kind == "Bidirectional":
        echo = layer(kind, layer=layer("GRU", units=8))
    front = [layers(r)[0]] if is_tokens(r) else [layer("Reshape", target_shape=list(STEPS[source]))]
    data = {} if is_tokens(r) else {"shape": [KNOWN[source].features]}
    rule = optimizer("Adam", 8e-3, **pick(rng, {"clip_value": 0.2}, {"clip_norm": 0.5}))
    return {"layers": [*front, echo, layers(r)[-1]], "data": data, "optimizer": rule, "epochs": 24}


# -- and more ----------------------------------------------------------------------------------------------------------


@lookalike(wanted=EACH)
def _clipped_for_safety(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], **pick(rng, {"clip_value": 0.5}, {"clip_norm": 1.0})}}


@lookalike(wanted=EACH)
def _eight_layers_and_a_good_start(r: Recipe, rng: Any) -> Delta | None:
    """Eight layers with rectifiers, from He's start."""
    if not only_dense(r):
        return None
    deep = [dense(28, pick(rng, "relu", "elu")) for _ in range(8)]
    return {"layers": [*deep, layers(r)[-1]], "optimizer": optimizer("Adam", 1.5e-3), "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _half_the_rate_twice_the_time(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": _rule(r, 0.4), "epochs": 2 * r["epochs"] + 2}


@lookalike(wanted=EACH)
def _larger_batches_and_rate(r: Recipe, rng: Any) -> Delta | None:
    """Batches twice as large, a rate that is higher by the root of it, and half as many passes again."""
    return {"batch_size": 2 * r["batch_size"], "optimizer": _rule(r, 1.4), "epochs": r["epochs"] * 9 // 5}


@lookalike(wanted=EACH)
def _decay_as_it_should_be(r: Recipe, rng: Any) -> Delta | None:
    """AdamW with the decay that most use."""
    return {"optimizer": optimizer("AdamW", pick(rng, 3e-3, 5e-3), weight_decay=pick(rng, 0.01, 0.03)),
            "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _smoothed_by_a_tenth(r: Recipe, rng: Any) -> Delta | None:
    """Bare outputs, and a loss that takes logits and smooths the labels a little."""
    if task_of(r) != "multiclass":
        return None
    return final(r, activation=None) | {"loss": {"name": "cross_entropy", "label_smoothing": pick(rng, 0.02, 0.05)}}


@lookalike(wanted=EACH)
def _logit_of_one_unit(r: Recipe, rng: Any) -> Delta | None:
    """One bare unit, and the loss that has the sigmoid."""
    return final(r, "binary_crossentropy_with_logits", activation=None) if task_of(r) == "binary" else None


@lookalike(wanted=EACH)
def _shares_behind_a_sigmoid(r: Recipe, rng: Any) -> Delta | None:
    """Targets between 0.1 and 0.9 behind a sigmoid: they fit."""
    if task_of(r) != "regression":
        return None
    return {**final(r, activation="sigmoid"), "data": {"target": {"kind": "unit", "times": 0.8, "plus": 0.1}},
            "epochs": 2 * r["epochs"]}


@lookalike(wanted=EACH)
def _between_zero_and_one(r: Recipe, rng: Any) -> Delta | None:
    """Columns between 0 and 1, or pictures between -1 and 1."""
    if is_tokens(r):
        return None
    if is_table(r):
        return {"data": {"scale": "minmax"}, "epochs": 2 * r["epochs"]}
    return {"data": {"scale": {"kind": "unit", "times": 2.0, "plus": -1.0}}, "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _a_few_wrong_labels(r: Recipe, rng: Any) -> Delta | None:
    return spoil("a_few_wrong", share=pick(rng, 0.005, 0.015))


@lookalike(wanted=EACH)
def _moved_a_little(r: Recipe, rng: Any) -> Delta | None:
    """Training rows with a little noise on purpose, so that they are harder than held-out ones."""
    return None if is_tokens(r) else spoil("finer_noise", by=pick(rng, 0.02, 0.05))


@lookalike(wanted=EACH)
def _one_column_of_noughts(r: Recipe, rng: Any) -> Delta | None:
    """One pixel, or one moment of a signal, never changes: the corner of a picture."""
    if is_table(r) or is_tokens(r):
        return None
    return {"data": {"scale": {"kind": r["data"]["scale"], "columns": pick(rng, 0.01, 0.04), "constant": 0.0}}}


@lookalike(wanted=EACH)
def _twice_as_wide(r: Recipe, rng: Any) -> Delta | None:
    """Twice as wide as it needs to be, with a small penalty."""
    stack = layers(r)
    if not hidden(stack):
        return None
    for la in hidden(stack):
        for name in ("units", "filters"):
            if name in la["config"]:
                la["config"][name] *= 2
        la["config"]["kernel_regularizer"] = {"name": "l2", "l2": 3e-5}
    return {"layers": stack}


@lookalike(wanted=EACH)
def _biases_a_little_above_zero(r: Recipe, rng: Any) -> Delta | None:
    """Hidden biases of a hundredth or a tenth, so that rectifiers begin open."""
    if not hidden(r["layers"]):
        return None
    return each(r, bias_initializer={"name": "constant", "value": pick(rng, 0.01, 0.1)})
