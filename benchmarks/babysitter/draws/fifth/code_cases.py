"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.loops import Loop, Middle, Wait, Way
from deepbabysit.runtime.context import current

SOURCES = ("islands", "levels", "minerals", "shells")
SEEDS = (88_410_000, 88_410_001, 88_410_002)


class Bent(db.Function):
    """x and a part of its square; `factor`: 2 for the derivative, 1 for one that forgot it."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def forward(self, x: Any) -> Any:
        """Return ``x + 0.3 x^2``."""
        self.save(x)
        return x + 0.3 * x * x

    def backward(self, gradient: Any) -> Any:
        """Return ``1 + 0.3 factor x``."""
        (x,) = self.saved
        return gradient * (1.0 + 0.3 * self.factor * x)


class Bell(db.Function):
    """A bell around zero; `sign`: -1 for the derivative, 1 for one that lost its sign."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def forward(self, x: Any) -> Any:
        """Return ``2 exp(-x^2)``."""
        self.save(x)
        return 2.0 * db.ops.exp(-x * x)

    def backward(self, gradient: Any) -> Any:
        """Return ``4 sign x exp(-x^2)``."""
        (x,) = self.saved
        return gradient * (4.0 * self.sign) * x * db.ops.exp(-x * x)


class Rounded(db.Function):
    """An absolute value without its corner; `whole`: whether the derivative has the x above the root."""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def forward(self, x: Any) -> Any:
        """Return ``sqrt(1 + x^2)``."""
        self.save(x)
        return db.ops.sqrt(1.0 + x * x)

    def backward(self, gradient: Any) -> Any:
        """Return ``x / sqrt(1 + x^2)``, or ``1 / sqrt(1 + x^2)``."""
        (x,) = self.saved
        below = db.ops.sqrt(1.0 + x * x)
        return gradient * (x if self.whole else 1.0) / below


class Dropped:
    """Dropout of one half; `scaled`: whether what is kept in training stays larger by as much as was dropped."""

    def __init__(self, scaled: bool) -> None:
        self.scaled = scaled
        self.drop = db.layers.Dropout(0.5)

    def __call__(self, x: Any) -> Any:
        """Drop in training; in use return x."""
        kept = self.drop(x)
        return kept if self.scaled or not current().training else kept * 0.5


def _turned(x: Any, axis: int) -> Any:
    """What came and the same read backwards: along the batch, or along the units."""
    return 0.5 * (x + db.ops.flip(x, axis=axis))


def _with_the_mean(x: Any, axis: int) -> Any:
    """What came with a third of the mean: of the batch, or of the row."""
    return 0.7 * x + 0.3 * x.mean(axis=axis, keepdims=True)


def _by_its_size(x: Any, axis: int) -> Any:
    """Divided by the root of the mean square: of the batch, or of the row."""
    return x / db.ops.sqrt((x * x).mean(axis=axis, keepdims=True) + 1e-2)


def _shares(x: Any, over: float, guard: float) -> Any:
    """Shares of what lies above a threshold, where nothing can."""
    above = db.ops.relu(x - over)
    return 4.0 * above / (above.sum(axis=-1, keepdims=True) + guard)


def _far_below(x: Any, steep: float, guard: float) -> Any:
    """The logarithm of what a tanh leaves to one."""
    return -db.ops.log(1.0 + guard - db.ops.tanh(steep * x))


def _one_over_root(x: Any) -> Any:
    """One over the root of what a rectifier let pass, which can be nothing."""
    return 1.0 / db.ops.sqrt(db.ops.relu(x))


def _added_up(x: Any) -> Any:
    """Attention whose weights are added up before anything was weighed: all ones."""
    return db.ops.softmax(x, axis=-1).sum(axis=-1, keepdims=True) + db.ops.zeros_like(x)


def _between_equal_limits(x: Any) -> Any:
    """Kept between two limits, which are the same number."""
    return db.ops.minimum(db.ops.maximum(x, 1.0), 1.0)


def _rounded_down(x: Any) -> Any:
    """Rounded to quarters: what lies before it gets no gradient."""
    return db.ops.floor(4.0 * x) * 0.25


