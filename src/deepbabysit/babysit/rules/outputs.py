"""Rules about the output against the loss and the targets, asked before training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.rules.data import data_of, percent
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.task import (
    CLASS_LOGITS,
    CLASS_PROBABILITIES,
    LOG_PROBABILITIES,
    MARGINS,
    NUMBERS,
    OWN,
    YES_LOGITS,
    YES_PROBABILITIES,
)
from deepbabysit.babysit.vitals import Record

RANGES = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf),
          "softplus": (0.0, math.inf), "log_softmax": (-math.inf, 0.0)}
SQUASHING = ("relu", "tanh", "softplus", "elu", "selu", "gelu", "silu", "leaky_relu")


def _pair(record: Record) -> tuple[str, ...]:
    """Return (last activation, loss) that belong to the task, as advice."""
    data = data_of(record)
    kind = data.labels.kind if data is not None and data.labels is not None else ""
    units = record.model.output_units or 1
    if record.run.task == "binary" and units == 1:
        return "sigmoid", "binary_crossentropy"
    if record.run.task == "multilabel":
        return "sigmoid", "binary_crossentropy"
    if record.run.task in ("binary", "multiclass"):
        return "softmax", "categorical_crossentropy" if kind == "one_hot" else "sparse_categorical_crossentropy"
    return "linear", "mse"


def _last_layer(record: Record) -> str | None:
    found = [layer.path for layer in record.model.layers if layer.inputs is not None]
    return found[-1] if found else None


def _swap(record: Record, words: str) -> Remedy:
    activation, loss = _pair(record)
    units = _units(record)
    return Remedy(
        words, f'Dense({units}, activation="{activation}"), loss="{loss}"'
        if activation != "linear" else f'Dense({units}), loss="{loss}"', changes.output(activation, loss, units),
    )


def _other_pair(record: Record) -> tuple[Remedy, ...]:
    """Offer the pair that fits the targets, where it is another one than now."""
    now = (record.model.output_activation, record.run.loss, record.model.output_units)
    if now == (*_pair(record), _units(record)):
        return ()
    return (_swap(record, "Use the pair that fits these targets."),)


def _units(record: Record) -> int:
    """Return how many units the output needs for these targets."""
    data = data_of(record)
    labels = None if data is None else data.labels
    units = record.model.output_units or 1
    if labels is None or record.run.task is None:
        return units
    if record.run.task == "multiclass":
        return labels.shape[-1] if labels.kind == "one_hot" else max(units, int(labels.maximum) + 1)
    if record.run.task == "binary":
        return units if labels.kind == "one_hot" else min(units, 2)
    return math.prod(labels.shape) if len(labels.shape) < 2 else units


def _divided(record: Record) -> Remedy:
    """Divide the rate by the batch size, as a mean would."""
    rate, batch = record.run.rate, record.run.batch_size
    words = "Or divide the learning rate by the batch size"
    if not rate or not batch:
        return Remedy(words + ".")
    value = float(f"{rate / batch:.2g}")
    return Remedy(f"{words}: {value:g}.", f"model.optimizer.learning_rate = {value:g}", changes.rate(value))


def _reshaped(record: Record) -> tuple[Remedy, ...]:
    """Give targets the form of the outputs, where only an axis of one is too many or missing."""
    found = record.probes.get("targets") or {}
    y, outputs = list(found.get("targets", ())), list(found.get("outputs", ()))
    if len(y) == 1 and outputs[1:] == [1]:
        return (Remedy("Make the targets a column.", "y = y.reshape(-1, 1)", changes.targets("column")),)
    if y[1:] == [1] and len(outputs) == 2:
        return (Remedy("Make the targets flat.", "y = y.reshape(-1)", changes.targets("flat")),)
    return ()


def _counted(record: Record) -> tuple[Remedy, ...]:
    """Count classes from 0, where they are counted from 1."""
    data = data_of(record)
    labels = None if data is None else data.labels
    units = record.model.output_units or 1
    if labels is None or labels.minimum < 1 or labels.maximum - labels.minimum >= units or units < 2:
        return ()
    low = int(labels.minimum)
    return (Remedy(f"Count the classes from 0: take {low} from each.", f"y = y - {low}",
                   changes.targets("minus", by=low)),)


@rule("loss_shape_mismatch", phase="check", why="Shapes that would broadcast, or do not fit at all: always an error.")
def loss_shape_mismatch(record: Record, limits: Any) -> Finding | None:
    """Targets and outputs of different shapes."""
    return _refused(record, "loss_shape_mismatch", "Give both one shape.")


def _refused(record: Record, code: str, advice: str) -> Finding | None:
    found = record.probes.get("targets")
    if found is None or found["code"] != code:
        return None
    return Finding(
        code, "error", 1.0, f"{found['message']}. {advice}", {k: v for k, v in found.items() if k != "message"},
        layer=_last_layer(record),
        remedies=(*(_counted(record) if code == "target_out_of_range" else _reshaped(record)),
                  *_other_pair(record), Remedy(advice)),
    )


@rule(
    "target_out_of_range", phase="check", share=0.0, why="A target outside of what the output can give is never "
    "reached.",
)
def target_out_of_range(record: Record, limits: Any) -> Iterator[Finding]:
    """Labels that are no class of the output, or targets beyond the last activation's range."""
    refused = _refused(record, "target_out_of_range", "Count classes from 0, with one output unit for each.")
    if refused is not None:
        yield refused
        return
    data = data_of(record)
    labels = None if data is None else data.labels
    activation = record.model.output_activation
    if labels is None or record.run.loss_kind not in (NUMBERS, OWN) or activation not in RANGES:
        return
    if record.run.loss_kind == OWN and record.run.task != "regression":
        return
    low, high = RANGES[activation]
    if labels.minimum >= low and labels.maximum <= high:
        return
    yield Finding(
        "target_out_of_range", "error", 0.95,
        f"targets lie between {labels.minimum:.4g} and {labels.maximum:.4g}, and the last activation {activation} "
        f"gives {low:g} to {high:g} only (limit: {percent(limits.share)} of the targets outside). Targets beyond "
        f"cannot be reached, and the units saturate on the way. Use a linear output.",
        {"minimum": labels.minimum, "maximum": labels.maximum, "low": low, "high": high, "activation": activation},
        layer=_last_layer(record),
        remedies=(
            Remedy("Use a linear output.", f"Dense({record.model.output_units})", changes.output("linear")),
            Remedy("Or scale the targets into the range.", "scale = db.data.MinMax().fit(y_train)",
                   changes.targets("minmax")),
        ),
    )


