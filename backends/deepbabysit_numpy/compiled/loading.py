"""Finds compiled kernels when they first run, and tells how long that took."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

from deepbabysit.runtime.notices import NOTICES

MISSING = "numba is not installed: the plain NumPy kernels run, slower; pip install 'deepbabysit[fast]'"


@cache
def available() -> bool:
    """Tell whether Numba is installed; the first time it is not, the next run says so."""
    try:
        found = importlib.util.find_spec("numba") is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        NOTICES.tell(MISSING)
    return found


class _Times:
    """How many kernels were made ready since the last report, and how long it took."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.kernels = self.compiled = 0
        self.seconds = 0.0
        self.total = 0.0

    def report(self) -> str:
        """Return what there is to say, and begin anew; loading what was kept on disk is not worth a line."""
        with self.lock:
            count, compiled, seconds = self.kernels, self.compiled, self.seconds
            self.kernels = self.compiled = 0
            self.seconds = 0.0
        if not compiled:
            return ""
        return f"compiled {compiled} of {count} kernels in {seconds:.1f} s"


TIMES = _Times()
NOTICES.add_summary(TIMES.report)


class Listener(Protocol):
    """Is told of calls instead of their being run; `team`: whether it takes some that run at the same time."""

    team: bool

    def native(self, module: str, name: str, arguments: tuple[Any, ...]) -> None:
        """Write a call down."""

    def shared(self, module: str, name: str, parts: list[tuple[Any, ...]]) -> None:
        """Write calls down that may run at the same time: the arguments of each."""


LISTENERS: dict[int, Listener] = {}  # by thread


class Compiled:
    """A compiled function by the name of its module and its own; one for each dtype that it was called with.

    Arguments:
        module: name of the module in `code`.
        name: name of the function.
    """

    __slots__ = ("_function", "_ready", "module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name
        self._function: Any = None
        self._ready: set[Any] = set()

    def __call__(self, kind: Any, *arguments: Any) -> Any:
        """Run it; `kind` is what the types of the arguments follow from (a dtype)."""
        if LISTENERS:
            listener = LISTENERS.get(threading.get_ident())
            if listener is not None:
                return listener.native(self.module, self.name, arguments)
        if kind in self._ready:
            return self._function(*arguments)
        return self._first(kind, arguments)

    def ready(self, kind: Any) -> bool:
        """Tell whether it has run for this kind before."""
        return kind in self._ready

    def _first(self, kind: Any, arguments: tuple[Any, ...]) -> Any:
        result = self._timed(lambda function: function(*arguments))
        self._ready.add(kind)
        return result

    def compile(self, signature: tuple[Any, ...]) -> Any:
        """Make it ready for these Numba types; returns Numba's dispatcher."""
        self._timed(lambda function: function.compile(signature))
        return self.function()

    def _timed(self, make: Callable[[Any], Any]) -> Any:
        with TIMES.lock:
            begin = time.perf_counter()
            function = self.function()
            known = len(function.signatures)
            result = make(function)
            seconds = time.perf_counter() - begin
            if len(function.signatures) > known:
                TIMES.kernels += 1
                TIMES.compiled += not sum(function.stats.cache_hits.values())
            TIMES.seconds += seconds
            TIMES.total += seconds
        return result

    def function(self) -> Any:
        """Return Numba's dispatcher."""
        if self._function is None:
            from deepbabysit_numpy.compiled import jit

            if jit.FOLDER is None:
                NOTICES.tell(f"compiling kernels, anew in every process: {jit.NO_FOLDER}")
            elif not any(jit.FOLDER.iterdir()):
                NOTICES.tell(f"compiling kernels for this machine, once; they are kept in {jit.FOLDER}")
            module = importlib.import_module(f"deepbabysit_numpy.compiled.code.{self.module}")
            self._function = getattr(module, self.name)
        return self._function


