"""Data of the cases: small tables, synthetic shapes, images; cut, scaled and spoiled as a recipe says.

The test part is always clean and scaled like clean training rows, so a score means the same for a fault and its twin.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.raw import Raw, data_folder, needed, once
from benchmarks.babysitter.sealed import sources as sealed
from benchmarks.babysitter.sealed import spoiling as _sealed_spoiling  # noqa: F401  (enters what it does to data)
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


def _bundled(name: str) -> Raw:
    if name == "heart":
        needed("heart")
    data = getattr(db.datasets, name)()
    return np.asarray(data.x, np.float32).reshape(len(data.x), -1), np.asarray(data.y), data.task


def _mnist(side: int) -> Raw:
    """Return 6000 digits, averaged down to `side` by `side`."""
    data = db.datasets.mnist(needed("mnist"))
    images = np.asarray(data.x[:6000], np.float32).reshape(6000, side, 28 // side, side, 28 // side)
    return images.mean(axis=(2, 4)).reshape(6000, -1), np.asarray(data.y[:6000], np.int64), "multiclass"


def _table(folder: str, target: str | int, drop: tuple[str, ...] = ()) -> Raw:
    """Return the numbers of a CSV file without rows that miss one."""
    path = next((data_folder() / folder).glob("*.csv"))
    with path.open(encoding="utf-8-sig", newline="") as file:
        head, *rows = list(csv.reader(file))
    names = [name.strip() for name in head]
    last = names.index(target) if isinstance(target, str) else target % len(names)
    columns = [i for i, name in enumerate(names) if name not in drop and i != last]
    kept = []
    for row in rows:
        try:
            kept.append([float(row[i]) for i in (*columns, last)])
        except (ValueError, IndexError):
            continue
    table = np.array(kept, np.float32)
    return table[:, :-1], table[:, -1], "regression"


def _circles() -> Raw:
    rng = np.random.default_rng(101)
    y = np.arange(1000) % 2
    angle, radius = rng.uniform(0, 2 * np.pi, 1000), np.where(y, 2.0, 1.0) + rng.normal(0, 0.18, 1000)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), y, "binary"


def _moons() -> Raw:
    rng = np.random.default_rng(102)
    y = np.arange(900) % 2
    t = rng.uniform(0, np.pi, 900)
    x = np.where(y[:, None] == 0, np.stack([np.cos(t), np.sin(t)], 1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1))
    return (x + rng.normal(0, 0.15, x.shape)).astype(np.float32), y, "binary"


def _blobs(seed: int, classes: int, features: int, spread: float) -> Raw:
    rng = np.random.default_rng(seed)
    centers = rng.normal(0, 1.0, (classes, features))
    y = np.arange(1200) % classes
    return (centers[y] + rng.normal(0, spread, (1200, features))).astype(np.float32), y, "multiclass"


def _spirals() -> Raw:
    rng = np.random.default_rng(103)
    y = np.arange(1200) % 3
    t = np.sqrt(rng.uniform(0.02, 1, 1200))
    angle = 5.0 * t + y * 2 * np.pi / 3 + rng.normal(0, 0.12, 1200)
    return np.stack([t * np.cos(angle), t * np.sin(angle)], 1).astype(np.float32), y, "multiclass"


def _waves() -> Raw:
    rng = np.random.default_rng(104)
    x = rng.uniform(-1, 1, (900, 4))
    y = np.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] ** 2 + rng.normal(0, 0.1, 900)
    return x.astype(np.float32), y.astype(np.float32), "regression"


def _friedman() -> Raw:
    """Return Friedman's first function (1991), the usual test of regressions."""
    rng = np.random.default_rng(105)
    x = rng.uniform(0, 1, (1000, 8))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x.astype(np.float32), (y + rng.normal(0, 1, 1000)).astype(np.float32), "regression"


def _gratings() -> Raw:
    """Return images of 10 x 10 with stripes in one of four directions."""
    rng = np.random.default_rng(106)
    y = np.arange(1000) % 4
    rows, columns = np.mgrid[0:10, 0:10] / 10.0
    angle = y * np.pi / 4 + rng.normal(0, 0.12, 1000)
    phase = rng.uniform(0, 2 * np.pi, 1000)
    along = np.cos(angle)[:, None, None] * rows + np.sin(angle)[:, None, None] * columns
    images = 0.5 + 0.35 * np.sin(12.0 * along + phase[:, None, None]) + rng.normal(0, 0.15, (1000, 10, 10))
    return images.reshape(1000, -1).astype(np.float32), y, "multiclass"


_SOURCES: Mapping[str, Callable[[], Raw]] = {
    "digits": lambda: _bundled("digits"),
    "wine": lambda: _bundled("wine"),
    "breast_cancer": lambda: _bundled("breast_cancer"),
    "diabetes": lambda: _bundled("diabetes"),
    "heart": lambda: _bundled("heart"),
    "auto-mpg": lambda: _table("auto-mpg", "mpg", ("name",)),
    "concrete": lambda: _table("concrete", -1),
    "mnist": lambda: _mnist(14),
    "circles": _circles,
    "moons": _moons,
    "blobs3": lambda: _blobs(107, 3, 6, 0.8),
    "blobs6": lambda: _blobs(108, 6, 10, 1.0),
    "spirals": _spirals,
    "waves": _waves,
    "friedman": _friedman,
    "gratings": _gratings,
    **sealed.MAKERS,
}
IMAGES = {"digits": 16.0, "mnist": 255.0, "gratings": 1.0, **sealed.IMAGES}  # their brightest pixel
TOKENS = sealed.TOKENS


@cache
def raw(source: str) -> Raw:
    """Return all rows of a source: x (N, features), y (N,), task. No row stands there twice."""
    return once(_SOURCES[source]())


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
        again = ZScore().fit(x) if "again" in slips else None

        def slip(a: np.ndarray) -> np.ndarray:
            out = np.array(inner(a), np.float64)
            part = out[:, some]
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
    if how == "unit":  # pixels to 0..1
        return lambda a: a / IMAGES.get(source, 1.0)
    fitted = (MinMax() if how == "minmax" else ZScore()).fit(x)
    return fitted.transform


def _target(how: Any, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return what the program does to its targets: ``zscore``, ``unit``, ``none``, a factor on the bare numbers, or
    ``{"times": ..., "plus": ...}`` on the scaled ones."""
    if isinstance(how, Mapping):
        inner = _target("zscore", y)
        return lambda t: inner(t) * how.get("times", 1.0) + how.get("plus", 0.0)
    low, wide = float(y.min()), float(y.max() - y.min())
    if how == "none":
        return lambda t: t
    if isinstance(how, int | float):
        return lambda t: t * how
    if how == "unit":
        return lambda t: (t - low) / wide
    return lambda t: (t - y.mean()) / y.std()
