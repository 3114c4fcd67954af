"""Two trainings compared: scores on the same validation rows, and how sure it is that the second one is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepbabysit.babysit.preparation import Prepared, Score, as_tuple, bare, classes_of, misses, score
from deepbabysit.babysit.setup import Setup

COMPARED = 20  # validation rows that two scores need at least to be compared
HALF = 0.5  # standard errors by which a score must be better to be kept
CALMER = 0.9  # or its error so much smaller, at an equal score
# standard errors, and points, by which a run that looked healthy must be beaten; or its errors fall to this share
SURE, MORE, FEWER = 3.0, 0.03, 0.5


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with the data that it was trained on, and its score on the validation rows."""

    setup: Setup
    data: Prepared
    model: Any
    score: Score | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two trainings reach on the same validation rows.

    Attributes:
        before, after: their scores; None where there is none.
        errors: by how many standard errors (of the differences row by row) the second one is better.
        better: whether it is the better one, where more than the scores decides.
    """

    before: Score | None
    after: Score | None
    errors: float = 0.0
    better: bool | None = None

    @property
    def sure(self) -> bool:
        """Whether the second one is better beyond doubt."""
        if self.before is None or self.after is None or self.better is False:
            return False
        before, after = self.before.error, self.after.error
        dearer = before is not None and after is not None and after > before
        better = self.after.value - self.before.value
        return self.errors >= SURE and not dearer and (
            better >= MORE or better >= (1.0 - FEWER) * (1.0 - self.before.value))

    def judge(self) -> tuple[bool, str]:
        """Tell whether the second one is better by more than chance, or as good with a smaller error; and why not."""
        before, after = self.before, self.after
        if after is None or not math.isfinite(after.value):
            return False, "its outputs are not finite"
        if before is None or not math.isfinite(before.value):
            return True, ""
        if self.better is not None:
            return self.better, "" if self.better else "as numbers, its classes lie farther off"
        if after.value > before.value and self.errors > HALF:
            return True, ""
        if after.value >= before.value and after.error is not None and before.error is not None and (
            after.error < CALMER * before.error
        ):
            return True, ""
        return False, "no better" if after.value <= before.value else "no more than chance"


def compare(old: Trained, new: Trained) -> Comparison:
    """Compare two trainings on the validation rows of the second one that the first was not trained on."""
    if new.data.held is None or new.data.truth is None or new.score is None or old.score is None:
        return Comparison(old.score, new.score)
    if _aligned(old, new):
        # the same model on rows in another form: whether it understands them better says whether the form is right
        return Comparison(old.score, new.score, _errors(_misses(old, old, None), _misses(new, new, None)))
    rows = None
    if old.setup.rows != new.setup.rows:
        seen = {row.tobytes() for row in np.ascontiguousarray(old.data.x[0])}
        try:
            own = old.data.inputs(bare(new.data.held))
        except ValueError:
            return Comparison(None, new.score)  # the first cannot even read these rows
        first = np.ascontiguousarray(as_tuple(own)[0])
        rows = np.array([r for r in range(len(first)) if first[r].tobytes() not in seen], np.int64)
        if len(rows) < min(COMPARED, len(first)):
            return Comparison(None, new.score)
    if old.score.name == "r2" and new.score.name == "accuracy":
        return _numbers_against_classes(old, new, rows)
    if rows is None:  # the same rows in the same order, each with targets in its own form
        return Comparison(old.score, new.score, _errors(_misses(old, old, None), _misses(new, new, None)))
    return Comparison(_score(old, new, rows), _score(new, new, rows),
                      _errors(_misses(old, new, rows), _misses(new, new, rows)))


def _aligned(old: Trained, new: Trained) -> bool:
    added = [step for step in new.setup.rows if step not in old.setup.rows]
    return [step["step"] for step in added] == ["align"]


def _errors(before: np.ndarray, after: np.ndarray) -> float:
    """Return by how many standard errors the second misses are smaller, row by row.

    >>> round(_errors(np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0, 0.0])), 2)
    1.73
    """
    fine = np.isfinite(after)
    if not fine.all():
        return -math.inf
    if not np.isfinite(before).all():
        return math.inf
    gained = before - after
    spread = float(gained.std(ddof=1)) / math.sqrt(len(gained)) if len(gained) > 1 else 0.0
    mean = float(gained.mean())
    return mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0


def _numbers_against_classes(old: Trained, new: Trained, rows: np.ndarray | None) -> Comparison:
    """Compare a model of numbers with one of classes: rounded numbers, and how far the classes lie off as numbers."""
    assert new.data.truth is not None
    said = np.asarray(_said(old, new, rows), np.float64).reshape(-1)
    classes = np.asarray(_said(new, new, rows), np.float64)
    goal = np.asarray(new.data.truth if rows is None else new.data.truth[rows]).reshape(-1).astype(np.int64)
    codes = _codes(new.setup)
    numbers = goal.astype(np.float64) if codes is None else codes[goal]
    if len(said) != len(numbers) or not np.isfinite(said).all():
        return Comparison(None, new.score)
    chosen = classes.reshape(len(goal), -1).argmax(axis=1)
    meant = chosen.astype(np.float64) if codes is None else codes[chosen]
    levels = np.unique(numbers)
    rounded = levels[np.abs(said[:, None] - levels).argmin(axis=1)]
    before = Score(float((rounded == numbers).mean()), "accuracy", None, len(goal))
    after = Score(float((meant == numbers).mean()), "accuracy", None, len(goal))
    errors = _errors(1.0 * (rounded != numbers), 1.0 * (meant != numbers))
    # classes that are right as often are the better ones (they come with probabilities), unless numbers are meant: then
    # a wrong class lies farther off than a number between two of them
    near = float(((meant - numbers) ** 2).mean()) <= float(((said - numbers) ** 2).mean())
    return Comparison(before, after, errors, after.value >= before.value and near)


def _codes(setup: Setup) -> np.ndarray | None:
    for step in setup.targets:
        if step["step"] == "codes":
            return np.asarray(step["values"], np.float64)
    return None


def _said(run: Trained, on: Trained, rows: np.ndarray | None) -> np.ndarray:
    """Return what a run's model says about some validation rows of another run's data."""
    assert on.data.held is not None
    held = on.data.held if rows is None else tuple(a[rows] for a in on.data.held)
    with np.errstate(all="ignore"):
        return run.data.predict(run.model, bare(held))


def _judged(run: Trained, on: Trained, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, bool, float]:
    said = _said(run, on, rows)
    assert on.data.truth is not None
    truth = on.data.truth if rows is None else on.data.truth[rows]
    units = said.shape[-1] if said.ndim > 1 else 1
    loss = run.model.loss
    return truth, said, classes_of(truth, loss, units), 0.5 if loss is None else float(loss.threshold)


def _score(run: Trained, on: Trained, rows: np.ndarray | None) -> Score:
    return score(*_judged(run, on, rows))


def _misses(run: Trained, on: Trained, rows: np.ndarray | None) -> np.ndarray:
    return misses(*_judged(run, on, rows))
