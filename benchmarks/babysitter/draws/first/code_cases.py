"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

import deepbabysit as db
from benchmarks.babysitter.loops import Leaky, Loop, Middle, Wait, Way

SOURCES = ("breast_cancer", "blobs6", "spirals", "gratings")
SEEDS = (780_000, 780_001, 780_002)

WAYS: dict[str, Way] = {
    "cleared_per_epoch": Way(Loop(clear="epoch"), "missing_zero_grad"),
    "losses_added": Way(Loop(keep="sum"), "memory_growth"),
    "trained_in_inference": Way(Loop(norm=True, train="inference"), "mode_bug"),
    "plain_with_dropout": Way(Loop(dropout=0.3)),
    "parts_added": Way(Loop(gather=2, split=True)),
    "no_evaluation": Way(Loop(norm=True, evaluate="none")),
    "softmax_over_rows": Way(Middle(lambda x: db.ops.softmax(x, axis=0) * 10.0), "batch_leak"),
    "slope_doubled": Way(Middle(lambda x: Leaky(0.1, 2.0)(x), bent=False), "wrong_gradient"),
    "root_at_zero": Way(Middle(lambda x: db.ops.sqrt(db.ops.relu(x - 1.0))), "nan_in_layer", "nan_loss"),
    "input_detached": Way(Middle(lambda x: (x > 1e9) * x), "output_ignores_input"),
    "right_slope": Way(Middle(lambda x: Leaky(0.1)(x), bent=False)),
    "guarded_log": Way(Middle(lambda x: db.ops.log(db.ops.relu(x) + 1e-3))),
    "slow_start": Way(Wait(0.05, 10), "slow_input"),
    "quick_start": Way(Wait(0.0, 0)),
}
