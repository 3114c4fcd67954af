"""Primitives that move values without changing them: reshapes, transposes, slices, joins, padding, sliding windows."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import (
    is_batch,
    normalize_axes,
    normalize_axis,
    resolve_reshape,
    result_dtype,
    show_shape,
)
from deepbabysit.kernels.spec import BadInput, Form, Sample, Shape, define

# -- reshape, transpose, broadcast -----------------------------------------------------------------------------------


def reshape(xp: Any, x: Any, *, shape: Shape) -> Any:
    """Give the elements another shape, in row-major order; one -1 is filled in."""
    return xp.reshape(x, shape)


def _reshape_infer(shapes: Any, dtypes: Any, *, shape: Shape) -> tuple[Form, ...]:
    return (Form(resolve_reshape(shapes[0], shape), dtypes[0]),)


def _reshape_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(5):
        shape = drawing.draw_shape(rng)
        yield Sample((drawing.normal(rng, shape),), {"shape": (-1,)})
        yield Sample((drawing.normal(rng, shape),), {"shape": (1, *shape[::-1])})
    yield Sample((drawing.normal(rng, (4, 6)).T,), {"shape": (3, 8)})
    yield Sample((drawing.strided(drawing.normal(rng, (4, 6))),), {"shape": (24,)})
    yield Sample((drawing.normal(rng, (0, 3)),), {"shape": (3, 0)})


RESHAPE = define(
    reshape, infer=_reshape_infer, samples=_reshape_samples, view=True,
    errors=lambda: [BadInput((np.ones((2, 3)),), {"shape": (4,)}, ValueError, "number of elements")],
    vjp=lambda op, g, x, out, needs, shape: (op.reshape(g[0], shape=x[0].shape),),
)


def permute_dims(xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
    """Put the axes in another order."""
    return xp.permute_dims(x, axes)


def _permute_infer(shapes: Any, dtypes: Any, *, axes: tuple[int, ...]) -> tuple[Form, ...]:
    rank = len(shapes[0])
    if normalize_axes("permute_dims", axes, rank) != tuple(range(rank)):
        raise ValueError(f"permute_dims: axes {axes} must name each of the {rank} axes once")
    return (Form(tuple(shapes[0][a] for a in axes), dtypes[0]),)


def _permute_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(8):
        shape = drawing.draw_shape(rng)
        yield Sample((drawing.normal(rng, shape),), {"axes": tuple(int(a) for a in rng.permutation(len(shape)))})


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    rank = len(axes)
    order = [0] * rank
    for place, axis in enumerate(axes):
        order[axis % rank] = place
    return tuple(order)


PERMUTE_DIMS = define(
    permute_dims, infer=_permute_infer, samples=_permute_samples, view=True,
    errors=lambda: [BadInput((np.ones((2, 3)),), {"axes": (0,)}, ValueError, "each of the 2 axes")],
    vjp=lambda op, g, x, out, needs, axes: (op.permute_dims(g[0], axes=_inverse(axes)),),
)


def broadcast_to(xp: Any, x: Any, *, shape: Shape) -> Any:
    """Repeat along axes of length 1, and along new leading axes, without copying."""
    return xp.broadcast_to(x, shape)


def _broadcast_infer(shapes: Any, dtypes: Any, *, shape: Shape) -> tuple[Form, ...]:
    given = shapes[0]
    extra = len(shape) - len(given)
    if extra < 0 or any(n not in (1, shape[extra + i]) for i, n in enumerate(given)):
        raise ValueError(f"broadcast_to: {show_shape(given)} cannot be repeated to {show_shape(shape)}")
    return (Form(tuple(shape), dtypes[0]),)


def _broadcast_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(8):
        shape = drawing.draw_shape(rng)
        yield Sample((drawing.normal(rng, drawing.partner_shape(rng, shape)),), {"shape": shape})
    yield Sample((drawing.normal(rng, (1, 3)),), {"shape": (0, 3)})


BROADCAST_TO = define(
    broadcast_to, infer=_broadcast_infer, samples=_broadcast_samples, view=True,
    errors=lambda: [BadInput((np.ones((2, 3)),), {"shape": (3, 3)}, ValueError, "cannot be repeated")],
    vjp=lambda op, g, x, out, needs, shape: (op.sum_to(g[0], shape=x[0].shape),),
)


def flip(xp: Any, x: Any, *, axis: int | tuple[int, ...] | None = None) -> Any:
    """Reverse the order along axes."""
    return xp.flip(x, axis=axis)


def _flip_infer(shapes: Any, dtypes: Any, *, axis: Any = None) -> tuple[Form, ...]:
    normalize_axes("flip", axis, len(shapes[0]))
    return (Form(shapes[0], dtypes[0]),)


def _flip_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for axis in (None, 0, -1, (0, 1)):
        yield Sample((drawing.normal(rng, drawing.draw_shape(rng, (2, 4))),), {"axis": axis})


FLIP = define(flip, infer=_flip_infer, samples=_flip_samples, view=True,
              vjp=lambda op, g, x, out, needs, axis: (op.flip(g[0], axis=axis),))

# -- slices ----------------------------------------------------------------------------------------------------------
# A key is a tuple of items that can be hashed: an int, None (new axis), or ("slice", start, stop, step), one for each
# axis from the front. `basic_key` makes it from what a user writes between brackets.

Key = tuple[Any, ...]


def basic_key(key: Any, rank: int) -> Key | None:
    """Return the hashable form of a basic index (ints, slices, None, ...), or None for an advanced one.

    >>> basic_key((1, ..., slice(0, 2)), 3)
    (1, ('slice', None, None, None), ('slice', 0, 2, None))
    """
    if rank and type(key) is slice and type(key.start) is type(key.stop) is int and key.step is None:
        return (("slice", key.start, key.stop, None),)  # the commonest cases first: this is a hot path
    if rank and type(key) is int:
        return (key,)
    items = key if isinstance(key, tuple) else (key,)
    for item in items:
        if item is None or item is Ellipsis or isinstance(item, slice):
            continue
        if isinstance(item, bool | np.bool_) or not isinstance(item, int | np.integer):
            return None
    named = sum(1 for item in items if item is not None and item is not Ellipsis)
    if sum(1 for item in items if item is Ellipsis) > 1:
        raise IndexError("an index can hold only one '...'")
    if named > rank:
        raise IndexError(f"too many indices: the array has {rank} axes, {named} were indexed")
    full = ("slice", None, None, None)
    result: list[Any] = []
    for item in items:
        if item is Ellipsis:
            result.extend([full] * (rank - named))
        elif isinstance(item, slice):
            result.append(("slice", *(None if n is None else int(n) for n in (item.start, item.stop, item.step))))
        else:
            result.append(None if item is None else int(item))
    return tuple(result)


def plain_key(key: Key) -> tuple[Any, ...]:
    """Return the index in the form that arrays take; with '...' at its end the result is an array, never a scalar."""
    return (*(slice(*item[1:]) if isinstance(item, tuple) else item for item in key), ...)


def getitem(xp: Any, x: Any, *, key: Key) -> Any:
    """Take a part with whole numbers, slices and new axes (`x[1, :, None]`)."""
    return x[plain_key(key)]


def _getitem_shape(shape: Shape, key: Key) -> Shape:
    result: list[int] = []
    axis = 0
    for item in key:
        if item is None:
            result.append(1)
            continue
        length = shape[axis]
        if isinstance(item, tuple):
            if is_batch(length) and item[1:] == (None, None, None):
                result.append(length)
            else:
                result.append(len(range(*slice(*item[1:]).indices(length))))
        elif not -length <= item < length:
            raise IndexError(f"index {item} is outside axis {axis} of length {length}")
        axis += 1
    return (*result, *shape[axis:])


def _getitem_infer(shapes: Any, dtypes: Any, *, key: Key) -> tuple[Form, ...]:
    return (Form(_getitem_shape(shapes[0], key), dtypes[0]),)


_KEYS: tuple[tuple[Shape, Any], ...] = (
    ((4, 3), 1), ((4, 3), slice(1, 3)), ((4, 3), (slice(None), -1)), ((5, 4), (slice(None, None, 2), slice(3, 0, -1))),
    ((4, 3), (None, 2)), ((2, 3, 4), (..., 1)), ((3,), slice(3, 3)), ((3, 2), (slice(None, None, -1), None, 0)),
)


def _getitem_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, key in _KEYS:
        yield Sample((drawing.normal(rng, shape),), {"key": basic_key(key, len(shape))})
    for _ in range(4):
        shape = drawing.draw_shape(rng, (1, 4))
        starts = [int(rng.integers(0, n)) for n in shape]
        key = tuple(slice(s, None, int(rng.integers(1, 3))) for s in starts)
        yield Sample((drawing.normal(rng, shape),), {"key": basic_key(key, len(shape))})


GETITEM = define(
    getitem, infer=_getitem_infer, samples=_getitem_samples, view=True,
    errors=lambda: [BadInput((np.ones((2, 3)),), {"key": (5,)}, IndexError, "outside axis 0")],
    vjp=lambda op, g, x, out, needs, key: (op.embed_slice(g[0], shape=x[0].shape, key=key),),
)


def embed_slice(xp: Any, x: Any, *, shape: Shape, key: Key) -> Any:
    """Put values at an index into zeros: the adjoint of `getitem`."""
    result = xp.zeros(shape, dtype=x.dtype)
    result[plain_key(key)] = x
    return result


def _embed_infer(shapes: Any, dtypes: Any, *, shape: Shape, key: Key) -> tuple[Form, ...]:
    expected = _getitem_shape(shape, key)
    if shapes[0] != expected:
        raise ValueError(f"embed_slice: the index holds {show_shape(expected)}; got {show_shape(shapes[0])}")
    return (Form(tuple(shape), dtypes[0]),)


def _embed_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, key in _KEYS:
        hashable = basic_key(key, len(shape))
        assert hashable is not None
        yield Sample((drawing.normal(rng, _getitem_shape(shape, hashable)),), {"shape": shape, "key": hashable})


EMBED_SLICE = define(
    embed_slice, infer=_embed_infer, samples=_embed_samples,
    errors=lambda: [BadInput((np.ones((2,)),), {"shape": (2, 3), "key": (0,)}, ValueError, "the index holds (3,)")],
    vjp=lambda op, g, x, out, needs, shape, key: (op.getitem(g[0], key=key),),
)

# -- joining and padding ---------------------------------------------------------------------------------------------


def concat(xp: Any, *arrays: Any, axis: int = 0) -> Any:
    """Join arrays along an existing axis."""
    return xp.concat(arrays, axis=axis)


def _concat_infer(shapes: Any, dtypes: Any, *, axis: int = 0) -> tuple[Form, ...]:
    if not shapes:
        raise ValueError("concat needs at least one array")
    first = shapes[0]
    where = normalize_axis("concat", axis, len(first))
    for i, shape in enumerate(shapes):
        others = [(*s[:where], *s[where + 1 :]) for s in (shape, first)]
        if len(shape) != len(first) or others[0] != others[1]:
            raise ValueError(
                f"concat: array {i} has shape {show_shape(shape)}, the first {show_shape(first)}; "
                f"they may differ along axis {axis} only"
            )
    total = sum(shape[where] for shape in shapes)
    return (Form((*first[:where], total, *first[where + 1 :]), result_dtype(dtypes)),)


def _concat_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for count in (1, 2, 3):
        for _ in range(2):
            shape = list(drawing.draw_shape(rng, (1, 3)))
            axis = int(rng.integers(0, len(shape)))
            arrays = []
            for _ in range(count):
                shape[axis] = int(rng.integers(0, 4))
                arrays.append(drawing.normal(rng, tuple(shape)))
            yield Sample(tuple(arrays), {"axis": axis - len(shape) if rng.random() < 0.5 else axis})


def _concat_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, axis: int) -> Any:
    rank = len(x[0].shape)
    where = axis % rank
    result = []
    start = 0
    for array, need in zip(x, needs, strict=True):
        stop = start + array.shape[where]
        key = basic_key((*[slice(None)] * where, slice(start, stop)), rank)
        part = op.getitem(g[0], key=key) if need else None
        result.append(part if part is None or part.dtype == array.dtype else op.astype(part, dtype=array.dtype))
        start = stop
    return tuple(result)


CONCAT = define(
    concat, infer=_concat_infer, samples=_concat_samples, vjp=_concat_vjp,
    errors=lambda: [BadInput((np.ones((2, 3)), np.ones((3, 4))), {"axis": 0}, ValueError, "axis 0 only")],
)

Widths = tuple[tuple[int, int], ...]


def pad(xp: Any, x: Any, *, widths: Widths, value: float = 0.0) -> Any:
    """Add a border: `widths` holds (before, after) for each axis, from the front."""
    shape = tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True))
    result = xp.full(shape, value, dtype=x.dtype)
    result[tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, widths, strict=True))] = x
    return result


def _pad_infer(shapes: Any, dtypes: Any, *, widths: Widths, value: float = 0.0) -> tuple[Form, ...]:
    if len(widths) != len(shapes[0]) or any(a < 0 or b < 0 for a, b in widths):
        raise ValueError(
            f"pad: widths must hold one (before, after) pair of whole numbers >= 0 for each of the "
            f"{len(shapes[0])} axes; got {widths}"
        )
    return (Form(tuple(n + a + b for n, (a, b) in zip(shapes[0], widths, strict=True)), dtypes[0]),)


def _pad_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for value in (0.0, -2.5):
        for _ in range(4):
            shape = drawing.draw_shape(rng)
            widths = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, size=(len(shape), 2)))
            yield Sample((drawing.normal(rng, shape),), {"widths": widths, "value": value})


def _pad_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, widths: Widths, value: float) -> Any:
    key = tuple(("slice", a, a + n, None) for n, (a, _) in zip(x[0].shape, widths, strict=True))
    return (op.getitem(g[0], key=key),)


PAD = define(
    pad, infer=_pad_infer, samples=_pad_samples, vjp=_pad_vjp,
    errors=lambda: [BadInput((np.ones((2, 3)),), {"widths": ((1, 1),)}, ValueError, "each of the 2 axes")],
)

# -- sliding windows (channels last) ---------------------------------------------------------------------------------


def window_count(length: int, window: int, stride: int, dilation: int) -> int:
    """Return how many windows fit along an axis.

    >>> window_count(7, 3, 2, 1)
    3
    """
    return (length - (window - 1) * dilation - 1) // stride + 1


Sizes = tuple[int, ...]


def _window_slices(
    window: Sizes, stride: Sizes, dilation: Sizes, counts: Sizes
) -> Iterator[tuple[Sizes, tuple[slice, ...]]]:
    for offset in np.ndindex(*window):
        yield offset, tuple(
            slice(o * d, o * d + (n - 1) * s + 1, s)
            for o, d, n, s in zip(offset, dilation, counts, stride, strict=True)
        )


def window_view(xp: Any, x: Any, *, window: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """Show every window of an image: (N, *space, C) becomes (N, *positions, *window, C)."""
    space = len(window)
    counts = tuple(
        window_count(x.shape[1 + i], window[i], stride[i], dilation[i]) for i in range(space)
    )
    parts = [x[(slice(None), *slices)] for _, slices in _window_slices(window, stride, dilation, counts)]
    stacked = xp.stack(parts, axis=1 + space)
    return xp.reshape(stacked, (x.shape[0], *counts, *window, x.shape[-1]))


def _window_counts(name: str, shape: Shape, window: Sizes, stride: Sizes, dilation: Sizes) -> Sizes:
    space = len(window)
    if len(shape) != space + 2 or len(stride) != space or len(dilation) != space:
        raise ValueError(
            f"{name}: a window over {space} axes needs an array (N, {'space, ' * space}C), and one stride and one "
            f"dilation per axis; got shape {show_shape(shape)}, strides {stride}, dilations {dilation}"
        )
    if any(n < 1 for n in (*window, *stride, *dilation)):
        raise ValueError(f"{name}: window {window}, stride {stride} and dilation {dilation} must be at least 1")
    counts = tuple(window_count(shape[1 + i], window[i], stride[i], dilation[i]) for i in range(space))
    if any(n < 1 for n in counts):
        raise ValueError(
            f"{name}: a window of {window} (dilation {dilation}) is larger than the image {show_shape(shape[1:-1])}; "
            f"use padding='same' or a smaller window"
        )
    return counts


def _window_infer(shapes: Any, dtypes: Any, *, window: Sizes, stride: Sizes, dilation: Sizes) -> tuple[Form, ...]:
    counts = _window_counts("window_view", shapes[0], window, stride, dilation)
    return (Form((shapes[0][0], *counts, *window, shapes[0][-1]), dtypes[0]),)


def draw_windows(rng: np.random.Generator) -> Iterator[tuple[Shape, dict[str, Sizes]]]:
    """Draw images with windows that fit into them."""
    for space in (1, 2, 2, 2):
        for _ in range(2):
            window = tuple(int(n) for n in rng.integers(1, 4, space))
            stride = tuple(int(n) for n in rng.integers(1, 4, space))
            dilation = tuple(int(n) for n in rng.integers(1, 3, space))
            lengths = tuple((w - 1) * d + 1 + int(rng.integers(0, 4)) for w, d in zip(window, dilation, strict=True))
            shape = (int(rng.integers(1, 3)), *lengths, int(rng.integers(1, 4)))
            yield shape, {"window": window, "stride": stride, "dilation": dilation}


def _window_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, attrs in draw_windows(rng):
        yield Sample((drawing.normal(rng, shape),), attrs)


def _window_bad() -> list[BadInput]:
    attrs = {"window": (3, 3), "stride": (1, 1), "dilation": (1, 1)}
    return [
        BadInput((np.ones((1, 2, 5, 1)),), attrs, ValueError, "larger than the image"),
        BadInput((np.ones((5, 5, 1)),), attrs, ValueError, "needs an array (N, space, space, C)"),
    ]


WINDOW_VIEW = define(
    window_view, infer=_window_infer, samples=_window_samples, errors=_window_bad, view=True,
    vjp=lambda op, g, x, out, needs, window, stride, dilation: (
        op.window_sum(g[0], space=x[0].shape[1:-1], stride=stride, dilation=dilation),
    ),
)


def window_sum(xp: Any, x: Any, *, space: Sizes, stride: Sizes, dilation: Sizes) -> Any:
    """Add windows back into an image of the given size: the adjoint of `window_view`."""
    axes = len(space)
    counts, window = x.shape[1 : 1 + axes], x.shape[1 + axes : 1 + 2 * axes]
    result = xp.zeros((x.shape[0], *space, x.shape[-1]), dtype=x.dtype)
    everything = (slice(None),) * (1 + axes)
    for offset, slices in _window_slices(window, stride, dilation, counts):
        result[(slice(None), *slices)] += x[(*everything, *offset)]
    return result


def _window_sum_infer(shapes: Any, dtypes: Any, *, space: Sizes, stride: Sizes, dilation: Sizes) -> tuple[Form, ...]:
    axes = len(space)
    shape = shapes[0]
    window = shape[1 + axes : 1 + 2 * axes]
    counts = _window_counts("window_sum", (shape[0], *space, shape[-1]), window, stride, dilation)
    if len(shape) != 2 + 2 * axes or counts != shape[1 : 1 + axes]:
        raise ValueError(
            f"window_sum: an image of {space} has {counts} windows; got an array of shape {show_shape(shape)}"
        )
    return (Form((shape[0], *space, shape[-1]), dtypes[0]),)


def _window_sum_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, attrs in draw_windows(rng):
        counts = tuple(
            window_count(n, w, s, d)
            for n, w, s, d in zip(shape[1:-1], attrs["window"], attrs["stride"], attrs["dilation"], strict=True)
        )
        windows = drawing.normal(rng, (shape[0], *counts, *attrs["window"], shape[-1]))
        yield Sample((windows,), {"space": shape[1:-1], "stride": attrs["stride"], "dilation": attrs["dilation"]})


WINDOW_SUM = define(
    window_sum, infer=_window_sum_infer, samples=_window_sum_samples,
    vjp=lambda op, g, x, out, needs, space, stride, dilation: (
        op.window_view(
            g[0], window=x[0].shape[1 + len(space) : 1 + 2 * len(space)], stride=stride, dilation=dilation
        ),
    ),
)

# -- composites ------------------------------------------------------------------------------------------------------


def flatten_rows(xp: Any, x: Any) -> Any:
    """Make one row of every sample: (N, a, b, ...) becomes (N, a*b*...)."""
    return xp.reshape(x, (x.shape[0], prod(x.shape[1:])))


def _flatten_infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
    if not shapes[0]:
        raise ValueError("flatten_rows needs at least one axis")
    return (Form((shapes[0][0], prod(shapes[0][1:])), dtypes[0]),)


def _flatten_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(6):
        yield Sample((drawing.normal(rng, drawing.draw_shape(rng, (1, 4))),))


FLATTEN_ROWS = define(
    flatten_rows, infer=_flatten_infer, samples=_flatten_samples, view=True, composite=True,
    vjp=lambda op, g, x, out, needs: (op.reshape(g[0], shape=x[0].shape),),
)
