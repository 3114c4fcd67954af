"""Keeping the weights of a step that went wrong: a copy that is made only when a number is not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, define
from deepbabysit.kernels.updates import CONTROL_SIZE, STEP


def keep_when_broken(xp: Any, loss: Any, probe: Any, control: Any, w: Any, kept: Any, taken: Any) -> Any:
    """Copy `w` into `kept`, once, when the loss or a gradient in `probe` is not finite; `taken` becomes the step.

    Runs between gradients and update, so that `kept` holds the weights that the broken step was computed with.
    `taken` (1,) is 0 until then; what was kept stays until the caller writes 0 again.
    """
    fine = xp.all(xp.isfinite(loss)) & xp.all(xp.isfinite(probe))
    now = xp.where(fine, 0.0, 1.0) * xp.where(taken == 0.0, 1.0, 0.0)
    return xp.where(now > 0.0, w, kept), taken + now * control[STEP : STEP + 1]


def _infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    _, _, control, w, kept, taken = shapes
    if control != (CONTROL_SIZE,) or taken != (1,) or w != kept or len(w) != 1:
        raise ValueError(
            f"keep_when_broken: expected {CONTROL_SIZE} numbers of control, flat w and kept of one length and (1,) "
            f"taken; got {', '.join(show_shape(s) for s in shapes[2:])}"
        )
    if dtypes[3] != dtypes[4]:
        raise TypeError(f"keep_when_broken: w is {dtypes[3]} and kept {dtypes[4]}")
    return (Form(kept, dtypes[4]), Form(taken, dtypes[5]))


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for size, bad_loss, bad_probe, before in (
        (0, False, False, 0.0), (1, True, False, 0.0), (7, False, True, 0.0), (300, False, False, 0.0),
        (300, True, True, 5.0), (20000, True, True, 0.0),
    ):
        control = np.zeros(CONTROL_SIZE)
        control[STEP] = 9.0
        probe = rng.standard_normal(5)
        if bad_probe:
            probe[3] = np.nan
        loss = np.array(np.inf if bad_loss else 0.5)
        w, kept = rng.standard_normal(size), np.zeros(size)
        yield Sample((loss, probe, control, w, kept, np.array([before])), gradient=False)


def _errors() -> list[BadInput]:
    return [
        BadInput(
            (np.array(0.0), np.zeros(2), np.zeros(CONTROL_SIZE), np.zeros(3), np.zeros(4), np.zeros(1)), {},
            ValueError, "of one length",
        )
    ]


KEEP_WHEN_BROKEN = define(
    keep_when_broken, infer=_infer, samples=_samples, errors=_errors, differentiable=(), inplace=((0, 4), (1, 5))
)
