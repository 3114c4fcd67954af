"""What several rules look at: levels of a curve, ratios of norms, how far a run has come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from deepbabysit.babysit.vitals import ParameterVitals, Record, RunFacts, StepVitals

_FEW = 64  # numbers that plain Python is quicker with

TRAINED = 0.7  # a first loss below this share of guessing: no fresh weights give that
STEADY = 8  # epochs from which on the better of the last two counts
UNEVEN = 10.0  # a class that counts so many times as much as another
WORST = 20.0  # cross-entropy of an answer that is as wrong as rounding allows


def finite(values: Sequence[float]) -> list[float]:
    """Return the values that are finite."""
    if math.isfinite(sum(values)):  # one that is not finite would show
        return list(values)
    return [v for v in values if math.isfinite(v)]


def finite_curve(record: Record) -> np.ndarray:
    """Return the finite losses of all steps."""
    return finite_part(record.curve())


def finite_part(curve: np.ndarray) -> np.ndarray:
    """Return the finite numbers of a curve."""
    fine = np.isfinite(curve)
    return curve if fine.all() else curve[fine]


def first_level(curve: np.ndarray, batch: int | None = None) -> float | None:
    """Return the level at the start: the mean of the first losses, or the first where it ran away at once.

    Of small batches more losses are taken, some hundred rows.
    """
    start = finite(curve[: min(max(3, 100 // (batch or 32)), max(3, len(curve) // 10))].tolist())
    if not start:
        return None
    level = sum(start) / len(start)
    return start[0] if level > 1.5 * abs(start[0]) else level


def last_level(curve: np.ndarray, count: int = 10) -> float | None:
    """Return the level at the end: the median of the last finite losses."""
    end = finite_part(curve[-count:])
    if len(end) > _FEW:
        return float(np.median(end))
    return median(end.tolist()) if len(end) else None


def kernels(step: StepVitals) -> list[ParameterVitals]:
    """Return the trained matrices and filters of a step, first layer first (vectors have other scales)."""
    return [p for p in step.parameters.values() if p.trainable and is_kernel(p.path)]


def is_kernel(path: str) -> bool:
    """Tell whether a parameter multiplies (and is no bias, no factor of a normalization)."""
    return path.rsplit(".", 1)[-1] in ("kernel", "recurrent_kernel", "embeddings", "weight")


def layer_of(path: str) -> str:
    """Return the path of the layer that a parameter belongs to."""
    return path.rpartition(".")[0] or path


def update_ratios(step: StepVitals) -> dict[str, float]:
    """Return norm of update / norm of weight for each kernel."""
    return {
        p.path: p.update / p.weight.norm for p in kernels(step) if p.update is not None and p.weight.norm > 0.0
    }


def usual_ratio(steps: Sequence[StepVitals]) -> float | None:
    """Return the median update ratio over kernels and steps, or None."""
    values = [r for step in steps for r in update_ratios(step).values() if math.isfinite(r)]
    return median(values) if values else None


def own_ratio(step: StepVitals) -> float | None:
    """Return the median update ratio over the kernels of one step, or None."""
    return usual_ratio((step,))


def gradient_rms(p: ParameterVitals) -> float | None:
    """Return the root mean square of a parameter's gradient."""
    return None if p.gradient is None else p.gradient.norm / math.sqrt(max(p.gradient.count, 1))


def clipped(run: RunFacts) -> bool:
    """Tell whether gradients are clipped."""
    return any(run.optimizer_settings.get(name) is not None for name in ("clip_norm", "clip_value"))


def steady_rate(run: RunFacts) -> bool:
    """Tell whether the rate is constant (or only decays by itself on a plateau)."""
    return run.schedule in ("constant", "plateau")


def warming(record: Record) -> bool:
    """Tell whether the rate has been far below its highest for most of the run so far: warm-up."""
    rates = [(s.step, s.rate) for s in record.steps if s.rate is not None]
    if not rates or record.run.schedule == "constant":
        return False
    top = max([r for _, r in rates] + [record.run.rate or 0.0])
    if rates[-1][1] < 0.2 * top:
        return True
    warm = next((number for number, rate in rates if rate >= 0.5 * top), None)
    return warm is not None and rates[0][1] < 0.5 * top and len(record.losses) < 2 * warm + 50


