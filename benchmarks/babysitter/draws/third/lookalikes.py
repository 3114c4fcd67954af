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
from benchmarks.babysitter.recipes import Recipe, dense, layer, optimizer, task_of

EACH = 12  # cases of one, where programs allow it
RECURRENT = ("GRU", "LSTM", "SimpleRNN")


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


def _rule(r: Recipe, factor: float = 1.0, **more: Any) -> dict[str, Any]:
    return {**r["optimizer"], "learning_rate": _rate(r) * factor, **more}


def _schedule(r: Recipe, **schedule: Any) -> dict[str, Any]:
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


@lookalike(wanted=EACH)
def _two_sparse_layers(r: Recipe, rng: Any) -> Delta | None:
    """Two wide layers of which four fifths are zero for any one row, and every unit is open for some rows."""
    if not only_dense(r) or len(r["layers"]) < 3:
        return None
    sparse = {"name": "uniform", "minval": -1.3, "maxval": -0.7}
    return {"layers": [dense(192, bias_initializer=sparse), dense(64, bias_initializer={"name": "constant",
                                                                                      "value": -0.4}), layers(r)[-1]]}


@lookalike(wanted=EACH)
def _warm_up_then_decay(r: Recipe, rng: Any) -> Delta | None:
    """A sixth of the steps the rate rises, then it falls by a little with each step."""
    rate, steps = _rate(r), planned_steps(r)
    after = {"name": "exponential", "learning_rate": 1.5 * rate, "factor": 0.96, "every": max(1, steps // 40)}
    return {**_schedule(r, name="warmup", steps=max(2, steps // 6), after=after), "epochs": r["epochs"] * 6 // 5}


@lookalike(wanted=EACH)
def _up_and_down_in_steps(r: Recipe, rng: Any) -> Delta | None:
    """A rate that goes up and down four times, and stays low at the end."""
    rate, steps = _rate(r), planned_steps(r)
    places = [max(k + 1, steps * (k + 1) // 9) for k in range(8)]
    return _schedule(r, name="piecewise", boundaries=places,
                     rates=[rate, 2.5 * rate, rate / 2, 2 * rate, rate / 2, 1.5 * rate, rate / 2, rate, rate / 4])


@lookalike(wanted=EACH)
def _three_restarts(r: Recipe, rng: Any) -> Delta | None:
    rate, steps = _rate(r), planned_steps(r)
    return _schedule(r, name="cosine", learning_rate=2.5 * rate, steps=max(6, -(-steps // 3)), restarts=True,
                     minimum=rate / 50)


@lookalike(wanted=EACH)
def _threes_with_care(r: Recipe, rng: Any) -> Delta | None:
    """Batches of three rows, a third of the rate, and the rate falls at the end."""
    if _normed(r) or any(la["class"] in RECURRENT for la in r["layers"]):
        return None
    epochs = max(5, r["epochs"] // 2)
    steps = r["data"]["rows"] // 3 * epochs
    rates = [_rate(r) / 3, _rate(r) / 10, _rate(r) / 40]
    return {"batch_size": 3, "epochs": epochs,
            **_schedule(r, name="piecewise", boundaries=[steps // 2, 4 * steps // 5], rates=rates)}


@lookalike(wanted=EACH)
def _half_after_each_layer(r: Recipe, rng: Any) -> Delta | None:
    """Dropout of one half behind every hidden layer, all of them four times as wide."""
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        if la["class"] == "Dense":
            la["config"]["units"] *= 4
        stack += [la, *([layer("Dropout", rate=0.5)] if la["class"] == "Dense" else [])]
    if len(stack) == len(r["layers"]) - 1:
        return None
    return {"layers": [*stack, layers(r)[-1]], "epochs": r["epochs"] * 2}


@lookalike(wanted=EACH)
def _some_dropped_where_they_enter(r: Recipe, rng: Any) -> Delta | None:
    """A few numbers are dropped behind convolutions and embeddings."""
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        drop = la["class"] in ("Conv2D", "Conv1D", "Embedding")
        stack += [la, *([layer("Dropout", rate=0.15)] if drop else [])]
    if len(stack) == len(r["layers"]) - 1:
        return None
    return {"layers": [*stack, layers(r)[-1]], "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _nearly_all_right(r: Recipe, rng: Any) -> Delta | None:
    """Easy tasks, trained until 99 of 100 held-out rows are right, and on."""
    if r["data"]["source"] not in ("birds", "gestures", "chirps", "follows", "beats", "letters"):
        return None
    return {"epochs": r["epochs"] * 2}


@lookalike(wanted=EACH)
def _weighted_minority(r: Recipe, rng: Any) -> Delta | None:
    """One class has four times the rows of the others, and weights that make up for it."""
    if task_of(r) == "regression":
        return None
    return {**spoil("one_dominant", keep=pick(rng, 0.25, 0.35)), "class_weight": "balanced",
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _a_little_uneven(r: Recipe, rng: Any) -> Delta | None:
    """Classes of which one has a third more rows than the others: nothing has to be done."""
    return spoil("one_dominant", keep=0.75) if task_of(r) != "regression" else None


@lookalike(wanted=EACH)
def _long_flat_end(r: Recipe, rng: Any) -> Delta | None:
    """The rate falls to nothing after two thirds; the last third only confirms."""
    rate, steps = _rate(r), planned_steps(r) * 3 // 2
    return {**_schedule(r, name="piecewise", boundaries=[steps // 2, 2 * steps // 3],
                        rates=[rate, rate / 10, rate / 1000]), "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _stopped_by_patience(r: Recipe, rng: Any) -> Delta | None:
    """Four times the passes that are needed, a patience of eight, and the best one is given back."""
    return {"epochs": r["epochs"] * 4, "early_stopping": 8}


@lookalike(wanted=EACH)
def _fine_tuned_by_rms(r: Recipe, rng: Any) -> Delta | None:
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("RMSprop", pick(rng, 3e-6, 1e-5)),
            "epochs": max(3, r["epochs"] // 4)}


@lookalike(wanted=EACH)
def _fine_tuned_along_a_cosine(r: Recipe, rng: Any) -> Delta | None:
    """A trained network goes on with a hundredth of the rate, which falls to nothing."""
    epochs = max(4, r["epochs"] // 3)
    steps = max(1, r["data"]["rows"] // r["batch_size"]) * epochs
    return {"pretrain": fine_tuned(r), "epochs": epochs,
            "optimizer": optimizer("Adam", {"name": "cosine", "learning_rate": 3e-5, "steps": steps})}


@lookalike(wanted=EACH)
def _as_it_came_behind_norm(r: Recipe, rng: Any) -> Delta | None:
    """Columns in metres, pascals and dollars, and a normalization without gain and shift before anything else."""
    if not only_dense(r) or r["data"]["source"] not in ("borehole", "piston", "houses", "birds", "churn"):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.95, center=False, scale=False), *layers(r)],
            "data": {"scale": "none"}, "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _bytes_into_a_norm(r: Recipe, rng: Any) -> Delta | None:
    """Pictures from 0 to 255 and signals in millivolts, normalized by their channels, then a network as usual."""
    if is_table(r) or is_tokens(r) or any(la["class"] in RECURRENT for la in r["layers"]):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.9, center=False), *layers(r)],
            "data": {"scale": {"kind": r["data"]["scale"], "times": pick(rng, 255.0, 1000.0)}}}


@lookalike(wanted=EACH)
def _five_good_tanhs(r: Recipe, rng: Any) -> Delta | None:
    """Deep, with a tanh everywhere, from Glorot's uniform start with the gain that tanh wants."""
    if not only_dense(r):
        return None
    deep = [dense(28, "tanh", kernel_initializer="glorot_uniform") for _ in range(5)]
    return {"layers": [*deep, layers(r)[-1]], "optimizer": optimizer("Adam", 3e-3), "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _six_selus(r: Recipe, rng: Any) -> Delta | None:
    if not only_dense(r):
        return None
    return {"layers": [*[dense(24, "selu") for _ in range(6)], layers(r)[-1]], "optimizer": optimizer("Adam", 1.5e-3),
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _clipped_both_ways(r: Recipe, rng: Any) -> Delta | None:
    """A recurrent layer that reads from both ends, or a plain one, with every gradient clipped."""
    source = r["data"]["source"]
    shapes = {"lorenz": [8, 1], "gestures": [15, 2], "beats": [9, 4]}
    if source not in shapes and not is_tokens(r):
        return None
    front = [layers(r)[0]] if is_tokens(r) else [layer("Reshape", target_shape=shapes[source])]
    data = {} if is_tokens(r) else {"shape": [15 * 2 if source == "gestures" else 8 if source == "lorenz" else 36]}
    kind = pick(rng, "GRU", "LSTM") if is_tokens(r) else pick(rng, "GRU", "SimpleRNN")
    rule = optimizer("Adam", 6e-3, **pick(rng, {"clip_value": 0.1}, {"clip_norm": 0.7}))
    return {"layers": [*front, layer(kind, units=14), layers(r)[-1]], "data": data, "optimizer": rule, "epochs": 22}


@lookalike(wanted=EACH)
def _clipped_dense(r: Recipe, rng: Any) -> Delta | None:
    """Every gradient is clipped, though it need not be."""
    return {"optimizer": {**r["optimizer"], "clip_norm": 0.5}, "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _slow_and_long(r: Recipe, rng: Any) -> Delta | None:
    """A quarter of the rate, four times the passes."""
    return {"optimizer": _rule(r, 0.25), "epochs": 4 * r["epochs"]}


@lookalike(wanted=EACH)
def _larger_and_longer(r: Recipe, rng: Any) -> Delta | None:
    """Batches three times as large, twice the rate, and two and a half times the passes."""
    return {"batch_size": 3 * r["batch_size"], "epochs": r["epochs"] * 5 // 2, "optimizer": _rule(r, 2.0)}


@lookalike(wanted=EACH)
def _weights_of_bounded_length(r: Recipe, rng: Any) -> Delta | None:
    """A limit of the weights' length that is wide enough."""
    return each(r, kernel_constraint={"name": "max_norm", "max_value": 4.0}) if hidden(r["layers"]) else None


@lookalike(wanted=EACH)
def _a_little_penalty_everywhere(r: Recipe, rng: Any) -> Delta | None:
    """A tiny L2 on every layer, the output's too."""
    stack = layers(r)
    for la in [*hidden(stack), stack[-1]]:
        la["config"]["kernel_regularizer"] = {"name": "l2", "l2": pick(rng, 1e-5, 1e-4)}
    return {"layers": stack}


@lookalike(wanted=EACH)
def _targets_within_one(r: Recipe, rng: Any) -> Delta | None:
    """Targets between -1 and 1, a bare output."""
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"kind": "unit", "times": 2.0, "plus": -1.0}}, "epochs": 2 * r["epochs"]}


@lookalike(wanted=EACH)
def _one_hot_and_its_loss(r: Recipe, rng: Any) -> Delta | None:
    """Classes as one-hot rows, a bare output, and the loss that takes logits."""
    if task_of(r) != "multiclass":
        return None
    return {**final(r, "cross_entropy", activation=None), "data": {"onehot": True}}


@lookalike(wanted=EACH)
def _inputs_of_half_the_width(r: Recipe, rng: Any) -> Delta | None:
    """Inputs whose deviation is a half, or somewhat more than one."""
    if is_tokens(r):
        return None
    scale = {"kind": r["data"]["scale"], "times": pick(rng, 0.5, 1.6)}
    return {"data": {"scale": scale}, "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _rounded_to_tenths(r: Recipe, rng: Any) -> Delta | None:
    """Inputs as an instrument shows them: with one digit behind the point."""
    return spoil("to_tenths") if is_table(r) else None


@lookalike(wanted=EACH)
def _a_few_repeats(r: Recipe, rng: Any) -> Delta | None:
    """Two of a hundred training rows stand there twice."""
    return spoil("few_repeats", share=0.02) if not is_tokens(r) else None
