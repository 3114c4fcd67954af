"""Rules about what a step does to the weights, and about the learning rate behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import cooler, decay, faster, short, slower, weaker_penalty
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import (
    chance,
    data_losses,
    done,
    finite,
    finite_curve,
    finite_part,
    first_level,
    good_from_the_start,
    kernels,
    last_level,
    layer_of,
    own_ratio,
    steady_rate,
    update_ratios,
    usual_ratio,
    warming,
)
from deepbabysit.babysit.vitals import LayerVitals, Record, StepVitals

_HOT = ("learning_rate_too_high",)
# what is wrong before the first step: rates look wrong for it
BUILT = (
    "input_not_normalized", "input_normalized_twice", "target_not_normalized", "bad_init_scale", "bad_bias_init",
    "symmetric_init", "missing_output_activation", "target_out_of_range", "wrong_loss_for_output", "double_softmax",
    "regularization_too_strong", "dropout_too_high", "batchnorm_misuse", "nan_in_data", "unstable_activation_scale",
    "missing_hidden_activation", "loss_reduction_sum", "missing_zero_grad", "wrong_gradient",
)


@rule("update_too_large", phase="step",
      why="1e-3 of the weights per step is usual (Karpathy, CS231n); more than a tenth, again and again, wipes out "
          "what "
          "was learned",
      causes=("learning_rate_too_high", "exploding_gradient", "regularization_too_strong", "bad_init_scale",
              "loss_reduction_sum", "missing_zero_grad"),
      ratio=0.1, after=8, times=3)
def update_too_large(record: Record, limits: Any) -> Finding | None:
    """Updates are a large part of the weights, step after step."""
    recent = [s for s in record.steps if s.step >= limits.after][-int(limits.times) :]
    ratio = usual_ratio(recent)
    if len(recent) < limits.times or ratio is None or ratio <= limits.ratio:
        return None
    worst = max((item for s in recent for item in update_ratios(s).items()), key=lambda item: item[1])
    return Finding(
        "update_too_large", "warning", 0.8,
        f"a step changes the weights by {ratio:.2g} of their own norm (median over layers and the last {len(recent)} "
        f"measured steps; usual 0.001, limit {limits.ratio:g}), most in {worst[0]} ({worst[1]:.2g}).",
        {"ratio": ratio, "limit": limits.ratio, "worst": worst[1]}, layer=layer_of(worst[0]), step=recent[-1].step,
        epoch=recent[-1].epoch, remedies=cooler(record),
    )


@rule("update_too_small", phase="epoch",
      why="less than 1e-5 of the weights per step (Karpathy: 1e-3 is usual); a finished or fine-tuned model moves "
          "little, "
          "too, so the loss must also stand still near its start",
      causes=("learning_rate_too_low", "vanishing_gradient", "dead_relu", "not_learning"), ratio=1e-5, gain=0.02,
      least=50)
def update_too_small(record: Record, limits: Any) -> Finding | None:
    """Updates are too small to change anything, and the loss has not moved."""
    recent = record.steps[-5:]
    ratio = usual_ratio(recent)
    if ratio is None or ratio >= limits.ratio or len(record.losses) < limits.least or warming(record):
        return None
    gain = _gain(record)
    if gain is None or gain > limits.gain or good_from_the_start(record):
        return None
    return Finding(
        "update_too_small", "warning", 0.85,
        f"a step changes the weights by {ratio:.2g} of their own norm (median; usual 0.001, limit {limits.ratio:g}), "
        f"and the loss has fallen by {gain:.1%} since the start.",
        {"ratio": ratio, "limit": limits.ratio, "gain": gain}, step=recent[-1].step, epoch=recent[-1].epoch,
        remedies=faster(record),
    )


def _gain(record: Record) -> float | None:
    """Return by what share the loss has fallen since the start."""
    curve = record.curve()
    width = max(min(len(curve) // 5, record.run.steps or 50), 3)
    ends = [finite_part(end) for end in (curve[:width], curve[-width:])]
    start, now = (float(end.mean()) if len(end) else math.nan for end in ends)
    return (start - now) / start if start > 0.0 and not math.isnan(now) else None


@rule("learning_rate_too_high", phase="step",
      why="the cause behind divergence: the loss left its start upwards (or became NaN) while steps were a large part "
          "of the weights; consecutive gradients that point against each other mean jumping from wall to wall; "
          "units that were open at first and are closed for every row after such steps were thrown there",
      causes=(*BUILT, "corrupted_labels", "conflicting_labels"),
      ratio=0.03, first=0.3, turn=-0.3,
      usual=0.01, growth=3.0, peak=2.0,
      opening=0.1, settled=50, left=0.5,
      closed=0.5, rows=192, learned=0.2, looks=3)
def learning_rate_too_high(record: Record, limits: Any) -> Finding | None:
    """Steps overshoot: seen in growth, in jumping gradients, or in units killed by the first steps."""
    curve = record.curve()
    good = finite_part(curve)
    if not len(good) or not record.steps or (len(good) < 3 and len(good) == len(curve)):
        return None
    start, now = first_level(curve, record.run.batch_size), last_level(good, 10)
    if start is None or now is None:
        return None
    broken = len(good) < len(curve)
    ratios = record.each(own_ratio)
    largest = max((r for r in ratios if r is not None and math.isfinite(r)), default=0.0)
    evidence: dict[str, Any] = {"rate": record.run.rate, "largest_ratio": largest, "start": start, "level": now}
    last = record.steps[-1]
    place = record.probes.get("broken", {})
    growth = place.get("growth") or 1.0
    if broken and growth > limits.growth and largest <= limits.ratio and not _by_operation(record):
        return _too_high(
            record, "error", 0.8,
            f"the loss became NaN or infinite after the weights grew {growth:.3g} times longer since step "
            f"{last.step + 1} (limit {limits.growth:g})",
            {**evidence, "growth": growth, "limit": limits.growth}, place["step"], place["epoch"],
        )
    if (broken or now > 1.5 * start) and largest > limits.ratio and not _by_operation(record):
        what = "became NaN or infinite" if broken else f"grew from {start:.3g} to {now:.3g}"
        return _too_high(
            record, "error" if broken or now > 4.0 * start else "warning", 0.9,
            f"the loss {what} after steps as large as {largest:.2g} of the weights (usual 0.001, limit "
            f"{limits.ratio:g})",
            {**evidence, "limit": limits.ratio}, last.step, last.epoch,
        )
    born = record.probes.get("signals") or {}
    dead = [path for path, v in last.layers.items() if v.units and v.units.saturated is None
            and v.units.dead > 0.9 * v.units.units and v.units.rows >= 64
            and not (path in born and born[path].zero > 0.9)]  # those were so before any step
    early = max((r for r in ratios[:6] if r is not None), default=0.0)
    peak = _peak(good) if dead else 0.0
    if dead and (early > limits.first or peak > limits.peak * start) and now > 0.7 * start:
        return _too_high(
            record, "error", 0.85,
            f"the first steps changed the weights by up to {early:.2g} of their norm (usual 0.001, limit "
            f"{limits.first:g}), the loss rose to {peak:.3g} (limit {limits.peak:g} times its start, {start:.3g}) and "
            f"the units of {', '.join(dead)} are dead; the loss stays at {now:.3g}",
            {**evidence, "early_ratio": early, "limit": limits.first, "peak": peak, "peak_limit": limits.peak},
            last.step, last.epoch,
        )
    guess = chance(record) or start
    names, when = _killed(record, limits) if now > limits.learned * guess else ([], 0)
    past = [r for s in record.steps if s.step <= when for r in update_ratios(s).values()] if names else []
    fastest = max(past, default=0.0)
    if names and (fastest > limits.ratio or _peak(good) > limits.peak * max(start, guess)):
        return _too_high(
            record, "warning", 0.88,
            f"{', '.join(names)} worked before the first step, and since step {when + 1} most of the units are closed "
            f"for every row, or no gradient comes back; until then steps changed a kernel by up to {fastest:.2g} of "
            f"its norm (usual 0.001, limit {limits.ratio:g}), and the loss stands at {now:.3g} (guessing: {guess:.3g})",
            {**evidence, "fastest": fastest, "limit": limits.ratio, "layers": names}, last.step, last.epoch,
        )
    turns = [s.turn for s in record.steps[-6:] if s.turn is not None]
    ratio = usual_ratio(record.steps[-4:]) or 0.0
    if len(turns) >= 4 and median(turns) < limits.turn and ratio > limits.usual and now > 0.3 * start:
        return _too_high(
            record, "warning", 0.85,
            f"consecutive gradients point against each other (median cosine {median(turns):.2f}, limit "
            f"{limits.turn:g}): the steps jump from wall to wall",
            {**evidence, "turn": median(turns), "limit": limits.turn}, last.step, last.epoch,
        )
    opening = [r for s, r in zip(record.steps[:3], ratios, strict=False) if s.step <= 2 and r is not None]
    held_up = len(good) >= limits.settled and now > limits.left * start  # small networks may take such steps and learn
    if len(opening) == 3 and min(opening) > limits.opening and held_up and not _by_operation(record):
        return _too_high(
            record, "warning", min(0.8 + 0.15 * math.log10(min(opening) / limits.opening), 0.95),
            f"each of the first three steps changed the weights by {min(opening):.2g} of their norm or more (usual "
            f"0.001, limit {limits.opening:g}), so what the initial weights held was gone at once, and after "
            f"{len(good)} steps the loss stands at {now:.3g}, over {limits.left:.0%} of its start, {start:.3g}",
            {**evidence, "opening": min(opening), "limit": limits.opening, "left": limits.left}, last.step, last.epoch,
        )
    return None


def _peak(curve: np.ndarray) -> float:
    """Return the highest mean of ten losses in a row."""
    width = min(10, len(curve))
    return float(np.convolve(curve, np.full(width, 1.0 / width), "valid").max())


def _killed(record: Record, limits: Any) -> tuple[list[str], int]:
    """Return layers that lost most of their units, or all of their gradient, in training, and when it was over."""
    born, first = record.probes.get("signals") or {}, record.steps[0]
    names, over = [], 0
    for path, layer in record.steps[-1].layers.items():
        if not _shut(layer, limits.closed, limits.rows) or path not in born or path not in first.layers:
            continue
        if born[path].zero <= 0.5 * limits.closed and not _shut(first.layers[path], 0.5 * limits.closed, 0):
            names.append(path)
            over = max(over, next(
                s.step for s in record.steps if path in s.layers and _shut(s.layers[path], limits.closed, limits.rows)))
    if names or len(record.steps) < 2 * limits.looks:
        return names, over
    recent = [s.parameters for s in record.steps[-int(limits.looks) :]]
    for p in kernels(record.steps[-1]):
        seen = [part[p.path].gradient for part in (first.parameters, *recent) if p.path in part]
        if len(seen) <= limits.looks or seen[0] is None or not seen[0].norm > 0.0:
            continue
        if all(g is not None and g.norm == 0.0 for g in seen[1:]):
            names.append(layer_of(p.path))
            over = max(over, next(s.step for s in record.steps if _still(s, p.path)))
    return names, over


def _shut(layer: LayerVitals, share: float, rows: float) -> bool:
    """Tell whether more than a share of a layer is closed for each of so many rows, or on the flat part of its bend."""
    units = layer.units
    if units is None or units.units < 2:
        return False
    if units.saturated is not None:
        return units.saturated > share
    return units.dead > share * units.units and units.rows >= rows


def _still(step: StepVitals, path: str) -> bool:
    """Tell whether the gradient of a kernel was exactly 0 in a step."""
    found = step.parameters.get(path)
    return found is not None and found.gradient is not None and found.gradient.norm == 0.0


def _by_operation(record: Record) -> bool:
    """Tell whether a number that is not finite came from an operation on harmless inputs (log or root of 0)."""
    origin = record.probes.get("origin")
    return origin is not None and origin["pass"] != "weights" and origin["largest"] <= 1e4


def _too_high(
    record: Record, severity: Any, confidence: float, seen: str, evidence: dict[str, Any], step: int | None,
    epoch: int | None,
) -> Finding:
    rate = record.run.rate
    what = f"the learning rate {rate:.3g} of {record.run.optimizer}" if rate else "the learning rate"
    aim = f"{short(rate / 10.0):g}" if rate else "a tenth of it"
    return Finding(
        "learning_rate_too_high", severity, confidence,
        f"{what} is too high: {seen}. Every step overshoots, so the loss cannot settle. Try {aim}.",
        evidence, step=step, epoch=epoch, remedies=cooler(record),
    )


@rule("learning_rate_too_high", phase="epoch",
      why="a run that stands far above what it could reach while each step still changes over 2 % of the weights is "
          "held up by its own steps (usual 0.1 %; small networks with Adam 1e-3 reach 0.6 %); before half of the run "
          "is over every run moves fast, and a loss that fell in each of the last `down` epochs, on both parts, has "
          "not stopped",
      causes=BUILT, late=0.5, ratio=0.015, poor=0.08, epochs=3,
      progress=0.1, most=0.25, down=4)
def restless(record: Record, limits: Any) -> Finding | None:
    """The loss has stopped falling, not at the bottom, while the weights still move fast."""
    losses = finite(data_losses(record))
    guess = chance(record)
    if done(record) < limits.late or len(losses) < limits.epochs or not guess:
        return None
    if not steady_rate(record.run) or good_from_the_start(record):
        return None
    recent = [s for s in record.steps if s.epoch >= record.epochs[-1].epoch - 2][-8:]
    samples = recent or [s for s in record.steps[-4:] if 2 * s.epoch >= record.epochs[-1].epoch]
    ratio = usual_ratio(samples)
    if ratio is None or ratio < limits.ratio:
        return None
    level, before = losses[-1], losses[-3]
    gain = (before - level) / max(before, 1e-12)
    held = finite(record.logs("val_loss"))
    if held and record.run.dropout:
        level = min(level, held[-1])  # what dropout adds to the training loss is no fault of the rate
    # the faster the weights move, the more progress is only what slower steps would have had long ago
    allowed = min(limits.progress * math.sqrt(ratio / limits.ratio), limits.most)
    if gain > allowed or level < limits.poor * guess or _descends(losses, held, int(limits.down)):
        return None
    strength = min(math.log10(ratio / limits.ratio) / 1.5, 1.0)
    confidence = 0.66 + 0.3 * strength
    last = samples[-1]
    return _too_high(
        record, "warning", confidence,
        f"each step still changes the weights by {ratio:.2g} of their norm (usual 0.001, limit {limits.ratio:g}), "
        f"while "
        f"the loss stands at {level:.3g} (guessing: {guess:.3g}) and fell only {gain:.1%} in the last 2 epochs",
        {"rate": record.run.rate, "ratio": ratio, "limit": limits.ratio, "level": level, "chance": guess, "gain": gain},
        last.step, last.epoch,
    )


def _descends(losses: Sequence[float], held: Sequence[float], epochs: int) -> bool:
    """Tell whether the loss fell in each of the last epochs (of all, where there are fewer), on both parts."""
    ends = [part[-epochs - 1 :] for part in (losses, held)]
    return all(len(end) > 2 and all(b < a for a, b in zip(end, end[1:], strict=False)) for end in ends)


@rule("learning_rate_too_low", phase="epoch",
      why="the loss falls steadily but crawls, with steps far below the usual 1e-3 of the weights; warm-up and "
          "fine-tuning do the same for good reasons and are left out",
      causes=("vanishing_gradient", "dead_relu", "saturated_activation", *BUILT), ratio=3e-4, left=0.7,
      steps=100, share=0.15)
def learning_rate_too_low(record: Record, limits: Any) -> Finding | None:
    """Small steps, little progress, and the loss still near its start."""
    curve = finite_curve(record)
    planned = (record.run.steps or 0) * (record.run.epochs or 0)
    if len(curve) < max(limits.steps, limits.share * planned) or warming(record) or good_from_the_start(record):
        return None
    ratio = usual_ratio(record.steps[-5:])
    gain = _gain(record)
    if ratio is None or gain is None or ratio >= limits.ratio or gain > 1.0 - limits.left:
        return None
    if gain < 0.0 or (record.run.schedule != "constant" and not steady_rate(record.run)):
        return None
    if record.probes.get("put_back"):
        return None  # no rate would change weights that are put back
    rate = record.run.rate
    last = record.steps[-1]
    aim = min(max(10.0 ** round(math.log10(1e-3 / max(ratio, 1e-9))), 10.0), 1000.0)
    return Finding(
        "learning_rate_too_low", "warning", 0.6 + 0.3 * min(math.log10(limits.ratio / max(ratio, 1e-12)) / 2.0, 1.0),
        f"the learning rate {rate or 0:.3g} is too low: a step changes the weights by {ratio:.2g} of their norm (usual "
        f"0.001, limit {limits.ratio:g}), and after {len(curve)} steps the loss has fallen by only {gain:.1%}.",
        {"rate": rate, "ratio": ratio, "limit": limits.ratio, "gain": gain}, step=last.step, epoch=last.epoch,
        remedies=faster(record, aim),
    )


@rule("unchanged_weights", phase="step",
      why="bit for bit the same in 3 measured steps (DeepDiagnosis: equality over 3 checks) although they are to be "
          "trained; where a schedule has left less than `gone` of its rate, that is what is wrong, and where the loss "
          "is below `learned` of guessing, nothing is",
      causes=("dead_relu", "dead_weights", "saturated_activation", "vanishing_gradient", "learning_rate_too_low",
              "output_ignores_input", "nan_loss"),
      times=3, gone=1e-3, learned=1e-4)
def unchanged_weights(record: Record, limits: Any) -> list[Finding]:
    """A tensor that is to be trained never changes."""
    recent = record.steps[-int(limits.times) :]
    least = limits.gone * (record.run.rate or 0.0)
    if len(recent) < limits.times or any((s.rate or 0.0) <= least for s in recent):
        return []
    level, guess = last_level(record.curve()), chance(record)
    if level is not None and guess and level < limits.learned * guess:
        return []  # nothing is left to be learned
    found = []
    for path, p in recent[-1].parameters.items():
        seen = [s.parameters[path] for s in recent if path in s.parameters]
        if len(seen) < len(recent) or not p.trainable or any(v.update != 0.0 for v in seen):
            continue
        gradient = None if p.gradient is None else p.gradient.norm
        remedies: tuple[Remedy, ...]
        if gradient is None:
            why = "no gradient reaches it: nothing in the loss depends on it"
            remedies = (Remedy("see that the output is computed from this layer"),)
        elif gradient == 0.0:
            why = "its gradient is 0"
            remedies = (Remedy("look for dead units or a constant input in front of it"),)
        else:
            why = f"its gradient has the norm {gradient:.2g}, and the update is lost in rounding"
            remedies = faster(record)
        found.append(
            Finding(
                "unchanged_weights", "warning", 0.9 if gradient is not None else 0.95,
                f"{path} is to be trained, but did not change in the last {len(recent)} measured steps (steps "
                f"{', '.join(str(s.step + 1) for s in recent)}): {why}.",
                {"gradient": gradient, "measured": len(recent), "reached": gradient is not None},
                layer=layer_of(path), step=recent[-1].step, epoch=recent[-1].epoch, remedies=remedies,
            )
        )
    return found


@rule("weights_diverging", phase="epoch",
      why=">= 2 times over 5 checks (AUTOTRAINER); small starts grow quickly and rightly, so the whole growth must be "
          "large as well, and the loss not better for it",
      causes=("learning_rate_too_high", "exploding_gradient", "batch_too_small"), growth=2.0, whole=10.0, times=5)
def weights_diverging(record: Record, limits: Any) -> Finding | None:
    """The norm of a kernel grows without end."""
    if len(record.steps) < limits.times + 1:
        return None
    first, last = record.steps[0], record.steps[-1]
    middle = record.steps[len(record.steps) // 2]
    for p in kernels(last):
        if p.path not in first.parameters or p.path not in middle.parameters:
            continue
        start, half, now = (s.parameters[p.path].weight.norm for s in (first, middle, last))
        if start <= 0 or not math.isfinite(now) or now < limits.whole * start or now < limits.growth * half:
            continue
        losses = finite(data_losses(record))
        if len(losses) > 1 and losses[-1] < 0.5 * losses[0]:
            continue
        return Finding(
            "weights_diverging", "warning", 0.8,
            f"the norm of {p.path} grew from {start:.3g} to {now:.3g}, {now / start:.0f} times (limit "
            f"{limits.whole:g}), the last {now / half:.1f} times of it in the second half; the loss is no better for "
            f"it.",
            {"start": start, "norm": now, "limit": limits.whole}, layer=layer_of(p.path), step=last.step,
            epoch=last.epoch,
            remedies=(slower(record), decay()),
        )
    return None


@rule("dead_weights", phase="epoch",
      why="< 1e-5 in > 95 % of the weights of a layer (DeepDiagnosis); with Adam they hover around 0 instead, so a "
          "deviation under 5 % of its start counts, too",
      causes=("regularization_too_strong", "learning_rate_too_high"), share=0.95, left=0.05)
def dead_weights(record: Record, limits: Any) -> list[Finding]:
    """Nearly all weights of a kernel are 0."""
    if len(record.steps) < 2:
        return []
    first, last = record.steps[0], record.steps[-1]
    found = []
    for p in kernels(last):
        start = first.parameters.get(p.path)
        if start is None or start.weight.std <= 0 or start.weight.norm == 0 or p.weight.nonfinite:
            continue
        zeros, left = p.weight.zeros / max(p.weight.count, 1), p.weight.std / start.weight.std
        if zeros <= limits.share and left >= limits.left:
            continue
        found.append(
            Finding(
                "dead_weights", "warning", 0.85,
                f"the weights {p.path} are nearly gone: their deviation is {left:.2%} of what it was at the start "
                f"(limit "
                f"{limits.left:.0%}), {zeros:.0%} of them are exactly 0.",
                {"left": left, "zeros": zeros, "limit": limits.left}, layer=layer_of(p.path), step=last.step,
                epoch=last.epoch, remedies=(
                    weaker_penalty("L1" if record.run.l1 >= record.run.l2 else "L2", max(record.run.l1, record.run.l2)),
                ) if record.run.l1 or record.run.l2 else (slower(record),),
            )
        )
    return found
