"""The machine's own limits, measured in a child like any contender: products, memory, an empty call."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_SMALLEST = 1 << 20


def build(task: dict[str, Any], name: str, threads: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a function that measures each limit once."""
    size = task.get("size", 1024)
    rng = np.random.default_rng(0)
    a, b, c = (rng.random((size, size), dtype=np.float32) for _ in range(3))
    beyond = task.get("bytes") or min(4 * _cache(), 2 << 30, _free() // 4)
    sizes = [_SMALLEST << (2 * n) for n in range(12) if _SMALLEST << (2 * n) < beyond] + [beyond]
    flat = (np.ones(beyond // 8, np.float32), np.ones(beyond // 8, np.float32))

    def once() -> dict[str, Any]:
        # least of many short times: a limit is what the machine can do when nobody disturbs it
        product = min(_seconds(lambda: np.matmul(a, b, out=c)) for _ in range(task.get("repeats", 12)))
        return {
            "flops": 2.0 * size**3 / product,
            "bandwidth": [[n, _bandwidth(flat, n, threads)] for n in sizes],
            "call": _empty_call(),
        }

    return once, {"beyond": beyond}


def _cache() -> int:
    """Return the bytes of the last cache, or 64 MiB where the system does not say."""
    found = [64 << 20]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        if text.endswith("K") and text[:-1].isdigit():
            found.append(int(text[:-1]) << 10)
    return max(found)


def _free() -> int:
    """Return the bytes of memory that can be taken, or 2 GiB where the system does not say."""
    file = Path("/proc/meminfo")
    lines = file.read_text(encoding="ascii", errors="replace").splitlines() if file.is_file() else []
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), 2 << 30)


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _bandwidth(flat: tuple[np.ndarray, np.ndarray], size: int, threads: int) -> float:
    """Return bytes per second of ``a += b`` (two read, one written) over `size` bytes in all, in several threads."""
    length = max(size // 8 // threads, 1)
    repeats = max(1, (64 << 20) // size)
    parts = [(flat[0][n * length : (n + 1) * length], flat[1][n * length : (n + 1) * length]) for n in range(threads)]
    best = 0.0
    for _ in range(3):
        gate = threading.Barrier(threads)
        spans: list[tuple[float, float]] = []

        def work(part: tuple[np.ndarray, np.ndarray], gate: Any = gate, spans: Any = spans) -> None:
            a, b = part
            np.add(a, b, out=a)
            gate.wait()
            start = time.perf_counter()
            for _ in range(repeats):
                np.add(a, b, out=a)
            spans.append((start, time.perf_counter()))

        team = [threading.Thread(target=work, args=(part,)) for part in parts]
        for member in team:
            member.start()
        for member in team:
            member.join()
        seconds = max(end for _, end in spans) - min(start for start, _ in spans)
        best = max(best, 12.0 * length * threads * repeats / seconds)
    return best


def _empty_call() -> float:
    """Return the seconds of one call from Python into compiled code that has next to nothing to do."""
    a, out = np.ones((1, 1), np.float32), np.empty((1, 1), np.float32)

    def many() -> None:
        for _ in range(1000):
            np.matmul(a, a, out)

    return statistics.median(_seconds(many) for _ in range(9)) / 1000
