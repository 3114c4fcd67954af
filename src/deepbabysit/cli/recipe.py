"""``deepbabysit recipe``: the six steps from data to a tuned network, on the data that `train` would take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepbabysit.babysit.recipe.running import Recipe
from deepbabysit.cli.train import Prepared, prepare, targets
from deepbabysit.cli.usage import UsageError
from deepbabysit.models.writing import write_model

DONE, FAILED, REMAIN, INTERRUPTED = 0, 1, 3, 130


def recipe(options: argparse.Namespace) -> int:
    """Do the steps that are not done yet; returns the exit status."""
    if options.seconds is not None and not options.seconds > 0:
        raise UsageError(f"--seconds is a number above 0; got {options.seconds}")
    if options.trainings < 1:
        raise UsageError(f"--trainings is a whole number of at least 1; got {options.trainings}")
    ready = _prepared(options)
    for line in [] if options.quiet else ready.task.text:
        print(line)
    folder = Path(options.out) if options.out is not None else Path("recipes") / ready.task.name

    def build(settings: Mapping[str, Any]) -> Any:
        return _prepared(options).model

    task, settings = ready.task, ready.settings
    parts = tuple((x, targets(task, y)) for x, y in (task.train, task.validation, task.test))
    found = Recipe(
        build, parts, epochs=settings.epochs, batch_size=settings.batch_size, trainings=options.trainings,
        seconds=options.seconds, folder=folder, seed=options.seed, verbose=not options.quiet,
    ).run()
    print(found.text.splitlines()[-1])
    if found.stopped:
        nothing = found.stopped.startswith("nothing")
        hint = "" if nothing else "; the same command goes on from here"
        print(f"stopped: {found.stopped}{hint} ({folder})", file=sys.stderr)
        return FAILED if nothing else INTERRUPTED if found.stopped == "interrupt" else DONE
    for number, model in enumerate(found.models):
        name = "model.dbs" if number == 0 else f"model-{number + 1}.dbs"
        extra = {"data": task.name, "kind": task.kind, "setup": found.setup.as_dict(), "test": found.test}
        print(f"saved {write_model(folder / name, model, extra=extra)}")
    return DONE if all(step.passed for step in found.steps) else REMAIN


def _prepared(options: argparse.Namespace) -> Prepared:
    return prepare(options, lambda text: None)
