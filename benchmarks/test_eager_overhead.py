"""Python per eager operation above raw NumPy: forward with recording on, small arrays, the commonest operations.

    pytest benchmarks/test_eager_overhead.py -s

Both contenders are timed in turns in one process; the figure is the median of the differences of pairs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import deepbabysit as db

_N = 2000
_PAIRS = 41


def _operations() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((8, 8)).astype(np.float32)
    b = rng.standard_normal((8, 8)).astype(np.float32)
    positive = np.abs(a) + 1
    x, y, p = (db.tensor(v, requires_grad=True) for v in (a, b, positive))
    ops = db.ops
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    index = np.array([0, 3, 3])
    rows = db.tensor(index)

    def softmax() -> Any:
        e = np.exp(a - a.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def sigmoid() -> Any:
        return half * np.tanh(half * a) + half

    return {
        "add": (lambda: x + y, lambda: a + b),
        "subtract": (lambda: x - y, lambda: a - b),
        "multiply": (lambda: x * y, lambda: a * b),
        "divide": (lambda: x / p, lambda: a / positive),
        "add number": (lambda: x + 1.0, lambda: a + one),
        "multiply number": (lambda: x * 0.5, lambda: a * half),
        "negative": (lambda: -x, lambda: -a),
        "matmul": (lambda: x @ y, lambda: a @ b),
        "exp": (lambda: ops.exp(x), lambda: np.exp(a)),
        "log": (lambda: ops.log(p), lambda: np.log(positive)),
        "sqrt": (lambda: ops.sqrt(p), lambda: np.sqrt(positive)),
        "tanh": (lambda: ops.tanh(x), lambda: np.tanh(a)),
        "sigmoid": (lambda: ops.sigmoid(x), sigmoid),
        "relu": (lambda: ops.relu(x), lambda: np.maximum(a, zero)),
        "softmax": (lambda: ops.softmax(x), softmax),
        "sum": (lambda: x.sum(axis=0), lambda: a.sum(axis=0)),
        "mean": (lambda: x.mean(axis=0), lambda: a.mean(axis=0)),
        "max": (lambda: x.max(axis=0), lambda: a.max(axis=0)),
        "reshape": (lambda: x.reshape(64), lambda: a.reshape(64)),
        "transpose": (lambda: x.T, lambda: a.T),
        "getitem": (lambda: x[2:4], lambda: a[2:4]),
        "take": (lambda: ops.take(x, rows), lambda: a.take(index, axis=0)),
    }


def _time(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(_N):
        function()
    return (time.perf_counter() - start) / _N * 1e6


def measure() -> dict[str, tuple[float, float]]:
    """Return operation -> (microseconds above NumPy, NumPy's microseconds), medians of interleaved pairs."""
    result = {}
    for name, (ours, theirs) in _operations().items():
        _time(ours), _time(theirs)
        pairs = [(_time(ours), _time(theirs)) for _ in range(_PAIRS)]
        result[name] = (statistics.median(o - t for o, t in pairs), statistics.median(t for _, t in pairs))
    return result


def test_overhead_of_eager_operations() -> None:
    found = measure()
    for name, (above, raw) in found.items():
        print(f"{name:16} {above:6.2f} us above NumPy's {raw:5.2f}")
    print(f"{'worst':16} {max(above for above, _ in found.values()):6.2f}")


@pytest.mark.parametrize("name", list(_operations()))
def test_operation(benchmark: Any, name: str) -> None:
    benchmark(_operations()[name][0])
