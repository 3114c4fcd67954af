"""Rules about the learning rate against a range test, where one was asked for before training."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.remedies import set_rate
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.vitals import Record


@rule(
    "learning_rate_too_high", "learning_rate_too_low", phase="check", high=0.5, low=100.0,
    why="The range test raises the rate step by step on a copy (Smith, WACV 2017). A rate at half of the one that "
    "diverged there leaves no margin; one 100 times below where the loss fell fastest crawls.",
    causes=("input_not_normalized", "target_not_normalized", "bad_init_scale", "loss_reduction_sum"),
)
def learning_rate_off_range(record: Record, limits: Any) -> Finding | None:
    """A rate beyond what the range test allows, or far below it."""
    found, rate = record.probes.get("range"), record.run.rate
    if found is None or not rate:
        return None
    evidence = {"rate": rate, "best": found.best, "diverged": found.diverged}
    if found.diverged is not None and rate >= limits.high * found.diverged:
        aim = found.best if found.best is not None else found.diverged / 10
        code, sure, limit = "learning_rate_too_high", 0.85, limits.high
        seen = f"the loss grew without return at {found.diverged:.3g} (limit {limits.high:g} of it)"
    elif found.best is not None and rate * limits.low <= found.best:
        aim, code, sure, limit = found.best, "learning_rate_too_low", 0.7, limits.low
        seen = f"the loss fell fastest at {aim:.3g}, {aim / rate:.3g} times that (limit {limits.low:g})"
    else:
        return None
    return Finding(
        code, "warning", sure, f"the rate is {rate:.3g}; in the range test {seen}. Start with {aim / 3:.2g}.",
        {**evidence, "limit": limit}, remedies=(set_rate(aim / 3),),
    )
