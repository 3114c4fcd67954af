"""More loops and operations as they stand in scripts: wrong ones, and some that only look so."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.draws.development.stage import BATCH, PASSES, begin, dense, pieces, table, watched
from benchmarks.babysitter.sources import Prepared


class Bell(db.Function):
    """``exp(-x^2)``; `factor`: 2 for the derivative, 1 for one in which it was forgotten."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: Any) -> Any:
        """Return ``exp(-x^2)``."""
        y = db.ops.exp(-x * x)
        self.save(x, y)
        return y

    def backward(self, gradient: Any) -> Any:
        """Return ``-2 x y``."""
        x, y = self.saved
        return gradient * (-self.factor) * x * y


class Largest(db.Function):
    """The largest of each row, for all of them; `only`: whether only where it stands it is derived."""

    def __init__(self, only: bool) -> None:
        self.only = only

    def forward(self, x: Any) -> Any:
        """Return x plus the largest of its row."""
        top = x.max(axis=-1, keepdims=True)
        self.save(x, top)
        return x + top

    def backward(self, gradient: Any) -> Any:
        """Return the gradient, and their sum at the place of the largest (or spread over all)."""
        x, top = self.saved
        whole = gradient.sum(axis=-1, keepdims=True)
        return gradient + (whole * (x == top).astype(np.float32) if self.only else whole / float(x.shape[-1]))


def less_the_first_row(x: Any) -> Any:
    """The first row of the batch was meant to be a reference row of the data."""
    return x - x[:1]


def shares_of_columns(x: Any) -> Any:
    """A softmax along the wrong axis."""
    return 8.0 * db.ops.softmax(x, axis=0)


def mixed_with_reversed(x: Any) -> Any:
    """Rows mixed with those of the reversed batch: an augmentation that stayed in the model."""
    return 0.8 * x + 0.2 * x[::-1]


def root_of_open(x: Any) -> Any:
    """The slope of a root at 0 is infinite; that of a closed rectifier is 0, and so is their product here."""
    return db.ops.sqrt(db.ops.relu(x))


def share_of_open(x: Any) -> Any:
    """Rows by their sum, which may be 0."""
    shut = db.ops.relu(x - 3.0)
    return shut / shut.sum(axis=-1, keepdims=True)


def rounded(x: Any) -> Any:
    """Rounded to whole numbers: no gradient passes."""
    return db.ops.floor(x * 2.0 + 0.5) * 0.5


def masked_away(x: Any) -> Any:
    """The mask was turned round: nothing is left of any row."""
    return x * (db.ops.abs(x) < 0.0).astype(np.float32)


