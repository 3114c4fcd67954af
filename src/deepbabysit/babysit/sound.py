"""A sound setup: what is right for most data and networks, made of the setup as it stands and of what the data say.

It is what repair tries where the findings' own remedies do not help. Every part keeps what is sound already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from deepbabysit import losses
from deepbabysit.babysit import changes
from deepbabysit.babysit.blueprint import ORIGIN, Blueprint, Place
from deepbabysit.babysit.changes import NORMS, Change
from deepbabysit.babysit.facts import LabelFacts, label_facts
from deepbabysit.babysit.preparation import as_tuple
from deepbabysit.babysit.task import (
    CLASS_LOGITS,
    CLASS_PROBABILITIES,
    LOG_PROBABILITIES,
    MARGINS,
    NUMBERS,
    OWN,
    YES_LOGITS,
    YES_PROBABILITIES,
    takes,
)
from deepbabysit.layers.basic import Flatten
from deepbabysit.layers.dense import Dense

if TYPE_CHECKING:
    from deepbabysit.babysit.setup import Setup

RATE = 3e-3  # of Adam, falling along a cosine: a rate too high at first does no harm at the end
STEPS, LONGEST = 2000, 200  # a network needs about so many steps; and never more epochs than that (or as planned)
SMALLEST, LARGEST, USUAL_BATCH = 16, 64, 32
DROPOUT = 0.1  # what is left of more
NARROW, WIDTH = 16, 32  # hidden layers of fewer units get so many
FEW_FILTERS, FILTERS = 4, 8
DEEP = 3  # hidden layers up to which tanh is as good as ReLU
BODY, BODY_LAYERS = 64, 2  # hidden layers that take the place of others
SIDE = 3  # places along each axis that a filter sees which saw one
SOFT_LIMIT = 10.0  # standard deviations from the mean beyond which a column has heavy tails
SKEWED = 2.0  # skewness of targets whose logarithm is fitted
SHARED = 30  # columns of one scale, such as pixels, that are scaled together from so many on
UNKNOWN = 0.2  # share of rows with a negative class that are taken for rows without a label
CODES = 50  # classes that numbers may stand for
ROWS_EACH = 5.0  # rows a class must have in the mean for numbers to be codes
RECURRENT = ("LSTM", "GRU", "SimpleRNN")
BY_ROW = ("LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
FRONT = ("Conv1D", "Conv2D", "Embedding", "MaxPool2D", "AvgPool2D", *RECURRENT)


def sound(setup: Setup, x: Any, y: Any) -> Change:
    """Return the change to a sound setup: data, output and loss, layers, initial weights, optimizer, batch, epochs."""
    parts = [*scaled_inputs(setup, x), *fitting_output(setup, y), *scaled_targets(setup, y),
             changes.edited(lambda plan: _sound_layers(plan, setup.frozen)), trained(setup, len(np.asarray(y)))]
    return changes.both(*parts)


def sound_body(setup: Setup, x: Any, y: Any) -> Change:
    """Return the change to a sound setup with `BODY_LAYERS` usual hidden layers in the place of those that are."""
    return changes.both(sound(setup, x, y), changes.edited(_usual_body))


# -- data --------------------------------------------------------------------------------------------------------------


def scaled_inputs(setup: Setup, x: Any) -> list[Change]:
    """Return changes that standardize inputs; columns with heavy tails are spread like a normal distribution."""
    return [changes.scale_inputs(**_scaling(array), number=number) for number, array in _amounts(setup, x)]


def tailed(setup: Setup, x: Any) -> bool:
    """Tell whether an input has columns with heavy tails, such as amounts of money."""
    return any(_scaling(array)["step"] == "normal" for _, array in _amounts(setup, x))


def _amounts(setup: Setup, x: Any) -> list[tuple[int, np.ndarray]]:
    """Return the inputs that hold amounts, with their numbers; not those that an Embedding may read."""
    arrays, kinds = as_tuple(x), "fiu"
    if any(place.kind == "Embedding" for place in Blueprint(setup.model).layers()):
        kinds = "f" if len(arrays) > 1 else ""
    return [(number, array) for number, array in enumerate(arrays) if array.dtype.kind in kinds]


def _scaling(array: np.ndarray) -> dict[str, Any]:
    values = array[:: max(1, len(array) // 2000)].astype(np.float64)
    values = values[np.isfinite(values.reshape(len(values), -1)).all(axis=1)]
    if array.ndim != 2 or not len(values):
        return {"step": "zscore"}
    low, high = values.min(axis=0), values.max(axis=0)
    if array.shape[1] >= SHARED and low.min() >= 0 and high.max() <= 3.0 * max(float(np.median(high)), 1e-12):
        return {"step": "zscore", "axis": None}
    std = values.std(axis=0)
    far = np.abs(values - np.median(values, axis=0)).max(axis=0) > SOFT_LIMIT * np.maximum(std, 1e-300)
    many = np.array([len(np.unique(c)) > 20 for c in values.T])
    heavy = _kurtosis(values) > SOFT_LIMIT
    return {"step": "normal"} if bool(((far | heavy) & many).any()) else {"step": "zscore"}


def _kurtosis(values: np.ndarray) -> np.ndarray:
    """Return the fourth moment of each column, standardized: 3 for a normal distribution."""
    centered = values - values.mean(axis=0)
    spread = (centered**2).mean(axis=0) ** 2
    found: np.ndarray = (centered**4).mean(axis=0) / np.where(spread > 0.0, spread, 1.0)
    return found


def scaled_targets(setup: Setup, y: Any) -> list[Change]:
    """Return changes that scale targets that are amounts; those of skewed amounts take their logarithm first."""
    labels = _labels(setup, y)
    if labels is None or encoded_again(y) or _task(setup, labels) != NUMBERS:
        return []
    return [*([changes.targets("log")] if skewed(y) else []), changes.targets("zscore")]


def skewed(y: Any) -> bool:
    """Tell whether targets are positive amounts with a long tail, whose logarithm has none.

    >>> skewed(np.exp(np.linspace(0.0, 9.0, 50))), skewed(np.linspace(1.0, 9.0, 50))
    (True, False)
    """
    values = np.asarray(y)
    if values.dtype.kind not in "fiu" or not len(values):
        return False
    values = values[np.isfinite(values)].astype(np.float64).reshape(-1)
    if not len(values) or values.min() <= 0.0:
        return False
    return abs(_skewness(values)) > SKEWED and abs(_skewness(np.log(values))) < 0.5 * abs(_skewness(values))


def _skewness(values: np.ndarray) -> float:
    centered = values - values.mean()
    return float((centered**3).mean() / max(float((centered**2).mean()) ** 1.5, 1e-300))


# -- output ------------------------------------------------------------------------------------------------------------


def _labels(setup: Setup, y: Any) -> LabelFacts | None:
    values = np.asarray(y)
    return label_facts(values) if values.dtype.kind in "fiub" and len(values) else None


def _task(setup: Setup, labels: LabelFacts) -> str:
    """Return what the output should give: numbers, class probabilities, yes-or-no probabilities; or OWN: leave it."""
    kind = _taken(setup)
    if kind == OWN:
        return OWN
    if labels.kind in ("one_hot", "multilabel"):
        return CLASS_PROBABILITIES if labels.kind == "one_hot" else YES_PROBABILITIES
    amounts = labels.kind == "numbers" and not labels.few
    if amounts and not (kind in (YES_LOGITS, YES_PROBABILITIES) and labels.minimum >= 0.0 and labels.maximum <= 1.0):
        return NUMBERS
    if kind == NUMBERS and labels.kind == "classes" and labels.classes == 2 and labels.maximum - labels.minimum == 1:
        return YES_PROBABILITIES
    if kind in (CLASS_LOGITS, LOG_PROBABILITIES, CLASS_PROBABILITIES):
        return CLASS_PROBABILITIES
    if kind in (YES_LOGITS, YES_PROBABILITIES, MARGINS):
        return YES_PROBABILITIES
    return kind


def _taken(setup: Setup) -> str:
    """Return what the loss takes from the output."""
    return OWN if setup.loss is None else takes(losses.from_config(setup.loss, setup.source.objects))


def fitting_output(setup: Setup, y: Any) -> list[Change]:
    """Return changes that make labels, output and loss fit each other, as the targets say."""
    if setup.locked:
        return []
    if encoded_again(y):
        once = np.asarray(y).argmax(axis=-1)
        return [*fitting_output(setup, once), changes.targets("numbers")]  # comes before what is done to the targets
    labels = _labels(setup, y)
    if labels is None:
        return []
    task, found = _task(setup, labels), [changes.edited(flat)]
    if task == NUMBERS:
        loss = None if _taken(setup) == NUMBERS else "mse"
        return [*found, changes.output("linear", loss, labels.shape[0] if labels.shape else 1),
                *([changes.targets("column")] if not labels.shape else [])]
    if task == OWN:
        return found
    found += recoded(setup, y)
    if task == YES_PROBABILITIES:
        return [*found, changes.output("sigmoid", "binary_crossentropy", labels.shape[0] if labels.shape else 1),
                *([changes.targets("column")] if not labels.shape else [])]
    columns = labels.shape[-1] if labels.kind == "one_hot" else None
    name = "sparse_categorical_crossentropy" if columns is None else "categorical_crossentropy"
    return [*found, changes.output("softmax", name, columns)]


def encoded_again(y: Any) -> bool:
    """Tell whether one-hot labels were encoded once more: each 0 and 1 of them as a pair.

    >>> encoded_again(np.eye(2)[np.eye(3, dtype=int)]), encoded_again(np.eye(3))
    (True, False)
    """
    values = np.asarray(y)
    if values.ndim != 3 or values.shape[-1] != 2 or values.dtype.kind not in "fiub" or not values.size:
        return False
    once = values.argmax(axis=-1)
    return bool(((values == 0) | (values == 1)).all() and (values.sum(axis=-1) == 1).all() and (
        once.sum(axis=-1) == 1).all())


def recoded(setup: Setup, y: Any) -> list[Change]:
    """Return changes that number the classes from 0 on, where their codes are others; rows without a class go."""
    values = np.asarray(y)
    labels = _labels(setup, y)
    if labels is None or labels.kind == "one_hot" or (labels.shape not in ((), (1,))):
        return []
    levels, counts = np.unique(values, return_counts=True)
    found: list[Change] = []
    if len(levels) > 2 and levels[0] < 0 and counts[levels < 0].sum() <= UNKNOWN * len(values):
        found.append(changes.clean("labelled"))
        levels = levels[levels >= 0]
    units = _units(setup)
    if 1 < len(levels) <= CODES and not np.array_equal(levels, np.arange(len(levels))) and (
        levels[0] < 0 or levels[-1] >= max(units or 2, 2) or not np.array_equal(levels, np.round(levels))
    ):
        found.append(changes.targets("codes", values=[v.item() for v in levels]))
        if units and units > 1 and units < len(levels):
            found.append(changes.output(units=len(levels)))
    return found


def _units(setup: Setup) -> int | None:
    units = Blueprint(setup.model).last().config.get("units")
    return units if isinstance(units, int) else None


def as_classes(setup: Setup, y: Any) -> Change | None:
    """Return the change that takes whole numbers for classes: one output for each; None where they cannot be."""
    values = np.asarray(y)
    labels = _labels(setup, y)
    if labels is None or setup.locked or values.dtype.kind not in "iu" or labels.shape not in ((), (1,)):
        return None
    levels = np.unique(values)
    if not 2 < len(levels) <= min(CODES, len(values) / ROWS_EACH) or _task(setup, labels) != NUMBERS and (
        _units(setup) != 1
    ):
        return None
    parts: list[Change] = [changes.output("softmax", "sparse_categorical_crossentropy", len(levels))]
    if not np.array_equal(levels, np.arange(len(levels))):
        parts.append(changes.targets("codes", values=[int(v) for v in levels]))
    return changes.both(changes.without_targets(), *parts)


def flat(plan: Blueprint) -> None:
    """Give the last layers one row for each sample: a forgotten Flatten, whole sequences instead of the last state."""
    places, last = plan.layers(), plan.last()
    if last.kind != "Dense":
        return
    front = [p for p in places if p.kind in FRONT and p.index < last.index and p.owner is last.owner]
    if not front and (last.owner is not plan.config or len(_shape_of(plan.config)) < 2):
        return
    start = front[-1].index if front else -1
    behind = [p for p in places if p.owner is last.owner and start < p.index <= last.index]
    if any(p.kind in ("Flatten", "Reshape") or p.kind.startswith("Global") for p in behind):
        return
    if front and front[-1].kind in RECURRENT:
        if front[-1].config.get("return_sequences"):
            plan.set(front[-1].path, return_sequences=False)
        return
    first = next(p for p in behind if p.kind == "Dense")
    plan.insert(first.path, Flatten(), before=True)


def _shape_of(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the shape of the input of a stack; empty where it is not known."""
    found = config.get("input_shape") if config["kind"] == "sequential" else None
    return tuple(found) if isinstance(found, list | tuple) else ()


