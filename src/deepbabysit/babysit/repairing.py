"""Repair: train, find what is wrong, apply remedies one at a time, keep what helps by the validation score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any, final

import numpy as np

from deepbabysit.babysit import changes, sound
from deepbabysit.babysit.changes import Change
from deepbabysit.babysit.comparing import Comparison, Trained, compare
from deepbabysit.babysit.engine import Engine, causes_of
from deepbabysit.babysit.experiments import QUESTIONS, Experiments, State, investigate, questions
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.preflight import check
from deepbabysit.babysit.preparation import Prepared, Score, bare
from deepbabysit.babysit.remedies import short
from deepbabysit.babysit.setup import Setup, setup_of
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.babysit.verdict import verdict
from deepbabysit.babysit.vitals import Record

LOOKS = 60  # steps of a run that are measured
CHECK = 5.0  # seconds for the check before each training
TRIED = 5  # remedies that are tried in side runs before one of them gets a whole training
SURE = 0.9  # an error of the check with this confidence is mended without a side run
SPEAKS = 0.6  # confidence from which the answer of a side run is a remedy to try
ENOUGH = 0.999  # a score that needs no repair
# how often a change of this kind is what helps; sizes of layers seldom are, and other sizes start from other weights
PRIOR = {"units x2": 0.6, "units x0.5": 0.3}
SIDE = 1.5  # trainings that all side runs together may take
TRUST = 4.0  # a side run that halves the error outweighs a weight seven times smaller
AGAIN = 0.5  # weight of going on with the rate in the direction that helped
SYMPTOM = 0.6  # what a remedy of a symptom is worth against one of a cause
OLD = 0.8  # what a remedy of an earlier run is worth against one of the best so far
MENDS = 4  # remedies of the check that are applied together until `fit` accepts the data
SPECIFIC = 2  # remedies of findings that are tried at least before the sound setup is
FITS, FORM = 1.1, 0.8  # weights of a form of the targets that fits the output, and of one that may
ALIGN = 1.5  # weight of bringing validation rows into the form of the training rows, where the model then knows them
GENERIC = 0.15  # weight of the sound setup, once for each remedy that did not help
POLISH = (
    ("Adam 1e-2 along a cosine, in usual batches", 1e-2, 1.0),
    (f"Adam {sound.RATE:g} along a cosine, three times as many epochs", sound.RATE, 3.0),
    ("Adam 1e-3 along a cosine, in usual batches", 1e-3, 1.0),
)
FORMS = ("loss_shape_mismatch", "wrong_loss_for_output", "target_out_of_range", "one_unit_softmax")
DRIFTS = ("split_drift", "suspicious_validation", "overfitting")  # what validation rows in another form look like
# codes that say that something is wrong, and not what
SYMPTOMS = (
    "not_learning", "underfitting", "oscillating_loss", "no_better_than_baseline", "class_collapse", "loss_spike",
    "stopped_too_early",
)
OTHERS = 0.15  # what all other columns know together where one that gives the label away can be done without
RATES = ("learning_rate_too_high", "loss_diverging", "nan_loss")  # one division by ten may not be enough
SOUND = f"a sound setup (data, output, loss, initial weights, Adam {sound.RATE:g} along a cosine)"
BODY = f"a sound setup with {sound.BODY_LAYERS} hidden layers of {sound.BODY} ReLU"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One training of a repair.

    Attributes:
        remedy: what was changed against the best so far; "as it stands" for the first.
        finding: the code that it was a remedy for.
        before, after: scores on the same validation rows.
        kept: whether it became the best.
        why: why not, where it was not kept.
        findings: codes of warnings and errors seen in it.
        seconds: how long it took.
    """

    remedy: str
    finding: str
    before: Score | None
    after: Score | None
    kept: bool
    why: str
    findings: tuple[str, ...]
    seconds: float


