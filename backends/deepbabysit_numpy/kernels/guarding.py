"""Keeping the loss of every step, and the weights of one that went wrong: two numbers are looked at."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from deepbabysit.kernels.updates import STEP
from deepbabysit.runtime.backend import Kernel


def _keep_step(
    ctx: Any, outs: Any, loss: Any, probe: Any, control: Any, w: Any, kept: Any, taken: Any, ring: Any
) -> None:
    value = loss.item()
    # a sum of squares that overflows says nothing yet: then each number is looked at
    fine = isfinite(value) and (isfinite(probe.dot(probe)) or bool(np.isfinite(probe).all()))
    keep = not fine and taken[0] == 0.0
    for out, source in zip(outs, (kept, taken, ring), strict=True):
        # by memory, not by identity: a replay may hand over other array objects on the same memory
        if out is not source and not np.may_share_memory(out, source):
            np.copyto(out, source)
    kept, taken, ring = outs
    step = int(control[STEP])
    ring[step % ring.size] = value
    if keep:
        np.copyto(kept, w)
        taken[0] = step


KERNELS = {"keep_step": Kernel(_keep_step)}