# -- layers ------------------------------------------------------------------------------------------------------------


def _sound_layers(plan: Blueprint, frozen: Collection[str] = ()) -> None:
    """Ease what regularizes, let every hidden layer bend and be wide enough, and draw its weights as it needs.

    Layers with frozen weights stay as they are.
    """
    _ease(plan)

    def free(place: Place) -> bool:
        return f"{place.text.get(ORIGIN)}.kernel" not in frozen

    hidden = plan.hidden()
    deep = len(hidden) > DEEP
    for number, place in enumerate(hidden):
        if not free(place):
            continue
        bends = place.kind in RECURRENT or _bends(plan, place, plan.weighted()[number + 1])
        now = place.config.get("activation")
        if "activation" in place.config and place.kind not in RECURRENT and (
            not bends or now == "sigmoid" or (deep and now == "tanh")
        ):
            place.config["activation"] = "relu"
        for name, few, enough in (("units", NARROW, WIDTH), ("filters", FEW_FILTERS, FILTERS)):
            if isinstance(place.config.get(name), int) and place.config[name] < few:
                plan.set(place.path, **{name: enough})
    for place in plan.layers():
        if place.kind == "Activation" and place.config.get("activation") in ("sigmoid", "tanh") and deep and (
            place.index < plan.last().index):
            place.config["activation"] = "relu"
    for place in filter(free, plan.weighted()):
        name = changes.fitting_initializer(place)
        plain = place.kind not in RECURRENT and "bias_initializer" in place.config
        plan.set(place.path, kernel_initializer=name, **({"bias_initializer": "zeros"} if plain else {}))
        place.text.pop(ORIGIN, None)


