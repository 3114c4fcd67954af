"""Kernels that take sequences apart."""

from __future__ import annotations

from typing import Any

from deepbabysit.runtime.backend import Kernel


def _unstack(ctx: Any, outs: Any, x: Any, *, axis: int) -> None:
    before = (slice(None),) * (axis % x.ndim)
    for i, out in enumerate(outs):
        out[...] = x[(*before, i)]


KERNELS: dict[str, Kernel] = {"unstack": Kernel(_unstack)}
