"""The pools: which cases there are, in which order, with which seeds. Cases are data and are written as JSON.

A pool is a draw. Split by base program and by operator: the pools share no source of data, no fault operator and (but
for one of the first two) no look-alike, and their seeds differ. All but the newest may be tuned on; the newest is not
looked at while limits are tuned.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from benchmarks.babysitter import draws
from benchmarks.babysitter.operators import LOOKALIKES, OPERATORS, Operator, changes
from benchmarks.babysitter.programs import BY_NAME, PROGRAMS
from benchmarks.babysitter.recipes import Recipe, pool_of
from benchmarks.babysitter.sources import present

for _name in ("faults_of_data", "faults_of_models", "faults_of_training", "lookalikes"):
    draws.parts(_name)  # enters their operators
FIRST_SEED = {name: draw.FIRST_SEED for name, draw in draws.DRAWS.items()}
TRIALS = 3  # seeds of a case: the first one is watched, all of them tell whether the fault hurts
TWICE = 2  # variants of a look-alike


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: program, operator and number.
        pool, program: where it belongs and what it starts from.
        operator: what was done to it; ``clean`` for nothing.
        codes: the labels; empty for what is meant to be healthy.
        delta: entries of the recipe that are different.
        seeds: the first is that of the watched run.
    """

    name: str
    pool: str
    program: str
    operator: str
    codes: tuple[str, ...]
    delta: dict[str, Any]
    seeds: tuple[int, ...]

    @property
    def kind(self) -> str:
        """``fault``, ``lookalike`` or ``clean``."""
        return "fault" if self.codes else "clean" if self.operator == "clean" else "lookalike"

    def as_dict(self) -> dict[str, Any]:
        """Return what can be written as JSON."""
        return {
            "name": self.name, "pool": self.pool, "program": self.program, "operator": self.operator,
            "codes": list(self.codes), "delta": self.delta, "seeds": list(self.seeds),
        }


def _generator(pool: str, name: str) -> np.random.Generator:
    return np.random.default_rng((FIRST_SEED[pool], zlib.crc32(name.encode())))


def _made(pool: str, operators: Iterable[Operator], copies: int) -> list[Case]:
    cases = []
    for operator in operators:
        if operator.pool != pool:
            continue
        found = []
        for program in PROGRAMS:
            if pool_of(program) == pool:
                for copy in range(operator.copies * copies if operator.wanted is None else operator.wanted):
                    found.append(_case(pool, operator, program, copy))
        cases += _drawn(operator, [case for case in found if case is not None])
    return cases


def _case(pool: str, operator: Operator, program: Recipe, copy: int) -> Case | None:
    name = f"{program['name']}/{operator.name}/{copy}"
    rng = _generator(pool, name)
    delta = operator.make(program, rng)
    if delta is None or not changes(program, delta):
        return None
    seeds = FIRST_SEED[pool] + rng.permutation(draws.DRAWS[pool].SEEDS)[:TRIALS]
    return Case(name, pool, program["name"], operator.name, operator.codes, delta, tuple(seeds.tolist()))


def _drawn(operator: Operator, cases: list[Case]) -> list[Case]:
    """Return so many as the operator wants: first one of each program, in an order drawn by chance, then another."""
    if operator.wanted is None:
        return cases
    order = _generator(operator.pool, operator.name).permutation(len(cases)).tolist()
    seen: Counter[str] = Counter()
    rounds = []
    for i in order:
        rounds.append((seen[cases[i].program], len(rounds), i))
        seen[cases[i].program] += 1
    return [cases[i] for _, _, i in sorted(rounds)[: operator.wanted]]


@cache
def pool(name: str) -> tuple[Case, ...]:
    """Return all cases of a pool in a fixed order, in which faults and healthy ones are mixed 3 to 2.

    The first N of them are a sample of the pool; what needs data that are not there is left out.
    """
    if name not in FIRST_SEED:
        raise ValueError(f"there is no pool {name!r}; the pools are {', '.join(FIRST_SEED)}")
    clean = []
    for program in PROGRAMS:
        if pool_of(program) == name:
            for copy in range(draws.DRAWS[name].CLEAN):
                label = f"{program['name']}/clean/{copy}"
                # more seeds than a fault has: each clean case is another run
                clean.append(Case(label, name, program["name"], "clean", (), {}, (FIRST_SEED[name] + 100 + copy,)))
    groups = {
        "fault": _made(name, OPERATORS, 1), "lookalike": _made(name, LOOKALIKES, TWICE), "clean": clean,
    }
    keyed: list[tuple[float, Case]] = []
    for kind, cases in groups.items():
        order = _generator(name, kind).permutation(len(cases))
        share = {"fault": 0.6, "lookalike": 0.2, "clean": 0.2}[kind]
        keyed += [((place + 0.5) / share, cases[i]) for place, i in enumerate(order.tolist())]
    keyed.sort(key=lambda pair: pair[0])
    return tuple(case for _, case in keyed if present(BY_NAME[case.program]["data"]["source"]))
