"""What a check finds."""

from __future__ import annotations

from typing import NamedTuple


class ConformanceError(AssertionError):
    """An operation on a device is not what its specification says."""


class Outcome(NamedTuple):
    """The result of one check of one operation.

    Attributes:
        operation: its name.
        check: the check's name.
        status: "kernel" (passed, a kernel of the backend ran), "partly" (passed; for some inputs the reference ran),
            "reference" (passed, but there is no kernel), "none" (there is nothing to check) or "failed".
        detail: what went wrong, or why there is nothing to check.
    """

    operation: str
    check: str
    status: str
    detail: str = ""


class NothingToCheck(Exception):
    """A check does not apply; the message says why."""
