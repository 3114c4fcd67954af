"""How long a training step takes: ours by each way of running it, and the peers."""

from __future__ import annotations

import gc
from typing import Any

from deepbabysit.bench.cases import GPU_CASES
from deepbabysit.bench.gpu import peers
from deepbabysit.bench.gpu.ceilings import seconds
from deepbabysit.bench.gpu.report import Report
from deepbabysit.bench.gpu.sizes import Sizes
from deepbabysit.bench.gpu.training import Training
from deepbabysit.bench.ours_side import network
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call

CLOSE = 1.03  # of the best time
PATIENCE = 1.5  # a peer may take so many times its part: those that are quick leave some


HOWS = ("merged", "merged, chosen by timing", "graph", "merged, every loss read", "eager")


def ours(report: Report, device: Device, sizes: Sizes) -> None:
    """Measure steps call by call, captured, captured with merged launches."""
    backend: Any = device.backend
    merging = backend.merging
    for name in sizes.networks:
        for how in HOWS:
            if report.over:
                report.keep(f"{name} {how}", None, "not reached")
            elif report.begins(f"{name} {how}"):
                try:
                    _time(report, device, name, how, sizes.steps)
                except Exception as error:
                    report.fail(f"{name} {how}", f"{type(error).__name__}: {error}")
                gc.collect()
    backend.merging = merging


def _time(report: Report, device: Device, name: str, how: str, steps: int) -> None:
    backend: Any = device.backend
    backend.merging = how.startswith("merged")
    with surroundings(tune=how.endswith("timing")):  # algorithms are part of what is recorded
        training = Training(GPU_CASES[name], device, how != "eager", network)
        for _ in range(3):
            training.step()
    work = (lambda: training.step().item()) if how.endswith("read") else training.step
    time_of, spread = seconds(backend, work, steps)
    report.keep(f"{name} {how}", time_of, f"{time_of * 1e6:.1f} us (spread {spread:.0%})")


def _best(report: Report, name: str) -> float | None:
    """Return the best time of a network, every loss read left out."""
    found = [report.figure("training steps", f"{name} {how}") for how in HOWS if not how.endswith("read")]
    return min((time_of for time_of in found if time_of is not None), default=None)


def choices(report: Report, device: Device, plugin: Any) -> None:
    """Keep what was chosen by timing, and how far the library's first algorithms are from the best ones."""
    backend: Any = device.backend
    found = backend.choices()["choices"]
    first = [c["seconds"][0] / min(c["seconds"]) for key, c in found.items() if key.startswith("product")]
    close = sum(ratio <= CLOSE for ratio in first)
    report.keep("products whose first algorithm is within 3 %", [close, len(first)], f"{close} of {len(first)}")
    together = [c["way"] for c in found.values() if isinstance(c.get("way"), int)]
    report.keep("patterns done in the product", [sum(together), len(together)], f"{sum(together)} of {len(together)}")
    named = [c["way"] for c in found.values() if isinstance(c.get("way"), str)]
    changed = sum(way != plugin.OWN for way in named)
    report.keep("convolutions done another way", [changed, len(named)], f"{changed} of {len(named)}")
    report.keep("choices", found, f"{len(found)}, kept in {backend.tuning.path}")


def theirs(report: Report, sizes: Sizes) -> None:
    """Measure the peers on the same networks, the likely fastest first; each has a part of the time that is left."""
    for place, variant in enumerate(peers.VARIANTS):
        if reason := peers.missing(variant):
            report.keep(variant, {"skipped": reason}, f"skipped: {reason}")
            continue
        if report.over or not report.begins(variant):
            continue
        allowed = min(report.left / (len(peers.VARIANTS) - place) * PATIENCE, peers.LONGEST)
        for name, found in peers.ask(variant, sizes.networks, sizes.steps, allowed).items():
            if "error" in found:
                report.keep(f"{name} {variant}", found, f"skipped: {found['error']}")
                continue
            best = _best(report, name)
            ratio = None if best is None else found["seconds"] / best
            text = f"{found['seconds'] * 1e6:.1f} us (spread {found['spread']:.0%})"
            report.keep(f"{name} {variant}", {**found, "ratio": ratio}, f"{text}, {ratio or 0:.2f} times ours")


def watching(report: Report, device: Device, sizes: Sizes) -> None:
    """Measure what statistics of all weights cost beside a step."""
    name = sizes.networks[0]
    training = Training(GPU_CASES[name], device, True, network)
    for _ in range(3):
        training.step()
    plain, _ = seconds(device.backend, training.step, sizes.steps)
    flats = training._optimizer._flats

    def measured(every: int) -> float:
        count = 0

        def step() -> None:
            nonlocal count
            training.step()
            count += 1
            if count % every == 0:
                for flat in flats:
                    call(device, SPECS["segment_statistics"], (flat.w,), {"segments": flat.segments})

        return seconds(device.backend, step, sizes.steps)[0]

    for every in (1, 10):
        share = measured(every) / plain - 1
        report.keep(f"{name}: statistics every {every} steps", share, f"{share:+.1%}")
