"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.draws.development import written
from benchmarks.babysitter.loops import Leaky, Loop, Middle, Wait, Way, Written

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
    "encoder_never_cleared": Way(Written(written.encoder_never_cleared), "missing_zero_grad"),
    "features_detached": Way(Written(written.features_detached), "unchanged_weights"),
    "weights_put_back": Way(Written(written.weights_put_back), "unchanged_weights"),
    "accuracy_summed": Way(Written(written.accuracy_summed), "memory_growth"),
    "state_carried": Way(Written(written.state_carried), "memory_growth"),
    "held_out_between": Way(Written(written.held_out_between), "mode_bug"),
    "read_in_the_body": Way(Written(written.read_in_the_body), "slow_input"),
    "shards_opened": Way(Written(written.shards_opened), "slow_input"),
    "one_slow_worker": Way(Written(written.one_slow_worker), "slow_input"),
    "two_updates": Way(Written(written.two_updates), "missing_zero_grad", "update_too_large"),
    "made_anew": Way(Written(written.made_anew), "wrong_optimizer", "update_too_large"),
    "scale_by_means": Way(Written(written.scale_by_means), "wrong_gradient"),
    "attends_along_the_batch": Way(Written(written.attends_along_the_batch), "batch_leak"),
    "tempered_probabilities": Way(Written(written.tempered_probabilities), "double_softmax"),
    "written_to_files": Way(Written(written.written_to_files)),
    "average_aside": Way(Written(written.average_aside)),
    "two_rhythms": Way(Written(written.two_rhythms)),
    "easy_rows_first": Way(Written(written.easy_rows_first)),
    "read_once": Way(Written(written.read_once)),
    "two_of_each": Way(Written(written.two_of_each)),
    "taught": Way(Written(written.taught)),
    "started_again": Way(Written(written.started_again)),
    "state_cut": Way(Written(written.state_cut)),
    "right_scale": Way(Written(written.right_scale)),
    "attends_along_time": Way(Written(written.attends_along_time)),
}
