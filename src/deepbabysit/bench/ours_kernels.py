"""Single operations of deepbabysit, recorded and replayed: what a call costs inside a training step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from deepbabysit import layers, optimizers
from deepbabysit.autograd import ops
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.replay import Replay, record
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.bench.kernels import Kernel, differentiated, inputs, upstream
from deepbabysit.layers.updates import training
from deepbabysit.runtime.context import no_grad
from deepbabysit.runtime.device import Device

_STEP = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1)}
_ALONG = ("sum", "max", "logsumexp")
_APART = {"stride": (2, 2), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


def _same(kernel: Tensor) -> dict[str, Any]:
    """Return the attributes of a convolution that keeps the size of images, with a kernel of odd lengths."""
    window = kernel.shape[:-2]
    ones = (1,) * len(window)
    return {"stride": ones, "padding": tuple((n // 2, n // 2) for n in window), "dilation": ones}


def _operation(op: str, attrs: dict[str, Any]) -> Callable[..., Any]:
    kinds: Any = layers  # served lazily
    table: dict[str, Callable[[], Callable[..., Any]]] = {
        "linear": lambda: lambda x, k, b: ops.linear(x, k, b, activation=attrs["activation"]),
        "chain": lambda: lambda a, x, b: ops.tanh(a * x + b) * x,
        "dropout": lambda: kinds.Dropout(attrs["rate"]),
        "embedding": lambda: lambda t, i: ops.take(t, i, axis=0),
        "conv": lambda: lambda x, k, b: ops.affine_conv(x, k, b, **_same(k)),  # as the layers do it
        "conv1d": lambda: lambda x, k, b: ops.affine_conv(x, k, b, **_same(k)),
        "depthwise": lambda: lambda x, k: ops.depthwise_conv(x, k, **_STEP),
        "transposed": lambda: lambda x, k: ops.conv_transpose(x, k, **_APART),
        "max_pool": lambda: kinds.MaxPool2D(attrs["size"], attrs["stride"]),
        "avg_pool": lambda: kinds.AvgPool2D(2),
        "global_pool": lambda: kinds.GlobalAvgPool2D(),
        **{name: lambda: partial(getattr(ops, op), axis=attrs["axis"]) for name in _ALONG},
        "attention": lambda: lambda q, k, v: ops.attention(q, k, v, **attrs),
    }
    return table[op]() if op in table else getattr(ops, op)


def build(kernel: Kernel, name: str, device: Device) -> tuple[Callable[[], Any], list[float]]:
    """Return a function that runs it forward and backward once, and the mean magnitude of result and gradients."""
    if kernel["op"] == "optimizer":
        return _optimizer(kernel, device)
    given = inputs(kernel)
    leaves = differentiated(kernel)
    tensors = [Tensor(device.asarray(a), device, requires_grad=n in leaves) for n, a in enumerate(given)]
    operation = _operation(kernel["op"], kernel["attrs"])
    start: list[Tensor] = []

    def forward() -> Tensor:
        with no_grad(), training():
            y = operation(*tensors)
        return y[0] if isinstance(y, tuple) else y

    def step() -> None:
        for n in leaves:
            tensors[n].grad = None
        with training():
            y = operation(*tensors)
        y = y[0] if isinstance(y, tuple) else y
        if not start:
            start.append(Tensor(device.asarray(upstream(y.shape, kernel["dtype"])), device))
            check.append(_size(y))
        y.backward(start[0])

    check: list[float] = []
    if not leaves:
        replay = Replay(forward, device, enabled=name != "ours-eager")  # `record` would copy the result
        return lambda: replay(()) and None, [_size(forward())]
    step()
    check += [_size(tensors[n].grad) for n in leaves]
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
