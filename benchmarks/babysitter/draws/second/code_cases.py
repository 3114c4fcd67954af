"""Loops, operations and readers, wrong in their code, and some that only look so."""

from __future__ import annotations

from typing import Any

import deepbabysit as db
from benchmarks.babysitter.loops import Loop, Middle, Wait, Way

SOURCES = ("hastie", "redundant", "signals", "swiss_roll")
SEEDS = (6_160_000, 6_160_001, 6_160_002)

class Square(db.Function):
    """x times its absolute value, with a backward of `side` (``right``, or ``bare``: that of x squared)."""

    def __init__(self, side: str) -> None:
        self.side = side

    def forward(self, x: Any) -> Any:
        """Return ``x * abs(x)``."""
        self.save(x)
        return x * db.ops.abs(x)

    def backward(self, gradient: Any) -> Any:
        """Return the derivative ``2 abs(x)``, or ``2 x``."""
        (x,) = self.saved
        return gradient * 2.0 * (db.ops.abs(x) if self.side == "right" else x)


class Times(db.Function):
    """Three times x; its backward forgets the factor."""

    def forward(self, x: Any) -> Any:
        """Return ``3 x``."""
        return x * 3.0

    def backward(self, gradient: Any) -> Any:
        """Return the gradient as it came."""
        return gradient * 1.0


def _reshaped(x: Any) -> Any:
    """Meant to turn axes, and mixes rows: a reshape in place of a transpose."""
    return db.ops.reshape(x.T, x.shape)


def _rows_attend(x: Any) -> Any:
    """Attention in which the rows of a batch look at each other."""
    return db.ops.softmax(x @ x.T * 0.2, axis=-1) @ x


def _of_one(x: Any) -> Any:
    """A softmax over an axis of one entry: ones."""
    wide = db.ops.reshape(x, (*x.shape, 1))
    return db.ops.reshape(db.ops.softmax(wide, axis=-1), x.shape)


def _unit(x: Any, guard: float) -> Any:
    """Rows of length one; those without any entry above the threshold have none."""
    open_ = db.ops.relu(x - 2.0) if not guard else x
    return open_ / db.ops.sqrt((open_ * open_).sum(axis=-1, keepdims=True) + guard)


WAYS: dict[str, Way] = {
    "cleared_every_tenth": Way(Loop(clear="tenth"), "missing_zero_grad"),
    "cleared_elsewhere": Way(Loop(clear="other", dropout=0.2), "missing_zero_grad"),
    "outputs_kept": Way(Loop(keep="outputs"), "memory_growth"),
    "loss_averaged": Way(Loop(keep="average"), "memory_growth"),
    "inference_ever_after": Way(Loop(norm=True, train="until_evaluation"), "mode_bug"),
    "norm_sees_held_out": Way(Loop(norm=True, evaluate="training"), "mode_bug"),
    "head_added_later": Way(Loop(holds="body"), "unchanged_weights"),
    "optimizer_of_the_head": Way(Loop(holds="head"), "unchanged_weights"),
    "loss_summed": Way(Loop(reduce="sum"), "loss_reduction_sum"),
    "gathered_over_four": Way(Loop(gather=4)),
    "thirds_of_a_batch": Way(Loop(gather=3, split=True, dropout=0.2)),
    "outputs_kept_as_arrays": Way(Loop(keep="arrays", norm=True)),
    "first_layer_frozen": Way(Loop(frozen=True)),
    "reshaped_for_turned": Way(Middle(_reshaped), "batch_leak"),
    "rows_attend": Way(Middle(_rows_attend), "batch_leak"),
    "square_of_sign": Way(Middle(lambda x: Square("bare")(x)), "wrong_gradient"),
    "factor_forgotten": Way(Middle(lambda x: Times()(x)), "wrong_gradient"),
    "exponents_overflow": Way(Middle(lambda x: db.ops.exp(x * 60.0)), "nan_in_layer", "nan_loss"),
    "length_of_nothing": Way(Middle(lambda x: _unit(x, 0.0)), "nan_in_layer", "nan_loss"),
    "softmax_of_one": Way(Middle(_of_one), "output_ignores_input"),
    "rounded_down": Way(Middle(lambda x: db.ops.floor(db.ops.sigmoid(x) * 0.999)), "output_ignores_input"),
    "softmax_over_units": Way(Middle(lambda x: db.ops.softmax(x, axis=-1) * 5.0)),
    "right_square": Way(Middle(lambda x: Square("right")(x))),
    "length_guarded": Way(Middle(lambda x: _unit(x, 1e-4) * 3.0)),
    "exponents_bounded": Way(Middle(lambda x: db.ops.exp(-x))),
    "slow_disk": Way(Wait(0.08, 4), "slow_input"),
    "waits_at_first": Way(Wait(0.0, 0)),
}
