"""Base programs: healthy recipes, as data. Those of the two pools share no source of data."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter import sources

Recipe = dict[str, Any]

# source -> (pool, task, features, classes); what is written here is checked when the data are read
KNOWN: dict[str, tuple[str, str, int, int]] = {
    "digits": ("development", "multiclass", 64, 10),
    "wine": ("development", "multiclass", 13, 3),
    "diabetes": ("development", "regression", 10, 0),
    "auto-mpg": ("development", "regression", 7, 0),
    "circles": ("development", "binary", 2, 2),
    "moons": ("development", "binary", 2, 2),
    "blobs3": ("development", "multiclass", 6, 3),
    "waves": ("development", "regression", 4, 0),
    "breast_cancer": ("sealed", "binary", 30, 2),
    "heart": ("sealed", "binary", 29, 2),
    "concrete": ("sealed", "regression", 8, 0),
    "mnist": ("sealed", "multiclass", 196, 10),
    "spirals": ("sealed", "multiclass", 2, 3),
    "blobs6": ("sealed", "multiclass", 10, 6),
    "friedman": ("sealed", "regression", 8, 0),
    "gratings": ("sealed", "multiclass", 100, 4),
}
_LOSS = {"binary": "binary_crossentropy", "multiclass": "sparse_categorical_crossentropy", "regression": "mse"}
_KERNEL = {"relu": "he_normal", "tanh": "glorot_normal", "sigmoid": "glorot_normal", "selu": "lecun_normal",
           "elu": "he_normal", "gelu": "he_normal", "leaky_relu": "he_normal"}


def layer(kind: str, **config: Any) -> dict[str, Any]:
    """Return a layer as data."""
    return {"class": kind, "config": config}


def dense(units: int, activation: str = "relu", **more: Any) -> dict[str, Any]:
    """Return a hidden layer with the start that fits its activation."""
    config = {"units": units, "activation": activation, "kernel_initializer": _KERNEL[activation], **more}
    return layer("Dense", **config)


def last(source: str) -> dict[str, Any]:
    """Return the output layer of a source's task."""
    task, classes = KNOWN[source][1], KNOWN[source][3]
    if task == "multiclass":
        return layer("Dense", units=classes, activation="softmax")
    return layer("Dense", units=1, activation="sigmoid" if task == "binary" else None)


def optimizer(name: str, rate: Any, **more: Any) -> dict[str, Any]:
    """Return an optimizer as data."""
    return {"name": name, "learning_rate": rate, **more}


def recipe(
    name: str, source: str, hidden: list[dict[str, Any]], epochs: int, rule: dict[str, Any], batch: int = 32,
    rows: int = 600, shape: list[int] | None = None,
) -> Recipe:
    """Return a program."""
    data: dict[str, Any] = {
        "source": source, "rows": rows, "scale": "unit" if source in sources.IMAGES else "zscore", "target": "zscore",
    }
    if shape is not None:
        data["shape"] = shape
    return {
        "name": name, "data": data, "layers": [*hidden, last(source)], "loss": _LOSS[KNOWN[source][1]],
        "optimizer": rule, "batch_size": batch, "epochs": epochs, "shuffle": True,
    }


def _conv(filters: int, size: int = 3, **more: Any) -> dict[str, Any]:
    config = {"filters": filters, "kernel_size": size, "activation": "relu", "kernel_initializer": "he_normal",
              "padding": "same"}
    return layer("Conv2D", **{**config, **more})


_ADAM, _ADAM3 = optimizer("Adam", 1e-3), optimizer("Adam", 3e-3)
_SGD, _RMS = optimizer("SGD", 0.05, momentum=0.9), optimizer("RMSprop", 1e-3)
_POOL, _FLAT, _BN = layer("MaxPool2D", pool_size=2), layer("Flatten"), layer("BatchNorm", momentum=0.9)

