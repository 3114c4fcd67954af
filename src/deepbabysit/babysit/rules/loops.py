"""Rules about the loop itself: waiting for data, memory, gradients that stay, layers in the wrong mode."""

from __future__ import annotations

from typing import Any

from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import last_epoch, usual_ratio
from deepbabysit.babysit.vitals import Record


@rule("slow_input", phase="epoch",
      why="> 30 % of the time spent waiting for data; less than a second in all is nobody's concern, nor is the first "
          "batch, for which files are opened. What is read before the first step is held against the whole planned run",
      share=0.3, seconds=1.0)
def slow_input(record: Record, limits: Any) -> Finding | None:
    """The loop waits for its data."""
    loop = record.probes.get("waits", {})
    epochs = len(record.epochs) if loop or record.stopped else max(record.run.epochs or 0, len(record.epochs))
    ahead = 1.0 if loop else epochs / max(len(record.epochs), 1)
    waiting = loop.get("waiting", 0.0) + sum(e.waiting or 0.0 for e in record.epochs)
    waiting = max(waiting - record.probes.get("stall", 0.0), 0.0)
    working = loop.get("working", 0.0) + loop.get("apart", 0.0) + sum(e.seconds or 0.0 for e in record.epochs)
    reading = record.probes.get("reading") or 0.0
    lost, all_ = reading + ahead * waiting, reading + ahead * (waiting + working)
    share = lost / max(all_, 1e-12)
    if reading + waiting < limits.seconds or share < limits.share:
        return None
    parts = [f"reading the rows one by one took {reading:.1f} s before the first step"] if reading > waiting else []
    if waiting > 0.1 * reading:
        parts.append(f"the steps waited {waiting:.1f} s for data")
    return Finding(
        "slow_input", "warning", 0.9,
        f"{' and '.join(parts)}, and the steps worked {working:.1f} s: {share:.0%} of the time"
        + (f" of {epochs} epochs" if epochs > 1 and ahead > 1.0 else "") + f" (limit {limits.share:.0%}).",
        {"waiting": waiting, "reading": reading, "working": working, "share": share, "limit": limits.share},
        epoch=last_epoch(record), step=loop.get("step"),
        remedies=(
            Remedy("read all rows at once, and keep them as an array", 'np.save("x.npy", x); x = np.load("x.npy")'),
            Remedy("make batches ahead while the steps work", "db.data.Loader(x, y, prefetch=4)"),
        )[:: 1 if reading > waiting else -1],
    )


@rule("memory_growth", phase="step",
      why="a graph that is kept alive grows by as many operations from step to step, however long the run; what a loop "
          "needs at once does not, and what is made once (a cache) stops",
      each=0.5, alike=0.6, least=64, times=3)
def memory_growth(record: Record, limits: Any) -> Finding | None:
    """The graphs of earlier steps are kept alive."""
    counts = record.probes.get("alive", [])
    if len(counts) < limits.times:
        return None
    recent = counts[-int(limits.times) :]
    alive = [n for _, n in recent]
    grown = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(recent, recent[1:], strict=False)]
    if alive[-1] < limits.least or min(grown) < max(limits.each, limits.alike * max(grown)):
        return None
    each = (alive[-1] - alive[0]) / (recent[-1][0] - recent[0][0])
    return Finding(
        "memory_growth", "warning", 0.9,
        f"{alive[-1]} operations of earlier steps are still kept at step {recent[-1][0] + 1}, {each:.3g} more in every "
        f"step: memory grows without end. Losses kept as tensors (in a list, or added up) keep their whole graph.",
        {"alive": alive[-1], "per_step": each, "limit": limits.each}, step=recent[-1][0],
        remedies=(Remedy("keep numbers, not tensors", "losses.append(loss.item())"),
                  Remedy("cut what goes from step to step off its graph", "state = state.detach()")),
    )


@rule("missing_zero_grad", phase="step",
      why="the same gradient tensor went through two updates, and was not empty when backward() came to it: what was "
          "added up stays in it. It need not be so in every step, nor for every tensor",
      times=3)
def missing_zero_grad(record: Record, limits: Any) -> Finding | None:
    """Gradients add up from step to step."""
    kept = record.probes.get("gradients_kept")
    if not kept or kept["times"] < limits.times or not kept["sure"]:
        return None
    names = kept["names"]
    some = "" if len(names) == kept["of"] else (
        f" of {', '.join(names[:4])}{', ...' if len(names) > 4 else ''} ({len(names)} of {kept['of']} tensors)")
    return Finding(
        "missing_zero_grad", "error", 0.98,
        f"the gradients{some} were not cleared in {kept['times']} steps (limit {limits.times:g}): each backward() "
        f"adds to what is there, so the update uses the sum over several steps (norm {kept['norm']:.3g}).",
        dict(kept), layer=names[0].rpartition(".")[0] or None if some else None, step=kept["step"],
        remedies=(Remedy("clear all gradients in every step, before backward()", "optimizer.zero_grad()"),) if not some
        else (Remedy("clear all gradients of the model in every step, with the optimizer that holds all of them",
                     "optimizer.zero_grad()"),),
    )


