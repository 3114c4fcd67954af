"""Training loops written by hand, operations and readers, right and wrong in the ways in which people write them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.sources import Prepared

STEPS, BATCH = 150, 32


@dataclass(frozen=True, slots=True)
class Loop:
    """A hand-written loop; each attribute is one way in which loops go wrong, or only look so."""

    # "never", "first" (step), "start" (in the first pass), "epoch", "second", "tenth", "better" (where the loss fell),
    # "after", "evaluation" (only there), "other" (another model's gradients), "head" (all others stay)
    clear: str = "every"
    gather: int = 1  # backward calls with a part of the loss each, then a step
    split: bool = False  # they take parts of one batch, not batches
    # "tensors", "sum", "average", "outputs", "last", "arrays", "history", "recent" (five of them), "pairs" (outputs and
    # labels), "center" (a running mean of outputs), "least" (the smallest loss), "rows" (of a table), "sums" (two)
    keep: str = "numbers"
    train: str = "training"  # "inference", "until_evaluation", "toggled" (by each evaluation)
    evaluate: str = "inference"  # "training", "none"
    often: int = 0  # steps between two evaluations, 0 for an epoch
    # "sum", "squares" (the sum of squared errors of one-hot rows), "logs" (the same sum written out), "distances",
    # "margins", "focal"; "means" (written out, and a mean)
    reduce: str = "mean"
    # what the optimizer was given: "head" (the output layer only), "body" (all but that), "tail" (all but the first),
    # "old_first", "old_head" (the layer that stood there before it was replaced), "kernels" (the group without biases)
    holds: str = "all"
    apart: str = ""  # an optimizer of its own for the first layer: "both" are used, it is not "stepped", not "cleared"
    rule: str = "SGD"  # "Adam", "clipped" (Adam with clipped gradients)
    wait: float = 0.0  # seconds before a batch is there
    pause: float = 0.0  # seconds after each evaluation
    frozen: bool = False  # the first layer is not to be trained
    steps: bool = True  # the optimizer's step is called
    dropout: float = 0.0
    norm: bool = False


class Middle(NamedTuple):
    """An operation in the middle of a model that is fitted as usual; `bent`: an activation comes before it."""

    function: Callable[[Any], Any]
    bent: bool = True


class Wait(NamedTuple):
    """A reader who waits so many seconds for a batch, for so many batches of ten."""

    seconds: float
    often: int


class Written(NamedTuple):
    """A loop that is written out whole: given data and a seed it trains, watched, and returns what was found."""

    function: Callable[[Prepared, int], list[Any]]


class Way:
    """One way to write a loop, an operation or a reader, and what is wrong with it.

    Arguments:
        what: the loop (as attributes, or written out), the operation or the reader.
        codes: the right names of what is wrong; none where nothing is.
    """

    def __init__(self, what: Loop | Middle | Wait | Written, *codes: str) -> None:
        self.what = what
        self.codes = codes


class Leaky(db.Function):
    """A leaky rectifier whose backward multiplies the negative side by `below`."""

    def __init__(self, below: float, above: float = 1.0) -> None:
        self.below, self.above = below, above

    def forward(self, x: Any) -> Any:
        """Return x where it is positive, a tenth of it elsewhere."""
        self.save(x)
        return db.ops.where(x > 0.0, x, x * 0.1)

    def backward(self, gradient: Any) -> Any:
        """Return the derivative, if `below` is 0.1 and `above` is 1."""
        (x,) = self.saved
        return db.ops.where(x > 0.0, gradient * self.above, gradient * self.below)


def network(data: Prepared, middle: list[Any], bent: bool = True) -> Any:
    """Return a small network; `bent`: whether the first layer has an activation before what is in the middle."""
    first = db.layers.Dense(24, activation="relu" if bent else None, kernel_initializer="he_normal")
    second = db.layers.Dense(16, activation="relu", kernel_initializer="he_normal")
    model = db.Sequential([first, *middle, second, db.layers.Dense(max(data.classes, 2))])
    model.build_for([data.train.x.shape[1:]], [np.float32])
    return model


def labels(part: Any) -> np.ndarray:
    """Return class numbers (N,)."""
    return np.asarray(part.y).reshape(-1).astype(np.int64)


def train(kind: Loop, data: Prepared, seed: int) -> list[Any]:
    """Train by hand as such loops are written, watched; return what was found."""
    db.set_seed(seed)
    middle: list[Any] = [db.layers.Dropout(kind.dropout)] if kind.dropout else []
    middle += [db.layers.BatchNorm(momentum=0.9)] if kind.norm else []
    model = network(data, middle)
    if kind.frozen:
        model.freeze("0")
    optimizer, first_layer = _optimizers(kind, model, data)
    other: Any = optimizer
    if kind.clear == "other":
        other = db.optimizers.SGD(network(data, []).parameters(), 0.05)
    elif kind.clear == "head":
        other = db.optimizers.SGD(model.layers[-1].parameters(), 0.05)
    memory = _Memory(kind.keep)
    rows = len(data.train.x) // BATCH
    seldom = {"epoch": rows, "second": 2, "tenth": 10, "first": STEPS}.get(kind.clear, 0)
    often = kind.often or rows
    training, best = True, float("inf")
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=8, batch=BATCH) as sitter:
        for step, (x, y) in zip(range(STEPS), _batches(data, seed, kind.wait), strict=False):
            last = kind.split or step % kind.gather == kind.gather - 1
            first = kind.split or step % kind.gather == 0
            if (kind.clear in ("every", "other", "head") and first) or (seldom and step % seldom == 0) or (
                kind.clear == "start" and step < rows
            ):
                other.zero_grad()
                if kind.apart in ("both", "stepped"):
                    first_layer.zero_grad()
            for part in _parts(len(x), kind.gather if kind.split else 1):
                if training and kind.train != "inference":
                    with db.training():
                        output = model(x[part])
                        loss = _loss(kind.reduce, y[part], output)
                else:
                    output = model(x[part])
                    loss = _loss(kind.reduce, y[part], output)
                loss.backward()
            if last and kind.steps:
                optimizer.step(1.0 / kind.gather) if kind.gather > 1 else optimizer.step()
                if kind.apart in ("both", "cleared"):
                    first_layer.step()
            if kind.clear == "after" or (kind.clear == "better" and loss.item() < best):
                optimizer.zero_grad()
                best = loss.item()
            memory.keep(loss, output, y)
            sitter.step(loss)
            if step % often == often - 1 and kind.evaluate != "none":
                if kind.clear == "evaluation":
                    optimizer.zero_grad()
                training = not training if kind.train == "toggled" else kind.train != "until_evaluation"
                with db.no_grad():
                    if kind.evaluate == "training":
                        with db.training():
                            model(data.held.x)
                    else:
                        model(data.held.x)
                time.sleep(kind.pause)
    return sitter.findings


def _optimizers(kind: Loop, model: Any, data: Prepared) -> tuple[Any, Any]:
    """Return the optimizer of what it was given, and that of the first layer where it has one of its own."""
    every = model.layers
    if kind.holds.startswith("old_"):
        old = network(data, []).layers
        every = [old[0], *every[1:]] if kind.holds == "old_first" else [*every[:-1], old[-1]]
    given = {"head": every[-1:], "body": every[:-1], "tail": every[1:]}.get(kind.holds, every)

    def make(held: Iterable[Any]) -> Any:
        parameters = [p for layer in held for p in layer.parameters() if kind.holds != "kernels" or len(p.shape) > 1]
        if kind.rule == "SGD":
            return db.optimizers.SGD(parameters, 0.05)
        return db.optimizers.Adam(parameters, 3e-3, clip_norm=1.0 if kind.rule == "clipped" else None)

    return (make(given[1:]), make(given[:1])) if kind.apart else (make(given), None)


def _loss(reduce: str, y: np.ndarray, output: Any) -> Any:
    """Return the loss of a batch, reduced as this kind of loop does it."""
    if reduce == "squares":
        wrong = db.ops.softmax(output, axis=-1) - np.eye(output.shape[1], dtype=np.float32)[y]
        return (wrong * wrong).sum()
    if reduce == "logs":
        chosen = np.eye(output.shape[1], dtype=np.float32)[y]
        return -(db.ops.log_softmax(output, axis=-1) * chosen).sum()
    if reduce in ("focal", "means", "margins"):
        chosen = np.eye(output.shape[1], dtype=np.float32)[y]
        logs = (db.ops.log_softmax(output, axis=-1) * chosen).sum(axis=-1)
        if reduce == "means":
            return -logs.mean()
        if reduce == "focal":
            return -((1.0 - db.ops.exp(logs)) ** 2 * logs).sum()
        own = (output * chosen).sum(axis=-1)
        return db.ops.relu(1.0 - own + (output - 1e4 * chosen).max(axis=-1)).sum()
    if reduce == "distances":
        return db.ops.abs(db.ops.softmax(output, axis=-1) - np.eye(output.shape[1], dtype=np.float32)[y]).sum()
    loss = db.losses.cross_entropy(y, output)
    return loss * float(len(y)) if reduce == "sum" else loss


def _parts(count: int, parts: int) -> list[slice]:
    """Return so many parts of a batch."""
    cuts = [round(count * i / parts) for i in range(parts + 1)]
    return [slice(a, b) for a, b in zip(cuts, cuts[1:], strict=False)]


class _Memory:
    """What a loop keeps of its steps."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._kept: list[Any] = []
        self._total: Any = 0.0

    def keep(self, loss: Any, output: Any, y: np.ndarray) -> None:
        """Keep what this kind of loop keeps."""
        if self._kind == "tensors":
            self._kept.append(loss)
        elif self._kind == "outputs":
            self._kept.append(output)
        elif self._kind == "arrays":
            self._kept.append(output.numpy().copy())
        elif self._kind == "sum":
            self._total = self._total + loss
        elif self._kind == "average":
            self._total = self._total * 0.9 + loss * 0.1
        elif self._kind == "history":
            self._kept.append({"loss": loss, "size": (output * output).mean()})
        elif self._kind == "pairs":
            self._kept.append((output, y))
        elif self._kind == "least":
            self._total = db.ops.minimum(self._total, loss) if self._kept else loss
            self._kept = [True]
        elif self._kind == "rows":
            self._kept.append((len(self._kept), loss, output.max()))
        elif self._kind == "sums":
            self._total = self._total + loss
            self._kept = [self._kept[0] + (output * output).sum() if self._kept else (output * output).sum()]
        elif self._kind == "center":
            self._total = self._total * 0.99 + output.mean() * 0.01
        elif self._kind == "recent":
            self._kept = [*self._kept[-4:], loss]
        elif self._kind == "last":
            self._total = loss
        else:
            self._kept.append(loss.item())


def _batches(data: Prepared, seed: int, wait: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng, y = np.random.default_rng(seed), labels(data.train)
    while True:
        order = rng.permutation(len(y))
        for start in range(0, len(y) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            time.sleep(wait)
            yield data.train.x[rows], y[rows]
