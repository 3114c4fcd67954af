"""Cross-entropies from logits with their gradients, and the logarithm of a probability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit.kernels.losses import probability_limits
from deepbabysit.runtime.backend import Kernel


def _valid(labels: Any, classes: int, ignore_index: int | None) -> Any:
    """Return where a label counts; None where all of them do."""
    if not labels.size:
        return None
    lowest, highest = int(labels.min()), int(labels.max())
    fits = lowest >= 0 and highest < classes
    if fits and (ignore_index is None or not lowest <= ignore_index <= highest):
        return None
    valid = (labels >= 0) & (labels < classes)
    if ignore_index is not None:
        valid &= labels != ignore_index
    return valid


def _cross_entropy(
    ctx: Any, outs: Any, logits: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> None:
    losses, probabilities = outs
    classes = logits.shape[-1]
    valid = _valid(labels, classes, ignore_index)
    safe = (labels if valid is None else np.where(valid, labels, 0))[..., None].astype(np.intp, copy=False)
    np.subtract(logits, logits.max(axis=-1, keepdims=True), probabilities)
    picked = np.take_along_axis(probabilities, safe, axis=-1)[..., 0]
    mean: Any = probabilities.mean(axis=-1) if label_smoothing else None
    np.exp(probabilities, probabilities)
    total = probabilities.sum(axis=-1, keepdims=True)
    np.divide(probabilities, total, probabilities)
    np.log(total[..., 0], losses)
    if label_smoothing:
        losses -= (1.0 - label_smoothing) * picked
        losses -= label_smoothing * mean
    else:
        np.subtract(losses, picked, losses)
    if valid is not None:
        losses[~valid] = math.nan
        if ignore_index is not None:
            losses[labels == ignore_index] = 0.0


def _cross_entropy_gradient(
    ctx: Any, outs: Any, g: Any, probabilities: Any, labels: Any, *, label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> None:
    out = outs[0]
    classes = probabilities.shape[-1]
    valid = _valid(labels, classes, ignore_index)
    safe = labels if valid is None else np.where(valid, labels, 0)
    counted = (g if valid is None else np.where(valid, g, 0)).reshape(-1)
    np.copyto(out, probabilities)
    rows = out.reshape(-1, classes)
    rows[np.arange(len(rows)), safe.reshape(-1)] -= 1.0 - label_smoothing
    if label_smoothing:
        rows -= label_smoothing / classes
    np.multiply(rows, counted[:, None], rows)


def _soft(ctx: Any, outs: Any, logits: Any, targets: Any, *, label_smoothing: float = 0.0) -> None:
    losses, probabilities = outs
    np.subtract(logits, logits.max(axis=-1, keepdims=True), probabilities)
    mean: Any = probabilities.mean(axis=-1) if label_smoothing else None
    mass = targets.sum(axis=-1)
    picked = np.einsum("...c,...c->...", targets, probabilities)
    np.exp(probabilities, probabilities)
    total = probabilities.sum(axis=-1, keepdims=True)
    np.divide(probabilities, total, probabilities)
    if label_smoothing:
        mass = mass * (1.0 - label_smoothing) + label_smoothing
        picked = picked * (1.0 - label_smoothing) + label_smoothing * mean
    np.log(total[..., 0], losses)
    np.multiply(losses, mass, losses)
    np.subtract(losses, picked, losses)


def _soft_gradient(
    ctx: Any, outs: Any, g: Any, probabilities: Any, targets: Any, *, label_smoothing: float = 0.0
) -> None:
    out = outs[0]
    mass = targets.sum(axis=-1, keepdims=True)
    if label_smoothing:
        mass = mass * (1.0 - label_smoothing) + label_smoothing
    np.multiply(probabilities, mass, out)
    if label_smoothing:
        out -= (1.0 - label_smoothing) * targets
        out -= label_smoothing / probabilities.shape[-1]
    else:
        np.subtract(out, targets, out)
    np.multiply(out, g[..., None], out)


def _sigmoid(ctx: Any, outs: Any, logits: Any, targets: Any) -> None:
    out, other = outs[0], ctx.scratch[0]
    np.absolute(logits, out)
    np.negative(out, out)
    np.exp(out, out)
    np.log1p(out, out)
    np.maximum(logits, 0, out=other)
    np.add(out, other, out)
    np.multiply(logits, targets, other)
    np.subtract(out, other, out)


def _sigmoid_gradient(ctx: Any, outs: Any, g: Any, logits: Any, targets: Any) -> None:
    scratch = ctx.scratch[0]
    np.multiply(logits, 0.5, scratch)
    np.tanh(scratch, scratch)
    np.multiply(scratch, 0.5, scratch)
    np.add(scratch, 0.5, scratch)
    np.subtract(scratch, targets, scratch)
    np.multiply(scratch, g, outs[0])


def _log_probability(ctx: Any, outs: Any, p: Any) -> None:
    out = outs[0]
    tiny, _, slack = probability_limits(p.dtype)
    outside = ~((p >= -slack) & (p <= 1.0 + slack))
    np.maximum(p, tiny, out=out)
    np.log(out, out)
    np.copyto(out, math.nan, where=outside)


def _log_cosh(ctx: Any, outs: Any, x: Any) -> None:
    out, size = outs[0], ctx.scratch[0]
    np.absolute(x, size)
    np.multiply(size, -2.0, out)
    np.exp(out, out)
    np.log1p(out, out)
    np.add(out, size, out)
    np.subtract(out, math.log(2.0), out)


def _like_first(forms: Any, **attrs: Any) -> Any:
    return (forms[0],)


KERNELS: dict[str, Kernel] = {
    "softmax_cross_entropy": Kernel(_cross_entropy),
    "softmax_cross_entropy_gradient": Kernel(_cross_entropy_gradient),
    "softmax_cross_entropy_soft": Kernel(_soft),
    "softmax_cross_entropy_soft_gradient": Kernel(_soft_gradient),
    "sigmoid_cross_entropy": Kernel(_sigmoid, scratch=_like_first),
    "sigmoid_cross_entropy_gradient": Kernel(_sigmoid_gradient, scratch=lambda forms: (forms[1],)),
    "log_probability": Kernel(_log_probability),
    "log_cosh": Kernel(_log_cosh, scratch=_like_first),
}