@rule(
    "double_softmax", phase="check", times=1,
    why="The graph itself shows that a loss of logits stands on a softmax or sigmoid, or that two softmax follow.",
)
def double_softmax(record: Record, limits: Any) -> Finding | None:
    """Softmax or sigmoid applied twice."""
    codes = record.probes.get("codes") or ()
    if "double_softmax" not in codes:
        return None
    units = record.model.output_units or 1
    activation = record.model.output_activation
    if "softmax_of_softmax" in codes:
        seen = f"the output is the {activation} of a softmax"
    else:
        seen = f"the loss {record.run.loss} takes logits and applies its own, and the last activation is {activation}"
    best = math.exp(1) / (math.exp(1) + units - 1) if units > 1 else 1 / (1 + math.exp(-1))
    return Finding(
        "double_softmax", "error", 0.98,
        f"{seen}: 2 times, limit {int(limits.times)}. The largest probability that {units} outputs can then give is "
        f"{best:.2f}, so the loss stays above {-math.log(best):.2f} and gradients are small. Remove one of the two.",
        {"activation": activation, "loss": record.run.loss, "units": units, "largest_probability": best,
         "floor": _floor(record, units, best, "softmax_of_softmax" in codes), "limit": int(limits.times)},
        layer=_last_layer(record),
        remedies=(
            Remedy("Remove the activation of the last layer.", f"Dense({units})", changes.output("linear")),
            _swap(record, "Or use the loss of probabilities."),
        ),
    )


