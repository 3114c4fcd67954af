"""Loops that are written out whole, as they stand in scripts: wrong ones, and some that only look so."""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.draws.development.stage import BATCH, PASSES, begin, dense, pieces, table, watched
from benchmarks.babysitter.sources import Prepared


def encoder_never_cleared(data: Prepared, seed: int) -> list[Any]:
    """An autoencoder of two optimizers; only the decoder's gradients are cleared, the encoder's by nobody."""
    x, _, rng = begin(data, seed)
    model = dense(x.shape[1], 12, 12, end=x.shape[1])
    front = db.optimizers.SGD(model.layers[0].parameters(), 0.01, momentum=0.9)
    back = db.optimizers.SGD([p for part in model.layers[1:] for p in part.parameters()], 0.01, momentum=0.9)
    with watched(model, back) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                loss = db.losses.mse(x[rows], model(x[rows]))
                back.zero_grad()
                loss.backward()
                back.step()
                front.step()
                sitter.step(loss)
    return sitter.findings


def features_detached(data: Prepared, seed: int) -> list[Any]:
    """The head is given features that were taken off the graph."""
    x, y, rng = begin(data, seed)
    cut = db.layers.Lambda(lambda h: h.detach())
    model = dense(x.shape[1], 20, 12, end=int(y.max()) + 1, hidden="relu", middle=(cut,))
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def weights_put_back(data: Prepared, seed: int) -> list[Any]:
    """Averaged weights are put in for an evaluation, and then those of the first step come back, not the last."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    kept = [np.array(w) for w in model.get_weights()]
    average = [w.copy() for w in kept]
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                average = [0.9 * a + 0.1 * w for a, w in zip(average, model.get_weights(), strict=True)]
                model.set_weights(average)
                with db.no_grad():
                    model(data.held.x.reshape(len(data.held.x), -1))
                model.set_weights(kept)
                sitter.step(loss)
    return sitter.findings


def accuracy_summed(data: Prepared, seed: int) -> list[Any]:
    """A soft accuracy is added up over the whole run, with its graph."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1, middle=(db.layers.Dropout(0.1),))
    optimizer, right, every = db.optimizers.RMSprop(model.parameters(), 1e-3), 0.0, np.eye(int(y.max()) + 1)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                with db.training():
                    output = model(x[rows])
                loss = db.losses.cross_entropy(y[rows], output)
                loss.backward()
                optimizer.step()
                right = right + (db.ops.softmax(output, axis=-1) * every[y[rows]].astype(np.float32)).sum()
                sitter.step(loss)
    return sitter.findings


def state_carried(data: Prepared, seed: int, cut: bool = False) -> list[Any]:
    """A running summary of the outputs goes into the next step's loss with all that it was made from."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.SGD(model.parameters(), 0.02)
    state: Any = np.zeros(int(y.max()) + 1, np.float32)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                output = model(x[rows])
                state = 0.9 * state + 0.1 * output.mean(axis=0)
                loss = db.losses.cross_entropy(y[rows], output + 0.1 * (state.detach() if not cut else state))
                loss.backward()
                optimizer.step()
                if cut:
                    state = state.detach()
                sitter.step(loss)
    return sitter.findings


def held_out_between(data: Prepared, seed: int) -> list[Any]:
    """Held-out rows are tried in training mode and on the tape, between the step's forward and its backward."""
    x, y, rng = begin(data, seed)
    held, of = data.held.x.reshape(len(data.held.x), -1), np.asarray(data.held.y).reshape(-1).astype(np.int64)
    model = dense(x.shape[1], 16, 16, end=int(y.max()) + 1, middle=(db.layers.BatchNorm(),))
    optimizer, curve = db.optimizers.Adam(model.parameters(), 3e-3), []
    with db.training(), watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                curve.append(db.losses.cross_entropy(of, model(held)).item())
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def _read(folder: Path, x: np.ndarray, rows: np.ndarray, seconds: float) -> np.ndarray:
    np.save(folder / "part.npy", x[rows])
    time.sleep(seconds)
    return np.load(folder / "part.npy")


