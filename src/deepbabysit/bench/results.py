"""The file of a run: what pytest-benchmark reads, with our own figures beside it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deepbabysit.bench.turns import quartiles
from deepbabysit.io.files import atomic_write

Results = dict[str, Any]
_PACKAGES = ("deepbabysit", "numpy", "numba", "torch", "jax")


def versions() -> dict[str, str]:
    """Return name -> version of what takes part."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def new(threads: int) -> Results:
    """Return the results of a run that has not begun."""
    return {
        "machine_info": {
            "node": "", "processor": platform.processor(), "machine": platform.machine(),
            "python_version": platform.python_version(), "python_implementation": platform.python_implementation(),
            "system": platform.system(), "release": platform.release(),
            "cpu": {"count": os.cpu_count(), "brand_raw": _processor()},
            "threads": threads, "versions": versions(), "limits": {}, "load": {},
        },
        "commit_info": {},
        "benchmarks": [],
        "figures": [],
        "skipped": {},
        "failed": {},
        "datetime": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "version": "5.1.0",
    }  # fmt: skip


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def row(part: str, group: str, name: str, seconds: Sequence[float], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return one benchmark as pytest-benchmark writes it: a contender in a group, its times in seconds."""
    data = sorted(seconds)
    low, middle, high = quartiles(data)
    mean = statistics.fmean(data)
    return {
        "group": f"{part}: {group}",
        "name": f"{part}[{group}-{name}]",
        "fullname": f"deepbabysit bench::{part}[{group}-{name}]",
        "params": {"case": group, "contender": name},
        "param": f"{group}-{name}",
        "extra_info": {"part": part, "case": group, "contender": name, **extra},
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": len(data), "warmup": True},
        "stats": {
            "min": data[0], "max": data[-1], "mean": mean, "median": middle,
            "stddev": statistics.stdev(data) if len(data) > 1 else 0.0,
            "rounds": len(data), "iterations": 1, "iqr": high - low, "q1": low, "q3": high, "ops": 1 / mean,
            "total": sum(data), "outliers": "0;0", "iqr_outliers": 0, "stddev_outliers": 0,
            "ld15iqr": data[0], "hd15iqr": data[-1], "data": list(seconds),
        },
    }  # fmt: skip


def figure(part: str, name: str, value: float, unit: str, limit: float | None = None, **extra: Any) -> dict[str, Any]:
    """Return one number that is no time, with the limit it should not exceed, if there is one."""
    return {"part": part, "name": name, "value": value, "unit": unit, "limit": limit, **extra}


def write(path: Path, results: Results) -> None:
    """Write the file; it is whole or absent."""
    atomic_write(path, (json.dumps(results, indent=1) + "\n").encode())


def read(path: Path) -> Results:
    """Return what `write` wrote, or what pytest-benchmark did.

    Raises:
        ValueError: the file holds no benchmarks.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("benchmarks"), list):
        raise ValueError(f"{path} holds no benchmarks; deepbabysit bench --json {path} writes such a file")
    return found
