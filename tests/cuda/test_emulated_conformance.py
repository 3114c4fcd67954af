"""Every kernel of the CUDA backend against the float64 reference, run on the CPU."""

import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check

BRIEF = Settings(("float64", "float32"), 1, 2, 1, 1)


@pytest.mark.parametrize("name", sorted(SPECS.names()))
def test_operation(cuda, emulation, name):
    if name not in cuda.backend.kernels:
        pytest.xfail("no kernel yet")
    for check in CHECKS:
        run_check(cuda, SPECS[name], check, BRIEF)
