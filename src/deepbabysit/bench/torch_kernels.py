"""Single operations of PyTorch: eager, compiled, channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.bench.kernels import IMAGES, Kernel, differentiated, inputs, upstream


def _operation(op: str, attrs: dict[str, Any]) -> Callable[..., Any]:
    import torch
    from torch.nn import functional

    relu = attrs.get("activation") == "relu"
    f: Any = functional

    def linear(x: Any, k: Any, b: Any) -> Any:
        y = torch.addmm(b, x, k)
        return torch.relu(y) if relu else y

    def lstm(z: Any, c: Any) -> Any:
        i, g, h, o = z.chunk(4, 1)
        return torch.sigmoid(o) * torch.tanh(torch.sigmoid(g) * c + torch.sigmoid(i) * torch.tanh(h))

    def gru(zx: Any, zh: Any, h: Any) -> Any:
        (a, b, c), (d, e, n) = zx.chunk(3, 1), zh.chunk(3, 1)
        update = torch.sigmoid(a + d)
        return update * h + (1 - update) * torch.tanh(c + torch.sigmoid(b + e) * n)

    table: dict[str, Callable[..., Any]] = {
        "linear": linear,
        "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": f.gelu, "silu": f.silu,
        "leaky_relu": f.leaky_relu, "elu": f.elu, "softplus": f.softplus, "erf": torch.erf,
        "softmax": lambda x: f.softmax(x, -1),
        "log_softmax": lambda x: f.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, attrs["axis"]),
        "max": lambda x: torch.amax(x, attrs["axis"]),
        "chain": lambda a, x, b: torch.tanh(a * x + b) * x,
        "dropout": lambda x: f.dropout(x, attrs["rate"], True),
        "softmax_cross_entropy": lambda x, y: f.cross_entropy(x, y, reduction="none"),
        "sigmoid_cross_entropy": lambda x, y: f.binary_cross_entropy_with_logits(x, y, reduction="none"),
        "batch_norm": lambda x, g, b: f.batch_norm(x, None, None, g, b, True, 0.0, 1e-3),
        "layer_norm": lambda x, g, b: f.layer_norm(x, (x.shape[-1],), g, b, 1e-5),
        "rms_norm": lambda x, g: f.rms_norm(x, (x.shape[-1],), g, 1e-5),
        "embedding": lambda t, i: f.embedding(i, t),
        "conv": lambda x, k, b: f.conv2d(x, k, b, padding="same"),
        "conv1d": lambda x, k, b: f.conv1d(x, k, b, padding="same"),
        "depthwise": lambda x, k: f.conv2d(x, k, padding=1, groups=x.shape[1]),
        "transposed": lambda x, k: f.conv_transpose2d(x, k, stride=2),
        "max_pool": lambda x: f.max_pool2d(x, attrs["size"], attrs["stride"]),
        "avg_pool": lambda x: f.avg_pool2d(x, 2),
        "global_pool": lambda x: x.mean((2, 3)),
        "attention": lambda q, k, v: f.scaled_dot_product_attention(q, k, v, is_causal=attrs.get("causal", False)),
        "lstm_cell": lstm,
        "gru_cell": gru,
        "sum": lambda x: x.sum() if attrs["axis"] is None else x.sum(attrs["axis"]),
    }  # fmt: skip
    return table[op]


def build(kernel: Kernel, name: str, device: str) -> tuple[Callable[[], Any], list[float]]:
    """Return a function that runs it forward and backward once, and the mean magnitude of result and gradients."""
    import torch

    given = inputs(kernel)
    if kernel["op"] == "optimizer":
        return _optimizer(kernel, given)
    image = kernel["op"] in IMAGES
    if image:
        given[0] = given[0].transpose(0, given[0].ndim - 1, *range(1, given[0].ndim - 1))
        if kernel["op"] in ("conv", "transposed"):  # (h, w, in, out) to (out, in, h, w)
            given[1] = given[1].transpose(3, 2, 0, 1)
        elif kernel["op"] == "conv1d":
            given[1] = given[1].transpose(2, 1, 0)
        elif kernel["op"] == "depthwise":
            given[1] = given[1].transpose(2, 3, 0, 1)
    tensors = [torch.from_numpy(np.ascontiguousarray(a)) for a in given]
    if name == "torch-last":
        tensors = [t.to(memory_format=torch.channels_last) if t.ndim == 4 else t for t in tensors]
    leaves = [tensors[n].requires_grad_() for n in differentiated(kernel)]
    operation: Any = _operation(kernel["op"], kernel["attrs"])
    if name == "torch-compile":
        operation = torch.compile(operation)
    if not leaves:
        with torch.inference_mode():
            return lambda: _forward(operation, tensors), [_size(operation(*tensors))]
    y = operation(*tensors)
    if y.ndim == 4 and image:
        n, c, h, w = y.shape
        start = torch.from_numpy(upstream((n, h, w, c))).permute(0, 3, 1, 2)
        start = start if name == "torch-last" else start.contiguous()
    else:
        start = torch.from_numpy(np.asarray(upstream(_last(y.shape) if image else y.shape, kernel["dtype"])))
        start = start.movedim(-1, 1).contiguous() if image and y.ndim == 3 else start
    check = [_size(v) for v in (y, *torch.autograd.grad(y, leaves, start))]

    def step() -> None:
        torch.autograd.grad(operation(*tensors), leaves, start)

    return step, check


def _forward(operation: Any, tensors: Any) -> None:
    import torch

    with torch.inference_mode():
        operation(*tensors)


def _last(shape: Any) -> Any:
    """Return a shape with the channels last."""
    return (shape[0], *shape[2:], shape[1])


def _size(value: Any) -> float:
    return float(value.detach().double().abs().mean())


def _optimizer(kernel: Kernel, given: list[np.ndarray]) -> tuple[Callable[[], Any], list[float]]:
    import torch

    parameters = [torch.nn.Parameter(torch.from_numpy(a)) for a in given]
    for p in parameters:
        p.grad = torch.from_numpy(upstream(p.shape))
    rules: dict[str, Callable[[Any], Any]] = {
        "sgd": lambda p: torch.optim.SGD(p, 1e-3, fused=True),
        "momentum": lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, fused=True),
        "rmsprop": lambda p: torch.optim.RMSprop(p, 1e-3, alpha=0.9, foreach=True),  # has no fused form
        "adam": lambda p: torch.optim.Adam(p, 1e-3, fused=True),
        "adamw": lambda p: torch.optim.AdamW(p, 1e-3, weight_decay=0.01, fused=True),
    }
    optimizer = rules[kernel["attrs"]["rule"]](parameters)
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    check = [float((p.detach() - w).double().abs().mean()) for p, w in zip(parameters, before, strict=True)]

    def step() -> None:
        optimizer.step()

    return step, check
