"""Counterfactuals: short side runs that answer where the numbers of one run cannot tell.

A side run trains a changed setup for some steps, from the start or from the state that a run has reached, beside the
setup as it is for as many steps. Both are scored on the same validation rows, in the targets' own units, so that
penalties, dropout and other losses do not blur the answer. Nothing is changed in the model that is asked about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, final

import numpy as np

from deepbabysit.babysit import changes
from deepbabysit.babysit.changes import Change
from deepbabysit.babysit.preparation import Prepared, Score
from deepbabysit.babysit.setup import Setup
from deepbabysit.babysit.vitals import Record

STEPS = 200  # steps of a side run, where the run has as many
SCORED = 2000  # validation rows that a side run is scored on


@final
@dataclass(frozen=True, slots=True)
class State:
    """Where a run stands: weights, and what its optimizer has gathered."""

    setup: Setup
    weights: Mapping[str, np.ndarray]
    optimizer: Mapping[str, Any]

    @classmethod
    def of(cls, setup: Setup, model: Any) -> State:
        """Keep the state of a model that this setup trained."""
        return cls(setup, model.state_dict(), model.optimizer.state_dict())

    def fits(self, setup: Setup) -> bool:
        """Tell whether a setup could go on from here: the same layers and data, and weights that are finite."""
        mine = self.setup
        if (setup.model, setup.inputs, setup.targets, setup.rows) != (mine.model, mine.inputs, mine.targets, mine.rows):
            return False
        return all(bool(np.isfinite(w).all()) for w in self.weights.values())

    def give(self, setup: Setup, model: Any) -> None:
        """Put the state into a model of a setup with the same layers; moments go to the same kind of optimizer."""
        if setup.model != self.setup.model:
            raise ValueError("the layers differ, so the state of the run does not fit")
        model.load_state_dict(dict(self.weights))
        if setup.optimizer["name"] == self.setup.optimizer["name"]:
            rate = model.optimizer.learning_rate
            if not model.optimizer.bound:  # else the state, rate included, would be taken at the first step
                model.optimizer.bind(model.parameters())
            model.optimizer.load_state_dict(dict(self.optimizer))
            model.optimizer.learning_rate = rate


@dataclass(frozen=True, slots=True)
class Trial:
    """One side run: its score, the gain against the setup as it is, how many steps it took.

    `gain` is how much of the error is gone, from below 0 (worse) to 1 (all of it).
    """

    score: Score | None
    gain: float
    steps: int


@dataclass(slots=True)
class Experiments:
    """Side runs of one setup on its data.

    Attributes:
        setup: as it is.
        x, y, validation: raw data.
        steps: of each side run; None takes a tenth of the planned ones, 20 to `STEPS` where there are as many. With
            batches of another size it takes as many rows.
        budget: seconds for all of them together.
        state: where a run ended. Changes that keep layers and data begin there (a lower rate looks worse at the start
            of a run even where it is what the run needs); others, and all where it is not finite, begin anew.
        spent: rows that all side runs went through so far; `seconds` the time they took.
    """

    setup: Setup
    x: Any
    y: Any
    validation: Any
    steps: int | None = None
    budget: float = math.inf
    state: State | None = None
    spent: int = 0
    seconds: float = 0.0
    _own: dict[tuple[Any, ...], Trial] = field(default_factory=dict)

    def planned(self) -> int:
        """Return how many steps one side run takes."""
        whole = -(-len(np.asarray(self.y)) // self.setup.batch_size) * self.setup.epochs
        return self.steps or min(whole, max(20, min(STEPS, whole // 10)))

    def ask(self, change: Change) -> Trial | None:
        """Try a change beside the setup as it is; None where there is no time left or nothing can be scored.

        Raises:
            ValueError: the setup cannot be changed so.
        """
        changed = change(self.setup)
        if self.validation is None or self.seconds >= self.budget:
            return None
        began = monotonic()
        try:
            # cleaned rows are other rows: the setup as it is has to be scored on them, too
            state = self.state if self.state is not None and self.state.fits(changed) else None
            own = self._reference(changed.rows, state)
            trial = self._run(changed, state)
        finally:
            self.seconds += monotonic() - began
        if own.score is None or trial.score is None:
            return None
        return Trial(trial.score, gain(own.score, trial.score), trial.steps)

    def longer(self, state: State) -> dict[str, float]:
        """Train on from where a run stands, and return the gain as the answer to "longer"."""
        began = monotonic()
        before, after = self._run(self.setup, state, 0).score, self._run(self.setup, state).score
        self.seconds += monotonic() - began
        return {} if before is None or after is None else {"longer": gain(before, after)}

    def own(self) -> Score | None:
        """Return the score of the setup as it is, after as many steps; None before anything was asked."""
        known = self._own.get((_key(self.setup.rows), False), self._own.get((_key(self.setup.rows), True)))
        return None if known is None else known.score

    def _reference(self, rows: tuple[Any, ...], state: State | None) -> Trial:
        key = _key(rows), state is not None
        if key not in self._own:
            self._own[key] = self._run(self.setup.with_(rows=rows), state)
        return self._own[key]

    def _run(self, setup: Setup, state: State | None = None, steps: int | None = None) -> Trial:
        data = setup.prepare(self.x, self.y, self.validation)
        rows = (self.planned() if steps is None else steps) * self.setup.batch_size
        rng = np.random.Generator(np.random.Philox(setup.seed))
        part, epochs = data, max(1, round(rows / len(data.y)))
        if 0 < rows < len(data.y):
            part = _rows(data, np.sort(rng.permutation(len(data.y))[:rows]))
        assert data.validation is not None
        held = np.arange(len(data.validation[1]))
        if len(held) > SCORED:
            held = np.sort(rng.permutation(len(held))[:SCORED])
        model = setup.build()
        if state is not None:
            state.give(setup, model)
        if rows:
            self.spent += epochs * len(part.y)
            setup.train(model, part, epochs=epochs, validate=False)
        taken = epochs * -(-len(part.y) // setup.batch_size) if rows else 0
        return Trial(setup.score(model, _held(data, held)), 0.0, taken)


def _key(rows: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(tuple(sorted(step.items())) for step in rows)


def _rows(data: Prepared, rows: np.ndarray) -> Prepared:
    return Prepared(tuple(a[rows] for a in data.x), data.y[rows], None, None)


def _held(data: Prepared, rows: np.ndarray) -> Prepared:
    """Return the data with a part of the validation rows."""
    assert data.validation is not None and data.truth is not None
    part = tuple(a[rows] for a in data.validation[0]), data.validation[1][rows]
    return Prepared(data.x, data.y, part, data.truth[rows], _back=data._back)


def gain(own: Score, other: Score) -> float:
    """Return how much of an error is gone with the other: of the loss per row where both have one, else of the misses.

    >>> gain(Score(0.5, "accuracy", 1.0, 10), Score(0.6, "accuracy", 0.25, 10))
    0.75
    """
    if own.error is not None and other.error is not None and math.isfinite(own.error + other.error):
        before, after = own.error, other.error
    else:
        before, after = (1.0 - max(s.value, -1.0) for s in (own, other))
    return max(min((before - after) / max(before, 1e-12), 1.0), -1.0)


# -- questions ---------------------------------------------------------------------------------------------------------

# what a side run asks, by the code that its answer speaks for
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "wrong_optimizer": ("adam",), "learning_rate_too_high": ("rate x0.1",), "learning_rate_too_low": ("rate x10",),
    "batch_too_large": ("batch 32",), "batch_too_small": ("batch 32",), "stopped_too_early": ("longer",),
    "underfitting": ("units x2",), "overfitting": ("units x0.5",), "regularization_too_strong": ("unregularized",),
}


def questions(setup: Setup) -> dict[str, Change]:
    """Return the standard questions about a setup: name -> change."""
    rate = changes.first_rate(setup.optimizer)
    # what Adam does at another rate is a question about the rate
    other = {} if setup.optimizer["name"].lower() == "adam" else {"adam": changes.optimizer("adam", 1e-3)}
    asked: dict[str, Change] = {
        **other,
        "rate x0.1": changes.rate(rate / 10.0),
        "rate x10": changes.rate(rate * 10.0),
        "units x2": changes.widen(2.0),
        "units x0.5": changes.widen(0.5),
        "unregularized": changes.both(changes.penalty(0.0), changes.dropout_at_most(0.0)),
    }
    if not 16 <= setup.batch_size <= 64:
        asked["batch 32"] = changes.fields(batch_size=32)
    return asked


def confidence(gained: float) -> float:
    """Return how sure a gain makes that its code names the cause: 0.5 for none, 0.95 for an error cut to a fifth.

    >>> [round(confidence(g), 2) for g in (-0.5, 0.0, 0.2, 0.8)]
    [0.13, 0.5, 0.68, 0.95]
    """
    return 1.0 / (1.0 + math.exp(-3.75 * gained))


def investigate(tried: Experiments, record: Record, state: State | None = None) -> dict[str, float]:
    """Answer the standard questions by side runs, and write the answers into ``record.probes``.

    Arguments:
        tried: the setup as it is, on its data, with its budget; what there was no time for is not answered.
        record: gets ``other_optimizer`` and ``counterfactuals`` (question -> gain).
        state: where the run stands, for the question whether it should go on.

    Returns:
        code -> confidence, for codes whose question was answered.
    """
    answers: dict[str, float] = {}
    for name, change in questions(tried.setup).items():
        try:
            trial = tried.ask(change)
        except ValueError:
            continue  # nothing to change there
        if trial is None:
            break
        answers[name] = trial.gain
        own = tried.own()
        if name == "adam" and trial.score is not None and own is not None:
            known, other = own.error, trial.score.error
            if known is not None and other is not None:
                record.probes["other_optimizer"] = {
                    "name": "Adam", "own": known, "other": other, "steps": trial.steps,
                }
    if state is not None and tried.seconds < tried.budget:
        answers.update(tried.longer(state))
    record.probes["counterfactuals"] = answers
    return {
        code: confidence(max(answers[name] for name in names if name in answers))
        for code, names in QUESTIONS.items() if any(name in answers for name in names)
    }
