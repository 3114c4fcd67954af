"""Pooling: one pass over the strided positions of each element of the window, a block of images at a time."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.pooling import element_counts
from deepbabysit.runtime.backend import Kernel

BLOCK = 128 * 1024  # elements of a block of images: what is pooled and the result stay in a second-level cache


def _meetings(
    counts: Any, space: Any, window: Any, stride: Any, padding: Any
) -> Iterator[tuple[Any, Any]]:
    """Yield, for each element of the window, the positions where it is real and the elements it meets there."""
    for offset in np.ndindex(*window):
        outer: list[slice] = [slice(None)]
        inner: list[slice] = [slice(None)]
        for o, n, length, s, (before, _) in zip(offset, counts, space, stride, padding, strict=True):
            # position p meets element p * s + o - before, which is real from 0 to length - 1
            first = max(-(-(before - o) // s), 0)
            last = min((length - 1 + before - o) // s, n - 1)
            if last < first:
                break
            start = first * s + o - before
            outer.append(slice(first, last + 1))
            inner.append(slice(start, start + (last - first) * s + 1, s))
        else:
            yield tuple(outer), tuple(inner)


def _blocks(array: Any) -> Iterator[slice]:
    step = max(BLOCK // max(prod(array.shape[1:]), 1), 1)
    for start in range(0, len(array), step):
        yield slice(start, start + step)


def _max_pool(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, padding: Any) -> None:
    y = outs[0]
    meetings = list(_meetings(y.shape[1:-1], x.shape[1:-1], window, stride, padding))
    whole = all(n == y.shape[axis + 1] for axis, n in enumerate(s.stop - s.start for s in meetings[0][0][1:]))
    for part in _blocks(x):
        source, target = x[part], y[part]
        begin = 0
        if whole:  # the first element of the window is real everywhere: it need not be compared with anything
            np.copyto(target, source[meetings[0][1]])
            begin = 1
        else:
            target.fill(-np.inf)
        for outer, inner in meetings[begin:]:
            np.maximum(target[outer], source[inner], out=target[outer])


def _max_pool_gradient(
    ctx: Any, outs: Any, g: Any, x: Any, y: Any, *, window: Any, stride: Any, padding: Any
) -> None:
    by_input = outs[0]
    meetings = list(_meetings(y.shape[1:-1], x.shape[1:-1], window, stride, padding))
    # windows that do not meet write each element once; where they also leave nothing out, zeros are not needed first
    apart = all(w <= s for w, s in zip(window, stride, strict=True))
    covered = apart and window == stride and not any(map(any, padding)) and all(
        n == c * s for n, c, s in zip(x.shape[1:-1], y.shape[1:-1], stride, strict=True)
    )
    for part in _blocks(x):
        source, flow, top, target = x[part], g[part], y[part], by_input[part]
        if not covered:
            target.fill(0)
        hits = [np.equal(source[inner], top[outer]) for outer, inner in meetings]
        count = np.zeros(top.shape, np.int8 if prod(window) < 128 else np.int32)
        for hit, (outer, _) in zip(hits, meetings, strict=True):
            np.add(count[outer], hit, out=count[outer], casting="unsafe")
        with np.errstate(divide="ignore", invalid="ignore"):  # a window of NaN has no largest element: its share is NaN
            share = np.divide(flow, count, dtype=flow.dtype, casting="unsafe")
            for hit, (outer, inner) in zip(hits, meetings, strict=True):
                if apart:
                    np.multiply(share[outer], hit, out=target[inner])
                else:
                    np.add(target[inner], share[outer] * hit, out=target[inner])


def _divisor(x_space: Any, window: Any, stride: Any, padding: Any, dtype: Any) -> Any:
    if not any(map(any, padding)):
        return dtype.type(prod(window))
    return element_counts(x_space, window, stride, padding).astype(dtype)


def _avg_pool(ctx: Any, outs: Any, x: Any, *, window: Any, stride: Any, padding: Any) -> None:
    y = outs[0]
    work = np.dtype(np.float32) if y.dtype == np.float16 else y.dtype
    meetings = list(_meetings(y.shape[1:-1], x.shape[1:-1], window, stride, padding))
    divisor = _divisor(x.shape[1:-1], window, stride, padding, work)
    for part in _blocks(x):
        source, target = x[part], y[part]
        total = target if y.dtype == work else np.empty(target.shape, work)
        total.fill(0)
        for outer, inner in meetings:
            np.add(total[outer], source[inner], out=total[outer])
        np.divide(total, divisor, out=target, casting="same_kind")


def _avg_pool_gradient(
    ctx: Any, outs: Any, g: Any, *, space: Any, window: Any, stride: Any, padding: Any
) -> None:
    by_input = outs[0]
    work = np.dtype(np.float32) if g.dtype == np.float16 else g.dtype
    meetings = list(_meetings(g.shape[1:-1], space, window, stride, padding))
    divisor = _divisor(space, window, stride, padding, work)
    for part in _blocks(by_input):
        target = by_input[part]
        total = target if target.dtype == work else np.empty(target.shape, work)
        share = np.divide(g[part], divisor, dtype=work)
        total.fill(0)
        for outer, inner in meetings:
            np.add(total[inner], share[outer], out=total[inner])
        if total is not target:
            np.copyto(target, total, casting="same_kind")


KERNELS: dict[str, Kernel] = {
    "max_pool": Kernel(_max_pool),
    "max_pool_gradient": Kernel(_max_pool_gradient),
    "avg_pool": Kernel(_avg_pool),
    "avg_pool_gradient": Kernel(_avg_pool_gradient),
}
