"""Optimizers: one engine over flat buffers, the update rules, and schedules of the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepbabysit.errors import module_names, unknown
from deepbabysit.optimizers import schedules
from deepbabysit.optimizers.optimizer import Optimizer
from deepbabysit.optimizers.rules import SGD, Adadelta, Adagrad, Adam, AdamW, Lion, NAdam, RMSprop

NAMES: dict[str, type[Optimizer]] = {
    kind.name: kind for kind in (SGD, Adagrad, RMSprop, Adadelta, Adam, AdamW, NAdam, Lion)
}

__all__ = [
    "NAMES", "SGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "Optimizer", "RMSprop", "get", "schedules"
]


def get(optimizer: Any, **settings: Any) -> Optimizer:
    """Return an optimizer.

    Arguments:
        optimizer: an Optimizer, one of the classes, a name, or what `config` returned.
        settings: arguments of a name or a class.

    Raises:
        ValueError: the name is unknown.
        TypeError: it is nothing of that kind.

    >>> from deepbabysit import optimizers
    >>> optimizers.get("adam", learning_rate=0.01).learning_rate
    0.01
    """
    if isinstance(optimizer, Optimizer):
        if settings:
            raise TypeError(f"settings {sorted(settings)} go with the name of an optimizer; this one is already made")
        return optimizer
    if isinstance(optimizer, Mapping):
        plain = {**optimizer, **settings}
        if not isinstance(plain.get("name"), str):
            raise TypeError(f"the description of an optimizer needs its name; got {dict(optimizer)!r}")
        return get(plain.pop("name"), **plain)
    if isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and optimizer is not Optimizer:
        return optimizer(**settings)
    if isinstance(optimizer, str):
        kind = NAMES.get(optimizer.lower())
        if kind is None:
            raise ValueError(unknown("optimizer", optimizer, NAMES))
        return kind(**settings)
    raise TypeError(f"an optimizer is a name such as 'adam', or db.optimizers.Adam(1e-3); got {optimizer!r}")


__getattr__ = module_names("db.optimizers", "optimizer", __all__)