def last_epoch(record: Record) -> int | None:
    """Return the number of the last epoch, or None before its end."""
    return record.epochs[-1].epoch if record.epochs else None


def done(record: Record) -> float:
    """Return the share of the planned epochs that is done (1 where no plan is known, or the run stopped early)."""
    planned = record.run.epochs
    return len(record.epochs) / planned if planned and "early" not in record.stopped else 1.0


def good_from_the_start(record: Record) -> bool:
    """Tell whether the run began far better than guessing: fine-tuning."""
    start = first_level(record.curve(), record.run.batch_size)
    known = record.run.chance
    return start is not None and known is not None and start < TRAINED * known


def data_losses(record: Record, name: str = "loss") -> list[float]:
    """Return the losses of the epochs without penalties."""
    bare = record.logs("data_loss")
    return bare if name == "loss" and bare else record.logs(name)


def chance(record: Record) -> float | None:
    """Return the loss of guessing: from the task, or the level at which the run began (regression)."""
    if record.run.chance is not None and record.run.chance > 0.0:
        return record.run.chance
    return first_level(record.curve(), record.run.batch_size)


def classified(record: Record) -> bool:
    """Tell whether the loss is a cross-entropy whose value for guessing is known."""
    return record.run.chance is not None and "cross" in (record.run.loss or "")


def promised(record: Record) -> float | None:
    """Return by how much of guessing the loss would fall if the run went on for as long again.

    Losses fall as powers of the time, about: by the same factor in the second half of a run and in as many epochs
    after it. Of training and validation losses the smaller promise is taken; None where there is nothing to compare.
    """
    curves = [finite(data_losses(record)), finite(record.logs("val_loss"))]
    guess, count = chance(record), len(curves[0])
    if count < 2 or not guess:
        return None
    gains = []
    for curve in (c for c in curves if len(c) == count):
        now = min(curve[-2:]) if count >= STEADY else curve[-1]
        half = float(np.interp(max(count / 2.0, 1.0), range(1, count + 1), curve))
        gains.append(now * (1.0 - now / half) if half > now > 0.0 else 0.0)
    return min(gains) / guess


def lopsided(record: Record) -> bool:
    """Tell whether weights make one class count far more than another, so that training figures are those of it."""
    pulls = getattr(record.data, "pulls", None) or {}
    return len(pulls) > 1 and max(pulls.values()) > UNEVEN * min(pulls.values())


def lagging(record: Record) -> bool:
    """Tell whether running statistics of a batch normalization still hold much of their start."""
    steps = len(record.losses)
    norms = [layer for layer in record.model.layers if layer.kind.startswith("BatchNorm")]
    return any(float(layer.settings.get("momentum", 0.99)) ** steps > 0.05 for layer in norms)


def accuracy(record: Record, prefix: str = "") -> list[float]:
    """Return the accuracies of the epochs, where one is reported."""
    for name in ("accuracy", "acc", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"):
        found = record.logs(prefix + name)
        if found:
            return found
    return []


def knows_classes(record: Record, prefix: str = "val_", more: float = 0.15) -> bool:
    """Tell whether far more rows are right at the end than are of the most frequent class."""
    found = accuracy(record, prefix)
    counts = getattr(getattr(record.data, "labels", None), "counts", None) or {}
    most = max(counts.values()) / max(sum(counts.values()), 1) if counts else 1.0 / (record.run.classes or 2)
    return bool(found) and found[-1] > most + more


def wild(record: Record) -> bool:
    """Tell whether a few validation rows have losses that no wrong answer has: their inputs lie far from all others."""
    right, losses = accuracy(record, "val_"), record.logs("val_loss")
    if not right or not losses or not classified(record) or not math.isfinite(losses[-1]):
        return False
    return losses[-1] > WORST * (1.0 - right[-1]) + (record.run.chance or 0.0)
