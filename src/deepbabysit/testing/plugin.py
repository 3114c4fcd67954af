"""A pytest plug-in: one test for each operation and check.

``pytest -p deepbabysit.testing.plugin --deepbabysit-device cpu`` adds them to what else is collected.
"""

from __future__ import annotations

from typing import Any

import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.runtime.registry import find_device
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.outcome import ConformanceError
from deepbabysit.testing.settings import QUICK, THOROUGH
from deepbabysit.testing.suite import run_check


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("deepbabysit")
    group.addoption(
        "--deepbabysit-device", action="append", default=[], help="run the conformance suite on this device"
    )
    group.addoption("--deepbabysit-only", action="append", default=[], help="only this operation")
    group.addoption("--deepbabysit-quick", action="store_true", help="fewer draws")


class ConformanceItem(pytest.Item):
    """One check of one operation on one device."""

    def __init__(self, *, device: str, operation: str, check: str, quick: bool, **options: Any) -> None:
        super().__init__(**options)
        self._device = device
        self._operation = operation
        self._check = check
        self._settings = QUICK if quick else THOROUGH

    def runtest(self) -> None:
        """Run the check."""
        outcome = run_check(find_device(self._device), SPECS[self._operation], self._check, self._settings)
        self.user_properties.append(("deepbabysit", outcome.status))
        if outcome.status == "none":
            pytest.skip(outcome.detail)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show what is wrong, without the suite's own frames."""
        if isinstance(excinfo.value, ConformanceError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Say where it belongs."""
        return "deepbabysit.testing", None, self.name


def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add one item for each device, operation and check."""
    only = config.getoption("--deepbabysit-only")
    for device in config.getoption("--deepbabysit-device"):
        for name in SPECS.names():
            if only and name not in only:
                continue
            for check in CHECKS:
                items.append(
                    ConformanceItem.from_parent(
                        session,
                        name=f"conformance[{device}-{name}-{check}]",
                        device=device,
                        operation=name,
                        check=check,
                        quick=config.getoption("--deepbabysit-quick"),
                    )
                )
