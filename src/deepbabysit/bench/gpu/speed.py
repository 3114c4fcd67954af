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


def ours(report: Report, device: Device, sizes: Sizes) -> dict[str, float]:
    """Measure steps call by call, captured, captured with merged launches; returns the best of each network."""
    backend: Any = device.backend
    best: dict[str, float] = {}
    for name in sizes.networks:
        for how in ("merged", "merged, chosen by timing", "graph", "merged, every loss read", "eager"):
            if report.over:
                report.keep(f"{name} {how}", None, "not reached")
                continue
            backend.merging = how.startswith("merged")
            with surroundings(tune=how.endswith("timing")):  # algorithms are part of what is recorded
                training = Training(GPU_CASES[name], device, how != "eager", network)
                for _ in range(3):
                    training.step()
            work = (lambda t=training: t.step().item()) if how.endswith("read") else training.step  # type: ignore[misc]
            time_of, spread = seconds(device.backend, work, sizes.steps)
            report.keep(f"{name} {how}", time_of, f"{time_of * 1e6:.1f} us (spread {spread:.0%})")
            if not how.endswith("read"):
                best[name] = min(best.get(name, time_of), time_of)
            del training
            gc.collect()
    backend.merging = True
    return best


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


def theirs(report: Report, sizes: Sizes, best: dict[str, float]) -> None:
    """Measure the peers on the same networks."""
    for variant in peers.VARIANTS:
        if reason := peers.missing(variant):
            report.keep(variant, {"skipped": reason}, f"skipped: {reason}")
            continue
        for name in sizes.networks:
            if report.over:
                report.keep(f"{name} {variant}", None, "not reached")
                continue
            found = peers.ask(variant, name, sizes.steps, min(report.left, 60.0))
            if "error" in found:
                report.keep(f"{name} {variant}", found, f"skipped: {found['error']}")
                continue
            ratio = found["seconds"] / best[name] if name in best else None
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
