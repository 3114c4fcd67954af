"""Softmax and its logarithm along the last axis, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.flat import FLOATS, same_forms
from deepbabysit_numpy.compiled.loading import Compiled
from deepbabysit_numpy.compiled.sizes import LEAST

_BLOCK = 16 * 1024


def _takes(forms: Any, *, axis: int = -1) -> bool:
    return axis in (-1, len(forms[0].shape) - 1) and same_forms(forms, LEAST["softmax"])


def _by_rows(name: str) -> Kernel:
    """Return the kernel of ``name(*ins, out)`` over rows; inputs in the memory of the output are copied by blocks."""
    function = Compiled("softmax", name)

    def run(ctx: Any, outs: Any, *ins: Any, axis: int = -1) -> None:
        width = ins[0].shape[-1]
        out, sources = outs[0].reshape(-1, width), [a.reshape(-1, width) for a in ins]
        if not any(np.may_share_memory(out, a) for a in ins):
            function(out.dtype, *sources, out)
            return
        step = max(_BLOCK // width, 1)
        for begin in range(0, len(out), step):
            part = slice(begin, begin + step)
            function(out.dtype, *[a[part].copy() for a in sources], out[part])

    return Kernel(run, dtypes=FLOATS, supports=_takes, contiguous=True)


VARIANTS: dict[str, Kernel] = {
    name: _by_rows(name) for name in ("softmax", "log_softmax", "softmax_gradient", "log_softmax_gradient")
}