def _floor(record: Record, units: int, best: float, inside: bool) -> float | None:
    """Return the loss of answers that are all right and as sure as two softmax (sigmoids) allow.

    None where the outputs themselves went through both: their probabilities are wrong however low the loss is.
    """
    if inside:
        return None
    if record.run.loss_kind == CLASS_LOGITS:
        return -math.log(best)
    data = data_of(record)
    labels = None if data is None else data.labels
    ones = 0.5 if labels is None else min(max(labels.mean, 0.0), 1.0)
    return ones * -math.log(1.0 / (1.0 + math.exp(-1.0))) + (1.0 - ones) * math.log(2.0)


@rule("one_unit_softmax", phase="check", units=2, why="A softmax over one unit is 1 whatever its input.")
def one_unit_softmax(record: Record, limits: Any) -> Finding | None:
    """A softmax over one unit."""
    codes = record.probes.get("codes") or ()
    refused = record.probes.get("targets") or {}
    single = record.model.output_units == 1 and record.model.output_activation in ("softmax", "log_softmax")
    other = refused.get("code") == "wrong_loss_for_output"  # amounts are no classes, however many units there are
    if not single and (other or ("one_unit_softmax" not in codes and refused.get("code") != "one_unit_softmax")):
        return _hidden_softmax(record, limits)
    return Finding(
        "one_unit_softmax", "error", 0.99,
        f"the last layer has 1 unit and {record.run.loss or 'its activation'} takes a softmax over it (at least "
        f"{int(limits.units)} units are needed): the result is always 1 and has no gradient. Use a sigmoid.",
        {"units": 1, "limit": int(limits.units), "loss": record.run.loss, "activation": record.model.output_activation},
        layer=_last_layer(record),
        remedies=(
            _swap(record, "Use the pair that fits these targets.") if record.run.task == "multiclass" else
            Remedy("One sigmoid unit.", 'Dense(1, activation="sigmoid"), loss="binary_crossentropy"',
                   changes.output("sigmoid", "binary_crossentropy")),
            Remedy("Or two units.", 'Dense(2, activation="softmax"), loss="sparse_categorical_crossentropy"',
                   changes.output("softmax", "sparse_categorical_crossentropy", 2)),
        ),
    )


def _hidden_softmax(record: Record, limits: Any) -> Finding | None:
    """Find a softmax over one unit before the output: a gate that is always open, or a score that says nothing."""
    for layer in record.model.layers:
        if layer.activation not in ("softmax", "log_softmax") or layer.units != 1:
            continue
        value = 1 if layer.activation == "softmax" else 0
        return Finding(
            "one_unit_softmax", "error", 0.99,
            f"layer {layer.path} gives 1 number and takes a softmax over it (at least {int(limits.units)} are needed): "
            f"the result is always {value}, whatever comes in, and has no gradient. A gate wants a sigmoid; scores of "
            f"places want the softmax along the axis of the places.",
            {"units": 1, "limit": int(limits.units), "activation": layer.activation}, layer=layer.path,
            remedies=(
                Remedy(f"Give layer {layer.path} a sigmoid.", 'activation="sigmoid"',
                       changes.activate("sigmoid", (layer.path,))),
                Remedy("Or take the softmax along the axis whose places compete.", "db.ops.softmax(scores, axis=1)"),
            ),
        )
    return None