@final
@dataclass(slots=True)
class Repair:
    """What a repair gave.

    Attributes:
        model: the repaired model; the one that was trained as it stands where nothing helped.
        setup: how it was trained; `prepared` fits its data, ``predict`` goes through both.
        history: every training, the first one as it stood.
        helped: the remedies that were kept, in words.
        original, score: validation scores before and after.
        findings: what is left to be said about the model.
        verdict: one screen about its training.
        passes: over the training rows, of all trainings together; `side_passes` those of all side runs.
    """

    model: Any
    setup: Setup
    prepared: Prepared
    history: list[Attempt] = field(default_factory=list)
    helped: tuple[str, ...] = ()
    original: Score | None = None
    score: Score | None = None
    findings: list[Finding] = field(default_factory=list)
    verdict: str = ""
    passes: float = 0.0
    side_passes: float = 0.0

    @property
    def healthy(self) -> bool:
        """Whether the run was healthy as it stood, and left alone."""
        return not self.helped and not self.history[0].findings

    def predict(self, x: Any) -> np.ndarray:
        """Return what the model says about raw inputs, in the units of the targets as they were given."""
        return self.prepared.predict(self.model, x)

    def __str__(self) -> str:
        """Return the table of attempts, what helped, and what is left."""
        rows = [("", "remedy", "finding", "before", "after", "kept")]
        for number, a in enumerate(self.history):
            kept = "yes" if a.kept else f"no ({a.why})" if a.why else "no"
            rows.append((str(number), a.remedy, a.finding, _shown(a.before), _shown(a.after), kept))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        table = ["  ".join([*(c.ljust(w) for c, w in zip(row[:5], widths, strict=True)), row[5]]).rstrip()
                 for row in rows]
        name = self.score.name if self.score is not None else "score"
        if self.healthy:
            told = "the run was healthy: it is left as it was"
        elif self.helped:
            told = f"{name} {_shown(self.original)} -> {_shown(self.score)}; what helped: {'; '.join(self.helped)}"
        else:
            told = f"{name} {_shown(self.score)}: nothing helped, the model is the one that was trained as it stood"
        share = self.side_passes / max(self.passes, 1e-9)
        cost = (f"{len(self.history)} trainings, {self.passes:.0f} passes over the data; side runs took "
                f"{self.side_passes:.1f} more ({share:.0%})")
        left = [f.code for f in self.findings if f.severity != "note"]
        return "\n".join([*table, told, cost, *([f"still seen: {', '.join(left)}"] if left else [])])

    __repr__ = __str__


@dataclass(slots=True)
class _Candidate:
    """A remedy that may be tried."""

    words: str
    code: str
    change: Change
    weight: float
    sure: bool = False


@dataclass(slots=True)
class _Run:
    """A training with what was found in it; `refused` is the error where `fit` would not begin."""

    trained: Trained
    engine: Engine
    refused: Exception | None = None
    extra: list[_Candidate] = field(default_factory=list)

    @property
    def setup(self) -> Setup:
        """How it was trained."""
        return self.trained.setup

    @property
    def score(self) -> Score | None:
        """Of its validation rows."""
        return self.trained.score

    @property
    def record(self) -> Record:
        """Everything that was measured."""
        return self.engine.record

    @property
    def findings(self) -> list[Finding]:
        """What was found, likeliest cause first."""
        return self.engine.ranked()

    @property
    def loud(self) -> list[Finding]:
        """Warnings and errors."""
        return [f for f in self.findings if f.severity != "note"]


