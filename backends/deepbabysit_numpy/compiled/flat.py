"""Kernels that go element by element over arrays of one shape."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

FLOATS = frozenset({"float32", "float64"})
_BLOCK = 16 * 1024


def same_forms(forms: Any, least: int) -> bool:
    """Tell whether the inputs have one shape and one dtype, and enough elements."""
    shape, dtype = forms[0]
    for form in forms:
        if form.shape != shape or form.dtype != dtype:
            return False
    size = prod(shape)
    return size >= least and size > 0 and available()


def sweep(function: Compiled, out: Any, ins: tuple[Any, ...], numbers: tuple[Any, ...] = ()) -> None:
    """Run ``function(*ins, out, *numbers)`` over flat arrays; inputs in the memory of the output are copied by blocks.

    A loop is vectorized only where reading and writing do not overlap.
    """
    flat, sources = out.reshape(-1), [a.reshape(-1) for a in ins]
    if not any(np.may_share_memory(out, a) for a in ins):
        function(out.dtype, *sources, flat, *numbers)
        return
    for begin in range(0, flat.size, _BLOCK):
        part = slice(begin, begin + _BLOCK)
        function(out.dtype, *[a[part].copy() for a in sources], flat[part], *numbers)


def flat_kernel(
    choose: Compiled | Callable[..., tuple[Compiled, tuple[Any, ...]]], least: str = "elementwise"
) -> Kernel:
    """Return the kernel of a compiled loop.

    Arguments:
        choose: the compiled function, or ``choose(**attrs)`` -> (compiled function, numbers that it takes).
        least: name of the threshold in `sizes.LEAST`.
    """

    def takes(forms: Any, **attrs: Any) -> bool:
        return same_forms(forms, LEAST[least])

    if isinstance(choose, Compiled):
        fixed: tuple[Compiled, tuple[Any, ...]] = (choose, ())

        def chosen(**attrs: Any) -> tuple[Compiled, tuple[Any, ...]]:
            return fixed
    else:
        chosen = choose

    def run(ctx: Any, outs: Any, *ins: Any, **attrs: Any) -> None:
        function, numbers = chosen(**attrs)
        sweep(function, outs[0], ins, numbers)

    return Kernel(run, dtypes=FLOATS, supports=takes, contiguous=True)