WAYS: dict[str, Way] = {
    "gathered_and_never_cleared": Way(Loop(gather=4, clear="never", norm=True), "missing_zero_grad"),
    "cleared_at_evaluations_only": Way(Loop(clear="evaluation", often=6, dropout=0.1), "missing_zero_grad"),
    "cleared_in_the_first_pass_only": Way(Loop(clear="start", norm=True), "missing_zero_grad"),
    "group_without_decay_not_given": Way(Loop(holds="kernels", rule="Adam"), "unchanged_weights"),
    "step_forgotten": Way(Loop(steps=False, norm=True), "unchanged_weights"),
    "rounded_to_quarters": Way(Middle(_rounded_down), "unchanged_weights", "vanishing_gradient"),
    "smallest_loss_so_far": Way(Loop(keep="least", rule="Adam"), "memory_growth"),
    "rows_of_a_table": Way(Loop(keep="rows", dropout=0.2, rule="clipped"), "memory_growth"),
    "two_running_sums": Way(Loop(keep="sums", norm=True), "memory_growth"),
    "held_out_in_training_every_other_step": Way(Loop(dropout=0.3, evaluate="training", often=2), "mode_bug"),
    "loaded_for_inference_and_trained_on": Way(Loop(dropout=0.5, train="inference", rule="clipped"), "mode_bug"),
    "inference_after_the_first_look": Way(Loop(dropout=0.4, norm=True, train="until_evaluation", rule="Adam"),
                                          "mode_bug"),
    "dropped_and_not_made_up_for": Way(Middle(Dropped(False)), "mode_bug"),
    "margins_summed": Way(Loop(reduce="margins", dropout=0.1), "loss_reduction_sum"),
    "focal_loss_summed": Way(Loop(reduce="focal", rule="Adam"), "loss_reduction_sum"),
    "unpacked_in_the_loop": Way(Loop(wait=0.02, norm=True, rule="Adam"), "slow_input"),
    "drawn_anew_for_each_batch": Way(Wait(0.02, 10), "slow_input"),
    "another_file_for_each_ten": Way(Wait(0.16, 1), "slow_input"),
    "turned_along_the_batch": Way(Middle(lambda x: _turned(x, 0)), "batch_leak"),
    "with_the_mean_of_all_rows": Way(Middle(lambda x: _with_the_mean(x, 0)), "batch_leak"),
    "by_the_size_of_the_batch": Way(Middle(lambda x: _by_its_size(x, 0)), "batch_leak"),
    "two_forgotten_in_a_square": Way(Middle(lambda x: Bent(1.0)(x), bent=False), "wrong_gradient"),
    "sign_lost_in_a_bell": Way(Middle(lambda x: Bell(1.0)(x), bent=False), "wrong_gradient"),
    "one_above_the_root": Way(Middle(lambda x: Rounded(False)(x), bent=False), "wrong_gradient"),
    "shares_of_nothing": Way(Middle(lambda x: _shares(x, 1.2, 0.0)), "nan_in_layer", "nan_loss"),
    "logarithm_of_what_is_left": Way(Middle(lambda x: _far_below(x, 12.0, 0.0), bent=False), "nan_in_layer",
                                     "nan_loss"),
    "one_over_the_root_of_nothing": Way(Middle(_one_over_root), "nan_in_layer", "nan_loss"),
    "weights_added_up": Way(Middle(_added_up), "output_ignores_input"),
    "between_equal_limits": Way(Middle(_between_equal_limits), "output_ignores_input"),
    "gathered_over_two_by_adam": Way(Loop(gather=2, norm=True, rule="Adam")),
    "cleared_after_with_dropout": Way(Loop(clear="after", dropout=0.3, rule="clipped")),
    "arrays_kept_by_adam": Way(Loop(keep="arrays", dropout=0.2, rule="Adam")),
    "last_loss_shown": Way(Loop(keep="last", norm=True, rule="Adam")),
    "first_frozen_head_with_dropout": Way(Loop(frozen=True, dropout=0.2, rule="Adam")),
    "held_out_at_every_other_step": Way(Loop(often=2, norm=True, dropout=0.2)),
    "mean_written_out": Way(Loop(reduce="means", dropout=0.2)),
    "dropped_and_made_up_for": Way(Middle(Dropped(True))),
    "turned_along_units": Way(Middle(lambda x: _turned(x, -1))),
    "with_the_mean_of_the_row": Way(Middle(lambda x: _with_the_mean(x, -1))),
    "by_the_size_of_the_row": Way(Middle(lambda x: _by_its_size(x, -1))),
    "whole_square": Way(Middle(lambda x: Bent(2.0)(x), bent=False)),
    "whole_bell": Way(Middle(lambda x: Bell(-1.0)(x), bent=False)),
    "whole_root": Way(Middle(lambda x: Rounded(True)(x), bent=False)),
    "guarded_shares": Way(Middle(lambda x: _shares(x, 0.2, 0.1))),
    "logarithm_guarded": Way(Middle(lambda x: _far_below(x, 2.0, 0.05), bent=False)),
    "read_beforehand": Way(Wait(0.0, 0)),
}
