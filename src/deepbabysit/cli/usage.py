"""The error for a command line that is wrong in itself (exit status 2)."""

from __future__ import annotations


class UsageError(ValueError):
    """The command line itself is wrong."""
