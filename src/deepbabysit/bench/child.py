"""The child's side: build a task, run it, measure it; blocked on its pipe between requests."""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

from deepbabysit.bench.contenders import library


def resident() -> dict[str, int]:
    """Return the memory of this process in bytes: now and at its peak (0 where the system does not say)."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return {"now": 0, "peak": 0}
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="ascii", errors="replace").splitlines())
    return {"now": int(lines["VmRSS"].split()[0]) << 10, "peak": int(lines["VmHWM"].split()[0]) << 10}


@final
class Child:
    """What a child does for its parent.

    Arguments:
        name: which contender it is.
        threads: how many processors it may use.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        own = library(name)
        self._module = importlib.import_module(f"deepbabysit.bench.{own}_side")
        if own in ("torch", "jax"):  # at once, so that memory is counted from here
            importlib.import_module(own)
        self._step: Callable[[], Any] | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Serve one request."""
        if message["do"] == "memory":
            for module in message.get("imports", ()):
                importlib.import_module(module)
            return resident()
        if message["do"] == "build":
            self._step = None
            gc.collect()
            self._step, report = self._module.build(message["task"], self.name, self.threads)
            return {"report": report}
        step = self._step
        if step is None:
            raise RuntimeError("build comes first")
        if message["do"] == "run":
            return {"results": [step() for _ in range(message["steps"])]}
        if message["do"] == "report":
            return {"report": self._module.report()}
        steps = range(message["steps"])
        gc.collect()
        start = time.perf_counter()
        for _ in steps:
            step()
        if hasattr(self._module, "finish"):
            self._module.finish()  # a GPU works on after the calls have returned
        return {"seconds": (time.perf_counter() - start) / len(steps)}


def _end_with_parent() -> None:
    """Let the system end this process when its parent dies: a stopped child does not see that its pipe closed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Serve requests until the pipe closes."""
    name, threads = sys.argv[1], int(sys.argv[2])
    _end_with_parent()
    if hasattr(os, "sched_setaffinity"):  # the one limit that every library keeps to
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not enter the protocol
    child = Child(name, threads)
    for line in sys.stdin:
        try:
            answer = child.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
