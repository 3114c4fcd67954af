"""Every kernel of the CUDA backend against the float64 reference, run on the CPU."""

import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check
from deepbabysit_cupy.kernels import KERNELS

BRIEF = Settings(("float32",), 1, 2, 1, 1)
BOTH = BRIEF._replace(dtypes=("float64", "float32"))
# The others look at references and at what follows from them, on any device; the CPU's tests run them.
OF_KERNELS = [check for check in CHECKS if check not in ("graph", "second")]


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_operation(cuda, name):
    for check in OF_KERNELS:
        run_check(cuda, SPECS[name], check, BOTH if check == "values" else BRIEF)
    assert any(plan.spec.name == name and plan.kernel is not None for plan in cuda.plans.values())
