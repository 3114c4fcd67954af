"""Rules about penalties, dropout and the batch: what holds a model back, or is missing."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import (
    adam,
    batches,
    slower,
    weaker_penalty,
)
from deepbabysit.babysit.rules.reach import reach
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import (
    chance,
    data_losses,
    finite,
    kernels,
    last_epoch,
    layer_of,
    update_ratios,
    usual_ratio,
)
from deepbabysit.babysit.rules.structure import rows_remembered
from deepbabysit.babysit.vitals import Record, StepVitals


def _pull(step: StepVitals) -> float | None:
    """Return norm of the penalties' gradient / norm of the data's, over the parameters that have a penalty."""
    held = [p for p in step.parameters.values() if p.penalty is not None and p.gradient is not None]
    if not held:
        return None
    penalty = math.sqrt(sum((p.penalty or 0.0) ** 2 for p in held))
    data = math.sqrt(sum(p.gradient.norm**2 for p in held if p.gradient is not None))
    return penalty / data if data > 0.0 and math.isfinite(data) else None


@rule("regularization_too_strong", phase="epoch",
      why="where the penalty's gradient is as large as the data's, even that of one noisy batch, weights follow the "
          "penalty and not the data; at the end of a good fit both are small, so the loss must be poor, too",
      pull=0.5, poor=0.05, looks=5)
def regularization_too_strong(record: Record, limits: Any) -> Finding | None:
    """The penalty outweighs the data."""
    if not (record.run.l1 or record.run.l2):
        return None
    samples = [s for s in record.steps if s.epoch == record.epochs[-1].epoch]
    if len(samples) < limits.looks:  # the gradient of one batch says little
        samples = record.steps[-int(limits.looks) :]
    pulls = [p for s in samples if (p := _pull(s)) is not None]
    losses, guess = finite(data_losses(record)), chance(record)
    if not pulls or not losses or not guess:
        return None
    pull, level = median(pulls), losses[-1]
    whole = record.logs("loss")[-1]
    share = (whole - level) / whole if whole > 0 and math.isfinite(whole) else 0.0
    if pull < limits.pull or level < limits.poor * guess:
        return None
    kind, value = ("L1", record.run.l1) if record.run.l1 >= record.run.l2 else ("L2", record.run.l2)
    weaker = value / 100.0
    confidence = 0.7 + 0.25 * min(math.log10(pull / limits.pull), 1.0)
    severe = level > 0.95 * guess and len(record.epochs) >= 2
    return Finding(
        "regularization_too_strong", "error" if severe else "warning", max(min(confidence, 0.97), 0.5),
        f"the gradient of the {kind} penalty (lambda {value:g}) is {pull:.2g} times that of the data (limit "
        f"{limits.pull:g}), and the penalty is {share:.0%} of the loss; the data loss stays at {level:.3g} (guessing: "
        f"{guess:.3g}). The weights follow the penalty, not the data. Try {weaker:g}.",
        {"pull": pull, "limit": limits.pull, "lambda": value, "penalty_share": share, "data_loss": level,
         "chance": guess},
        epoch=last_epoch(record),
        remedies=(
            weaker_penalty(kind, value),
            Remedy("leave the penalty out and use Dropout(0.2)", "db.layers.Dropout(0.2)",
                   changes.both(changes.penalty(0.0), changes.add_dropout(0.2))),
        ),
    )


@rule("regularization_too_strong", phase="epoch",
      why="the optimizer's weight decay takes rate * decay of every weight in a step; where that is a third of what a "
          "step changes at all and the loss is poor, the weights follow the decay (AdamW's usual 0.01 takes 1e-5 with "
          "1e-3)",
      pull=0.3, poor=0.2, epochs=2)
def decay_too_strong(record: Record, limits: Any) -> Finding | None:
    """Weight decay outweighs the data."""
    settings = record.run.optimizer_settings
    decay, momentum = settings.get("weight_decay") or 0.0, settings.get("momentum") or 0.0
    recent, losses, guess = record.steps[-5:], finite(data_losses(record)), chance(record)
    ratio, rate = usual_ratio(recent), recent[-1].rate if recent else None
    if not decay or not rate or not ratio or len(losses) < limits.epochs or not guess:
        return None
    taken = rate * decay / (1.0 - min(momentum, 0.99))
    if taken < limits.pull * ratio or losses[-1] < limits.poor * guess:
        return None
    weaker = float(f"{decay / 100.0:.1g}")
    return Finding(
        "regularization_too_strong", "warning", 0.8,
        f"weight decay {decay:g} takes {taken:.2g} of the weights in a step, {taken / ratio:.0%} of what a step "
        f"changes (limit {limits.pull:.0%}), and the loss stays at {losses[-1]:.3g} (guessing: {guess:.3g}). The "
        f"weights follow the decay, not the data. Try {weaker:g}.",
        {"taken": taken, "ratio": ratio, "limit": limits.pull, "weight_decay": decay, "level": losses[-1]},
        epoch=last_epoch(record),
        remedies=(Remedy(f"use weight decay {weaker:g}", f"weight_decay={weaker:g}", changes.penalty(0.01)),),
    )


@rule("regularization_too_strong", phase="check", told=0.15,
      why="the most that a smoothed label can tell is what lies between the loss of guessing and its own entropy: 78 % "
          "of ten classes with the usual 0.1 (Szegedy et al., 2016), 6 % with 0.8. Below `told` the loss asks for "
          "answers that are next to equal")
def smoothed_away(record: Record, limits: Any) -> Finding | None:
    """Label smoothing leaves next to nothing of the labels."""
    smoothing, classes = record.run.smoothing, record.run.classes or 0
    if not smoothing or classes < 2:
        return None
    other = smoothing / classes
    asked = [1.0 - smoothing + other, *[other] * (classes - 1)]
    told = 1.0 + sum(p * math.log(p) for p in asked if p > 0.0) / math.log(classes)
    if told > limits.told:
        return None
    return Finding(
        "regularization_too_strong", "warning", 0.95,
        f"label smoothing of {smoothing:g} leaves {told:.1%} of what labels of {classes} classes tell (limit "
        f"{limits.told:.0%}; usual: 0.1): the loss asks for {asked[0]:.2g} of the right class and {other:.2g} of each "
        f"other one, so next to nothing can be learned. Try 0.1.",
        {"smoothing": smoothing, "told": told, "limit": limits.told},
        remedies=(Remedy("smooth labels by 0.1 or less", 'db.losses.get("cross_entropy").with_(label_smoothing=0.1)'),),
    )


@rule("regularization_too_strong", phase="epoch",
      why="each unit begins with weights of length 1 (LeCun) to 1.4 (He), and they grow; limits of 2 to 4 are usual "
          "(Srivastava et al., 2014). Where a constraint holds them below `short`, signals and gradients shrink by "
          "that factor in every layer; one that changes them by more than `taken` of what it leaves in the first step "
          "forbids most of what could be learned (unit length: 0.4). Both do harm where the loss is poor only. One "
          "that leaves weights a single sign is no matter of strength (`rules.capacity`)",
      short=0.4, taken=0.6, poor=0.2, gap=0.05, epochs=2)
def held_short(record: Record, limits: Any) -> Finding | None:
    """A constraint holds the weights far shorter than any start draws them, or took most of the first ones away."""
    held = {layer.path: layer for layer in record.model.layers if layer.settings.get("constraint")}
    losses, guess, stand = finite(data_losses(record)), chance(record), reach(record)
    if not held or not record.steps or len(losses) < limits.epochs or not guess:
        return None
    if losses[-1] < limits.poor * guess and not (stand is not None and stand.below(limits.gap)):
        return None
    begun = update_ratios(record.steps[0]) if record.steps[0].step == 0 else {}
    found = []
    for p in kernels(record.steps[-1]):
        layer = held.get(layer_of(p.path))
        # what keeps weights on one side of 0 takes no length from them: that is a matter of what they can compute
        if layer is not None and layer.units and p.weight.minimum < 0.0 < p.weight.maximum:
            length, taken = p.weight.norm / math.sqrt(layer.units), begun.get(p.path, 0.0)
            if length < limits.short or taken > limits.taken:
                found.append((layer, length, taken))
    if not found:
        return None
    layer, length, taken = min(found, key=lambda item: item[1])
    return Finding(
        "regularization_too_strong", "warning", 0.9,
        f"the constraint {layer.settings['constraint']} holds the weights of {layer.path} at a length of {length:.2g} "
        f"for each unit (limit {limits.short:g}; fresh ones have 1 to 1.4) and changed them by {taken:.2g} of that in "
        f"the first step (limit {limits.taken:g}), and the loss stays at {losses[-1]:.3g} (guessing: {guess:.3g}). "
        f"Take it out, or allow a length of 3.",
        {"length": length, "taken": taken, "limit": limits.short, "layers": [la.path for la, *_ in found],
         "level": losses[-1]}, layer=layer.path, epoch=last_epoch(record),
        remedies=(Remedy("Take the constraints out.", "kernel_constraint=None", changes.unconstrained()),),
    )


@rule("dropout_too_high", phase="epoch",
      why="rates up to 0.5 are usual (Srivastava et al., 2014) and make the training loss the larger one; beyond, with "
          "a training loss still far from the bottom, they hold the model back",
      rate=0.55, above=1.3, poor=0.15, epochs=3)
def dropout_too_high(record: Record, limits: Any) -> Finding | None:
    """Dropout takes so much that the model cannot learn."""
    run = record.run
    if run.dropout <= limits.rate or len(record.epochs) < limits.epochs:
        return None
    train, val = finite(data_losses(record)), finite(record.logs("val_loss"))
    guess = chance(record)
    if not train or not guess or train[-1] < limits.poor * guess:
        return None
    above = train[-1] / val[-1] if val and val[-1] > 0 else None
    if above is not None and above < limits.above and train[-1] < 0.6 * guess:
        return None
    layer = next((la.path for la in record.model.layers if la.settings.get("rate") == run.dropout), None)
    return Finding(
        "dropout_too_high", "warning", 0.8,
        f"dropout of {run.dropout:g} (usual: 0.5 or less; limit {limits.rate:g}) leaves the training loss at "
        f"{train[-1]:.3g}" + (f", {above:.1f} times the validation loss" if above else "")
        + f"; guessing gives {guess:.3g}.",
        {"rate": run.dropout, "limit": limits.rate, "train": train[-1], "above": above}, layer=layer,
        epoch=last_epoch(record),
        remedies=(Remedy("lower dropout to 0.3", "db.layers.Dropout(0.3)", changes.dropout_at_most(0.3)),),
    )


@rule("batch_too_small", phase="epoch",
      why="the gradient noise scale (McCandlish et al., 2018) is the batch where noise and signal are equal; far below "
          "it steps are mostly noise. That does no harm at a small rate, so the loss must have stopped, poor, with "
          "steps "
          "that are not small",
      causes=("corrupted_labels",), ratio=30.0, batch=8, poor=0.15, epochs=3, progress=0.05, step=0.003)
def batch_too_small(record: Record, limits: Any) -> Finding | None:
    """The gradient of a batch is mostly noise, and the loss bounces."""
    batch = record.run.batch_size
    noise = [s.noise for s in record.steps[-8:] if s.noise is not None and math.isfinite(s.noise)]
    losses, guess = finite(data_losses(record)), chance(record)
    if not batch or batch > limits.batch or len(noise) < 3 or len(losses) < limits.epochs or not guess:
        return None
    scale, ratio = median(noise), usual_ratio(record.steps[-8:])
    best = min(losses[:-1])
    gain = (best - losses[-1]) / max(best, 1e-12)
    if scale < limits.ratio * batch or losses[-1] < limits.poor * guess or gain > limits.progress:
        return None
    if ratio is None or ratio < limits.step:
        return None
    return Finding(
        "batch_too_small", "warning", 0.65,
        f"the gradient noise scale is about {scale:.0f} samples, the batch has {batch} (limit: {limits.ratio:g} times "
        f"less), and the loss stands at {losses[-1]:.3g} with steps of {ratio:.2g} of the weights: they are mostly "
        f"noise.",
        {"noise_scale": scale, "batch": batch, "limit": limits.ratio, "level": losses[-1]}, epoch=last_epoch(record),
        remedies=(batches(32), slower(record)),
    )


@rule("batch_too_large", phase="epoch",
      why="far above the gradient noise scale a larger batch brings no better step, only fewer of them; with few steps "
          "per epoch the run ends before it has learned: the loss is poor (`left` of guessing), or the score lies "
          "`gap` and two standard errors below that of cheap models. A run that passed over its rows fewer than "
          "`passes` times was too short in the first place",
      steps=8, left=0.3, total=400, share=0.1, gap=0.04, passes=10)
def batch_too_large(record: Record, limits: Any) -> Finding | None:
    """So few steps per epoch that the epochs end before anything is learned."""
    run = record.run
    batch, steps, epochs = run.batch_size, run.steps, run.epochs
    losses, guess = finite(data_losses(record)), chance(record)
    if not (batch and steps and epochs and run.samples) or len(losses) < 2 or not guess:
        return None
    if steps > limits.steps or batch < 64 or batch < limits.share * run.samples or steps * epochs > limits.total:
        return None
    stand = reach(record)
    behind = stand is not None and stand.below(limits.gap, 2.0)
    if len(record.epochs) < 0.5 * epochs or (losses[-1] < limits.left * guess and not behind):
        return None
    if len(record.epochs) < limits.passes and steps > 1:
        return None
    noise = [s.noise for s in record.steps[-8:] if s.noise is not None and math.isfinite(s.noise)]
    scale = median(noise) if noise else None
    if scale is not None and scale > batch:
        return None
    return Finding(
        "batch_too_large", "warning", 0.75,
        f"batches of {batch} make {steps} steps per epoch, {steps * epochs} in the whole run (limit {limits.total:g})"
        + ("" if scale is None else f"; the gradient noise scale is about {scale:.0f} samples, so "
                                         "smaller ones do as well")
        + f". After {len(losses)} epochs the loss is {losses[-1]:.3g} (guessing: {guess:.3g}).",
        {"batch": batch, "steps": steps, "noise_scale": scale, "level": losses[-1]}, epoch=last_epoch(record),
        remedies=(batches(32), _with_batch(record)),
    )


def _with_batch(record: Record) -> Remedy:
    """Raise the rate as the root of how far the batch is above 32 (Krizhevsky, 2014)."""
    batch, rate = record.run.batch_size, record.run.rate
    words = "raise the learning rate with the batch (times the root of its growth)"
    if not batch or not rate:
        return Remedy(words)
    value = float(f"{rate * math.sqrt(max(batch / 32.0, 1.0)):.2g}")
    return Remedy(f"{words}: to {value:g}", f"model.optimizer.learning_rate = {value:g}", changes.rate(value))


@rule("wrong_optimizer", phase="end",
      why="only a counterfactual can tell: the same run for a short while with Adam 1e-3 is far better",
      better=0.5)
def wrong_optimizer(record: Record, limits: Any) -> Finding | None:
    """A short run on the side with Adam did far better."""
    probe = record.probes.get("other_optimizer")
    if not probe or not probe.get("own") or not math.isfinite(probe.get("other", math.nan)):
        return None
    share = probe["other"] / probe["own"]
    if share > limits.better:
        return None
    return Finding(
        "wrong_optimizer", "warning", 0.8,
        f"{probe.get('name', 'Adam')} reached a loss of {probe['other']:.3g} in as many steps as "
        f"{record.run.optimizer} "
        f"took to {probe['own']:.3g} ({share:.0%}; limit {limits.better:.0%}).",
        {**probe, "share": share, "limit": limits.better},
        remedies=(adam(),),
    )


@rule("batchnorm_misuse", phase="end",
      why="running statistics weigh the old value with the momentum: after n steps momentum^n of the start is left, "
          "and inference uses them",
      left=0.05, gap=2.0, poor=0.2)
def lagging_statistics(record: Record, limits: Any) -> Finding | None:
    """Running statistics still hold much of their start, and validation suffers from it."""
    steps = len(record.losses)
    layers = [la for la in record.model.layers if la.kind.startswith("BatchNorm")]
    train, val, guess = finite(data_losses(record)), finite(record.logs("val_loss")), chance(record)
    if not layers or not train or not val or not guess:
        return None
    worst = max(layers, key=lambda la: float(la.settings.get("momentum", 0.99)))
    momentum = float(worst.settings.get("momentum", 0.99))
    left = momentum**steps
    if left < limits.left or val[-1] < limits.gap * train[-1] or val[-1] - train[-1] < limits.poor * guess:
        return None
    return Finding(
        "batchnorm_misuse", "warning", 0.8,
        f"after {steps} steps the running statistics of {worst.path} still hold {left:.0%} of their start (momentum "
        f"{momentum:g}; limit {limits.left:.0%}), so validation ({val[-1]:.3g}) is far worse than training "
        f"({train[-1]:.3g}).",
        {"left": left, "momentum": momentum, "steps": steps, "limit": limits.left}, layer=worst.path,
        epoch=last_epoch(record),
        remedies=(Remedy("lower the momentum of the statistics", "db.layers.BatchNorm(momentum=0.9)",
                         changes.momentum(0.9)), Remedy("train longer, or in smaller batches")),
    )


@rule("batchnorm_misuse", phase="end",
      why="mean and variance of `batch` rows or fewer are mostly noise (Wu and He, 2018: errors grow from 16 rows "
          "down), and so are running statistics that remember no more than `remembered` rows; that is only noted "
          "before a run, and is what is wrong where the run then falls behind by `gap` and three standard errors, or "
          "loses `dear` of guessing",
      batch=4, remembered=24, gap=0.05, dear=0.12)
def noisy_statistics(record: Record, limits: Any) -> Finding | None:
    """Batch statistics of a few rows, in a run that fell behind."""
    norms = [la for la in record.model.layers if la.kind.startswith("BatchNorm")]
    batch, stand = record.run.batch_size, reach(record)
    if not norms or not batch or stand is None:
        return None
    if not stand.below(limits.gap) and not (stand.dear or 0.0) > limits.dear:
        return None
    norm = min(norms, key=lambda la: rows_remembered(la, batch))
    kept = rows_remembered(norm, batch)
    if batch > limits.batch and kept < limits.remembered:
        momentum = float(norm.settings.get("momentum", 0.99))
        return Finding(
            "batchnorm_misuse", "warning", 0.85,
            f"with momentum {momentum:g} and batches of {batch} the running statistics of layer {norm.path} remember "
            f"about {kept:.0f} rows (limit {limits.remembered:g}): inference normalizes with the noise of the last "
            f"batch, and {stand.words()}. The momentum weighs the old value here; use 0.9.",
            {"rows": kept, "momentum": momentum, "batch_size": batch, "limit": limits.remembered}, layer=norm.path,
            epoch=last_epoch(record),
            remedies=(Remedy("Remember more rows.", "db.layers.BatchNorm(momentum=0.9)", changes.both(
                changes.momentum(0.9), changes.fields(batch_size=max(batch, 32)))), batches(32)),
        )
    flat = [la for la in norms if la.settings.get("positions", 1) == 1]
    if not flat or batch > limits.batch:
        return None
    norm = flat[0]
    return Finding(
        "batchnorm_misuse", "warning", 0.85,
        f"layer {norm.path} normalizes over batches of {batch} rows (limit {int(limits.batch)}), whose mean and "
        f"variance are mostly noise, and {stand.words()}. Use larger batches, or LayerNorm.",
        {"batch_size": batch, "limit": int(limits.batch)}, layer=norm.path, epoch=last_epoch(record),
        remedies=(batches(32), Remedy("or normalize over features", "db.layers.LayerNorm()",
                                      changes.layer_norm(norm.path))),
    )
