"""What data cannot express: loops and layers written by hand that are wrong, beside some that look alike and are not.

The pool of code cases: a loop or model, a data set, a seed. Wrong loops are watched with `db.babysit.watch`, wrong
models are fitted with the babysitter as usual. The two pools share neither data nor a way of being wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.operators import DEV, SPENT
from benchmarks.babysitter.outcomes import Outcome
from benchmarks.babysitter.sources import Prepared, prepare, present
from deepbabysit.babysit.sitter import Sitter

SOURCES = {DEV: ("circles", "wine", "digits", "blobs3"), SPENT: ("breast_cancer", "blobs6", "spirals", "gratings")}
SEEDS = {DEV: (2000, 2001, 2002), SPENT: (780_000, 780_001, 780_002)}
STEPS, BATCH = 150, 32


@dataclass(frozen=True, slots=True)
class Loop:
    """A hand-written loop; each attribute is one way in which loops go wrong, or only look so."""

    clear: str = "every"  # "never", "epoch", "after", "parts" (two backward calls, then a step)
    keep: str = "numbers"  # "tensors", "sum", "last"
    train: str = "training"  # "inference"
    evaluate: str = "inference"  # "training", "none"
    dropout: float = 0.0
    norm: bool = False


LOOPS: dict[str, tuple[str, str, Loop]] = {
    "never_cleared": (DEV, "missing_zero_grad", Loop(clear="never")),
    "cleared_per_epoch": (SPENT, "missing_zero_grad", Loop(clear="epoch")),
    "losses_kept": (DEV, "memory_growth", Loop(keep="tensors")),
    "losses_added": (SPENT, "memory_growth", Loop(keep="sum")),
    "evaluated_in_training": (DEV, "mode_bug", Loop(dropout=0.4, evaluate="training")),
    "trained_in_inference": (SPENT, "mode_bug", Loop(norm=True, train="inference")),
    "plain": (DEV, "", Loop()),
    "plain_with_dropout": (SPENT, "", Loop(dropout=0.3)),
    "cleared_after": (DEV, "", Loop(clear="after", norm=True)),
    "parts_added": (SPENT, "", Loop(clear="parts")),
    "last_loss_kept": (DEV, "", Loop(keep="last", dropout=0.4)),
    "no_evaluation": (SPENT, "", Loop(norm=True, evaluate="none")),
}


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


def _plain(x: Any) -> Any:
    return x


def _centered(x: Any) -> Any:
    return x - x.mean(axis=-1, keepdims=True)


def _centered_wrong(x: Any) -> Any:
    return x - x.mean(axis=0, keepdims=True)


def _softmax_wrong(x: Any) -> Any:
    return db.ops.softmax(x, axis=0) * 10.0


def _log(x: Any) -> Any:
    return db.ops.log(db.ops.relu(x))


def _root(x: Any) -> Any:
    return db.ops.sqrt(db.ops.relu(x - 1.0))


def _log_guarded(x: Any) -> Any:
    return db.ops.log(db.ops.relu(x) + 1e-3)


# operations in the middle of a model that is fitted as usual
MIDDLES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "batch_mean": (DEV, "batch_leak", _centered_wrong),
    "softmax_over_rows": (SPENT, "batch_leak", _softmax_wrong),
    "slope_forgotten": (DEV, "wrong_gradient", lambda x: Leaky(1.0)(x)),
    "slope_doubled": (SPENT, "wrong_gradient", lambda x: Leaky(0.1, 2.0)(x)),
    "log_of_zero": (DEV, "nan_in_layer", _log),
    "root_at_zero": (SPENT, "nan_in_layer", _root),
    "input_cut_off": (DEV, "output_ignores_input", lambda x: x * 0.0 + 1.0),
    "input_detached": (SPENT, "output_ignores_input", lambda x: (x > 1e9) * x),
    "row_mean": (DEV, "", _centered),
    "right_slope": (SPENT, "", lambda x: Leaky(0.1)(x)),
    "nothing": (DEV, "", _plain),
    "guarded_log": (SPENT, "", _log_guarded),
}
WAITS: dict[str, tuple[str, str, float]] = {
    "slow_rows": (DEV, "slow_input", 0.03), "slow_start": (SPENT, "slow_input", 0.05),
    "quick_rows": (DEV, "", 0.0), "quick_start": (SPENT, "", 0.0),
}


@dataclass(frozen=True, slots=True)
class CodeCase:
    """A loop or model, a source of data, a seed; `code` is the label, empty where nothing is wrong."""

    pool: str
    operator: str
    code: str
    source: str
    seed: int

    @property
    def name(self) -> str:
        """Operator, source and seed."""
        return f"code/{self.operator}/{self.source}/{self.seed}"


def code_pool(pool: str) -> list[CodeCase]:
    """Return every code case of a pool: seed by seed, so that the first ones are a sample."""
    found = []
    for seed in SEEDS[pool]:
        for table in (LOOPS, MIDDLES, WAITS):
            for operator, (where, code, _) in table.items():
                once = table is WAITS and seed != SEEDS[pool][0]  # waiting takes time, and no chance plays a part
                if where == pool and not once:
                    found += [CodeCase(pool, operator, code, s, seed) for s in SOURCES[pool] if present(s)]
    return found


def code_outcome(case: CodeCase) -> Outcome:
    """Run a code case and return its outcome in the form of the other pools'."""
    pool, operator, code, source, seed = case.pool, case.operator, case.code, case.source, case.seed
    data = prepare({"source": source, "rows": 320, "scale": "unit" if source in ("digits", "gratings") else "zscore"},
                   seed)
    began = time.perf_counter()
    if operator in LOOPS:
        findings, steps = _loop(LOOPS[operator][2], data, seed), STEPS
    else:
        findings, steps = _fit(operator, data, seed)
    said = [{"code": f.code, "severity": f.severity, "confidence": f.confidence, "at": min(f.step or 0, steps),
             "message": f.message[:400]} for f in findings]
    codes = [code] if code else []
    if code == "nan_in_layer":
        codes.append("nan_loss")
    return {
        "name": case.name, "pool": pool, "program": source, "operator": operator, "delta": {},
        "codes": codes, "kind": "fault" if code else "lookalike", "truth": "faulty" if code else "healthy",
        "seeds": [seed], "worse": {}, "scores": {}, "findings": said, "steps": steps, "done": steps, "refused": "",
        "bad_step": None, "named": None, "same": None, "seconds": round(time.perf_counter() - began, 3),
        "baselines": {},
    }


