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

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.io.tensors import write_tensors
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.registry import layer_to_config

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
        "model": _describe(model, constants),
        "compile": _describe_training(model),
        "extra": dict(extra or {}),
    }
    tensors = {WEIGHT + name: value for name, value in model.state_dict().items()}
    tensors |= {f"{CONSTANT}{number}": value for number, value in enumerate(constants)}
    target = Path(path)
    write_tensors(target, tensors, {KEY: json.dumps(header, allow_nan=True)})
    return target


# -- to JSON -----------------------------------------------------------------------------------------------------------


def _describe(model: Any, constants: list[np.ndarray]) -> dict[str, Any]:
    frozen = [name for name, parameter in model.named_parameters() if not parameter.trainable]
    base: dict[str, Any] = {"name": model.name, "frozen": frozen}
    if model.kind == "sequential":
        return base | {
            "kind": "sequential",
            "layers": [_layer(layer, constants) for layer in model.layers],
            "input_shape": list(model.input_shape or ()),
            "input_dtype": np.dtype(model.input_dtype).name,
        }
    if model.kind == "functional":
        return base | _graph(model, constants)
    return base | {
        "kind": "class",
        **layer_to_config(model),
        "inputs": [[list(shape), np.dtype(dtype).name] for shape, dtype in _inputs(model)],
    }


def _inputs(model: Any) -> list[tuple[tuple[int, ...], Any]]:
    """Return shape of one sample and dtype of each input that a written model was built for."""
    known = model.built_for or [(form.shape[1:], form.dtype) for form in model.built_forms]
    if not known:
        raise ValueError(f"{type(model).__name__} has not seen any input yet: call it or fit it before you save it")
    return list(known)


def _layer(layer: Layer, constants: list[np.ndarray]) -> dict[str, Any]:
    if layer.is_model():
        return {"model": _describe(layer, constants)}
    return layer_to_config(layer)


def _graph(model: Any, constants: list[np.ndarray]) -> dict[str, Any]:
    places: dict[int, list[Any]] = {id(x): ["input", i] for i, x in enumerate(model.inputs)}
    layers = model.layers
    numbers = {id(layer): i for i, layer in enumerate(layers)}
    steps = []

    def write(value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) in places:
                return {"ref": places[id(value)]}
            constants.append(value.numpy())
            return {"constant": len(constants) - 1}
        if isinstance(value, list | tuple):
            return {"items": [write(item) for item in value]}
        return {"value": _plain(value)}

    for number, step in enumerate(model.steps()):
        what: dict[str, Any] = (
            {"layer": numbers[id(step.run)]} if isinstance(step.run, Layer) else {"operation": step.run.name}
        )
        steps.append(what | {
            "inputs": [write(item) for item in step.inputs],
            "options": {name: write(value) for name, value in step.options.items()},
        })
        for index, output in enumerate(step.outputs):
            if output is not None:
                places[id(output)] = ["step", number, index]
    return {
        "kind": "functional",
        "inputs": [
            [list(x.shape[1:]), x.dtype.name, name] for x, name in zip(model.inputs, model.input_names, strict=True)
        ],
        "layers": [_layer(layer, constants) for layer in layers],
        "steps": steps,
        "outputs": [write(y) for y in model.outputs],
        "several": model.several,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, type) and issubclass(value, np.generic):
        return {"dtype": np.dtype(value).name}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a model file cannot hold {type(value).__name__} {value!r} as an argument of a layer's call")


def _describe_training(model: Any) -> dict[str, Any] | None:
    if not model.compiled:
        return None
    trainer = model.trainer
    return {
        "optimizer": trainer.optimizer.config(),
        "loss": None if trainer.loss is None else trainer.loss.config(),
        "metrics": [metric.config() for metric in trainer.metrics],
        "precision": trainer.dtype.name,
    }
