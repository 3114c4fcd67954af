"""``bench``: ours against PyTorch and JAX, CPU against GPU, and all against the machine's own limits."""

from __future__ import annotations

import argparse
from pathlib import Path

from deepbabysit.bench import results, tables
from deepbabysit.bench.contenders import missing
from deepbabysit.bench.load import BUSY_AVERAGE, average
from deepbabysit.bench.run import PARTS, chosen, run
from deepbabysit.cli.usage import UsageError
from deepbabysit.errors import unknown
from deepbabysit.io.files import check_writable


def bench(options: argparse.Namespace) -> int:
    """Measure and print the tables, or print those of a file; 1 where a contender failed or computed something else."""
    if options.show:
        print(tables.report(results.read(Path(options.show))))
        return 0
    _check(options)

    def save(found: results.Results) -> None:
        if options.json:
            results.write(Path(options.json), found)

    load = average()
    note = "; others are at work: the figures will be marked as taken under load" if load >= BUSY_AVERAGE else ""
    print(f"load of the machine: {load:.2f} (the last minute){note}", flush=True)
    found = run(
        options.threads, options.quick, options.cases or (), options.contenders or (), options.parts or (),
        lambda line: print(line, flush=True), save,
    )  # fmt: skip
    save(found)
    print(f"\n{tables.report(found)}")
    return 1 if found["failed"] else 0


def _check(options: argparse.Namespace) -> None:
    """Refuse what is wrong in the command line before anything is measured."""
    try:
        chosen(options.cases or ())
        for name in options.contenders or ():
            missing(name)
        for part in options.parts or ():
            if part not in PARTS:
                raise ValueError(unknown("part", part, PARTS))
        if options.threads < 1:
            raise ValueError(f"--threads is at least 1; got {options.threads}")
    except ValueError as error:
        raise UsageError(str(error)) from error
    if options.json:
        check_writable(options.json)
