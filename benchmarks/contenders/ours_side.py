"""deepbabysit: replayed or eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepbabysit as db
from benchmarks.contenders.data import batch


def build(case: dict[str, Any], name: str, threads: int) -> Callable[[], float]:
    """Return a function that trains one step and returns the loss."""
    db.set_num_threads(threads)
    made: list[Any] = []
    kinds = db.layers
    for kind, *a in case["layers"]:
        first = {} if made else {"input_shape": tuple(case["input"])}
        made.append(
            kinds.Dense(a[0], a[1], **first) if kind == "dense"
            else kinds.Conv2D(a[0], a[1], padding=a[2], activation=a[3], **first) if kind == "conv"
            else kinds.Dropout(a[0]) if kind == "dropout"
            else kinds.MaxPooling2D(2) if kind == "pool"
            else kinds.BatchNorm() if kind == "norm"
            else kinds.Activation("relu") if kind == "relu"
            else kinds.Flatten()
        )
    model = db.Sequential(made)
    optimizer = db.optimizers.Adam(model.parameters(), 1e-3)
    loss_of = db.losses.get("mse") if case["loss"] == "mse" else db.losses.cross_entropy

    def step(x: Any, y: Any) -> Any:
        with db.training():
            loss = loss_of(y, model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = db.record(step) if name == "ours-replay" else step
    x, y = (db.tensor(v) for v in batch(case))
    return lambda: float(run(x, y).item())
