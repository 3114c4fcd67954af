"""Normalizations in as few passes over memory as their definition allows."""

from __future__ import annotations

from math import gcd, prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime import threads
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_LANES = 256  # elements of a folded row, at least
_VECTOR = 16  # float32 in the widest register
_FLOAT64 = np.dtype(np.float64)

_MOMENTS, _JOIN_MOMENTS = Compiled("normalization", "moments"), Compiled("normalization", "join_moments")
_NORMALIZE = Compiled("normalization", "normalize")
_SUMS, _JOIN_SUMS = Compiled("normalization", "gradient_sums"), Compiled("normalization", "join_gradient")
_SPREAD = Compiled("normalization", "spread_gradient")
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


def _parts(rows: int, size: int) -> int:
    return team.parts(rows, float(size), max(LEAST["norm part"], 1))


def _lane_scratch(position: int, shared: bool = False) -> Any:
    """Return a `scratch`: for each part, vectors in lanes and vectors over the channels in float64."""

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        shape, dtype = forms[position]
        channels = shape[-1]
        number = _parts(prod(shape) // channels, prod(shape)) if shared else 1
        return Form((number, 6, _lanes(channels)), dtype), Form((number, 8, channels), _FLOAT64)

    return scratch


def _forward(rectify: bool) -> Any:
    def run(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> None:
        y, mean, var = outs
        lanes, totals = ctx.scratch
        flat, parts = x.reshape(-1), _now(lanes)
        team.TEAM.run(_MOMENTS, x.dtype, parts, flat, lanes, totals)
        _JOIN_MOMENTS(x.dtype, parts, x.size, totals, mean, var)
        _normalize(parts, flat, gamma, beta, mean, var, y, epsilon, lanes, totals, rectify)

    return run


def _now(lanes: Any) -> int:
    """Return how many parts run: as planned, or fewer where the number of threads was lowered since."""
    return min(len(lanes), threads.count())


def _normalize(
    parts: int, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, y: Any, epsilon: float, lanes: Any, totals: Any,
    rectify: bool,
) -> None:
    arrays = (x, gamma, beta, mean, var, y.reshape(-1))
    team.TEAM.run(_NORMALIZE, x.dtype, parts, *arrays, float(epsilon), lanes, totals, rectify)


def _inference(rectify: bool) -> Any:
    def run(
        ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
    ) -> None:
        lanes, totals = ctx.scratch
        _normalize(
            _now(lanes), x.reshape(-1), gamma, beta, mean, var, outs[0], epsilon, lanes, totals, rectify
        )

    return run


def _gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    _backward(ctx, outs, g, x, gamma, gamma, mean, var, epsilon, False)


def _relu_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    _backward(ctx, outs, g, x, gamma, beta, mean, var, epsilon, True)


def _backward(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, epsilon: float, rectify: bool
) -> None:
    by_input, by_gamma, by_beta = outs
    lanes, totals = ctx.scratch
    kind, small, parts = x.dtype, float(epsilon), _now(lanes)
    pair = (g.reshape(-1), x.reshape(-1))
    team.TEAM.run(_SUMS, kind, parts, *pair, gamma, beta, mean, var, small, lanes, totals, rectify)
    _JOIN_SUMS(kind, parts, x.size, gamma, var, by_gamma, by_beta, small, totals)
    team.TEAM.run(_SPREAD, kind, parts, *pair, by_input.reshape(-1), lanes, totals, rectify)


# -- rows ------------------------------------------------------------------------------------------------------------


def _rows(array: Any) -> Any:
    return array.reshape(-1, array.shape[-1])


def _row_norm(x: Any, gamma: Any, beta: Any, y: Any, epsilon: float, centered: bool) -> None:
    parts = _parts(len(x), x.size)
    team.TEAM.run(_ROW, x.dtype, parts, x, gamma, beta, y, float(epsilon), centered)


def _layer_norm(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-5) -> None:
    _row_norm(_rows(x), gamma, beta, _rows(outs[0]), epsilon, True)


def _rms_norm(ctx: Any, outs: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    _row_norm(_rows(x), gamma, gamma, _rows(outs[0]), epsilon, False)


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


def _group_norm(
    ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, groups: int, epsilon: float = 1e-5
) -> None:
    y = outs[0].reshape(-1)
    lanes, totals = ctx.scratch
    _GROUP(x.dtype, x.reshape(-1), gamma, beta, y, len(x), groups, float(epsilon), lanes[0], totals[0])


def _group_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, groups: int, epsilon: float = 1e-5
) -> None:
    by_input, by_gamma, by_beta = outs
    lanes, totals = ctx.scratch
    _GROUP_GRADIENT(
        x.dtype, g.reshape(-1), x.reshape(-1), gamma, by_input.reshape(-1), by_gamma, by_beta, len(x), groups,
        float(epsilon), lanes[0], totals[0],
    )


def _kernel(run: Any, scratch: Any = None, position: int = 0) -> Kernel:
    return Kernel(run, scratch=scratch, dtypes=_DTYPES, supports=_takes(position), contiguous=True)


VARIANTS: dict[str, Kernel] = {
    "batch_norm": _kernel(_forward(False), _lane_scratch(0, True)),
    "batch_norm_gradient": _kernel(_gradient, _lane_scratch(1, True)),
    "batch_norm_inference": _kernel(_inference(False), _lane_scratch(0, True)),
    "batch_norm_relu": _kernel(_forward(True), _lane_scratch(0, True)),
    "batch_norm_relu_gradient": _kernel(_relu_gradient, _lane_scratch(1, True)),
    "batch_norm_relu_inference": _kernel(_inference(True), _lane_scratch(0, True)),
    "layer_norm": _kernel(_layer_norm),
    "layer_norm_gradient": _kernel(_layer_gradient, _row_scratch),
    "rms_norm": _kernel(_rms_norm),
    "rms_norm_gradient": _kernel(_rms_gradient, _row_scratch),
    "group_norm": _kernel(_group_norm, _lane_scratch(0)),
    "group_norm_gradient": _kernel(_group_gradient, _lane_scratch(1)),
}