@rule(
    "missing_output_activation", phase="check", slack=1e-3,
    why="Probabilities lie in [0, 1], rows of them sum to 1 within rounding, and a logarithm of one is at most 0.",
)
def missing_output_activation(record: Record, limits: Any) -> Finding | None:
    """A loss of probabilities on an output that gives any number."""
    kind, activation = record.run.loss_kind, record.model.output_activation
    output = record.probes.get("output")
    if kind not in (CLASS_PROBABILITIES, YES_PROBABILITIES, LOG_PROBABILITIES) or output is None:
        return None
    if activation in ("softmax", "sigmoid", "log_softmax"):
        return None  # a wrong one is wrong_loss_for_output
    if (record.model.output_units or 1) == 1 and kind != YES_PROBABILITIES:
        return None
    outside = output.minimum < -limits.slack or output.maximum > 1 + limits.slack
    if kind == LOG_PROBABILITIES:
        outside = output.maximum > limits.slack
        bad, seen = outside, f"the output goes up to {output.maximum:.3g}, and a logarithm of a probability is at "
        "most 0"
    elif kind == CLASS_PROBABILITIES:
        bad = outside or output.sums > limits.slack
        seen = (f"outputs lie between {output.minimum:.3g} and {output.maximum:.3g} and rows are up to "
                f"{output.sums:.3g} away from a sum of 1")
    else:
        bad, seen = outside, f"outputs lie between {output.minimum:.3g} and {output.maximum:.3g}, not in 0 to 1"
    if not bad and not (activation == "linear" and kind != LOG_PROBABILITIES):
        return None
    wanted = "sigmoid" if kind == YES_PROBABILITIES else "log_softmax" if kind == LOG_PROBABILITIES else "softmax"
    logits = {YES_PROBABILITIES: "binary_crossentropy_with_logits"}.get(kind, "cross_entropy")
    return Finding(
        "missing_output_activation", "error", 0.97 if activation == "linear" else 0.9,
        f"the loss {record.run.loss} takes {kind}, and the last activation is {activation or 'not known'}: {seen} "
        f"(limit {limits.slack:g}). The logarithm of such a number means nothing. Add the {wanted}.",
        {"minimum": output.minimum, "maximum": output.maximum, "sums": output.sums, "activation": activation,
         "limit": limits.slack},
        layer=_last_layer(record),
        remedies=(
            Remedy(f"Add the {wanted}.", f'Dense({record.model.output_units}, activation="{wanted}")',
                   changes.output(wanted)),
            Remedy("Or use the loss of logits, on a linear output.", f'loss="{logits}"',
                   changes.output("linear", logits)),
        ),
    )