def _ease(plan: Blueprint) -> None:
    """Take penalties out, most of the dropout, normalizations of the output, and those of inputs row by row."""
    for place in plan.layers():
        for name in place.config:
            if name.endswith("_regularizer"):
                place.config[name] = None
        if place.kind == "BatchNorm":
            place.config["momentum"] = min(place.config["momentum"], 0.9)
    first, last = plan.weighted()[0], plan.last()
    before = True
    dropped = False
    gone: list[str] = []
    for place in plan.layers():
        before = before and place.path != first.path
        behind = place.owner is last.owner and place.index > last.index
        if place.kind == "Dropout":
            place.config["rate"] = min(place.config["rate"], DROPOUT)
            gone += [place.path] if before or behind or dropped else []
            dropped = True
        elif place.weighted:
            dropped = False
        elif place.kind in NORMS and (behind or (before and place.kind in BY_ROW)):
            gone.append(place.path)  # by row the inputs lose their level, and those of one channel all they say
    for path in reversed(gone):
        plan.remove(path)


def _bends(plan: Blueprint, place: Place, following: Place) -> bool:
    """Tell whether something between a layer and the next one with a kernel is not linear."""
    if place.config.get("activation") not in (None, "linear"):
        return True
    between = [p for p in plan.layers() if p.owner is place.owner and place.index < p.index < following.index]
    return any(
        p.kind in ("LeakyReLU", "PReLU", "ELU", "ReLU", "Lambda") or (
            p.kind == "Activation" and p.config.get("activation") not in (None, "linear"))
        for p in between
    )


