"""The limits that other tools publish, applied to the same records: what they would say, and when.

Not the tools themselves: their limits, as far as papers and manuals state them, on what our vitals hold. Each returns
code -> steps done when it speaks first. What a tool does not look at it cannot find; what it says is taken for the code
that means the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from deepbabysit.babysit.rules.signals import gradient_rms, kernels, update_ratios
from deepbabysit.babysit.vitals import Record, StepVitals

Said = dict[str, int]
BASELINES: dict[str, Callable[[Record], Said]] = {}


def _baseline(name: str) -> Callable[[Callable[[Record], Iterator[tuple[str, int]]]], Callable[[Record], Said]]:
    def register(judge: Callable[[Record], Iterator[tuple[str, int]]]) -> Callable[[Record], Said]:
        def say(record: Record) -> Said:
            said: Said = {}
            for code, step in judge(record):
                said[code] = min(step, said.get(code, step))
            return dict(sorted(said.items(), key=lambda item: item[1]))

        BASELINES[name] = say
        return say

    return register


def _bad(record: Record) -> Iterator[tuple[str, int]]:
    """Say where the loss is not finite."""
    curve = record.curve()
    fine = np.isfinite(curve)
    if not fine.all():
        yield "nan_loss", int(np.argmin(fine))


def _spread(step: StepVitals) -> tuple[float, float] | None:
    found = [g for p in kernels(step) if (g := gradient_rms(p)) is not None and math.isfinite(g)]
    return (found[0], found[-1]) if len(found) > 1 else None


def _dead(step: StepVitals, share: float) -> bool:
    return any(
        v.units is not None and v.units.saturated is None and v.units.dead > share * v.units.units
        for v in step.layers.values()
    )


def _saturated(step: StepVitals, share: float) -> bool:
    return any(v.units is not None and (v.units.saturated or 0.0) > share for v in list(step.layers.values())[:-1])


def _logs(record: Record, name: str) -> list[tuple[int, float]]:
    steps = record.run.steps or 1
    return [((e.epoch + 1) * steps, e.logs[name]) for e in record.epochs if name in e.logs]


def _scales(record: Record) -> bool:
    """Tell whether inputs lie outside of -1..1 by far (10 times)."""
    inputs = () if record.data is None else record.data.inputs
    return any(max(abs(facts.all_minimum), abs(facts.all_maximum)) > 10.0 for facts in inputs)


def _outputs(record: Record) -> Iterator[tuple[str, int]]:
    """Static checks: hidden layers without activation, outputs without one where the loss takes probabilities."""
    layers = [la for la in record.model.layers if la.kind in ("Dense", "Conv2D")]
    if any(la.activation in (None, "linear") for la in layers[:-1]):
        yield "missing_hidden_activation", 0
    loss = record.run.loss or ""
    if "crossentropy" in loss and "logits" not in loss and record.model.output_activation == "linear":
        yield "missing_output_activation", 0


@_baseline("UMLAUT")
def _umlaut(record: Record) -> Iterator[tuple[str, int]]:
    """Schoop et al., CHI 2021: heuristics over data, graph and curves."""
    yield from _outputs(record)
    if _scales(record):
        yield "input_not_normalized", 0
    rate = record.run.rate or 0.0
    if rate > 0.01:
        yield "learning_rate_too_high", 0
    elif rate < 1e-7:
        yield "learning_rate_too_low", 0
    if record.run.dropout > 0.5:
        yield "dropout_too_high", 0
    yield from _bad(record)
    for step in record.steps:
        spread = _spread(step)
        if spread is not None and spread[0] < 1e-4 and spread[0] / max(spread[1], 1e-30) < 1e-3:
            yield "vanishing_gradient", step.step
        if _dead(step, 0.5):
            yield "dead_relu", step.step
    train, held = dict(_logs(record, "loss")), _logs(record, "val_loss")
    for (_, before), (at, now) in zip(held, held[1:], strict=False):
        if now > before and train.get(at, math.inf) < now:
            yield "overfitting", at
            break
    for at, value in _logs(record, "val_accuracy"):
        if value > 0.95:
            yield "suspicious_validation", at
            break


@_baseline("DeepLocalize")
def _deeplocalize(record: Record) -> Iterator[tuple[str, int]]:
    """Wardat et al., ICSE 2021: non-finite numbers by layer, and a loss or accuracy that does not change."""
    yield from _bad(record)
    for step in record.steps:
        if any(v.output.nonfinite for v in step.layers.values()):
            yield "nan_in_layer", step.step
        if any(p.gradient is not None and p.gradient.count and p.gradient.norm == 0.0 for p in kernels(step)):
            yield "vanishing_gradient", step.step
    held = _logs(record, "loss")
    for (_, before), (_, middle), (at, now) in zip(held, held[1:], held[2:], strict=False):
        if now >= before and middle >= before:
            yield "not_learning", at
            break


@_baseline("AUTOTRAINER")
def _autotrainer(record: Record) -> Iterator[tuple[str, int]]:
    """Zhang et al., ICSE 2021: gradients first against last, dying ReLU, oscillation, slow convergence."""
    yield from _bad(record)
    for step in record.steps:
        spread = _spread(step)
        if spread is not None and spread[1] > 0.0:
            if spread[0] / spread[1] < 1e-3 and spread[0] < 1e-4:
                yield "vanishing_gradient", step.step
            if spread[0] / spread[1] > 70.0:
                yield "exploding_gradient", step.step
        if _dead(step, 0.7):
            yield "dead_relu", step.step
    logs = _logs(record, "accuracy") or _logs(record, "loss")
    values = [v for _, v in logs if math.isfinite(v)]
    turns = sum(
        abs(b - a) > 0.03 and abs(c - b) > 0.03 and (b - a) * (c - b) < 0
        for a, b, c in zip(values, values[1:], values[2:], strict=False)
    )
    if len(values) > 4 and turns >= 0.2 * len(values):
        yield "oscillating_loss", logs[-1][0]
    if _logs(record, "accuracy") and len(values) >= 3 and max(values) < 0.6:
        yield "learning_rate_too_low", logs[2][0]
    best = math.inf
    for at, value in _logs(record, "loss"):
        if value > 2.0 * best:
            yield "loss_diverging", at
        best = min(best, value)


@_baseline("DeepDiagnosis")
def _deepdiagnosis(record: Record) -> Iterator[tuple[str, int]]:
    """Wardat et al., ICSE 2022: saturation, dead nodes, unchanged and exploding tensors, a loss that stays."""
    yield from _bad(record)
    steps = record.steps
    for i, step in enumerate(steps):
        if _saturated(step, 0.5):
            yield "saturated_activation", step.step
        if _dead(step, 0.5):
            yield "dead_relu", step.step
        spread = _spread(step)
        if spread is not None and spread[0] < 1e-7:
            yield "vanishing_gradient", step.step
        if i >= 2:
            for p in kernels(step):
                seen = [s.parameters[p.path].update for s in steps[i - 2 : i + 1] if p.path in s.parameters]
                if len(seen) == 3 and all(v == 0.0 for v in seen):
                    yield "unchanged_weights", step.step
        for p in kernels(step):
            if p.weight.nonfinite:
                yield "exploding_gradient", step.step
            if p.weight.count and p.weight.largest < 1e-5:
                yield "dead_weights", step.step
    losses = [(at, v) for at, v in _logs(record, "loss") if math.isfinite(v)]
    for (_, a), (_, b), (at, c) in zip(losses, losses[1:], losses[2:], strict=False):
        if a - b < 1e-3 * abs(a) and b - c < 1e-3 * abs(b):
            yield "not_learning", at
            break
    if record.run.classes and record.model.output_activation in ("linear", "relu"):
        yield "wrong_loss_for_output", 0


@_baseline("TheDeepChecker")
def _thedeepchecker(record: Record) -> Iterator[tuple[str, int]]:
    """Ben Braiek and Khomh, 2023 (with NeuraLint's static rules): first weights, scales, updates, activations."""
    yield from _outputs(record)
    if _scales(record):
        yield "input_not_normalized", 0
    if record.steps:
        first = record.steps[0]
        for p in kernels(first):
            if p.weight.std < 1e-8:
                yield "symmetric_init", 0
        for la in record.model.layers:
            kernel = la.parameters.get("kernel")
            if kernel is None or not la.inputs or kernel.std <= 0:
                continue
            wanted = math.sqrt((2.0 if la.activation == "relu" else 1.0) / la.inputs)
            if not 0.5 < kernel.std / wanted < 2.0:
                yield "bad_init_scale", 0
        if any(not 0.5 < v.output.std < 2.0 for v in list(first.layers.values())[:-1]):
            yield "unstable_activation_scale", 0
    chance, curve = record.run.chance, record.curve()
    if chance and len(curve) and math.isfinite(curve[0]) and not 0.5 < curve[0] / chance < 2.0:
        yield "initial_loss_off_chance", 0
    yield from _bad(record)
    for step in record.steps[3:]:
        ratios = list(update_ratios(step).values())
        if ratios and max(ratios) > 1e-1:
            yield "update_too_large", step.step
        if ratios and max(ratios) < 1e-5:
            yield "update_too_small", step.step
        if _dead(step, 0.5):
            yield "dead_relu", step.step
        if _saturated(step, 0.5):
            yield "saturated_activation", step.step


@_baseline("SageMaker Debugger")
def _sagemaker(record: Record) -> Iterator[tuple[str, int]]:
    """The manual's defaults: gradients < 1e-7, tensors that explode, loss falling < 0.1 %, overfit ratio, imbalance."""
    yield from _bad(record)
    for step in record.steps:
        spread = _spread(step)
        if spread is not None and min(spread) < 1e-7:
            yield "vanishing_gradient", step.step
        if _dead(step, 0.5):
            yield "dead_relu", step.step
        if _saturated(step, 0.5):
            yield "saturated_activation", step.step
        if any(p.weight.std < 1e-8 for p in kernels(step)) and step.step == 0:
            yield "symmetric_init", 0
    curve = record.curve()
    for at in range(20, len(curve), 10):
        now, before = float(curve[at - 10 : at].mean()), float(curve[at - 20 : at - 10].mean())
        if math.isfinite(now) and now > before * (1.0 - 1e-3):
            yield "not_learning", at
            break
    held = dict(_logs(record, "val_loss"))
    for at, value in _logs(record, "loss"):
        if at in held and held[at] > 0 and (held[at] - value) / held[at] > 0.1:
            yield "overfitting", at
            break
    best, stay = math.inf, 0
    for at, value in held.items():
        stay = 0 if value < best else stay + 1
        best = min(best, value)
        if stay >= 5:
            yield "overtraining", at
            break
    ratio = _imbalance(record)
    if ratio is not None and ratio > 10.0:
        yield "class_imbalance", 0


def _imbalance(record: Record) -> float | None:
    labels = None if record.data is None else record.data.labels
    values = [n for n in labels.counts.values() if n] if labels is not None else []
    return max(values) / min(values) if len(values) > 1 else None
