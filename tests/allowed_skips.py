"""Under CI=true a skipped test is a failure, unless its reason is listed here.

A test that skips because something is not installed looks green and checks nothing. On a machine that claims to run
everything (`CI=true`) every skip has to be on this list, with why the project cannot provide what is missing.
"""

import os
import re
from collections.abc import Generator
from typing import Any

import pytest

# Pattern searched for in the reason of a skip -> why it may be skipped even there.
ALLOWED: dict[str, str] = {
    r"^could not import '(torch|jax)\b": "extra `peers`: hundreds of megabytes, only for comparisons",
    r"^could not import 'tensorboard\b": "extra `tensorboard`: twelve packages for one small adapter",
    r"^the wheel of cuBLAS is not installed$": "extras `cuda12`, `cuda13`: hundreds of megabytes",
    r"^the wheels of cuDNN are not installed$": "extras `cudnn12`, `cudnn13`: hundreds of megabytes",
    r"\bDEEPBABYSIT_DATA\b": "data files that the repository does not carry",
    r"^no (GPU|CUDA device)\b": "machines without an accelerator",
    r"^signals$": "Windows cannot send them",
}


def is_allowed(reason: str) -> bool:
    """Is this reason on the list?"""
    return any(re.search(pattern, reason) for pattern in ALLOWED)


def on_ci() -> bool:
    """Does this run claim to check everything?"""
    return os.environ.get("CI", "").lower() in ("true", "1")


class SkipRule:
    """The rule as a pytest plug-in; registered by name, so that it sees doctests outside tests/ too."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        """Judge one phase of one test."""
        return _judge((yield))

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, Any, Any]:
        """Judge a file: `importorskip` at its top skips all its tests at once."""
        return _judge((yield))


def _judge(report: Any) -> Any:
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not is_allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped although CI=true: {reason}\nInstall what is missing, or name it in {__name__}.py."
    return report
