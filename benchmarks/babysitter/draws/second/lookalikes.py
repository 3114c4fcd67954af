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

EACH = 12  # cases of one, where programs allow it


def _rule(r: Recipe, factor: float = 1.0, **more: Any) -> dict[str, Any]:
    return {**r["optimizer"], "learning_rate": r["optimizer"]["learning_rate"] * factor, **more}


def _schedule(r: Recipe, **schedule: Any) -> dict[str, Any]:
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


@lookalike(wanted=EACH)
def _sparse_and_wide(r: Recipe, rng: Any) -> Delta | None:
    """Four fifths of a wide first layer are zero for any one row."""
    if not only_dense(r):
        return None
    stack = layers(r)
    stack[0] = dense(160, bias_initializer={"name": "normal", "mean": -1.0, "stddev": 0.2})
    return {"layers": stack}


@lookalike(wanted=EACH)
def _warm_up_by_steps(r: Recipe, rng: Any) -> Delta | None:
    """A tenth of the rate for a while, then all of it, then a fifth."""
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r)
    return _schedule(r, name="piecewise", boundaries=[max(1, steps // 8), max(2, 3 * steps // 4)],
                     rates=[rate / 10, rate, rate / 5])


@lookalike(wanted=EACH)
def _warm_up_then_restarts(r: Recipe, rng: Any) -> Delta | None:
    rate, steps = r["optimizer"]["learning_rate"], planned_steps(r)
    after = {"name": "cosine", "learning_rate": 2 * rate, "steps": max(steps // 8, 6), "restarts": True,
             "minimum": rate / 20}
    return _schedule(r, name="warmup", steps=max(1, steps // 10), after=after)


@lookalike(wanted=EACH)
def _one_cycle_high(r: Recipe, rng: Any) -> Delta | None:
    rate = r["optimizer"]["learning_rate"]
    return _schedule(r, name="one_cycle", learning_rate=4 * rate, steps=planned_steps(r), rise=0.4)


@lookalike(wanted=EACH)
def _fives(r: Recipe, rng: Any) -> Delta | None:
    """Batches of five rows with a rate that fits them."""
    if any("Norm" in la["class"] for la in r["layers"]) or "clip_norm" in r["optimizer"]:
        return None
    return {"batch_size": 5, "epochs": max(4, r["epochs"] // 3), "optimizer": _rule(r, 0.3)}


@lookalike(wanted=EACH)
def _single_rows_by_sgd(r: Recipe, rng: Any) -> Delta | None:
    if any("Norm" in la["class"] for la in r["layers"]) or is_tokens(r):
        return None
    return {"batch_size": 1, "epochs": max(4, r["epochs"] // 4), "optimizer": optimizer("SGD", 0.003)}


@lookalike(wanted=EACH)
def _half_dropped(r: Recipe, rng: Any) -> Delta | None:
    """Dropout of one half before the output of wide layers: the training loss lies above the validation loss."""
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] *= 3
    return {"layers": [*stack[:-1], layer("Dropout", rate=0.5), stack[-1]], "epochs": r["epochs"] * 2}


@lookalike(wanted=EACH)
def _dropped_a_little_everywhere(r: Recipe, rng: Any) -> Delta | None:
    stack = layers(r)
    made = []
    for la in stack[:-1]:
        if "units" in la["config"]:
            la["config"]["units"] *= 2
        made += [la, *([layer("Dropout", rate=0.2)] if la["class"] == "Dense" else [])]
    return {"layers": [*made, stack[-1]], "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _plateau_and_stop(r: Recipe, rng: Any) -> Delta | None:
    """Three times as long as needed, stopped when nothing comes any more, the best given back."""
    return {"epochs": r["epochs"] * 3, "early_stopping": max(4, r["epochs"] // 3)}


@lookalike(wanted=EACH)
def _weighted_tail(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) == "regression":
        return None
    return {**spoil("one_rare", keep=pick(rng, 0.2, 0.3)), "class_weight": "balanced"}


@lookalike(wanted=EACH)
def _raw_behind_norm(r: Recipe, rng: Any) -> Delta | None:
    """Inputs as they come, and batch normalization before anything else."""
    if not only_dense(r) or not is_table(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.9), *layers(r)],
            "data": {"scale": {"kind": "none", "times": pick(rng, 1.0, 20.0)}}}


@lookalike(wanted=EACH)
def _bytes_behind_norm(r: Recipe, rng: Any) -> Delta | None:
    """Images from 0 to 255 behind batch normalization."""
    if is_table(r) or is_tokens(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.85), *layers(r)],
            "data": {"scale": {"kind": r["data"]["scale"], "times": 255.0}}}


@lookalike(wanted=EACH)
def _eight_good_tanhs(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    deep = [dense(20, "tanh", kernel_initializer={"name": "orthogonal", "gain": 1.15}) for _ in range(7)]
    return {"layers": [*deep, layers(r)[-1]], "optimizer": optimizer("Adam", 2e-3), "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _clipped_lstm(r: Recipe, rng: Any) -> Delta | None:
    """Sequences, rows of images or values of signals through a recurrent layer, with clipped gradients."""
    source = r["data"]["source"]
    if source in ("series", "signals"):
        front = [layer("Reshape", target_shape=[12, 1] if source == "series" else [8, 4])]
        data: dict[str, Any] = {"shape": [KNOWN[source].features]}
    elif is_tokens(r):
        front, data = [layers(r)[0]], {}
    else:
        return None
    kind = pick(rng, "LSTM", "GRU", "SimpleRNN") if source != "order" else "LSTM"
    return {"layers": [*front, layer(kind, units=16), layers(r)[-1]], "data": data,
            "optimizer": optimizer("Adam", 5e-3, clip_norm=pick(rng, 0.5, 1.0)), "epochs": 15}


@lookalike(wanted=EACH)
def _fine_tuned_by_sgd(r: Recipe, rng: Any) -> Delta | None:
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("SGD", pick(rng, 1e-5, 1e-4)),
            "epochs": max(3, r["epochs"] // 4)}


@lookalike(wanted=EACH)
def _fine_tuned_by_adamw(r: Recipe, rng: Any) -> Delta | None:
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("AdamW", 3e-6), "epochs": max(3, r["epochs"] // 4)}


@lookalike(wanted=EACH)
def _averaged_weights(r: Recipe, rng: Any) -> Delta | None:
    """A moving mean of the weights is what is used."""
    return {"optimizer": {**r["optimizer"], "ema": 0.98}, "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _mild_decay(r: Recipe, rng: Any) -> Delta | None:
    name = "AdamW" if r["optimizer"]["name"] in ("Adam", "AdamW", "NAdam") else r["optimizer"]["name"]
    decay = 0.02 if name == "AdamW" else 1e-4
    if name not in ("AdamW", "SGD"):
        return None
    return {"optimizer": {**r["optimizer"], "name": name, "weight_decay": decay}}


@lookalike(wanted=EACH)
def _mild_elastic(r: Recipe, rng: Any) -> Delta | None:
    return each(r, kernel_regularizer={"name": "l1_l2", "l1": 1e-5, "l2": 1e-4}) if hidden(r["layers"]) else None


@lookalike(wanted=EACH)
def _smoothed_labels(r: Recipe, rng: Any) -> Delta | None:
    """Labels are smoothed: the loss never comes near zero."""
    if task_of(r) == "regression":
        return None
    return {"loss": {"name": r["loss"], "label_smoothing": 0.05}} if task_of(r) == "binary" else {
        "loss": {"name": "categorical_crossentropy", "label_smoothing": 0.05}, "data": {"onehot": True}}


@lookalike(wanted=EACH)
def _robust_loss(r: Recipe, rng: Any) -> Delta | None:
    return {"loss": pick(rng, "huber", "log_cosh", "mae")} if task_of(r) == "regression" else None


@lookalike(wanted=EACH)
def _logits_and_their_loss(r: Recipe, rng: Any) -> Delta | None:
    """A bare output, and a loss that takes logits."""
    if task_of(r) == "regression":
        return None
    return {**final(r, activation=None), "loss": {"name": r["loss"], "from_logits": True}}


@lookalike(wanted=EACH)
def _bounded_targets(r: Recipe, rng: Any) -> Delta | None:
    """Targets between 0 and 1 behind a sigmoid: longer, by squares."""
    if task_of(r) != "regression":
        return None
    return {**final(r, activation="sigmoid"), "data": {"target": "unit"}, "epochs": r["epochs"] * 2}


@lookalike(wanted=EACH)
def _minus_one_to_one(r: Recipe, rng: Any) -> Delta | None:
    """Inputs between -1 and 1."""
    if is_tokens(r):
        return None
    return {"data": {"scale": {"kind": "minmax", "times": 2.0, "plus": -1.0}}, "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _small_output_start(r: Recipe, rng: Any) -> Delta | None:
    """The output layer begins at zero, so that the first loss is exactly that of guessing."""
    return final(r, kernel_initializer="zeros") if hidden(r["layers"]) else None


@lookalike(wanted=EACH)
def _many_units(r: Recipe, rng: Any) -> Delta | None:
    """Far more weights than rows, stopped in time."""
    stack = layers(r)
    for la in hidden(stack):
        if la["class"] == "Dense":
            la["config"]["units"] = 192
    return {"layers": stack, "early_stopping": 4} if any(la["class"] == "Dense" for la in hidden(stack)) else None


@lookalike(wanted=EACH)
def _large_batches_scaled(r: Recipe, rng: Any) -> Delta | None:
    return {"batch_size": 6 * r["batch_size"], "epochs": r["epochs"] * 5, "optimizer": _rule(r, 1.8)}
