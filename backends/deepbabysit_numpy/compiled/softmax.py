"""Softmax and its logarithm along the last axis, with their gradients."""

from __future__ import annotations

from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.flat import HALF_TOO, same_forms, sweep_rows
from deepbabysit_numpy.compiled.loading import Compiled
from deepbabysit_numpy.compiled.sizes import LEAST


def _takes(forms: Any, *, axis: int = -1) -> bool:
    return axis in (-1, len(forms[0].shape) - 1) and same_forms(forms, LEAST["softmax"])


def _by_rows(name: str) -> Kernel:
    """Return the kernel of ``name(*ins, out)`` over rows."""
    function, halves = Compiled("softmax", name), Compiled("softmax", f"half_{name}")

    def run(ctx: Any, outs: Any, *ins: Any, axis: int = -1) -> None:
        width = ins[0].shape[-1]
        chosen = halves if outs[0].dtype.itemsize == 2 else function
        sweep_rows(chosen, outs[0].reshape(-1, width), [a.reshape(-1, width) for a in ins])

    return Kernel(run, dtypes=HALF_TOO, supports=_takes, contiguous=True)


VARIANTS: dict[str, Kernel] = {
    name: _by_rows(name) for name in ("softmax", "log_softmax", "softmax_gradient", "log_softmax_gradient")
}
