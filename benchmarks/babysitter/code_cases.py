"""What data cannot express: loops and layers written by hand that are wrong, beside some that look alike and are not.

The pool of code cases: a loop or model, a data set, a seed. Wrong loops are watched with `db.babysit.watch`, wrong
models are fitted with the babysitter as usual. The pools share neither data nor a way of being wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter.loops import BATCH, STEPS, Loop, labels, network, train
from benchmarks.babysitter.operators import DEV, SEALED, SPENT
from benchmarks.babysitter.outcomes import Outcome
from benchmarks.babysitter.sealed import code_cases as sealed
from benchmarks.babysitter.sources import IMAGES, Prepared, prepare, present
from deepbabysit.babysit.sitter import Sitter

SOURCES = {DEV: ("circles", "wine", "digits", "blobs3"), SPENT: ("breast_cancer", "blobs6", "spirals", "gratings"),
           SEALED: sealed.SOURCES}
SEEDS = {DEV: (2000, 2001, 2002), SPENT: (780_000, 780_001, 780_002), SEALED: sealed.SEEDS}

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
    "parts_added": (SPENT, "", Loop(gather=2, split=True)),
    "last_loss_kept": (DEV, "", Loop(keep="last", dropout=0.4)),
    "no_evaluation": (SPENT, "", Loop(norm=True, evaluate="none")),
    **sealed.LOOPS,
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
    **sealed.MIDDLES,
}
# seconds that a reader waits for a batch, and for how many batches of ten
WAITS: dict[str, tuple[str, str, tuple[float, int]]] = {
    "slow_rows": (DEV, "slow_input", (0.03, 10)), "slow_start": (SPENT, "slow_input", (0.05, 10)),
    "quick_rows": (DEV, "", (0.0, 0)), "quick_start": (SPENT, "", (0.0, 0)),
    **sealed.WAITS,
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
                if where == pool:
                    found += [CodeCase(pool, operator, code, s, seed) for s in SOURCES[pool] if present(s)]
    return found


def code_outcome(case: CodeCase) -> Outcome:
    """Run a code case and return its outcome in the form of the other pools'."""
    operator, code, source, seed = case.operator, case.code, case.source, case.seed
    data = prepare({"source": source, "rows": 320, "scale": "unit" if source in IMAGES else "zscore"},
                   seed)
    began = time.perf_counter()
    if operator in LOOPS:
        findings, steps = train(LOOPS[operator][2], data, seed), STEPS
    else:
        findings, steps = _fit(operator, data, seed)
    said = [{"code": f.code, "severity": f.severity, "confidence": f.confidence, "at": min(f.step or 0, steps)}
            for f in findings]
    codes = [code] if code else []
    if code == "nan_in_layer":
        codes.append("nan_loss")
    return {
        "name": case.name, "operator": operator, "codes": codes,
        "kind": "fault" if code else "lookalike", "truth": "faulty" if code else "healthy", "worse": {},
        "findings": said, "steps": steps, "refused": False, "named": None, "same": None,
        "seconds": round(time.perf_counter() - began, 3), "baselines": {},
    }



class _Slow:
    """Rows that take their time: so many seconds for so many batches of ten."""

    def __init__(self, x: np.ndarray, seconds: float, often: int) -> None:
        self.x, self.seconds, self.often, self.asked = x, seconds, often, 0
        self.shape, self.dtype, self.ndim = x.shape, x.dtype, x.ndim

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> np.ndarray:
        self.asked += 1
        # the first batch of all waits even where reading is quick: a file is opened
        time.sleep(self.seconds if self.asked % 10 < self.often else 0.1 * (self.asked == 1))
        return self.x[rows]


def _fit(operator: str, data: Prepared, seed: int) -> tuple[list[Any], int]:
    """Fit a model with an odd operation in its middle, or from slow rows."""
    db.set_seed(seed)
    middle = [db.layers.Lambda(MIDDLES[operator][2])] if operator in MIDDLES else []
    model = network(data, middle, bent="slope" not in operator)
    model.compile(db.optimizers.Adam(1e-2), "cross_entropy", metrics=["accuracy"])
    epochs = 15
    steps = epochs * -(-len(data.train.x) // BATCH)
    sitter = Sitter(every=16, verdict=False)
    x: Any = data.train.x
    if operator in WAITS:
        x = _Slow(x, *WAITS[operator][2])
    model.fit(
        x, labels(data.train), batch_size=BATCH, epochs=epochs, validation_data=(data.held.x, labels(data.held)),
        seed=seed, verbose=0, device="cpu", babysit=sitter,
    )
    return sitter.findings, steps
