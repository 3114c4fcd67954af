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
RECURRENT = ("GRU", "LSTM", "SimpleRNN", "TransformerBlock")
FAR = ("turbine", "exchanger", "rents", "batteries", "minerals", "triangles", "visitors", "rains")
EASY = ("minerals", "triangles", "shells", "islands", "phones", "taps", "levels", "marks", "scratches", "smiles",
        "tiles", "subjects", "brackets")
STEPS = {"rivers": (10, 2), "levels": (10, 3), "walks": (14, 3), "phones": (12, 4)}


def _rate(r: Recipe) -> float:
    return float(r["optimizer"]["learning_rate"])


def _rule(r: Recipe, factor: float = 1.0, **more: Any) -> dict[str, Any]:
    return {**r["optimizer"], "learning_rate": _rate(r) * factor, **more}


def _schedule(r: Recipe, **schedule: Any) -> dict[str, Any]:
    return {"optimizer": {**r["optimizer"], "learning_rate": schedule}}


def _normed(r: Recipe) -> bool:
    return any("Norm" in la["class"] for la in r["layers"])


def _recurrent(r: Recipe) -> bool:
    return any(la["class"] in RECURRENT for la in r["layers"])


# -- of the rule book's list -------------------------------------------------------------------------------------------


@lookalike(wanted=EACH)
def _most_units_silent_for_any_row(r: Recipe, rng: Any) -> Delta | None:
    """A wide layer with its own thresholds, four fifths of which are zero for any one row, none for all rows."""
    if not only_dense(r):
        return None
    low = {"name": "normal", "mean": -1.0, "stddev": 0.2}
    return {"layers": [dense(176, bias_initializer=low), *layers(r)[1:]], "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _rises_then_falls_along_a_cosine(r: Recipe, rng: Any) -> Delta | None:
    steps = planned_steps(r) * 5 // 4
    rise = max(2, steps // 12)
    after = {"name": "cosine", "learning_rate": 1.5 * _rate(r), "steps": steps - rise, "minimum": _rate(r) / 50}
    return {**_schedule(r, name="warmup", steps=rise, after=after), "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _saw_of_six_teeth(r: Recipe, rng: Any) -> Delta | None:
    """A rate that falls and jumps up again six times."""
    steps = planned_steps(r)
    return _schedule(r, name="cosine", learning_rate=pick(rng, 1.5, 2.0) * _rate(r), steps=max(5, -(-steps // 6)),
                     restarts=True, minimum=_rate(r) / 20)


@lookalike(wanted=EACH)
def _long_rise_and_long_fall(r: Recipe, rng: Any) -> Delta | None:
    """One cycle whose peak stands in the middle."""
    return {**_schedule(r, name="one_cycle", learning_rate=2.0 * _rate(r), steps=planned_steps(r) * 6 // 5, rise=0.5),
            "epochs": r["epochs"] * 6 // 5}


@lookalike(wanted=EACH)
def _sixes_at_a_lower_rate(r: Recipe, rng: Any) -> Delta | None:
    """Six rows a step, at two fifths of the rate, which ends low."""
    if _normed(r) or _recurrent(r):
        return None
    epochs = max(6, 2 * r["epochs"] // 3)
    steps = r["data"]["rows"] // 6 * epochs
    rate = _rate(r)
    return {"batch_size": 6, "epochs": epochs,
            **_schedule(r, name="piecewise", boundaries=[2 * steps // 3], rates=[rate / 2.5, rate / 12])}


@lookalike(wanted=EACH)
def _row_by_row_with_patience(r: Recipe, rng: Any) -> Delta | None:
    """One row a step, as in a lecture, with a rate that fits and falls."""
    if _normed(r) or _recurrent(r) or not only_dense(r):
        return None
    epochs = max(5, r["epochs"] // 4)
    steps = r["data"]["rows"] * epochs
    return {"batch_size": 1, "epochs": epochs,
            "optimizer": optimizer("SGD", {"name": "cosine", "learning_rate": 0.012, "steps": steps})}


@lookalike(wanted=EACH)
def _half_dropped_before_the_output(r: Recipe, rng: Any) -> Delta | None:
    """A layer of many units before the output, of which one half is dropped: training looks worse than it is."""
    if _normed(r) or _recurrent(r) or task_of(r) == "regression":
        return None
    return {"layers": [*layers(r)[:-1], dense(96), layer("Dropout", rate=0.5), layers(r)[-1]],
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _a_tenth_dropped_of_the_inputs(r: Recipe, rng: Any) -> Delta | None:
    if is_tokens(r) or is_table(r) or task_of(r) == "regression" or _recurrent(r):
        return None
    return {"layers": [layer("Dropout", rate=0.1), *layers(r)], "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _next_to_no_mistakes(r: Recipe, rng: Any) -> Delta | None:
    """Easy tasks, and twice as much time as they need, with a rate that falls."""
    if r["data"]["source"] not in EASY:
        return None
    return {"epochs": 2 * r["epochs"], **_schedule(r, name="cosine", learning_rate=_rate(r),
                                                   steps=2 * planned_steps(r))}


@lookalike(wanted=EACH)
def _uneven_and_made_up_for(r: Recipe, rng: Any) -> Delta | None:
    """One class has a fifth to a third of the rows, and weights that make up for it."""
    if task_of(r) == "regression":
        return None
    return {**spoil("less_of_one", keep=pick(rng, 0.25, 0.35)), "class_weight": "balanced",
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _somewhat_uneven(r: Recipe, rng: Any) -> Delta | None:
    """One class has half or two thirds of the rows of the others; nothing has to be done about it."""
    return None if task_of(r) == "regression" else spoil("less_of_one", keep=pick(rng, 0.5, 0.65))


@lookalike(wanted=EACH)
def _finds_nothing_new_at_the_end(r: Recipe, rng: Any) -> Delta | None:
    """The rate falls tenfold three times; the last two fifths change next to nothing."""
    steps, rate = planned_steps(r) * 9 // 5, _rate(r)
    return {**_schedule(r, name="piecewise", boundaries=[steps * 2 // 5, steps // 2, 3 * steps // 5],
                        rates=[rate, rate / 10, rate / 100, rate / 1000]), "epochs": r["epochs"] * 9 // 5}


@lookalike(wanted=EACH)
def _patience_of_a_dozen(r: Recipe, rng: Any) -> Delta | None:
    """Far more passes than are needed, and the best one is given back when a dozen of them brought nothing."""
    return {"epochs": 4 * r["epochs"], "early_stopping": 12}


@lookalike(wanted=EACH)
def _adapted_with_a_tiny_rate(r: Recipe, rng: Any) -> Delta | None:
    return {"pretrain": fine_tuned(r), "optimizer": optimizer("AdamW", pick(rng, 5e-6, 2e-5), weight_decay=1e-2),
            "epochs": max(3, r["epochs"] // 5)}


@lookalike(wanted=EACH)
def _adapted_after_a_rise(r: Recipe, rng: Any) -> Delta | None:
    """A trained network goes on with a rate that rises to a small one and falls to nothing."""
    epochs = max(4, r["epochs"] // 4)
    steps = max(6, r["data"]["rows"] // r["batch_size"] * epochs)
    after = {"name": "cosine", "learning_rate": 2e-5, "steps": steps - steps // 6}
    rule = optimizer("Adam", {"name": "warmup", "steps": max(1, steps // 6), "after": after})
    return {"pretrain": fine_tuned(r), "optimizer": rule, "epochs": epochs}


@lookalike(wanted=EACH)
def _euros_and_years_behind_a_norm(r: Recipe, rng: Any) -> Delta | None:
    """The table as it came, and a normalization over the batch before anything else."""
    if not only_dense(r) or r["data"]["source"] not in FAR or _normed(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.9, scale=False), *layers(r)], "data": {"scale": "none"},
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _bytes_behind_a_norm(r: Recipe, rng: Any) -> Delta | None:
    """Pictures from 0 to 255, signals in percent, and a normalization over the batch before anything else."""
    if is_table(r) or is_tokens(r) or _recurrent(r) or _normed(r):
        return None
    return {"layers": [layer("BatchNorm", momentum=0.92), *layers(r)],
            "data": {"scale": {"kind": r["data"]["scale"], "times": pick(rng, 100.0, 255.0)}}}


@lookalike(wanted=EACH)
def _six_good_tanhs(r: Recipe, rng: Any) -> Delta | None:
    """Deep, with a tanh everywhere, from Glorot's start."""
    if not only_dense(r):
        return None
    deep = [dense(units, "tanh") for units in (32, 32, 28, 28, 24, 24)]
    return {"layers": [*deep, layers(r)[-1]], "optimizer": optimizer("Adam", 2e-3), "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _clipped_loop(r: Recipe, rng: Any) -> Delta | None:
    """A plain or gated recurrent layer, and every gradient clipped short."""
    source = r["data"]["source"]
    if not is_tokens(r) and source not in STEPS:
        return None
    loop = layer(pick(rng, "GRU", "LSTM"), units=16) if is_tokens(r) else layer(
        pick(rng, "GRU", "SimpleRNN"), units=16)
    front = [layers(r)[0]] if is_tokens(r) else [layer("Reshape", target_shape=list(STEPS[source]))]
    data = {} if is_tokens(r) else {"shape": [KNOWN[source].features]}
    rule = optimizer("Adam", 8e-3, **pick(rng, {"clip_norm": 0.3}, {"clip_value": 0.05}))
    return {"layers": [*front, loop, layers(r)[-1]], "data": data, "optimizer": rule, "epochs": 20}


# -- and more ----------------------------------------------------------------------------------------------------------


@lookalike(wanted=EACH)
def _norms_between_all_layers(r: Recipe, rng: Any) -> Delta | None:
    """A normalization of each row between all layers, which needs none."""
    if not only_dense(r) or _normed(r):
        return None
    stack: list[dict[str, Any]] = []
    for la in layers(r)[:-1]:
        stack += [la, layer("LayerNorm")]
    return {"layers": [*stack, layers(r)[-1]], "optimizer": optimizer("Adam", 4e-3), "epochs": r["epochs"] * 6 // 5}


@lookalike(wanted=EACH)
def _seven_rectified_layers(r: Recipe, rng: Any) -> Delta | None:
    """Seven layers with rectifiers of some kind, from the start that fits them."""
    if not only_dense(r):
        return None
    bend = pick(rng, "relu", "gelu", "leaky_relu")
    return {"layers": [*[dense(32, bend) for _ in range(7)], layers(r)[-1]], "optimizer": optimizer("Adam", 1.5e-3),
            "epochs": r["epochs"] * 3 // 2}


@lookalike(wanted=EACH)
def _third_of_the_rate_thrice_the_time(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": _rule(r, 1 / 3), "epochs": 3 * r["epochs"]}


@lookalike(wanted=EACH)
def _twice_the_rows_and_more_passes(r: Recipe, rng: Any) -> Delta | None:
    """Twice the rows in each step, half as high a rate again, nearly twice the passes."""
    return {"batch_size": 2 * r["batch_size"], "optimizer": _rule(r, 1.5), "epochs": r["epochs"] * 9 // 5}


@lookalike(wanted=EACH)
def _steps_bounded(r: Recipe, rng: Any) -> Delta | None:
    """Gradients are clipped by their length, which is seldom needed."""
    return {"optimizer": {**r["optimizer"], "clip_norm": pick(rng, 0.8, 2.0)}, "epochs": r["epochs"] * 6 // 5}


@lookalike(wanted=EACH)
def _weights_averaged_on_the_way(r: Recipe, rng: Any) -> Delta | None:
    return {"optimizer": {**r["optimizer"], "ema": pick(rng, 0.95, 0.98)}, "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _penalty_of_a_hundred_thousandth(r: Recipe, rng: Any) -> Delta | None:
    if not hidden(r["layers"]):
        return None
    return each(r, kernel_regularizer={"name": "l1_l2", "l1": 1e-6, "l2": pick(rng, 1e-5, 5e-5)})


@lookalike(wanted=EACH)
def _two_units_for_yes_and_no(r: Recipe, rng: Any) -> Delta | None:
    """Yes and no as one-hot rows, a bare output of many, and the loss of logits; or one bare unit and its loss."""
    if task_of(r) == "multiclass":
        return {**final(r, {"name": "categorical_crossentropy", "from_logits": True}, activation=None),
                "data": {"onehot": True}}
    if task_of(r) == "binary":
        return final(r, {"name": "binary_crossentropy", "from_logits": True}, activation=None)
    return None


@lookalike(wanted=EACH)
def _labels_softened_a_little(r: Recipe, rng: Any) -> Delta | None:
    if task_of(r) != "multiclass":
        return None
    return final(r, {"name": "cross_entropy", "label_smoothing": pick(rng, 0.03, 0.06)}, activation=None)


@lookalike(wanted=EACH)
def _absolute_for_squared(r: Recipe, rng: Any) -> Delta | None:
    """Another loss for numbers: it is as good."""
    if task_of(r) != "regression":
        return None
    return {"loss": pick(rng, "log_cosh", "huber", "mae"), "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _targets_in_tens(r: Recipe, rng: Any) -> Delta | None:
    """Targets of deviation two or three: near enough to one."""
    if task_of(r) != "regression":
        return None
    return {"data": {"target": {"times": pick(rng, 1.8, 2.5), "plus": pick(rng, 0.0, 0.5)}},
            "epochs": r["epochs"] * 5 // 4}


@lookalike(wanted=EACH)
def _columns_between_limits(r: Recipe, rng: Any) -> Delta | None:
    """Columns between -1 and 1, or pictures with mean 0 and deviation 1."""
    if is_tokens(r):
        return None
    if is_table(r):
        return {"data": {"scale": {"kind": "minmax", "times": 2.0, "plus": -1.0}}, "epochs": r["epochs"] * 3 // 2}
    return {"data": {"scale": {"kind": "unit", "times": 4.0, "plus": -2.0}}}


@lookalike(wanted=EACH)
def _one_label_of_a_hundred(r: Recipe, rng: Any) -> Delta | None:
    return spoil("known_mistakes", share=pick(rng, 0.005, 0.01))


@lookalike(wanted=EACH)
def _some_rows_seen_twice(r: Recipe, rng: Any) -> Delta | None:
    return spoil("seen_twice", share=pick(rng, 0.02, 0.04))


@lookalike(wanted=EACH)
def _two_digits_behind_the_point(r: Recipe, rng: Any) -> Delta | None:
    return None if is_tokens(r) else spoil("written_with_two_digits")


@lookalike(wanted=EACH)
def _few_rows_held_out(r: Recipe, rng: Any) -> Delta | None:
    return spoil("fewer_held", rows=pick(rng, 60, 100))


@lookalike(wanted=EACH)
def _fewer_rows_in_order_of_arrival(r: Recipe, rng: Any) -> Delta | None:
    """Rows come in their own order in each pass, which says nothing."""
    return {"shuffle": False}
