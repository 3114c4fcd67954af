"""Edits of a setup that the recipe tries: without any regularization, with exactly this much of it."""

from __future__ import annotations

from deepbabysit import regularizers
from deepbabysit.babysit.blueprint import Blueprint
from deepbabysit.babysit.changes import Change, edited
from deepbabysit.babysit.setup import Setup
from deepbabysit.layers.basic import Dropout


def unregularized(setup: Setup) -> Setup:
    """Return the setup without dropout, penalties, weight decay and early stopping."""

    def edit(plan: Blueprint) -> None:
        for place in reversed(plan.layers()):
            if place.kind == "Dropout":
                plan.remove(place.path)
        for place in plan.layers():
            for name in place.config:
                if name.endswith("_regularizer"):
                    place.config[name] = None

    bare = setup.with_(patience=None)
    if bare.optimizer.get("weight_decay"):
        bare = bare.with_(optimizer={**bare.optimizer, "weight_decay": 0.0})
    return bare if bare.locked else bare.edit(edit)


def dropout(share: float) -> Change:
    """Give every dropout this rate; where there is none, put one behind every hidden layer."""

    def edit(plan: Blueprint) -> None:
        known = [place for place in plan.layers() if place.kind == "Dropout"]
        for place in reversed(known):
            if share:
                plan.set(place.path, rate=share)
            else:
                plan.remove(place.path)
        hidden = [] if known or not share else plan.hidden()
        if not known and not hidden:
            raise ValueError("there is no hidden layer that dropout could stand behind")
        for place in reversed(hidden):
            plan.insert(place.path, Dropout(share))

    return edited(edit)


def l2(strength: float) -> Change:
    """Give every kernel this L2 penalty; 0 takes it away."""

    def edit(plan: Blueprint) -> None:
        for place in plan.weighted():
            place.config["kernel_regularizer"] = regularizers.l2(strength).config() if strength else None

    return edited(edit)