def read_in_the_body(data: Prepared, seed: int) -> list[Any]:
    """Each batch is read from a slow disk by a function that the loop's body calls."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with tempfile.TemporaryDirectory() as folder, watched(model, optimizer) as sitter:
        number = 0
        while number < 90:
            rows = rng.choice(len(x), BATCH)
            batch = _read(Path(folder), x, rows, 0.02)
            optimizer.zero_grad()
            loss = db.losses.cross_entropy(y[rows], model(batch))
            loss.backward()
            optimizer.step()
            sitter.step(loss)
            number += 1
    return sitter.findings


class _Shards:
    """An iterator that opens the next shard after each seventh batch."""

    def __init__(self, x: np.ndarray, y: np.ndarray, seed: int) -> None:
        self._x, self._y, self._rng, self._given = x, y, np.random.default_rng(seed), 0

    def __iter__(self) -> _Shards:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        if self._given == 105:
            raise StopIteration
        if self._given % 7 == 0:
            time.sleep(0.22)
        self._given += 1
        rows = self._rng.choice(len(self._x), BATCH)
        return self._x[rows], self._y[rows]


def shards_opened(data: Prepared, seed: int) -> list[Any]:
    """Seven batches are there at once, then the next shard is awaited; the step is a function."""
    db.set_seed(seed)
    x, y = table(data)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)

    def step(x: np.ndarray, y: np.ndarray) -> None:
        optimizer.zero_grad()
        loss = db.losses.cross_entropy(y, model(x))
        loss.backward()
        optimizer.step()
        sitter.step(loss)

    with watched(model, optimizer) as sitter:
        for batch in _Shards(x, y, seed):
            step(*batch)
    return sitter.findings


def one_slow_worker(data: Prepared, seed: int) -> list[Any]:
    """A thread makes the batches, more slowly than they are used; a short run."""
    db.set_seed(seed)
    x, y = table(data)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    waiting: queue.Queue[Any] = queue.Queue(4)

    def work() -> None:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            time.sleep(0.05)
            rows = rng.choice(len(x), BATCH)
            waiting.put((x[rows], y[rows]))
        waiting.put(None)

    thread = threading.Thread(target=work)
    thread.start()
    with watched(model, optimizer) as sitter:
        while (batch := waiting.get()) is not None:
            loss = db.losses.cross_entropy(batch[1], model(batch[0]))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            sitter.step(loss)
    thread.join()
    return sitter.findings


def two_updates(data: Prepared, seed: int) -> list[Any]:
    """The optimizer steps in the batch's function and once more in the loop, with the same gradients."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def made_anew(data: Prepared, seed: int) -> list[Any]:
    """The optimizer is made within the step: it forgets its moments each time."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


class _Scale(db.Function):
    """Columns times a scale; its backward takes the mean over the rows where the sum belongs (`right`: the sum)."""

    def __init__(self, right: bool) -> None:
        self.right = right

    def forward(self, x: Any, scale: Any) -> Any:
        """Return ``x * scale``."""
        self.save(x, scale)
        return x * scale

    def backward(self, gradient: Any) -> Any:
        """Return both derivatives."""
        x, scale = self.saved
        by_rows = gradient * x
        return gradient * scale, by_rows.sum(axis=0) if self.right else by_rows.mean(axis=0)


class _Scaling(db.Layer):
    """A scale for each column, learned through a backward of its own."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right

    def build(self, x: Any) -> None:
        """Make the scale."""
        self.scale = self.add_parameter("scale", (x.shape[-1],), "ones")

    def call(self, x: Any) -> Any:
        """Scale the columns."""
        return _Scale(self.right)(x, self.scale)


