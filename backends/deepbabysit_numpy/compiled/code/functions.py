"""One loop around each function of `mathematics`: kernels of the functions themselves."""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.code import mathematics
from deepbabysit_numpy.compiled.jit import jit


def _loop(function: Any) -> Any:
    def loop(x: Any, out: Any) -> None:
        mathematics.wide()
        for i in range(x.size):
            out[i] = function(x[i])

    return jit(loop)


exp, decay, expm1 = map(_loop, (mathematics.exp, mathematics.decay, mathematics.expm1))
log, log1p, softplus_tail = map(_loop, (mathematics.log, mathematics.log1p, mathematics.softplus_tail))
tanh, sigmoid, erf = map(_loop, (mathematics.tanh, mathematics.sigmoid, mathematics.erf))
