"""Normalizations: over the batch by reductions and maps, over a sample's channels by kernels of their own."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import FLOATS, launch, short, team_width
from deepbabysit_cupy.kernels.maps import FUNCTIONS, run_map
from deepbabysit_cupy.kernels.reducing import Reduction, reduction, run_reduction

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


FUNCTIONS["wide"] = lambda xp, x: x if x.dtype == np.float64 else xp.astype(x, np.float32)
FUNCTIONS["deviation_wide"] = lambda xp, x, mean: (xp.astype(x, mean.dtype) - mean) * (xp.astype(x, mean.dtype) - mean)
FUNCTIONS["batch_sums"] = _batch_sums
FUNCTIONS["batch_flow"] = _batch_flow


def _matrix(shape: Any) -> tuple[int, int]:
    return prod(shape[:-1]), shape[-1]


def _statistics(x: Form) -> tuple[Reduction | None, Reduction | None]:
    """Return the plans of mean and variance."""
    form = Form(_matrix(x.shape), x.dtype)
    mean = Form(x.shape[-1:], _wide(x.dtype))
    return reduction("wide", ("sum",), (form,), (0,)), reduction("deviation_wide", ("sum",), (form, mean), (0,))


def _training(relu: bool) -> Kernel:
    finish = "batch_norm_relu_inference" if relu else "batch_norm_inference"

    def run(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> None:
        y, mean, var = outs
        first, second = _statistics(Form(x.shape, x.dtype))
        assert first is not None and second is not None
        rows, mine = x.reshape(_matrix(x.shape)), len(first.scratch)
        run_reduction(first, ctx, (mean,), (rows,), (), ctx.scratch[:mine], float(len(rows)))
        run_reduction(second, ctx, (var,), (rows, mean), (), ctx.scratch[mine:], float(len(rows)))
        run_map(finish, ctx, (y,), (x, gamma, beta, mean, var), {"epsilon": epsilon})

    def scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
        return tuple(form for plan in _statistics(forms[0]) if plan is not None for form in plan.scratch)

    def supports(forms: Any, **attrs: Any) -> bool:
        return _fits(forms, 2) and None not in _statistics(forms[0])

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
        by_gamma, by_beta = ctx.scratch[:2]
        flow = (*rows, mean, var, *(vectors if relu else ()))
        run_reduction(found, ctx, (by_gamma, by_beta), flow, (), ctx.scratch[2:])
        kind, share = mean.dtype, 1.0 / max(len(rows[0]), 1)
        number = ctx.backend.kept(("number", share, kind.name), lambda: np.array(share, kind))
        flow = (g, x, mean, var, by_gamma, by_beta, number, *vectors)
        run_map("batch_flow", ctx, outs[:1], flow, {"epsilon": epsilon})
        for out, total in zip(outs[1:], (by_gamma, by_beta), strict=True):
            run_map("astype", ctx, (out,), (total,), {"dtype": out.dtype.name})

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
        kind = FLOATS[gamma.dtype.name]
        launch(
            ctx, _FILE, f"normalize_{kind}_{x.dtype.name}", rows,
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
        kind = FLOATS[gamma.dtype.name]
        launch(
            ctx, _FILE, f"normalize_gradient_{kind}_{x.dtype.name}", rows,
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
        for out, total in zip(outs[1:], targets, strict=False):
            if out is not total:
                run_map("astype", ctx, (out,), (total,), {"dtype": out.dtype.name})

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
