"""The likeliest cause of a run that ended far below what its data allow, where no rule has named one."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import batches, dropout, early_stop, faster, longer, slower, wider
from deepbabysit.babysit.rules.reach import NEAR, Reach, reach
from deepbabysit.babysit.rules.signals import data_losses, finite, finite_curve, last_epoch, usual_ratio
from deepbabysit.babysit.vitals import Record

LEARNED = 0.4  # share of the gap that must lie between training and validation rows to be called overfitting
CRAWLING, HASTY = 5e-4, 0.015  # updates against weights below which a run crawls, and above which it cannot settle
NOISE = 3.0  # the losses of the last quarter must be below those before by so many standard errors to be falling
PROGRESS = 0.03  # and by such a share
STEADY = 0.8  # or so many of the later epochs brought a lower loss
BRIEF, MISSED = 4, 0.05  # epochs of a run that was cut short where its score is so far below
HURRIED = 50  # steps with which hardly anything is learned
TINY, MANY, NOISY = 8, 400, 20.0  # rows of a batch, steps of a run, and how far the noise scale is above the batch
FROZEN = 0.5  # share of the numbers that must be trained
LOST = 0.12  # or its loss so far above, against guessing


def shortfall(record: Record) -> Finding | None:
    """Return the likeliest cause of a run's shortfall; None where it has none, or nothing is known of it."""
    stand = reach(record)
    if stand is None or not math.isfinite(stand.score) or stand.gap <= NEAR:
        return None  # what a run is unsure of although it is right is no shortfall
    brief = 0 < len(record.epochs) <= BRIEF and not record.run.early_stopping
    if not stand.short and not (brief and (stand.below(MISSED) or (stand.dear or 0.0) > LOST)):
        return None
    fallen, batch, noise = _fallen(record), record.run.batch_size or 0, _noise(record)
    if fallen is None and 0 < batch <= TINY and len(record.losses) > MANY and (noise or 0.0) > NOISY * batch:
        return _finding(
            record, stand, "batch_too_small", 0.65, f"{len(record.losses)} steps of {batch} rows, and the noise in a "
            f"gradient is that of a batch of {noise:.0f} (limit: {NOISY:g} times)", (batches(32), slower(record)),
        )
    train = stand.train if len(record.epochs) > BRIEF else None  # nobody learns by heart in a few passes
    if train is not None and train - stand.score > LEARNED * stand.gap and train > stand.best - 0.1:
        return _finding(
            record, stand, "overfitting", 0.65, "the training rows were learned and validation rows were not",
            (dropout(), early_stop()),
        )
    model = record.model
    if 0 < model.trainable < FROZEN * model.parameters:
        return _finding(
            record, stand, "unchanged_weights", 0.6, f"{model.trainable} of {model.parameters} numbers are trained "
            f"(limit {FROZEN:.0%}), the others are frozen", (),
        )
    ratio = usual_ratio(record.steps[-5:])
    if fallen is not None and ratio is not None and ratio < CRAWLING:
        return _finding(
            record, stand, "learning_rate_too_low", 0.75, f"a step changes the weights by {ratio:.2g} of their norm "
            f"(limit {CRAWLING:g}), and the loss was still falling", faster(record),
        )
    if fallen is not None or brief or len(record.losses) < HURRIED:
        count = len(record.epochs)
        seen = (
            f"the run was over after {len(record.losses)} steps, {count} epochs (limits {HURRIED} and {BRIEF})"
        ) if fallen is None else (
            f"the loss was still falling: by {fallen:.0%} in the last quarter of the steps (limit {PROGRESS:.0%})")
        return _finding(record, stand, "stopped_too_early", 0.85 if brief else 0.75, seen, (longer(4 * count),))
    if ratio is not None and ratio > HASTY:
        return _finding(
            record, stand, "learning_rate_too_high", 0.55, f"a step still changes the weights by {ratio:.2g} of their "
            f"norm (limit {HASTY:g})", (slower(record),),
        )
    return _finding(
        record, stand, "underfitting", 0.6, "the loss no longer falls and the training rows are as poor", (wider(),),
    )


def _noise(record: Record) -> float | None:
    """Return the usual noise scale of the gradient at the end of the run, in samples."""
    known = [s.noise for s in record.steps[-8:] if s.noise is not None and math.isfinite(s.noise)]
    return median(known) if len(known) > 2 else None


def _fallen(record: Record) -> float | None:
    """Return by what share the loss fell in the last quarter of the steps, where that is more than noise."""
    epochs = finite(data_losses(record))
    curve = finite_curve(record)
    width = max(len(curve) // 4, 4)
    if len(curve) < 2 * width:
        return None
    before, late = curve[-2 * width : -width], curve[-width:]
    fallen = float(before.mean() - late.mean())
    error = math.sqrt((float(before.var()) + float(late.var())) / width)
    held = finite(record.logs("val_loss"))
    if held and len(held) > 4 and held[-1] > 1.1 * min(held):
        return None
    if len(epochs) > 4 and fmean(epochs[-2:]) >= fmean(epochs[-4:-2]):
        return None
    share = fallen / max(float(before.mean()), 1e-300)
    later = epochs[len(epochs) // 2 :]
    steps = [b < a for a, b in zip(later, later[1:], strict=False)]
    steady = len(steps) >= 4 and sum(steps) >= STEADY * len(steps) and share > 0.0
    return share if steady or (fallen > NOISE * error and share > PROGRESS) else None


def _finding(
    record: Record, stand: Reach, code: str, confidence: float, seen: str, remedies: tuple[Remedy, ...]
) -> Finding:
    evidence: dict[str, Any] = {"score": stand.score, "reach": stand.best, "errors": stand.errors}
    return Finding(
        code, "warning", confidence, f"{stand.words()}: {stand.errors:.0f} standard errors more. The likeliest cause: "
        f"{seen}.", evidence, epoch=last_epoch(record), remedies=remedies,
    )
