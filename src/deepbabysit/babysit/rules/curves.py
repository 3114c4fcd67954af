"""Rules about the curves of a run: not learning, oscillating, overfitting, stopping too early."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.remedies import (
    adam,
    batches,
    longer,
    slower,
    split_again,
    wider,
)
from deepbabysit.babysit.rules.data import otherwise
from deepbabysit.babysit.rules.reach import reach, yardstick_of
from deepbabysit.babysit.rules.rule import rule
from deepbabysit.babysit.rules.signals import (
    accuracy,
    chance,
    classified,
    data_losses,
    finite,
    finite_curve,
    first_level,
    good_from_the_start,
    knows_classes,
    lagging,
    last_epoch,
    last_level,
    promised,
    steady_rate,
    warming,
)
from deepbabysit.babysit.vitals import Record

STUCK = (
    "learning_rate_too_high", "learning_rate_too_low", "vanishing_gradient", "dead_relu", "saturated_activation",
    "regularization_too_strong", "symmetric_init", "bad_init_scale", "input_not_normalized", "wrong_loss_for_output",
    "missing_output_activation", "double_softmax", "output_ignores_input", "corrupted_labels", "unchanged_weights",
    "dropout_too_high", "wrong_optimizer", "nan_loss", "loss_diverging", "exploding_gradient",
    "missing_hidden_activation", "bad_bias_init", "target_not_normalized", "input_normalized_twice",
    "unstable_activation_scale", "one_unit_softmax", "target_out_of_range", "batchnorm_misuse", "nan_in_data",
    "conflicting_labels", "nan_in_layer", "wrong_gradient", "batch_leak", "split_drift", "class_imbalance",
    "unshuffled_rows",
)
# what makes a run slow, so that it is still falling when it ends
_SLOW = (
    "learning_rate_too_low", "batchnorm_misuse", "batch_too_large", "wrong_optimizer", "vanishing_gradient",
    "saturated_activation", "regularization_too_strong", "dropout_too_high", "symmetric_init", "bad_init_scale",
    "bad_bias_init", "unstable_activation_scale", "input_not_normalized", "input_normalized_twice",
    "target_not_normalized", "missing_hidden_activation", "double_softmax", "one_unit_softmax",
    "wrong_loss_for_output", "missing_output_activation", "unchanged_weights", "class_imbalance", "constant_feature",
)
_BY_HEART = Remedy("see whether the model can fit 32 rows at all", "model.fit(x[:32], y[:32], epochs=200)")
_ALIGN = Remedy("see that labels belong to their rows")


def _falling(record: Record) -> Remedy:
    """Let the rate fall over the run."""
    run = record.run
    steps = (run.steps or 0) * (run.epochs or 0)
    text = f"db.schedules.cosine({run.rate or 1e-3:g}, {steps or 'steps'})"
    return Remedy("let the rate fall", text, changes.cosine(steps) if steps and run.schedule == "constant" else None)


@rule("not_learning", phase="epoch",
      why="< 0.1 % per 10 steps (AUTOTRAINER); over whole epochs that is 2 % from the start; a model that begins well "
          "(fine-tuning) has nothing to fall, and one that is at `known` of guessing knows something",
      causes=STUCK, gain=0.02, epochs=2, steps=60, known=0.6)
def not_learning(record: Record, limits: Any) -> Finding | None:
    """The loss does not leave its start."""
    losses = finite(data_losses(record))
    curve = finite_curve(record)
    if len(losses) < limits.epochs or len(curve) < limits.steps or warming(record):
        return None
    start, guess = first_level(curve, record.run.batch_size), chance(record)
    now = min(losses + finite(record.logs("val_loss")))  # dropout hides progress in the training loss
    if not start or start <= 0 or start < 0.5 * (record.run.chance or 0.0):
        return None
    # the first steps may lie far above guessing; what was learned is measured from whichever is lower
    level = min(start, guess) if guess else start
    gain = (level - now) / level
    if gain > limits.gain or (guess and now < limits.known * guess):
        return None
    late = last_level(curve, max(len(curve) // 5, 10))
    if late is not None and (level - late) / level > limits.gain:
        return None
    severe = len(losses) >= 4 and len(curve) >= 4 * limits.steps
    return Finding(
        "not_learning", "error" if severe else "warning", 0.9 if severe else 0.75,
        f"after {len(losses)} epochs ({len(curve)} steps) the loss is {losses[-1]:.4g}; it began at {start:.4g}"
        + (f", guessing gives {guess:.4g}" if guess else "")
        + f". It has fallen by {max(gain, 0.0):.1%} (limit {limits.gain:.0%}): nothing is learned.",
        {"start": start, "level": losses[-1], "chance": guess, "gain": gain, "limit": limits.gain},
        epoch=last_epoch(record),
        remedies=(_BY_HEART, adam(), *((slower(record),) if record.run.rate else ()), _ALIGN),
    )


@rule("oscillating_loss", phase="epoch",
      why="turning points in more than half of the epochs with a swing of 20 % of the level (AUTOTRAINER: swing in >= "
          "20 "
          "% of the epochs), and no progress; schedules that cycle are left out",
      causes=("learning_rate_too_high", "batch_too_small", "exploding_gradient", "input_not_normalized",
              "unshuffled_rows"),
      turns=0.5, swing=0.2, epochs=8, progress=0.05, poor=0.2)
def oscillating_loss(record: Record, limits: Any) -> Finding | None:
    """The training loss goes up and down without getting lower."""
    losses = finite(data_losses(record))
    if len(losses) < limits.epochs or not steady_rate(record.run):
        return None
    recent = losses[-8:]
    steps = [b - a for a, b in zip(recent, recent[1:], strict=False)]
    turns = sum(a * b < 0 for a, b in zip(steps, steps[1:], strict=False)) / max(len(steps) - 1, 1)
    level = fmean(recent)
    swing = fmean(abs(s) for s in steps) / max(level, 1e-12)
    half = len(recent) // 2
    gain = (fmean(recent[:half]) - fmean(recent[half:])) / max(fmean(recent[:half]), 1e-12)
    guess = chance(record)
    if turns < limits.turns or swing < limits.swing or gain > limits.progress:
        return None
    held = finite(record.logs("val_loss"))[-4:]
    if guess and min(level, fmean(held) if held else level) < limits.poor * guess:
        return None  # noise of dropout, batch statistics or small batches on top of something that is learned
    return Finding(
        "oscillating_loss", "warning", 0.75,
        f"the training loss turned {turns:.0%} of the last {len(recent)} epochs (limit {limits.turns:.0%}), by "
        f"{swing:.0%} of its level each time (limit {limits.swing:.0%}), and got {max(gain, 0):.0%} lower.",
        {"turns": turns, "swing": swing, "gain": gain}, epoch=last_epoch(record),
        remedies=(slower(record), batches(4 * (record.run.batch_size or 32)), _falling(record)),
    )


@rule("underfitting", phase="end",
      why="small gap, poor on both, and no longer falling: the model is too small, or held back; poor is measured "
          "against guessing; numbers to be predicted often hold much noise, so there it must be near guessing",
      causes=("not_learning", "stopped_too_early", "batch_too_large", "class_collapse", *STUCK),
      poor=0.4, numbers=0.9, gap=0.25, better=0.75, falling=0.02, epochs=5)
def underfitting(record: Record, limits: Any) -> Finding | None:
    """Training and validation are equally poor."""
    stand = reach(record)
    if stand is not None and not stand.short:
        return None  # more is not in these data
    train, val = finite(data_losses(record)), finite(record.logs("val_loss"))
    guess = chance(record)
    if len(train) < limits.epochs or not guess:
        return None
    now = fmean(train[-2:])
    held = fmean(val[-2:]) if len(val) >= 2 else None
    poor = limits.poor if classified(record) else limits.numbers
    slope = (fmean(train[-4:-2]) - now) / max(fmean(train[-4:-2]), 1e-12)
    if min(now, now if held is None else held) < poor * guess or slope > limits.falling:
        return None
    if held is not None and (held - now > limits.gap * now or held < limits.better * now):
        return None  # a gap, or training rows that are harder than others: something else than a lack of capacity
    return Finding(
        "underfitting", "warning", 0.65,
        f"the training loss stays at {now:.4g}, {now / guess:.0%} of guessing ({guess:.4g}; limit {poor:.0%})"
        + ("" if held is None else f", and the validation loss at {held:.4g}, so there is no gap")
        + f"; it fell by {max(slope, 0):.1%} per 2 epochs. The model cannot fit even the training rows.",
        {"train": now, "val": held, "chance": guess, "limit": poor}, epoch=last_epoch(record),
        remedies=(wider(), Remedy("take dropout and penalties out", apply=changes.both(
            changes.dropout_at_most(0.0), changes.penalty(0.0))), _BY_HEART),
    )


@rule("stopped_too_early", phase="end",
      why="what as many epochs again would bring, if losses go on falling as they did in the second half: of sound "
          "runs at most 0.08 of guessing (0.04 of numbers), as they end where little is left to be gained. Of runs "
          "that are `gap` and three standard errors below cheap models `some` is enough, and `little` where "
          "fewer than `steps` steps were made and every epoch of the second half was better",
      causes=_SLOW, much=0.09, numbers=0.06, some=0.03, little=0.01, steps=150, gap=0.05)
def stopped_too_early(record: Record, limits: Any) -> Finding | None:
    """The loss was still falling when the run ended."""
    promise, stand, guess = promised(record), reach(record), chance(record)
    if promise is None or not guess or record.stopped not in ("epochs", "") and "early" not in record.stopped:
        return None
    train, val = finite(data_losses(record)), finite(record.logs("val_loss"))
    watched = val if len(val) == len(train) else train
    behind = stand is not None and stand.below(limits.gap)
    enough = limits.much if classified(record) else limits.numbers
    rising = any(b >= a for c in (train, val) for a, b in zip(c[len(c) // 2 :], c[len(c) // 2 + 1 :], strict=False))
    limit = enough if not behind else limits.some if rising or len(record.losses) > limits.steps else limits.little
    if promise < limit or watched.index(min(watched)) < 0.9 * len(watched) - 2:
        return None
    words = f", and {stand.words()}" if behind and stand is not None else ""
    return Finding(
        "stopped_too_early", "warning", 0.75 + 0.2 * min(promise / limits.much, 1.0) * behind,
        f"the loss was still falling at the end, down to {watched[-1]:.4g}: as many epochs again would take off "
        f"{promise:.0%} of guessing ({guess:.4g}; limit {limit:.0%}), as the second half of the {len(train)} epochs "
        f"tells{words}.",
        {"promise": promise, "level": watched[-1], "limit": limit, "alone": promise > enough},
        epoch=last_epoch(record),
        remedies=(longer(2 * len(train)), Remedy("give EarlyStopping more patience")),
    )


@rule("stopped_too_early", phase="end",
      why="of a run of few epochs the losses of the steps tell: the last quarter is lower than the one before by a "
          "large part of all progress and by more than twice the noise of both; or the last epoch made the "
          "validation loss lower by as much",
      causes=_SLOW, share=0.15, epochs=5, left=0.3, noise=2.0, steps=6)
def few_epochs(record: Record, limits: Any) -> Finding | None:
    """A run of few epochs ended while the loss was still falling."""
    curve, planned, guess = finite_curve(record), len(record.epochs), chance(record)
    if not 0 < planned < limits.epochs or record.stopped not in ("epochs", "") or not guess:
        return None
    if len(curve) < max(limits.steps, len(record.losses)) or good_from_the_start(record):
        return None
    width = max(len(curve) // 4, 2)
    before, late = curve[-2 * width : -width], curve[-width:]
    gain = float(before.mean() - late.mean())
    noise = math.sqrt((float(before.var()) + float(late.var())) / width)
    start = first_level(curve, record.run.batch_size) or float(before.mean())
    whole = max(start, float(before.mean())) - float(late.mean())
    val = finite(record.logs("val_loss"))
    level = min([float(late.mean()), *val[-1:]])
    falls = gain >= limits.share * whole and gain >= limits.noise * noise
    held = len(val) > 1 and val[-1] < (1.0 - limits.share) * val[-2]
    if not (falls or held) or whole <= 0 or level < limits.left * guess or (val and val[-1] > 1.05 * min(val)):
        return None
    return Finding(
        "stopped_too_early", "warning", 0.75,
        f"the loss was still falling at the end: of {len(curve)} steps the last {width} brought {gain / whole:.0%} of "
        f"all progress (limit {limits.share:.0%}), down to {level:.4g} (guessing: {guess:.4g}).",
        {"gain": gain, "share": gain / whole, "noise": noise, "limit": limits.share}, epoch=last_epoch(record),
        remedies=(longer(10 * planned),),
    )


@rule("suspicious_validation", phase="epoch",
      why="the running mean of an epoch lags behind, and dropout, augmentation and penalties make training look worse: "
          "without these, validation that stays at less than 60 % of the training loss is another kind of data",
      causes=("split_leak", "split_drift"), share=0.5, epochs=8, times=3)
def suspicious_validation(record: Record, limits: Any) -> Finding | None:
    """Validation is far better than training, and nothing explains it."""
    train, val = data_losses(record), record.logs("val_loss")
    run = record.run
    if len(val) != len(train) or len(val) < limits.epochs or run.dropout or run.augmented or run.weighted:
        return None
    if any(layer.kind.startswith("BatchNorm") for layer in record.model.layers):
        return None  # the noise of batch statistics is in the training loss only
    count = int(limits.times)
    if len(finite(val + train)) < 2 * len(val) or train[-1 - count] - train[-1] > 0.3 * train[-1]:
        return None
    guess = chance(record)
    if guess and train[-1] < 0.2 * guess:
        return None
    pairs = list(zip(val[-count:], train[-count:], strict=True))
    if not all(v < limits.share * t for v, t in pairs):
        return None
    ratio = fmean(v / t for v, t in pairs)
    return Finding(
        "suspicious_validation", "warning", 0.75,
        f"in the last {count} epochs the validation loss was {ratio:.0%} of the training loss (limit "
        f"{limits.share:.0%}), and neither dropout nor augmentation explains it. The validation rows may be easier, or "
        f"copies of training rows.",
        {"ratio": ratio, "limit": limits.share}, epoch=last_epoch(record),
        remedies=(split_again(),),
    )


@rule("no_better_than_baseline", phase="end",
      why="the best loss of the run is that of a guess that knows nothing but the targets' mean or number of classes",
      causes=(*STUCK, "not_learning", "class_collapse", "batch_too_large", "stopped_too_early", "overfitting"),
      share=0.97, epochs=2)
def no_better_than_baseline(record: Record, limits: Any) -> Finding | None:
    """At its end the model does no better than guessing."""
    guess = record.run.chance
    balance = getattr(record.data, "entropy", None) if record.data is not None else None
    if isinstance(balance, float):
        guess = balance
    losses = finite(record.logs("val_loss")) or finite(data_losses(record))
    if guess is None or len(losses) < limits.epochs:
        return None
    if lagging(record):
        losses = finite(data_losses(record))
    best = min(losses)
    if best < limits.share * guess or (classified(record) and knows_classes(record)):
        return None
    return Finding(
        "no_better_than_baseline", "warning", 0.85,
        f"the best loss of {len(losses)} epochs is {best:.4g}; guessing gives {guess:.4g} (limit {limits.share:.0%} of "
        f"it). The model has learned nothing that a guess does not know.",
        {"best": best, "chance": guess, "limit": limits.share}, epoch=last_epoch(record),
        remedies=(_ALIGN, _BY_HEART, adam()),
    )


@rule("corrupted_labels", phase="epoch",
      why="training falls by heart while validation never gets below guessing: rows and labels have nothing to do with "
          "each other; of fewer than `least` rows, or `each` for every feature, a sound model does no better",
      causes=("conflicting_labels",), learned=0.85, never=0.98, epochs=6, rows=30, known=0.15, least=100, each=6)
def corrupted_labels(record: Record, limits: Any) -> Finding | None:
    """The training rows are learned by heart, and nothing of it holds for others."""
    guess = record.run.chance
    train, val = finite(data_losses(record)), finite(record.logs("val_loss"))
    if guess is None or not classified(record) or len(val) < limits.epochs or not train or lagging(record):
        return None
    if (record.run.validation_samples or limits.rows) < limits.rows:
        return None
    features = getattr(record.data, "features", None) or 0
    if record.run.samples is not None and record.run.samples < max(limits.least, limits.each * features):
        return None  # so few rows are learned by heart whatever their labels are
    held = accuracy(record, "val_")
    classes = record.run.classes or 2
    known = yardstick_of(record)
    if known is not None and known.best > known.guess + limits.known:
        return None  # the inputs tell the labels of the validation rows; it is the model that does not
    told, drift = (getattr(record.data, name, None) for name in ("association", "drift"))
    if told is not None and not told.telling:
        return None  # so few rows for so many columns are learned by heart whatever their labels are
    if drift is not None and otherwise(drift):
        return None  # it is the inputs of the validation part that are others
    knows = bool(held) and max(held) > 1.0 / classes + 0.15
    falling = min(val[-2:]) <= min(val)  # running statistics that lag behind look the same at first
    if min(val) < limits.never * guess or train[-1] > limits.learned * guess or knows or falling:
        return None
    return Finding(
        "corrupted_labels", "warning", 0.75,
        f"the training loss fell to {train[-1]:.4g}, but the validation loss was never better than {min(val):.4g}; "
        f"guessing gives {guess:.4g}. Labels that do not belong to their rows look like this.",
        {"train": train[-1], "best_val": min(val), "chance": guess}, epoch=last_epoch(record),
        remedies=(Remedy("see that x and y were shuffled and sorted together"),
                  Remedy("look at ten rows with their labels")),
    )


@rule("corrupted_labels", phase="end",
      why="rows that their neighbours contradict are only noted before training; where the training rows then stay far "
          "harder than the validation rows, and no dropout makes them so, their labels are at fault",
      causes=("conflicting_labels",), contradicted=0.25, better=0.8, poor=0.4, epochs=5, few=8)
def contradicted_labels(record: Record, limits: Any) -> Finding | None:
    """Many training labels are contradicted by their neighbours, and the training rows cannot be learned."""
    found = getattr(record.data, "association", None)
    share = None if found is None else found.contradicted
    train, val, guess = finite(data_losses(record)), finite(record.logs("val_loss")), chance(record)
    if share is None or share < limits.contradicted or not guess or record.run.dropout or record.run.augmented:
        return None
    if (record.run.batch_size or 32) <= limits.few and any(la.kind == "BatchNorm" for la in record.model.layers):
        return None  # the noise of batch statistics makes them so
    if min(len(train), len(val)) < limits.epochs:
        return None
    now, held = fmean(train[-3:]), fmean(val[-3:])
    if now < limits.poor * guess or held > limits.better * now:
        return None
    return Finding(
        "corrupted_labels", "warning", 0.85,
        f"where neighbours agree on a class, {share:.0%} of the training rows have another one (limit "
        f"{limits.contradicted:.0%}), and the training loss stays at {now:.3g} while validation is at {held:.3g} "
        f"({held / now:.0%} of it; limit {limits.better:.0%}): many training labels are wrong.",
        {"contradicted": share, "train": now, "val": held, "limit": limits.contradicted}, epoch=last_epoch(record),
        remedies=(Remedy("look at rows whose label their neighbours contradict"),
                  _ALIGN),
    )
