"""Changes of a Setup: what remedies do. Each function returns ``change(setup) -> setup``.

A change raises ValueError where the setup cannot be changed so, and where nothing would be different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepbabysit import regularizers
from deepbabysit.babysit.blueprint import Blueprint, Place
from deepbabysit.layers.basic import Dropout
from deepbabysit.layers.normalization import BatchNorm, LayerNorm
from deepbabysit.optimizers import NAMES, get, schedules
from deepbabysit.optimizers.schedules import Schedule

if TYPE_CHECKING:
    from deepbabysit.babysit.setup import Setup

Change = Callable[["Setup"], "Setup"]
Edit = Callable[[Blueprint], Any]

NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "RMSNorm")
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus")


def _checked(change: Change) -> Change:
    """Refuse a change that changes nothing."""

    def apply(setup: Setup) -> Setup:
        found = change(setup)
        if found == setup:
            raise ValueError("that is how it stands already")
        return found

    return apply


def both(*changes: Change) -> Change:
    """Return one change that makes several, one after the other; those that change nothing are passed over."""

    def change(setup: Setup) -> Setup:
        done, refused = 0, None
        for part in changes:
            try:
                setup, done = part(setup), done + 1
            except ValueError as error:
                refused = error
        if not done and refused is not None:
            raise refused
        return setup

    return change


def possible(change: Change, setup: Setup) -> bool:
    """Tell whether a change can be made and changes something."""
    try:
        return change(setup) != setup
    except ValueError:
        return False


def fields(**values: Any) -> Change:
    """Set fields of the setup: batch_size, epochs, patience, class_weight, ..."""
    return _checked(lambda setup: setup.with_(**values))


def edited(edit: Edit) -> Change:
    """Change the architecture."""
    return _checked(lambda setup: setup.edit(edit))


# -- optimizer ---------------------------------------------------------------------------------------------------------


def first_rate(optimizer: Mapping[str, Any]) -> float:
    """Return the nominal learning rate of an optimizer's description."""
    return float(get(dict(optimizer)).schedule.base)


def _scaled(value: Any, factor: float) -> Any:
    """Return a rate or the description of a schedule with every rate multiplied."""
    if isinstance(value, Mapping):
        return {
            name: _scaled(part, factor) if name in ("learning_rate", "minimum", "min_rate", "start", "after") else
            [rate * factor for rate in part] if name == "rates" else part
            for name, part in value.items()
        }
    return value * factor


def rate(value: float) -> Change:
    """Set the learning rate; a schedule keeps its form."""

    def change(setup: Setup) -> Setup:
        before = setup.optimizer["learning_rate"]
        now = first_rate(setup.optimizer)
        if now == 0.0 and isinstance(before, Mapping):
            raise ValueError("the schedule's rate is 0; give another schedule")
        after = _scaled(before, value / now) if isinstance(before, Mapping) else value
        return setup.with_(optimizer={**setup.optimizer, "learning_rate": after})

    return _checked(change)


def clip(norm: float) -> Change:
    """Clip the norm of all gradients together."""
    return _checked(lambda setup: setup.with_(optimizer={**setup.optimizer, "clip_norm": norm, "clip_value": None}))


def optimizer(name: str, learning_rate: float | None = None, **settings: Any) -> Change:
    """Take another optimizer; without a rate it keeps the one that it has, schedule included; clipping stays."""

    def change(setup: Setup) -> Setup:
        old = setup.optimizer
        same = NAMES[name].name == old["name"]
        kept: Mapping[str, Any] = old if same else {k: old.get(k) for k in ("clip_norm", "clip_value", "ema")}
        value = old["learning_rate"] if learning_rate is None else learning_rate
        made = get({**kept, "name": name, "learning_rate": value, **settings})
        return setup.with_(optimizer=made.config())

    return _checked(change)


def cosine(steps: int) -> Change:
    """Let the rate fall to 0 along a cosine over so many steps."""

    def change(setup: Setup) -> Setup:
        falling: Schedule = schedules.get("cosine", learning_rate=first_rate(setup.optimizer), steps=steps)
        return setup.with_(optimizer={**setup.optimizer, "learning_rate": falling.config()})

    return _checked(change)


