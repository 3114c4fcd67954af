"""Attention: products by cuBLASLt, and between them one kernel that masks the scores and makes weights of them."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import launch, rowwise, same_floats, team_width
from deepbabysit_cupy.kernels.maps import steps
from deepbabysit_cupy.kernels.products import multiply


def _turned(x: Any) -> Any:
    return x.transpose(0, 1, 3, 2)


def _weights(ctx: Any, p: Any, q: Any, k: Any, mask: tuple[Any, ...], causal: bool, scale: float | None) -> float:
    """Write the weights of the keys into `p`; returns the factor on the products."""
    factor = 1.0 / sqrt(q.shape[-1]) if scale is None else float(scale)
    multiply(ctx, p, q, _turned(k), alpha=factor)
    rows, keys = p.size // p.shape[-1], p.shape[-1]
    kind = 0 if not mask else 1 if mask[0].dtype == np.bool_ else 2
    strides = steps(mask[0], p.shape) if mask else [0] * 4
    width = team_width(keys, 1, rows)
    launch(
        ctx, "softmax.cu", "weights", (p.dtype.name,), rows,
        (p, p, mask[0] if mask else p, kind, int(causal), rows, p.shape[1], p.shape[2], keys, *strides, width),
        grid=(-(-rows // width),),
    )
    return factor


def _attention(
    ctx: Any, outs: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float | None = None
) -> None:
    p = ctx.scratch[0]
    _weights(ctx, p, q, k, mask, causal, scale)
    multiply(ctx, outs[0], p, v)


def _gradient(
    ctx: Any, outs: Any, g: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False,
    scale: float | None = None, scores: bool = False,
) -> None:
    p, kept = ctx.scratch
    by_scores = outs[3] if scores else kept
    factor = _weights(ctx, p, q, k, mask, causal, scale)
    multiply(ctx, outs[2], _turned(p), g)
    multiply(ctx, by_scores, g, _turned(v))
    rows, keys = p.size // p.shape[-1], p.shape[-1]
    width = team_width(keys, 1, rows)
    launch(
        ctx, "softmax.cu", "gradient", (p.dtype.name,), rows, (by_scores, by_scores, p, rows, keys, 1, width, 0),
        grid=(-(-rows // width),),
    )
    multiply(ctx, outs[0], by_scores, k, alpha=factor)
    multiply(ctx, outs[1], _turned(by_scores), q, alpha=factor)


def _form(q: Form, k: Form) -> Form:
    return Form((*q.shape[:3], k.shape[2]), q.dtype)


def _same(arrays: int) -> Any:
    def takes(forms: Any, **attrs: Any) -> bool:
        mask = [f for f in forms[arrays:] if f.dtype != np.bool_]
        return same_floats((*forms[:arrays], *mask))

    return takes


def _gradient_scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    form = _form(forms[1], forms[2])
    return form, Form((0,), form.dtype) if attrs.get("scores") else form


KERNELS: dict[str, Kernel] = {
    "attention": rowwise(
        "attention", _attention, _same(3), scratch=lambda forms, **attrs: (_form(forms[0], forms[1]),)
    ),
    "attention_gradient": rowwise("attention_gradient", _gradient, _same(4), scratch=_gradient_scratch),
}
