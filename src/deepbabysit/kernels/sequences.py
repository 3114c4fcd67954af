"""Taking a sequence apart, one array for each step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import is_batch, normalize_axis, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, define


def unstack(xp: Any, x: Any, *, axis: int = 0) -> Any:
    """Take an array apart along an axis: one array for each entry, without that axis. The inverse of stacking."""
    before = (slice(None),) * (axis % len(x.shape))
    return tuple(x[(*before, i)] for i in range(x.shape[axis]))


def _unstack_infer(shapes: Any, dtypes: Any, *, axis: int = 0) -> tuple[Form, ...]:
    shape = shapes[0]
    where = normalize_axis("unstack", axis, len(shape))
    if shape[where] == 0 or is_batch(shape[where]):
        raise ValueError(f"unstack: axis {axis} of {show_shape(shape)} must have a known length of at least 1")
    return (Form((*shape[:where], *shape[where + 1 :]), dtypes[0]),) * shape[where]


def _unstack_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng, (1, 4))
        yield Sample((drawing.normal(rng, shape),), {"axis": int(rng.integers(-len(shape), len(shape)))})
    yield Sample((drawing.strided(drawing.normal(rng, (3, 4))),), {"axis": 1})
    yield Sample((drawing.normal(rng, (0, 2)),), {"axis": 1})


def _unstack_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: int) -> Any:
    some = next(part for part in g if part is not None)
    shape = x[0].shape
    where = axis % len(shape)
    # where no gradient flowed: zeros, whatever the others hold
    parts = [part if part is not None else op.where(op.less(some, some), some, 0.0) for part in g]
    longer = (*shape[:where], 1, *shape[where + 1 :])
    return (op.concat(*[op.reshape(part, shape=longer) for part in parts], axis=where),)


UNSTACK = define(
    unstack, infer=_unstack_infer, samples=_unstack_samples, vjp=_unstack_vjp,
    errors=lambda: [
        BadInput((np.ones((2, 3)),), {"axis": 2}, ValueError, "axis 2 does not exist"),
        BadInput((np.ones((0, 3)),), {"axis": 0}, ValueError, "at least 1"),
    ],
)