# -- data --------------------------------------------------------------------------------------------------------------


def _with_step(steps: Sequence[Mapping[str, Any]], step: Mapping[str, Any], alike: Sequence[str]) -> Any:
    """Return the steps with one more; one that does the same to the same input gives way."""
    place = step.get("input", 0)
    kept = [s for s in steps if s["step"] not in alike or s.get("input", 0) != place]
    return (*kept, dict(step))


def scale_inputs(step: str = "zscore", number: int = 0, **options: Any) -> Change:
    """Scale an input: zscore, minmax, normal or divide."""
    made = {"step": step, **({"input": number} if number else {}), **options}

    def change(setup: Setup) -> Setup:
        # scaling by statistics comes last: it undoes what was done before
        return setup.with_(inputs=_with_step(setup.inputs, made, ("zscore", "minmax", "normal", "divide")))

    return _checked(change)


def before_scaling(step: str, number: int = 0, **options: Any) -> Change:
    """Drop columns or fill cells, before anything is scaled."""
    made = {"step": step, **({"input": number} if number else {}), **options}
    return _checked(lambda setup: setup if made in setup.inputs else setup.with_(inputs=(made, *setup.inputs)))


def drop_columns(columns: Sequence[int], number: int = 0) -> Change:
    """Drop columns of an input; the model's first layer then sees fewer."""

    def change(setup: Setup) -> Setup:
        if any(step["step"] == "drop_columns" for step in setup.inputs):
            raise ValueError("columns were dropped before; their numbers would no longer be right")
        model = dict(setup.model)
        gone = len(set(columns))
        if setup.locked or model["kind"] == "functional" and number >= len(model["inputs"]):
            raise ValueError(setup.locked or f"there is no input {number}")
        done = before_scaling("drop_columns", number, columns=sorted(int(c) for c in set(columns)))(setup)
        return done.edit(lambda plan: _narrow(plan, number, gone))

    return _checked(change)


def _narrow(plan: Blueprint, number: int, gone: int) -> None:
    config = plan.config
    if config["kind"] == "functional":
        shape = list(config["inputs"][number][0])
        config["inputs"][number] = [_less(shape, gone), *config["inputs"][number][1:]]
    else:
        config["input_shape"] = _less(list(config["input_shape"]), gone)
        for place in plan.layers()[:1]:
            place.config["input_shape"] = None
    for place in plan.layers()[:1]:
        place.text.pop("origin", None)  # its kernel has other rows now


def _less(shape: list[int], gone: int) -> list[int]:
    if len(shape) != 1 or shape[0] <= gone:
        raise ValueError("columns can only be dropped from a table, and one at least must stay")
    return [shape[0] - gone]


def clean(step: str, **options: Any) -> Change:
    """Clean rows: finite, unique, unseen, resplit, shift, labelled, align."""
    made = {"step": step, **options}
    return _checked(lambda setup: setup if made in setup.rows else setup.with_(rows=(*setup.rows, made)))


def targets(step: str, **options: Any) -> Change:
    """Change the targets: zscore, minmax, log, column, flat, minus, codes, numbers, one_hot."""
    made = {"step": step, **options}

    def change(setup: Setup) -> Setup:
        scaling = ("zscore", "minmax")
        if step in scaling:
            return setup.with_(targets=_with_step(setup.targets, made, scaling))
        return setup if made in setup.targets else setup.with_(targets=(made, *setup.targets))

    return _checked(change)


def without_targets() -> Change:
    """Take the targets as they come."""
    return fields(targets=())


# -- architecture ------------------------------------------------------------------------------------------------------


def _chosen(plan: Blueprint, paths: Sequence[str] | None) -> list[Place]:
    """Return the layers of these paths that have a kernel, or all hidden ones."""
    if paths is None:
        return plan.hidden()
    found = [place for place in plan.weighted() if place.path in paths]
    if not found:
        raise ValueError(f"layer {', '.join(paths)} has no kernel that could be changed")
    return found


