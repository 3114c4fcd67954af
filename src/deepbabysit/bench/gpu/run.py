"""All phases of a check, in order, each with its share of the time.

``python -m deepbabysit.bench.gpu.run JSON SECONDS`` begins a check or continues one; `supervising` starts it.
"""

from __future__ import annotations

import importlib
import json
import sys
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
    device: Device, budget: float, path: Path | None, say: Callable[[str], None], sizes: Sizes | None = None,
    found: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Check a GPU; returns what was found.

    Arguments:
        device: the GPU.
        budget: seconds for everything.
        path: where the JSON goes after every phase; None keeps nothing.
        say: gets every line at once.
        sizes: how large the pieces are.
        found: what earlier processes of the same check have found.
    """
    sizes, plugin = sizes or Sizes(), _plugin()
    report = Report(path, budget, say, found)
    for name, share, work in _phases(report, device, plugin, sizes):
        report.run(name, share, work)
    report.found["done"] = True
    report.save()
    report.line("")
    report.line(f"{len(report.failed)} wrong: {', '.join(report.failed)}" if report.failed else "nothing wrong")
    return report.found


Phase = tuple[str, float, Callable[[], None]]


def _phases(report: Report, device: Device, plugin: Any, sizes: Sizes) -> list[Phase]:
    """Return (name, share of the time at most, work); together those before the peers leave them a sixth of it."""
    backend: Any = device.backend
    return [
        ("versions", 0.01, lambda: versions(report, backend, plugin)),
        ("ceilings", 0.05, lambda: ceilings(report, backend, plugin, sizes)),
        ("kernels against the reference", 0.2, lambda: correctness.kernels(report, device, sizes)),
        ("graphs", 0.12, lambda: correctness.graphs(report, device, sizes)),
        ("epilogues", 0.04, lambda: epilogues(report, backend, plugin, sizes)),
        ("memory-bound kernels", 0.05, lambda: correctness.bandwidth(report, device, sizes)),
        ("training steps", 0.15, lambda: speed.ours(report, device, sizes)),
        ("choices by timing", 0.01, lambda: speed.choices(report, device, plugin)),
        ("convolutions", 0.1, lambda: convolutions.compared(report, device, plugin, sizes)),
        ("statistics", 0.03, lambda: speed.watching(report, device, sizes)),
        ("memory", 0.01, lambda: correctness.memory(report, device)),
        ("NVIDIA's tools", 0.05, lambda: tools.look(report)),
        ("peers", 0.6, lambda: speed.theirs(report, sizes)),
    ]


def main(path: Path, budget: float, sizes: Sizes | None = None) -> None:
    """Continue the check whose figures are in a file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    run(open_device(), budget, path, lambda line: print(line, flush=True), sizes, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
