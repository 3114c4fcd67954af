"""Is what the GPU computes right: kernels against references, graphs against their calls, losses against the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.bench.cases import GPU_CASES
from deepbabysit.bench.gpu.ceilings import seconds
from deepbabysit.bench.gpu.report import Report
from deepbabysit.bench.gpu.sizes import Sizes
from deepbabysit.bench.gpu.training import Training
from deepbabysit.bench.ours_side import network
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.registry import find_device
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check

LOSSES = 2e-2  # how far apart losses may be, relative to them, after some steps
_CHECKS = ("values", "layouts", "aliasing", "vjp", "replay")  # outputs are poisoned, and everything runs twice


def kernels(report: Report, device: Device, sizes: Sizes) -> None:
    """Run the conformance checks of every operation that has a kernel."""
    settings = Settings(("float64", "float32", "float16"), sizes.draws, 1, 1, 2)
    backend: Any = device.backend
    merging, backend.merging = backend.merging, False  # merged launches are compared with whole steps
    references = 0
    left = [name for name in (sizes.operations or SPECS.names()) if name in device.backend.kernels]
    lacking = [name for name in SPECS.names() if name not in device.backend.kernels]
    try:
        while left and not report.over:
            name = left.pop(0)
            if not report.begins(name):
                continue
            try:
                found = [run_check(device, SPECS[name], check, settings) for check in _CHECKS]
            except Exception as error:  # what is wrong is what is looked for
                report.fail(name, f"{type(error).__name__}: {error}")
                continue
            references += any(outcome.status in ("reference", "partly") for outcome in found)
    finally:
        backend.merging = merging
    report.keep("operations right", len([name for name in report.begun if name not in report.failed]))
    report.keep("of these with combinations left to the reference", references)
    report.keep("not reached", left, str(len(left)))
    report.keep("without a kernel", lacking, ", ".join(lacking) or "none")


Work = tuple[tuple[Any, ...], tuple[Any, ...] | None, int, dict[str, Any]]


def memory_bound(device: Device, n: int) -> dict[str, Work]:
    """Return operations that are bound by memory, with inputs of `n` elements, outputs, bytes of each, attributes."""
    rng = np.random.default_rng()
    flat = [device.asarray(rng.normal(size=n).astype(np.float32)) for _ in range(4)]
    rows = [a[: n // 1024 * 1024].reshape(-1, 1024) for a in flat]
    table = np.ones((6, 1))
    table[3:] = 0.0
    control = np.array([1, 1e-3, 1, np.inf, np.inf, 0, 1, 1, 0, 0], np.float64)
    small = [device.asarray(a) for a in (control, table, np.zeros(1, np.int64), np.array([[1.0], [1.0]]))]
    return {
        "relu": ((flat[0],), None, 8, {}),
        "add": ((flat[0], flat[1]), None, 12, {}),
        "gelu": ((flat[0],), None, 8, {}),
        "sum": ((rows[0],), None, 4, {"axis": (0,)}),
        "softmax": ((rows[0],), None, 8, {}),
        "tensor_statistics": ((flat[0],), None, 4, {}),
        "adam_update": ((*small, *flat), (small[3], flat[0], flat[2], flat[3]), 28, {}),
    }


def bandwidth(report: Report, device: Device, sizes: Sizes) -> None:
    """Measure kernels that are bound by memory, as a share of the copy."""
    n, copy = sizes.elements, report.figure("ceilings", "copy") or float("nan")
    for name, (arrays, outs, each, attrs) in memory_bound(device, n).items():
        if report.over or name not in device.backend.kernels or not report.begins(name):
            continue
        try:
            time_of, spread = seconds(
                device.backend, lambda: call(device, SPECS[name], arrays, attrs, outs), sizes.repeats  # noqa: B023
            )
        except Exception as error:
            report.fail(f"{name} over {n} elements", f"{type(error).__name__}: {error}")
            continue
        rate = each * n / time_of
        report.keep(name, rate, f"{rate / 1e12:.2f} TB/s, {rate / copy:.0%} of the copy (spread {spread:.0%})")


def graphs(report: Report, device: Device, sizes: Sizes) -> None:
    """Compare steps call by call, captured, and with merged launches: the same bits; and losses with the CPU."""
    backend: Any = device.backend
    merging = backend.merging
    for name in sizes.trained:
        if report.over:
            report.keep(name, "not reached")
        elif report.begins(name):
            try:
                _compare(report, device, name, sizes)
            except Exception as error:
                report.fail(name, f"{type(error).__name__}: {error}")
    backend.merging = merging


def _compare(report: Report, device: Device, name: str, sizes: Sizes) -> None:
    backend: Any = device.backend
    case = GPU_CASES[name]
    runs = {}
    for how in ("eager", "graph", "merged"):
        backend.merging = how == "merged"
        training = Training(case, device, how != "eager", network)
        runs[how] = ([float(loss) for loss in training.losses(sizes.compared)], training.values())
        if how != "eager" and not training.captured:
            report.fail(f"{name}, {how}", "the step was not captured")
    for how in ("graph", "merged"):
        same = all(a.tobytes() == b.tobytes() for a, b in zip(runs["eager"][1], runs[how][1], strict=True))
        if not same or runs["eager"][0] != runs[how][0]:
            report.fail(f"{name}, {how}", "its bits differ from those of the calls one by one")
    cpu = Training(case, find_device("cpu"), False, network).losses(min(sizes.compared, 20))
    distance = _apart(runs["graph"][0], cpu)
    report.keep(f"{name}: bits of a graph, losses against the CPU", distance, f"{distance:.1e} apart at most")
    if distance > LOSSES:
        report.fail(f"{name}, losses", f"{distance:.1e} apart from the CPU's")
    with surroundings(tune=True):
        tuned = Training(case, device, True, network).losses(sizes.compared)
    distance = _apart(tuned, runs["eager"][0])
    report.keep(f"{name}: losses with choices by timing", distance, f"{distance:.1e} apart from those without")
    if distance > LOSSES:
        report.fail(f"{name}, choices by timing", f"{distance:.1e} apart from those without")


def _apart(first: list[float], second: list[float]) -> float:
    return max(abs(a - b) / max(abs(b), 1e-3) for a, b in zip(first, second, strict=False))


def memory(report: Report, device: Device) -> None:
    """Keep what the pool holds."""
    pool = device.backend.xp.get_default_memory_pool()
    report.keep("pool", int(pool.total_bytes()), f"{pool.total_bytes() / 2**20:.0f} MiB")
    report.keep("given back", device.backend.free())


