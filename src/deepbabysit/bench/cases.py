"""The networks that are timed, as data: every contender builds the same one from the same description."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepbabysit.errors import unknown

Case = dict[str, Any]

LABEL_NOISE = 0.2
"""Share of labels that are drawn anew at every visit, so that no network can learn them by heart."""
_VISITS = 8
_LARGEST = 64 << 20  # bytes of inputs that every contender keeps


def _mlp(name: str, sizes: list[int], loss: str, dropout: float = 0.0) -> Case:
    layers: list[list[Any]] = []
    for size in sizes[1:-1]:
        layers += [["dense", size, "relu"]] + ([["dropout", dropout]] if dropout else [])
    return {"net": name, "input": [sizes[0]], "layers": [*layers, ["dense", sizes[-1], None]], "loss": loss}


_MLPS = [
    _mlp("300-mse", [784, 300, 10], "mse"),
    _mlp("100-mse", [784, 100, 10], "mse"),
    _mlp("300-100-mse", [784, 300, 100, 10], "mse"),
    _mlp("500-150-mse", [784, 500, 150, 10], "mse"),
    _mlp("800-ce", [784, 800, 10], "ce"),
    _mlp("500-300-ce", [784, 500, 300, 10], "ce"),
    _mlp("six-layer-ce", [784, 2500, 2000, 1500, 1000, 500, 10], "ce"),
    _mlp("worked", [784, 512, 256, 10], "ce", 0.1),
]
_LENET = [["conv", 6, 5, "same", "relu"], ["pool"], ["conv", 16, 5, "valid", "relu"], ["pool"], ["flatten"],
          ["dense", 120, "relu"], ["dense", 84, "relu"], ["dense", 10, None]]
_TWO = [["conv", 32, 3, "valid", "relu"], ["pool"], ["conv", 64, 3, "valid", "relu"], ["pool"], ["flatten"],
        ["dense", 10, None]]
_SIX: list[list[Any]] = []
for _n, _f in enumerate([32, 32, 64, 64, 128, 128]):
    _SIX.extend([["conv", _f, 3, "same", None], ["norm"], ["relu"]])
    _SIX.extend([["pool"]] if _n % 2 else [])
_SIX.extend([["flatten"], ["dense", 10, None]])
_CNNS: list[Case] = [
    {"net": "lenet5", "input": [28, 28, 1], "layers": _LENET, "loss": "ce"},
    {"net": "two-conv", "input": [28, 28, 1], "layers": _TWO, "loss": "ce"},
    {"net": "six-conv-norm", "input": [32, 32, 3], "layers": _SIX, "loss": "ce"},
]
MLP_NETS = tuple(case["net"] for case in _MLPS)


def _all() -> dict[str, Case]:
    found = [{**c, "batch": b} for c in _MLPS for b in (32, 64, 256, 1024)]
    found.append({**_mlp("tiny", [29, 16, 2], "ce"), "batch": 64})
    found += [{**c, "batch": b} for c in _CNNS for b in (32, 128)]
    return {f"{c['net']}@{c['batch']}": c for c in found}


CASES = _all()
# Sequences (tokens, features) through blocks of a transformer (heads; pre-norm, GELU, four times as wide within): timed
# on a GPU only.
TRANSFORMERS: dict[str, Case] = {
    f"{name}@{batch}": {"net": name, "input": size, "layers": [*blocks, ["flatten"], ["dense", 10, None]], "loss": "ce",
                        "batch": batch}
    for name, size, blocks, batch in (
        ("transformer-256", [64, 256], [["block", 4]] * 4, 32), ("transformer-512", [128, 512], [["block", 8]] * 4, 32),
        ("transformer-128", [32, 128], [["block", 4]] * 2, 32), ("transformer-tiny", [8, 16], [["block", 2]], 16),
    )
}  # fmt: skip
GPU_CASES = {**CASES, **TRANSFORMERS}
QUICK = ("100-mse@64", "300-100-mse@64", "worked@32", "worked@64", "worked@256", "tiny@64", "lenet5@32",
         "six-conv-norm@32")  # fmt: skip


def meant(pattern: str) -> list[str]:
    """Return the names of the cases that a pattern means, none or more."""
    return fnmatch.filter(CASES, pattern) or fnmatch.filter(CASES, f"{pattern}@*")


def select(patterns: Sequence[str]) -> list[str]:
    """Return the names of the cases that patterns such as ``worked@64`` or ``*@32`` mean.

    Raises:
        ValueError: a pattern means none.

    >>> select(["worked@*"])
    ['worked@32', 'worked@64', 'worked@256', 'worked@1024']
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = meant(pattern)
        if not names:
            raise ValueError(unknown("case", pattern, CASES))
        found.update(dict.fromkeys(names))
    return [name for name in CASES if name in found]


