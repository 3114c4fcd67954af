"""Rules about rows that are learned by heart. Three names stand for it, and this decides which one is said first:

- ``overtraining``: the run's own best epoch lies in its first half and was better by what counts (`Turn.costs`). That
  it would have been enough to stop there is known and not guessed, so nothing else is asked for.
- ``regularization_missing``: the training rows are known for sure, nothing regularizes, and the best epoch was no
  better by what counts, or came late: stopping would not have helped.
- ``overfitting``: everything else. It stands behind the other two where they are warnings: it is what they look like.

Training figures say nothing where weights make them those of one class (`lopsided`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy, Severity
from deepbabysit.babysit.remedies import decay, dropout, early_stop
from deepbabysit.babysit.rules.reach import reach
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import (
    accuracy,
    chance,
    classified,
    data_losses,
    finite,
    lagging,
    last_epoch,
    lopsided,
    wild,
)
from deepbabysit.babysit.vitals import Record

CAUSES = (
    "split_leak", "corrupted_labels", "split_drift", "batch_too_small", "class_imbalance", "class_collapse",
    "duplicate_rows", "bad_init_scale", "unstable_activation_scale",
)
_MORE = Remedy("use more data, or augment those that are there")
_FEW = 3  # epochs that make a level


@dataclass(frozen=True, slots=True)
class Turn:
    """Where validation was best, and what the epochs after it cost.

    Attributes:
        best, at: the lowest validation loss (mean of up to three epochs) and its epoch; `now` the last ones.
        lost: `now - best` against guessing; `rise` the same against `best`.
        worse: how much lower accuracy is now than it was at the best epoch; None where nobody says it.
        numbers: whether targets are numbers.
        falling: whether the training loss fell on, and the rows are known better than by guessing.
    """

    best: float
    at: int
    now: float
    lost: float
    rise: float
    worse: float | None
    numbers: bool
    falling: bool

    def costs(self, limits: Any) -> bool:
        """Whether going on cost what counts: some of the variance, or of guessing and of the right answers."""
        if not self.falling:
            return False
        if self.numbers:
            return self.lost > limits.variance and self.rise > limits.again
        if self.worse is None:
            return self.lost > limits.harm
        return self.lost > limits.much or (self.lost > limits.cost and self.worse > limits.worse)


def turn(record: Record) -> Turn | None:
    """Return where validation was best; None where that cannot be said."""
    train, val, guess = data_losses(record), record.logs("val_loss"), chance(record)
    if len(val) != len(train) or len(val) < _FEW or not guess or len(finite(val)) < len(val):
        return None
    if wild(record) or lagging(record) or lopsided(record):
        return None
    levels = [fmean(val[max(k - 1, 0) : k + 2]) for k in range(len(val))]
    best, now = min(levels), fmean(val[-_FEW:])
    at = levels.index(best)
    right = accuracy(record, "val_")
    worse = fmean(right[max(at - 1, 0) : at + 2]) - fmean(right[-_FEW:]) if len(right) == len(val) else None
    return Turn(best, at, now, (now - best) / guess, (now - best) / max(best, 1e-12), worse, not classified(record),
                train[-1] < min(0.95 * train[at], 0.9 * guess))


@rule("overfitting", phase="epoch",
      why="validation turns up while training falls; with little data every model does that a bit, without harm to "
          "what it predicts, so a warning needs the loss to rise by a third of guessing, or by 40 % with accuracies "
          "that differ by a tenth, or rows known by heart and 15 points between the accuracies",
      causes=(*CAUSES, "overtraining", "regularization_missing"), rise=0.2, stay=3, least=0.02, harm=0.35, gap=0.1,
      wide=0.4, chasm=0.15, fitted=0.02, epochs=8)
def overfitting(record: Record, limits: Any) -> Finding | None:
    """The validation loss rises while the training loss falls, or the gap of accuracies is wide."""
    found = turn(record)
    train, val, guess = data_losses(record), record.logs("val_loss"), chance(record)
    if found is None or not guess or len(val) < limits.stay + 2:
        return None
    good, held = accuracy(record), accuracy(record, "val_")
    gap = fmean(good[-_FEW:]) - fmean(held[-_FEW:]) if good and held else None
    turned = len(val) - 1 - found.at >= limits.stay and found.falling and found.rise > limits.rise and (
        found.lost > limits.least)
    settled = len(val) >= limits.epochs and found.now > 0.95 * fmean(val[-6:-3])
    wide = gap is not None and settled and (
        (gap > limits.gap and found.rise > limits.wide and train[-1] < 0.3 * guess and found.now > 0.15 * guess)
        or (gap > limits.chasm and train[-1] < limits.fitted * guess and found.now > 0.25 * guess))
    if not turned and not wide:
        return None
    mild = not wide and found.lost < limits.harm
    severity: Severity = "note" if mild else "warning"
    parts = []
    if turned:
        parts.append(
            f"the validation loss was best in epoch {found.at + 1} ({found.best:.4g}) and is {found.now:.4g} now, "
            f"{found.rise:.0%} higher (limit {limits.rise:.0%}), while the training loss fell from "
            f"{train[found.at]:.4g} to {train[-1]:.4g}"
        )
    if wide and gap is not None:
        parts.append(f"accuracy is {gap:.1%} higher on the training part than on the validation part (limit "
                     f"{limits.gap:.0%})")
    return Finding(
        "overfitting", severity, 0.6 if mild else 0.9 if turned and wide else 0.8,
        "; ".join(parts) + ". The model learns the training rows by heart.",
        {"best": found.best, "best_epoch": found.at, "level": found.now, "rise": found.rise, "gap": gap,
         "limit": limits.rise},
        epoch=last_epoch(record), remedies=(early_stop(), dropout(), decay(), _MORE),
    )


@rule("overfitting", phase="end",
      why="what is left to be explained on validation rows is `times` what is left on training rows, and more than "
          "cheap models leave there: by `gap` and `errors` standard errors, or by `dear` of guessing. The rows allow "
          "better, and the model has learned its own by heart: their loss is `loss` times lower",
      causes=CAUSES, times=3.0, gap=0.05, errors=2.5, dear=0.5, loss=1.5, epochs=8)
def by_heart(record: Record, limits: Any) -> Finding | None:
    """The training rows are learned far better than validation rows, and those worse than by cheap models."""
    stand = reach(record)
    train, val = data_losses(record), record.logs("val_loss")
    if stand is None or stand.train is None or len(record.epochs) < limits.epochs or wild(record) or lagging(record):
        return None
    if not stand.below(limits.gap, limits.errors) and not (stand.dear or 0.0) > limits.dear:
        return None
    if not 1.0 - stand.score > limits.times * (1.0 - stand.train) or not val[-1] > limits.loss * train[-1]:
        return None
    return Finding(
        "overfitting", "warning", 0.8,
        f"{stand.words()}, while the training rows are at {stand.train:.0%} (limit: {limits.times:g} times less is "
        f"left there). The model learns the training rows by heart.",
        {"score": stand.score, "train": stand.train, "reach": stand.best, "limit": limits.times},
        epoch=last_epoch(record), remedies=(early_stop(), dropout(), decay(), _MORE),
    )


@rule("overtraining", "overfitting", phase="end",
      why="the run's own best epoch is the counterfactual of stopping there. Sound runs end at most 0.08 of guessing "
          "above it (0.3 where answers stay as right), and 0.04 of the variance; what counts is more than that (`cost` "
          "with `worse` of the answers, or `much`; `harm` where nobody counts answers; `variance` that is `again` of "
          "what was left). The best epoch in the first half (`share`) makes the length of the run the cause; `least` "
          "epochs after it and `rise` are worth a note",
      causes=CAUSES, share=0.5, least=5, rise=0.1, note=0.02, cost=0.09, worse=0.015, harm=0.35, much=0.5,
      variance=0.04, again=0.4)
def overtraining(record: Record, limits: Any) -> Finding | None:
    """The run went on after its best epoch, and what it gives back is worse."""
    found, count = turn(record), len(record.epochs)
    if found is None or record.run.early_stopping:  # the best epoch is given back there
        return None
    after = count - 1 - found.at
    # where validation was never better than guessing, nothing that holds for it was learned at any time
    long = after >= max(limits.share * count, limits.least) and found.best < 0.9 * (chance(record) or math.inf)
    costs = found.costs(limits)
    if not costs and (not long or found.rise < limits.rise or found.lost < limits.note):
        return None
    answers = f", and {found.worse:.1%} fewer answers are right" if found.worse and found.worse > 0.0 else ""
    return Finding(
        "overtraining" if long else "overfitting", "warning" if costs else "note", 0.85 if costs else 0.7,
        f"the validation loss was best in epoch {found.at + 1} of {count} ({found.best:.4g}); the {after} epochs after "
        f"it made it {found.rise:.0%} worse (limit {limits.rise:.0%}), by {found.lost:.0%} of guessing{answers}. "
        f"Stopping there would have given a better model.",
        {"best": found.best, "best_epoch": found.at, "after": after, "worse": found.rise, "lost": found.lost,
         "costs": costs, "limit": limits.rise},
        epoch=last_epoch(record), remedies=(early_stop(), *(() if long else (dropout(), decay(), _MORE))),
    )


@rule("regularization_missing", phase="end",
      why="training down to nothing, an open gap, and nothing that regularizes",
      causes=(*CAUSES, "overtraining"), fitted=0.05, gap=5.0, poor=0.35, accurate=0.92,
      epochs=5)
def regularization_missing(record: Record, limits: Any) -> Finding | None:
    """Nothing keeps the model from learning the rows by heart, and it did."""
    run = record.run
    if run.dropout or run.l1 or run.l2 or run.augmented or run.early_stopping:
        return None
    if run.optimizer_settings.get("weight_decay") or any("Norm" in layer.kind for layer in record.model.layers):
        return None
    train, val = finite(data_losses(record)), finite(record.logs("val_loss"))
    guess = chance(record)
    if len(val) < limits.epochs or not guess or len(train) < 2 or wild(record) or lopsided(record):
        return None
    now, held = fmean(train[-2:]), fmean(val[-2:])
    known = accuracy(record, "val_")
    if known and fmean(known[-2:]) >= limits.accurate:
        return None
    if now > limits.fitted * guess or held < limits.gap * now or held < limits.poor * guess:
        return None
    return Finding(
        "regularization_missing", "warning", 0.75,
        f"the training loss fell to {now:.3g} and the validation loss stays at {held:.3g}, "
        f"{held / max(now, 1e-12):.0f} times as much (limit {limits.gap:g}), and the model has no dropout, no "
        f"penalty, no weight decay.",
        {"train": now, "val": held, "limit": limits.gap}, epoch=last_epoch(record),
        remedies=(dropout(), decay(), early_stop()),
    )