@rule("missing_zero_grad", phase="step",
      why="an update without a backward pass since the last one uses its gradients once more: nobody cleared them in "
          "between, or there would be nothing to update from",
      times=2)
def gradients_used_again(record: Record, limits: Any) -> Finding | None:
    """Several updates are made from the same gradients."""
    seen = record.probes.get("reused")
    if not seen or seen["times"] < limits.times:
        return None
    return Finding(
        "missing_zero_grad", "warning", 0.9,
        f"{seen['updates']} updates were made in a step for which gradients arrived {seen['arrived']} time"
        f"{'s' * (seen['arrived'] > 1)} ({seen['times']} of {seen['looks']} steps looked at, limit {limits.times:g}): "
        f"the same gradients are used again, which makes each step {seen['updates'] / seen['arrived']:g} times as "
        f"large. One optimizer.step() belongs to one backward(), and zero_grad() to each.",
        dict(seen), step=seen["step"],
        remedies=(Remedy("call the optimizer once after each backward(), then clear",
                         "loss.backward(); optimizer.step(); optimizer.zero_grad()"),),
    )


@rule("wrong_optimizer", phase="step",
      why="weights lie in the memory of the optimizer that took them last. Where they move to another one in nearly "
          "every step, optimizers are made in the loop: each begins with empty moments, at the start of its schedule. "
          "A few changes are restarts",
      times=8, part=0.9)
def made_in_the_loop(record: Record, limits: Any) -> Finding | None:
    """An optimizer is made anew in every step."""
    seen = record.probes.get("taken")
    if not seen or seen["steps"] < limits.times:
        return None
    anew = seen["times"] >= limits.part * seen["steps"]
    return Finding(
        "wrong_optimizer", "warning" if anew and seen["states"] else "note", 0.9 if anew else 0.5,
        f"since step {seen['step'] + 1} the weights are in the hands of other optimizers than the "
        f"{record.run.optimizer} that is watched, of {seen['times']} in {seen['steps']} steps" + (
            f" (limit {limits.part:.0%} of them): one is made in each step. What it keeps from step to step (moments, "
            f"the place in its schedule) is lost each time." if anew else
            ". What they do to the weights is not measured: watch the one that makes the updates."),
        {**seen, "limit": limits.part}, step=seen["step"],
        remedies=(Remedy("make the optimizer once, before the loop",
                         "optimizer = db.optimizers.Adam(model.parameters(), 1e-3)"),),
    )


@rule("loss_reduction_sum", phase="step",
      why="the derivative of the loss by the losses of its rows: 1 / n in a mean, 1 in a sum. A sum harms where the "
          "rate was meant for a mean, which shows in a first step that is a large part of the weights (with means SGD "
          "0.05 changed them by at most 1.7 % in 16 tasks, with sums by 4 % and more)",
      factor=0.5, ratio=0.025)
def summed_loss(record: Record, limits: Any) -> Finding | None:
    """The loss of a hand-written loop is a sum over the batch."""
    seen = record.probes.get("reduction")
    ratio = usual_ratio(record.steps[:1])  # later ones hold momentum
    if not seen or seen["factor"] < limits.factor or ratio is None:
        return None
    rows, harm = seen["rows"], ratio > limits.ratio
    return Finding(
        "loss_reduction_sum", "warning" if harm else "note", 0.9 if harm else 0.6,
        f"the loss is a sum over a batch of {rows} rows: it goes with {seen['factor']:.3g} times the loss of each "
        f"row (a mean: {1.0 / rows:.3g}, limit {limits.factor:g}), so gradients are {rows} times those of a mean and "
        f"grow with the batch; the first step changed the weights by {ratio:.2g} of their norm (usual 0.001, limit "
        f"{limits.ratio:g}).",
        {**seen, "ratio": ratio, "limit": limits.factor, "ratio_limit": limits.ratio}, step=0,
        remedies=(Remedy("take the mean over the rows", "loss = losses.mean()"),
                  Remedy("or divide the rate by the rows of a batch")),
    )


@rule("double_softmax", phase="step", times=1,
      why="the graph of a hand-written loop's loss shows that a loss of logits stands on a softmax or sigmoid")
