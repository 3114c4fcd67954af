"""Where CUDA's libraries are: installed as wheels, or on the system's path."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

INSTALL = "pip install 'deepbabysit[cuda12]' or 'deepbabysit[cuda13]'"


def load_library(name: str, folder: str, versions: Sequence[int] = (13, 12)) -> Any | None:
    """Return a library of the CUDA toolkit, the one that CuPy's own wheels bring first; None where there is none.

    Arguments:
        name: as in its file name, such as "nvrtc" for libnvrtc.so.12.
        folder: of its wheel for CUDA 12, such as "cuda_nvrtc"; wheels for CUDA 13 share one.
        versions: that its file on the system's path may have.
    """
    for path in _candidates(name, folder, versions):
        with suppress(OSError):
            return ctypes.CDLL(path)
    return None


def _candidates(name: str, folder: str, versions: Sequence[int]) -> list[str]:
    """Return where a library may be, the best place first."""
    found: list[str] = []
    if importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.pathfinder") is not None:
        from cuda import pathfinder

        with suppress(RuntimeError, OSError):  # then plain wheels and the system's path follow
            found.append(str(pathfinder.load_nvidia_dynamic_lib(name).abs_path))
    wheels = importlib.util.find_spec("nvidia")
    for place in [] if wheels is None else list(wheels.submodule_search_locations or ()):
        for pattern in (f"{folder}/lib/lib{name}.so.*", f"cu*/lib/lib{name}.so.*", f"*/bin/{name}64*.dll"):
            found += sorted(map(str, Path(place).glob(pattern)), reverse=True)
    return [path for path in [*found, *[f"lib{name}.so.{n}" for n in versions]] if "builtins" not in path]
