"""Does a fault hurt? Its runs against those of its healthy twin, seed by seed; no rule has a say in it.

A fault hurts when, over the seeds, one of the measures is worse by at least its margin in the mean, and either the
paired one-sided t-test says so at the 5 % level or it is worse by the margin with every seed (a refused run hurts by
itself). Two seeds are enough where a measure is worse by five times its margin with both. A fault is harmless when no
measure is worse by its margin in the mean; then the case is a healthy one. What is between is unclear and left out, and
counted.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.babysitter.running import run

MARGINS = {"accuracy": 0.02, "r2": 0.03, "skill": 0.1, "promise": 0.04}
# quantiles of Student's t at 95 %, by degrees of freedom
STUDENT = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833}


class Scores:
    """Scores of runs that nobody watches, kept in a file so that a pool can go on later.

    Arguments:
        path: a file of lines, each a JSON object; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self._known[entry["key"]] = entry

    def pair(
        self, recipe: Mapping[str, Any], twin: Mapping[str, Any], seeds: Sequence[int]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what `of` says of a recipe and its twin, seed by seed, as far as they are needed."""
        own: list[dict[str, Any]] = []
        other: list[dict[str, Any]] = []
        for seed in seeds:
            own.append(self.of(recipe, seed))
            if own[-1]["refused"]:
                return own, []
            other.append(self.of(twin, seed))
            if len(own) > 1 and plain(own, other):
                break
        return own, other

    def of(self, recipe: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return ``scores``, ``promise``, ``refused``, ``weights`` of a recipe trained with a seed."""
        text = json.dumps({**recipe, "name": ""}, sort_keys=True)
        key = hashlib.sha256(f"{text}/{seed}".encode()).hexdigest()[:24]
        if key not in self._known:
            done = run(recipe, seed, watch=False)
            entry = {"key": key, **done.as_score()}
            self._known[key] = entry
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
        return self._known[key]


PLAIN = 5.0  # margins by which a measure is worse with two seeds where no third one is asked


def plain(faulty: Sequence[Mapping[str, Any]], healthy: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a measure is worse by so much with every one of these seeds that no further one is needed."""
    least = [
        min(value - bad["scores"].get(name, -1.0) for bad, value in values) / MARGINS[name]
        for name in healthy[0]["scores"]
        if (values := [(bad, good["scores"][name]) for bad, good in zip(faulty, healthy, strict=True)])
    ]
    return max(least) >= PLAIN


def judge(faulty: Sequence[Mapping[str, Any]], healthy: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, float]]:
    """Return ``hurts``, ``harmless`` or ``unclear``, and by how much each measure is worse in the mean.

    Arguments:
        faulty, healthy: what `Scores.of` returned for the same seeds.
    """
    if any(entry["refused"] for entry in faulty):
        return "hurts", {}
    worse: dict[str, list[float]] = {}
    for bad, good in zip(faulty, healthy, strict=True):  # the same seeds
        for name, value in good["scores"].items():
            worse.setdefault(name, []).append(value - bad["scores"].get(name, -1.0))
        worse.setdefault("promise", []).append(bad["promise"] - good["promise"])
    means = {name: mean(values) for name, values in worse.items()}
    hurts = any(
        means[name] >= MARGINS[name] and (significant(values) or min(values) >= MARGINS[name])
        for name, values in worse.items()
    )
    if hurts:
        return "hurts", means
    return ("harmless" if all(means[name] < MARGINS[name] for name in worse) else "unclear"), means


def significant(differences: Sequence[float]) -> bool:
    """Tell whether the mean is above 0 by the paired one-sided t-test at 5 %.

    >>> significant([0.1, 0.12, 0.11]), significant([0.1, -0.1, 0.05]), significant([0.3])
    (True, False, False)
    """
    count = len(differences)
    if count < 2:
        return False
    error = stdev(differences) / math.sqrt(count)
    middle = mean(differences)
    return middle > 0.0 and (error == 0.0 or middle / error > STUDENT[min(count - 1, 9)])
