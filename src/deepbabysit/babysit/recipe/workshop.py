"""Where the recipe works: the data, the setup so far, the trainings that were made, and what may still be spent.

Every training is written down under what it was made of. A recipe that is continued asks for the same trainings again
and finds them there, so that it goes on where it stopped and comes to the same end.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, final

import numpy as np

from deepbabysit.babysit.preparation import Prepared, Score, as_tuple
from deepbabysit.babysit.recipe.parts import Pair, Parts, take, zeroed
from deepbabysit.babysit.recipe.steps import Step
from deepbabysit.babysit.setup import Setup
from deepbabysit.babysit.sitter import Sitter
from deepbabysit.io.files import atomic_write
from deepbabysit.io.tensors import read_tensors, write_tensors

FORMAT = 1
LOOKS = 10  # steps of a training that are measured; its losses are looked at more often, and stop it when it explodes
BATCH_ROWS = 32  # rows that are learned by heart first
FULL_ROWS = 4096  # rows of the training part that are learned by heart then


class Halted(Exception):
    """The recipe stops here and can be continued; the argument says why."""


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one training.

    Attributes:
        key: what it is written down under.
        score: on the rows it was judged by.
        loss: on these rows, of the weights that it ended with.
        losses, held: loss of each epoch on training and on judging rows; `data_losses` the former without penalties.
        stopped: why it ended.
        seconds: how long it took.
    """

    key: str
    score: Score
    loss: float
    losses: tuple[float, ...]
    held: tuple[float, ...]
    data_losses: tuple[float, ...]
    stopped: str
    seconds: float

    @property
    def exploded(self) -> bool:
        """Whether the babysitter stopped it."""
        return self.stopped.startswith("babysit") or not all(map(math.isfinite, self.losses))

    @property
    def epochs(self) -> int:
        """How many epochs were made."""
        return len(self.losses)

    def better(self, other: Outcome) -> bool:
        """Tell whether this one is better: by its score; of equal scores by its loss. One that exploded never is."""
        if self.exploded or other.exploded:
            return other.exploded and not self.exploded
        if self.score.value != other.score.value:
            return self.score.value > other.score.value
        return self.loss < other.loss

    def shown(self) -> str:
        """Return score and loss in words."""
        return f"{shown(self.score)}, loss {self.loss:.4g}" + (f", stopped ({self.stopped})" if self.exploded else "")

    def as_dict(self) -> dict[str, Any]:
        """Return it as values for JSON."""
        s = self.score
        return {
            "score": [_plain(s.value), s.name, _plain(s.error), s.rows], "loss": _plain(self.loss),
            "losses": list(map(_plain, self.losses)), "held": list(map(_plain, self.held)),
            "data_losses": list(map(_plain, self.data_losses)), "stopped": self.stopped,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_dict(cls, key: str, values: Mapping[str, Any]) -> Outcome:
        """Make it again."""
        value, name, error, rows = values["score"]
        score = Score(-math.inf if value is None else value, name, error, rows)
        loss, losses, held, bare = (
            tuple(math.nan if v is None else float(v) for v in part)
            for part in ([values["loss"]], values["losses"], values["held"], values["data_losses"])
        )
        return cls(key, score, loss[0], losses, held, bare, values["stopped"], values["seconds"])


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def shown(score: Score) -> str:
    """Return a score in words."""
    return f"{'accuracy' if score.name == 'accuracy' else 'R2'} {score.value:.4f}"


def noise(one: Score, other: Score) -> float:
    """Return the standard error of the difference of two accuracies on different rows; 0 for numbers.

    The share of right answers is estimated from both parts together, with one wrong and one right answer more.
    """
    if one.name != "accuracy":
        return 0.0
    rows = one.rows + other.rows
    right = (one.value * one.rows + other.value * other.rows + 1.0) / (rows + 2.0)
    return math.sqrt(right * (1.0 - right) * (1.0 / one.rows + 1.0 / other.rows))


@final
class Workshop:
    """The state of a recipe.

    Attributes:
        setup: as far as it has been worked out; `first` is the user's.
        steps: what is done.
        answers: the test's result, once it was taken.
    """

    def __init__(
        self, setup: Setup, parts: Parts, trainings: int, seconds: float | None, folder: Path | None,
        say: Callable[[str], Any],
    ) -> None:
        self.first = self.setup = setup
        self.parts = parts
        self.say = say
        self.steps: list[Step] = []
        self.answers: dict[str, Any] = {}
        self._most = trainings
        self._seconds = seconds
        self._until = math.inf
        self._folder = folder
        self._trainings: dict[str, Any] = {}
        self._weights: dict[str, dict[str, np.ndarray]] = {}
        self._prepared: dict[str, Prepared] = {}
        self._mark = _fingerprint(setup, parts)
        self._read()

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def made(self) -> int:
        """How many trainings were made so far."""
        return len(self._trainings)

    @property
    def before(self) -> int:
        """How many trainings the steps that are done took: the same when a step is begun anew."""
        return sum(step.trainings for step in self.steps)

    @property
    def allowed(self) -> int:
        """How many trainings there may be in the steps that are not done."""
        return self._most - self.before

    @property
    def left(self) -> int:
        """How many trainings may still be made."""
        return self._most - self.made

    def begin(self) -> None:
        """Start the clock of this run."""
        self._until = math.inf if self._seconds is None else monotonic() + self._seconds

    def done(self, step: Step) -> None:
        """Write a step down."""
        self.steps.append(step)
        self.write()
        self.say(str(step))

    def write(self) -> None:
        """Write the state, whole."""
        if self._folder is None:
            return
        state = {
            "format": FORMAT, "of": self._mark, "setup": self.setup.as_dict(), "trainings": self._trainings,
            "steps": [step.as_dict() for step in self.steps], "answers": self.answers,
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self._folder / "recipe.json", json.dumps(state, indent=1, allow_nan=False).encode())

    def _read(self) -> None:
        if self._folder is None or not (self._folder / "recipe.json").exists():
            return
        path = self._folder / "recipe.json"
        try:
            state = json.loads(path.read_bytes())
            known, of = state["format"], state["of"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no state of a recipe; name another folder, or delete it") from error
        if known != FORMAT:
            raise ValueError(f"{path} has format {known}, and this version reads {FORMAT}; name another folder")
        if of != self._mark:
            raise ValueError(
                f"{path} belongs to other data, another model or another seed; name another folder to begin anew, or "
                "give what it was begun with to continue"
            )
        self._trainings, self.answers = state["trainings"], state["answers"]
        self.steps = [Step.from_dict(step) for step in state["steps"]]
        source = self.first.source
        self.setup = replace(Setup.from_dict(state["setup"], source.model, source.objects), source=source)

    def journal(self, key: str) -> Mapping[str, Any]:
        """Return what is written down about a training."""
        found: Mapping[str, Any] = self._trainings[key]
        return found

    # -- trainings -----------------------------------------------------------------------------------------------------

    def prepared(self, setup: Setup) -> Prepared:
        """Return training and validation rows as a setup prepares them."""
        key = json.dumps([setup.as_dict()[n] for n in ("inputs", "targets", "rows", "seed")], sort_keys=True)
        if key not in self._prepared:
            self._prepared[key] = setup.prepare(*self.parts.train, self.parts.validation)
        return self._prepared[key]

    def rows(self, kind: str) -> tuple[Pair, Pair]:
        """Return (rows to train on, rows to judge by).

        Arguments:
            kind: ``all``; ``half`` of the training rows; ``blind`` (inputs zeroed); judged on themselves: ``batch`` (a
                few rows) and ``whole`` (all, or as many as can be learned by heart in reasonable time).
        """
        train, held, _ = self.parts
        count = len(train[1])
        order = np.random.default_rng([self.first.seed, 3]).permutation(count)
        if kind == "half":
            return take(train, np.sort(order[: max(1, count // 2)])), held
        if kind == "blind":
            return zeroed(train), zeroed(held)
        if kind == "batch":
            part = take(train, np.sort(order[:BATCH_ROWS]))
            return part, part
        if kind == "whole":
            part = train if count <= FULL_ROWS else take(train, np.sort(order[:FULL_ROWS]))
            return part, part
        return train, held

    def train(
        self, setup: Setup, epochs: int | None = None, kind: str = "all", keep: bool = False, again: int = 0
    ) -> Outcome:
        """Train, or return what came of it when that was done before.

        Arguments:
            setup: what to train.
            epochs: instead of the setup's.
            kind: which rows (`rows`).
            keep: whether the weights are wanted afterwards (`model`).
            again: a number, to make the same training once more.

        Raises:
            Halted: nothing more may be spent, or somebody pressed Ctrl-C.
        """
        count = setup.epochs if epochs is None else epochs
        text = json.dumps([setup.as_dict(), count, kind, again], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        if key in self._trainings and (not keep or self._known(key) is not None):
            return Outcome.from_dict(key, self._trainings[key])
        if key not in self._trainings and self.left <= 0:
            raise Halted(f"all {self._most} trainings are made")
        left = self._until - monotonic()
        if left <= 0.0:
            raise Halted("the time is spent")
        train, held = self.rows(kind)
        steps = -(-len(train[1]) // setup.batch_size) * count
        sitter: Any = False  # a few rows by heart are many short epochs: watching would take longer than training
        if kind != "batch":
            sitter = Sitter(stop=True, every=max(1, steps // LOOKS), verdict=False, check=False)
        began = monotonic()
        found = setup.fit(
            *train, held, epochs=count, seconds=left if math.isfinite(left) else None, babysit=sitter,
            prepared=self.prepared(setup) if kind == "all" else None,
        )
        curves, stopped = found.history.history, found.history.stopped
        if stopped == "interrupt":
            raise Halted("interrupt")
        if monotonic() >= self._until and len(curves["loss"]) < count:
            raise Halted("the time is spent")
        assert found.score is not None
        losses, held_losses = tuple(curves["loss"]), tuple(curves.get("val_loss", (math.nan,)))
        last = held_losses[-1] if setup.patience is None else min(held_losses)  # early stopping gives the best back
        outcome = Outcome(
            key, found.score, last, losses, held_losses, tuple(curves.get("data_loss", losses)),
            stopped, monotonic() - began,
        )
        self._trainings[key] = outcome.as_dict()
        if keep:
            self._keep(key, {name: np.array(value) for name, value in found.model.state_dict().items()})
        self.write()
        return outcome

    def _keep(self, key: str, weights: dict[str, np.ndarray]) -> None:
        self._weights[key] = weights
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_tensors(self._folder / f"{key}.safetensors", weights, {})

    def _known(self, key: str) -> dict[str, np.ndarray] | None:
        if key not in self._weights and self._folder is not None:
            path = self._folder / f"{key}.safetensors"
            if path.exists():
                self._weights[key] = read_tensors(path)[0]
        return self._weights.get(key)

    def model(self, setup: Setup, key: str) -> Any:
        """Return the model of a training that was made with ``keep=True``."""
        weights = self._known(key)
        if weights is None:
            raise ValueError(f"the weights of training {key} were not kept")
        model = setup.build()
        model.load_state_dict(weights)
        return model


def _fingerprint(setup: Setup, parts: Parts) -> str:
    """Return what tells recipes apart: the user's setup and the data."""
    digest = hashlib.sha256(json.dumps(setup.as_dict(), sort_keys=True, default=str).encode())
    for x, y in parts:
        for array in (*as_tuple(x), y):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]
