"""Every kernel of the CUDA backend against the float64 reference, run on the CPU."""

import pytest

from deepbabysit.kernels import SPECS
from deepbabysit.testing.checks import CHECKS
from deepbabysit.testing.settings import Settings
from deepbabysit.testing.suite import run_check
from deepbabysit_cupy.kernels import KERNELS

BRIEF = Settings(("float32",), 1, 2, 1, 1)
BOTH = BRIEF._replace(dtypes=("float64", "float32"))
# The other checks look at references and at what follows from them, on any device; the CPU's tests run them. So do
# derivatives where an operation has no fused one: they are the graph of its reference.
OF_KERNELS = [check for check in CHECKS if check not in ("graph", "second")]
OF_FUSED_DERIVATIVES = ("vjp", "gradcheck")


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_operation(cuda, name):
    spec = SPECS[name]
    for check in OF_KERNELS:
        if spec.vjp is not None or check not in OF_FUSED_DERIVATIVES:
            run_check(cuda, spec, check, BOTH if check == "values" else BRIEF)
    assert any(plan.spec.name == name and plan.kernel is not None for plan in cuda.plans.values())
