"""Statistics of tensors, of segments of a flat buffer, of units, each in one pass over memory."""

from __future__ import annotations

from functools import lru_cache
from math import inf, nan, prod
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.kernels.statistics import Segments
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_BLOCK = 2048  # values that are looked at twice while they are in the first-level cache
_WIDE = 256
_SEGMENTS, _UNITS = Compiled("statistics", "segments"), Compiled("statistics", "units")
_WHOLE = {
    np.dtype(np.float32): (np.dtype(np.int32), np.dtype(np.uint32), np.int32(2**31 - 1)),
    np.dtype(np.float64): (np.dtype(np.int64), np.dtype(np.uint64), np.int64(2**63 - 1)),
}


def _takes(forms: Any, **attrs: Any) -> bool:
    size = prod(forms[0].shape)
    return size >= LEAST["statistics"] and size > 0 and available()


def _scratch(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    return (Form((_BLOCK,), forms[0].dtype),)


def _columns(forms: Any, **attrs: Any) -> tuple[Form, ...]:
    shape, dtype = forms[0].shape, forms[0].dtype
    width, rows = shape[-1], prod(shape[:-1])
    while width < _WIDE and rows % 2 == 0:  # several rows side by side, so that loops over a row are long
        width, rows = 2 * width, rows // 2
    return Form((width,), dtype), Form((4, width), dtype), Form((2, width), dtype)


@lru_cache(maxsize=256)
def _places(segments: Segments) -> tuple[Any, Any]:
    pairs = np.array(segments, np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _measure(ctx: Any, x: Any, before: Any, differ: bool, segments: Segments, out: Any) -> None:
    signed, natural, mask = _WHOLE[x.dtype]
    block = ctx.scratch[0]
    _SEGMENTS(
        x.dtype, x, x.view(signed), x.view(natural), before, differ, block, block.view(signed), block.view(natural),
        mask, *_places(segments), out,
    )


def _tensor(ctx: Any, outs: Any, x: Any) -> None:
    x = x.reshape(-1)
    _measure(ctx, x, x, False, ((0, x.shape[0]),), outs[0].reshape(1, -1))


def _segments(ctx: Any, outs: Any, x: Any, *, segments: Segments) -> None:
    _measure(ctx, x, x, False, segments, outs[0])


def _change(ctx: Any, outs: Any, x: Any, before: Any, *, segments: Segments) -> None:
    _measure(ctx, x, before, True, segments, outs[0])


def _units(ctx: Any, outs: Any, x: Any, *, center: float = 0.0, limit: float = inf) -> None:
    missing, counts, ends = ctx.scratch
    missing.fill(nan)
    _UNITS(x.dtype, x.reshape(-1, missing.shape[0]), float(center), float(limit), missing, counts, ends, outs[0])


VARIANTS: dict[str, Kernel] = {
    "tensor_statistics": Kernel(_tensor, dtypes=_DTYPES, supports=_takes, contiguous=True, scratch=_scratch),
    "segment_statistics": Kernel(_segments, dtypes=_DTYPES, supports=_takes, contiguous=True, scratch=_scratch),
    "change_statistics": Kernel(_change, dtypes=_DTYPES, supports=_takes, contiguous=True, scratch=_scratch),
    "unit_activity": Kernel(_units, dtypes=_DTYPES, supports=_takes, contiguous=True, scratch=_columns),
}
