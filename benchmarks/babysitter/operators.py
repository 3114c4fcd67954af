"""Operators: what goes wrong with a program, or only looks so, as a delta of its recipe. Each draw has its own.

An operator takes a recipe and a generator and returns a delta (entries that replace those of the recipe, ``data`` entry
by entry), or None where it does not apply. `codes` are the labels: the names that are right for this fault. Look-alikes
are operators without a code, of healthy programs that look like something is wrong: every one of the rule book's list,
and a few more. A warning or an error in such a run is a false alarm. An operator belongs to its module's draw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.babysitter.draws import draw_of
from benchmarks.babysitter.recipes import Recipe, layer
from benchmarks.babysitter.sources import IMAGES, TOKENS

Delta = dict[str, Any]
Make = Callable[[Recipe, np.random.Generator], Delta | None]


@dataclass(frozen=True, slots=True)
class Operator:
    """One way to go wrong (`codes` name it), or one that only looks so (`codes` empty).

    `copies`: variants for each program; `wanted`: how many cases are drawn of all programs, instead. `lost`: rows,
    columns or labels are gone, and nothing that is done to the program brings them back.
    """

    name: str
    pool: str
    codes: tuple[str, ...]
    make: Make
    copies: int = 1
    wanted: int | None = None
    lost: bool = False


OPERATORS: list[Operator] = []
LOOKALIKES: list[Operator] = []


def operator(*codes: str, copies: int = 1, wanted: int | None = None, lost: bool = False) -> Callable[[Make], Make]:
    """Register a fault operator under its function's name; the first code is the one that is claimed.

    `copies`: so many variants for each program, where few programs can have the fault; `wanted`: so many cases, spread
    over the programs that can have it; `lost`: no repair can undo it.
    """

    def register(make: Make) -> Make:
        OPERATORS.append(Operator(_named(make), draw_of(make.__module__), codes, make, copies, wanted, lost))
        return make

    return register


def lookalike(wanted: int | None = None) -> Callable[[Make], Make]:
    """Register a healthy variant under its function's name; `wanted` as for operators."""

    def register(make: Make) -> Make:
        LOOKALIKES.append(Operator(_named(make), draw_of(make.__module__), (), make, 1, wanted))
        return make

    return register


def _named(make: Make) -> str:
    return getattr(make, "__name__", "").removeprefix("_")


def apply(recipe: Recipe, delta: Mapping[str, Any]) -> Recipe:
    """Return the recipe with a delta."""
    made = deepcopy(dict(recipe))
    for key, value in delta.items():
        made[key] = {**made[key], **value} if key == "data" else value
    return made


def changes(recipe: Recipe, delta: Mapping[str, Any]) -> bool:
    """Tell whether a delta changes anything."""
    data = delta.get("data", {})
    return any(recipe["data"].get(key, delta) != value for key, value in data.items()) or any(
        recipe.get(key, delta) != value for key, value in delta.items() if key != "data")


def pick(rng: np.random.Generator, *values: Any) -> Any:
    """Return one of the values."""
    return values[int(rng.integers(len(values)))]


def layers(recipe: Recipe) -> list[dict[str, Any]]:
    """Return a copy of the layers that may be changed."""
    return deepcopy(recipe["layers"])


def hidden(stack: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers with an activation before the last."""
    return [la for la in stack[:-1] if la["class"] in ("Dense", "Conv2D", "Conv1D")]


def each(recipe: Recipe, **config: Any) -> Delta:
    """Return a delta that changes all hidden layers."""
    stack = layers(recipe)
    for la in hidden(stack):
        la["config"].update(config)
    return {"layers": stack}


def final(recipe: Recipe, loss: str | None = None, **config: Any) -> Delta:
    """Return a delta that changes the output layer, and the loss where one is given."""
    stack = layers(recipe)
    stack[-1]["config"].update(config)
    return {"layers": stack, **({} if loss is None else {"loss": loss})}


def spoil(kind: str, when: str = "scaled", **settings: Any) -> Delta:
    """Return a delta that spoils the data."""
    return {"data": {"spoil": [{"kind": kind, "when": when, **settings}]}}


def is_table(recipe: Recipe) -> bool:
    """Tell whether the inputs are columns of a table."""
    return recipe["data"]["source"] not in IMAGES and not is_tokens(recipe)


def is_tokens(recipe: Recipe) -> bool:
    """Tell whether the inputs are numbers of signs."""
    return recipe["data"]["source"] in TOKENS


def dropped(recipe: Recipe, rate: float) -> Delta:
    """Return a delta with a dropout behind each hidden layer."""
    stack = []
    for la in layers(recipe)[:-1]:
        stack.append(la)
        if la["class"] == "Dense":
            stack.append(layer("Dropout", rate=rate))
    return {"layers": [*stack, layers(recipe)[-1]]}


def only_dense(r: Recipe) -> bool:
    """Tell whether all layers are dense."""
    return all(la["class"] == "Dense" for la in r["layers"])


def fine_tuned(r: Recipe) -> dict[str, Any]:
    """Return the training that comes before a fine-tuning."""
    return {"epochs": r["epochs"], "optimizer": r["optimizer"]}


def planned_steps(r: Recipe) -> int:
    """Return how many steps a program takes, about."""
    return max(1, r["data"]["rows"] // r["batch_size"]) * r["epochs"]