def loss_of_probabilities(record: Record, limits: Any) -> Finding | None:
    """A loss of logits is given probabilities by a hand-written loop."""
    seen = record.probes.get("stacked")
    if not seen:
        return None
    return Finding(
        "double_softmax", "error", 0.95,
        f"the loss takes logits and applies its own, and it was given the result of a {seen[1]}: 2 times, limit "
        f"{int(limits.times)}. The loss cannot come near 0, and gradients are small. Leave one of the two out.",
        {"loss": seen[0], "activation": seen[1], "limit": int(limits.times)}, step=0,
        remedies=(Remedy("give the loss what the last layer computes before its activation",
                         "db.losses.cross_entropy(y, logits)"),),
    )


@rule("loss_shape_mismatch", phase="step",
      why="outputs (n, 1) and targets (n,) broadcast to (n, n): each output is compared with every target")
def broadcast_loss(record: Record, limits: Any) -> Finding | None:
    """A hand-written loss compares every row with every other."""
    seen = record.probes.get("broadcast")
    if not seen:
        return None
    return Finding(
        "loss_shape_mismatch", "error", 0.95,
        f"the loss compares outputs of shape {seen[0]} with targets of shape {seen[1]}: they broadcast, so each output "
        f"is drawn to all targets at once, which is their mean. Give both one shape.",
        {"output": seen[0], "targets": seen[1], "limit": "one shape"}, step=0,
        remedies=(Remedy("give both one shape", "y = y.reshape(-1, 1)"),),
    )


@rule("corrupted_labels", phase="end",
      why="a loop whose loss stands where guessing among equally frequent classes puts it, while the weights move as "
          "they do in any run: what is to be learned is not in these pairs. Steps of 0.03 % of the weights and more "
          "are no crawl (usual 0.1 %)",
      causes=("missing_zero_grad", "unchanged_weights", "output_ignores_input", "wrong_gradient", "batch_leak",
              "double_softmax", "loss_shape_mismatch", "mode_bug", "loss_reduction_sum", "nan_loss"),
      steps=100, ratio=3e-4, below=0.97, above=1.15)
def pairs_that_tell_nothing(record: Record, limits: Any) -> Finding | None:
    """A hand-written loop learns nothing, although its weights move."""
    guess, curve = record.probes.get("guessing"), record.curve()
    ratio = usual_ratio(record.steps[-4:])
    if not guess or len(curve) < limits.steps or ratio is None or ratio < limits.ratio:
        return None
    quarter = len(curve) // 4
    before, now = float(curve[quarter : 2 * quarter].mean()), float(curve[-quarter:].mean())
    if not limits.below * max(guess, before) <= now <= limits.above * guess:
        return None
    return Finding(
        "corrupted_labels", "warning", 0.75,
        f"after {len(curve)} steps the loss stands at {now:.4g}, where guessing puts it ({guess:.4g}, limit "
        f"{limits.below:g} of it), no lower than in the second quarter ({before:.4g}), while each step changes the "
        f"weights by {ratio:.2g} of their norm. Inputs and labels hardly belong together: shuffled apart, or shifted.",
        {"level": now, "guessing": guess, "before": before, "ratio": ratio, "limit": limits.below}, step=len(curve) - 1,
        remedies=(Remedy("take rows of inputs and labels by the same numbers", "rows = order[i:j]; x[rows], y[rows]"),
                  Remedy("look at some pairs of a batch as the loop makes it")),
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


@rule("unchanged_weights", phase="step",
      why="updates were made, something else than the optimizer wrote the weights last, and each step begins with the "
          "same bits as the one before",
      times=2)
def weights_put_back(record: Record, limits: Any) -> Finding | None:
    """Something puts the old weights back after each update."""
    seen = record.probes.get("put_back")
    if not seen or seen["times"] < limits.times:
        return None
    return Finding(
        "unchanged_weights", "error", 0.97,
        f"{seen['times'] + 1} steps began with the same weights, bit for bit (limit {limits.times:g} times the same), "
        f"although updates were made between: an assignment puts the old weights back, so nothing is learned.",
        dict(seen), step=seen["step"],
        remedies=(Remedy("keep the weights right before they are exchanged, and give those back",
                         "kept = [w.copy() for w in model.get_weights()]"),),
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


@rule("mode_bug", phase="step",
      why="a forward pass in training mode whose output no backward pass comes to is an evaluation: its rows move the "
          "running statistics, and dropout spoils its numbers",
      times=3)
def tried_in_training(record: Record, limits: Any) -> Finding | None:
    """A hand-written loop tries rows in training mode, on the tape."""
    return _mode(
        record, "idle_passes", limits, 0.85,
        "in {times} steps ({limit}) the model ran in training mode for outputs that no backward() came to, with "
        "{layers} in it: an evaluation in training mode. Dropout drops and batch statistics change there.",
        Remedy("evaluate in inference mode", "with db.no_grad():\n    model(x)  # outside of db.training()"),
    )
