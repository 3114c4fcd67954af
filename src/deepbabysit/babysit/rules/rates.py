"""Rules about the learning rate: against a range test, where one was asked for, and on its way through a schedule."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import set_rate
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import chance, data_losses, done, finite, good_from_the_start, last_epoch
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


@rule(
    "learning_rate_too_low", phase="epoch", share=0.5, left=0.02, poor=0.15, late=0.5,
    why="A schedule that decays to a hundredth spends its last third there (three steps of a tenth, cosine, one "
    "cycle); one that spends half of the run below `left` of its rate counts steps where epochs were meant, or never "
    "ends its warm-up.",
    causes=("nan_in_data",),
)
def rate_gone(record: Record, limits: Any) -> Finding | None:
    """A schedule that leaves next to no rate for most of the run, while much is left to be learned."""
    rates = [(s.step, s.rate) for s in record.steps if s.rate is not None]
    losses, guess = finite(data_losses(record)), chance(record)
    if record.run.schedule == "constant" or len(rates) < 4 or done(record) < limits.late or good_from_the_start(record):
        return None
    held = finite(record.logs("val_loss"))
    if not losses or not guess or min([losses[-1], *held[-1:]]) < limits.poor * guess:
        return None
    top = max([rate for _, rate in rates] + [record.run.rate or 0.0])
    # each measured step stands for those until the next one
    ends = [step for step, _ in rates[1:]] + [max(len(record.losses), rates[-1][0] + 1)]
    low = sum(end - step for (step, rate), end in zip(rates, ends, strict=True) if rate < limits.left * top)
    share = low / max(ends[-1] - rates[0][0], 1)
    if share <= limits.share:
        return None
    warm = rates[-1][1] >= max(rate for _, rate in rates)
    way = "has not ended its warm-up" if warm else "has taken the rate away"
    return Finding(
        "learning_rate_too_low", "warning", 0.9,
        f"the schedule {record.run.schedule} {way}: in {share:.0%} of the steps so far (limit {limits.share:.0%}) the "
        f"rate was below {limits.left:.0%} of {top:.3g}, and it is {rates[-1][1]:.2g} now, while the loss stands at "
        f"{losses[-1]:.3g} (guessing: {guess:.3g}). Schedules count steps, not epochs.",
        {"share": share, "rate": rates[-1][1], "top": top, "limit": limits.share}, step=record.steps[-1].step,
        epoch=last_epoch(record),
        remedies=(
            Remedy("keep the rate as it is", f"model.optimizer.learning_rate = {top:g}", changes.rate(top)),
            Remedy("give the schedule the steps of the whole run"),
        ),
    )


@rule(
    "learning_rate_too_high", phase="epoch", grown=5.0, above=1.15, poor=0.2,
    why="Schedules raise the rate up to what they were given (warm-up, one cycle), not far beyond; a loss that rises "
    "again beside it follows the rate.",
    causes=("nan_in_data",),
)
def rate_grows(record: Record, limits: Any) -> Finding | None:
    """A schedule that raises the rate far beyond what it began with, and a loss that rises with it."""
    rates = [s.rate for s in record.steps if s.rate is not None]
    losses, guess = finite(data_losses(record)), chance(record)
    if record.run.schedule == "constant" or not rates or len(losses) < 3 or not guess or not record.run.rate:
        return None
    times = rates[-1] / record.run.rate
    best = min(losses)
    falls = any(b < a for a, b in zip(rates, rates[1:], strict=False))  # cycles come down again
    if times < limits.grown or falls or losses[-1] < limits.above * best:
        return None
    if losses[-1] < limits.poor * guess:
        return None
    return Finding(
        "learning_rate_too_high", "warning", 0.9,
        f"the schedule {record.run.schedule} has raised the rate to {rates[-1]:.3g}, {times:.3g} times the "
        f"{record.run.rate:.3g} that it was given (limit {limits.grown:g}), and the loss has risen from {best:.3g} to "
        f"{losses[-1]:.3g} with it.",
        {"rate": rates[-1], "times": times, "best": best, "level": losses[-1], "limit": limits.grown},
        step=record.steps[-1].step, epoch=last_epoch(record), remedies=(set_rate(record.run.rate),),
    )
