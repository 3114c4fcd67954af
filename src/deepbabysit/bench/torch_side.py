"""PyTorch as a contender: eager, fused Adam, compiled, channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.bench import torch_kernels
from deepbabysit.bench.cases import Case, batches, shapes, table, weights


def build(task: dict[str, Any], name: str, threads: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a function that does the task once, and what there is to say about it."""
    import torch

    torch.set_num_threads(threads)
    torch._dynamo.reset()
    plain, _, where = name.partition(":")
    if task["kind"] == "kernel":
        step, check = torch_kernels.build(task["kernel"], plain, where or "cpu")
        return step, {"check": check}
    return _BUILDERS[task["kind"]](task, plain, where or "cpu"), {}


def network(case: Case) -> Any:
    """Return the model with the initial weights that every contender starts from."""
    import torch
    from torch import nn

    made = []
    before: list[int] | None = None  # the image in front of a flattening: PyTorch's order has the channels first
    for (kind, *a), values, shape in zip(case["layers"], weights(case), shapes(case), strict=False):
        layer: Any
        if kind == "dense":
            layer = nn.Linear(shape[0], a[0])
            kernel = values[0]
            if before is not None and len(before) == 3:
                kernel = kernel.reshape(*before, a[0]).transpose(2, 0, 1, 3).reshape(-1, a[0])
                before = None
            _fill(layer, kernel.T, values[1])
        elif kind == "conv":
            layer = nn.Conv2d(shape[2], a[0], a[1], padding=a[2])
            _fill(layer, values[0].transpose(3, 2, 0, 1), values[1])
        elif kind == "norm":
            layer = nn.BatchNorm2d(shape[2], eps=1e-3, momentum=0.01)
        elif kind == "block":
            layer = nn.TransformerEncoderLayer(
                shape[1], a[0], 4 * shape[1], dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            inside = layer.self_attn
            joined = [np.concatenate(parts, -1) for parts in (values[0:6:2], values[1:6:2])]
            with torch.no_grad():
                inside.in_proj_weight.copy_(torch.from_numpy(np.ascontiguousarray(joined[0].T)))
                inside.in_proj_bias.copy_(torch.from_numpy(joined[1]))
            for part, number in ((inside.out_proj, 6), (layer.linear1, 12), (layer.linear2, 14)):
                _fill(part, values[number].T, values[number + 1])
        else:
            before = shape if kind == "flatten" else before
            layer = (
                nn.Dropout(a[0]) if kind == "dropout"
                else nn.MaxPool2d(2) if kind == "pool"
                else nn.ReLU() if kind == "relu"
                else nn.Flatten()
            )  # fmt: skip
        made.append(layer)
        if kind in ("dense", "conv") and a[-1]:
            made.append(nn.ReLU())
    return nn.Sequential(*made)


def _fill(layer: Any, kernel: np.ndarray, bias: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
        layer.bias.copy_(torch.from_numpy(bias))


def _step(task: dict[str, Any], name: str, device: str) -> Callable[[], float]:
    import torch

    case = task["case"]
    model = network(case).to(device)
    xs, ys = ([torch.from_numpy(v).to(device) for v in part] for part in batches(case, task.get("batches", 64)))
    if xs[0].ndim == 4:
        xs = [x.permute(0, 3, 1, 2).contiguous() for x in xs]
    if "-last" in name:
        xs = [x.to(memory_format=torch.channels_last) for x in xs]
        model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=name != "torch-eager")
    loss_of = torch.nn.MSELoss() if case["loss"] == "mse" else torch.nn.CrossEntropyLoss()
    forward: Any = lambda x, y: loss_of(model(x), y)  # noqa: E731
    if "-compile" in name:
        forward = torch.compile(forward)
    count = 0

    def step() -> float:
        nonlocal count
        optimizer.zero_grad()
        loss = forward(xs[count % len(xs)], ys[count % len(ys)])
        loss.backward()
        optimizer.step()
        count += 1
        return float(loss.item())

    return step


def _loading(task: dict[str, Any], name: str, device: str) -> Callable[[], int]:
    """Return one shuffled epoch of DataLoader: row by row as usual, or whole batches through a batch sampler."""
    import torch
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

    data = TensorDataset(*[torch.from_numpy(v) for v in table(task["case"], task["rows"])])
    size = task["case"]["batch"]
    loader: Any
    if name == "torch-batched":
        loader = DataLoader(data, sampler=BatchSampler(RandomSampler(data), size, drop_last=False), batch_size=None)
    else:
        loader = DataLoader(data, batch_size=size, shuffle=True)
    return lambda: sum(len(y) for _, y in loader)


_BUILDERS: dict[str, Callable[[dict[str, Any], str, str], Callable[[], Any]]] = {"step": _step, "loading": _loading}
