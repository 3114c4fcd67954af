"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.loops import Leaky, Loop, Middle, Wait, Way

SOURCES = ("circles", "wine", "digits", "blobs3")
SEEDS = (2000, 2001, 2002)


def _centered(x: Any) -> Any:
    return x - x.mean(axis=-1, keepdims=True)


def _centered_wrong(x: Any) -> Any:
    return x - x.mean(axis=0, keepdims=True)


WAYS: dict[str, Way] = {
    "never_cleared": Way(Loop(clear="never"), "missing_zero_grad"),
    "losses_kept": Way(Loop(keep="tensors"), "memory_growth"),
    "evaluated_in_training": Way(Loop(dropout=0.4, evaluate="training"), "mode_bug"),
    "plain": Way(Loop()),
    "cleared_after": Way(Loop(clear="after", norm=True)),
    "last_loss_kept": Way(Loop(keep="last", dropout=0.4)),
    "batch_mean": Way(Middle(_centered_wrong), "batch_leak"),
    "slope_forgotten": Way(Middle(lambda x: Leaky(1.0)(x), bent=False), "wrong_gradient"),
    "log_of_zero": Way(Middle(lambda x: db.ops.log(db.ops.relu(x))), "nan_in_layer", "nan_loss"),
    "input_cut_off": Way(Middle(lambda x: x * 0.0 + 1.0), "output_ignores_input"),
    "row_mean": Way(Middle(_centered)),
    "nothing": Way(Middle(lambda x: x)),
    "slow_rows": Way(Wait(0.03, 10), "slow_input"),
    "quick_rows": Way(Wait(0.0, 0)),
}