@rule(
    "wrong_loss_for_output", phase="check", classes=20, certain=1.0,
    why="The pairs come from the likelihood of the targets (Goodfellow et al. 2016, 6.2.2). Squared error on class "
    "probabilities works less well but is least for the true ones (Brier 1950), so it is only noted. A loss for which "
    "a sure answer costs less than the true shares (`certain` times; asked of it with one class of four) never leads "
    "to probabilities. Whole numbers of at most `classes` kinds with accuracy as a metric are taken for classes.",
)
def wrong_loss_for_output(record: Record, limits: Any) -> Finding | None:
    """Loss, last activation and kind of target that do not belong together."""
    data = data_of(record)
    labels = None if data is None else data.labels
    run, units, activation = record.run, record.model.output_units or 1, record.model.output_activation
    refused = record.probes.get("targets")
    if refused is not None and refused["code"] == "wrong_loss_for_output":
        return _mismatch(record, refused["message"], 0.95, "error", "the loss refuses these targets")
    if labels is None or refused is not None or run.loss_kind is None:
        return None
    kind = run.loss_kind
    exclusive = labels.kind == "one_hot" or (labels.kind == "classes" and units > 1)
    if kind == CLASS_PROBABILITIES and activation == "sigmoid" and units > 1:
        return _mismatch(
            record, f"{units} sigmoid outputs do not sum to 1, and {run.loss} looks at the true class's only: it is 0 "
            f"when every output is 1", 0.95, "error", "sums of rows differ from 1")
    if kind == YES_PROBABILITIES and activation == "softmax" and units > 1:
        return _mismatch(
            record, f"the {units} outputs of a softmax exclude each other, and {run.loss} takes each as a yes or no of "
            f"its own; averaged over {units} columns it is small from the start", 0.85, "warning", "softmax outputs")
    if kind in (YES_PROBABILITIES, YES_LOGITS) and labels.kind == "one_hot" and units > 2:
        return _mismatch(
            record, f"every row of the targets has exactly one 1 among {units}, and {run.loss} takes each column as a "
            f"yes or no of its own", 0.55, "note", "one class per row")
    if kind in (CLASS_LOGITS, YES_LOGITS) and activation in SQUASHING:
        reach = "between -1 and 1" if activation == "tanh" else "on one side of 0"
        return _mismatch(
            record, f"{run.loss} takes logits, which may be any number, and {activation} keeps them {reach}", 0.9,
            "warning", f"last activation {activation}")
    if kind in (CLASS_PROBABILITIES, YES_PROBABILITIES) and activation in SQUASHING:
        return _mismatch(
            record, f"{run.loss} takes probabilities, and {activation} gives none", 0.95, "error",
            f"last activation {activation}")
    sure = record.probes.get("certain")
    improper = sure is not None and sure < limits.certain
    if kind == NUMBERS and improper and (exclusive or labels.classes == 2) and activation in (
        "softmax", "sigmoid", "linear"
    ) and not (units == 1 and activation == "softmax"):
        return _mismatch(
            record, f"the targets are classes, and where one row of four is of a class {run.loss} is {sure:.2g} times "
            f"as large for saying never as for saying one of four (limit {limits.certain:g}): it asks for sure "
            f"answers, not for shares, and where the model is very wrong its gradient is near 0", 0.8, "warning",
            f"{labels.classes} classes", improper=True, shares=activation == "softmax" or units == 1)
    if kind == NUMBERS and exclusive and activation in ("softmax", "sigmoid", "linear"):
        return _mismatch(
            record, f"the targets are classes and {run.loss} measures a distance: where the model is very wrong its "
            f"gradient is near 0" if activation != "linear" else
            f"the targets are classes and {run.loss} measures a distance to 0 and 1", 0.5, "note",
            f"{labels.classes} classes")
    accuracy = any("accuracy" in m or "auc" in m for m in run.metrics)
    if kind == NUMBERS and labels.few and labels.shape in ((), (1,)) and labels.classes <= limits.classes:
        binary = labels.classes == 2
        if binary and activation == "softmax":
            return None
        if binary or accuracy:
            return _mismatch(
                record, f"the targets are {labels.classes} whole numbers, such as classes, and {run.loss} takes them "
                "as "
                f"amounts" + (": class 2 would be twice class 1" if not binary else ""),
                0.85 if accuracy and not binary else 0.5, "warning" if accuracy and not binary else "note",
                f"{labels.classes} different targets, limit {int(limits.classes)}")
    if kind == MARGINS and activation in ("sigmoid", "softmax"):
        return _mismatch(
            record, f"{run.loss} wants outputs beyond -1 and 1, and {activation} gives 0 to 1", 0.9, "warning",
            "outputs between 0 and 1")
    return None


def _mismatch(record: Record, what: str, sure: float, severity: Any, seen: str, **more: bool) -> Finding:
    activation, loss = _pair(record)
    return Finding(
        "wrong_loss_for_output", severity, sure,
        f"{what} ({seen}; {record.model.output_units} outputs, last activation {record.model.output_activation}). "
        f"Use {activation} with {loss}.",
        {"loss": record.run.loss, "activation": record.model.output_activation, "units": record.model.output_units,
         "task": record.run.task, **more},
        layer=_last_layer(record), remedies=(_swap(record, "Use the pair that belongs to these targets."),),
    )


