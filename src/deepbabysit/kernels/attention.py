"""Scaled dot-product attention, with a causal limit and an optional mask."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.elementwise import like
from deepbabysit.kernels.products import swap_last
from deepbabysit.kernels.shapes import broadcast, need_floating, result_dtype, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

ATTENTION_TOLERANCE = {"float32": Tolerance(1e-4, 1e-5), "float64": Tolerance(1e-11, 1e-12)}


def _scale(q: Any, scale: float | None) -> float:
    return 1.0 / sqrt(q.shape[-1]) if scale is None else scale


def _scores(xp: Any, q: Any, k: Any, mask: tuple[Any, ...], causal: bool, scale: float | None) -> Any:
    """Return the scores; minus infinity where a key must not be seen."""
    scores = xp.matmul(q * _scale(q, scale), swap_last(xp, k))
    if mask:
        if mask[0].dtype == xp.bool:
            scores = xp.where(mask[0], scores, -float("inf"))
        else:
            scores = scores + mask[0]
    if causal:
        rows, columns = xp.arange(q.shape[-2]), xp.arange(k.shape[-2])
        allowed = xp.expand_dims(rows, axis=1) >= xp.expand_dims(columns, axis=0)
        scores = xp.where(allowed, scores, -float("inf"))
    return scores


def _weights(xp: Any, scores: Any) -> Any:
    """Return softmax over the keys; a row in which no key may be seen is 0."""
    highest = xp.stop_gradient(xp.max(scores, axis=-1, keepdims=True))
    highest = xp.where(highest == -float("inf"), xp.zeros_like(highest), highest)
    powers = xp.exp(scores - highest)
    total = xp.sum(powers, axis=-1, keepdims=True)
    return powers / xp.where(total == 0.0, xp.ones_like(total), total)


def attention(
    xp: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float | None = None
) -> Any:
    """Scaled dot-product attention: ``softmax(scale * q @ k^T + mask) @ v`` over the keys, stable for large scores.

    A query that may see no key gets 0.

    Arguments:
        q: queries, (N, heads, T, d).
        k: keys, (N, heads, S, d).
        v: values, (N, heads, S, e).
        mask: at most one more array that repeats to (N, heads, T, S): numbers are added to the scores (minus infinity
            hides a key), booleans say which keys may be seen. Without it nothing is hidden.
        causal: whether query t sees the keys 0 to t only.
        scale: factor on the products; None means ``1 / sqrt(d)``.

    Returns:
        (N, heads, T, e).

    Vaswani et al., NIPS 2017.

    >>> import deepbabysit as db
    >>> q = db.tensor([[[[0.0], [0.0]]]])
    >>> db.ops.attention(q, q, db.tensor([[[[1.0], [3.0]]]]), causal=True).tolist()
    [[[[1.0], [2.0]]]]
    """
    return xp.matmul(_weights(xp, _scores(xp, q, k, mask, causal, scale)), v)


def _check(name: str, shapes: Any, dtypes: Any, scale: float | None) -> None:
    q, k, v = shapes[:3]
    if len(shapes) > 4:
        raise TypeError(f"{name} takes q, k, v and at most one mask; got {len(shapes)} arrays")
    if not len(q) == len(k) == len(v) == 4:
        raise ValueError(
            f"{name}: q, k and v must be (N, heads, T, d); got {show_shape(q)}, {show_shape(k)} and {show_shape(v)}"
        )
    if q[:2] != k[:2] or k[:3] != v[:3] or q[-1] != k[-1]:
        raise ValueError(
            f"{name}: q (N, heads, T, d), k (N, heads, S, d) and v (N, heads, S, e) do not fit together: got "
            f"{show_shape(q)}, {show_shape(k)} and {show_shape(v)}"
        )
    if k[2] < 1 or q[-1] < 1:
        raise ValueError(f"{name}: there must be at least one key with at least one element; got k {show_shape(k)}")
    for dtype in dtypes[:3]:
        need_floating(name, dtype)
    if len(shapes) == 4:
        scores = (*q[:3], k[2])
        if dtypes[3].kind not in "fb":
            raise TypeError(
                f"{name}: a mask holds booleans (which keys may be seen) or numbers that are added; got {dtypes[3]}"
            )
        if broadcast(name, (shapes[3], scores)) != scores:
            raise ValueError(f"{name}: the mask {show_shape(shapes[3])} does not repeat to {show_shape(scores)}")
    if scale is not None and not abs(scale) < float("inf"):
        raise ValueError(f"{name}: scale must be finite; got {scale}")


def _infer(shapes: Any, dtypes: Any, *, causal: bool = False, scale: float | None = None) -> tuple[Form, ...]:
    _check("attention", shapes, dtypes, scale)
    q, v = shapes[0], shapes[2]
    return (Form((*q[:3], v[3]), result_dtype(dtypes[:3])),)


def _samples(rng: np.random.Generator) -> Iterator[Sample]:
    for n, heads, t, s, d, e in ((2, 2, 3, 3, 4, 4), (1, 1, 1, 1, 1, 1), (2, 3, 4, 2, 3, 5), (0, 2, 3, 3, 2, 2)):
        q, k = drawing.normal(rng, (n, heads, t, d)), drawing.normal(rng, (n, heads, s, d))
        v = drawing.normal(rng, (n, heads, s, e))
        yield Sample((q, k, v))
        yield Sample((q, k, v), {"causal": True})
        yield Sample((q, k, v, drawing.normal(rng, (t, s))), {"scale": 0.3})
        yield Sample((q, k, v, drawing.normal(rng, (n, 1, 1, s))), {"causal": True})
        seen = rng.random((n, 1, t, s)) < 0.7
        yield Sample((q, k, v, seen))  # a row may see nothing
    q, k, v = (drawing.normal(rng, (2, 3, 4, 2)).transpose(0, 2, 1, 3) for _ in range(3))
    yield Sample((q, k, v))
    yield Sample((np.full((1, 1, 2, 2), 100.0), np.eye(2)[None, None] * 90.0, np.eye(2)[None, None]), gradient=False)


def _vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, causal: bool, scale: float | None) -> Any:
    with_mask = len(x) == 4 and needs[3]
    results = op.attention_gradient(g[0], *x, causal=causal, scale=scale, scores=with_mask)
    by_mask = (like(op, results[3], x[3]) if with_mask else None,) if len(x) == 4 else ()
    return (*(like(op, r, a) for r, a in zip(results[:3], x[:3], strict=True)), *by_mask)


ATTENTION = define(
    attention, infer=_infer, samples=_samples, composite=True, vjp=_vjp, saves_inputs=(0, 1, 2, 3),
    tolerance=ATTENTION_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 1, 2, 3)), np.ones((1, 1, 2, 4)), np.ones((1, 1, 2, 3))), {}, ValueError, "do not fit"),
        BadInput((np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))), {}, ValueError, "(N, heads, T, d)"),
        BadInput((*[np.ones((1, 1, 2, 3))] * 3, np.ones((3, 1, 1, 1))), {}, ValueError, "does not repeat to"),
        BadInput((*[np.ones((1, 1, 2, 3))] * 3, np.ones((2, 2), int)), {}, TypeError, "a mask holds booleans"),
    ],
)


def attention_gradient(
    xp: Any, g: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float | None = None,
    scores: bool = False,
) -> Any:
    """Gradient of `attention` for q, k and v, and for the scores where `scores` asks for it (a mask that is learned).

    The weights P are computed again, which costs one product and saves keeping (N, heads, T, S). With ``D = g @ v^T``
    the scores get ``P * (D - sum(D * P))``.
    """
    weights = _weights(xp, _scores(xp, q, k, mask, causal, scale))
    by_v = xp.matmul(swap_last(xp, weights), g)
    by_weights = xp.matmul(g, swap_last(xp, v))
    weighted = by_weights * weights
    by_scores = weighted - weights * xp.sum(weighted, axis=-1, keepdims=True)
    factor = _scale(q, scale)
    by_q = xp.matmul(by_scores, k) * factor
    by_k = xp.matmul(swap_last(xp, by_scores), q) * factor
    return (by_q, by_k, by_v, by_scores) if scores else (by_q, by_k, by_v)


def _gradient_infer(
    shapes: Any, dtypes: Any, *, causal: bool = False, scale: float | None = None, scores: bool = False
) -> tuple[Form, ...]:
    name = "attention_gradient"
    _check(name, shapes[1:], dtypes[1:], scale)
    g, q, k, v = shapes[:4]
    if g != (*q[:3], v[3]):
        raise ValueError(f"{name}: the gradient must be {show_shape((*q[:3], v[3]))}; got {show_shape(g)}")
    dtype = result_dtype(dtypes[:4])
    forms = (Form(q, dtype), Form(k, dtype), Form(v, dtype))
    return (*forms, Form((*q[:3], k[2]), dtype)) if scores else forms


def _gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for place, sample in enumerate(_samples(rng)):
        q, _, v = sample.inputs[:3]
        g = drawing.normal(rng, (*q.shape[:3], v.shape[3]))
        yield Sample((g, *sample.inputs), {**sample.attrs, "scores": place % 2 == 0}, sample.gradient)


ATTENTION_GRADIENT = define(
    attention_gradient, infer=_gradient_infer, samples=_gradient_samples, composite=True,
    tolerance=ATTENTION_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 1, 3, 3)), *[np.ones((1, 1, 2, 3))] * 3), {}, ValueError, "the gradient must be"),
    ],
)