def _loop(
    data: Prepared, seed: int, middle: tuple[Any, ...] = (), before: Callable[[Any], None] = lambda _: None,
    after: Callable[[Any, Any, int], None] = lambda *_: None, tried: Callable[[Any, Any], None] = lambda *_: None,
    rule: Any = db.optimizers.Adam, rate: float = 3e-3, wrapped: bool = False,
) -> list[Any]:
    """A loop in which some lines are given."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, 12, end=int(y.max()) + 1, middle=middle)
    optimizer, number = rule(model.parameters(), rate), 0
    with watched(model, optimizer) as sitter:
        before(model)
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                if wrapped:
                    with db.training():
                        output = model(x[rows])
                else:
                    output = model(x[rows])
                loss = db.losses.cross_entropy(y[rows], output)
                loss.backward()
                optimizer.step()
                after(model, output, number)
                number += 1
                sitter.step(loss)
            tried(model, data.held.x.reshape(len(data.held.x), -1))
    return sitter.findings


def never_to_eval(data: Prepared, seed: int) -> list[Any]:
    """``train()`` is called once; evaluations run as the model stands."""
    def tried(model: Any, x: Any) -> None:
        with db.no_grad():
            model(x)

    return _loop(data, seed, (db.layers.BatchNorm(), db.layers.Dropout(0.2)), lambda m: m.train(), tried=tried)


def never_back_to_train(data: Prepared, seed: int) -> list[Any]:
    """``eval()`` before the first evaluation, and no ``train()`` after it."""
    def tried(model: Any, x: Any) -> None:
        model.eval()
        with db.no_grad():
            model(x)

    return _loop(data, seed, (db.layers.Dropout(0.3),), lambda m: m.train(), tried=tried, rule=db.optimizers.RMSprop)


def to_and_fro(data: Prepared, seed: int) -> list[Any]:
    """``eval()`` before each evaluation, ``train()`` after it."""
    def tried(model: Any, x: Any) -> None:
        model.eval()
        with db.no_grad():
            model(x)
        model.train()

    return _loop(data, seed, (db.layers.BatchNorm(), db.layers.Dropout(0.2)), lambda m: m.train(), tried=tried)


def features_remembered(data: Prepared, seed: int, cut: bool = False) -> list[Any]:
    """The outputs of every fourth step go into a memory that only grows, with their graph."""
    memory: list[Any] = []

    def after(_: Any, output: Any, number: int) -> None:
        if number % 4 == 0:
            memory.append(output.detach() if cut else output)

    return _loop(data, seed, (db.layers.LayerNorm(),), after=after)


def features_cut(data: Prepared, seed: int) -> list[Any]:
    """The same memory without graphs."""
    return features_remembered(data, seed, cut=True)


def rows_one_by_one(data: Prepared, seed: int) -> list[Any]:
    """A data set that opens a file for each row."""
    db.set_seed(seed)
    x, y = table(data)

    class _Rows:
        def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
            time.sleep(6e-4)
            return x[row], y[row]

    rng, rows = np.random.default_rng(seed), _Rows()
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(100):
            batch = [rows[i] for i in rng.choice(len(x), BATCH)]
            inputs, targets = np.stack([b[0] for b in batch]), np.array([b[1] for b in batch])
            loss = db.losses.cross_entropy(targets, model(inputs))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            sitter.step(loss)
    return sitter.findings


def columns_apart(data: Prepared, seed: int) -> list[Any]:
    """A regression whose targets were sorted and its rows were not."""
    x, _, rng = begin(data, seed)
    y = np.sort(x[:, :1] * 1.5 + 0.5 * x[:, 1:2], axis=0)
    model = dense(x.shape[1], 16, end=1)
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


def absolute_of_all_pairs(data: Prepared, seed: int, right: bool = False) -> list[Any]:
    """Absolute errors of a column against a row of targets."""
    x, _, rng = begin(data, seed)
    y = (x[:, 0] - 0.5 * x[:, 1]).astype(np.float32)
    model = dense(x.shape[1], 16, end=1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                output = model(x[rows])
                wrong = db.ops.abs((output[:, 0] if right else output) - y[rows])
                loss = db.ops.where(wrong < 1.0, 0.5 * wrong * wrong, wrong - 0.5).mean()
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def absolute_of_each(data: Prepared, seed: int) -> list[Any]:
    """The same with one target for each row."""
    return absolute_of_all_pairs(data, seed, right=True)


def sum_of_gaps(data: Prepared, seed: int) -> list[Any]:
    """A hinge whose rows are added up, with momentum and the rate of a mean."""
    x, y, rng = begin(data, seed)
    classes = int(y.max()) + 1
    model = dense(x.shape[1], 16, end=classes)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05, momentum=0.9)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                chosen = np.eye(classes, dtype=np.float32)[y[rows]]
                output = model(x[rows])
                gaps = db.ops.relu(1.0 + output - (output * chosen).sum(axis=-1, keepdims=True)) * (1.0 - chosen)
                loss = gaps.sum()
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def clipped_by_hand(data: Prepared, seed: int) -> list[Any]:
    """Gradients are made smaller by hand before the update."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.SGD(model.parameters(), 0.1)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                norm = np.sqrt(sum(float(np.square(p.grad.numpy()).sum()) for p in model.parameters()))
                for p in model.parameters():
                    p.grad = p.grad * float(min(1.0, 1.0 / norm))
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def at_a_worse_place(data: Prepared, seed: int) -> list[Any]:
    """Sharpness-aware: the gradient of a place nearby, reached and left by assignments, moves the weights."""
    x, y, rng = begin(data, seed)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1, middle=(db.layers.Dropout(0.1),))
    optimizer = db.optimizers.SGD(model.parameters(), 0.1)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                with db.training():
                    loss = db.losses.cross_entropy(y[rows], model(x[rows]))
                loss.backward()
                kept = [np.array(w) for w in model.get_weights()]
                norm = np.sqrt(sum(float(np.square(p.grad.numpy()).sum()) for p in model.parameters()))
                for p in model.parameters():
                    p.assign(p.numpy() + 0.02 / norm * p.grad.numpy())
                optimizer.zero_grad()
                with db.training():
                    db.losses.cross_entropy(y[rows], model(x[rows])).backward()
                model.set_weights(kept)
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def looked_ahead(data: Prepared, seed: int) -> list[Any]:
    """After every fifth step the weights go half of the way back."""
    slow: list[np.ndarray] = []

    def after(model: Any, _: Any, number: int) -> None:
        now = [np.array(w) for w in model.get_weights()]
        if not slow:
            slow.extend(now)
        elif number % 5 == 4:
            slow[:] = [0.5 * a + 0.5 * b for a, b in zip(slow, now, strict=True)]
            model.set_weights(slow)

    return _loop(data, seed, after=after, rate=5e-3)


def rows_against_rows(data: Prepared, seed: int) -> list[Any]:
    """A contrast between the rows of a batch, in the loss alone."""
    x, _, rng = begin(data, seed)
    model = dense(x.shape[1], 24, end=8)
    optimizer = db.optimizers.Adam(model.parameters(), 1e-3)
    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            for rows in pieces(len(x), rng):
                optimizer.zero_grad()
                noise = 0.1 * rng.standard_normal((2, BATCH, x.shape[1])).astype(np.float32)
                a, b = model(x[rows] + noise[0]), model(x[rows] + noise[1])
                a = a / db.ops.sqrt((a * a).sum(axis=-1, keepdims=True) + 1e-6)
                b = b / db.ops.sqrt((b * b).sum(axis=-1, keepdims=True) + 1e-6)
                loss = db.losses.cross_entropy(np.arange(BATCH), a @ b.T * 5.0)
                loss.backward()
                optimizer.step()
                sitter.step(loss)
    return sitter.findings


def loaded_ahead(data: Prepared, seed: int) -> list[Any]:
    """The project's own loader, made ahead; each pass ends with a slow picture."""
    db.set_seed(seed)
    x, y = table(data)
    model = dense(x.shape[1], 16, end=int(y.max()) + 1)
    optimizer = db.optimizers.Adam(model.parameters(), 3e-3)

    def passed() -> None:
        for batch in db.data.Loader(x, y, batch_size=BATCH, shuffle=True, prefetch=2):
            optimizer.zero_grad()
            loss = db.losses.cross_entropy(batch.y, model(batch.x))
            loss.backward()
            optimizer.step()
            sitter.step(loss)

    with watched(model, optimizer) as sitter:
        for _ in range(PASSES):
            passed()
            time.sleep(0.12)
    return sitter.findings
