"""Rules about the curves of a run: not learning, oscillating, overfitting, stopping too early."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from deepbabysit.babysit import changes
from deepbabysit.babysit.finding import Finding, Remedy, Severity
from deepbabysit.babysit.remedies import (
    adam,
    batches,
    decay,
    dropout,
    early_stop,
    longer,
    slower,
    split_again,
    weigh_classes,
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
    done,
    finite,
    finite_curve,
    first_level,
    good_from_the_start,
    knows_classes,
    lagging,
    last_epoch,
    last_level,
    steady_rate,
    warming,
    wild,
)
from deepbabysit.babysit.vitals import Record

_STUCK = (
    "learning_rate_too_high", "learning_rate_too_low", "vanishing_gradient", "dead_relu", "saturated_activation",
    "regularization_too_strong", "symmetric_init", "bad_init_scale", "input_not_normalized", "wrong_loss_for_output",
    "missing_output_activation", "double_softmax", "output_ignores_input", "corrupted_labels", "unchanged_weights",
    "dropout_too_high", "wrong_optimizer", "nan_loss", "loss_diverging", "exploding_gradient",
    "missing_hidden_activation", "bad_bias_init", "target_not_normalized", "input_normalized_twice",
    "unstable_activation_scale", "one_unit_softmax", "target_out_of_range", "batchnorm_misuse", "nan_in_data",
    "conflicting_labels", "nan_in_layer", "wrong_gradient", "batch_leak", "split_drift", "class_imbalance",
    "unshuffled_rows",
)
_MORE = Remedy("use more data, or augment those that are there")
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
      causes=_STUCK, gain=0.02, epochs=2, steps=60, known=0.6)
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


@rule("overfitting", phase="epoch",
      why="validation turns up while training falls; with little data every model does that a bit, without harm to "
          "what it predicts, so a warning needs the loss to rise by a third of guessing, or by 40 % with accuracies "
          "that differ by a tenth, or rows known by heart and 15 points between the accuracies",
      causes=("split_leak", "corrupted_labels", "split_drift", "batch_too_small", "class_imbalance", "bad_init_scale"),
      rise=0.2,
      stay=3, harm=0.35, gap=0.1, wide=0.4, chasm=0.15, fitted=0.02, epochs=8)
def overfitting(record: Record, limits: Any) -> Finding | None:
    """The validation loss rises while the training loss falls, or the gap of accuracies is wide."""
    train, val = data_losses(record), record.logs("val_loss")
    if len(val) != len(train) or len(val) < limits.stay + 2 or len(finite(val)) < len(val) or lagging(record):
        return None
    if wild(record):
        return None
    best = min(val)
    at = val.index(best)
    now = fmean(val[-3:])
    after = len(val) - 1 - at
    falling = train[-1] < 0.95 * train[at] if at < len(train) else False
    guess = chance(record) or max(val[0], 1e-12)
    rise = (now - best) / max(best, 1e-12)
    good, held = accuracy(record), accuracy(record, "val_")
    gap = fmean(good[-3:]) - fmean(held[-3:]) if good and held else None
    turned = after >= limits.stay and falling and rise > limits.rise and now - best > 0.02 * guess
    settled = len(val) >= limits.epochs and fmean(val[-3:]) > 0.95 * fmean(val[-6:-3])
    wide = (gap is not None and gap > limits.gap and rise > limits.wide and train[-1] < 0.3 * guess
            and now > 0.15 * guess and settled)
    by_heart = (gap is not None and gap > limits.chasm and train[-1] < limits.fitted * guess and now > 0.25 * guess
                and settled)
    wide = wide or by_heart
    if not turned and not wide:
        return None
    mild = not wide and now - best < limits.harm * guess
    severity: Severity = "note" if mild else "warning"
    confidence = 0.6 if mild else 0.9 if turned and wide else 0.8
    parts = []
    if turned:
        parts.append(
            f"the validation loss was best in epoch {at + 1} ({best:.4g}) and is {now:.4g} now, {rise:.0%} higher "
            f"(limit "
            f"{limits.rise:.0%}), while the training loss fell from {train[at]:.4g} to {train[-1]:.4g}"
        )
    if wide and gap is not None:
        parts.append(f"accuracy is {gap:.1%} higher on the training part than on the validation part (limit "
                     f"{limits.gap:.0%})")
    return Finding(
        "overfitting", severity, confidence,
        "; ".join(parts) + ". The model learns the training rows by heart.",
        {"best": best, "best_epoch": at, "level": now, "rise": rise, "gap": gap, "limit": limits.rise},
        epoch=last_epoch(record), remedies=(early_stop(), dropout(), decay(), _MORE),
    )


@rule("overfitting", phase="end",
      why="what is left to be explained on validation rows is `times` what is left on training rows, and more than "
          "cheap models leave there: by `gap` and `errors` standard errors, or by `dear` of guessing. The rows allow "
          "better, and the model has learned its own by heart",
      causes=("split_leak", "corrupted_labels", "split_drift", "batch_too_small", "class_imbalance"), times=3.0,
      gap=0.05, errors=2.5, dear=0.3, epochs=8)
def by_heart(record: Record, limits: Any) -> Finding | None:
    """The training rows are learned far better than validation rows, and those worse than by cheap models."""
    stand = reach(record)
    if stand is None or stand.train is None or len(record.epochs) < limits.epochs or wild(record) or lagging(record):
        return None
    if not stand.below(limits.gap, limits.errors) and not (stand.dear or 0.0) > limits.dear:
        return None
    if not 1.0 - stand.score > limits.times * (1.0 - stand.train):
        return None
    return Finding(
        "overfitting", "warning", 0.8,
        f"{stand.words()}, while the training rows are at {stand.train:.0%} (limit: {limits.times:g} times less is "
        f"left there). The model learns the training rows by heart.",
        {"score": stand.score, "train": stand.train, "reach": stand.best, "limit": limits.times},
        epoch=last_epoch(record), remedies=(early_stop(), dropout(), decay(), _MORE),
    )


@rule("overtraining", phase="end", why="no new best for half of the run, and the end worse than the best",
      causes=("overfitting",), share=0.5, least=10, worse=0.1, harm=0.35)
def overtraining(record: Record, limits: Any) -> Finding | None:
    """The run went on long after its best epoch."""
    val = record.logs("val_loss")
    if len(val) < limits.least or len(finite(val)) < len(val) or record.run.early_stopping or wild(record):
        return None
    best = min(val)
    at = val.index(best)
    after, now = len(val) - 1 - at, fmean(val[-3:])
    worse = (now - best) / max(best, 1e-12)
    guess = chance(record) or val[0]
    if after < limits.share * len(val) or worse < limits.worse or now - best < 0.02 * guess:
        return None
    return Finding(
        "overtraining", "note" if now - best < limits.harm * guess else "warning", 0.7,
        f"the best validation loss ({best:.4g}) was in epoch {at + 1} of {len(val)}; the {after} epochs after it made "
        f"it {worse:.0%} worse (limit {limits.worse:.0%}).",
        {"best": best, "best_epoch": at, "after": after, "worse": worse, "limit": limits.worse},
        epoch=last_epoch(record), remedies=(early_stop(),),
    )


@rule("underfitting", phase="end",
      why="small gap, poor on both, and no longer falling: the model is too small, or held back; poor is measured "
          "against guessing; numbers to be predicted often hold much noise, so there it must be near guessing",
      causes=("not_learning", "stopped_too_early", "batch_too_large", "class_collapse", *_STUCK),
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
      why="the last fifth of the epochs still brought a large part of all progress, and validation was best at the end",
      causes=("learning_rate_too_low", "batchnorm_misuse"), share=0.15, epochs=5, left=0.3)
def stopped_too_early(record: Record, limits: Any) -> Finding | None:
    """The loss was still falling when the run ended."""
    train, val = finite(data_losses(record)), finite(record.logs("val_loss"))
    if len(train) < limits.epochs or record.stopped not in ("epochs", "") and "early" not in record.stopped:
        return None
    watched = val if len(val) == len(train) else train
    width = max(len(watched) // 5, 1)
    start = first_level(record.curve(), record.run.batch_size) or watched[0]
    whole = max(start, watched[0]) - watched[-1]
    gain = watched[-1 - width] - watched[-1]
    guess = chance(record) or start
    if whole <= 0 or gain < limits.share * whole or watched[-1] < limits.left * guess:
        return None
    if watched.index(min(watched)) < len(watched) - 2 or train[-1] >= train[-1 - width]:
        return None
    share = gain / whole
    return Finding(
        "stopped_too_early", "warning", 0.6 + 0.3 * min(share, 1.0),
        f"the loss was still falling at the end: the last {width} of {len(train)} epochs brought {share:.0%} of all "
        f"progress (limit {limits.share:.0%}), down to {watched[-1]:.4g}.",
        {"gain": gain, "share": share, "limit": limits.share}, epoch=last_epoch(record),
        remedies=(longer(2 * len(train)), Remedy("give EarlyStopping more patience")),
    )


@rule("stopped_too_early", phase="end",
      why="of a run of few epochs the losses of the steps tell: the last quarter is lower than the one before by a "
          "large part of all progress and by more than twice the noise of both; or the last epoch made the "
          "validation loss lower by as much",
      causes=("learning_rate_too_low",), share=0.15, epochs=5, left=0.3, noise=2.0, steps=6)
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
      causes=(*_STUCK, "not_learning", "class_collapse", "batch_too_large", "stopped_too_early", "overfitting"),
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


@rule("class_collapse", phase="epoch",
      why="nearly all rows get one class although several occur; early on that is usual, so two epochs must agree",
      causes=("class_imbalance", "batch_too_large", *_STUCK), share=0.95, most=0.8, epochs=2, rows=100)
def class_collapse(record: Record, limits: Any) -> Finding | None:
    """One class is predicted for nearly every row."""
    if len(record.epochs) < limits.epochs or done(record) < 0.2:
        return None
    recent = [s for s in record.steps if s.epoch >= record.epochs[-2].epoch and s.predicted]
    guessed: dict[int, int] = {}
    meant: dict[int, int] = {}
    for step in recent:
        for into, counts in ((guessed, step.predicted), (meant, step.actual)):
            for label, count in counts.items():
                into[label] = into.get(label, 0) + count
    total, known = sum(guessed.values()), sum(meant.values())
    if len(meant) < 2 or total < limits.rows or not known:
        return None
    label, count = max(guessed.items(), key=lambda item: item[1])
    most = max(meant.values()) / known
    if count / total < limits.share or most > limits.most:
        return None
    return Finding(
        "class_collapse", "warning", 0.85,
        f"class {label} was predicted for {count / total:.0%} of the last {total} rows measured (limit "
        f"{limits.share:.0%}), although {len(meant)} classes occur and the largest is {most:.0%} of them.",
        {"class": label, "share": count / total, "largest_class": most, "limit": limits.share},
        epoch=last_epoch(record),
        remedies=(slower(record), weigh_classes(), Remedy("start the last bias at the log-odds of the classes")),
    )
