"""What data cannot express: loops and layers written by hand that are wrong, beside some that look alike and are not.

The pool of code cases: a loop or model, a data set, a seed. Wrong loops are watched with `db.babysit.watch`, wrong
models are fitted with the babysitter as usual. The pools share neither data nor a way of being wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

import deepbabysit as db
from benchmarks.babysitter import draws
from benchmarks.babysitter.loops import BATCH, STEPS, Loop, Middle, Wait, Way, Written, labels, network, train
from benchmarks.babysitter.outcomes import Outcome
from benchmarks.babysitter.sources import IMAGES, Prepared, prepare, present
from deepbabysit.babysit.sitter import Sitter

_PARTS = draws.parts("code_cases")
SOURCES: dict[str, tuple[str, ...]] = {draw: part.SOURCES for draw, part in _PARTS.items()}
SEEDS: dict[str, tuple[int, ...]] = {draw: part.SEEDS for draw, part in _PARTS.items()}
WAYS: dict[str, dict[str, Way]] = {draw: part.WAYS for draw, part in _PARTS.items()}


@dataclass(frozen=True, slots=True)
class CodeCase:
    """A loop or model, a source of data, a seed; `codes` are the labels, none where nothing is wrong."""

    pool: str
    operator: str
    codes: tuple[str, ...]
    source: str
    seed: int

    @property
    def name(self) -> str:
        """Operator, source and seed."""
        return f"code/{self.operator}/{self.source}/{self.seed}"


def code_pool(pool: str) -> list[CodeCase]:
    """Return every code case of a pool: seed by seed, so that the first ones are a sample."""
    return [
        CodeCase(pool, operator, way.codes, source, seed) for seed in SEEDS[pool]
        for operator, way in WAYS[pool].items() for source in SOURCES[pool] if present(source)
    ]


def code_outcome(case: CodeCase) -> Outcome:
    """Run a code case and return its outcome in the form of the other pools'."""
    source, seed, what = case.source, case.seed, WAYS[case.pool][case.operator].what
    data = prepare({"source": source, "rows": 320, "scale": "unit" if source in IMAGES else "zscore"}, seed)
    began = time.perf_counter()
    if isinstance(what, Written):
        findings, steps = what.function(data, seed), STEPS
    else:
        findings, steps = (train(what, data, seed), STEPS) if isinstance(what, Loop) else _fit(what, data, seed)
    said = [{"code": f.code, "severity": f.severity, "confidence": f.confidence, "at": min(f.step or 0, steps)}
            for f in findings]
    return {
        "name": case.name, "operator": case.operator, "codes": list(case.codes),
        "kind": "fault" if case.codes else "lookalike", "truth": "faulty" if case.codes else "healthy", "worse": {},
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


def _fit(what: Middle | Wait, data: Prepared, seed: int) -> tuple[list[Any], int]:
    """Fit a model with an odd operation in its middle, or from slow rows."""
    db.set_seed(seed)
    wait = what if isinstance(what, Wait) else None
    middle = [db.layers.Lambda(what.function)] if isinstance(what, Middle) else []
    model = network(data, middle, bent=wait is not None or what.bent)
    model.compile(db.optimizers.Adam(1e-2), "cross_entropy", metrics=["accuracy"])
    epochs = 15
    steps = epochs * -(-len(data.train.x) // BATCH)
    sitter = Sitter(every=16, verdict=False)
    x: Any = data.train.x
    if wait is not None:
        x = _Slow(x, *wait)
    model.fit(
        x, labels(data.train), batch_size=BATCH, epochs=epochs, validation_data=(data.held.x, labels(data.held)),
        seed=seed, verbose=0, device="cpu", babysit=sitter,
    )
    return sitter.findings, steps
