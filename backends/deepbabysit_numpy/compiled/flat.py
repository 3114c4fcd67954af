"""Kernels that go element by element, or row by row, over arrays of one shape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import LISTENERS, Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

FLOATS = frozenset({"float32", "float64"})
HALF_TOO = frozenset({"float16", *FLOATS})
Choice = tuple[Compiled, tuple[Any, ...]]
_BLOCK = 16 * 1024
_UNIT = 256  # elements: what is left over after whole vectors is left over at the end of an array alone
_WIDEN, _NARROW = Compiled("half", "widen"), Compiled("half", "narrow")


def same_forms(forms: Any, least: int) -> bool:
    """Tell whether the inputs have one shape and one dtype, and enough elements."""
    shape, dtype = forms[0]
    for form in forms:
        if form.shape != shape or form.dtype != dtype:
            return False
    size = prod(shape)
    return size >= least and size > 0 and available()


def widen(source: Any, target: Any) -> None:
    """Write float16 into an array of float32; both contiguous and of one shape."""
    _WIDEN("half", source.reshape(-1).view(np.uint16), target.reshape(-1))


def narrow(source: Any, target: Any) -> None:
    """Write float32 into an array of float16; both contiguous and of one shape."""
    _NARROW("half", source.reshape(-1), target.reshape(-1).view(np.uint16))


def sweep(function: Compiled, out: Any, ins: Sequence[Any], numbers: tuple[Any, ...] = ()) -> None:
    """Run ``function(*ins, out, *numbers)``; see `sweep_rows`."""
    sweep_rows(function, out.reshape(-1), [a.reshape(-1) for a in ins], numbers)


def sweep_rows(function: Compiled, out: Any, ins: Sequence[Any], numbers: tuple[Any, ...] = ()) -> None:
    """Run ``function(*ins, out, *numbers)`` over arrays whose first axis can be cut.

    Inputs in the memory of the output are copied block by block: a loop is vectorized only where reading and writing do
    not overlap. float16 comes as uint16. Several threads share a loop in programs alone: elsewhere, waking one takes as
    long as most of these loops.
    """
    if out.dtype == np.float16:
        out, ins = out.view(np.uint16), [a.view(np.uint16) for a in ins]
    if not any(np.may_share_memory(out, a) for a in ins):
        count = team.parts_awake(max(len(out) // _UNIT, 1) if out.ndim == 1 else len(out), float(out.size))
        if count == 1:
            function(out.dtype, *ins, out, *numbers)
        else:
            _shared(function, count, out, ins, numbers)
        return
    step = min(max(_BLOCK // prod(out.shape[1:]), 1), len(out))
    blocks = [np.empty((step, *out.shape[1:]), out.dtype) for _ in ins]
    for begin in range(0, len(out), step):
        part = slice(begin, begin + step)
        target = out[part]
        sources = [block[: len(target)] for block in blocks]
        for a, source in zip(ins, sources, strict=True):
            source[...] = a[part]
        function(out.dtype, *sources, target, *numbers)


def _shared(
    function: Compiled, count: int, out: Any, ins: Sequence[Any], numbers: tuple[Any, ...]
) -> None:
    """Write down for a program what `sweep_rows` does in so many parts."""
    unit = _UNIT if out.ndim == 1 else 1
    ends = [len(out) // unit * part // count * unit for part in range(count)] + [len(out)]
    parts = [(*[a[i:j] for a in ins], out[i:j], *numbers) for i, j in pairwise(ends)]
    LISTENERS[threading.get_ident()].shared(function.module, function.name, parts)


def flat_kernel(choose: Compiled | Callable[..., Choice], least: str = "elementwise") -> Kernel:
    """Return the kernel of a compiled loop.

    Arguments:
        choose: the compiled function, or ``choose(**attrs)`` -> (compiled function, numbers that it takes).
        least: name of the threshold in `sizes.LEAST`.
    """

    def takes(forms: Any, **attrs: Any) -> bool:
        return same_forms(forms, LEAST[least])

    if isinstance(choose, Compiled):
        fixed: Choice = (choose, ())

        def chosen(**attrs: Any) -> Choice:
            return fixed
    else:
        chosen = choose

    def run(ctx: Any, outs: Any, *ins: Any, **attrs: Any) -> None:
        function, numbers = chosen(**attrs)
        sweep(function, outs[0], ins, numbers)

    return Kernel(run, dtypes=HALF_TOO, supports=takes, contiguous=True)