def scale_by_means(data: Prepared, seed: int, right: bool = False) -> list[Any]:
    """A layer of one's own, the gradient of whose weights is a mean where it must be a sum."""
    x, _, rng = begin(data, seed)
    y = x[:, :1] * 2.0 - x[:, 1:2]
    model = dense(x.shape[1], 16, end=1, middle=(_Scaling(right),))
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.mse(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def _attend(h: Any, axes: tuple[int, ...]) -> Any:
    turned = db.ops.transpose(h, axes)
    other = db.ops.transpose(turned, (0, 2, 1))
    seen = db.ops.softmax(turned @ other * 0.3, axis=-1) @ turned
    return db.ops.transpose(seen, axes)


def attends_along_the_batch(data: Prepared, seed: int, right: bool = False) -> list[Any]:
    """Batch and time were taken for each other before an attention."""
    x, y, rng = begin(data, seed)
    units = 24
    model = db.Sequential([
        db.layers.Dense(units, "tanh", input_shape=x.shape[1]), db.layers.Reshape((4, units // 4)),
        db.layers.Lambda(lambda h: _attend(h, (0, 1, 2) if right else (1, 0, 2))), db.layers.Flatten(),
        db.layers.Dense(int(y.max()) + 1)])
    optimizer = db.optimizers.SGD(model.parameters(), 0.1)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def tempered_probabilities(data: Prepared, seed: int) -> list[Any]:
    """Probabilities at a temperature, mixed with a little of all, are given to a loss of logits."""
    x, y, rng = begin(data, seed)
    classes = int(y.max()) + 1
    model = dense(x.shape[1], 16, end=classes)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                shares = 0.98 * db.ops.softmax(model(x[rows]) / 2.0, axis=-1) + 0.02 / classes
                loss = db.losses.cross_entropy(y[rows], shares)
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


# -- what only looks wrong ---------------------------------------------------------------------------------------------


def written_to_files(data: Prepared, seed: int) -> list[Any]:
    """A log line after each step, a checkpoint before each pass and a slow report after it."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    with tempfile.TemporaryDirectory() as folder, watched(model, optimizer) as sitter:
        log = Path(folder) / "log.txt"
        for number in range(PASSES):
            np.savez(Path(folder) / f"{number}.npz", *model.get_weights())
            time.sleep(0.08)
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
                with log.open("a") as file:
                    file.write(f"{loss.item()}\n")
                    time.sleep(0.002)
            time.sleep(0.08)
    return sitter.findings


def average_aside(data: Prepared, seed: int) -> list[Any]:
    """An average of the weights is kept aside, put in for each evaluation and taken out again."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1, middle=(db.layers.Dropout(0.2),))
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    average = [np.array(w) for w in model.get_weights()]
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                with db.training():
                    loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                average = [0.95 * a + 0.05 * w for a, w in zip(average, model.get_weights(), strict=True)]
                sitter.step(loss)
            now = [np.array(w) for w in model.get_weights()]
            model.set_weights(average)
            with db.no_grad():
                loss = db.losses.cross_entropy(y[:BATCH], model(x[:BATCH]))
            sitter.epoch(val_loss=loss.item())
            model.set_weights(now)
    return sitter.findings


def two_rhythms(data: Prepared, seed: int) -> list[Any]:
    """The front is updated after every fourth step, from gradients that were gathered, the back after each."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, 12, end=int(y.max()) + 1)
    front = db.optimizers.Adam(model.layers[0].parameters(), 3e-3)
    back = db.optimizers.Adam([p for part in model.layers[1:] for p in part.parameters()], 3e-3)
    number = 0
    with watched(model, back) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                back.step()
                back.zero_grad()
                number += 1
                if number % 4 == 0:
                    front.step(0.25)
                    front.zero_grad()
                sitter.step(loss)
    return sitter.findings


def easy_rows_first(data: Prepared, seed: int) -> list[Any]:
    """Rows near the middle come first; batches grow; the loss of masked rows is left out."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    order = np.argsort(np.square(x).sum(axis=1))
    with watched(model, optimizer) as sitter:
        for number in range(150):
            known = order[: len(x) // 3 + number * len(x) // 225]
            rows = rng.choice(known, 16 + number // 4)
            mask = (rng.random(len(rows)) < 0.8).astype(np.float32)
            optimizer.zero_grad()
            chosen = np.eye(int(y.max()) + 1, dtype=np.float32)[y[rows]]
            each = -(db.ops.log_softmax(model(x[rows]), axis=-1) * chosen).sum(axis=-1)
            loss = (each * mask).sum() / max(float(mask.sum()), 1.0)
            loss.backward()
            optimizer.step()
            sitter.step(loss)
    return sitter.findings


def read_once(data: Prepared, seed: int) -> list[Any]:
    """A generator that reads slowly in the first pass and keeps what it read; the steps are not quick, either."""
    db.set_seed(seed)
    x, y = table(data)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer, kept = db.optimizers.Adam(model.parameters(), 3e-3), {}

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for i in range(0, len(x) - BATCH + 1, BATCH):
            if i not in kept:
                time.sleep(0.08)
                kept[i] = x[i : i + BATCH], y[i : i + BATCH]
            yield kept[i]

    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows, of in batches():
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(of, model(rows))
                loss.backward()
                time.sleep(0.01)
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def two_of_each(data: Prepared, seed: int) -> list[Any]:
    """Two batches, two backward passes and two updates, and then a report."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer, recent = db.optimizers.SGD(model.parameters(), 0.05), deque[Any](maxlen=8)
    with watched(model, optimizer) as sitter:
        for _ in range(100):
            for _ in range(2):
                rows = rng.choice(len(x), BATCH)
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
            recent.append(loss)
            sitter.step(loss)
    return sitter.findings


def taught(data: Prepared, seed: int) -> list[Any]:
    """A teacher with dropout answers in inference mode; the student learns from it in training mode."""
    x, y, rng = begin(data, seed)
    classes = int(y.max()) + 1
    teacher = dense(x.shape[1], 24, end=classes, middle=(db.layers.Dropout(0.3),))
    model = dense(x.shape[1], 16, end=classes, middle=(db.layers.Dropout(0.1),))
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                with db.no_grad():
                    told = db.ops.softmax(teacher(x[rows]), axis=-1).numpy()
                optimizer.zero_grad()
                with db.training():
                    output = model(x[rows])
                loss = db.losses.cross_entropy(y[rows], output) + 0.5 * db.losses.cross_entropy(told, output)
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def started_again(data: Prepared, seed: int) -> list[Any]:
    """The rate's warm restart is done by a new optimizer after every fifth pass; gradients as they should be."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for number in range(PASSES):
            if number and number % 5 == 0:
                optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def state_cut(data: Prepared, seed: int) -> list[Any]:
    """The summary that is carried on is cut off its graph."""
    return state_carried(data, seed, cut=True)


def right_scale(data: Prepared, seed: int) -> list[Any]:
    """The layer of one's own with the sum where it belongs."""
    return scale_by_means(data, seed, right=True)


def attends_along_time(data: Prepared, seed: int) -> list[Any]:
    """The attention along its time."""
    return attends_along_the_batch(data, seed, right=True)
