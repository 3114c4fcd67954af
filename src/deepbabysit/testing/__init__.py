"""The conformance suite: every operation on a device against its one meaning, for our backends and anyone's.

``python -m deepbabysit.testing --backend NAME`` runs it; ``pytest -p deepbabysit.testing.plugin
--deepbabysit-device NAME`` makes one test of each operation and check. Nothing here names an operation: a new
`KernelSpec` is tested as soon as it is defined.
"""

from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.outcome import ConformanceError, Outcome
from deepbabysit.testing.settings import QUICK, THOROUGH, Settings
from deepbabysit.testing.suite import run_check, run_suite, show_table

__all__ = [
    "CHECKS",
    "QUICK",
    "THOROUGH",
    "ConformanceError",
    "Outcome",
    "Settings",
    "run_check",
    "run_suite",
    "show_table",
]
