"""Kernels by file and name: compiled when the first of a file is needed, kept on disk, loaded once per GPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array
from deepbabysit.runtime.caches import UnsafeFolder, private_folder
from deepbabysit.runtime.notices import NOTICES
from deepbabysit_cupy import compiler

THREADS = 256

Argument = Array | np.generic


class Library:
    """The kernels of one GPU.

    Arguments:
        cupy: the module.
        architecture: what is compiled for.
    """

    def __init__(self, cupy: Any, architecture: int) -> None:
        self._cupy = cupy
        self._architecture = architecture
        self._modules: dict[str, Any] = {}
        self._functions: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None
        try:
            self._folder = private_folder(f"cuda-{'.'.join(map(str, compiler.version()))}-sm{architecture}")
        except (OSError, UnsafeFolder) as error:
            NOTICES.tell(f"compiling CUDA kernels, anew in every process: {error}")

    def function(self, file: str, name: str) -> Any:
        """Return a kernel of a file in `src`."""
        found = self._functions.get((file, name))
        if found is None:
            found = self._functions[file, name] = self._load(file, file).get_function(name)
        return found

    def made(self, text: str, name: str) -> Any:
        """Return a kernel of a source that was generated."""
        found = self._functions.get((text, name))
        if found is None:
            found = self._functions[text, name] = self._load(text, f"{name}.cu", text).get_function(name)
        return found

    def _load(self, key: str, title: str, text: str | None = None) -> Any:
        with self._lock:
            module = self._modules.get(key)
            if module is None:
                source = compiler.source(key) if text is None else compiler.with_includes(text)
                code = compiler.machine_code(source, self._architecture, self._folder, title)
                module = self._cupy.cuda.function.Module()
                module.load(code)
                self._modules[key] = module
        return module


def blocks(count: int, per_block: int = THREADS, most: int = 65535) -> int:
    """Return how many blocks cover `count` pieces of work, at least 1."""
    return max(1, min(-(-count // per_block), most))
