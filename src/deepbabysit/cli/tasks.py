"""What is to be learned from which data: data sets and tables made into arrays with sensible settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from deepbabysit.cli.usage import UsageError
from deepbabysit.data import datasets
from deepbabysit.data.normalizers import MeanImputer
from deepbabysit.data.splits import split
from deepbabysit.data.table import read_table
from deepbabysit.errors import nearest, unknown

NAMES = ("digits", "iris", "wine", "breast_cancer", "diabetes", "mnist", "fashion_mnist", "heart")


@dataclass(slots=True)
class Settings:
    """What can be changed with ``--set``.

    Attributes:
        hidden: units of the hidden layers.
        activation: of the hidden layers.
        dropout: share of units that are dropped after each hidden layer.
        optimizer, learning_rate, batch_size, epochs: as in `compile` and `fit`.
        patience: epochs without a better validation loss before the run ends.
        normalize: "zscore", "minmax" or "none".
        l2: strength of the penalty on kernels.
    """

    hidden: tuple[int, ...] = (64, 32)
    activation: str = "relu"
    dropout: float = 0.0
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 32
    epochs: int = 100
    patience: int = 10
    normalize: str = "zscore"
    l2: float = 0.0


@dataclass(slots=True)
class Task:
    """Data in three parts, and what to do with them.

    Attributes:
        name: for messages and folders.
        kind: "binary", "multiclass" or "regression".
        train, validation, test: (x, y) each; x flat and not normalized, float32.
        class_names: names of the classes, if any.
        numeric: columns to normalize; None means all.
        image: whether x holds pixels (one statistic for all of them).
        settings: the defaults for these data.
        schema: how to encode a new file the same way, for tables.
        text: what was read and how it was split.
        imputer: what fills gaps in new rows, for tables.
    """

    name: str
    kind: str
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    class_names: list[str] | None
    numeric: list[int] | None
    image: bool
    settings: Settings
    schema: dict[str, Any] | None = None
    text: list[str] = field(default_factory=list)
    imputer: dict[str, Any] | None = None


def known(name: str, seed: int) -> Task:
    """Return a bundled or published data set as a task."""
    if name not in NAMES:
        near = nearest(name, NAMES)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"unknown data {name!r}: it is neither a file nor a data set; {hint}Valid: {', '.join(NAMES)}")
    data = getattr(datasets, name)()
    x = np.asarray(data.x)
    y = np.asarray(data.y)
    text = [data.describe()]
    if data.x_test is not None:
        parts = split(x, y, fractions=(0.9, 0.1), stratify="auto", seed=seed)
        text.append(parts.describe())
        first, second = parts
        train, validation = (first.x, first.y), (second.x, second.y)
        test = (np.asarray(data.x_test), np.asarray(data.y_test))
    else:
        parts = split(x, y, fractions=(0.8, 0.1, 0.1), stratify="auto", seed=seed)
        text.append(parts.describe())
        train, validation, test = ((part.x, part.y) for part in parts)
    image = name in ("digits", "mnist", "fashion_mnist")
    schema = dict(data.schema) if data.schema else None
    numeric = list(schema["numeric"]) if schema and "numeric" in schema and name == "heart" else None
    kind = _kind(data.task, y)
    return Task(
        name, kind, _flat(train), _flat(validation), _flat(test), _names(data.class_names), numeric, image,
        _settings(name, kind, len(train[0]), train[0].size // len(train[0])), schema, text,
    )


def table(path: Path, target: str, categorical: str | None, missing: str | None, seed: int) -> Task:
    """Return a CSV file as a task; gaps are left out or filled with the mean of the training rows where asked for."""
    columns: Any = "auto" if categorical is None else [c.strip() for c in categorical.split(",") if c.strip()]
    asked: dict[str, Any] = {} if missing is None else {"missing": missing}
    try:
        found = read_table(path, target=target, categorical=columns, verbose=False, **asked)
    except ValueError as error:
        if 'missing="drop"' in str(error):
            hint = "On the command line: --missing drop, --missing mean, --categorical A,B"
            raise ValueError(f"{error}\n{hint}") from error
        raise
    if found.y is None:
        raise ValueError(f"{path} has no target column {target!r}")
    parts = split(found.x, found.y, fractions=(0.8, 0.1, 0.1), stratify="auto", seed=seed)
    train, validation, test = ((part.x, part.y) for part in parts)
    imputer = None
    if missing == "mean":
        imputer = MeanImputer().fit(train[0])
        train, validation, test = ((imputer.transform(x), y) for x, y in (train, validation, test))
    kind = found.task
    return Task(
        path.stem, kind, _flat(train), _flat(validation), _flat(test), _names(found.class_names),
        [int(i) for i in found.numeric], False,
        _settings("table", kind, len(train[0]), found.x.shape[1]), dict(found.schema), [found.guess, parts.describe()],
        None if imputer is None else imputer.to_config(),
    )


def _kind(task: str, y: np.ndarray) -> str:
    if task == "classification":
        return "binary" if len(np.unique(y)) == 2 else "multiclass"
    return task


def _names(names: Any) -> list[str] | None:
    return None if names is None else [str(n) for n in names]


def _flat(part: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    x, y = part
    return np.ascontiguousarray(x.reshape(len(x), -1), dtype=np.float32), np.asarray(y)


def _settings(name: str, kind: str, rows: int, width: int) -> Settings:
    """Return the defaults: small networks for small data, so that a run takes seconds to a minute or two."""
    if name == "heart":
        return Settings(hidden=(16,), l2=0.03, batch_size=32, epochs=300, patience=20, learning_rate=3e-3)
    if name in ("mnist", "fashion_mnist"):
        return Settings(hidden=(512, 256), dropout=0.2, batch_size=128, epochs=20, patience=4, normalize="minmax")
    if name == "digits":
        return Settings(hidden=(128, 64), dropout=0.1, batch_size=32, epochs=60, patience=10, normalize="minmax")
    if rows < 1000:
        return Settings(hidden=(32,), l2=1e-4, batch_size=16, epochs=300, patience=30, learning_rate=2e-3)
    epochs = 200 if kind == "regression" else 100
    return Settings(hidden=(64, 32), batch_size=32 if rows < 20_000 else 128, epochs=epochs, patience=20)


def change(settings: Settings, changes: list[str]) -> Settings:
    """Apply ``key=value`` texts; values are JSON or plain words, lists are separated by commas.

    >>> change(Settings(), ["hidden=8,4", "epochs=3"]).hidden
    (8, 4)
    """
    kinds = {f.name: f for f in fields(Settings)}
    for text in changes:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--set takes KEY=VALUE, such as epochs=20; got {text!r}")
        key = key.strip()
        if key not in kinds:
            raise UsageError(unknown("setting", key, kinds))
        setattr(settings, key, _value(key, value, getattr(settings, key)))
    return settings


def _value(key: str, text: str, now: Any) -> Any:
    if isinstance(now, str):
        return text
    try:
        if isinstance(now, tuple):
            items = [item for item in text.strip("[]() ").split(",") if item.strip()]
            return tuple(int(item) for item in items)
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--set {key}: {text!r} is not a {type(now).__name__}; the default is {now!r}") from error
    if isinstance(now, int) and (isinstance(found, bool) or not isinstance(found, int)):
        raise UsageError(f"--set {key}: {text!r} is not a whole number; the default is {now!r}")
    if isinstance(found, bool | str | list | Mapping) or found is None:
        raise UsageError(f"--set {key}: {text!r} is not a number; the default is {now!r}")
    return type(now)(found)
