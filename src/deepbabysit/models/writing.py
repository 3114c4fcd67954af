"""Model files, written: one safetensors file with weights as tensors and the architecture as JSON.

Format 1. Metadata key ``deepbabysit`` holds ``{"format": 1, "model": ..., "compile": ..., "extra": ...}``. A model
names its layers by class; nothing in the file is executable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepbabysit.io.tensors import write_tensors
from deepbabysit.models.architecture import describe

FORMAT = 1
KEY = "deepbabysit"
FOREIGN = (".h5", ".hdf5", ".keras", ".pt", ".pth", ".onnx", ".pkl", ".pickle", ".npz", ".pb", ".tflite")
WEIGHT, CONSTANT = "weight:", "constant:"


def write_model(path: str | Path, model: Any, extra: Mapping[str, Any] | None = None) -> Path:
    """Write a model to a file.

    Arguments:
        path: where; by custom it ends in ``.dbs``.
        model: a built model.
        extra: JSON-able values to keep beside it (preprocessing, scores).

    Returns:
        The path.

    Raises:
        TypeError: a layer, loss or metric cannot say how it is saved; nothing is written.
        ValueError: the model is not built yet, or the name ends as another library's files do.
    """
    if Path(path).suffix.lower() in FOREIGN:
        raise ValueError(
            f"{path} would look like another library's file; models are written in this library's own format: "
            f"{Path(path).with_suffix('.dbs').name}"
        )
    if not model.built:
        raise ValueError("the model has no weights yet: call it, fit it, or give its first layer an input_shape")
    constants: list[np.ndarray] = []
    header = {
        "format": FORMAT,
        "model": describe(model, constants),
        "compile": describe_training(model),
        "extra": dict(extra or {}),
    }
    tensors = {WEIGHT + name: value for name, value in model.state_dict().items()}
    tensors |= {f"{CONSTANT}{number}": value for number, value in enumerate(constants)}
    target = Path(path)
    write_tensors(target, tensors, {KEY: json.dumps(header, allow_nan=True)})
    return target


def describe_training(model: Any) -> dict[str, Any] | None:
    """Return how a compiled model is trained: optimizer, loss, metrics, precision; None where it is not compiled."""
    if not model.compiled:
        return None
    trainer = model.trainer
    return {
        "optimizer": trainer.optimizer.config(),
        "loss": None if trainer.loss is None else trainer.loss.config(),
        "metrics": [metric.config() for metric in trainer.metrics],
        "precision": trainer.precision.name,
    }
