"""Attention, a few samples at a time, so that the scores stay in the cache; float16 is computed in float32."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel

BLOCK_BYTES = 1 << 20


def work_dtype(dtype: Any) -> Any:
    """Return the dtype that is computed in."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _step(q: Any, k: Any, dtype: Any) -> int:
    """Return how many samples make a block."""
    one: int = q.shape[1] * q.shape[2] * k.shape[2] * dtype.itemsize
    return max(min(BLOCK_BYTES // max(one, 1), int(q.shape[0])), 1)


def _form(q: Any, k: Any, dtypes: Any) -> Form:
    work = work_dtype(np.result_type(*dtypes))
    return Form((_step(q, k, work), q.shape[1], q.shape[2], k.shape[2]), work)


def _scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    return (_form(forms[0], forms[1], [f.dtype for f in forms[:3]]),)


def _gradient_scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    form = _form(forms[1], forms[2], [f.dtype for f in forms[:4]])
    return form, form


def _part(mask: Any, part: slice) -> Any:
    """Return the mask of a block of samples."""
    return mask[part] if mask.ndim == 4 and mask.shape[0] > 1 else mask


def _hide(scores: Any, seen: Any) -> None:
    """Write minus infinity where a key must not be seen."""
    np.copyto(scores, -np.inf, where=np.logical_not(seen))


def _normalize(scores: Any, unseen: bool, causal: bool) -> None:
    """Make scores weights, in place; `unseen`: some of them may be minus infinity."""
    if causal:
        np.copyto(scores, -np.inf, where=np.arange(scores.shape[2])[:, None] < np.arange(scores.shape[3]))
        unseen = True
    highest = scores.max(axis=-1, keepdims=True)
    if unseen:  # a row without keys: subtracting its maximum would give NaN
        np.copyto(highest, 0.0, where=np.isneginf(highest))
    np.subtract(scores, highest, out=scores)
    np.exp(scores, out=scores)
    total = scores.sum(axis=-1, keepdims=True)
    if unseen:
        np.copyto(total, 1.0, where=total == 0)
    np.divide(scores, total, out=scores)


def _pull(product: Any, weights: Any, factor: Any) -> None:
    """Make the gradient of the weights, `product`, that of the scores times a factor, in place."""
    total = np.einsum("nhts,nhts->nht", product, weights)[..., None]
    np.subtract(product, total, out=product)
    np.multiply(product, weights, out=product)
    if factor != 1.0:
        np.multiply(product, factor, out=product)


def factor_of(q: Any, scale: float | None) -> float:
    """Return the factor on the products."""
    return 1.0 / sqrt(q.shape[-1]) if scale is None else scale


def _blocks(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _weigh(scores: Any, q: Any, k: Any, mask: Any, causal: bool, factor: float, part: slice) -> None:
    np.matmul(np.multiply(q, scores.dtype.type(factor)), np.swapaxes(k, -1, -2), out=scores)
    if mask is not None:
        here = _part(mask, part)
        if here.dtype.kind == "b":
            _hide(scores, here)
        else:
            np.add(scores, here, out=scores, casting="same_kind")
    _normalize(scores, mask is not None, causal)


def _attention(
    ctx: Any, outs: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False, scale: float | None = None
) -> None:
    y = outs[0]
    work = work_dtype(y.dtype)
    block = ctx.scratch[0]
    for part in _blocks(len(q), len(block)):
        scores = block[: part.stop - part.start]
        queries, keys, values = (a[part].astype(work, copy=False) for a in (q, k, v))
        _weigh(scores, queries, keys, mask[0] if mask else None, causal, factor_of(q, scale), part)
        if y.dtype == work:
            np.matmul(scores, values, out=y[part])
        else:
            y[part] = np.matmul(scores, values)


def _attention_gradient(
    ctx: Any, outs: Any, g: Any, q: Any, k: Any, v: Any, *mask: Any, causal: bool = False,
    scale: float | None = None, scores: bool = False,
) -> None:
    by_q, by_k, by_v = outs[:3]
    work = work_dtype(by_q.dtype)
    first, second = ctx.scratch
    factor = work.type(factor_of(q, scale))
    for part in _blocks(len(q), len(first)):
        count = part.stop - part.start
        flow, queries, keys, values = (a[part].astype(work, copy=False) for a in (g, q, k, v))
        weights, product = first[:count], second[:count]
        _weigh(weights, queries, keys, mask[0] if mask else None, causal, factor, part)
        by_v[part] = np.matmul(np.swapaxes(weights, -1, -2), flow)
        np.matmul(flow, np.swapaxes(values, -1, -2), out=product)
        if scores:
            _pull(product, weights, 1.0)
            outs[3][part] = product
            np.multiply(product, factor, out=product)
        else:
            _pull(product, weights, factor)
        by_q[part] = np.matmul(product, keys)
        by_k[part] = np.matmul(np.swapaxes(product, -1, -2), queries)


KERNELS: dict[str, Kernel] = {
    "attention": Kernel(_attention, scratch=_scratch),
    "attention_gradient": Kernel(_attention_gradient, scratch=_gradient_scratch),
}
