"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.draws.development import habits, scripts, written
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
    "less_the_first_row": Way(Middle(scripts.less_the_first_row), "batch_leak"),
    "shares_of_columns": Way(Middle(scripts.shares_of_columns), "batch_leak"),
    "mixed_with_reversed": Way(Middle(scripts.mixed_with_reversed), "batch_leak"),
    "bell_without_its_factor": Way(Middle(lambda x: scripts.Bell(1.0)(x), bent=False), "wrong_gradient"),
    "largest_spread_over_all": Way(Middle(lambda x: scripts.Largest(False)(x), bent=False), "wrong_gradient"),
    "root_of_open": Way(Middle(scripts.root_of_open, bent=False)),
    "share_of_open": Way(Middle(scripts.share_of_open), "nan_in_layer", "nan_loss"),
    "rounded": Way(Middle(scripts.rounded), "unchanged_weights"),
    "masked_away": Way(Middle(scripts.masked_away), "output_ignores_input"),
    "never_to_eval": Way(Written(scripts.never_to_eval), "mode_bug"),
    "never_back_to_train": Way(Written(scripts.never_back_to_train), "mode_bug"),
    "features_remembered": Way(Written(scripts.features_remembered), "memory_growth"),
    "rows_one_by_one": Way(Written(scripts.rows_one_by_one), "slow_input"),
    "columns_apart": Way(Written(scripts.columns_apart), "corrupted_labels"),
    "absolute_of_all_pairs": Way(Written(scripts.absolute_of_all_pairs), "loss_shape_mismatch"),
    "sum_of_gaps": Way(Written(scripts.sum_of_gaps), "loss_reduction_sum"),
    "bell": Way(Middle(lambda x: scripts.Bell(2.0)(x), bent=False)),
    "largest_where_it_stands": Way(Middle(lambda x: scripts.Largest(True)(x), bent=False)),
    "to_and_fro": Way(Written(scripts.to_and_fro)),
    "features_cut": Way(Written(scripts.features_cut)),
    "absolute_of_each": Way(Written(scripts.absolute_of_each)),
    "clipped_by_hand": Way(Written(scripts.clipped_by_hand)),
    "at_a_worse_place": Way(Written(scripts.at_a_worse_place)),
    "looked_ahead": Way(Written(scripts.looked_ahead)),
    "rows_against_rows": Way(Written(scripts.rows_against_rows)),
    "loaded_ahead": Way(Written(scripts.loaded_ahead)),
    "only_biases": Way(Written(habits.only_biases), "unchanged_weights"),
    "added_up_in_a_list": Way(Written(habits.added_up_in_a_list), "loss_reduction_sum"),
    "less_the_mean_of_columns": Way(Written(habits.less_the_mean_of_columns), "batch_leak"),
    "sigmoid_and_logits": Way(Written(habits.sigmoid_and_logits), "double_softmax"),
    "logarithm_of_a_gap": Way(Written(habits.logarithm_of_a_gap), "nan_in_layer", "nan_loss"),
    "dropped_in_every_mode": Way(Written(habits.dropped_in_every_mode), "mode_bug"),
    "transformed_slowly": Way(Written(habits.transformed_slowly), "slow_input"),
    "gradients_kept_for_a_plot": Way(Written(habits.gradients_kept_for_a_plot), "memory_growth"),
    "penalty_by_hand": Way(Written(habits.penalty_by_hand)),
    "warmed_by_hand": Way(Written(habits.warmed_by_hand)),
    "thawed_later": Way(Written(habits.thawed_later)),
    "smoothed_labels": Way(Written(habits.smoothed_labels)),
    "saved_at_every_tenth": Way(Written(habits.saved_at_every_tenth)),
}
