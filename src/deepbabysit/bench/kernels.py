"""Single operations, forward and backward: the references, the plain kernels, the compiled ones, PyTorch, JAX."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepbabysit.bench.contenders import library
from deepbabysit.bench.session import OURS, Session
from deepbabysit.bench.turns import Pace, run_turns

Kernel = dict[str, Any]

NAMES = (OURS, "ours-plain", "ours-reference", "torch-eager", "torch-compile", "torch-last", "jax")
IMAGES = ("conv", "conv1d", "depthwise", "transposed", "max_pool", "avg_pool", "batch_norm", "global_pool")
"""Operations whose input PyTorch wants with the channels second."""
RANDOM = ("dropout",)
_PARAMETERS = 535_818


def _kernel(
    op: str, *shapes: Sequence[int], high: int = 0, dtype: str = "float32", leaves: Sequence[int] | None = None,
    **attrs: Any,
) -> Kernel:
    """Return a description; `leaves` are the inputs that get a gradient: all arrays, some, or none (forward alone)."""
    kernel = {"op": op, "shapes": [list(shape) for shape in shapes], "high": high, "dtype": dtype, "attrs": attrs}
    return kernel if leaves is None else {**kernel, "leaves": list(leaves)}


_WIDE, _IMAGE = (256, 1024), (32, 16, 16, 64)
_ELEMENTWISE = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "erf", "gelu", "silu")
_HEADS = (8, 4, 64, 32)
_LONG_HEADS = (2, 4, 512, 64)
KERNELS: dict[str, Kernel] = {
    "linear relu 64x784x512": _kernel("linear", (64, 784), (784, 512), (512,), activation="relu"),
    "linear relu 256x784x512": _kernel("linear", (256, 784), (784, 512), (512,), activation="relu"),
    "linear 1024x512x10": _kernel("linear", (1024, 512), (512, 10), (10,), activation="linear"),
    **{f"{op} 256x1024": _kernel(op, _WIDE) for op in _ELEMENTWISE},
    **{f"{op} float16 256x1024": _kernel(op, _WIDE, dtype="float16") for op in ("relu", "sigmoid", "gelu", "softmax")},
    "gelu 64x256": _kernel("gelu", (64, 256)),
    "chain tanh(a*x+b)*x 256x1024": _kernel("chain", _WIDE, _WIDE, _WIDE),
    "dropout 256x1024": _kernel("dropout", _WIDE, rate=0.1),
    **{f"softmax {rows}x{width}": _kernel("softmax", (rows, width)) for rows, width in ((256, 1024), (16384, 16))},
    **{
        f"log_softmax {rows}x{width}": _kernel("log_softmax", (rows, width))
        for rows, width in ((512, 10), (512, 100), (256, 1000))
    },
    "logsumexp over rows 512x512": _kernel("logsumexp", (512, 512), axis=0),
    "logsumexp over columns 512x512": _kernel("logsumexp", (512, 512), axis=1),
    "softmax cross-entropy 256x10": _kernel("softmax_cross_entropy", (256, 10), high=10),
    "softmax cross-entropy 256x1000": _kernel("softmax_cross_entropy", (256, 1000), high=1000),
    "sigmoid cross-entropy 4096": _kernel("sigmoid_cross_entropy", (4096, 1), (4096, 1)),
    "batch norm 32x16x16x64": _kernel("batch_norm", _IMAGE, (64,), (64,)),
    "layer norm 512x512": _kernel("layer_norm", (512, 512), (512,), (512,)),
    "layer norm 4096x64": _kernel("layer_norm", (4096, 64), (64,), (64,)),
    "rms norm 512x512": _kernel("rms_norm", (512, 512), (512,)),
    "embedding 64x32 of 5000x64": _kernel("embedding", (5000, 64), high=5000, indices=(64, 32)),
    "max pool 32x28x28x16": _kernel("max_pool", (32, 28, 28, 16), size=2, stride=2),
    "max pool 3x3 stride 2 32x32x32x32": _kernel("max_pool", (32, 32, 32, 32), size=3, stride=2),
    "average pool 32x28x28x16": _kernel("avg_pool", (32, 28, 28, 16)),
    "global average pool 32x16x16x64": _kernel("global_pool", _IMAGE),
    "conv 5x5 32x28x28x1-6": _kernel("conv", (32, 28, 28, 1), (5, 5, 1, 6), (6,)),
    **{
        f"first conv 3x3 32x28x28x{channels}-32": _kernel(
            "conv", (32, 28, 28, channels), (3, 3, channels, 32), (32,), leaves=(1, 2)
        )
        for channels in (1, 2, 3)
    },
    "conv 3x3 32x32x32x3-32": _kernel("conv", (32, 32, 32, 3), (3, 3, 3, 32), (32,)),
    "conv 3x3 32x16x16x64-64": _kernel("conv", _IMAGE, (3, 3, 64, 64), (64,)),
    "conv 3x3 32x8x8x128-128": _kernel("conv", (32, 8, 8, 128), (3, 3, 128, 128), (128,)),
    "conv1d 3 32x128x64-64": _kernel("conv1d", (32, 128, 64), (3, 64, 64), (64,)),
    "depthwise 3x3 32x16x16x64": _kernel("depthwise", _IMAGE, (3, 3, 64, 1)),
    "depthwise 3x3 forward 32x16x16x64": _kernel("depthwise", _IMAGE, (3, 3, 64, 1), leaves=()),
    "depthwise 3x3 kernel 32x16x16x64": _kernel("depthwise", _IMAGE, (3, 3, 64, 1), leaves=(1,)),
    "transposed 2x2 32x8x8x64-32": _kernel("transposed", (32, 8, 8, 64), (2, 2, 32, 64)),
    "attention 8x4x64x32": _kernel("attention", *[_HEADS] * 3),
    "attention forward 8x4x64x32": _kernel("attention", *[_HEADS] * 3, leaves=()),
    "attention 2x4x512x64": _kernel("attention", *[_LONG_HEADS] * 3),
    "attention forward 2x4x512x64": _kernel("attention", *[_LONG_HEADS] * 3, leaves=()),
    "attention causal forward 2x4x512x64": _kernel("attention", *[_LONG_HEADS] * 3, leaves=(), causal=True),
    "lstm cell 64x256": _kernel("lstm_cell", (64, 1024), (64, 256)),
    "gru cell 64x256": _kernel("gru_cell", (64, 768), (64, 768), (64, 256)),
    "sum over rows 1024x1024": _kernel("sum", (1024, 1024), axis=0),
    **{f"sum {n}": _kernel("sum", (n,), axis=None) for n in (10_000, 30_000)},
    "largest 1024x1000": _kernel("max", (1024, 1000), leaves=(), axis=1),
    **{
        f"{op} {_PARAMETERS}": _kernel("optimizer", (784, 512), (512,), (512, 256), (256,), (256, 10), (10,), rule=op)
        for op in ("sgd", "momentum", "rmsprop", "adam", "adamw")
    },
}
QUICK = (
    "linear relu 64x784x512", "gelu 256x1024", "dropout 256x1024", "softmax cross-entropy 256x10",
    "batch norm 32x16x16x64", "conv 3x3 32x16x16x64-64", "max pool 32x28x28x16", f"adam {_PARAMETERS}",
)  # fmt: skip


def inputs(kernel: Kernel) -> list[np.ndarray]:
    """Return the inputs: normal arrays, then whole numbers below `high` where the operation takes labels."""
    rng = np.random.default_rng(0)
    found = [rng.standard_normal(shape, dtype=np.float32).astype(kernel["dtype"]) for shape in kernel["shapes"]]
    if kernel["op"] in ("linear", "conv", "conv1d", "transposed"):  # as weights are
        found[1] *= np.float32(np.prod(found[1].shape[:-1]) ** -0.5)
    if kernel["op"] == "sigmoid_cross_entropy":
        found[1] = (found[1] > 0).astype(np.float32)
    if kernel["high"]:
        shape = kernel["attrs"].get("indices") or kernel["shapes"][0][:-1]
        found.append(rng.integers(0, kernel["high"], shape))
    return found


def upstream(shape: Sequence[int], dtype: str = "float32") -> np.ndarray:
    """Return the gradient that backward starts from."""
    return np.random.default_rng(3).standard_normal(tuple(shape), dtype=np.float32).astype(dtype)


def differentiated(kernel: Kernel) -> list[int]:
    """Return which of the inputs get a gradient; none where only the forward pass is timed."""
    count = 1 if kernel["op"] == "sigmoid_cross_entropy" else len(kernel["shapes"])
    return list(kernel.get("leaves", range(count)))


def select(patterns: Sequence[str]) -> list[str]:
    """Return the names of the operations that patterns such as ``gelu*`` mean; none where they mean networks.

    >>> select(["attention*", "worked@64"])[:2]
    ['attention 8x4x64x32', 'attention forward 8x4x64x32']
    """
    return [name for name in KERNELS if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def names_for(kernel: Kernel, quick: bool, compiling: bool = False) -> list[str]:
    """Return the contenders that differ from each other on this operation.

    Arguments:
        kernel: the operation.
        quick: without `torch.compile`, which takes ten seconds for an operation that it sees first.
        compiling: with it in a quick run, and without the references, which are never the fastest.
    """
    image, optimizer = kernel["op"] in IMAGES, kernel["op"] == "optimizer"
    return [
        name for name in NAMES
        if not (name == "torch-last" and not image) and not (
            name == "torch-compile" and (quick and not compiling or image or optimizer)
        ) and not (
            name == "ours-reference" and (compiling or kernel["op"] in ("conv", "conv1d", "depthwise", "transposed"))
        )
    ]  # fmt: skip


def different(checks: Mapping[str, Sequence[float]], op: str) -> str:
    """Return which contender's result and gradients are not those of the others, or an empty text."""
    limit = 0.05 if op in RANDOM else 1e-3
    first = next(iter(checks.values()), ())
    for name, values in checks.items():
        if len(values) != len(first):
            return f"{name} has {len(values)} results, not {len(first)}"
        for n, (a, b) in enumerate(zip(first, values, strict=True)):
            if not abs(a - b) <= limit * max(abs(a), abs(b), 1e-6):
                what = "the result" if n == 0 else f"the gradient of input {n}"
                what = f"the change of parameter {n + 1}" if op == "optimizer" else what
                return f"{what}: mean magnitude {a:.6g}, of {name} {b:.6g}"
    return ""


def measure(session: Session) -> None:
    """Time every operation."""
    pace = Pace(5, 0.03) if session.quick else Pace(7, 0.05)
    for label in session.kernels or (QUICK if session.quick else KERNELS):
        kernel = KERNELS[label]
        names = session.allowed(names_for(kernel, session.quick, session.quick and bool(session.kernels)))
        names += [name for name in session.names if ":" in name and library(name) == "ours"]
        turns = run_turns(session.pool, {n: (n, {"kind": "kernel", "kernel": kernel}) for n in names}, pace, warm=3)
        wrong = different(turns.checks, kernel["op"])
        session.add("kernels", label, turns, {"op": kernel["op"], "different": wrong})
        if wrong:
            session.found["failed"][f"kernels[{label}]"] = f"the contenders compute different things: {wrong}"
            session.say(f"{label}: the contenders compute different things: {wrong}")
