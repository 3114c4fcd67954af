"""Statistics of tensors, of parts of flat buffers, of units: one launch each, the same bits run after run."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.launch import THREADS
from deepbabysit_cupy.trace import STORED

_KINDS = frozenset({"float16", "bfloat16", "float32", "float64"})
_PART, _MOST_PARTS = 4096, 2048  # elements of a part at least, and about how many parts there are at most
_FIELDS, _UNIT_FIELDS = 7, 6  # numbers in a Summary, in a Unit
_TILE = 32  # units of a block
_ROWS, _MOST_RANGES = 512, 64  # rows of a range at least, and how many ranges there are at most

Segments = tuple[tuple[int, int], ...]


def _length(segments: Segments) -> int:
    return max(_PART, -(-sum(length for _, length in segments) // _MOST_PARTS))


def _firsts(segments: Segments) -> list[int]:
    """Return the number of the first part of each segment, and of all parts; every segment has one at least."""
    length = _length(segments)
    counts = [max(1, -(-size // length)) for _, size in segments]
    return [0, *np.cumsum(counts).tolist()]


def _table(ctx: Any, segments: Segments) -> Any:
    """Return the table of the segments on the device; made once, so that nothing is copied in a captured step."""
    begins, lengths = tuple(b for b, _ in segments), tuple(n for _, n in segments)
    return ctx.constant((*begins, *lengths, *_firsts(segments)), np.dtype(np.int64))


def _measure(ctx: Any, out: Any, x: Any, before: Any, segments: Segments) -> None:
    if not segments:
        return
    function = ctx.backend.library.function("statistics.cu", f"statistics_{STORED[x.dtype.name]}")
    grid = min(_firsts(segments)[-1], ctx.backend.most_blocks)
    function(
        (grid,), (THREADS,),
        (out, *ctx.scratch, x, x if before is None else before, _table(ctx, segments), np.int64(len(segments)),
         np.int64(_length(segments)), np.bool_(before is not None), ctx.backend.ticket),
    )


def _parts(segments: Segments) -> tuple[Form, ...]:
    return (Form((_firsts(segments)[-1] * _FIELDS,), np.dtype(np.float64)),)


def _tensor_statistics(ctx: Any, outs: Any, x: Any) -> None:
    _measure(ctx, outs[0], x, None, ((0, x.size),))


def _segment_statistics(ctx: Any, outs: Any, x: Any, *, segments: Segments) -> None:
    _measure(ctx, outs[0], x, None, segments)


def _change_statistics(ctx: Any, outs: Any, x: Any, before: Any, *, segments: Segments) -> None:
    _measure(ctx, outs[0], x, before, segments)


def _inner_products(ctx: Any, outs: Any, x: Any, y: Any) -> None:
    length = _length(((0, x.size),))
    function = ctx.backend.library.function("statistics.cu", f"inner_products_{STORED[x.dtype.name]}")
    grid = max(1, min(-(-x.size // length), ctx.backend.most_blocks))
    function(
        (grid,), (THREADS,),
        (outs[0], *ctx.scratch, x, y, np.int64(x.size), np.int64(length), ctx.backend.ticket),
    )


def _products_scratch(forms: Any) -> tuple[Form, ...]:
    size = prod(forms[0].shape)
    return (Form((3 * max(1, -(-size // _length(((0, size),)))),), np.dtype(np.float64)),)


def _ranges(rows: int) -> int:
    return max(1, min(_MOST_RANGES, rows // _ROWS))


def _unit_scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    shape = forms[0].shape
    return (Form((_ranges(prod(shape[:-1])) * shape[-1] * _UNIT_FIELDS,), np.dtype(np.float64)),)


def _unit_activity(ctx: Any, outs: Any, x: Any, *, center: float = 0.0, limit: float = float("inf")) -> None:
    units = x.shape[-1]
    if units == 0:
        return
    rows = x.size // units
    ranges = _ranges(rows)
    function = ctx.backend.library.function("statistics.cu", f"units_{STORED[x.dtype.name]}")
    function(
        (min(-(-units // _TILE), ctx.backend.most_blocks), ranges), (THREADS,),
        (outs[0], *ctx.scratch, x, np.int64(rows), np.int64(units), np.int64(-(-rows // ranges)), np.float64(center),
         np.float64(limit), ctx.backend.ticket),
    )


KERNELS: dict[str, Kernel] = {
    "tensor_statistics": Kernel(
        _tensor_statistics, dtypes=_KINDS, contiguous=True, scratch=lambda forms: _parts(((0, prod(forms[0].shape)),))
    ),
    "segment_statistics": Kernel(
        _segment_statistics, dtypes=_KINDS, contiguous=True, scratch=lambda forms, segments: _parts(segments)
    ),
    "change_statistics": Kernel(
        _change_statistics, dtypes=_KINDS, contiguous=True, scratch=lambda forms, segments: _parts(segments)
    ),
    "inner_products": Kernel(_inner_products, dtypes=_KINDS, contiguous=True, scratch=_products_scratch),
    "unit_activity": Kernel(_unit_activity, dtypes=_KINDS, contiguous=True, scratch=_unit_scratch),
}