def fitting_initializer(place: Place) -> str:
    """Return the initializer that fits a layer's activation."""
    activation = place.config.get("activation")
    if activation in RECTIFIERS or isinstance(activation, Mapping):
        return "he_normal"
    return "lecun_normal" if activation == "selu" else "glorot_uniform"


def initialize(name: str | None = None, paths: Sequence[str] | None = None, bias: Any = "zeros") -> Change:
    """Draw kernels anew with an initializer (None: what fits each activation), biases from zeros.

    Arguments:
        name: name of the initializer.
        paths: which layers; None for all hidden ones.
        bias: initializer of the biases; None leaves them.
    """

    def edit(plan: Blueprint) -> None:
        for place in _chosen(plan, paths):
            settings: dict[str, Any] = {"kernel_initializer": name or fitting_initializer(place)}
            if bias is not None and "bias_initializer" in place.config:
                settings["bias_initializer"] = bias
            place.text.pop("origin", None)
            plan.set(place.path, **settings)

    return edited(edit)


def last_layer(**settings: Any) -> Change:
    """Change arguments of the last layer with a kernel."""
    return edited(lambda plan: plan.set(plan.last().path, **settings))


def bias(path: str, initializer: Any) -> Change:
    """Draw the bias of a layer anew."""
    return edited(lambda plan: plan.set(path, bias_initializer=initializer))


def activate(name: str, paths: Sequence[str] | None = None, initializer: str | None = None) -> Change:
    """Give hidden layers an activation, and an initializer with it."""

    def edit(plan: Blueprint) -> None:
        for place in _chosen(plan, paths):
            if "activation" not in place.config:
                continue  # recurrent layers keep theirs
            plan.set(place.path, activation=name)
            if initializer is not None:
                plan.set(place.path, kernel_initializer=initializer)
        for place in plan.layers()[:-1] if paths is None else ():
            if place.kind == "Activation" and place.config["activation"] in ("sigmoid", "tanh"):
                plan.set(place.path, activation=name)

    return edited(edit)


def normalize_layers(momentum: float = 0.9) -> Change:
    """Put BatchNorm behind every hidden layer with a kernel that has none."""

    def edit(plan: Blueprint) -> None:
        if any(place.kind in NORMS for place in plan.layers()):
            raise ValueError("the model has normalization layers already")
        hidden = [place.path for place in plan.hidden()]
        if not hidden:
            raise ValueError("there is no hidden layer")
        for path in reversed(hidden):
            plan.insert(path, BatchNorm(momentum=momentum))

    return edited(edit)


def normalize_first(momentum: float = 0.9) -> Change:
    """Begin the model with BatchNorm."""

    def edit(plan: Blueprint) -> None:
        first = plan.weighted()[0]
        known = plan.layers()
        if any(place.kind in NORMS for place in known[: known.index(first)]):
            raise ValueError("the model begins with a normalization already")
        plan.insert(known[0].path, BatchNorm(momentum=momentum), before=True)

    return edited(edit)


def leaky(paths: Sequence[str] | None) -> Change:
    """Use a leaky ReLU in these layers."""

    def edit(plan: Blueprint) -> None:
        for place in _chosen(plan, _kernels(plan, paths)):
            plan.set(place.path, activation="leaky_relu", kernel_initializer="he_normal")
            if "bias_initializer" in place.config:
                plan.set(place.path, bias_initializer="zeros")

    return edited(edit)


def _kernels(plan: Blueprint, paths: Sequence[str] | None) -> list[str] | None:
    """Return the layers with a kernel that these are, or that stand just before them (for an Activation layer)."""
    if paths is None:
        return None
    found, last = [], ""
    for place in plan.layers():
        if place.weighted:
            last = place.path
        if place.path in paths and last:
            found.append(last)
    return found


def penalty(factor: float) -> Change:
    """Multiply all L1 and L2 penalties; 0 removes them."""

    def edit(plan: Blueprint) -> None:
        for place in plan.layers():
            for name in [n for n in place.config if n.endswith("_regularizer") and place.config[n] is not None]:
                known = regularizers.get(place.config[name])
                weaker = regularizers.l1_l2(known.l1 * factor, known.l2 * factor).config()
                place.config[name] = weaker if factor else None

    def change(setup: Setup) -> Setup:
        decay = setup.optimizer.get("weight_decay")
        eased = {**setup.optimizer, "weight_decay": decay * factor} if decay else setup.optimizer
        setup = setup.with_(optimizer=eased)
        return setup if setup.locked and decay else setup.edit(edit)

    return _checked(change)


