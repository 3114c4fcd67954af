"""Rules about numbers that are not finite, and about losses that grow or jump."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import cooler
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import first_level, last_level
from deepbabysit.babysit.vitals import Record

_ROOTS = (
    "nan_in_data", "learning_rate_too_high", "exploding_gradient", "bad_init_scale", "input_not_normalized",
    "target_not_normalized", "weights_diverging", "missing_output_activation", "wrong_loss_for_output",
    "target_out_of_range", "bad_bias_init", "double_softmax", "missing_zero_grad", "loss_reduction_sum",
)


@rule("nan_loss", phase="step", why="a loss that is not finite trains nothing: every later number is lost",
      causes=("nan_in_layer", "loss_diverging", *_ROOTS))
def nan_loss(record: Record, limits: Any) -> Finding | None:
    """The loss is NaN or infinite."""
    curve = record.curve()
    fine = np.isfinite(curve)
    if fine.all():
        return None
    step = int(np.argmin(fine))
    loss, before = float(curve[step]), curve[:step][-1:].tolist()
    broken = record.probes.get("broken", {})
    last = f"; the last finite loss was {before[0]:.4g}" if before else ""
    return Finding(
        "nan_loss", "error", 1.0,
        f"the loss is {loss} at step {step + 1}{last}. From here on nothing is learned: every weight that this step "
        f"changed is lost. Start again from earlier weights after removing the cause.",
        {"loss": str(loss), "step": step, "last_finite": before[0] if before else None},
        step=step, epoch=broken.get("epoch"),
        remedies=(*cooler(record), Remedy("look for log, division or root of 0 in functions of your own")),
    )


@rule("nan_in_layer", phase="step", why="the first operation whose output is not finite, found by running it again",
      causes=_ROOTS)
def nan_in_layer(record: Record, limits: Any) -> Finding | None:
    """The first layer and operation with a number that is not finite."""
    origin = record.probes.get("origin")
    if not origin:
        return None
    where = origin["layer"] or "the model"
    what = f"{origin['nan']} NaN and {origin['infinite']} infinite numbers"
    rows = origin["rows"]
    if origin["pass"] == "weights":
        text = (
            f"the weights {where} held {what} before step {origin['step'] + 1}: the update of an earlier step put them "
            f"there while its loss was still finite."
        )
        head = where.rpartition(".")[0] or where
    else:
        way = "computing the outputs" if origin["pass"] == "forward" else "computing the gradients"
        text = f"while {way}, {origin['operation']} in layer {where} gave {what} first, in step {origin['step'] + 1}."
        head = where
        if origin["largest"] > 1e4:
            text += f" Its inputs were as large as {origin['largest']:.3g}, so it overflowed."
        else:
            text += f" Its inputs were at most {origin['largest']:.3g} in size, so the operation itself is at fault."
        if rows:
            text += f" Rows concerned: {', '.join(map(str, rows[:8]))}{', ...' if len(rows) > 8 else ''}."
    local = origin["largest"] <= 1e4 and origin["pass"] != "weights"
    own = Remedy(
        f"guard {origin['operation']} in {where}: keep its argument away from 0 (add 1e-7, or use db.ops.where)"
    )
    return Finding(
        "nan_in_layer", "error", 1.0, text, {**origin, "unexplained": local}, layer=head, step=origin["step"],
        epoch=origin["epoch"], remedies=(own, *cooler(record)) if local else (*cooler(record), own),
    )


@rule("loss_diverging", phase="step",
      why="times 2 its minimum over 5 checks is AUTOTRAINER's limit; 4 times the best ends a rate sweep (fastai). Both "
          "alarm on noise, so the level must also lie above the start",
      causes=_ROOTS, growth=4.0, above=1.5, least=10, rows=320)
def loss_diverging(record: Record, limits: Any) -> Finding | None:
    """The level of the loss has grown far above its best and above its start."""
    curve = record.curve()
    good = curve[np.isfinite(curve)]
    if len(good) < 4:
        return None
    ended = len(good) < len(curve)
    # of small batches more losses make a level
    wide = 1 if ended else max(1, int(limits.rows) // ((record.run.batch_size or 32) * 10))
    start, now = first_level(curve, record.run.batch_size), last_level(good, 10 * wide)
    if start is None or now is None or (len(good) < limits.least * wide and not ended):
        return None
    width = min(5 * wide, len(good))
    best = float(np.convolve(good, np.full(width, 1.0 / width), "valid").min())
    if not (now > limits.above * max(start, 1e-12) and now > limits.growth * best) or now <= 0:
        return None
    severe = now > limits.growth * start or ended
    step = len(good) - 1
    return Finding(
        "loss_diverging", "error" if severe else "warning", 0.95 if severe else 0.8,
        f"the loss grows: its level is {now:.4g}, {now / max(best, 1e-12):.1f} times its best ({best:.4g}, limit "
        f"{limits.growth:g}) and above its start ({start:.4g}). The steps overshoot, each lands farther from the goal.",
        {"level": now, "best": best, "start": start, "growth_limit": limits.growth}, step=step,
        remedies=cooler(record),
    )


@rule("loss_spike", phase="epoch", why="twice the running mean of 10 is usual noise of small batches; 10 times is not",
      causes=("learning_rate_too_high", "exploding_gradient", "batch_too_small"), ratio=10.0, window=20, least=60,
      batch=8)
def loss_spike(record: Record, limits: Any) -> Finding | None:
    """A single loss far above its neighbours, which then comes back."""
    curve = record.curve()
    if len(curve) < limits.least or not np.isfinite(curve).all() or (record.run.batch_size or 32) < limits.batch:
        return None
    window, start = int(limits.window), first_level(curve, record.run.batch_size) or 0.0
    inside = curve[window:-3]
    if not (inside > start).any():
        return None
    sums = np.cumsum(np.concatenate(([0.0], curve)))
    before = (sums[window:-4] - sums[: -4 - window]) / window  # mean of the losses before each of them
    ratios = np.where((inside > start) & (before > 0.0), inside / np.where(before > 0.0, before, 1.0), 0.0)
    highest, where, usual = 0.0, -1, 1.0
    for place in np.flatnonzero(ratios >= limits.ratio).tolist():
        i, mean = place + window, float(before[place])
        after = last_level(curve[i + 1 : i + 4], 3) or 0.0
        noisy = curve[i] < 3.0 * curve[i - window : i].max()  # small batches jump now and then, and mean nothing by it
        if ratios[place] > highest and 1.5 * mean < after < curve[i] / 2 and not noisy:
            highest, where, usual = float(ratios[place]), i, mean
    if where < 0:
        return None
    return Finding(
        "loss_spike", "warning", 0.7,
        f"the loss jumped to {curve[where]:.4g} at step {where + 1}, {highest:.1f} times the mean of the "
        f"{window} steps before ({usual:.4g}, limit {limits.ratio:g}) and above its start ({start:.4g}). One batch "
        f"threw the weights far off; clipping limits such a step.",
        {"loss": float(curve[where]), "ratio": highest, "mean": usual, "limit": limits.ratio}, step=where,
        remedies=cooler(record)[::-1],
    )
