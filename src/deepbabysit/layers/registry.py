"""Layers by class name, and their way to JSON and back.

``{"class": "Dense", "config": {"units": 16, ...}}`` describes a layer; a function or class of the user's own is
``{"object": name}`` and has been registered under that name, or is handed to the loading call. Nothing is imported by a
name that stands in a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import unknown
from deepbabysit.layers.layer import Layer

Thing = TypeVar("Thing")

LAYERS: dict[str, type[Layer]] = {}
_OWN: dict[str, Any] = {}


def add_layers(*classes: type[Layer], **aliases: type[Layer]) -> None:
    """Enter the library's layers, and other names for them."""
    for cls in classes:
        LAYERS[cls.__name__] = cls
    LAYERS.update(aliases)


def register(name: str) -> Callable[[Thing], Thing]:
    """Register a function or a class of your own under a name, as a decorator, so that models with it can be saved.

    Raises:
        ValueError: the name is taken by something else.

    >>> @register("double")
    ... def double(x):
    ...     return x * 2
    >>> import deepbabysit as db
    >>> layer_to_config(db.layers.Lambda(double))["config"]["function"]
    {'object': 'double'}
    """

    def enter(thing: Thing) -> Thing:
        known = _OWN.get(name, LAYERS.get(name))
        if known is not None and getattr(known, "__qualname__", known) != getattr(thing, "__qualname__", thing):
            raise ValueError(f"the name {name!r} is already registered for {known!r}; choose another")
        _OWN[name] = thing
        return thing

    return enter


def find_layer(name: str, objects: Mapping[str, Any] | None = None) -> type[Layer]:
    """Return the class of a name: handed in, registered, or the library's.

    Raises:
        KeyError: there is none of that name.
    """
    found = (objects or {}).get(name) or _OWN.get(name) or LAYERS.get(name)
    if found is None:
        raise KeyError(
            unknown("layer", name, [*LAYERS, *_OWN, *(objects or {})])
            + f". Hand your own class to the loading call: objects={{{name!r}: {name}}}"
        )
    if not (isinstance(found, type) and issubclass(found, Layer)):
        raise TypeError(f"{name!r} stands for {found!r}, which is no Layer class")
    return found


def layer_to_config(layer: Layer) -> dict[str, Any]:
    """Return the JSON-able description of a layer.

    Raises:
        TypeError: an argument cannot be written down (a function that is not registered, an array).
    """
    name = type(layer).__name__
    if LAYERS.get(name) is not type(layer):
        name = next((key for key, thing in _OWN.items() if thing is type(layer)), name)
    return {
        "class": name,
        "config": {key: _plain(value, f"{type(layer).__name__} (layer {layer.path}), argument {key}")
                   for key, value in layer.config().items()},
    }


def layer_from_config(text: Mapping[str, Any], objects: Mapping[str, Any] | None = None) -> Layer:
    """Make a layer from its description.

    Arguments:
        text: what `layer_to_config` returned.
        objects: name -> class or function of the caller's own.

    Raises:
        KeyError: a class or a function is not known here.
        ValueError: the description is damaged.
    """
    if not isinstance(text.get("class"), str) or not isinstance(text.get("config"), Mapping):
        raise ValueError(f"a layer is described by 'class' and 'config'; got the keys {sorted(map(str, text))}")
    cls = find_layer(text["class"], objects)
    return cls(**{key: _value(value, objects) for key, value in text["config"].items()})


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, Layer):
        if value.is_model():
            raise TypeError(
                f"{where}: a model inside of a layer cannot be written down; use the model as a layer instead"
            )
        return layer_to_config(value)
    for name, thing in _OWN.items():
        if thing is value:
            return {"object": name}
    if isinstance(value, Tensor | np.ndarray):
        raise TypeError(f"{where}: an array cannot be written into a description; make it a weight")
    config = getattr(value, "config", None)
    if callable(config) and not isinstance(value, type):
        return _plain(config(), where)
    factory = _named_factory(value)
    if factory is not None:
        return factory
    raise TypeError(
        f"{where}: {value!r} cannot be written into a model file, which holds no code. Register it first: "
        f"@db.layers.register({getattr(value, '__name__', 'name')!r})"
    )


def _named_factory(value: Any) -> dict[str, Any] | None:
    """Return the description of an initializer and its like that was handed over without calling it."""
    module = getattr(value, "__module__", "")
    if module in ("deepbabysit.initializers", "deepbabysit.regularizers", "deepbabysit.constraints"):
        return {"name": value.__name__}
    return None


def _value(value: Any, objects: Mapping[str, Any] | None) -> Any:
    if isinstance(value, list):
        return [_value(item, objects) for item in value]
    if not isinstance(value, Mapping):
        return value
    keys = set(value)
    if keys == {"class", "config"}:
        return layer_from_config(value, objects)
    if keys == {"dtype"}:
        return np.dtype(value["dtype"])
    if keys == {"object"}:
        name = value["object"]
        found = (objects or {}).get(name, _OWN.get(name))
        if found is None:
            raise KeyError(
                unknown("object", name, [*_OWN, *(objects or {})])
                + f". Hand it to the loading call: objects={{{name!r}: {name}}}"
            )
        return found
    return {key: _value(item, objects) for key, item in value.items()}