def _network(data: Prepared, middle: list[Any], bent: bool = True) -> Any:
    """Return a small network; `bent`: whether the first layer has an activation before what is in the middle."""
    first = db.layers.Dense(24, activation="relu" if bent else None, kernel_initializer="he_normal")
    second = db.layers.Dense(16, activation="relu", kernel_initializer="he_normal")
    model = db.Sequential([first, *middle, second, db.layers.Dense(max(data.classes, 2))])
    model.build_for([data.train.x.shape[1:]], [np.float32])
    return model


def _labels(part: Any) -> np.ndarray:
    return np.asarray(part.y).reshape(-1).astype(np.int64)


def _loop(kind: Loop, data: Prepared, seed: int) -> list[Any]:
    """Train by hand as such loops are written."""
    db.set_seed(seed)
    middle: list[Any] = [db.layers.Dropout(kind.dropout)] if kind.dropout else []
    middle += [db.layers.BatchNorm(momentum=0.9)] if kind.norm else []
    model = _network(data, middle)
    optimizer = db.optimizers.SGD(model.parameters(), 0.05)
    kept: list[Any] = []
    total: Any = 0.0
    rows = len(data.train.x) // BATCH
    with db.babysit.watch(model, optimizer, say=lambda _: None, every=8, batch=BATCH) as sitter:
        for step, (x, y) in zip(range(STEPS), _batches(data, seed), strict=False):
            if kind.clear in ("every", "parts") or (kind.clear == "epoch" and step % rows == 0):
                optimizer.zero_grad()
            half = len(x) // 2
            for part in (slice(0, half), slice(half, None)) if kind.clear == "parts" else (slice(None),):
                if kind.train == "training":
                    with db.training():
                        loss = db.losses.cross_entropy(y[part], model(x[part]))
                else:
                    loss = db.losses.cross_entropy(y[part], model(x[part]))
                loss.backward()
            optimizer.step(0.5) if kind.clear == "parts" else optimizer.step()
            if kind.clear == "after":
                optimizer.zero_grad()
            if kind.keep == "tensors":
                kept.append(loss)
            elif kind.keep == "sum":
                total = total + loss
            elif kind.keep == "last":
                total = loss
            else:
                kept.append(loss.item())
            sitter.step(loss)
            if step % rows == rows - 1 and kind.evaluate != "none":
                with db.no_grad():
                    if kind.evaluate == "training":
                        with db.training():
                            model(data.held.x)
                    else:
                        model(data.held.x)
    return sitter.findings


def _batches(data: Prepared, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng, y = np.random.default_rng(seed), _labels(data.train)
    while True:
        order = rng.permutation(len(y))
        for start in range(0, len(y) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            yield data.train.x[rows], y[rows]


class _Slow:
    """Rows that take their time."""

    def __init__(self, x: np.ndarray, seconds: float) -> None:
        self.x, self.seconds = x, seconds
        self.shape, self.dtype, self.ndim = x.shape, x.dtype, x.ndim

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> np.ndarray:
        time.sleep(self.seconds)
        return self.x[rows]


def _fit(operator: str, data: Prepared, seed: int) -> tuple[list[Any], int]:
    """Fit a model with an odd operation in its middle, or from slow rows."""
    db.set_seed(seed)
    middle = [db.layers.Lambda(MIDDLES[operator][2])] if operator in MIDDLES else []
    model = _network(data, middle, bent="slope" not in operator)
    model.compile(db.optimizers.Adam(1e-2), "cross_entropy", metrics=["accuracy"])
    epochs = 15
    steps = epochs * -(-len(data.train.x) // BATCH)
    sitter = Sitter(every=16, verdict=False)
    x: Any = data.train.x
    if operator in WAITS:
        x = _Slow(x, WAITS[operator][2])
    model.fit(
        x, _labels(data.train), batch_size=BATCH, epochs=epochs, validation_data=(data.held.x, _labels(data.held)),
        seed=seed, verbose=0, device="cpu", babysit=sitter,
    )
    return sitter.findings, steps