PROGRAMS: list[Recipe] = [
    # development
    recipe("digits-relu", "digits", [dense(64), dense(32)], 20, _ADAM3, rows=600),
    recipe("digits-tanh-sgd", "digits", [dense(48, "tanh"), dense(32, "tanh")], 15, _SGD, rows=600),
    recipe("digits-cnn", "digits", [_conv(8), _POOL, _FLAT, dense(32)], 12, _ADAM3, rows=480, shape=[8, 8, 1]),
    recipe("digits-deep", "digits", [dense(48), dense(48), dense(48), dense(48)], 15, _ADAM, rows=750),
    recipe("wine-relu", "wine", [dense(16), dense(8)], 30, _ADAM3, batch=16),
    recipe("wine-tanh", "wine", [dense(16, "tanh")], 40, optimizer("SGD", 0.02, momentum=0.9), batch=16),
    recipe("diabetes-relu", "diabetes", [dense(16)], 15, _ADAM3, batch=16),
    recipe("auto-mpg-relu", "auto-mpg", [dense(32), dense(16)], 25, _ADAM3, batch=16),
    recipe("auto-mpg-elu-rms", "auto-mpg", [dense(24, "elu")], 30, optimizer("RMSprop", 3e-3), batch=16),
    recipe("circles-relu", "circles", [dense(16), dense(16)], 25, _ADAM3),
    recipe("circles-tanh-deep", "circles", [dense(16, "tanh"), dense(16, "tanh"), dense(16, "tanh")], 30, _ADAM3),
    recipe("moons-relu-sgd", "moons", [dense(24), dense(12)], 25, _SGD),
    recipe("blobs3-relu-rms", "blobs3", [dense(16), dense(16)], 15, _RMS),
    recipe("blobs3-bn", "blobs3", [dense(24, use_bias=False), _BN, dense(16)], 15, _ADAM3),
    recipe("waves-relu", "waves", [dense(32), dense(32)], 25, _ADAM3),
    recipe("waves-tanh-sgd", "waves", [dense(32, "tanh"), dense(16, "tanh")], 30, _SGD),
    # sealed
    recipe("cancer-relu", "breast_cancer", [dense(24), dense(12)], 15, _ADAM),
    recipe("cancer-tanh-sgd", "breast_cancer", [dense(16, "tanh")], 20, optimizer("SGD", 0.02, momentum=0.9)),
    recipe("heart-relu", "heart", [dense(12)], 20, _ADAM3, batch=16),
    recipe("heart-elu-sgd", "heart", [dense(8, "elu")], 25, optimizer("SGD", 0.01, momentum=0.9), batch=16),
    recipe("concrete-relu", "concrete", [dense(32), dense(16)], 30, _ADAM3),
    recipe("concrete-tanh-deep", "concrete", [dense(24, "tanh")] * 3, 30, _ADAM3),
    recipe("mnist-relu", "mnist", [dense(64), dense(32)], 12, _ADAM3, rows=1200),
    recipe("mnist-deep", "mnist", [dense(48)] * 4, 12, _ADAM, rows=1500),
    recipe("mnist-cnn", "mnist", [_conv(6), _POOL, _conv(8), _POOL, _FLAT], 8, _ADAM3, rows=800, shape=[14, 14, 1]),
    recipe("mnist-sgd", "mnist", [dense(48)], 12, _SGD, rows=1200),
    recipe("spirals-relu", "spirals", [dense(32), dense(32)], 30, _ADAM3, rows=720),
    recipe("spirals-tanh-rms", "spirals", [dense(32, "tanh"), dense(32, "tanh")], 30, optimizer("RMSprop", 3e-3),
           rows=720),
    recipe("blobs6-relu", "blobs6", [dense(24), dense(24)], 15, _ADAM, rows=720),
    recipe("blobs6-bn-sgd", "blobs6", [dense(24, use_bias=False), _BN, dense(24)], 15, _SGD, rows=720),
    recipe("friedman-relu", "friedman", [dense(32), dense(16)], 30, _ADAM3),
    recipe("friedman-leaky-sgd", "friedman", [dense(32, "leaky_relu")], 30, optimizer("SGD", 0.02, momentum=0.9)),
    recipe("gratings-cnn", "gratings", [_conv(8, 5), _POOL, _FLAT, dense(24)], 12, _ADAM3, shape=[10, 10, 1]),
]
BY_NAME = {program["name"]: program for program in PROGRAMS}


def pool_of(program: Recipe) -> str:
    """Return the pool that a program belongs to: that of its data."""
    return KNOWN[program["data"]["source"]][0]


def task_of(program: Recipe) -> str:
    """Return ``binary``, ``multiclass`` or ``regression``."""
    return KNOWN[program["data"]["source"]][1]
