"""deepbabysit: train neural networks on NumPy or CuPy arrays, with somebody watching.

>>> import deepbabysit as db
>>> model = db.Sequential([db.layers.Dense(16, activation="relu", input_shape=4), db.layers.Dense(3)])
>>> _ = model.compile("adam", "cross_entropy", metrics=["accuracy"])

The public names are served lazily: importing the package imports none of its parts, opens nothing and starts nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepbabysit import babysit, data, initializers, layers, losses, metrics, models, regularizers
    from deepbabysit.autograd import ops
    from deepbabysit.autograd.checkpointing import checkpoint
    from deepbabysit.autograd.function import Function
    from deepbabysit.autograd.gradcheck import gradcheck
    from deepbabysit.autograd.parameter import Parameter
    from deepbabysit.autograd.replay import record
    from deepbabysit.autograd.tensor import Tensor, tensor
    from deepbabysit.autograd.transforms import grad, value_and_grad
    from deepbabysit.data import datasets
    from deepbabysit.layers.layer import Layer
    from deepbabysit.layers.symbolic import Input
    from deepbabysit.layers.updates import training
    from deepbabysit.models.loading import load_model
    from deepbabysit.models.model import Model, Sequential
    from deepbabysit.runtime.context import no_grad, strict
    from deepbabysit.runtime.random import set_seed
    from deepbabysit.runtime.registry import backends, device, devices, register_backend, set_device
    from deepbabysit.runtime.settings import deterministic, free, set_num_threads
    from deepbabysit.training import callbacks
    from deepbabysit.training.history import History

__version__ = "0.1.0"

# Public name -> the module that holds it; a module stands for itself where the attribute is empty.
_NAMES: dict[str, tuple[str, str]] = {
    "Function": ("autograd.function", "Function"),
    "History": ("training.history", "History"),
    "Input": ("layers.symbolic", "Input"),
    "Layer": ("layers.layer", "Layer"),
    "Model": ("models.model", "Model"),
    "Parameter": ("autograd.parameter", "Parameter"),
    "Sequential": ("models.model", "Sequential"),
    "Tensor": ("autograd.tensor", "Tensor"),
    "babysit": ("babysit", ""),
    "backends": ("runtime.registry", "backends"),
    "callbacks": ("training.callbacks", ""),
    "checkpoint": ("autograd.checkpointing", "checkpoint"),
    "constraints": ("constraints", ""),
    "data": ("data", ""),
    "datasets": ("data.datasets", ""),
    "deterministic": ("runtime.settings", "deterministic"),
    "device": ("runtime.registry", "device"),
    "devices": ("runtime.registry", "devices"),
    "free": ("runtime.settings", "free"),
    "grad": ("autograd.transforms", "grad"),
    "gradcheck": ("autograd.gradcheck", "gradcheck"),
    "initializers": ("initializers", ""),
    "layers": ("layers", ""),
    "load_model": ("models.loading", "load_model"),
    "losses": ("losses", ""),
    "metrics": ("metrics", ""),
    "no_grad": ("runtime.context", "no_grad"),
    "ops": ("autograd.ops", ""),
    "optimizers": ("optimizers", ""),
    "record": ("autograd.replay", "record"),
    "register_backend": ("runtime.registry", "register_backend"),
    "regularizers": ("regularizers", ""),
    "schedules": ("optimizers.schedules", ""),
    "set_device": ("runtime.registry", "set_device"),
    "set_num_threads": ("runtime.settings", "set_num_threads"),
    "set_seed": ("runtime.random", "set_seed"),
    "strict": ("runtime.context", "strict"),
    "tensor": ("autograd.tensor", "tensor"),
    "training": ("training", ""),
    "value_and_grad": ("autograd.transforms", "value_and_grad"),
}

__all__ = [*_NAMES, "__version__"]


def __getattr__(name: str) -> Any:
    entry = _NAMES.get(name)
    if entry is None:
        if name.startswith("__"):
            raise AttributeError(name)
        from deepbabysit.errors import unknown

        raise AttributeError(f"deepbabysit: {unknown('name', name, _NAMES)}")
    module, attribute = entry
    _prepare(module)
    found: Any = importlib.import_module(f"deepbabysit.{module}")
    if attribute:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def _prepare(module: str) -> None:
    """Import what the operations on tensors need before anything that makes tensors."""
    if module != "data" and not module.startswith("data."):
        importlib.import_module("deepbabysit.autograd")


def __dir__() -> list[str]:
    return sorted(__all__)
