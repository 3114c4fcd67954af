"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.loops import Loop, Middle, Wait, Way

SOURCES = ("crops", "darts", "meters", "teacher")
SEEDS = (71_910_000, 71_910_001, 71_910_002)


class Softsign(db.Function):
    """x over 1 + abs(x); `power`: 2 for the derivative, 1 for one in which a square was forgotten."""

    def __init__(self, power: int) -> None:
        self.power = power

    def forward(self, x: Any) -> Any:
        """Return ``3 x / (1 + abs(x))``."""
        self.save(x)
        return 3.0 * x / (1.0 + db.ops.abs(x))

    def backward(self, gradient: Any) -> Any:
        """Return ``3 / (1 + abs(x))^power``."""
        (x,) = self.saved
        below = 1.0 + db.ops.abs(x)
        return gradient * 3.0 / (below * below if self.power == 2 else below)


class Wave(db.Function):
    """x plus its sine; `sign`: 1 for the derivative, -1 for one that took the sine's for that of the cosine."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def forward(self, x: Any) -> Any:
        """Return ``x + sin(x)``."""
        self.save(x)
        return x + db.ops.sin(x)

    def backward(self, gradient: Any) -> Any:
        """Return ``1 + cos(x)``, or ``1 - cos(x)``."""
        (x,) = self.saved
        return gradient * (1.0 + self.sign * db.ops.cos(x))


class Scaled(db.Function):
    """Rows less their mean; `whole`: whether the backward takes the mean off, too."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def forward(self, x: Any) -> Any:
        """Return ``2 (x - mean(x))``."""
        return 2.0 * (x - x.mean(axis=-1, keepdims=True))

    def backward(self, gradient: Any) -> Any:
        """Return the same of the gradient, or twice the gradient."""
        return 2.0 * (gradient - gradient.mean(axis=-1, keepdims=True) if self.whole else gradient)


def _softmax_of_all(x: Any) -> Any:
    """A softmax over the whole batch as one long row."""
    long = db.ops.softmax(db.ops.reshape(x, (1, -1)), axis=-1)
    return db.ops.reshape(long, x.shape) * float(x.shape[0] * 8)


def _length_of_all(x: Any) -> Any:
    """Divided by the length of the whole batch."""
    return 20.0 * x / db.ops.sqrt((x * x).sum() + 1e-3)


def _summed_along(x: Any) -> Any:
    """A running sum along the batch, which was meant to run along time."""
    return 0.3 * db.ops.cumsum(x, axis=0)


def _summed_along_units(x: Any) -> Any:
    """A running sum along the units of a row."""
    return 0.3 * db.ops.cumsum(x, axis=-1)


def _masked(x: Any, hidden: float) -> Any:
    """A softmax in which small numbers are masked; a row may have nothing else."""
    return 4.0 * db.ops.softmax(db.ops.where(x > 1.5, x, x * 0.0 + hidden), axis=-1)


def _root_of_difference(x: Any) -> Any:
    """A deviation as the mean of squares less the square of the mean, taken the wrong way around."""
    mean = x.mean(axis=-1, keepdims=True)
    return x / db.ops.sqrt(mean * mean - (x * x).mean(axis=-1, keepdims=True))


def _deviation(x: Any) -> Any:
    """Divided by its deviation, as it should be."""
    mean = x.mean(axis=-1, keepdims=True)
    return x / db.ops.sqrt((x * x).mean(axis=-1, keepdims=True) - mean * mean + 1e-2)


