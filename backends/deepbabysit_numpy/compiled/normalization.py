"""Normalizations in as few passes over memory as their definition allows."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_LANES = 256  # elements of a folded row, at least
_VECTOR = 16  # float32 in the widest register
_FLOAT64 = np.dtype(np.float64)

_BATCH, _BATCH_GRADIENT = Compiled("normalization", "batch_norm"), Compiled("normalization", "batch_norm_gradient")
_INFERENCE = Compiled("normalization", "batch_norm_inference")
_ROW, _ROW_GRADIENT = Compiled("normalization", "row_norm"), Compiled("normalization", "row_norm_gradient")
_GROUP, _GROUP_GRADIENT = Compiled("normalization", "group_norm"), Compiled("normalization", "group_norm_gradient")


def _lanes(channels: int) -> int:
    """Return how long a folded row is: whole rows, and whole vectors where rows are short."""
    if channels >= _LANES:
        return channels
    whole = _VECTOR // gcd(channels, _VECTOR)
    return channels * whole * max(_LANES // (channels * whole), 1)


def _takes(position: int) -> Any:
    """Return a `supports` that looks at the size of one input."""

    def supports(forms: Any, **attrs: Any) -> bool:
        size = prod(forms[position].shape)
        same = all(form.dtype == forms[0].dtype for form in forms)
        return same and size >= LEAST["norm"] and size > 0 and available()

    return supports


def _lane_scratch(position: int) -> Any:
    """Return a `scratch`: vectors in lanes, vectors over the channels in float64."""

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        channels = forms[position].shape[-1]
        return Form((4, _lanes(channels)), forms[position].dtype), Form((7, channels), _FLOAT64)

    return scratch


def _batch_norm(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> None:
    y, mean, var = outs
    lanes, totals = ctx.scratch
    _BATCH(x.dtype, x.reshape(-1), gamma, beta, y.reshape(-1), mean, var, float(epsilon), lanes, totals)


def _inference(
    ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    lanes, totals = ctx.scratch
    y = outs[0].reshape(-1)
    _INFERENCE(x.dtype, x.reshape(-1), gamma, beta, mean, var, y, float(epsilon), lanes, totals)


def _batch_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    by_input, by_gamma, by_beta = outs
    lanes, totals = ctx.scratch
    _BATCH_GRADIENT(
        x.dtype, g.reshape(-1), x.reshape(-1), gamma, mean, var, by_input.reshape(-1), by_gamma, by_beta,
        float(epsilon), lanes, totals,
    )


# -- rows ------------------------------------------------------------------------------------------------------------


def _rows(array: Any) -> Any:
    return array.reshape(-1, array.shape[-1])


def _layer_norm(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-5) -> None:
    _ROW(x.dtype, _rows(x), gamma, beta, _rows(outs[0]), float(epsilon), True)


def _rms_norm(ctx: Any, outs: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    _ROW(x.dtype, _rows(x), gamma, gamma, _rows(outs[0]), float(epsilon), False)


def _row_scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    channels, dtype = forms[1].shape[-1], forms[1].dtype
    return Form((2, channels), dtype), Form((2, channels), _FLOAT64), Form((channels,), dtype)


def _layer_gradient(ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    by_input, by_gamma, by_beta = outs
    lanes, totals, _ = ctx.scratch
    _ROW_GRADIENT(
        x.dtype, _rows(g), _rows(x), gamma, _rows(by_input), by_gamma, by_beta, float(epsilon), True, lanes, totals
    )


def _rms_gradient(ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    by_input, by_gamma = outs
    lanes, totals, unused = ctx.scratch
    _ROW_GRADIENT(
        x.dtype, _rows(g), _rows(x), gamma, _rows(by_input), by_gamma, unused, float(epsilon), False, lanes, totals
    )


# -- groups ----------------------------------------------------------------------------------------------------------


def _samples(array: Any) -> Any:
    return array.reshape(array.shape[0], -1)


def _group_norm(
    ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, groups: int, epsilon: float = 1e-5
) -> None:
    lanes, totals = ctx.scratch
    _GROUP(x.dtype, _samples(x), gamma, beta, _samples(outs[0]), groups, float(epsilon), lanes, totals)


def _group_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, groups: int, epsilon: float = 1e-5
) -> None:
    by_input, by_gamma, by_beta = outs
    lanes, totals = ctx.scratch
    _GROUP_GRADIENT(
        x.dtype, _samples(g), _samples(x), gamma, _samples(by_input), by_gamma, by_beta, groups, float(epsilon), lanes,
        totals[:5], totals[5:],
    )


def _kernel(run: Any, scratch: Any = None, position: int = 0) -> Kernel:
    return Kernel(run, scratch=scratch, dtypes=_DTYPES, supports=_takes(position), contiguous=True)


VARIANTS: dict[str, Kernel] = {
    "batch_norm": _kernel(_batch_norm, _lane_scratch(0)),
    "batch_norm_inference": _kernel(_inference, _lane_scratch(0)),
    "batch_norm_gradient": _kernel(_batch_gradient, _lane_scratch(1)),
    "layer_norm": _kernel(_layer_norm),
    "layer_norm_gradient": _kernel(_layer_gradient, _row_scratch),
    "rms_norm": _kernel(_rms_norm),
    "rms_norm_gradient": _kernel(_rms_gradient, _row_scratch),
    "group_norm": _kernel(_group_norm, _lane_scratch(0)),
    "group_norm_gradient": _kernel(_group_gradient, _lane_scratch(1)),
}
