"""One loop around each function of `mathematics`: what tests and measurements of their digits run."""

from __future__ import annotations

from typing import Any

from deepbabysit_numpy.compiled.code import mathematics
from deepbabysit_numpy.compiled.jit import jit


def _probe(function: Any) -> Any:
    def loop(x: Any, out: Any) -> None:
        for i in range(x.size):
            out[i] = function(x[i])

    return jit(loop)


exp, decay, expm1, log = map(_probe, (mathematics.exp, mathematics.decay, mathematics.expm1, mathematics.log))
tanh, sigmoid, erf = map(_probe, (mathematics.tanh, mathematics.sigmoid, mathematics.erf))
softplus_tail = _probe(mathematics.softplus_tail)
