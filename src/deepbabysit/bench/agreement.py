"""Do all contenders compute the same? Their first losses are compared with those of our own step in float64.

Where training amplifies rounding (wide networks and Adam, whose first updates are signs of gradients), float32 losses
part after a few steps although nobody is wrong. How far they may is measured: our float32 step is run again from
weights that differ by roundings, with the rows of every batch in another order. The mathematics is the same, all sums
round otherwise, and how far these runs are from float64 is how far rounding may take a loss. Steps from the first one
on where that is more than what is allowed without amplification are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepbabysit.bench.contenders import Pool

CONTROL = "ours-control"
CHECKED = 5
CLOSE = 1e-4
"""How far a float32 loss may be from that in float64, as a share of it, where rounding is not amplified."""
DRAWN = 0.15
"""How far losses may be apart where each contender draws masks of its own: they agree on the average only."""
ROUNDING = 2.0**-18
"""By what share of their size the weights are changed: what float32 sums of 2500 terms lose, sqrt(2500) 2^-24."""
RUNS = 8
FACTOR = 3.0
"""Times the largest distance in `RUNS` runs: another library's run is one more of them."""


def disagreement(
    first: Mapping[str, Sequence[float]], truth: Sequence[float], close: Sequence[float], of: str = "float64"
) -> str:
    """Return which contender's losses are not the true ones, or an empty text.

    Arguments:
        first: contender -> losses of its first steps, all from the same weights and batches.
        truth: what they should be.
        close: how far they may be from that at each step, as a share of it.
        of: what computed the truth.
    """
    for name, losses in first.items():
        for step, (loss, true, share) in enumerate(zip(losses, truth, close, strict=False)):
            if not abs(loss - true) <= share * abs(true):
                return f"step {step + 1}: the loss of {name} is {loss:.6g}, that of {of} {true:.6g}"
    return ""


def check(pool: Pool, task: dict[str, Any], first: Mapping[str, Sequence[float]]) -> str:
    """Return which contender computes something else than the task says, or an empty text."""
    case = task["case"]
    if not first:
        return ""
    if any(layer[0] == "dropout" for layer in case["layers"]):
        name = next(iter(first))
        return disagreement(first, first[name][:CHECKED], [DRAWN] * CHECKED, name)
    try:
        truth = _losses(pool, task, 0)
        text = disagreement(first, truth, [CLOSE] * CHECKED)
        return text and disagreement(first, truth, allowed(truth, lambda draw: _losses(pool, task, draw)))
    finally:
        pool.drop(CONTROL)


def allowed(truth: Sequence[float], run: Callable[[int], Sequence[float]]) -> list[float]:
    """Return how far losses may be from the true ones at each step; `run` gives those of runs that round otherwise.

    Once these part by more than `CLOSE`, losses say no more about who is right: from there on any number will do.
    """
    runs = [run(draw) for draw in range(1, RUNS + 1)]
    found: list[float] = []
    for step, true in enumerate(truth):
        change = max(abs(losses[step] - true) / abs(true) for losses in runs)
        amplified = change > CLOSE or math.inf in found
        found.append(math.inf if amplified else CLOSE + FACTOR * change)
    return found


def _losses(pool: Pool, task: dict[str, Any], draw: int) -> list[float]:
    pool.ask(CONTROL, do="build", task={**task, "steps": CHECKED, "draw": draw, "rounding": ROUNDING})
    return list(pool.ask(CONTROL, do="run", steps=CHECKED)["results"])