@rule(
    "initial_loss_off_chance", phase="check", above=5.0, slightly=2.5, below=0.5, far=20.0,
    why="RULES names 0.8 to 2; good initializers with small batches reach 3.5 for few classes and inputs off the "
    "center, so up to `above` it is "
    "only noted. For numbers a spread of 1 in the outputs alone gives 2, and deep narrow stacks reach 15, so `far` is "
    "the limit there. `below` chance is a trained model, or a loss that is no mean.",
    causes=(
        "input_not_normalized", "target_not_normalized", "bad_init_scale", "unstable_activation_scale", "bad_bias_init",
        "loss_reduction_sum", "double_softmax", "missing_output_activation", "wrong_loss_for_output", "nan_in_data",
        "nan_in_layer",
        "target_out_of_range",
    ),
)
def initial_loss_off_chance(record: Record, limits: Any) -> Finding | None:
    """A first loss far from that of guessing."""
    loss, chance = record.probes.get("loss"), record.run.chance
    if loss is None or not chance or not math.isfinite(chance):
        return None
    if not math.isfinite(loss.first):
        return Finding(
            "initial_loss_off_chance", "error", 0.95,
            f"the first loss is {loss.first} (guessing gives {chance:.3g}). Nothing can be learned from it. Look at "
            f"the last activation and the inputs.",
            {"first": str(loss.first), "chance": chance, "limit": limits.above}, layer=_last_layer(record),
        )
    ratio = loss.first / chance
    numbers = record.run.task == "regression"
    high = limits.far if numbers else limits.above
    if limits.below <= ratio <= (high if numbers else limits.slightly):
        return None
    strong = ratio > high
    why = (
        "an untrained model should not be this sure of wrong answers" if ratio > 1 else
        "an untrained model cannot know: it was trained before, or the loss is no mean"
    )
    return Finding(
        "initial_loss_off_chance", "warning" if strong else "note", 0.8 if strong else 0.5,
        f"the first loss is {loss.first:.4g}, {ratio:.3g} times that of guessing ({chance:.4g}; limits "
        f"{limits.below:g} and {high:g}): {why}. Start the last layer small.",
        {"first": loss.first, "chance": chance, "ratio": ratio, "limit": high, "limit_below": limits.below,
         "rows": loss.rows},
        layer=_last_layer(record),
        remedies=(
            Remedy("Start the last layer small.",
                   f'Dense({record.model.output_units}, kernel_initializer=db.initializers.normal(stddev=0.01))',
                   changes.last_layer(kernel_initializer={"name": "normal", "mean": 0.0, "stddev": 0.01},
                                      bias_initializer="zeros")),
            Remedy("Scale the inputs.", "x = db.data.ZScore().fit(x).transform(x)", changes.scale_inputs()),
        ),
    )


@rule(
    "loss_reduction_sum", phase="check", ratio=1.8,
    why="A mean gives the same for a batch and for the batch twice; a sum gives twice as much.",
    causes=("batch_leak",),
)
def loss_reduction_sum(record: Record, limits: Any) -> Finding | None:
    """A loss that grows with the batch."""
    loss = record.probes.get("loss")
    if loss is None or not loss.first or not math.isfinite(loss.first) or not math.isfinite(loss.doubled):
        return None
    ratio = loss.doubled / loss.first
    if ratio < limits.ratio:
        return None
    return Finding(
        "loss_reduction_sum", "error" if loss.rows >= 8 else "warning", 0.95,
        f"the loss of {loss.rows} rows is {loss.first:.4g} and of the same rows twice {loss.doubled:.4g}: {ratio:.2f} "
        f"times (limit {limits.ratio:g}). It is a sum, so gradients grow with the batch and every rate is wrong for "
        f"another batch size. Take the mean.",
        {"first": loss.first, "doubled": loss.doubled, "ratio": ratio, "limit": limits.ratio, "rows": loss.rows},
        remedies=(
            Remedy("Return losses per sample, or their mean.", "return db.ops.mean((y_pred - y_true) ** 2)"),
            _divided(record),
        ),
    )
