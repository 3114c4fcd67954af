"""Loops, operations and readers of the sealed pool, wrong in their code, and some that only look so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import deepbabysit as db
from benchmarks.babysitter.loops import Loop
from benchmarks.babysitter.operators import SEALED

SOURCES = ("hastie", "redundant", "signals", "swiss_roll")
SEEDS = (6_160_000, 6_160_001, 6_160_002)

LOOPS: dict[str, tuple[str, str, Loop]] = {
    "cleared_every_tenth": (SEALED, "missing_zero_grad", Loop(clear="tenth")),
    "cleared_elsewhere": (SEALED, "missing_zero_grad", Loop(clear="other", dropout=0.2)),
    "outputs_kept": (SEALED, "memory_growth", Loop(keep="outputs")),
    "loss_averaged": (SEALED, "memory_growth", Loop(keep="average")),
    "inference_ever_after": (SEALED, "mode_bug", Loop(norm=True, train="until_evaluation")),
    "norm_sees_held_out": (SEALED, "mode_bug", Loop(norm=True, evaluate="training")),
    "head_added_later": (SEALED, "unchanged_weights", Loop(holds="body")),
    "optimizer_of_the_head": (SEALED, "unchanged_weights", Loop(holds="head")),
    "loss_summed": (SEALED, "loss_reduction_sum", Loop(reduce="sum")),
    "gathered_over_four": (SEALED, "", Loop(gather=4)),
    "thirds_of_a_batch": (SEALED, "", Loop(gather=3, split=True, dropout=0.2)),
    "outputs_kept_as_arrays": (SEALED, "", Loop(keep="arrays", norm=True)),
    "first_layer_frozen": (SEALED, "", Loop(frozen=True)),
}


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


MIDDLES: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "reshaped_for_turned": (SEALED, "batch_leak", _reshaped),
    "rows_attend": (SEALED, "batch_leak", _rows_attend),
    "square_of_sign": (SEALED, "wrong_gradient", lambda x: Square("bare")(x)),
    "factor_forgotten": (SEALED, "wrong_gradient", lambda x: Times()(x)),
    "exponents_overflow": (SEALED, "nan_in_layer", lambda x: db.ops.exp(x * 60.0)),
    "length_of_nothing": (SEALED, "nan_in_layer", lambda x: _unit(x, 0.0)),
    "softmax_of_one": (SEALED, "output_ignores_input", _of_one),
    "rounded_down": (SEALED, "output_ignores_input", lambda x: db.ops.floor(db.ops.sigmoid(x) * 0.999)),
    "softmax_over_units": (SEALED, "", lambda x: db.ops.softmax(x, axis=-1) * 5.0),
    "right_square": (SEALED, "", lambda x: Square("right")(x)),
    "length_guarded": (SEALED, "", lambda x: _unit(x, 1e-4) * 3.0),
    "exponents_bounded": (SEALED, "", lambda x: db.ops.exp(-x)),
}
# seconds that a reader waits for a batch, and for how many batches of ten
WAITS: dict[str, tuple[str, str, tuple[float, int]]] = {
    "slow_disk": (SEALED, "slow_input", (0.08, 4)), "waits_at_first": (SEALED, "", (0.0, 0)),
}
