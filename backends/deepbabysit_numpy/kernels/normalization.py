"""Normalizations in blocks that stay in the cache, with rows folded so that inner loops are long.

A row of few channels makes NumPy's inner loop short. So k rows are read as one row of k times the channels, with
vectors repeated k times; sums over the folded rows are k sums, which also keeps more digits than one. float16 is
computed in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel

FOLDED = 4096  # elements of a folded row
BLOCK = 64 * 1024  # elements of a block: with a temporary, half a MiB of float32


def _fold(rows: int, channels: int) -> int:
    """Return how many rows are read as one: a power of two that divides them."""
    k = 1
    while rows % (2 * k) == 0 and 2 * k * channels <= FOLDED:
        k *= 2
    return k


def _work(dtype: Any) -> Any:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _rows(array: Any, k: int) -> Any:
    """Return (rows / k, k * channels); a copy where the layout asks for one."""
    return array.reshape(-1, k * array.shape[-1])


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(BLOCK // max(width, 1), 1)
    for start in range(0, rows, step):
        yield slice(start, start + step)


def _unfold(total: Any, k: int) -> Any:
    """Add the k parts of folded sums, in float64: a mean far from 0 would lose digits in a long float32 sum."""
    return total.reshape(k, -1).sum(axis=0, dtype=np.float64)


class _Folded:
    """An input seen as folded rows."""

    def __init__(self, x: Any) -> None:
        self.channels = x.shape[-1]
        self.count = x.size // self.channels if self.channels else 0
        self.k = _fold(self.count, self.channels)
        self.rows = _rows(x, self.k)
        self.work = _work(x.dtype)

    def tile(self, vector: Any) -> Any:
        """Repeat a vector over the channels for a folded row."""
        return np.tile(vector.astype(self.work, copy=False), self.k)

    def blocks(self) -> Iterator[slice]:
        """Yield blocks of folded rows."""
        return _blocks(*self.rows.shape)


def _batch_norm(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> None:
    y, mean, var = outs
    folded = _Folded(x)
    rows, work = folded.rows, folded.work
    total = np.zeros(rows.shape[1], np.float64)
    for part in folded.blocks():
        total += rows[part].sum(axis=0, dtype=work)
    np.divide(_unfold(total, folded.k), folded.count, out=mean, casting="same_kind")
    center = folded.tile(mean)
    total.fill(0)
    for part in folded.blocks():
        centered = np.subtract(rows[part], center, dtype=work)
        np.multiply(centered, centered, out=centered)
        total += centered.sum(axis=0)
    np.divide(_unfold(total, folded.k), folded.count, out=var, casting="same_kind")
    _scale(folded, y, center, folded.tile(gamma / np.sqrt(var + epsilon)), folded.tile(beta))


def _scale(folded: _Folded, y: Any, center: Any, scale: Any, shift: Any) -> None:
    """Write ``(x - center) * scale + shift``."""
    target = y.reshape(folded.rows.shape)
    for part in folded.blocks():
        block = target[part]
        out = block if block.dtype == folded.work else np.empty(block.shape, folded.work)
        np.subtract(folded.rows[part], center, out=out, dtype=folded.work)
        np.multiply(out, scale, out=out)
        np.add(out, shift, out=out)
        if out is not block:
            np.copyto(block, out, casting="same_kind")


def _batch_norm_inference(
    ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    folded = _Folded(x)
    _scale(folded, outs[0], folded.tile(mean), folded.tile(gamma / np.sqrt(var + epsilon)), folded.tile(beta))


def _batch_norm_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    by_input, by_gamma, by_beta = outs
    folded = _Folded(x)
    rows, work, k = folded.rows, folded.work, folded.k
    flow = _rows(g, k)
    inverse = 1.0 / np.sqrt(var.astype(work, copy=False) + work.type(epsilon))
    center = folded.tile(mean)
    sums, products = np.zeros((2, rows.shape[1]), np.float64)
    for part in folded.blocks():
        sums += flow[part].sum(axis=0, dtype=work)
        centered = np.subtract(rows[part], center, dtype=work)
        np.multiply(centered, flow[part], out=centered)
        products += centered.sum(axis=0)
    beta = _unfold(sums, k)
    scaled = _unfold(products, k) * inverse  # the gradient of gamma
    by_beta[...] = beta
    by_gamma[...] = scaled
    factor = gamma * inverse
    # by_input = factor * g - (x - mean) * slope - shift
    first = folded.tile(factor)
    slope = folded.tile(factor * inverse * scaled / folded.count)
    shift = folded.tile(factor * beta / folded.count)
    target = by_input.reshape(rows.shape)
    for part in folded.blocks():
        centered = np.subtract(rows[part], center, dtype=work)
        np.multiply(centered, slope, out=centered)
        np.add(centered, shift, out=centered)
        block = target[part]
        out = block if block.dtype == work else np.empty(block.shape, work)
        np.multiply(flow[part], first, out=out, dtype=work)
        np.subtract(out, centered, out=out)
        if out is not block:
            np.copyto(block, out, casting="same_kind")


def _batch_norm_relu(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> None:
    _batch_norm(ctx, outs, x, gamma, beta, epsilon=epsilon)
    np.maximum(outs[0], 0, out=outs[0])


def _batch_norm_relu_inference(
    ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    _batch_norm_inference(ctx, outs, x, gamma, beta, mean, var, epsilon=epsilon)
    np.maximum(outs[0], 0, out=outs[0])


def _batch_norm_relu_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> None:
    (flow,) = ctx.scratch
    folded = _Folded(x)
    _scale(folded, flow, folded.tile(mean), folded.tile(gamma / np.sqrt(var + epsilon)), folded.tile(beta))
    np.copyto(flow, np.where(flow > 0, g, g.dtype.type(0)))
    _batch_norm_gradient(ctx, outs, flow, x, gamma, mean, var, epsilon=epsilon)


def _flow(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    return (Form(forms[1].shape, _work(forms[1].dtype)),)


# -- rows ------------------------------------------------------------------------------------------------------------


def _mean(block: Any) -> Any:
    """Return the mean of each row."""
    total = np.add.reduce(block, axis=1, keepdims=True)
    return np.divide(total, block.shape[1], out=total)


def _mean_product(a: Any, b: Any) -> Any:
    """Return the mean of ``a * b`` of each row, without the product in memory."""
    total = np.einsum("ij,ij->i", a, b)[:, None]
    return np.divide(total, a.shape[1], out=total)


def _normalize(block: Any, epsilon: float, centered: bool, work: Any) -> tuple[Any, Any]:
    """Return rows with mean square 1 (and mean 0 where `centered`), and the factor that made them so."""
    normal = np.subtract(block, _mean(block.astype(work, copy=False)), dtype=work) if centered else block.astype(work)
    inverse = _mean_product(normal, normal)
    np.add(inverse, work.type(epsilon), out=inverse)
    np.sqrt(inverse, out=inverse)
    np.divide(work.type(1.0), inverse, out=inverse)
    np.multiply(normal, inverse, out=normal)
    return normal, inverse


def _row_norm(outs: Any, x: Any, gamma: Any, beta: Any, epsilon: float) -> None:
    rows, target = _rows(x, 1), _rows(outs[0], 1)
    work = _work(x.dtype)
    for part in _blocks(*rows.shape):
        normal, _ = _normalize(rows[part], epsilon, beta is not None, work)
        if beta is None:
            np.multiply(normal, gamma, out=target[part], casting="same_kind")
        else:
            np.multiply(normal, gamma, out=normal, casting="same_kind")
            np.add(normal, beta, out=target[part], casting="same_kind")


def _layer_norm(ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-5) -> None:
    _row_norm(outs, x, gamma, beta, epsilon)


def _rms_norm(ctx: Any, outs: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    _row_norm(outs, x, gamma, None, epsilon)


def _row_gradient(outs: Any, g: Any, x: Any, gamma: Any, epsilon: float, centered: bool) -> None:
    rows, flow, target = _rows(x, 1), _rows(g, 1), _rows(outs[0], 1)
    work = _work(x.dtype)
    gamma_sum, beta_sum = np.zeros((2, rows.shape[1]), work)
    weights = gamma.astype(work, copy=False)
    for part in _blocks(*rows.shape):
        normal, inverse = _normalize(rows[part], epsilon, centered, work)
        here = flow[part].astype(work, copy=False)
        scaled = np.multiply(here, normal)
        gamma_sum += scaled.sum(axis=0)
        beta_sum += here.sum(axis=0)
        np.multiply(here, weights, out=scaled)
        share = _mean_product(scaled, normal)
        if centered:
            np.subtract(scaled, _mean(scaled), out=scaled)
        np.multiply(normal, share, out=normal)
        np.subtract(scaled, normal, out=scaled)
        np.multiply(scaled, inverse, out=target[part], casting="same_kind")
    outs[1][...] = gamma_sum
    if centered:
        outs[2][...] = beta_sum


def _layer_norm_gradient(ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    _row_gradient(outs, g, x, gamma, epsilon, True)


def _rms_norm_gradient(ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> None:
    _row_gradient(outs, g, x, gamma, epsilon, False)


# -- groups ----------------------------------------------------------------------------------------------------------


def _samples(array: Any) -> Any:
    """Return (N, positions, channels)."""
    return array.reshape(array.shape[0], -1 if array.size else 0, array.shape[-1])


def _group_mean(block: Any, groups: int) -> Any:
    """Return the mean over positions and the channels of a group, for every channel: (N, 1, channels)."""
    sums = block.sum(axis=1)
    n, channels = sums.shape
    width = channels // groups
    means = sums.reshape(n, groups, width).sum(axis=2) / (block.shape[1] * width)
    return np.repeat(means.astype(block.dtype, copy=False), width, axis=1)[:, None, :]


def _group_normal(block: Any, groups: int, epsilon: float, work: Any) -> tuple[Any, Any]:
    wide = block.astype(work, copy=False)
    normal = np.subtract(wide, _group_mean(wide, groups))
    inverse = 1.0 / np.sqrt(_group_mean(normal * normal, groups) + work.type(epsilon))
    np.multiply(normal, inverse, out=normal)
    return normal, inverse


def _group_norm(
    ctx: Any, outs: Any, x: Any, gamma: Any, beta: Any, *, groups: int, epsilon: float = 1e-5
) -> None:
    source, target = _samples(x), _samples(outs[0])
    work = _work(x.dtype)
    for part in _blocks(len(source), source[:1].size):
        normal, _ = _group_normal(source[part], groups, epsilon, work)
        np.multiply(normal, gamma, out=normal, casting="same_kind")
        np.add(normal, beta, out=target[part], casting="same_kind")


def _group_norm_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, gamma: Any, *, groups: int, epsilon: float = 1e-5
) -> None:
    source, flow, target = _samples(x), _samples(g), _samples(outs[0])
    work = _work(x.dtype)
    gamma_sum, beta_sum = np.zeros((2, source.shape[-1]), work)
    weights = gamma.astype(work, copy=False)
    for part in _blocks(len(source), source[:1].size):
        normal, inverse = _group_normal(source[part], groups, epsilon, work)
        here = flow[part].astype(work, copy=False)
        scaled = here * normal
        gamma_sum += scaled.sum(axis=(0, 1))
        beta_sum += here.sum(axis=(0, 1))
        np.multiply(scaled, weights, out=scaled)
        share = _group_mean(scaled, groups)
        np.multiply(here, weights, out=scaled)
        np.subtract(scaled, _group_mean(scaled, groups), out=scaled)
        np.multiply(normal, share, out=normal)
        np.subtract(scaled, normal, out=scaled)
        np.multiply(scaled, inverse, out=target[part], casting="same_kind")
    outs[1][...] = gamma_sum
    outs[2][...] = beta_sum


KERNELS: dict[str, Kernel] = {
    "batch_norm": Kernel(_batch_norm),
    "batch_norm_gradient": Kernel(_batch_norm_gradient),
    "batch_norm_inference": Kernel(_batch_norm_inference),
    "batch_norm_relu": Kernel(_batch_norm_relu),
    "batch_norm_relu_gradient": Kernel(_batch_norm_relu_gradient, scratch=_flow),
    "batch_norm_relu_inference": Kernel(_batch_norm_relu_inference),
    "layer_norm": Kernel(_layer_norm),
    "layer_norm_gradient": Kernel(_layer_norm_gradient),
    "rms_norm": Kernel(_rms_norm),
    "rms_norm_gradient": Kernel(_rms_norm_gradient),
    "group_norm": Kernel(_group_norm),
    "group_norm_gradient": Kernel(_group_norm_gradient),
}
