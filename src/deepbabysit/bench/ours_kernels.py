"""Single operations of deepbabysit, recorded and replayed: what a call costs inside a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit import layers, optimizers
from deepbabysit.autograd import ops
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.replay import record
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.bench.kernels import Kernel, differentiated, inputs, upstream
from deepbabysit.layers.updates import training
from deepbabysit.runtime.device import Device

_STEP = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
_APART = {"stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


def _operation(op: str, attrs: dict[str, Any]) -> Callable[..., Any]:
    kinds: Any = layers  # served lazily
    table: dict[str, Callable[[], Callable[..., Any]]] = {
        "linear": lambda: lambda x, k, b: ops.linear(x, k, b, activation=attrs["activation"]),
        "chain": lambda: lambda a, x, b: ops.tanh(a * x + b) * x,
        "dropout": lambda: kinds.Dropout(attrs["rate"]),
        "embedding": lambda: lambda t, i: ops.take(t, i, axis=0),
        "conv": lambda: lambda x, k, b: ops.conv2d(x, k, b, padding="same"),
        "depthwise": lambda: lambda x, k: ops.depthwise_conv(x, k, **_STEP),
        "transposed": lambda: lambda x, k: ops.conv_transpose(x, k, **_APART),
        "max_pool": lambda: kinds.MaxPool2D(2),
        "avg_pool": lambda: kinds.AvgPool2D(2),
        "sum": lambda: lambda x: x.sum(axis=0),
    }
    return table[op]() if op in table else getattr(ops, op)


def build(kernel: Kernel, name: str, device: Device) -> tuple[Callable[[], Any], list[float]]:
    """Return a function that runs it forward and backward once, and the mean magnitude of result and gradients."""
    if kernel["op"] == "optimizer":
        return _optimizer(kernel, device)
    given = inputs(kernel)
    count = differentiated(kernel)
    tensors = [Tensor(device.asarray(a), device, requires_grad=n < count) for n, a in enumerate(given)]
    operation = _operation(kernel["op"], kernel["attrs"])
    start: list[Tensor] = []

    def step() -> None:
        for x in tensors[:count]:
            x.grad = None
        with training():
            y = operation(*tensors)
        y = y[0] if isinstance(y, tuple) else y
        if not start:
            start.append(Tensor(device.asarray(upstream(y.shape)), device))
            check.append(_size(y))
        y.backward(start[0])

    check: list[float] = []
    step()
    check += [_size(x.grad) for x in tensors[:count]]
    return (step if name == "ours-eager" else record(step)), check


def _size(x: Any) -> float:
    return float(np.abs(x.numpy(), dtype=np.float64).mean())


def _optimizer(kernel: Kernel, device: Device) -> tuple[Callable[[], Any], list[float]]:
    parameters = [Parameter(device.asarray(a), device) for a in inputs(kernel)]
    rules: dict[str, Callable[[Any], Any]] = {
        "sgd": lambda p: optimizers.SGD(p, 1e-3),
        "momentum": lambda p: optimizers.SGD(p, 1e-3, momentum=0.9),
        "rmsprop": lambda p: optimizers.RMSprop(p, 1e-3),
        "adam": lambda p: optimizers.Adam(p, 1e-3),
        "adamw": lambda p: optimizers.AdamW(p, 1e-3, weight_decay=0.01),
    }
    optimizer = rules[kernel["attrs"]["rule"]](parameters)
    total: Any = sum((p * Tensor(device.asarray(upstream(p.shape)), device)).sum() for p in parameters)
    total.backward()  # the gradients stay where they are: every step uses them
    before = [p.numpy().copy() for p in parameters]
    optimizer.step()
    check = [float(np.abs(p.numpy() - w, dtype=np.float64).mean()) for p, w in zip(parameters, before, strict=True)]

    def step() -> None:
        optimizer.step()

    return record(step), check
