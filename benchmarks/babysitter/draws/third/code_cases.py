"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.loops import Loop, Middle, Wait, Way

SOURCES = ("birds", "gestures", "products", "star")
SEEDS = (48_310_000, 48_310_001, 48_310_002)


class Swish(db.Function):
    """x times its sigmoid; `whole`: whether the backward knows both factors, or only the second."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def forward(self, x: Any) -> Any:
        """Return ``x sigmoid(x)``."""
        self.save(x)
        return x * db.ops.sigmoid(x)

    def backward(self, gradient: Any) -> Any:
        """Return ``s + x s (1 - s)``, or ``s``."""
        (x,) = self.saved
        s = db.ops.sigmoid(x)
        return gradient * (s + x * s * (1.0 - s) if self.whole else s)


class Bounded(db.Function):
    """A tanh of twice x; `power`: 2 for the derivative, 1 for one in which a square was forgotten."""

    def __init__(self, power: int) -> None:
        self.power = power

    def forward(self, x: Any) -> Any:
        """Return ``tanh(2 x)``."""
        y = db.ops.tanh(x * 2.0)
        self.save(y)
        return y

    def backward(self, gradient: Any) -> Any:
        """Return ``2 (1 - y^power)``."""
        (y,) = self.saved
        return gradient * 2.0 * (1.0 - (y * y if self.power == 2 else y))


def _largest(x: Any, axis: int) -> Any:
    """Divide by the largest of a row, or of the batch."""
    return 2.0 * x / (x.max(axis=axis, keepdims=True) + 1e-3)


def _neighbours(x: Any) -> Any:
    """Each row and the one before it in the batch, as if they were steps in time."""
    return 0.5 * (x + db.ops.concatenate([x[-1:], x[:-1]], axis=0))


def _means_of_deviations(x: Any) -> Any:
    """The mean of what is left when the mean is taken off."""
    return x * 0.0 + (x - x.mean(axis=-1, keepdims=True)).mean(axis=-1, keepdims=True)


def _entropy(x: Any, guard: float) -> Any:
    """Minus ``p log p`` of shares that can be zero."""
    p = db.ops.relu(x)
    return 1.0 - p * db.ops.log(p + guard)


def _spread(x: Any, guard: float) -> Any:
    """Rows divided by their deviation, where rows without any can be (all units shut)."""
    open_ = db.ops.relu(x - 1.5)
    middle = open_ - open_.mean(axis=-1, keepdims=True)
    return middle / db.ops.sqrt((middle * middle).mean(axis=-1, keepdims=True) + guard)


WAYS: dict[str, Way] = {
    "cleared_at_the_first_step": Way(Loop(clear="first"), "missing_zero_grad"),
    "only_the_head_cleared": Way(Loop(clear="head"), "missing_zero_grad"),
    "history_of_tensors": Way(Loop(keep="history", dropout=0.1), "memory_growth"),
    "outputs_kept_for_a_metric": Way(Loop(keep="outputs", norm=True), "memory_growth"),
    "dropout_in_evaluation": Way(Loop(dropout=0.5, norm=True, evaluate="training"), "mode_bug"),
    "dropout_never_on": Way(Loop(dropout=0.5, norm=True, train="inference"), "mode_bug"),
    "encoder_not_given": Way(Loop(holds="tail", dropout=0.1), "unchanged_weights"),
    "squares_summed": Way(Loop(reduce="squares"), "loss_reduction_sum"),
    "five_losses_kept": Way(Loop(keep="recent", dropout=0.2)),
    "quarters_of_a_batch": Way(Loop(gather=4, split=True, norm=True)),
    "gathered_over_two": Way(Loop(gather=2, dropout=0.1)),
    "first_frozen_with_norm": Way(Loop(frozen=True, norm=True)),
    "largest_of_the_batch": Way(Middle(lambda x: _largest(x, 0)), "batch_leak"),
    "neighbours_in_the_batch": Way(Middle(_neighbours), "batch_leak"),
    "one_factor_of_swish": Way(Middle(lambda x: Swish(False)(x), bent=False), "wrong_gradient"),
    "square_forgotten": Way(Middle(lambda x: Bounded(1)(x), bent=False), "wrong_gradient"),
    "logarithm_of_shares": Way(Middle(lambda x: _entropy(x, 0.0)), "nan_in_layer", "nan_loss"),
    "no_spread": Way(Middle(lambda x: _spread(x, 0.0)), "nan_in_layer", "nan_loss"),
    "whole_number_division": Way(Middle(lambda x: x * float(1 // 2)), "output_ignores_input"),
    "mean_of_deviations": Way(Middle(_means_of_deviations), "output_ignores_input"),
    "cut_from_the_graph": Way(Middle(lambda x: db.ops.stop_gradient(x) * 1.0), "unchanged_weights"),
    "largest_of_the_row": Way(Middle(lambda x: _largest(x, -1))),
    "whole_swish": Way(Middle(lambda x: Swish(True)(x), bent=False)),
    "right_tanh": Way(Middle(lambda x: Bounded(2)(x), bent=False)),
    "guarded_entropy": Way(Middle(lambda x: _entropy(x, 1e-2))),
    "slow_network_drive": Way(Wait(0.12, 3), "slow_input"),
    "decoded_in_the_loop": Way(Wait(0.025, 10), "slow_input"),
    "opened_once": Way(Wait(0.0, 0)),
}
