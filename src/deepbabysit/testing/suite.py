"""Runs the checks and shows what came out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import KernelSpec
from deepbabysit.runtime.device import Device
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.outcome import NothingToCheck, Outcome
from deepbabysit.testing.settings import THOROUGH, Settings

_SHOWN = {"kernel": "ok", "partly": "partly", "reference": "ref", "none": "-", "failed": "FAIL"}


def run_check(device: Device, spec: KernelSpec, check: str, settings: Settings = THOROUGH) -> Outcome:
    """Run one check of one operation; raises what is wrong.

    Arguments:
        device: where to run.
        spec: the operation.
        check: a name from `CHECKS`.
        settings: how thoroughly.
    """
    try:
        with np.errstate(all="ignore"):
            ways = CHECKS[check](device, spec, settings)
    except NothingToCheck as reason:
        return Outcome(spec.name, check, "none", str(reason))
    status = "partly" if len(ways) > 1 else next(iter(ways), "none")
    return Outcome(spec.name, check, status, "" if ways else "no sample applies")


def run_suite(
    device: Device,
    only: Iterable[str] = (),
    settings: Settings = THOROUGH,
    checks: Sequence[str] = tuple(CHECKS),
) -> Iterator[Outcome]:
    """Run every check of every operation (or of those named); failures become outcomes.

    Raises:
        ValueError: a name is no operation.
    """
    from deepbabysit.errors import unknown

    names = list(only)
    for name in names:
        if name not in SPECS:
            raise ValueError(unknown("operation", name, SPECS.names()))
    for spec in list(SPECS):
        if names and spec.name not in names:
            continue
        for check in checks:
            try:
                yield run_check(device, spec, check, settings)
            except Exception as error:  # whatever a backend does is an outcome
                kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                yield Outcome(spec.name, check, "failed", f"{kind}{error}")


def show_table(outcomes: Sequence[Outcome]) -> str:
    """Write the outcomes as a table: one row per operation, one column per check.

    ``ok``: passed with a kernel of the backend; ``ref``: passed, but the reference ran; ``partly``: the reference ran
    for some inputs; ``-``: nothing to check; ``FAIL``.
    """
    checks = list(dict.fromkeys(o.check for o in outcomes))
    rows: dict[str, dict[str, str]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.operation, {})[outcome.check] = _SHOWN[outcome.status]
    width = max([len("operation"), *map(len, rows)])
    lines = [f"{'operation':<{width}}  " + "  ".join(f"{c:<9}" for c in checks)]
    lines += [f"{name:<{width}}  " + "  ".join(f"{row.get(c, ''):<9}" for c in checks) for name, row in rows.items()]
    failed = [o for o in outcomes if o.status == "failed"]
    lines += [f"\nFAIL {o.operation} / {o.check}: {o.detail}" for o in failed]
    running = [c for c in checks if c not in ("errors", "graph")]
    by_kernel = sum(1 for row in rows.values() if any(row.get(c) in ("ok", "partly") for c in running))
    lines.append(
        f"\n{len(rows)} operations, {by_kernel} with a kernel; {len(outcomes)} checks: "
        f"{sum(1 for o in outcomes if o.status in ('kernel', 'partly', 'reference'))} passed "
        f"({sum(1 for o in outcomes if o.status == 'reference')} of them by the reference), "
        f"{len(failed)} failed, {sum(1 for o in outcomes if o.status == 'none')} with nothing to check"
    )
    return "\n".join(lines)
