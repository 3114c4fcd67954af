"""Data of the cases: small tables, synthetic shapes, images; cut, scaled and spoiled as a recipe says.

The test part is always clean and scaled like clean training rows, so a score means the same for a fault and its twin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from benchmarks.babysitter import draws
from benchmarks.babysitter.raw import Raw, Source, once
from benchmarks.babysitter.spoiling import SPOIL
from deepbabysit.data.normalizers import MinMax, ZScore


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one part: inputs and targets."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run is given.

    Attributes:
        train, held: as the recipe spoils them; `test` clean.
        task: ``binary``, ``multiclass`` or ``regression``.
        classes: how many, 0 for numbers.
    """

    train: Part
    held: Part
    test: Part
    task: str
    classes: int


SOURCES: dict[str, Source] = {
    name: source for part in draws.parts("sources").values() for name, source in part.SOURCES.items()
}
POOLS = {name: draw for draw, part in draws.parts("sources").items() for name in part.SOURCES}
IMAGES = {name: source.brightest for name, source in SOURCES.items() if source.brightest}
TOKENS = {name: source.signs for name, source in SOURCES.items() if source.signs}
draws.parts("spoiling")  # enters what the draws do to data


@cache
def raw(source: str) -> Raw:
    """Return all rows of a source: x (N, features), y (N,), task. No row stands there twice."""
    return once(SOURCES[source].make())


@cache
def present(source: str) -> bool:
    """Tell whether a source can be read here (files and extras may be missing)."""
    try:
        raw(source)
    except (OSError, ImportError, StopIteration):
        return False
    return True


