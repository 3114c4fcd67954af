"""``check``, ``findings`` and ``explain``: what is wrong, before a run and after it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from deepbabysit.babysit.codes import CODES, find
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.findings import read_findings, show, to_line
from deepbabysit.cli.usage import UsageError

DONE, FAILED, REMAIN = 0, 1, 3


def check(options: argparse.Namespace) -> int:
    """Check the network that `train` would take, with its data."""
    from deepbabysit.babysit.preflight import check as examine
    from deepbabysit.cli.train import prepare

    if not options.budget > 0:
        raise UsageError(f"--budget is a number of seconds above 0; got {options.budget}")
    ready = prepare(options, (lambda text: None) if options.json else print)
    x, y = ready.part("train")
    found = examine(
        ready.model, x, y, ready.part("validation"), batch_size=ready.settings.batch_size, epochs=ready.settings.epochs,
        budget=options.budget,
    )
    if options.json:
        _lines(found)
    else:
        print()
        print(found)
    if found.failure:
        print(f"deepbabysit: {found.failure}", file=sys.stderr)
        return FAILED
    return REMAIN if found.errors else DONE


def findings(options: argparse.Namespace) -> int:
    """Print the findings of a run."""
    found = read_findings(options.run)
    if options.json:
        _lines(found)
    else:
        for number, finding in enumerate(found, 1):
            print("\n".join(show(finding, f"{number}. ")))
        if not found:
            print("nothing was found")
    return REMAIN if any(finding.severity == "error" for finding in found) else DONE


def explain(options: argparse.Namespace) -> int:
    """Print what a code means, or all codes."""
    if options.code is None:
        width = max(map(len, CODES))
        for name, code in sorted(CODES.items()):
            print(f"{name:{width}}  {code.title}")
        return DONE
    try:
        code = find(options.code)
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(code.text())
    return DONE


def _lines(found: Sequence[Finding]) -> None:
    for finding in found:
        print(to_line(finding))
