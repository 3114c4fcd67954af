"""Normalizations: over the batch by reductions and maps, over a sample's channels by kernels of their own."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import FLOATS, launch, short, team_width
from deepbabysit_cupy.kernels.maps import FUNCTIONS, run_map
from deepbabysit_cupy.kernels.reducing import Cut, Reduction, cut, reduction, run_reduction

_FILE = "normalization.cu"


def _wide(dtype: Any) -> Any:
    """Return the dtype of statistics."""
    return np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)


def _fits(forms: Any, vectors: int) -> bool:
    """Tell whether all arrays are of one floating dtype; the last `vectors` may be float32 beside half precision."""
    first = forms[0].dtype
    arrays, small = forms[: len(forms) - vectors], forms[len(forms) - vectors :]
    return first.name in FLOATS and all(f.dtype == first for f in arrays) and all(
        f.dtype == small[0].dtype and f.dtype in (first, _wide(first)) for f in small
    )


def _narrow(ctx: Any, outs: Any, sums: Any) -> None:
    """Write what was summed in a wider dtype."""
    for out, total in zip(outs, sums, strict=False):
        if out is not total:
            run_map("astype", ctx, (out,), (total,), {"dtype": out.dtype.name})


# -- over the batch --------------------------------------------------------------------------------------------------


def _normal(xp: Any, x: Any, mean: Any, var: Any, epsilon: float) -> Any:
    return (xp.astype(x, mean.dtype) - mean) * (1.0 / xp.sqrt(var + epsilon))


def _through(xp: Any, g: Any, x: Any, mean: Any, var: Any, gamma_beta: Any, epsilon: float) -> Any:
    """Return a gradient where ReLU lets it pass; without gamma and beta there is no ReLU."""
    flow = xp.astype(g, mean.dtype)
    if not gamma_beta:
        return flow
    y = xp.batch_norm_inference(xp.astype(x, mean.dtype), *gamma_beta, mean, var, epsilon=epsilon)
    return xp.where(y > 0, flow, xp.zeros_like(flow))


def _batch_sums(xp: Any, g: Any, x: Any, mean: Any, var: Any, *gamma_beta: Any, epsilon: float) -> Any:
    flow = _through(xp, g, x, mean, var, gamma_beta, epsilon)
    return flow * _normal(xp, x, mean, var, epsilon), flow


def _batch_flow(
    xp: Any, g: Any, x: Any, mean: Any, var: Any, by_gamma: Any, by_beta: Any, share: Any, gamma: Any, *beta: Any,
    epsilon: float,
) -> Any:
    flow = _through(xp, g, x, mean, var, (gamma, *beta) if beta else (), epsilon)
    normal = _normal(xp, x, mean, var, epsilon)
    scale = xp.astype(gamma, mean.dtype) * (1.0 / xp.sqrt(var + epsilon))
    return xp.astype(scale * (flow - by_beta * share - normal * (by_gamma * share)), x.dtype)


FUNCTIONS["batch_sums"] = _batch_sums
FUNCTIONS["batch_flow"] = _batch_flow


def _matrix(shape: Any) -> tuple[int, int]:
    return prod(shape[:-1]), shape[-1]


def _statistics(x: Any) -> Cut | None:
    """Return how the rows are cut for mean and variance."""
    shape = _matrix(x.shape)
    return cut(shape, (shape,), (0,), 1)


def _moments(ctx: Any, mean: Any, var: Any, x: Any) -> None:
    """Write mean and variance of every column."""
    found = _statistics(x)
    assert found is not None
    rows, columns = _matrix(x.shape)
    means, squares = ctx.scratch if found.chunks > 1 else (mean, var)
    tiles = -(-columns // found.width)
    launch(
        ctx, _FILE, "moments", (x.dtype.name,), None, (means, squares, x, rows, columns, found.chunk, found.width),
        grid=(tiles, found.chunks),
    )
    if found.chunks > 1:
        launch(
            ctx, _FILE, "joined_moments", (mean.dtype.name,), None,
            (mean, var, means, squares, rows, columns, found.chunk, found.chunks, found.width), grid=(tiles,),
        )


def _training(relu: bool) -> Kernel:
    finish = "batch_norm_relu_inference" if relu else "batch_norm_inference"

    def run(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> None:
        y, mean, var = outs
        _moments(ctx, mean, var, x)
        run_map(finish, ctx, (y,), (x, gamma, beta, mean, var), {"epsilon": epsilon})

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        found = _statistics(forms[0])
        if found is None or found.chunks == 1:
            return ()
        return (Form((found.chunks * found.kept,), _wide(forms[0].dtype)),) * 2

    def supports(forms: Any, **attrs: Any) -> bool:
        return _fits(forms, 2) and _statistics(forms[0]) is not None

    return Kernel(run, scratch, supports=supports, contiguous=True)


def _inference(name: str) -> Kernel:
    def run(ctx: Any, outs: Any, *ins: Any, epsilon: float = 1e-3) -> None:
        run_map(name, ctx, outs, ins, {"epsilon": epsilon})

    def supports(forms: Any, **attrs: Any) -> bool:
        return all(f.dtype.name in FLOATS and f.dtype in (forms[0].dtype, _wide(forms[0].dtype)) for f in forms)

    return Kernel(run, supports=supports)


def _batch_gradient(relu: bool) -> Kernel:
    def ordered(ins: Any) -> tuple[Any, Any]:
        """Return (g, x, mean, var), and gamma with the beta that ReLU needs."""
        g, x, *rest = ins
        return (g, x, *rest[-2:]), tuple(rest[:-2])

    def plan(forms: Any, epsilon: float) -> Reduction | None:
        arrays, vectors = ordered(forms)
        flat = tuple(Form(_matrix(f.shape), f.dtype) if len(f.shape) > 1 else f for f in arrays)
        attrs = (("epsilon", epsilon),)
        return reduction("batch_sums", ("sum", "sum"), (*flat, *(vectors if relu else ())), (0,), attrs)

    def run(ctx: Any, outs: Any, *ins: Any, epsilon: float = 1e-3) -> None:
        arrays, vectors = ordered(ins)
        g, x, mean, var = arrays
        found = plan(tuple(Form(a.shape, a.dtype) for a in ins), epsilon)
        assert found is not None
        rows = [a.reshape(_matrix(a.shape)) for a in (g, x)]
        # written where they belong at once, unless they have to be narrowed
        sums = [out if out.dtype == mean.dtype else t for out, t in zip(outs[1:], ctx.scratch, strict=False)]
        run_reduction(found, ctx, sums, (*rows, mean, var, *(vectors if relu else ())), (), ctx.scratch[2:])
        kind, share = mean.dtype, 1.0 / max(len(rows[0]), 1)
        number = ctx.constant(share, kind)
        flow = (g, x, mean, var, *sums, number, *vectors)
        run_map("batch_flow", ctx, outs[:1], flow, {"epsilon": epsilon})
        _narrow(ctx, outs[1:], sums)

    def scratch(forms: Any, *, epsilon: float = 1e-3) -> tuple[Form, ...]:
        found = plan(forms, epsilon)
        total = Form(forms[2].shape, _wide(forms[0].dtype))
        return (total, total, *(found.scratch if found is not None else ()))

    def supports(forms: Any, *, epsilon: float = 1e-3) -> bool:
        wide = _wide(forms[1].dtype)
        arrays, vectors = ordered(forms)
        return _fits((*arrays[:2], *vectors), len(vectors)) and all(f.dtype == wide for f in arrays[2:]) and (
            plan(forms, epsilon) is not None
        )

    return Kernel(run, scratch, supports=supports, contiguous=True)


# -- over the channels of a sample -----------------------------------------------------------------------------------


def _columns(xp: Any, g: Any, x: Any, mean: Any, inverse: Any) -> Any:
    flow = xp.astype(g, mean.dtype)
    return flow * ((xp.astype(x, mean.dtype) - mean) * inverse), flow


FUNCTIONS["channel_sums"] = _columns


def _groups(shape: Any, groups: int | None) -> tuple[int, int, int, int]:
    """Return (samples, positions, groups, channels of a group); without groups every row is a sample."""
    if groups is None:
        return prod(shape[:-1]), 1, 1, shape[-1]
    return shape[0], prod(shape[1:-1]), groups, shape[-1] // groups


def _sample_norm(name: str, centered: bool) -> Kernel:
    def run(
        ctx: Any, outs: Any, x: Any, gamma: Any, *beta: Any, epsilon: float = 1e-5, groups: int | None = None
    ) -> None:
        n, positions, count, channels = _groups(x.shape, groups)
        rows = n * count
        width = team_width(positions * channels, 1, rows)
        launch(
            ctx, _FILE, "normalize", (x.dtype.name, gamma.dtype.name), rows,
            (outs[0], x, gamma, *(beta or (gamma,)), len(beta), rows, positions, count, channels, width,
             int(centered), float(epsilon)),
            grid=(-(-rows // width),),
        )

    def supports(forms: Any, **attrs: Any) -> bool:
        return _fits(forms, len(forms) - 1)

    return Kernel(run, supports=short(name, supports), contiguous=True)


def _sample_gradient(name: str, centered: bool) -> Kernel:
    def plan(forms: Any, groups: int | None) -> Reduction | None:
        n, positions, count, channels = _groups(forms[1].shape, groups)
        spread = tuple(Form((n, positions, count, channels), f.dtype) for f in forms[:2])
        level = Form((n, 1, count, 1), _wide(forms[1].dtype))
        sums = ("sum", "sum")
        return reduction("channel_sums", sums, (*spread, level, level), (0, 1))

    def run(
        ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5, groups: int | None = None
    ) -> None:
        n, positions, count, channels = _groups(x.shape, groups)
        rows = n * count
        means, inverses, by_gamma, by_beta, *partial = ctx.scratch
        width = team_width(positions * channels, 1, rows)
        launch(
            ctx, _FILE, "normalize_gradient", (x.dtype.name, gamma.dtype.name), rows,
            (outs[0], means, inverses, g, x, gamma, rows, positions, count, channels, width, int(centered),
             float(epsilon)),
            grid=(-(-rows // width),),
        )
        found = plan((Form(g.shape, g.dtype), Form(x.shape, x.dtype)), groups)
        assert found is not None
        spread = [a.reshape(n, positions, count, channels) for a in (g, x)]
        level = [a.reshape(n, 1, count, 1) for a in (means, inverses)]
        # written where they belong at once, unless they have to be narrowed or nobody asks for them
        targets = [
            out if out is not None and out.dtype == total.dtype else total
            for out, total in zip((*outs[1:], None)[:2], (by_gamma, by_beta), strict=True)
        ]
        run_reduction(found, ctx, targets, (*spread, *level), (), partial)
        _narrow(ctx, outs[1:], targets)

    def scratch(forms: Any, *, epsilon: float = 1e-5, groups: int | None = None) -> tuple[Form, ...]:
        n, _, count, _ = _groups(forms[1].shape, groups)
        wide = _wide(forms[1].dtype)
        level, total = Form((n * count,), wide), Form(forms[2].shape, wide)
        found = plan(forms, groups)
        return (level, level, total, total, *(found.scratch if found is not None else ()))

    def supports(forms: Any, *, epsilon: float = 1e-5, groups: int | None = None) -> bool:
        return _fits(forms, 1) and plan(forms, groups) is not None

    return Kernel(run, scratch, supports=short(name, supports), contiguous=True)


KERNELS: dict[str, Kernel] = {
    "batch_norm": _training(False),
    "batch_norm_relu": _training(True),
    "batch_norm_inference": _inference("batch_norm_inference"),
    "batch_norm_relu_inference": _inference("batch_norm_relu_inference"),
    "batch_norm_gradient": _batch_gradient(False),
    "batch_norm_relu_gradient": _batch_gradient(True),
    "layer_norm": _sample_norm("layer_norm", True),
    "layer_norm_gradient": _sample_gradient("layer_norm_gradient", True),
    "rms_norm": _sample_norm("rms_norm", False),
    "rms_norm_gradient": _sample_gradient("rms_norm_gradient", False),
    "group_norm": _sample_norm("group_norm", True),
    "group_norm_gradient": _sample_gradient("group_norm_gradient", True),
}