def shapes(case: Case) -> list[list[int]]:
    """Return the shape of one sample before each layer, and after the last."""
    shape, found = list(case["input"]), []
    for kind, *a in case["layers"]:
        found.append(shape)
        if kind == "dense":
            shape = [a[0]]
        elif kind == "conv":
            shape = [*(n if a[2] == "same" else n - a[1] + 1 for n in shape[:2]), a[0]]
        elif kind == "pool":
            shape = [shape[0] // 2, shape[1] // 2, shape[2]]
        elif kind == "flatten":
            shape = [math.prod(shape)]
    return [*found, shape]


def work(case: Case) -> tuple[float, int]:
    """Return (operations of the products of one step, parameters); the first layer's input gradient is not needed."""
    flops, parameters, first = 0.0, 0, True
    before = shapes(case)
    for (kind, *args), shape, after in zip(case["layers"], before, before[1:], strict=False):
        if kind in ("dense", "conv"):
            inner = shape[0] if kind == "dense" else args[1] ** 2 * shape[2]
            positions = math.prod(after[:-1])
            flops += 2.0 * case["batch"] * positions * inner * args[0] * (2 if first else 3)
            parameters += inner * args[0] + args[0]
            first = False
        elif kind == "norm":
            parameters += 2 * shape[-1]
        elif kind == "block":
            tokens, width = shape
            flops += 6.0 * case["batch"] * tokens * width * (12 * width + 2 * tokens)
            parameters += 12 * width**2 + 13 * width
            first = False
    return flops, parameters


def weights(case: Case) -> list[tuple[np.ndarray, ...]]:
    """Return the initial weights of each layer, float32: (kernel, bias), (gamma, beta), a block's, or nothing.

    A block's are (kernel, bias) of query, key, value, output, (gamma, beta) of both normalizations, (kernel, bias) of
    the hidden layer and of the last one, with variance 1 / fan-in. Other kernels are (in, out) and (height, width, in,
    out), normal with variance 2 / fan-in.
    """
    rng = np.random.default_rng(1)
    found: list[tuple[np.ndarray, ...]] = []
    for (kind, *a), shape in zip(case["layers"], shapes(case), strict=False):
        if kind in ("dense", "conv"):
            size = (shape[0], a[0]) if kind == "dense" else (a[1], a[1], shape[2], a[0])
            kernel = rng.standard_normal(size, dtype=np.float32) * np.float32(math.sqrt(2 / math.prod(size[:-1])))
            found.append((kernel, np.zeros(a[0], np.float32)))
        elif kind == "norm":
            found.append((np.ones(shape[-1], np.float32), np.zeros(shape[-1], np.float32)))
        elif kind == "block":
            n = shape[-1]
            parts: list[np.ndarray] = []
            for inner, outer in [*[(n, n)] * 4, (0, n), (0, n), (n, 4 * n), (4 * n, n)]:
                kernel = rng.standard_normal((inner, outer), dtype=np.float32) / np.float32(math.sqrt(max(inner, 1)))
                parts += [kernel if inner else np.ones(outer, np.float32), np.zeros(outer, np.float32)]
            found.append(tuple(parts))
        else:
            found.append(())
    return found


def batches(case: Case, count: int = 64) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return float32 inputs (channels last) and targets of a task that can be learned, but never by heart.

    Each class has a prototype, inputs are the prototype of their class plus noise, and a fifth of the labels is drawn
    anew at every visit of a batch: the loss stays well above zero however long a contender trains, and no gradient
    fades into numbers too small for full speed (subnormal). Step i takes inputs ``i % len(x)``, targets ``i % len(y)``.
    """
    rng = np.random.default_rng(0)
    size, classes = case["batch"], case["layers"][-1][1]
    inner = math.prod(case["input"])
    count = max(4, min(count, _LARGEST // (4 * size * inner)))
    prototypes = rng.standard_normal((classes, *case["input"]), dtype=np.float32) * np.float32(3 / math.sqrt(inner))
    labels = [rng.integers(0, classes, size) for _ in range(count)]
    x = [prototypes[y] + rng.standard_normal((size, *case["input"]), dtype=np.float32) for y in labels]
    targets = []
    for visit in range(count * _VISITS):
        y = np.where(rng.random(size) < LABEL_NOISE, rng.integers(0, classes, size), labels[visit % count])
        targets.append(np.eye(classes, dtype=np.float32)[y] if case["loss"] == "mse" else y)
    return x, targets


def table(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` rows of the task of `batches` with their classes: a data set in the shape of MNIST, say."""
    rng = np.random.default_rng(2)
    inner, classes = math.prod(case["input"]), case["layers"][-1][1]
    y = rng.integers(0, classes, count)
    prototypes = rng.standard_normal((classes, *case["input"]), dtype=np.float32) * np.float32(3 / math.sqrt(inner))
    x = rng.standard_normal((count, *case["input"]), dtype=np.float32)
    x += prototypes[y]
    noisy = rng.random(count) < LABEL_NOISE
    y[noisy] = rng.integers(0, classes, int(noisy.sum()))
    return x, y