def unconstrained() -> Change:
    """Take the constraints of all weights out."""

    def edit(plan: Blueprint) -> None:
        for place in plan.layers():
            for name in [n for n in place.config if n.endswith("_constraint") and place.config[n] is not None]:
                place.config[name] = None

    return edited(edit)


def dropout_at_most(most: float, path: str | None = None) -> Change:
    """Lower rates of dropout that are above a limit."""

    def edit(plan: Blueprint) -> None:
        for place in plan.layers():
            if place.kind == "Dropout" and place.config["rate"] > most and path in (None, place.path):
                place.config["rate"] = most

    return edited(edit)


def add_dropout(share: float) -> Change:
    """Put dropout behind every hidden layer; where there is some, its rate rises to this."""

    def edit(plan: Blueprint) -> None:
        known = [place for place in plan.layers() if place.kind == "Dropout"]
        for place in known:
            place.config["rate"] = max(place.config["rate"], share)
        for place in reversed([] if known else plan.hidden()):
            plan.insert(place.path, Dropout(share))

    return edited(edit)


def widen(factor: float) -> Change:
    """Multiply the units or filters of every hidden layer."""

    def edit(plan: Blueprint) -> None:
        hidden = plan.hidden()
        if not hidden:
            raise ValueError("there is no hidden layer to widen")
        for place in hidden:
            for name in ("units", "filters"):
                if isinstance(place.config.get(name), int):
                    plan.set(place.path, **{name: max(2, round(place.config[name] * factor))})

    return edited(edit)


def deepen(units: int) -> Change:
    """Put a hidden Dense layer with ReLU before the last layer."""
    from deepbabysit.layers.dense import Dense

    return edited(lambda plan: plan.insert(
        plan.last().path, Dense(units, activation="relu", kernel_initializer="he_normal"), before=True))


def output(activation: str | None = None, loss: str | None = None, units: int | None = None) -> Change:
    """Give the output an activation, the loss that goes with it, and perhaps another number of units."""

    def change(setup: Setup) -> Setup:
        if loss is not None:
            setup = setup.with_(loss={"name": loss})
        if activation is None and units is None:
            return setup

        def edit(plan: Blueprint) -> None:
            if activation is not None:
                plan.set_output_activation(activation)
            if units is not None and units != plan.last().config.get("units"):
                plan.set(plan.last().path, units=units)

        return setup.edit(edit)

    return _checked(change)


def momentum(value: float) -> Change:
    """Let the running statistics of every BatchNorm follow faster, and take no statistics of frozen ones."""

    def edit(plan: Blueprint) -> None:
        for place in plan.layers():
            if place.kind == "BatchNorm" and place.config["momentum"] != value:
                place.config["momentum"] = value

    return edited(edit)


def layer_norm(path: str) -> Change:
    """Normalize over features instead of over the batch."""

    def edit(plan: Blueprint) -> None:
        plan.insert(path, LayerNorm())
        plan.remove(path)

    return edited(edit)


def epsilon(path: str, value: float) -> Change:
    """Give a normalization another epsilon."""
    return edited(lambda plan: plan.set(path, epsilon=value))


def unbias(path: str) -> Change:
    """Leave the bias of a layer out."""
    return edited(lambda plan: plan.set(path, use_bias=False))


def dropout_last(path: str) -> Change:
    """Take out a dropout that stands before a normalization, and put one behind the last normalization."""

    def edit(plan: Blueprint) -> None:
        place = plan.find(path)
        if place.kind != "Dropout":
            raise ValueError(f"layer {path} is no dropout")
        share = place.config["rate"]
        norms = [place.path for place in plan.layers() if place.kind in NORMS]
        plan.insert(norms[-1], Dropout(share))
        plan.remove(path)

    return edited(edit)
