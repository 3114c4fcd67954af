"""A run: the parts that were asked for, one after another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from deepbabysit.bench import around, kernels, networks, results
from deepbabysit.bench.cases import CASES, QUICK, meant, select
from deepbabysit.bench.contenders import NAMES, ContenderError, Pool, missing
from deepbabysit.bench.load import Meter
from deepbabysit.bench.session import OURS, Session
from deepbabysit.errors import unknown

PARTS: dict[str, Callable[[Session], None]] = {
    "steps": networks.measure, "kernels": kernels.measure, **around.PARTS,
}  # fmt: skip
LIMITS: dict[str, int] = {}
"""What `limits_side` is asked for: nothing means products of 1024 rows and memory well beyond the last cache."""


def chosen(patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the networks and of the single operations that patterns mean.

    Raises:
        ValueError: a pattern means neither.

    >>> chosen(["tiny", "gelu 64*"])
    (['tiny@64'], ['gelu 64x256'])
    >>> all(chosen(["*"]))  # both
    True
    """
    operations = [pattern for pattern in patterns if kernels.select([pattern])]
    networks = [pattern for pattern in patterns if pattern not in operations or meant(pattern)]
    return select(networks), kernels.select(operations)


def run(
    threads: int = 2,
    quick: bool = False,
    cases: Sequence[str] = (),
    names: Sequence[str] = (),
    parts: Sequence[str] = (),
    say: Callable[[str], None] = print,
    save: Callable[[results.Results], None] = lambda found: None,
) -> results.Results:
    """Measure; returns what `results.write` writes.

    Arguments:
        threads: processors of each contender.
        quick: fewer networks and rounds.
        cases: patterns of networks and of single operations; none means all, or those of a quick run.
        names: contenders; none means all that can run here.
        parts: names in `PARTS`; none means all.
        say: called with each line of progress.
        save: called with what there is so far, again and again.

    Raises:
        ValueError: a network, a contender or a part has an unknown name.
    """
    for part in parts:
        if part not in PARTS:
            raise ValueError(unknown("part", part, PARTS))
    keys, operations = chosen(cases) if cases else (list(QUICK if quick else CASES), [])
    wanted = list(names) or [*NAMES, f"{OURS}:cuda"]
    reasons = {name: reason for name in wanted if (reason := missing(name))}
    found = results.new(threads)
    found["skipped"] = reasons
    meter = Meter()
    with Pool(threads) as pool:
        here = [name for name in wanted if name not in reasons]
        session = Session(pool, threads, quick, keys, operations, here, bool(names), say, found, save, bool(cases))
        session.limits(LIMITS)
        for name, measure in PARTS.items():
            if not parts or name in parts:
                say(f"-- {name}")
                try:
                    measure(session)
                except ContenderError as error:
                    found["failed"][name] = str(error)
                    say(f"{name}: failed: {error}")
        session.limits()
    found["machine_info"]["load"] = meter.read()
    return found
