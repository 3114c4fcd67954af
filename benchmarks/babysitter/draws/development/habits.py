"""Habits of those who write loops: some do harm, some only look so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.draws.development.stage import BATCH, PASSES, begin, dense, pieces, watched
from benchmarks.babysitter.sources import Prepared


def _trained(
    data: Prepared, seed: int, loss_of: Callable[[Any, np.ndarray, int], Any], middle: tuple[Any, ...] = (),
    held: Callable[[Any], Any] = lambda model: model.parameters(), rule: Any = db.optimizers.Adam, rate: float = 3e-3,
    each: Callable[[Any, Any, int], None] = lambda *_: None, wrapped: bool = False,
) -> list[Any]:
    """A loop with a loss of its own."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, 12, end=int(y.max()) + 1, middle=middle)
    optimizer, number = rule(held(model), rate), 0
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                each(model, optimizer, number)
                optimizer.zero_grad()
                if wrapped:
                    with db.training():
                        output = model(x[rows])
                else:
                    output = model(x[rows])
                loss = loss_of(output, y[rows], int(y.max()) + 1)
                loss.backward()
                optimizer.step()
                number += 1
                sitter.step(loss)
    return sitter.findings


def _plain(output: Any, y: np.ndarray, _: int) -> Any:
    return db.losses.cross_entropy(y, output)


def only_biases(data: Prepared, seed: int) -> list[Any]:
    """The optimizer was given what has one axis."""
    return _trained(data, seed, _plain, held=lambda model: [p for p in model.parameters() if p.ndim == 1])


def added_up_in_a_list(data: Prepared, seed: int) -> list[Any]:
    """A loss for each row, and Python's own sum."""
    def loss(output: Any, y: np.ndarray, _: int) -> Any:
        return sum([db.losses.cross_entropy(y[i : i + 1], output[i : i + 1]) for i in range(len(y))])

    return _trained(data, seed, loss, rule=db.optimizers.SGD, rate=0.05)


def less_the_mean_of_columns(data: Prepared, seed: int) -> list[Any]:
    """A normalization by hand, over the batch and in every mode."""
    def centred(x: Any) -> Any:
        middle = x - x.mean(axis=0, keepdims=True)
        return middle / db.ops.sqrt((middle * middle).mean(axis=0, keepdims=True) + 1e-3)

    return _trained(data, seed, _plain, middle=(db.layers.Lambda(centred),))


def sigmoid_and_logits(data: Prepared, seed: int) -> list[Any]:
    """Shares from a sigmoid, clipped, in a loss that takes logits."""
    def loss(output: Any, y: np.ndarray, classes: int) -> Any:
        shares = db.ops.minimum(db.ops.maximum(db.ops.sigmoid(output), 1e-4), 1.0 - 1e-4)
        return db.losses.bce_with_logits(np.eye(classes, dtype=np.float32)[y], shares)

    return _trained(data, seed, loss)


def logarithm_of_a_gap(data: Prepared, seed: int) -> list[Any]:
    """The logarithm of what is above a half, which is nothing for most rows."""
    def loss(output: Any, y: np.ndarray, classes: int) -> Any:
        right = (db.ops.softmax(output, axis=-1) * np.eye(classes, dtype=np.float32)[y]).sum(axis=-1)
        return -db.ops.log(right - 0.5).mean()

    return _trained(data, seed, loss)


def dropped_in_every_mode(data: Prepared, seed: int) -> list[Any]:
    """Units are dropped by hand, in evaluations, too."""
    rng = np.random.default_rng(seed)

    def dropped(x: Any) -> Any:
        return x * (rng.random(x.shape[-1]) < 0.5).astype(np.float32) * 2.0

    return _trained(data, seed, _plain, middle=(db.layers.Lambda(dropped),))


def transformed_slowly(data: Prepared, seed: int) -> list[Any]:
    """The rows are there; what is done to them takes long."""
    x, y, rng = begin(data, seed)

    def prepared() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows in pieces(len(x), rng):
            yield x[rows], y[rows]

    def bent(rows: np.ndarray) -> np.ndarray:
        time.sleep(0.03)
        return rows + 0.05 * rng.standard_normal(rows.shape).astype(np.float32)

    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for number, (rows, targets) in enumerate(prepared()):
                if number % 4 == 3:
                    model.train()
                inputs = bent(rows)
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(targets, model(inputs))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def gradients_kept_for_a_plot(data: Prepared, seed: int) -> list[Any]:
    """The penalty on the outputs of each step stays in a list, and is drawn at the end."""
    drawn: list[Any] = []

    def loss(output: Any, y: np.ndarray, _: int) -> Any:
        size = (output * output).mean()
        drawn.append(size)
        return db.losses.cross_entropy(y, output) + 1e-3 * size

    return _trained(data, seed, loss, rule=db.optimizers.RMSprop, rate=1e-3)


def penalty_by_hand(data: Prepared, seed: int) -> list[Any]:
    """Squares of the weights are added to the loss."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                for p in model.parameters():
                    loss = loss + 1e-4 * (p * p).sum()
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def warmed_by_hand(data: Prepared, seed: int) -> list[Any]:
    """The rate is set before each step: up, then down."""
    def each(_: Any, optimizer: Any, number: int) -> None:
        optimizer.learning_rate = 5e-3 * min((number + 1) / 30.0, 1.0) / (1.0 + number / 200.0)

    return _trained(data, seed, _plain, each=each)


def thawed_later(data: Prepared, seed: int) -> list[Any]:
    """The first layer is frozen for the first passes."""
    def each(model: Any, _: Any, number: int) -> None:
        if number == 0:
            model.freeze("0")
        elif number == 30:
            model.unfreeze("0")

    return _trained(data, seed, _plain, each=each)


def smoothed_labels(data: Prepared, seed: int) -> list[Any]:
    """A tenth of each label is given to all classes; the logarithms are the loss's own."""
    def loss(output: Any, y: np.ndarray, classes: int) -> Any:
        wanted = 0.9 * np.eye(classes, dtype=np.float32)[y] + 0.1 / classes
        return -(db.ops.log_softmax(output, axis=-1) * wanted).sum(axis=-1).mean()

    return _trained(data, seed, loss, middle=(db.layers.Dropout(0.2),), wrapped=True)


def saved_at_every_tenth(data: Prepared, seed: int) -> list[Any]:
    """A slow file is written after every tenth step; the next batch is fetched before that."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        rows = rng.choice(len(x), BATCH)
        for number in range(150):
            optimizer.zero_grad()
            loss = db.losses.cross_entropy(y[rows], model(x[rows]))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
            rows = rng.choice(len(x), BATCH)
            if number % 10 == 9:
                time.sleep(0.15)
    return sitter.findings

