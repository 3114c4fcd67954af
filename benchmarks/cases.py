"""The networks that are timed, as data: every contender builds the same one from the same description."""

from __future__ import annotations

import math
from typing import Any

Case = dict[str, Any]


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
    _SIX += [["conv", _f, 3, "same", None], ["norm"], ["relu"]] + ([["pool"]] if _n % 2 else [])
_SIX += [["flatten"], ["dense", 10, None]]
_CNNS: list[Case] = [
    {"net": "lenet5", "input": [28, 28, 1], "layers": _LENET, "loss": "ce"},
    {"net": "two-conv", "input": [28, 28, 1], "layers": _TWO, "loss": "ce"},
    {"net": "six-conv-norm", "input": [32, 32, 3], "layers": _SIX, "loss": "ce"},
]


def _all() -> dict[str, Case]:
    found = [{**c, "batch": b} for c in _MLPS for b in (32, 64, 256, 1024)]
    found.append({**_mlp("tiny", [29, 16, 2], "ce"), "batch": 64})
    found += [{**c, "batch": b} for c in _CNNS for b in (32, 128)]
    return {f"{c['net']}@{c['batch']}": c for c in found}


CASES = _all()


def work(case: Case) -> tuple[float, int]:
    """Return (operations of the products of one step, parameters); the first layer's input gradient is not needed."""
    shape, flops, parameters, first = list(case["input"]), 0.0, 0, True
    for kind, *args in case["layers"]:
        if kind in ("dense", "conv"):
            if kind == "dense":
                inner, positions, out = shape[0], 1, [args[0]]
            else:
                k = args[1]
                size = [n if args[2] == "same" else n - k + 1 for n in shape[:2]]
                inner, positions, out = k * k * shape[2], size[0] * size[1], [*size, args[0]]
            flops += 2.0 * case["batch"] * positions * inner * args[0] * (2 if first else 3)
            parameters += inner * args[0] + args[0]
            shape, first = out, False
        elif kind == "pool":
            shape = [shape[0] // 2, shape[1] // 2, shape[2]]
        elif kind == "flatten":
            shape = [math.prod(shape)]
        elif kind == "norm":
            parameters += 2 * shape[-1]
    return flops, parameters
