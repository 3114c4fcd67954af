"""All phases of a check, in order, each with its share of the time."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepbabysit.bench.gpu import convolutions, correctness, speed, tools
from deepbabysit.bench.gpu.ceilings import ceilings, epilogues, versions
from deepbabysit.bench.gpu.report import Report
from deepbabysit.bench.gpu.sizes import Sizes
from deepbabysit.runtime.device import Device


def open_device() -> Device:
    """Return the first GPU that can run, whether or not every operation has a kernel.

    Raises:
        BackendUnavailable: there is none; the message says why in one sentence.
    """
    backend = _plugin().open_first()
    return Device(f"cuda:{backend.number}", backend)


def _plugin() -> Any:
    """Return what the backend offers for this; a plug-in, so nothing of it is imported before it is asked for."""
    return importlib.import_module("deepbabysit_cupy.checking")


def run(
    device: Device, budget: float, path: Path | None, say: Callable[[str], None], sizes: Sizes | None = None
) -> dict[str, Any]:
    """Check a GPU; returns what was found.

    Arguments:
        device: the GPU.
        budget: seconds for everything.
        path: where the JSON goes after every phase; None keeps nothing.
        say: gets every line at once.
        sizes: how large the pieces are.
    """
    sizes, plugin = sizes or Sizes(), _plugin()
    report = Report(path, budget, say)
    backend: Any = device.backend
    limits: dict[str, float] = {}
    best: dict[str, float] = {}

    def first() -> None:
        versions(report, backend, plugin)
        limits.update(ceilings(report, backend, plugin, sizes))

    report.run("versions and ceilings", 0.1, first)
    report.run("kernels against the reference", 0.3, lambda: correctness.kernels(report, device, sizes))
    report.run("graphs", 0.2, lambda: correctness.graphs(report, device, sizes))
    report.run("epilogues", 0.05, lambda: epilogues(report, backend, plugin, sizes))
    report.run(
        "memory-bound kernels", 0.08,
        lambda: correctness.bandwidth(report, device, sizes, limits.get("copy", float("nan"))),
    )
    report.run("training steps", 0.2, lambda: best.update(speed.ours(report, device, sizes)))
    report.run("choices by timing", 0.02, lambda: speed.choices(report, device, plugin))
    report.run("convolutions", 0.1, lambda: convolutions.compared(report, device, plugin, sizes))
    report.run("statistics", 0.05, lambda: speed.watching(report, device, sizes))
    report.run("memory", 0.02, lambda: correctness.memory(report, device))
    report.run("NVIDIA's tools", 0.08, lambda: tools.look(report))
    report.run("peers", 0.6, lambda: speed.theirs(report, sizes, best))
    report.line("")
    report.line(f"{len(report.failed)} wrong: {', '.join(report.failed)}" if report.failed else "nothing wrong")
    return report.found
