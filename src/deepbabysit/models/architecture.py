"""The architecture of a model as JSON, and a model from it: what model files hold and `Model.get_config` returns.

A model names its layers by class; nothing in a description is executed, and no name in it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor, apply, tensor
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import KernelSpec
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.registry import find_layer, layer_from_config, layer_to_config
from deepbabysit.layers.symbolic import Input
from deepbabysit.models.functional import flat

# -- to JSON -----------------------------------------------------------------------------------------------------------


def describe(model: Any, constants: list[np.ndarray]) -> dict[str, Any]:
    """Return the architecture of a model; arrays that stand in its graph go into `constants`.

    Raises:
        TypeError: a layer cannot say how it is made again.
    """
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
        return {"model": describe(layer, constants)}
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


def describe_whole(model: Any) -> dict[str, Any]:
    """Return the architecture with the arrays of its graph as nested lists: all of it is JSON."""
    constants: list[np.ndarray] = []
    text = describe(model, constants)
    return text | ({"constants": [[c.dtype.name, c.tolist()] for c in constants]} if constants else {})


# -- from JSON ---------------------------------------------------------------------------------------------------------


def build_whole(text: Mapping[str, Any], objects: Mapping[str, Any], kinds: Mapping[str, Any]) -> Any:
    """Make a model of what `describe_whole` returned; see `build`."""
    constants = {n: np.array(values, dtype) for n, (dtype, values) in enumerate(text.get("constants", ()))}
    return build(text, objects, constants, kinds)


def build(
    text: Mapping[str, Any], objects: Mapping[str, Any], constants: Mapping[int, np.ndarray], kinds: Mapping[str, Any]
) -> Any:
    """Make a model of its architecture: new weights, frozen where it was.

    Arguments:
        text: what `describe` returned.
        objects: name -> class or function of the caller's own.
        constants: the arrays of its graph.
        kinds: the classes of models: sequential, functional, class.

    Raises:
        KeyError: a class is not known here.
        ValueError: the description is damaged.
    """
    model = _build(text, objects, constants, kinds)
    parameters = dict(model.named_parameters())
    for name in text.get("frozen", ()):
        if name in parameters:
            parameters[name].trainable = False
    return model


def _build(
    text: Mapping[str, Any], objects: Mapping[str, Any], constants: Mapping[int, np.ndarray], kinds: Mapping[str, Any]
) -> Any:
    kind = text.get("kind")

    def make(layer: Mapping[str, Any]) -> Layer:
        return _build(layer["model"], objects, constants, kinds) if "model" in layer else layer_from_config(
            layer, objects)

    if kind == "sequential":
        layers: list[Any] = []
        if text["input_shape"]:
            layers.append(Input(tuple(text["input_shape"]), np.dtype(text["input_dtype"])))
        layers += [make(layer) for layer in text["layers"]]
        return kinds["sequential"](layers, name=text["name"])
    if kind == "functional":
        return _build_graph(text, [make(layer) for layer in text["layers"]], constants, kinds)
    if kind == "class":
        try:
            find_layer(text["class"], objects)
        except KeyError:
            raise KeyError(
                f"the file holds a model of the class {text['class']!r}; hand it in: "
                f"load_model(path, objects={{{text['class']!r}: {text['class']}}})"
            ) from None
        model: Any = layer_from_config(text, objects)
        if not isinstance(model, kinds["class"]):
            raise TypeError(f"the file holds a model; {text['class']!r} in objects is a {type(model).__name__}")
        model.build_for([tuple(shape) for shape, _ in text["inputs"]], [np.dtype(d) for _, d in text["inputs"]])
        return model
    raise ValueError(f"the file holds a model of the unknown kind {kind!r}")


def _build_graph(
    text: Mapping[str, Any], layers: list[Layer], constants: Mapping[int, np.ndarray], kinds: Mapping[str, Any]
) -> Any:
    inputs = [Input(tuple(shape), np.dtype(dtype), name) for shape, dtype, name in text["inputs"]]
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
    return kinds["functional"](inputs, outputs if text["several"] else outputs[0], name=text["name"])


def _operation(name: str) -> Any:
    spec: KernelSpec | None = SPECS.get(name)
    if spec is None:
        raise ValueError(f"the file uses the operation {name!r}, which this version does not have")
    return lambda *tensors, **attrs: apply(spec, tensors, attrs)