def _usual_body(plan: Blueprint) -> None:
    """Put usual hidden layers in the place of the dense hidden ones, or before the output where there are none.

    Filters before them see neighbours then, and places are told apart.
    """
    for place in plan.layers():
        if place.kind in ("Conv1D", "Conv2D") and _alone(place.config.get("kernel_size")):
            plan.set(place.path, kernel_size=SIDE)
            place.text.pop(ORIGIN, None)
    for place in reversed([p for p in plan.layers() if p.kind.startswith("Global")]):
        plan.insert(place.path, Flatten())
        plan.remove(place.path)
    last = plan.last()
    if last.kind != "Dense":
        raise ValueError("the last layer is not dense")
    hidden = [p for p in plan.hidden() if p.owner is last.owner]
    dense = [p for p in hidden if p.kind == "Dense"]
    after = [p for p in hidden if p.kind != "Dense" and dense and p.index > dense[0].index]
    if after:
        raise ValueError("dense layers stand before others")
    if dense:
        inside = [p for p in plan.layers() if p.owner is last.owner and dense[0].index <= p.index < last.index]
        for place in reversed(inside):
            plan.remove(place.path)
    for _ in range(BODY_LAYERS):
        plan.insert(plan.last().path, Dense(BODY, activation="relu", kernel_initializer="he_normal"), before=True)


def _alone(size: Any) -> bool:
    """Tell whether a filter sees one place and none of its neighbours."""
    return all(n == 1 for n in (size if isinstance(size, list | tuple) else (size,)))


def unusual(setup: Setup) -> bool:
    """Tell whether the dense hidden layers are narrower, more, or fewer than usual ones."""
    if setup.locked:
        return False
    dense = [p for p in Blueprint(setup.model).hidden() if p.kind == "Dense"]
    return not 0 < len(dense) <= DEEP or min(int(p.config["units"]) for p in dense) < BODY


# -- training ----------------------------------------------------------------------------------------------------------


def trained(setup: Setup, rows: int, rate: float = RATE, times: float = 1.0) -> Change:
    """Return the change to Adam with a rate that falls along a cosine, in usual batches, for enough epochs."""
    batch = setup.batch_size if SMALLEST <= setup.batch_size <= LARGEST else USUAL_BATCH
    batch = min(batch, max(rows // 4, 1))
    each = -(-rows // batch)
    enough = min(max(round(times * STEPS / each), 1), LONGEST)
    epochs = max(setup.epochs, enough)
    return changes.both(
        changes.fields(batch_size=batch, epochs=epochs, patience=max(epochs // 3, 10), shuffle=True),
        changes.optimizer("adam", rate, clip_norm=1.0, clip_value=None, ema=None), changes.cosine(epochs * each),
    )

