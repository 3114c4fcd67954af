"""What vitals mean: rules, one file per family. `load` imports them all."""

from __future__ import annotations

import importlib

FAMILIES = (
    "data", "values", "labels", "splits", "outputs", "initialization", "structure", "rates",
    "numbers", "gradients", "updates", "curves", "heart", "classes", "regularization", "capacity", "loops",
)  # fmt: skip
_loaded: list[str] = []


def load() -> None:
    """Import every family, so that `rule.RULES` is complete."""
    for name in FAMILIES:
        if name not in _loaded:
            importlib.import_module(f"deepbabysit.babysit.rules.{name}")
            _loaded.append(name)