@final
class _Workshop:
    """The data, the trainings so far, and what has been tried."""

    def __init__(self, x: Any, y: Any, validation: Any, say: Callable[[str], Any], budget: float | None) -> None:
        self.x, self.y, self.validation = x, np.asarray(y), validation
        self.say = say
        self.until = math.inf if budget is None else monotonic() + budget
        self.tried: set[str] = set()
        self.failed = 0  # remedies that did not help, one after the other
        self.left: list[_Candidate] = []  # of runs before the best one: what they told may hold still
        self.passes, self.side = 0.0, 0.0

    def run(self, setup: Setup) -> _Run:
        """Check and train; data that `fit` refuses are looked at for what is wrong with them."""
        data = setup.prepare(self.x, self.y, self.validation)
        model = setup.build()
        each = -(-len(data.y) // setup.batch_size)
        # every so many steps, whatever it costs: findings do not depend on the machine's speed then
        sitter = Sitter(every=max(1, each * setup.epochs // LOOKS), verdict=False, check=CHECK)
        try:
            history = setup.train(model, data, babysit=sitter)
        except (TypeError, ValueError) as error:
            if getattr(error, "finding", None) is None:
                raise
            sitter.engine.take(check(
                model, bare(data.x), data.y, None if data.validation is None else (
                    bare(data.validation[0]), data.validation[1]),
                batch_size=setup.batch_size, budget=CHECK,
            ))
            return _Run(Trained(setup, data, model, None), sitter.engine, error)
        self.passes += len(history.epoch)
        found = setup.score(model, data) if data.validation is not None else None
        return _Run(Trained(setup, data, model, found), sitter.engine)

    def candidates(self, run: _Run) -> list[_Candidate]:
        """Return what could be tried, likeliest first: findings by rank, their remedies in order."""
        found = [*run.extra, *self.left]
        for place, finding in enumerate(run.loud):
            weight = finding.confidence * 0.75**place * (1.3 if finding.severity == "error" else 1.0)
            # what was seen before and not mended yet may be the cause of what is seen now
            caused = not causes_of(finding.code).isdisjoint(c.code for c in self.left)
            weight *= SYMPTOM if finding.code in SYMPTOMS or caused else 1.0
            able = [r for r in finding.remedies if r.apply is not None]
            for number, remedy in enumerate(able):
                assert remedy.apply is not None
                sure = not number and (_given_away(finding) or finding.severity == "error" and (
                    finding.confidence >= SURE and finding.step is None and finding.epoch is None))
                found.append(_Candidate(remedy.text, finding.code, remedy.apply, weight * 0.6**number, sure))
            if finding.code in RATES and able:
                rate = short(changes.first_rate(run.setup.optimizer) / 100.0)
                found.append(_Candidate(f"lower the learning rate a hundred times, to {rate:g}", finding.code,
                                        changes.rate(rate), weight * 0.5))
        found += self._of_data(run)
        if run.refused is None:
            found += self.generic(run)
        return self.fresh(run, found)

    def fresh(self, run: _Run, found: list[_Candidate]) -> list[_Candidate]:
        """Return those that were not tried yet and change something, likeliest first."""
        fresh: dict[str, _Candidate] = {}
        for one in sorted(found, key=lambda c: (not c.sure, -c.weight)):
            key = self.key(run.setup, one)
            if key is not None and key not in self.tried and key not in fresh:
                fresh[key] = one
        return list(fresh.values())

    def _of_data(self, run: _Run) -> list[_Candidate]:
        """Return what the data themselves speak for: another form of targets, inputs or validation rows."""
        setup, codes = run.setup, [finding.code for finding in run.loud]
        found = []
        first = next((code for code in codes if code in FORMS), codes[0] if codes else "")
        if run.refused is not None:
            fitting = sound.fitting_output(setup, self.y)
            known = bool(sound.recoded(setup, self.y)) if not setup.locked else False
            if fitting:
                found.append(_Candidate(
                    "give labels, output and loss forms that fit each other", first, changes.both(*fitting),
                    FITS + known, known or changes.possible(changes.edited(sound.flat), setup)))
        else:
            if any(code in DRIFTS for code in codes) and self._known_aligned(run):
                found.append(_Candidate(
                    "bring the validation rows into the form of the training rows", "split_drift",
                    changes.clean("align"), ALIGN))
            if sound.tailed(setup, self.x):
                found.append(_Candidate(
                    "spread columns with heavy tails like a normal distribution", "input_not_normalized",
                    changes.both(*sound.scaled_inputs(setup, self.x)), FORM))
        logarithm = sound.scaled_targets(setup, self.y) if sound.skewed(self.y) else []
        if logarithm:
            found.append(_Candidate("fit the logarithm of the targets", "target_not_normalized",
                                    changes.both(*logarithm), FORM))
        classes = sound.as_classes(setup, self.y)
        if classes is not None:
            found.append(_Candidate("take the numbers for classes, with an output for each", "wrong_loss_for_output",
                                    classes, FORM))
        return found

    def _known_aligned(self, run: _Run) -> bool:
        """Tell whether the model knows the validation rows once they have the statistics of the training rows."""
        try:
            setup = changes.clean("align")(run.setup)
        except ValueError:
            return False
        data = setup.prepare(self.x, self.y, self.validation)
        other = Trained(setup, data, run.trained.model, setup.score(run.trained.model, data))
        return compare(run.trained, other).sure

    def generic(self, run: _Run) -> list[_Candidate]:
        """Return what is right for most data, whatever was found: likelier with every remedy that did not help."""
        weight, setup = GENERIC * (1 + self.failed), run.setup
        found = [_Candidate(SOUND, "", sound.sound(setup, self.x, self.y), weight)]
        if sound.unusual(setup):
            found.append(_Candidate(BODY, "", sound.sound_body(setup, self.x, self.y), 0.8 * weight))
        rows = len(self.y)
        found += [_Candidate(words, "", sound.trained(setup, rows, rate, times), 0.2 * weight)
                  for words, rate, times in POLISH]
        return found

    def key(self, setup: Setup, one: _Candidate) -> str | None:
        """Return what a candidate would make, as text; None where it cannot be applied."""
        try:
            return repr(one.change(setup).as_dict())
        except ValueError:
            return None

    def left_for_side_runs(self, setup: Setup) -> bool:
        """Tell whether side runs may begin: together they take about as many passes as `SIDE` trainings."""
        return self.side < SIDE * setup.epochs

    def choose(self, run: _Run, found: list[_Candidate]) -> _Candidate:
        """Return the one to give a whole training: by its weight and by what a side run says."""
        if found[0].sure or len(found) == 1 or run.refused or not self.left_for_side_runs(run.setup):
            return found[0]
        asked = Experiments(
            run.setup, self.x, self.y, self.validation, state=State.of(run.setup, run.trained.model))
        best, most = found[0], -math.inf
        for one in found[:TRIED]:
            try:
                trial = asked.ask(one.change)
            except (ValueError, TypeError, RuntimeError):
                continue  # cannot be built so
            worth = one.weight * math.exp(TRUST * (trial.gain if trial is not None else 0.0))
            if worth > most:
                best, most = one, worth
        self.side += asked.spent / len(self.y)
        return best


def repair(
    build: Callable[[Mapping[str, Any]], Any],
    x: Any,
    y: Any,
    validation_data: Any,
    retries: int = 5,
    *,
    epochs: int = 20,
    batch_size: int = 32,
    patience: int | None = None,
    class_weight: Any = None,
    shuffle: bool = True,
    seed: int = 0,
    seconds: float | None = None,
    verbose: Any = 0,
) -> Repair:
    """Train a model, find what is wrong, and mend it: remedies one at a time, likeliest first.

    The first training takes the model as it stands; where `fit` refuses it (numbers that are none, targets that do not
    fit), the check before training says what to mend. Every retry is a whole training
    of the best so far with one remedy more; it is kept where its validation score is better by more than chance (half
    a standard error), in the targets' own units. What comes back is never worse than the first. Which remedy gets the
    next training follows from the findings' rank and confidence, and from short side runs where several could help (a
    tenth of a training each, none begin once 1.5 trainings went into them; what they took is reported). After two of
    them a sound setup is tried, whatever the findings say. A run in which nothing was found is compared with the sound
    setup once, and changed only where that is better beyond doubt (three standard errors, and three points or
    half of the errors) and nothing is wrong then either.

    Arguments:
        build: ``build(settings)`` returns a compiled model. It is asked with an empty mapping, for the model as it
            stands: what remedies change is changed in its `Setup`, so a function that takes no notice will do.
        x: inputs (N, ...), or a tuple of arrays, raw: remedies may scale them.
        y: targets (N, ...).
        validation_data: ``(x, y)``, by which is chosen.
        retries: trainings after the first.
        epochs, batch_size, patience, class_weight, shuffle: how it is trained as it stands (patience: epochs without a
            better validation loss before it stops, best weights back).
        seed: of weights and order, the same in each training.
        seconds: begin no new training after so many.
        verbose: 1 prints each attempt.

    Returns:
        A `Repair`: ``.model``, ``.history``, ``.helped``, ``.predict(x)``; it prints as a table.

    Raises:
        TypeError: `build` returns no compiled model, or there are no validation data.
        ValueError: retries are negative.
        TypeError, ValueError: `fit` refuses the data, and no remedy changes that; ``error.finding`` says what is wrong.

    >>> import numpy as np, deepbabysit as db
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 4)); y = (x[:, :1] * x[:, 1:2] > 0).astype(float)
    >>> def build(settings):
    ...     layers = [db.layers.Dense(32, "relu", input_shape=4), db.layers.Dense(1)]
    ...     return db.Sequential(layers).compile("adam", "binary_crossentropy", ["accuracy"])
    >>> result = repair(build, x[:200], y[:200], (x[200:], y[200:]), retries=1, epochs=20)
    >>> result.history[1].finding, result.history[1].kept
    ('missing_output_activation', True)
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ValueError(f"retries is a number of trainings of at least 0; got {retries!r}")
    if validation_data is None:
        raise TypeError("repair chooses by the validation score: give validation_data=(x, y)")
    first = build({})
    if not getattr(first, "compiled", False):
        raise TypeError(f"build(settings) must return a compiled model; got {type(first).__name__}")
    setup = setup_of(
        first, x, batch_size=batch_size, epochs=epochs, patience=patience, class_weight=class_weight, shuffle=shuffle,
        seed=seed, make=lambda: build({}),
    )
    shop = _Workshop(x, y, validation_data, print if verbose else lambda text: None, seconds)
    began = monotonic()
    best = shop.run(setup)
    history = [Attempt("as it stands", "", None, best.score, True, "", _codes(best), monotonic() - began)]
    original, helped = best.score, []
    stands = _shown(best.score) if best.refused is None else "refused"
    shop.say(f"as it stands: {stands}; seen: {', '.join(_codes(best)) or 'nothing'}")
    for number in range(retries):
        if monotonic() >= shop.until or (best.score is not None and best.score.value >= ENOUGH and not any(
            map(_given_away, best.loud)
        )):
            break
        silent = len(history) == 1 and not best.loud
        if not silent:
            _look_closer(shop, best)
        found = shop.fresh(best, shop.generic(best)[:1]) if silent else shop.candidates(best)
        if not found:
            break
        one = _turn(found, number) if not silent and best.refused is None else None
        one = one or shop.choose(best, found)
        began = monotonic()
        shop.tried.add(str(shop.key(best.setup, one)))
        attempt, new = _attempt(shop, best, one, began, silent)
        history.append(attempt)
        shop.say(f"{one.code}: {one.words}: {_shown(attempt.before)} -> {_shown(attempt.after)}"
                 + ("" if attempt.kept else f", not kept: {attempt.why}"))
        shop.failed = 0 if attempt.kept else shop.failed + 1
        if attempt.kept:
            shop.left = [replace(c, weight=OLD * c.weight, sure=False) for c in found if c.code not in ("", one.code)]
            shop.left += _further(best.setup, new.setup, one.code)
            best = new
            helped.append(one.words)
        if silent:
            break
    if best.refused is not None:
        raise best.refused
    return Repair(
        best.trained.model, best.setup, best.trained.data, history, tuple(helped), original, best.score, best.findings,
        verdict(best.record, best.findings, best.engine.asked), shop.passes, shop.side,
    )


def _look_closer(shop: _Workshop, best: _Run) -> None:
    """Where only symptoms are seen, or nothing any more, ask by side runs what is left; once for each best."""
    known = best.refused is not None or "counterfactuals" in best.record.probes or any(
        f.code not in SYMPTOMS for f in best.loud)
    if known or not shop.left_for_side_runs(best.setup):
        return
    tried = Experiments(best.setup, shop.x, shop.y, shop.validation, state=State.of(best.setup, best.trained.model))
    asked = questions(best.setup)
    for code, sure in investigate(tried, best.record).items():
        name = next((n for n in QUESTIONS[code] if n in asked), None)
        if name is not None and sure > SPEAKS:
            best.extra.append(_Candidate(f"{name} (from side runs)", code, asked[name], sure * PRIOR.get(name, 1.0)))
    best.engine.ask("end")  # a rule reads the answer about the optimizer
    shop.side += tried.spent / len(shop.y)


def _further(before: Setup, now: Setup, code: str) -> list[_Candidate]:
    """Return the next step in the direction in which the rate was changed, where nothing else was."""
    old, new = changes.first_rate(before.optimizer), changes.first_rate(now.optimizer)
    if old == new or now.optimizer["name"] != before.optimizer["name"] or now.model != before.model:
        return []
    rate = short(new * 10.0 if new > old else new / 10.0)
    words = f"go on with the learning rate, from {new:.3g} to {rate:g}"
    return [_Candidate(words, code, changes.rate(rate), AGAIN)]


def _turn(found: list[_Candidate], number: int) -> _Candidate | None:
    """Return the generic candidate whose turn it is after some retries, where there is one."""
    words = {SPECIFIC: (SOUND, BODY), SPECIFIC + 1: (BODY, SOUND)}.get(number, ())
    return next((one for word in words for one in found if one.words == word), None)


def _attempt(shop: _Workshop, best: _Run, one: _Candidate, began: float, silent: bool) -> tuple[Attempt, _Run]:
    """Train the best so far with one remedy more; what `fit` still refuses is mended until it does not."""
    words = one.words
    try:
        new = shop.run(one.change(best.setup))
        for _ in range(MENDS if best.refused is not None else 0):
            further = next((c for c in shop.candidates(new) if c.sure), None) if new.refused is not None else None
            if further is None:
                break
            words += f"; {further.words}"
            new = shop.run(further.change(new.setup))
        if new.refused is not None:
            raise new.refused
    except (ValueError, TypeError, RuntimeError) as error:
        why = f"it cannot be trained: {error}".splitlines()[0][:120]
        return Attempt(words, one.code, best.score, None, False, why, (), monotonic() - began), best
    found = compare(best.trained, new.trained)
    if any(f.code == one.code and _given_away(f) for f in best.loud):
        found = Comparison(None, found.after)
    kept, why = found.judge()
    if silent and kept and new.loud:
        kept, why = False, "nothing was wrong, and now there is"
    elif silent and kept and not found.sure:
        kept, why = False, f"better by {found.errors:.1f} standard errors: not beyond doubt, and nothing was wrong"
    return Attempt(words, one.code, found.before, found.after, kept, why, _codes(new), monotonic() - began), new


def _given_away(finding: Finding) -> bool:
    """Tell whether one column gives the label away: then the validation score is too good, and no measure."""
    told = finding.evidence
    return finding.code == "feature_leak" and finding.severity != "note" and len(told.get("features", ())) == 1 and (
        told.get("rest", 0.0) >= OTHERS)


def _codes(run: _Run) -> tuple[str, ...]:
    return tuple(f.code for f in run.loud)


def _shown(found: Score | None) -> str:
    return "-" if found is None else f"{found.value:.4f}"

