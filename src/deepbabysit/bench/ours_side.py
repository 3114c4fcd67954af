"""deepbabysit as a contender: replayed or eager steps, with the compiled kernels, the plain ones, or the references."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from deepbabysit import layers, losses, optimizers
from deepbabysit.autograd import replay
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.bench import ours_kernels
from deepbabysit.bench.cases import Case, batches, table, weights
from deepbabysit.data.loader import Loader
from deepbabysit.layers.updates import training
from deepbabysit.models.model import Sequential
from deepbabysit.runtime import record as runtime_record
from deepbabysit.runtime.context import set_surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.registry import default_device, find_device, set_device
from deepbabysit.runtime.settings import set_num_threads


def build(task: dict[str, Any], name: str, threads: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Return a function that does the task once, and what there is to say about it."""
    set_num_threads(threads)
    plain, _, where = name.partition(":")
    device = find_device("cpu:reference" if plain == "ours-reference" else where or "cpu")
    if plain == "ours-plain":  # the kernels that serve where Numba is missing
        kernels = device.backend.kernels
        device.backend.kernels = {key: replace(kernel, variants=()) for key, kernel in kernels.items()}
    set_device(device)
    set_surroundings(strict=plain != "ours-reference")
    device.plans.clear()
    if task["kind"] != "epoch":  # what long trainings come to: not in the middle of a turn, but before the first
        runtime_record.PROGRAM_CALLS, runtime_record.PROGRAM_REPLAYS = 1, 0
    if task["kind"] == "kernel":
        step, check = ours_kernels.build(task["kernel"], plain, device)
        return step, {"check": check}
    return _BUILDERS[task["kind"]](task, plain, device), {}


def finish() -> None:
    """Wait until the device has done everything."""
    default_device().backend.synchronize()


def report() -> dict[str, list[str]]:
    """Return which operations ran compiled, which had a compiled kernel that did not take them, which ran plain.

    "programs" says how many of the recordings of this process have become programs of machine calls.
    """
    device = default_device()
    found: dict[str, set[str]] = {"compiled": set(), "passed": set(), "plain": set(), "reference": set()}
    for plan in device.plans.values():
        if plan.view:
            continue
        kernel, table = plan.kernel, device.backend.kernels.get(plan.spec.name)
        if kernel is None:
            found["reference"].add(plan.spec.name)
        elif kernel is table:
            found["passed" if kernel.variants else "plain"].add(plan.spec.name)
        else:
            found["compiled"].add(plan.spec.name)
    recordings = [thing for thing in gc.get_objects() if type(thing) is runtime_record.Recording]
    programs = sum(recording.program is not None for recording in recordings)
    return {
        **{key: sorted(names) for key, names in found.items()},
        "programs": [f"{programs} of {len(recordings)} recordings"],
    }


def network(case: Case, device: Device) -> Sequential:
    """Return the model with the initial weights that every contender starts from."""
    made: list[Any] = []
    kinds: Any = layers  # served lazily
    for kind, *a in case["layers"]:
        first: dict[str, Any] = {} if made else {"input_shape": tuple(case["input"])}
        made.append(
            kinds.Dense(a[0], a[1], **first) if kind == "dense"
            else kinds.Conv2D(a[0], a[1], padding=a[2], activation=a[3], **first) if kind == "conv"
            else kinds.Dropout(a[0]) if kind == "dropout"
            else kinds.TransformerBlock(a[0], **first) if kind == "block"
            else kinds.MaxPool2D(2) if kind == "pool"
            else kinds.BatchNorm() if kind == "norm"
            else kinds.Activation("relu") if kind == "relu"
            else kinds.Flatten()
        )  # fmt: skip
    model = Sequential(made)
    state = model.state_dict()
    for number, values in enumerate(weights(case)):
        state.update(zip((f"{number}.{name}" for name in _WEIGHTS.get(case["layers"][number][0], ())), values,
                         strict=True))  # fmt: skip
    model.load_state_dict(state)
    model.to(device)
    return model


_WEIGHTS = {
    "dense": ("kernel", "bias"), "conv": ("kernel", "bias"), "norm": ("gamma", "beta"),
    "block": tuple(
        f"{part}.{name}"
        for part in ("attention.query", "attention.key", "attention.value", "attention.output", "norm1", "norm2",
                     "hidden", "output")
        for name in (("gamma", "beta") if part.startswith("norm") else ("kernel", "bias"))
    ),
}  # fmt: skip


