"""Primitives that read and write by index arrays: gathers, scatters, one-hot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import broadcast, normalize_axis, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Shape, define


def _need_integers(name: str, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "iu":
        raise TypeError(f"{name}: indices must be whole numbers; got {dtype}. Convert first: indices.astype('int64')")


# -- rows by number (embedding, gathers) -----------------------------------------------------------------------------


def take(xp: Any, x: Any, indices: Any, *, axis: int = 0) -> Any:
    """Take entries along an axis by number; the indices may have any shape. Negative numbers count from the end."""
    axis = axis % len(x.shape)
    flat = xp.library.take(x, xp.reshape(indices, (-1,)), axis=axis)
    return xp.reshape(flat, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _take_infer(shapes: Any, dtypes: Any, *, axis: int = 0) -> tuple[Form, ...]:
    where = normalize_axis("take", axis, len(shapes[0]))
    _need_integers("take", dtypes[1])
    return (Form((*shapes[0][:where], *shapes[1], *shapes[0][where + 1 :]), dtypes[0]),)


def _take_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng, (1, 3))
        axis = int(rng.integers(-len(shape), len(shape)))
        indices = rng.integers(-shape[axis], shape[axis], drawing.draw_shape(rng, (0, 2)))
        yield Sample((drawing.normal(rng, shape), np.asarray(indices)), {"axis": axis})
    yield Sample((drawing.normal(rng, (3, 2)), np.zeros((0,), np.int64)), {"axis": 0})
    yield Sample((drawing.normal(rng, (5, 2)), np.array([1, 1, 1, 4], np.int32)), {"axis": 0})


TAKE = define(
    take, infer=_take_infer, samples=_take_samples, saves_inputs=(1,), differentiable=(0,),
    errors=lambda: [BadInput((np.ones(3), np.ones(2)), {}, TypeError, "whole numbers")],
    vjp=lambda op, g, x, out, needs, axis: (
        op.scatter_add(g[0], x[1], shape=x[0].shape, axis=axis), None,
    ),
)


def scatter_add(xp: Any, values: Any, indices: Any, *, shape: Shape, axis: int = 0) -> Any:
    """Add values into zeros at numbered entries of an axis; repeated numbers add up. The adjoint of `take`."""
    axis = axis % len(shape)
    length = shape[axis]
    before, after = shape[:axis], shape[axis + 1 :]
    numbers = xp.reshape(indices, (-1,))
    numbers = xp.where(numbers < 0, numbers + length, numbers)
    chosen = xp.astype(xp.expand_dims(numbers, axis=0) == xp.expand_dims(xp.arange(length), axis=1), values.dtype)
    rows = xp.moveaxis(xp.reshape(values, (*before, numbers.shape[0], *after)), axis, 0)
    total = xp.matmul(chosen, xp.reshape(rows, (numbers.shape[0], -1 if rows.size else _size((*before, *after)))))
    return xp.moveaxis(xp.reshape(total, (length, *before, *after)), 0, axis)


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _scatter_infer(shapes: Any, dtypes: Any, *, shape: Shape, axis: int = 0) -> tuple[Form, ...]:
    where = normalize_axis("scatter_add", axis, len(shape))
    _need_integers("scatter_add", dtypes[1])
    expected = (*shape[:where], *shapes[1], *shape[where + 1 :])
    if shapes[0] != expected:
        raise ValueError(f"scatter_add: values must have shape {show_shape(expected)}; got {show_shape(shapes[0])}")
    return (Form(tuple(shape), dtypes[0]),)


def _scatter_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _take_samples(rng):
        x, indices = sample.inputs
        axis = sample.attrs["axis"] % x.ndim
        values = drawing.normal(rng, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
        yield Sample((values, indices), {"shape": x.shape, "axis": axis})


SCATTER_ADD = define(
    scatter_add, infer=_scatter_infer, samples=_scatter_samples, saves_inputs=(1,), differentiable=(0,),
    errors=lambda: [BadInput((np.ones(3), np.zeros(2, int)), {"shape": (4,)}, ValueError, "must have shape (2,)")],
    vjp=lambda op, g, x, out, needs, shape, axis: (op.take(g[0], x[1], axis=axis), None),
)



def take_scaled(xp: Any, x: Any, indices: Any, shift: Any, scale: Any, *, dtype: Any = "float32") -> Any:
    """Take rows by number and scale them, ``(x[indices] - shift) / scale``, computed in float64: a batch of raw data.

    Arguments:
        x: (N, ...), whole or floating numbers.
        indices: whole numbers (n,).
        shift, scale: of the shape of a row, or with lengths 1 in it.
        dtype: of the result.

    >>> import deepbabysit as db, numpy as np
    >>> pixels = db.tensor(np.array([[0, 255], [51, 102]], np.uint8))
    >>> db.ops.take_scaled(pixels, db.tensor([1, 0]), db.tensor([0.0]), db.tensor([255.0])).numpy().tolist()
    [[0.2, 0.4], [0.0, 1.0]]
    """
    rows = xp.astype(xp.take(x, indices, axis=0), xp.float64)
    return xp.astype((rows - xp.astype(shift, xp.float64)) / xp.astype(scale, xp.float64), np.dtype(dtype))


def _scaled_infer(shapes: Any, dtypes: Any, *, dtype: Any = "float32") -> tuple[Form, ...]:
    x, indices, *vectors = shapes
    _need_integers("take_scaled", dtypes[1])
    if len(indices) != 1 or len(x) < 1:
        raise ValueError(f"take_scaled: rows (N, ...) and numbers (n,); got {show_shape(x)} and {show_shape(indices)}")
    for shape in vectors:
        if broadcast("take_scaled", (x[1:], shape)) != x[1:]:
            raise ValueError(f"take_scaled: shift and scale are for rows {show_shape(x[1:])}; got {show_shape(shape)}")
    return (Form((*indices, *x[1:]), np.dtype(dtype)),)


def _scaled_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, vector in (((5, 3), (3,)), ((4, 2, 3), (1, 1)), ((6, 2), (1,)), ((3, 2, 2), (2, 2)), ((2, 0), (1,))):
        pair = (rng.normal(size=vector), rng.uniform(0.5, 2.0, vector))
        numbers = rng.integers(-shape[0], shape[0], 7)
        for x in (rng.integers(0, 256, shape).astype(np.uint8), drawing.normal(rng, shape)):
            yield Sample((x, numbers, *pair), {"dtype": "float64"}, gradient=False)
    nobody = (np.ones((3, 2)), np.zeros(0, np.int32), np.zeros(2), np.ones(2))
    yield Sample(nobody, {"dtype": "float32"}, gradient=False)


TAKE_SCALED = define(
    take_scaled, infer=_scaled_infer, samples=_scaled_samples, differentiable=(),
    errors=lambda: [
        BadInput((np.ones((3, 2)), np.ones(2), np.ones(2), np.ones(2)), {}, TypeError, "whole numbers"),
        BadInput((np.ones((3, 2)), np.zeros(2, int), np.ones((4, 2)), np.ones(2)), {}, ValueError, "for rows (2,)"),
        BadInput((np.ones((3, 2)), np.zeros((2, 1), int), np.ones(2), np.ones(2)), {}, ValueError, "numbers (n,)"),
    ],
)

# -- one entry per position (labels) ---------------------------------------------------------------------------------


def take_along_axis(xp: Any, x: Any, indices: Any, *, axis: int = -1) -> Any:
    """Take, for every position, the entries of an axis that the indices name."""
    return xp.take_along_axis(x, indices, axis=axis)


def _along_infer(shapes: Any, dtypes: Any, *, axis: int = -1) -> tuple[Form, ...]:
    x, indices = shapes
    where = normalize_axis("take_along_axis", axis, len(x))
    _need_integers("take_along_axis", dtypes[1])
    if len(x) != len(indices) or any(a != b for i, (a, b) in enumerate(zip(x, indices, strict=True)) if i != where):
        raise ValueError(
            f"take_along_axis: the indices {show_shape(indices)} may differ from the array {show_shape(x)} along "
            f"axis {axis} only"
        )
    return (Form(indices, dtypes[0]),)


def _along_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        shape = drawing.draw_shape(rng, (1, 3))
        axis = int(rng.integers(-len(shape), len(shape)))
        wanted = list(shape)
        wanted[axis] = int(rng.integers(1, 4))
        indices = rng.integers(0, shape[axis], tuple(wanted))
        yield Sample((drawing.normal(rng, shape), indices), {"axis": axis})


TAKE_ALONG_AXIS = define(
    take_along_axis, infer=_along_infer, samples=_along_samples, saves_inputs=(1,), differentiable=(0,),
    errors=lambda: [BadInput((np.ones((2, 3)), np.zeros((3, 1), int)), {}, ValueError, "axis -1 only")],
    vjp=lambda op, g, x, out, needs, axis: (
        op.add_along_axis(g[0], x[1], axis=axis, length=x[0].shape[axis]), None,
    ),
)


def add_along_axis(xp: Any, values: Any, indices: Any, *, axis: int = -1, length: int) -> Any:
    """Add values into zeros where the indices point along an axis: the adjoint of `take_along_axis`."""
    axis = axis % len(indices.shape)
    numbers = xp.expand_dims(xp.moveaxis(indices, axis, -1), axis=-1)
    numbers = xp.where(numbers < 0, numbers + length, numbers)
    chosen = xp.astype(numbers == xp.arange(length), values.dtype)
    total = xp.sum(chosen * xp.expand_dims(xp.moveaxis(values, axis, -1), axis=-1), axis=-2)
    return xp.moveaxis(total, -1, axis)


def _add_along_infer(shapes: Any, dtypes: Any, *, axis: int = -1, length: int) -> tuple[Form, ...]:
    where = normalize_axis("add_along_axis", axis, len(shapes[0]))
    _need_integers("add_along_axis", dtypes[1])
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"add_along_axis: values {show_shape(shapes[0])} and indices {show_shape(shapes[1])} must have one shape"
        )
    return (Form((*shapes[0][:where], length, *shapes[0][where + 1 :]), dtypes[0]),)


def _add_along_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _along_samples(rng):
        x, indices = sample.inputs
        axis = sample.attrs["axis"]
        yield Sample((drawing.normal(rng, indices.shape), indices), {"axis": axis, "length": x.shape[axis]})


ADD_ALONG_AXIS = define(
    add_along_axis, infer=_add_along_infer, samples=_add_along_samples, saves_inputs=(1,), differentiable=(0,),
    vjp=lambda op, g, x, out, needs, axis, length: (op.take_along_axis(g[0], x[1], axis=axis), None),
)


def one_hot(xp: Any, labels: Any, *, classes: int, dtype: Any = "float32") -> Any:
    """Write each label as a row of zeros with a one at the label's place (a label outside gives a row of zeros)."""
    return xp.astype(xp.expand_dims(labels, axis=-1) == xp.arange(classes), np.dtype(dtype))


def _one_hot_infer(shapes: Any, dtypes: Any, *, classes: int, dtype: Any = "float32") -> tuple[Form, ...]:
    _need_integers("one_hot", dtypes[0])
    return (Form((*shapes[0], classes), np.dtype(dtype)),)


def _one_hot_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in ((), (0,), (4,), (2, 3)):
        yield Sample((np.asarray(rng.integers(0, 5, shape)),), {"classes": 5, "dtype": "float64"}, gradient=False)


ONE_HOT = define(one_hot, infer=_one_hot_infer, samples=_one_hot_samples, differentiable=())