def prepare(recipe: Mapping[str, Any], seed: int) -> Prepared:
    """Return the parts of a recipe's data.

    Arguments:
        recipe: the ``data`` entry: ``source``, ``rows`` (training rows), ``scale`` and ``target`` (how inputs and
            targets are scaled), ``shape`` of one input, ``spoil``: what is done to the parts, in order, each
            ``{"kind": ..., "when": "raw" | "scaled", ...}``; ``held_scale`` where held-out inputs are scaled in another
            way, ``onehot`` (with ``more`` columns than classes), ``flat`` for targets of shape (N,).
        seed: chooses the rows, and what is spoiled.
    """
    x, y, task = raw(recipe["source"])
    rng = np.random.default_rng((seed, 7))
    order = rng.permutation(len(x))
    wanted = min(recipe.get("rows", 600), int(0.6 * len(x)))
    rest = min((len(x) - wanted) // 2, 400)
    cuts = order[:wanted], order[wanted : wanted + rest], order[wanted + rest : wanted + 2 * rest]
    train, held, test = (Part(x[rows].copy(), y[rows].copy()) for rows in cuts)
    classes = int(y.max()) + 1 if task != "regression" else 0
    clean = train
    spoils = recipe.get("spoil", ())
    train, held = _spoil(spoils, "raw", train, held, rng)
    scale = _scaler(recipe.get("scale", "zscore"), recipe["source"], clean.x)
    aim = _target(recipe.get("target", "zscore"), clean.y) if task == "regression" else (lambda t: t)
    apart = _scaler(recipe["held_scale"], recipe["source"], clean.x) if "held_scale" in recipe else scale
    train, held = Part(scale(train.x), aim(train.y)), Part(apart(held.x), aim(held.y))
    # the test part is what the program will meet: scaled the way the program scales, never spoiled
    test = Part(scale(test.x), aim(test.y))
    train, held = _spoil(spoils, "scaled", train, held, rng)
    shape = tuple(recipe["shape"]) if "shape" in recipe else None
    parts = []
    for part in (train, held, test):
        inputs = part.x.astype(np.float32)
        if shape is not None and inputs.shape[1] == int(np.prod(shape)):
            inputs = inputs.reshape(-1, *shape)
        if recipe["source"] in TOKENS:
            inputs = inputs.astype(np.int64)
        targets = part.y
        if targets.ndim == 1 and task != "multiclass":
            targets = targets.astype(np.float32)
            # scores are taken with one column, whatever the program is given
            targets = targets if recipe.get("flat") and part is not test else targets.reshape(-1, 1)
        if recipe.get("onehot") and targets.ndim == 1:
            targets = np.eye(classes + recipe.get("more", 0), dtype=np.float32)[targets]
        parts.append(Part(np.ascontiguousarray(inputs), targets))
    return Prepared(parts[0], parts[1], _widen(parts[2], parts[0], rng), task, classes)


def _widen(test: Part, train: Part, rng: np.random.Generator) -> Part:
    """Give the test part as many columns as a leak added to the others: without the leak they hold noise."""
    missing = train.x.shape[-1] - test.x.shape[-1]
    if missing <= 0:
        return test
    noise = rng.normal(size=(*test.x.shape[:-1], missing)).astype(np.float32)
    return replace(test, x=np.concatenate([test.x, noise], -1))


def _spoil(
    spoils: Any, when: str, train: Part, held: Part, rng: np.random.Generator
) -> tuple[Part, Part]:
    for spoil in spoils:
        if spoil.get("when", "scaled") == when:
            settings = {key: value for key, value in spoil.items() if key not in ("kind", "when")}
            x, y, xv, yv = SPOIL[spoil["kind"]](train.x, train.y, held.x, held.y, rng, **settings)
            train, held = Part(x, y), Part(xv, yv)
    return train, held


def _scaler(how: Any, source: str, x: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what the program does to its inputs; every entry but ``kind`` and ``columns`` is a slip in it."""
    if isinstance(how, Mapping):
        inner = _scaler(how["kind"], source, x)
        count = x.shape[1]
        # the same columns in every part: they are a property of the program, not of the rows
        order = np.random.default_rng(count).permutation(count)
        some = order[: max(1, round(how.get("columns", 1.0) * count))]
        slips = {key: value for key, value in how.items() if key not in ("kind", "columns")}
        again = (MinMax() if slips["again"] == "minmax" else ZScore()).fit(x) if "again" in slips else None

        def slip(a: np.ndarray) -> np.ndarray:
            out = np.array(inner(a), np.float64)
            part = out[:, some]
            if "raw" in slips:  # these columns were passed by
                part = np.array(a, np.float64)[:, some]
            if "constant" in slips:
                part = np.full_like(part, slips["constant"])
            if "power" in slips:  # of e: what a forgotten logarithm leaves
                part = np.exp(slips["power"] * part)
            if again is not None:
                part = again.transform(out)[:, some]
            part = part * slips.get("times", 1.0) + slips.get("plus", 0.0)
            if "clip" in slips:
                part = np.clip(part, *slips["clip"])
            out[:, some] = np.floor(part) if slips.get("whole") else part
            return out

        return slip
    if how == "none":
        return lambda a: a
    if how == "center":
        return lambda a: a - x.mean(0)
    if how == "unit":  # pixels to 0..1
        return lambda a: a / IMAGES.get(source, 1.0)
    fitted = (MinMax() if how == "minmax" else ZScore()).fit(x)
    return fitted.transform


def _target(how: Any, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what the program does to its targets: ``zscore``, ``unit``, ``none``, a factor on the bare numbers, or
    ``{"times": ..., "plus": ...}`` on the scaled ones."""
    if isinstance(how, Mapping):
        inner = _target(how.get("kind", "zscore"), y)
        return lambda t: inner(t) * how.get("times", 1.0) + how.get("plus", 0.0)
    low, wide = float(y.min()), float(y.max() - y.min())
    if how == "none":
        return lambda t: t
    if isinstance(how, int | float):
        return lambda t: t * how
    if how == "unit":
        return lambda t: (t - low) / wide
    return lambda t: (t - y.mean()) / y.std()
