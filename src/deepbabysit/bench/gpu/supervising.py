"""A check in a process of its own: what a kernel breaks, or hangs in, costs that kernel and not the check.

After an illegal address nothing works in the process that met it, a wrong argument of a library may end the process, a
barrier that not all threads reach never ends. The process is then replaced by one that goes on behind what was begun.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from deepbabysit.bench.gpu.report import ended, fresh, write

SILENCE = 75.0  # seconds without a line or a figure after which a process hangs
_BREATH = 0.5
_BEYOND = 20.0  # seconds after the budget


def supervise(
    path: Path, budget: float, say: Callable[[str], None], command: Sequence[str] = (), silence: float = SILENCE
) -> dict[str, Any]:
    """Check a GPU; returns what was found.

    Arguments:
        path: of the JSON.
        budget: seconds for everything.
        say: gets every line at once.
        command: begins or continues a check; it gets the path and the budget as well.
        silence: seconds.
    """
    command = command or (sys.executable, "-m", "deepbabysit.bench.gpu.run")
    found = fresh()
    write(path, found)
    while True:
        before = _begun(found)
        why = _follow([*command, str(path), str(budget)], path, say, silence, found["began"] + budget + _BEYOND)
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.get("done"):
            return found
        what = _blame(found, why, _begun(found) == before)
        say(f"  WRONG {what}: {why}")
        write(path, found)
        if time.time() > found["began"] + budget or what == "the check":
            return found


def _begun(found: dict[str, Any]) -> list[Any]:
    return [[name, phase.get("begun"), ended(phase)] for name, phase in found["phases"].items()]


def _blame(found: dict[str, Any], why: str, again: bool) -> str:
    """Write down what a process has not survived; `again`: it had not come further than the one before."""
    nowhere: tuple[str, dict[str, Any]] = ("the check", {})
    name, phase = next(((n, p) for n, p in found["phases"].items() if not ended(p)), nowhere)
    pieces = phase.get("begun") or [name]
    what = name if again else pieces[-1]
    if again or pieces == [name]:
        phase["seconds"] = 0.0
    phase.setdefault("failed", {})[what] = why
    found["failed"].append(what)
    return str(what)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process, and the peers and tools that it has started."""
    if sys.platform == "win32":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _follow(command: Sequence[str], path: Path, say: Callable[[str], None], silence: float, until: float) -> str:
    """Pass a process's lines on until it ends; returns how that was."""
    lines: queue.Queue[str | None] = queue.Queue()
    last: deque[str] = deque(maxlen=1)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True,
    ) as process:
        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line.rstrip("\n"))
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        heard = time.time()
        try:
            while True:
                try:
                    line = lines.get(timeout=_BREATH)
                except queue.Empty:
                    now = time.time()
                    if now - max(heard, path.stat().st_mtime) > silence:
                        return f"nothing was heard for {silence:.0f} s"
                    if now > until:
                        return "the time was over"
                    continue
                if line is None:
                    break
                heard = time.time()
                say(line)
                last.extend([line] if line.strip() else [])
            return f"the process ended with status {process.wait()}: {''.join(last)[:200]}"
        finally:
            if process.poll() is None:
                _end(process)
