"""``python -m deepbabysit.testing --backend NAME``: does a backend do what the operations mean?"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from deepbabysit.runtime.registry import backends, find_device, register_backend
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.settings import QUICK, THOROUGH
from deepbabysit.testing.suite import run_suite, show_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; returns 0 when everything passed, 1 when something failed, 2 for wrong arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m deepbabysit.testing", description="Compare a backend with the meaning of every operation."
    )
    parser.add_argument("--backend", help="name of the backend: numpy, cupy, reference, or an installed plug-in")
    parser.add_argument("--device", help="only this device, such as cuda:0 (default: all devices of the backend)")
    parser.add_argument("--register", metavar="MODULE:FUNCTION", help="open the backend with this function")
    parser.add_argument("--only", action="append", default=[], metavar="OP", help="only this operation (repeatable)")
    parser.add_argument(
        "--check", action="append", default=[], choices=list(CHECKS), help="only this check (repeatable)"
    )
    parser.add_argument("--quick", action="store_true", help="fewer draws, two dtypes")
    given = parser.parse_args(arguments)
    if given.backend is None and given.device is None:
        parser.error("name a --backend or a --device")
    failed = False
    try:
        if given.register:
            if given.backend is None:
                parser.error("--register needs --backend NAME")
            module, _, function = given.register.partition(":")
            sys.path.insert(0, os.getcwd())
            register_backend(given.backend, getattr(importlib.import_module(module), function))
        names = [given.device] if given.device else _devices(given.backend)
        for name in names:
            device = find_device(name)
            print(f"device {device.name}, backend {device.backend.name}")
            outcomes = list(
                run_suite(device, given.only, QUICK if given.quick else THOROUGH, given.check or tuple(CHECKS))
            )
            print(show_table(outcomes), flush=True)
            failed = failed or any(o.status == "failed" for o in outcomes)
    except (ValueError, ImportError, AttributeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if failed else 0


def _devices(backend: str) -> tuple[str, ...]:
    from deepbabysit.errors import unknown

    known = {info.name: info for info in backends()}
    if backend not in known:
        raise ValueError(unknown("backend", backend, known))
    if not known[backend].usable:
        raise ValueError(f"the backend {backend!r} cannot run here: {known[backend].reason}")
    return known[backend].devices


if __name__ == "__main__":
    sys.exit(main())
