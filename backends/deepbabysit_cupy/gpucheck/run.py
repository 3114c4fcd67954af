"""All phases of a check, in order, each with its share of the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepbabysit.runtime.device import Device
from deepbabysit_cupy.gpucheck import correctness, speed
from deepbabysit_cupy.gpucheck.ceilings import ceilings, epilogues, versions
from deepbabysit_cupy.gpucheck.report import Report
from deepbabysit_cupy.gpucheck.sizes import Sizes


def open_device() -> Device:
    """Return the first GPU that can run, whether or not every operation has a kernel.

    Raises:
        BackendUnavailable: there is none; the message says why in one sentence.
    """
    from deepbabysit_cupy.backend import CupyBackend
    from deepbabysit_cupy.probe import usable_devices

    number = usable_devices()[0]
    return Device(f"cuda:{number}", CupyBackend(number))


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
    sizes = sizes or Sizes()
    report, backend = Report(path, budget, say), device.backend
    limits: dict[str, float] = {}
    best: dict[str, float] = {}

    def first() -> None:
        versions(report, backend)
        limits.update(ceilings(report, backend, sizes))

    report.run("versions and ceilings", 0.1, first)
    report.run("kernels against the reference", 0.3, lambda: correctness.kernels(report, device, sizes))
    report.run("graphs", 0.2, lambda: correctness.graphs(report, device, sizes))
    report.run("epilogues", 0.05, lambda: epilogues(report, backend, sizes))
    report.run(
        "memory-bound kernels", 0.08,
        lambda: correctness.bandwidth(report, device, sizes, limits.get("copy", float("nan"))),
    )
    report.run("training steps", 0.2, lambda: best.update(speed.ours(report, device, sizes)))
    report.run("statistics", 0.05, lambda: speed.watching(report, device, sizes))
    report.run("memory", 0.02, lambda: correctness.memory(report, device))
    report.run("peers", 0.6, lambda: speed.theirs(report, sizes, best))
    report.line("")
    report.line(f"{len(report.failed)} wrong: {', '.join(report.failed)}" if report.failed else "nothing wrong")
    return report.found
