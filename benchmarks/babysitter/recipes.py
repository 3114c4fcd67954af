"""Recipes as data: layers, optimizers, programs; and what is known of every source of data."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter import sources

Recipe = dict[str, Any]

KNOWN = sources.SOURCES
_LOSS = {"binary": "binary_crossentropy", "multiclass": "sparse_categorical_crossentropy", "regression": "mse"}
_KERNEL = {"relu": "he_normal", "tanh": "glorot_normal", "sigmoid": "glorot_normal", "selu": "lecun_normal",
           "elu": "he_normal", "gelu": "he_normal", "leaky_relu": "he_normal", "silu": "he_normal"}


def layer(kind: str, **config: Any) -> dict[str, Any]:
    """Return a layer as data."""
    return {"class": kind, "config": config}


def dense(units: int, activation: str = "relu", **more: Any) -> dict[str, Any]:
    """Return a hidden layer with the start that fits its activation."""
    config = {"units": units, "activation": activation, "kernel_initializer": _KERNEL[activation], **more}
    return layer("Dense", **config)


def last(source: str) -> dict[str, Any]:
    """Return the output layer of a source's task."""
    task, classes = KNOWN[source].task, KNOWN[source].classes
    if task == "multiclass":
        return layer("Dense", units=classes, activation="softmax")
    return layer("Dense", units=1, activation="sigmoid" if task == "binary" else None)


def optimizer(name: str, rate: Any, **more: Any) -> dict[str, Any]:
    """Return an optimizer as data."""
    return {"name": name, "learning_rate": rate, **more}


def recipe(
    name: str, source: str, hidden: list[dict[str, Any]], epochs: int, rule: dict[str, Any], batch: int = 32,
    rows: int = 600, shape: list[int] | None = None, loss: str | None = None,
) -> Recipe:
    """Return a program."""
    data: dict[str, Any] = {
        "source": source, "rows": rows, "target": "zscore",
        "scale": "none" if source in sources.TOKENS else "unit" if source in sources.IMAGES else "zscore",
    }
    if shape is not None:
        data["shape"] = shape
    return {
        "name": name, "data": data, "layers": [*hidden, last(source)], "loss": loss or _LOSS[KNOWN[source].task],
        "optimizer": rule, "batch_size": batch, "epochs": epochs, "shuffle": True,
    }


def conv(filters: int, size: int = 3, **more: Any) -> dict[str, Any]:
    config = {"filters": filters, "kernel_size": size, "activation": "relu", "kernel_initializer": "he_normal",
              "padding": "same"}
    return layer("Conv2D", **{**config, **more})



def pool_of(program: Recipe) -> str:
    """Return the pool that a program belongs to: that of its data."""
    return sources.POOLS[program["data"]["source"]]


def task_of(program: Recipe) -> str:
    """Return ``binary``, ``multiclass`` or ``regression``."""
    return KNOWN[program["data"]["source"]].task
