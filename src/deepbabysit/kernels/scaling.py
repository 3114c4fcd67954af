"""The scale of the loss in float16: it follows from which steps had gradients that overflowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import broadcast
from deepbabysit.kernels.spec import BadInput, Form, Sample, define

GROWTH = 2.0
INTERVAL = 2000  # steps without an overflow after which the scale grows
FIRST, LEAST, MOST = 2.0**16, 1.0, 2.0**24


def move_loss_scale(
    xp: Any, scale: Any, good: Any, skipped: Any, applied: Any, *, interval: int = INTERVAL
) -> Any:
    """Let the scale grow after `interval` good steps in a row, and halve it after a step that was not applied.

    Micikevicius et al., "Mixed precision training", ICLR 2018; growth and interval as in PyTorch. The scale stays
    within 1 and 2^24.

    Arguments:
        scale: what the loss is multiplied by.
        good: steps since the last overflow or growth.
        skipped: steps that were not applied, in all.
        applied: 0 where this step was not.
    """
    fine = applied > 0
    count = xp.where(fine, good + 1.0, good * 0.0)
    grown = count >= interval
    larger = xp.where(grown, xp.minimum(scale * GROWTH, xp.full_like(scale, MOST)), scale)
    smaller = xp.maximum(scale / GROWTH, xp.full_like(scale, LEAST))
    return (
        xp.where(fine, larger, smaller), xp.where(grown, good * 0.0, count), xp.where(fine, skipped, skipped + 1.0)
    )


def _infer(shapes: Any, dtypes: Any, *, interval: int = INTERVAL) -> tuple[Form, ...]:
    if interval < 1:
        raise ValueError(f"move_loss_scale: interval must be at least 1; got {interval}")
    if len({*dtypes[:3]}) > 1:
        raise TypeError(f"move_loss_scale: scale, good and skipped must have one dtype; got {dtypes[:3]}")
    shape = broadcast("move_loss_scale", shapes)
    return tuple(Form(shape, dtype) for dtype in dtypes[:3])


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in ((), (1,), (7,), (0,)):
        whole = (2.0 ** rng.integers(0, 25, shape), rng.integers(0, 4, shape), rng.integers(0, 9, shape))
        scale, good, skipped = (np.asarray(a, np.float64) for a in whole)
        applied = np.asarray(rng.integers(0, 2, shape), np.float64)
        for interval in (1, 3, INTERVAL):
            yield Sample((scale, good, skipped, applied), {"interval": interval}, gradient=False, by_dtype=True)


MOVE_LOSS_SCALE = define(
    move_loss_scale, infer=_infer, samples=_samples, differentiable=(), inplace=((0, 0), (1, 1), (2, 2)),
    errors=lambda: [BadInput((np.ones(()),) * 4, {"interval": 0}, ValueError, "at least 1")],
)
