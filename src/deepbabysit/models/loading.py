"""Model files, read; `models.writing` says what is in them. Nothing in a file is executed.

The classes of layers are those of `deepbabysit.layers` and those that the caller of `load_model` hands in. No
name in a file is ever imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepbabysit import losses, metrics, optimizers
from deepbabysit.autograd.tensor import Tensor, apply, tensor
from deepbabysit.errors import nearest
from deepbabysit.io.tensors import read_tensors
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import KernelSpec
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.registry import find_layer, layer_from_config
from deepbabysit.layers.symbolic import Input
from deepbabysit.models.functional import flat
from deepbabysit.models.model import Functional, Model, Sequential
from deepbabysit.models.writing import CONSTANT, FORMAT, KEY, WEIGHT


def load_model(path: str | Path, objects: Mapping[str, Any] | None = None, compile: bool = True) -> Model:
    """Read a model from a file that `Model.save` wrote.

    Arguments:
        path: the file.
        objects: name -> class or function, for layers, losses and metrics of the caller's own.
        compile: also restore optimizer settings, loss and metrics.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no model file, is damaged (the tensor is named), or was written by a newer version.
        KeyError: it uses a class that neither the library nor `objects` has.
    """
    return read_model(path, objects, compile)[0]


def read_model(
    path: str | Path, objects: Mapping[str, Any] | None = None, compile: bool = True
) -> tuple[Model, dict[str, Any]]:
    """Read a model and what was kept beside it (`write_model`'s `extra`)."""
    if not Path(path).is_file():
        if Path(path).is_dir():
            raise IsADirectoryError(f"{str(path)!r} is a folder; name the file in it that model.save(...) wrote")
        near = nearest(Path(path).name, _files_beside(Path(path)))
        raise FileNotFoundError(
            f"there is no file {str(path)!r}" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else
            f" (looked in {Path(path).absolute().parent})")
        )
    tensors, metadata = read_tensors(Path(path))
    if KEY not in metadata:
        raise ValueError(f"{path} holds tensors but no model of this library; read it with the safetensors package")
    try:
        header = json.loads(metadata[KEY])
    except ValueError as error:
        raise ValueError(f"{path} is damaged: its description is not JSON ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else None
        raise ValueError(f"{path} has format {found!r}; this version reads format {FORMAT}. Update deepbabysit")
    own = dict(objects or {})
    constants = {
        int(name.removeprefix(CONSTANT)): value for name, value in tensors.items() if name.startswith(CONSTANT)
    }
    model = _build(header["model"], own, constants)
    weights = {name.removeprefix(WEIGHT): value for name, value in tensors.items() if name.startswith(WEIGHT)}
    if weights:
        kinds = {v.dtype for v in weights.values() if v.dtype.kind == "f"}
        if kinds == {np.dtype(np.float64)}:
            model.astype(np.float64)
    model.load_state_dict(weights)
    _restore_frozen(model, header["model"].get("frozen", []))
    training = header.get("compile")
    if compile and training is not None:
        model.compile(
            optimizers.get(training["optimizer"]),
            losses.from_config(training["loss"], own) if training["loss"] is not None else None,
            [metrics.from_config(m, own) for m in training["metrics"]],
            precision=training["precision"],
        )
    return model, dict(header.get("extra", {}))


def _files_beside(path: Path) -> list[str]:
    """Return the names of the files in the folder of a path."""
    folder = path.absolute().parent
    return [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []


# -- from JSON ---------------------------------------------------------------------------------------------------------


def _build(text: Mapping[str, Any], objects: Mapping[str, Any], constants: Mapping[int, np.ndarray]) -> Model:
    kind = text.get("kind")
    if kind == "sequential":
        layers: list[Any] = []
        if text["input_shape"]:
            layers.append(Input(tuple(text["input_shape"]), np.dtype(text["input_dtype"])))
        layers += [_make(layer, objects, constants) for layer in text["layers"]]
        return Sequential(layers, name=text["name"])
    if kind == "functional":
        return _build_graph(text, objects, constants)
    if kind == "class":
        try:
            find_layer(text["class"], objects)
        except KeyError:
            raise KeyError(
                f"the file holds a model of the class {text['class']!r}; hand it in: "
                f"load_model(path, objects={{{text['class']!r}: {text['class']}}})"
            ) from None
        model: Any = layer_from_config(text, objects)
        if not isinstance(model, Model):
            raise TypeError(f"the file holds a model; {text['class']!r} in objects is a {type(model).__name__}")
        model.build_for([tuple(shape) for shape, _ in text["inputs"]], [np.dtype(d) for _, d in text["inputs"]])
        return model
    raise ValueError(f"the file holds a model of the unknown kind {kind!r}")


def _make(text: Mapping[str, Any], objects: Mapping[str, Any], constants: Mapping[int, np.ndarray]) -> Layer:
    return _build(text["model"], objects, constants) if "model" in text else layer_from_config(text, objects)


def _build_graph(text: Mapping[str, Any], objects: Mapping[str, Any], constants: Mapping[int, np.ndarray]) -> Model:
    inputs = [Input(tuple(shape), np.dtype(dtype), name) for shape, dtype, name in text["inputs"]]
    layers = [_make(layer, objects, constants) for layer in text["layers"]]
    results: list[list[Tensor]] = []

    def read(item: Mapping[str, Any]) -> Any:
        if "ref" in item:
            where = item["ref"]
            return inputs[where[1]] if where[0] == "input" else results[where[1]][where[2]]
        if "constant" in item:
            return tensor(constants[item["constant"]], device="cpu")
        if "items" in item:
            return tuple(read(part) for part in item["items"])
        value = item["value"]
        return np.dtype(value["dtype"]) if isinstance(value, dict) and "dtype" in value else value

    for step in text["steps"]:
        arguments = [read(item) for item in step["inputs"]]
        options = {name: read(value) for name, value in step["options"].items()}
        run: Any = layers[step["layer"]] if "layer" in step else _operation(step["operation"])
        results.append(flat((run(*arguments, **options),)))
    outputs = [read(item) for item in text["outputs"]]
    return Functional(inputs, outputs if text["several"] else outputs[0], name=text["name"])


def _operation(name: str) -> Any:
    spec: KernelSpec | None = SPECS.get(name)
    if spec is None:
        raise ValueError(f"the file uses the operation {name!r}, which this version does not have")
    return lambda *tensors, **attrs: apply(spec, tensors, attrs)


def _restore_frozen(model: Model, names: list[str]) -> None:
    parameters = dict(model.named_parameters())
    for name in names:
        if name in parameters:
            parameters[name].trainable = False