WAYS: dict[str, Way] = {
    "cleared_every_other_step": Way(Loop(clear="second"), "missing_zero_grad"),
    "cleared_where_it_was_better": Way(Loop(clear="better", dropout=0.1), "missing_zero_grad"),
    "one_optimizer_of_two_cleared": Way(Loop(apart="cleared", rule="Adam"), "missing_zero_grad"),
    "first_layer_replaced_later": Way(Loop(holds="old_first"), "unchanged_weights"),
    "one_optimizer_of_two_steps": Way(Loop(apart="stepped", rule="Adam"), "unchanged_weights"),
    "head_replaced_later": Way(Loop(holds="old_head", norm=True), "unchanged_weights"),
    "outputs_with_their_labels": Way(Loop(keep="pairs", rule="Adam"), "memory_growth"),
    "running_mean_of_outputs": Way(Loop(keep="center", dropout=0.2), "memory_growth"),
    "history_of_a_normed_net": Way(Loop(keep="tensors", norm=True, rule="clipped"), "memory_growth"),
    "mode_toggled": Way(Loop(dropout=0.3, norm=True, train="toggled"), "mode_bug"),
    "held_out_rows_move_the_norm": Way(Loop(norm=True, evaluate="training", often=3, rule="Adam"), "mode_bug"),
    "normed_in_inference": Way(Loop(norm=True, train="inference", rule="Adam"), "mode_bug"),
    "logarithms_summed": Way(Loop(reduce="logs", dropout=0.1), "loss_reduction_sum"),
    "distances_summed": Way(Loop(reduce="distances", norm=True), "loss_reduction_sum"),
    "waits_in_its_generator": Way(Loop(wait=0.03), "slow_input"),
    "softmax_of_the_whole_batch": Way(Middle(_softmax_of_all), "batch_leak"),
    "length_of_the_whole_batch": Way(Middle(_length_of_all), "batch_leak"),
    "running_sum_along_the_batch": Way(Middle(_summed_along), "batch_leak"),
    "softsign_not_squared": Way(Middle(lambda x: Softsign(1)(x), bent=False), "wrong_gradient"),
    "cosine_for_sine": Way(Middle(lambda x: Wave(-1.0)(x), bent=False), "wrong_gradient"),
    "mean_left_in_the_gradient": Way(Middle(lambda x: Scaled(False)(x)), "wrong_gradient"),
    "everything_masked": Way(Middle(lambda x: _masked(x, float("-inf"))), "nan_in_layer", "nan_loss"),
    "root_of_a_negative": Way(Middle(_root_of_difference, bent=False), "nan_in_layer", "nan_loss"),
    "power_of_a_negative": Way(Middle(lambda x: x**1.5, bent=False), "nan_in_layer", "nan_loss"),
    "overwritten_by_ones": Way(Middle(lambda x: db.ops.ones_like(x) + 0.0 * x), "output_ignores_input"),
    "signs_of_squares": Way(Middle(lambda x: db.ops.sign(x * x + 0.1)), "output_ignores_input"),
    "slow_every_time": Way(Wait(0.05, 10), "slow_input"),
    "slow_now_and_then": Way(Wait(0.2, 2), "slow_input"),
    "three_batches_gathered": Way(Loop(gather=3, norm=True)),
    "halves_of_a_batch": Way(Loop(gather=2, split=True, dropout=0.2)),
    "two_optimizers": Way(Loop(apart="both", rule="Adam")),
    "head_tuned": Way(Loop(frozen=True, holds="tail", rule="Adam")),
    "modes_as_they_should_be": Way(Loop(dropout=0.4, norm=True, rule="Adam")),
    "held_out_at_every_fifth_step": Way(Loop(often=5, dropout=0.2, rule="clipped")),
    "written_down_after_each_pass": Way(Loop(pause=0.1, keep="arrays", rule="clipped")),
    "running_sum_along_units": Way(Middle(_summed_along_units)),
    "whole_softsign": Way(Middle(lambda x: Softsign(2)(x), bent=False)),
    "sine_and_its_cosine": Way(Middle(lambda x: Wave(1.0)(x), bent=False)),
    "mean_off_both_ways": Way(Middle(lambda x: Scaled(True)(x))),
    "masked_by_a_large_number": Way(Middle(lambda x: _masked(x, -30.0))),
    "divided_by_a_guarded_deviation": Way(Middle(_deviation, bent=False)),
    "in_memory": Way(Wait(0.0, 0)),
}
