"""PyTorch: eager, fused Adam, compiled, channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.contenders.data import batch


def build(case: dict[str, Any], name: str, threads: int) -> Callable[[], float]:
    """Return a function that trains one step and returns the loss."""
    torch.set_num_threads(threads)
    nn, made = torch.nn, []
    x, y = (torch.from_numpy(v) for v in batch(case))
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
    channels = x.shape[1]
    for kind, *a in case["layers"]:
        if kind == "dense":
            made += [nn.LazyLinear(a[0])] + ([nn.ReLU()] if a[1] else [])
        elif kind == "conv":
            made += [nn.Conv2d(channels, a[0], a[1], padding=a[2])] + ([nn.ReLU()] if a[3] else [])
            channels = a[0]
        else:
            made.append(
                nn.Dropout(a[0]) if kind == "dropout"
                else nn.MaxPool2d(2) if kind == "pool"
                else nn.BatchNorm2d(channels) if kind == "norm"
                else nn.ReLU() if kind == "relu"
                else nn.Flatten()
            )
    model = nn.Sequential(*made)
    if name == "torch-last":
        x = x.to(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    model(x)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=name != "torch-eager")
    loss_of = nn.MSELoss() if case["loss"] == "mse" else nn.CrossEntropyLoss()
    forward = lambda x, y: loss_of(model(x), y)  # noqa: E731
    if name == "torch-compile":
        forward = torch.compile(forward)

    def step() -> float:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step
