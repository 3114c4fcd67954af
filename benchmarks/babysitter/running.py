"""One run: a recipe and a seed become a model, a fit, what was found, and a score on clean rows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.sources import Part, Prepared, prepare
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.setup import Setup, setup_of
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.babysit.vitals import Record

EVERY = 16  # steps between two measured ones


class Run:
    """What came of one run.

    Attributes:
        scores: ``accuracy`` (balanced) and ``skill`` (1 - cross-entropy / guessing), or ``r2``; on the test part.
        promise: how far the same on the held-out part lies from that on the test part.
        findings: ranked; empty where nobody watched.
        heard: code -> steps done when it was said first.
        record: everything measured, or None.
        refused: the message with which `fit` refused, or empty.
        steps: planned; `done` were made.
    """

    def __init__(self) -> None:
        self.scores: dict[str, float] = {}
        self.promise = 0.0
        self.findings: list[Finding] = []
        self.heard: dict[str, int] = {}
        self.record: Record | None = None
        self.refused = ""
        self.steps = self.done = 0
        self.bad_step: int | None = None
        self.weights = ""
        self.seconds = 0.0

    def as_score(self) -> dict[str, Any]:
        """Return what the judgement about a fault needs."""
        return {
            "scores": self.scores, "promise": self.promise, "refused": bool(self.refused), "weights": self.weights,
            "seconds": round(self.seconds, 3),
        }


def build(recipe: Mapping[str, Any], data: Prepared, seed: int) -> Any:
    """Return the compiled model of a recipe."""
    db.set_seed(seed)
    layers = [db.layers.layer_from_config(text) for text in recipe["layers"]]
    model = db.Sequential(layers)
    model.build_for([data.train.x.shape[1:]], [data.train.x.dtype])
    metrics = [] if data.task == "regression" else ["accuracy"]
    model.compile(db.optimizers.get(dict(recipe["optimizer"])), db.losses.get(recipe["loss"]), metrics=metrics)
    return model


def plan(recipe: Mapping[str, Any], data: Prepared, seed: int) -> tuple[Any, Setup]:
    """Return the compiled model of a recipe, and how it is trained."""
    model = build(recipe, data, seed)
    setup = setup_of(
        model, batch_size=min(recipe["batch_size"], len(data.train.x)), epochs=recipe["epochs"],
        shuffle=recipe["shuffle"], class_weight=recipe.get("class_weight"), patience=recipe.get("early_stopping"),
        seed=seed,
    )
    return model, setup


def _pretrain(model: Any, recipe: Mapping[str, Any], data: Prepared, batch: int, seed: int) -> None:
    """Train a model before the run that counts, with another optimizer."""
    before, loss, metrics = recipe["pretrain"], model.loss, list(model.metrics)
    model.compile(db.optimizers.get(dict(before["optimizer"])), loss, metrics)
    model.fit(data.train.x, data.train.y, batch_size=batch, epochs=before["epochs"], seed=seed + 1, verbose=0,
              device="cpu", babysit=False)
    model.compile(db.optimizers.get(dict(recipe["optimizer"])), loss, metrics)


def run(recipe: Mapping[str, Any], seed: int, watch: bool = True, every: int | None = EVERY) -> Run:
    """Train a recipe and return what came of it.

    Arguments:
        recipe: data, layers, loss, optimizer, batch_size, epochs, shuffle, early_stopping, class_weight.
        seed: of the split, the weights and the order.
        watch: whether the babysitter sits there; measured every `every` steps, so that the machine's speed is nothing.
        every: None watches as `fit` does by default, in the time that it takes for itself.
    """
    found = Run()
    data = prepare(recipe["data"], seed)
    began = perf_counter()
    sitter = Sitter(every=every, verdict=False) if watch else None
    if sitter is not None:
        sitter.engine = Engine(sitter.record, lambda f: found.heard.setdefault(f.code, len(sitter.record.losses)))
    batch = min(recipe["batch_size"], len(data.train.x))
    found.steps = math.ceil(len(data.train.x) / batch) * recipe["epochs"]
    model, setup = plan(recipe, data, seed)
    if "pretrain" in recipe:
        _pretrain(model, recipe, data, batch, seed)
    try:
        given = setup.prepare(data.train.x, data.train.y, (data.held.x, data.held.y))
        setup.train(model, given, babysit=False if sitter is None else sitter)
    except (TypeError, ValueError) as error:
        found.refused = str(error) or type(error).__name__
        finding = getattr(error, "finding", None)
        if finding is not None:
            found.findings, found.heard = [finding], {finding.code: 0}
        found.seconds = perf_counter() - began
        return found
    found.seconds = perf_counter() - began
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(np.ascontiguousarray(array).tobytes())
    found.weights = digest.hexdigest()
    if sitter is not None:
        found.findings, found.record = sitter.findings, sitter.record
        curve = sitter.record.curve()
        found.done = len(curve)
        if not np.isfinite(curve).all():
            found.bad_step = int(np.argmin(np.isfinite(curve)))
    found.scores = score(model.predict(data.test.x), data.test, data)
    held = score(model.predict(data.held.x), data.held, data)
    main = "r2" if data.task == "regression" else "accuracy"
    found.promise = abs(held[main] - found.scores[main])
    return found


def score(said: Any, part: Part, data: Prepared) -> dict[str, float]:
    """Return how good outputs are for a part: 1 is perfect, 0 is guessing (accuracy: chance); never below -1."""
    output = np.asarray(said, np.float64).reshape(len(part.x), -1)
    if data.task == "regression":
        y = np.asarray(part.y, np.float64).reshape(len(part.y), -1)[:, :1]
        if not np.isfinite(output).all() or output.shape[1] != 1:
            return {"r2": -1.0}
        spread = float(((y - y.mean()) ** 2).sum())
        return {"r2": max(1.0 - float(((y - output) ** 2).sum()) / max(spread, 1e-12), -1.0)}
    y = np.asarray(part.y)
    labels = (y.argmax(-1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(-1)).astype(np.int64)
    chance = 1.0 / max(data.classes, 2)
    if not np.isfinite(output).all():
        return {"accuracy": chance, "skill": -1.0}
    shares = _shares(output)
    guesses = shares.argmax(-1)
    hits = [float((guesses[labels == c] == c).mean()) for c in np.unique(labels)]
    sure = shares[np.arange(len(labels)), np.minimum(labels, shares.shape[1] - 1)]
    loss = float(-np.log(np.clip(sure, 1e-7, 1.0)).mean())
    return {"accuracy": float(np.mean(hits)), "skill": max(1.0 - loss / math.log(max(data.classes, 2)), -1.0)}


def _shares(output: np.ndarray) -> np.ndarray:
    """Return probabilities of the classes, from probabilities or from logits."""
    inside = bool(((output >= 0.0) & (output <= 1.0 + 1e-5)).all())
    if output.shape[1] == 1:
        one = output if inside else 1.0 / (1.0 + np.exp(-np.clip(output, -500, 500)))
        return np.concatenate([1.0 - one, one], 1)
    if inside and np.allclose(output.sum(-1), 1.0, atol=1e-3):
        return output
    e = np.exp(output - output.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)
