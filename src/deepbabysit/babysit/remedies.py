"""Remedies that several rules offer: words, the line of code, and the change of a Setup say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepbabysit.babysit import changes
from deepbabysit.babysit.changes import Change
from deepbabysit.babysit.finding import Remedy
from deepbabysit.babysit.rules.signals import clipped
from deepbabysit.babysit.vitals import Record

if TYPE_CHECKING:
    from deepbabysit.babysit.setup import Setup

DROPOUT, DECAY, PATIENCE = 0.3, 0.01, 5


def short(value: float) -> float:
    """Return a number with one digit that counts, as it is said.

    >>> short(0.00123), short(0.04)
    (0.001, 0.04)
    """
    return float(f"{value:.1g}")


def slower(record: Record, factor: float = 10.0) -> Remedy:
    """Lower the learning rate."""
    rate = record.run.rate
    if not rate:
        return Remedy("lower the learning rate ten times")
    value = short(rate / factor)
    name = record.run.optimizer or "Adam"
    return Remedy(
        f"lower the learning rate from {rate:.3g} to {value:g}", f"model.compile(db.optimizers.{name}({value:g}), ...)",
        changes.rate(value),
    )


def clipping(record: Record) -> Remedy:
    """Clip the norm of the gradients."""
    rate, name = record.run.rate, record.run.optimizer or "Adam"
    return Remedy(
        "clip the norm of the gradients at 1.0",
        f"model.compile(db.optimizers.{name}({rate:.3g}, clip_norm=1.0), ...)" if rate else "", changes.clip(1.0),
    )


def cooler(record: Record) -> tuple[Remedy, ...]:
    """Make a run that blows up calmer."""
    return (slower(record),) if clipped(record.run) else (slower(record), clipping(record))


def faster(record: Record, factor: float = 10.0) -> tuple[Remedy, ...]:
    """Make a run that crawls faster."""
    rate, name = record.run.rate, record.run.optimizer or "Adam"
    raised = Remedy("raise the learning rate ten times")
    if rate:
        value = short(rate * factor)
        raised = Remedy(
            f"raise the learning rate from {rate:.3g} to {value:g}",
            f"model.compile(db.optimizers.{name}({value:g}), ...)", changes.rate(value),
        )
    return (raised,) if name.startswith("Adam") else (raised, adam())


def set_rate(value: float) -> Remedy:
    """Take the rate that a range test gave."""
    value = float(f"{value:.2g}")
    return Remedy(f"Use {value:g}.", f"model.optimizer.learning_rate = {value:g}", changes.rate(value))


def adam() -> Remedy:
    """Take Adam with its usual rate."""
    return Remedy("use Adam with 1e-3", "model.compile(db.optimizers.Adam(1e-3), ...)", changes.optimizer("adam", 1e-3))


def decay() -> Remedy:
    """Decouple a weight decay."""
    return Remedy(
        "use weight decay", f"db.optimizers.AdamW(1e-3, weight_decay={DECAY:g})",
        changes.optimizer("adamw", 1e-3, weight_decay=DECAY),
    )


def dropout() -> Remedy:
    """Put dropout between the hidden layers."""
    return Remedy(
        f"use Dropout({DROPOUT:g}) between the hidden layers", f"db.layers.Dropout({DROPOUT:g})",
        changes.add_dropout(DROPOUT),
    )


def early_stop() -> Remedy:
    """Stop at the best epoch."""
    return Remedy(
        "stop when the validation loss no longer falls, and keep the best weights",
        f'callbacks=[db.callbacks.EarlyStopping("val_loss", patience={PATIENCE})]', changes.fields(patience=PATIENCE),
    )


def batches(size: int) -> Remedy:
    """Take batches of another size."""
    return Remedy(f"take batches of {size}", f"model.fit(..., batch_size={size})", changes.fields(batch_size=size))


def weaker_penalty(kind: str, value: float, factor: float = 0.01) -> Remedy:
    """Weaken the L1 or L2 penalty."""
    less = value * factor
    return Remedy(
        f"lower lambda of the {kind} penalty from {value:g} to {less:g}",
        f"kernel_regularizer=db.regularizers.{kind.lower()}({less:g})", changes.penalty(factor),
    )


def weigh_classes(code: str = 'model.fit(..., class_weight={c: n_rows / (n_classes * count[c])})') -> Remedy:
    """Weigh the classes."""
    return Remedy("Weigh the classes by their rarity.", code, changes.fields(class_weight="balanced"))


def batch_norm(words: str = "put BatchNorm between the layers") -> Remedy:
    """Normalize between the layers."""
    return Remedy(words, "db.layers.BatchNorm(momentum=0.9)", changes.normalize_layers(0.9))


def rectify() -> Remedy:
    """Use ReLU with its initial weights."""
    return Remedy(
        "use ReLU with he_normal initial weights in the hidden layers",
        'db.layers.Dense(units, activation="relu", kernel_initializer="he_normal")',
        changes.both(changes.activate("relu", initializer="he_normal"), changes.initialize("he_normal")),
    )


def initial(name: str, layer: str | None = None, words: str = "") -> Remedy:
    """Draw a layer's weights (or those of all hidden ones) with an initializer."""
    return Remedy(
        words or f"start from {name} weights and zero biases", f'kernel_initializer="{name}"',
        changes.initialize(name, None if layer is None else (layer,)),
    )


def standardize(number: int = 0) -> Remedy:
    """Scale an input feature by feature."""
    return Remedy(
        "Scale every feature with statistics of the training rows, and the other parts with the same ones.",
        "scale = db.data.ZScore().fit(x_train); x_train, x_val = scale.transform(x_train), scale.transform(x_val)",
        changes.scale_inputs("zscore", number),
    )


def standardize_target() -> Remedy:
    """Scale the target."""
    return Remedy(
        "Scale the target with training statistics, and undo it in predictions.",
        "scale = db.data.ZScore().fit(y_train); y_train = scale.transform(y_train)  "
        "# scale.inverse(model.predict(x))", changes.targets("zscore"),
    )


def split_again() -> Remedy:
    """Put both parts together, leave copies out, and split at random."""
    return Remedy(
        "Split again, without copies, shuffled and stratified.",
        "_, keep = numpy.unique(x, axis=0, return_index=True)\n"
        "train, val = db.data.split(x[keep], y[keep], (0.8, 0.2))",
        changes.clean("resplit", fraction=0.2),
    )


def longer(epochs: int) -> Remedy:
    """Train so many epochs, with the patience that a longer run wants."""

    def change(setup: Setup) -> Setup:
        patience = None if setup.patience is None else max(2 * setup.patience, 10)
        return setup.with_(epochs=max(epochs, setup.epochs + 1), patience=patience)

    return Remedy(f"train {epochs} epochs or more", f"model.fit(..., epochs={epochs})", change)


def wider(factor: float = 2.0) -> Remedy:
    """Give the hidden layers more units."""
    return Remedy(
        "Make the hidden layers wider, or add one.", 'Dense(64, activation="relu")',
        _wider_or_deeper(factor),
    )


def _wider_or_deeper(factor: float) -> Change:
    wide, deep = changes.widen(factor), changes.deepen(64)

    def change(setup: Setup) -> Setup:
        try:
            return wide(setup)
        except ValueError:  # there is no hidden layer
            return deep(setup)

    return change
