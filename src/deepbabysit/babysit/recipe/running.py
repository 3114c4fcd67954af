"""The recipe itself: the six steps in order, what they come to, and how it is continued."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, final

import numpy as np

from deepbabysit.babysit.recipe.looking import look
from deepbabysit.babysit.recipe.overfitting import overfit
from deepbabysit.babysit.recipe.parts import parts_of
from deepbabysit.babysit.recipe.regularizing import regularize
from deepbabysit.babysit.recipe.skeleton import skeleton
from deepbabysit.babysit.recipe.squeezing import answer, squeeze
from deepbabysit.babysit.recipe.steps import TITLES, Report, Step
from deepbabysit.babysit.recipe.tuning import tune
from deepbabysit.babysit.recipe.workshop import Halted, Outcome, Workshop
from deepbabysit.babysit.setup import Setup, setup_of
from deepbabysit.errors import spelled

STEPS: dict[str, Callable[[Workshop, Report], None]] = {
    "look": look, "skeleton": skeleton, "overfit": overfit, "regularize": regularize, "tune": tune, "squeeze": squeeze,
}


@final
class Result:
    """What a recipe came to.

    Attributes:
        steps: those that are done, in order, each with its verdict.
        stopped: why it ended early; empty where all steps are done.
        setup: the training as it was worked out.
        model: the best single model, None before the last step; it takes inputs as `setup` prepares them.
        models: those whose outputs are averaged.
        test: score on the test part, None before the last step.
        trainings: how many were made.
    """

    def __init__(self, shop: Workshop, stopped: str) -> None:
        self._shop = shop
        self.steps: list[Step] = list(shop.steps)
        self.stopped = stopped
        self.setup: Setup = shop.setup
        self.trainings = shop.made
        self.test: dict[str, Any] | None = shop.answers.get("test") if self.done else None
        self._members = _members(shop) if self.done else []
        self.models: list[Any] = [shop.model(s, o.key) for s, o in self._members]
        self.model: Any = self.models[0] if self.models else None

    @property
    def done(self) -> bool:
        """Whether all steps are done."""
        return len(self.steps) == len(STEPS)

    @property
    def text(self) -> str:
        """Everything in words."""
        lines = [str(step) for step in self.steps]
        if self.stopped:
            at = next((name for name in STEPS if name not in [s.name for s in self.steps]), "squeeze")
            lines.append(f"stopped in step {list(TITLES).index(at) + 1} ({TITLES[at]}): {self.stopped}")
        failed = [TITLES[step.name] for step in self.steps if not step.passed]
        said = "all steps passed" if self.done and not failed else f"not passed: {', '.join(failed) or 'none so far'}"
        lines.append(f"{len(self.steps)} of {len(STEPS)} steps done, {self.trainings} trainings; {said}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def predict(self, x: Any) -> np.ndarray:
        """Return what the best model, or the best together, say about raw inputs, in the targets' own units.

        Raises:
            RuntimeError: the last step is not done.
        """
        if not self._members:
            raise RuntimeError(f"the recipe is not done ({self.stopped}); continue it with Recipe(...).run()")
        return answer(self._shop, self._members, x)


def _members(shop: Workshop) -> list[tuple[Setup, Outcome]]:
    source = shop.first.source
    found = []
    for values, key in shop.answers["members"]:
        setup = replace(Setup.from_dict(values, source.model, source.objects), source=source)
        found.append((setup, Outcome.from_dict(key, shop.journal(key))))
    return found


@final
class Recipe:
    """Six steps from data to a trained network: look at the data; skeleton and dumb baselines; overfit; regularize;
    tune; squeeze. Each has its test, and says in words with numbers what it found.

    What is chosen is chosen by the validation part; the test part is used once, at the end. The same seed makes the
    same choices. After Karpathy, 2019, "A Recipe for Training Neural Networks".

    Arguments:
        build: ``build(settings)`` returns a compiled model; settings is empty, or for models that cannot be described
            as data holds ``learning_rate``, ``optimizer``, ``batch_size`` and ``epochs``.
        data: three pairs (x, y), a `db.data.split` into three, or a `Dataset`; raw: the recipe may scale them.
        epochs, batch_size: of an ordinary training.
        trainings: how many are made at most.
        seconds: how long one `run` may take; what is being trained then is trained again when it is continued.
        folder: where the state is kept, so that it can be continued in another process; None keeps it in memory.
        seed: of everything.
        verbose: whether each step is printed when it is done.

    Raises:
        TypeError: data of another kind, or `build` returns no compiled model.
        ValueError: a part is empty; the folder holds the state of another recipe; a number is out of range.

    >>> import deepbabysit as db
    >>> def build(settings):
    ...     layers = [db.layers.Dense(16, "relu", input_shape=13), db.layers.Dense(3)]
    ...     return db.Sequential(layers).compile(db.optimizers.Adam(0.01), "cross_entropy", ["accuracy"])
    >>> recipe = Recipe(build, db.datasets.wine(), epochs=3, trainings=4, verbose=False)
    >>> result = recipe.run()
    >>> [step.name for step in result.steps], result.stopped
    (['look'], 'all 4 trainings are made')
    """

    @spelled
    def __init__(
        self,
        build: Callable[[Mapping[str, Any]], Any],
        data: Any,
        *,
        epochs: int = 30,
        batch_size: int = 32,
        trainings: int = 80,
        seconds: float | None = None,
        folder: str | os.PathLike[str] | None = None,
        seed: int = 0,
        verbose: bool = True,
    ) -> None:
        for name, value in (("epochs", epochs), ("batch_size", batch_size), ("trainings", trainings)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is a whole number of at least 1; got {value!r}")
        if seconds is not None and not seconds > 0:
            raise ValueError(f"seconds is above 0, or None for no limit; got {seconds!r}")
        parts = parts_of(data, seed)
        first = build({})
        if not getattr(first, "compiled", False):
            raise TypeError(f"build(settings) must return a compiled model; got {type(first).__name__}")
        setup = setup_of(
            first, parts.train[0], batch_size=batch_size, epochs=epochs, seed=seed, make=lambda: build({})
        )
        self._shop = Workshop(
            setup, parts, trainings, seconds, None if folder is None else Path(folder),
            print if verbose else lambda text: None,
        )

    def run(self) -> Result:
        """Do the steps that are not done yet; Ctrl-C, the time or the trainings end it, another `run` goes on.

        Returns:
            The result so far; `Result.stopped` says why it ended.
        """
        shop = self._shop
        shop.begin()
        stopped = ""
        try:
            for name, work in STEPS.items():
                if name in [step.name for step in shop.steps]:
                    continue
                began, setup = monotonic(), shop.setup
                report = Report()
                try:
                    work(shop, report)
                except BaseException:
                    shop.setup = setup  # the step begins anew when it is continued
                    raise
                lines = tuple(report.lines)
                trainings = shop.made - shop.before
                shop.done(Step(name, report.passed, lines, report.numbers, trainings, monotonic() - began))
        except Halted as halted:
            stopped = str(halted)
        except KeyboardInterrupt:
            stopped = "interrupt"
        shop.write()
        return Result(shop, stopped)
