"""Rules about the loop itself: waiting for data, memory, gradients that stay, layers in the wrong mode."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import last_epoch
from deepbabysit.babysit.vitals import Record


@rule("slow_input", phase="epoch",
      why="> 30 % of the time spent waiting for data; less than a second in all is nobody's concern",
      share=0.3, seconds=1.0)
def slow_input(record: Record, limits: Any) -> Finding | None:
    """The loop waits for its data."""
    waiting = sum(e.waiting or 0.0 for e in record.epochs)
    working = sum(e.seconds or 0.0 for e in record.epochs)
    if waiting < limits.seconds or waiting / max(waiting + working, 1e-12) < limits.share:
        return None
    share = waiting / (waiting + working)
    return Finding(
        "slow_input", "warning", 0.9,
        f"the steps waited {waiting:.1f} s for data and worked {working:.1f} s: {share:.0%} of the time (limit "
        f"{limits.share:.0%}).",
        {"waiting": waiting, "working": working, "share": share, "limit": limits.share}, epoch=last_epoch(record),
        remedies=(Remedy("make batches ahead", "db.data.Loader(x, y, prefetch=4)"),
                  Remedy("load and augment once, and keep the arrays in memory")),
    )


@rule("memory_growth", phase="step",
      why="a graph that is kept alive grows by as many operations in every step; what a loop needs at once does "
          "not",
      growth=1.7, least=200, times=3)
def memory_growth(record: Record, limits: Any) -> Finding | None:
    """The graph of every step is kept alive."""
    counts = record.probes.get("alive", [])
    if len(counts) < limits.times:
        return None
    recent = counts[-int(limits.times) :]
    alive = [n for _, n in recent]
    # the steps between two counts double, and so does what is kept
    if alive[0] <= 0 or alive[-1] < limits.least:
        return None
    if not all(b > limits.growth * a for a, b in zip(alive, alive[1:], strict=False)):
        return None
    steps = recent[-1][0] - recent[0][0]
    each = (alive[-1] - alive[0]) / steps
    return Finding(
        "memory_growth", "warning", 0.9,
        f"{alive[-1]} operations of earlier steps are still kept at step {recent[-1][0] + 1}, {each:.0f} more in every "
        f"step: memory grows without end. Losses kept as tensors (in a list, or added up) keep their whole graph.",
        {"alive": alive[-1], "per_step": each, "limit": limits.growth}, step=recent[-1][0],
        remedies=(Remedy("keep numbers, not tensors", "losses.append(loss.item())"),
                  Remedy("cut what goes from step to step off its graph", "state = state.detach()")),
    )


@rule("missing_zero_grad", phase="step",
      why="the same gradient tensor went through two updates: what was added up stays in it",
      times=3)
def missing_zero_grad(record: Record, limits: Any) -> Finding | None:
    """Gradients add up from step to step."""
    kept = record.probes.get("gradients_kept")
    if not kept or kept["times"] < limits.times:
        return None
    return Finding(
        "missing_zero_grad", "error", 0.98,
        f"the gradients were not cleared in the last {kept['times']} steps (limit {limits.times:g}): each backward() "
        f"adds to what is there, so the update uses the sum over all steps so far (norm {kept['norm']:.3g}).",
        dict(kept), step=kept["step"],
        remedies=(Remedy("clear the gradients in every step, before backward()", "optimizer.zero_grad()"),),
    )


@rule("unchanged_weights", phase="step",
      why="gradients reach these weights, and no optimizer takes them: after `steps` steps they are the same, bit for "
          "bit. Frozen weights get no gradient, and those of a second optimizer change",
      steps=4)
def nobodys_weights(record: Record, limits: Any) -> Finding | None:
    """Weights that are to be trained and are in no optimizer."""
    seen = record.probes.get("unheld")
    if not seen or seen["steps"] < limits.steps:
        return None
    names = seen["names"]
    listed = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return Finding(
        "unchanged_weights", "warning", 0.95,
        f"{listed}: {seen['numbers']} of {seen['of']} numbers that are to be trained get gradients, but the optimizer "
        f"does not hold them; they did not change in {seen['steps']} steps (limit {limits.steps:g}). Layers that were "
        f"added after the optimizer was made are not in it.",
        dict(seen), layer=names[0].rpartition(".")[0] or None, step=seen["step"],
        remedies=(Remedy("make the optimizer of all parameters", "db.optimizers.Adam(model.parameters(), 1e-3)"),
                  Remedy("or freeze what is not to be trained", 'model.freeze("0")')),
    )


def _mode(record: Record, probe: str, limits: Any, sure: float, words: str, remedy: Remedy) -> Finding | None:
    """Return the finding about layers in the wrong mode, where a probe counted it often enough."""
    seen = record.probes.get(probe)
    if not seen or seen["times"] < limits.times:
        return None
    return Finding(
        "mode_bug", "warning", sure, words.format(times=seen["times"], limit=f"limit {limits.times:g}",
                                              layers=", ".join(seen["layers"])),
        dict(seen), step=seen["step"], remedies=(remedy,),
    )


@rule("mode_bug", phase="step",
      why="layers that behave differently in training (Dropout, BatchNorm) ran in inference mode in every step",
      times=5)
def untrained_mode(record: Record, limits: Any) -> Finding | None:
    """A hand-written loop trains in inference mode."""
    return _mode(
        record, "inference_steps", limits, 0.9,
        "{times} steps in a row ran in inference mode ({limit}), although {layers} behave differently in training: "
        "dropout drops nothing, batch normalization learns no statistics.",
        Remedy("train in training mode", "with db.training():\n    loss = loss_of(model(x), y)"),
    )


@rule("mode_bug", phase="step",
      why="evaluation with dropout and batch statistics measures another model than the one that is used later",
      times=1)
def evaluated_in_training(record: Record, limits: Any) -> Finding | None:
    """A hand-written loop evaluates in training mode."""
    return _mode(
        record, "evaluation_in_training", limits, 0.85,
        "{layers} ran in training mode without gradients, {times} times ({limit}): an evaluation in training mode. "
        "Dropout drops and batch statistics change there.",
        Remedy("evaluate in inference mode", "with db.no_grad():\n    model(x)  # outside of db.training()"),
    )
