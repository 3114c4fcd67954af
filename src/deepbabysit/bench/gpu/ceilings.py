"""What the machine can do at best: copies, products, the cost of a launch."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.bench.gpu.report import Report
from deepbabysit.bench.gpu.sizes import Sizes

_EMPTY = 'extern "C" __global__ void nothing(float* x) { if (x == 0) x[0] = 1.0f; }\n'


def seconds(backend: Any, work: Callable[[], Any], repeats: int, rounds: int = 5) -> tuple[float, float]:
    """Return the median time of one call, and the spread of the rounds relative to it."""
    found = []
    work()
    for _ in range(rounds):
        backend.synchronize()
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        backend.synchronize()
        found.append((time.perf_counter() - start) / repeats)
    middle = statistics.median(found)
    return middle, (max(found) - min(found)) / middle


def versions(report: Report, backend: Any, plugin: Any) -> None:
    """Keep what runs here."""
    runtime = backend.xp.cuda.runtime
    properties = runtime.getDeviceProperties(backend.number)
    name = properties["name"]
    report.keep("GPU", name.decode() if isinstance(name, bytes) else str(name))
    report.keep("processors", int(properties["multiProcessorCount"]))
    report.keep("memory", int(properties["totalGlobalMem"]), f"{properties['totalGlobalMem'] / 2**30:.1f} GiB")
    report.keep("capability", f"{properties['major']}.{properties['minor']}")
    report.keep("driver, runtime", [int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion())])
    report.keep("CuPy, NVRTC", [backend.xp.__version__, plugin.compiler_version()])
    report.keep("Python, NumPy, system", [sys.version.split()[0], np.__version__, platform.platform()])


def ceilings(report: Report, backend: Any, plugin: Any, sizes: Sizes) -> None:
    """Measure copies, products, launches."""
    works: dict[str, Callable[[], None]] = {
        "copy": lambda: _copies(report, backend, sizes), "launches": lambda: _launches(report, backend),
        "products": lambda: _products(report, backend, plugin, sizes),
    }
    for name, work in works.items():
        if report.begins(name):
            try:
                work()
            except Exception as error:
                report.fail(name, f"{type(error).__name__}: {error}")


def _copies(report: Report, backend: Any, sizes: Sizes) -> None:
    a = backend.empty((min(sizes.copied, int(backend.xp.cuda.runtime.memGetInfo()[0]) // 4) // 4,), np.float32)
    b = backend.empty(a.shape, a.dtype)
    size = a.nbytes

    def copy(target: Any = b.data, source: Any = a.data) -> None:
        target.copy_from_device_async(source, size, backend.stream)

    time_of, spread = seconds(backend, copy, 5)
    rate = 2 * size / time_of
    report.keep("copy", rate, f"{rate / 1e12:.2f} TB/s (spread {spread:.0%})")


def _products(report: Report, backend: Any, plugin: Any, sizes: Sizes) -> None:
    rng = np.random.default_rng()
    n = sizes.product
    host = rng.normal(size=(n, n)).astype(np.float32)
    for dtype, tf32 in (("float32", False), ("float32", True), ("float16", False), ("bfloat16", False)):
        name = f"product {n} {'tf32' if tf32 else dtype}"
        product = plugin.square(n, dtype, tf32=tf32)
        kind = np.dtype(np.uint16 if dtype == "bfloat16" else dtype)
        # bfloat16 is stored as the upper half of a float32: random values, never zeros, which are faster
        values = (host.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else host.astype(kind)
        if not backend.lt.supports(product):
            report.keep(name, None, "not offered")
            continue
        x, y = backend.asarray(values), backend.asarray(values)
        z = backend.empty((n, n), kind)

        def multiply(p: Any = product, x: Any = x, y: Any = y, z: Any = z) -> None:
            backend.lt.run(p, x.data.ptr, y.data.ptr, z.data.ptr, 0, backend.stream.ptr)

        time_of, spread = seconds(backend, multiply, sizes.repeats)
        rate = 2 * n**3 / time_of
        report.keep(name, rate, f"{rate / 1e12:.1f} TFLOP/s (spread {spread:.0%})")


def _launches(report: Report, backend: Any) -> None:
    x = backend.asarray(np.ones(1, np.float32))
    function = backend.library.made(_EMPTY, "nothing")

    def hundred() -> None:
        for _ in range(100):
            function((1,), (32,), (x,))

    hundred()
    backend.stream.begin_capture()
    hundred()
    graph = backend.stream.end_capture()
    for name, work in (("launch", hundred), ("node of a graph", lambda: graph.launch(backend.stream))):
        time_of, spread = seconds(backend, work, 20)
        report.keep(name, time_of / 100, f"{time_of * 1e4:.2f} us (spread {spread:.0%})")


def epilogues(report: Report, backend: Any, plugin: Any, sizes: Sizes) -> None:
    """Keep which epilogues the matrix library offers, by dtype and alignment, and how far each is from float64."""
    for dtype in ("float32", "float16", "bfloat16", "float64"):
        for epilogue in plugin.EPILOGUES:
            if not report.begins(f"{dtype} {epilogue or 'plain'}"):
                continue
            offered: dict[str, Any] = {}
            for name, n in (("aligned", sizes.aligned), ("odd", sizes.aligned + 3)):
                product = plugin.square(n, dtype, epilogue)
                try:
                    offered[name] = backend.lt.supports(product)
                    error = plugin.error_of(backend, product) if offered[name] else None
                    if error is not None:
                        offered[f"{name}, error"] = error
                        if not error <= plugin.bound_of(product):  # NaN is wrong, too
                            report.fail(f"{dtype} {epilogue or 'plain'}, {name}", f"{error:.1e} from float64")
                except Exception as error:  # a status of the library is what is asked for here
                    offered[name] = str(error)
            report.keep(f"{dtype} {epilogue or 'plain'}", offered, _told(offered))


def _told(offered: dict[str, Any]) -> str:
    parts = []
    for name in ("aligned", "odd"):
        error = offered.get(f"{name}, error")
        how = "offered" if offered[name] is True else "not offered" if offered[name] is False else offered[name]
        parts.append(f"{name}: {how}{'' if error is None else f' ({error:.0e})'}")
    return ", ".join(parts)
