"""How far a run came against what its data allow: its last validation scores beside those of cheap models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepbabysit.babysit.rules.signals import accuracy, classified, lopsided
from deepbabysit.babysit.vitals import Record

if TYPE_CHECKING:
    from deepbabysit.babysit.yardstick import Yardstick

NEAR, ERRORS = 0.02, 1.5  # a score so close, or within so many standard errors, is as good
DEAR = 0.11  # loss above that of the cheap models, against guessing, that is still as good
FAR, SURELY = 0.1, 3.0  # a score so far below, and by so many standard errors, is held up
COSTLY = 0.25  # loss above that of the cheap models, against guessing, with which a run is held up whatever it scores
FAR_NUMBERS = 0.15  # the same of the share of the variance: smooth functions are a kernel model's best case


@dataclass(frozen=True, slots=True)
class Reach:
    """A run's end beside the yardstick.

    Attributes:
        score, best: accuracy, or share of the variance that is explained, of the run and of the best cheap model.
        errors: by how many standard errors of so many validation rows the run is below.
        dear: the run's loss above that of the cheap model, against guessing; None where losses cannot be compared.
        train: the run's score on training rows, as far as it is known.
        numbers: whether targets are numbers.
        lacking: how far the run is below what cheap models would reach with all training rows; infinite where they do
            not tell what the data allow.
    """

    score: float
    best: float
    errors: float
    dear: float | None
    train: float | None
    numbers: bool
    lacking: float = 0.0

    @property
    def gap(self) -> float:
        """How far the run is below the yardstick."""
        return self.best - self.score

    @property
    def met(self) -> bool:
        """Whether the run ended as well as the cheap models, as far as the rows can tell."""
        if self.lacking > max(NEAR, self.gap + NEAR):
            return False
        return (self.gap <= NEAR or self.errors <= ERRORS) and (self.dear is None or self.dear <= DEAR)

    @property
    def short(self) -> bool:
        """Whether the run ended far below what its data allow."""
        return self.below(FAR_NUMBERS if self.numbers else FAR) or (self.dear is not None and not self.dear < COSTLY)

    def below(self, gap: float, errors: float = SURELY) -> bool:
        """Whether the run ended so far below, by so many standard errors (a score that is not finite is)."""
        return not self.gap < gap and not self.errors < errors

    def words(self) -> str:
        """Say both scores."""
        name = "of the variance is explained" if self.numbers else "of the validation rows are right"
        return f"{self.score:.0%} {name}, and a cheap model reaches {self.best:.0%}"


def yardstick_of(record: Record) -> Yardstick | None:
    """Return what cheap models reach, where that was measured."""
    found: Yardstick | None = record.probes.get("yardstick")
    return found


def reach(record: Record) -> Reach | None:
    """Return how the run stands at its last epoch; None where nothing can be compared."""
    known = yardstick_of(record)
    if known is None or not record.epochs:
        return None
    return _of_numbers(record, known) if known.kind == "numbers" else _of_classes(record, known)


def _of_classes(record: Record, known: Yardstick) -> Reach | None:
    right, own = accuracy(record, "val_"), accuracy(record)
    losses, guess = record.logs("val_loss"), record.run.chance
    dear = None
    if classified(record) and losses and known.loss is not None and guess:
        dear = (losses[-1] - known.loss) / guess
    if not right:
        return None
    rows = known.held_rows
    # two models err on other rows at worst: so many answers may differ between them
    error = math.sqrt((2.0 - known.best - right[-1] + 1.0 / rows) / rows)
    lacking = known.allowed - right[-1] if known.telling else math.inf
    return Reach(
        right[-1], known.best, (known.best - right[-1]) / error, dear,
        own[-1] if own and not lopsided(record) else None, False, lacking)


def _of_numbers(record: Record, known: Yardstick) -> Reach | None:
    losses, train = record.logs("val_loss"), record.logs("data_loss") or record.logs("loss")
    if not losses or not known.spread:
        return None
    power = {"mse": 1.0, "rmse": 2.0}.get(record.run.loss or "")
    best = known.best
    if power is not None:
        left = losses[-1] ** power / known.spread
        fitted = train[-1] ** power / known.spread if train else math.nan
    elif known.course and known.reached is not None:
        left = known.left(losses[-1])
        fitted = known.left(train[-1]) if train else math.nan
        best = max(1.0 - known.left(known.reached), 0.0)
    else:
        return None
    least = max(1.0 - best, 1e-3)
    errors = math.log(max(left, 1e-9) / least) * math.sqrt(known.held_rows) / 2.0 if math.isfinite(left) else math.inf
    lacking = known.allowed - 1.0 + left if known.telling else math.inf
    return Reach(1.0 - left, best, errors, None, 1.0 - fitted if math.isfinite(fitted) else None, True, lacking)