def _change(model: Sequential, share: float, draw: int) -> None:
    """Change every weight by about this share of its size."""
    rng = np.random.default_rng(draw)
    model.load_state_dict({
        key: (value * (1.0 + share * rng.standard_normal(value.shape))).astype(value.dtype)
        for key, value in model.state_dict().items()
    })


def _loss(case: Case) -> Any:
    return losses.get("mse") if case["loss"] == "mse" else losses.cross_entropy


def _step(task: dict[str, Any], name: str, device: Device) -> Callable[[], float]:
    case = task["case"]
    model = network(case, device)
    inputs, targets = batches(case, task.get("batches", 64))
    if name == "ours-control":
        inputs, targets = (part[: task["steps"]] for part in (inputs, targets))
        if task["draw"]:  # the same, rounded otherwise
            _change(model, task["rounding"], task["draw"])
            order = np.random.default_rng(task["draw"]).permutation(case["batch"])
            inputs, targets = ([v[order] for v in part] for part in (inputs, targets))
        else:
            model.astype(np.float64)
            inputs, targets = (
                [v.astype(np.float64) if v.dtype == np.float32 else v for v in part] for part in (inputs, targets)
            )
    optimizer = optimizers.Adam(model.parameters(), 1e-3)
    loss_of = _loss(case)

    def step(x: Any, y: Any) -> Any:
        with training():
            loss = loss_of(y, model(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    run = step if name == "ours-eager" else replay.record(step)
    xs, ys = ([Tensor(device.asarray(v), device) for v in part] for part in (inputs, targets))
    count = 0

    def once() -> float:
        nonlocal count
        loss = float(run(xs[count % len(xs)], ys[count % len(ys)]).item())
        count += 1
        return loss

    return once


def _epoch(task: dict[str, Any], name: str, device: Device) -> Callable[[], float]:
    """Return one epoch through `fit`, with shuffling, metrics and table; watched or not; or as many bare steps."""
    case = task["case"]
    if name == "ours-bare":
        step = _step(task, name, device)
        count = -(-task["rows"] // case["batch"])
        return lambda: [step() for _ in range(count)][-1]
    x, y = table(case, task["rows"])
    model = network(case, device)
    model.compile(optimizers.Adam(1e-3), "cross_entropy", metrics=["accuracy"])
    set_surroundings(strict=False)  # fit may do what has no kernel between steps
    _terminal()
    watched = name == "ours-watched"

    def once() -> float:
        history = model.fit(x, y, batch_size=case["batch"], epochs=1, device=device, babysit=watched)
        return float(history.history["loss"][-1])

    return once


def _terminal() -> None:
    """Let what is printed go to a terminal that nobody looks at, so that the live table is drawn."""
    try:
        main, side = os.openpty()
    except (AttributeError, OSError):
        return  # plain lines
    subprocess.Popen(["cat"], stdin=main, stdout=subprocess.DEVNULL)
    os.close(main)
    os.environ["TERM"] = "xterm-256color"
    sys.stdout = os.fdopen(side, "w", encoding="utf-8")


def _loading(task: dict[str, Any], name: str, device: Device) -> Callable[[], int]:
    """Return one shuffled epoch of batches: the loader, the loader with batches made ahead, or the bare gather."""
    size = task["case"]["batch"]
    x, y = table(task["case"], task["rows"])
    if name == "ours-gather":
        rng = np.random.default_rng(0)

        def gather() -> int:
            order, total = rng.permutation(len(x)), 0
            for at in range(0, len(x), size):
                rows = order[at : at + size]
                total += len(x.take(rows, axis=0)) + len(y.take(rows, axis=0))
            return total // 2

        return gather
    loader = Loader(x, y, batch_size=size, prefetch=2 if name == "ours-ahead" else 0)
    return lambda: sum(len(batch.rows) for batch in loader)


_BUILDERS: dict[str, Callable[[dict[str, Any], str, Device], Callable[[], Any]]] = {
    "step": _step,
    "epoch": _epoch,
    "loading": _loading,
}
