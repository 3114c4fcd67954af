"""Kernels by file and name: compiled when the first of a file is needed, kept on disk, loaded once per GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deepbabysit.runtime.caches import UnsafeFolder, private_folder
from deepbabysit.runtime.notices import NOTICES
from deepbabysit_cupy import compiler
from deepbabysit_cupy.merging import Launch

THREADS = 256

Hear = Callable[[Launch | None], None]


class Function:
    """A kernel that can be launched on the stream in force.

    Arguments:
        library: whose kernel it is.
        text: its source, with includes by name.
        name: of the kernel.
        loaded: CuPy's function.
    """

    __slots__ = ("_library", "_loaded", "name", "text")

    def __init__(self, library: Library, text: str, name: str, loaded: Any) -> None:
        self._library = library
        self._loaded = loaded
        self.text = text
        self.name = name

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], arguments: Any, shared_mem: int = 0,
        rows: tuple[int, int] | None = None,
    ) -> None:
        """Launch it; arguments are arrays and NumPy scalars, `rows` is told of it (see `Launch`)."""
        library = self._library
        library.enter()
        if library.hear is not None:
            library.hear(Launch(self, self.text, self.name, grid, block, tuple(arguments), shared_mem, rows))
        self._loaded(grid, block, arguments, shared_mem)


class Library:
    """The kernels of one GPU.

    Arguments:
        cupy: the module.
        architecture: what is compiled for.
        enter: makes the GPU and its stream those in force.
    """

    def __init__(self, cupy: Any, architecture: int, enter: Callable[[], None]) -> None:
        self.enter = enter
        self.hear: Hear | None = None
        self._cupy = cupy
        self._architecture = architecture
        self._modules: dict[str, Any] = {}
        self._functions: dict[tuple[str, str], Function] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None
        try:
            self._folder = private_folder(f"cuda-{'.'.join(map(str, compiler.version()))}-sm{architecture}")
        except (OSError, UnsafeFolder) as error:
            NOTICES.tell(f"compiling CUDA kernels, anew in every process: {error}")

    def function(self, file: str, name: str) -> Function:
        """Return a kernel of a file in `src`."""
        found = self._functions.get((file, name))
        if found is None:
            text = (compiler.SOURCES / file).read_text(encoding="utf-8")
            found = self._functions[file, name] = Function(self, text, name, self._load(file, file).get_function(name))
        return found

    def made(self, text: str, name: str) -> Function:
        """Return a kernel of a source that was generated."""
        found = self._functions.get((text, name))
        if found is None:
            loaded = self._load(text, f"{name}.cu", text).get_function(name)
            found = self._functions[text, name] = Function(self, text, name, loaded)
        return found

    @contextmanager
    def heard_by(self, hear: Hear) -> Iterator[None]:
        """Let somebody hear of every launch in a block, and (as None) of every use of another library."""
        before, self.hear = self.hear, hear
        try:
            yield
        finally:
            self.hear = before

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
