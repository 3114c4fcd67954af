"""Rules about the learning rate against a range test, where one was asked for before training."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy
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
        take = found.best if found.best is not None else found.diverged / 10
        return Finding(
            "learning_rate_too_high", "warning", 0.85,
            f"the rate is {rate:.3g}; in the range test the loss grew without return at {found.diverged:.3g} "
            f"(limit {limits.high:g} of it). Start with {take / 3:.2g}.",
            {**evidence, "limit": limits.high},
            remedies=(Remedy(f"Use {take / 3:.2g}.", f"model.optimizer.learning_rate = {take / 3:.2g}"),),
        )
    if found.best is not None and rate * limits.low <= found.best:
        return Finding(
            "learning_rate_too_low", "warning", 0.7,
            f"the rate is {rate:.3g}; in the range test the loss fell fastest at {found.best:.3g}, "
            f"{found.best / rate:.3g} times that (limit {limits.low:g}). Start with {found.best / 3:.2g}.",
            {**evidence, "limit": limits.low},
            remedies=(Remedy(f"Use {found.best / 3:.2g}.", f"model.optimizer.learning_rate = {found.best / 3:.2g}"),),
        )
    return None
