"""Keeping what is needed of every step, and the weights of one that went wrong, without a look from the host."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, define
from deepbabysit.kernels.updates import CONTROL_SIZE, STEP


def keep_step(xp: Any, loss: Any, probe: Any, control: Any, w: Any, kept: Any, taken: Any, ring: Any) -> Any:
    """Write the loss into a ring; copy `w` into `kept`, once, when the loss or a gradient is not finite.

    Runs between gradients and update, so that `kept` holds the weights that the broken step was computed with.

    Arguments:
        loss: one number.
        probe: (p,) a part of the gradients.
        control: the control array of the update.
        w, kept: (n,) weights, and where they are copied to.
        taken: (1,) 0 until weights are kept, then the number of the step; what was kept stays until this is 0 again.
        ring: (r,) the loss goes to the place ``step % r``.
    """
    fine = xp.all(xp.isfinite(loss)) & xp.all(xp.isfinite(probe))
    now = xp.where(fine, 0.0, 1.0) * xp.where(taken == 0.0, 1.0, 0.0)
    step = control[STEP : STEP + 1]
    size = ring.shape[0]
    places = xp.astype(xp.arange(size), ring.dtype)
    here = places == xp.astype(step - size * xp.floor(step / size), ring.dtype)
    return (
        xp.where(now > 0.0, w, kept), taken + now * step, xp.where(here, xp.astype(loss, ring.dtype), ring)
    )


def _infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    _, _, control, w, kept, taken, ring = shapes
    if control != (CONTROL_SIZE,) or taken != (1,) or w != kept or len(w) != 1 or len(ring) != 1 or ring[0] == 0:
        raise ValueError(
            f"keep_step: expected {CONTROL_SIZE} numbers of control, flat w and kept of one length, (1,) taken and a "
            f"flat ring; got {', '.join(show_shape(s) for s in shapes[2:])}"
        )
    if dtypes[3] != dtypes[4]:
        raise TypeError(f"keep_step: w is {dtypes[3]} and kept {dtypes[4]}")
    return (Form(kept, dtypes[4]), Form(taken, dtypes[5]), Form(ring, dtypes[6]))


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
        w, kept, ring = rng.standard_normal(size), np.zeros(size), rng.standard_normal(4)
        yield Sample((loss, probe, control, w, kept, np.array([before]), ring), gradient=False)


def _errors() -> list[BadInput]:
    return [
        BadInput(
            (np.array(0.0), np.zeros(2), np.zeros(CONTROL_SIZE), np.zeros(3), np.zeros(4), np.zeros(1), np.zeros(2)),
            {}, ValueError, "of one length",
        )
    ]


KEEP_STEP = define(
    keep_step, infer=_infer, samples=_samples, errors=_errors, differentiable=(), inplace=((0, 4), (1, 5), (2, 6))
)
