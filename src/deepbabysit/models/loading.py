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
from deepbabysit.errors import nearest
from deepbabysit.io.tensors import read_tensors
from deepbabysit.models.architecture import build
from deepbabysit.models.model import KINDS, Model
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
    model = build(header["model"], own, constants, KINDS)
    weights = {name.removeprefix(WEIGHT): value for name, value in tensors.items() if name.startswith(WEIGHT)}
    if weights:
        kinds = {v.dtype for v in weights.values() if v.dtype.kind == "f"}
        if kinds == {np.dtype(np.float64)}:
            model.astype(np.float64)
    model.load_state_dict(weights)
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
