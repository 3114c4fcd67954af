"""Pooling over windows of images and sequences, channels last.

Equal largest values of a window share its gradient in equal parts, as in every reduction here: the derivative does not
depend on the order of the elements. (PyTorch gives all of it to the first.) A border is never chosen and never counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.convolution import Pairs, output_length, positions
from deepbabysit.kernels.shapes import need_floating, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Shape, define
from deepbabysit.kernels.structure import Sizes


def _counts(name: str, shape: Shape, window: Sizes, stride: Sizes, padding: Pairs) -> Sizes:
    """Return the number of windows along each axis; refuse what does not fit."""
    space = len(window)
    if len(shape) != space + 2:
        raise ValueError(
            f"{name}: a window of {space} axes needs an input (N, {'space, ' * space}channels); got {show_shape(shape)}"
        )
    counts = positions(name, shape[1:-1], window, stride, padding, (1,) * space)
    if any(max(pair) >= n for pair, n in zip(padding, window, strict=True)):
        raise ValueError(
            f"{name}: padding {padding} must be smaller than the window {window}: a window of border only has no value"
        )
    return counts


def _fill(padding: Pairs) -> Any:
    return ((0, 0), *padding, (0, 0))


def _windows(xp: Any, x: Any, window: Sizes, stride: Sizes) -> Any:
    """Return (N, positions..., elements of the window, C)."""
    view = xp.window_view(x, window=window, stride=stride, dilation=(1,) * len(window))
    return xp.reshape(view, (*view.shape[: 1 + len(window)], prod(window), x.shape[-1]))


def _unwindow(xp: Any, parts: Any, space: Sizes, window: Sizes, stride: Sizes, padding: Pairs) -> Any:
    """Add (N, positions..., elements, C) back into images without their border."""
    axes = len(window)
    windows = xp.reshape(parts, (*parts.shape[: 1 + axes], *window, parts.shape[-1]))
    bordered = tuple(n + a + b for n, (a, b) in zip(space, padding, strict=True))
    image = xp.window_sum(windows, space=bordered, stride=stride, dilation=(1,) * axes)
    return image[(slice(None), *(slice(a, a + n) for n, (a, _) in zip(space, padding, strict=True)))]


# -- the largest -----------------------------------------------------------------------------------------------------


def max_pool(xp: Any, x: Any, *, window: Sizes, stride: Sizes, padding: Pairs) -> Any:
    """Largest value of every window; equal largest values share the gradient.

    Arguments:
        x: (N, length, C) or (N, height, width, C).
        window, stride: one number for each axis of space.
        padding: a border of minus infinity, (before, after) for each axis, smaller than the window.

    >>> import deepbabysit as db
    >>> x = db.tensor([[[1.0], [5.0], [2.0], [3.0]]])
    >>> db.ops.max_pool(x, window=(2,), stride=(2,), padding=((0, 0),)).tolist()
    [[[5.0], [3.0]]]
    """
    padded = xp.pad(x, widths=_fill(padding), value=-float("inf"))
    return xp.max(_windows(xp, padded, window, stride), axis=1 + len(window))


def _pool_infer(name: str) -> Any:
    def infer(shapes: Any, dtypes: Any, *, window: Sizes, stride: Sizes, padding: Pairs) -> tuple[Form, ...]:
        need_floating(name, dtypes[0])
        counts = _counts(name, shapes[0], window, stride, padding)
        return (Form((shapes[0][0], *counts, shapes[0][-1]), dtypes[0]),)

    return infer


_HALF = {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))}


def _draw(rng: np.random.Generator) -> Iterator[tuple[Shape, dict[str, Any]]]:
    """Draw shapes with windows that fit: apart, overlapping, with gaps and borders."""
    for space in (1, 2, 2, 2, 1, 2):
        window = tuple(int(n) for n in rng.integers(1, 4, space))
        padding = tuple((int(rng.integers(0, w)), int(rng.integers(0, w))) for w in window)
        lengths = tuple(w + int(rng.integers(0, 5)) for w in window)
        yield (int(rng.integers(1, 3)), *lengths, int(rng.integers(1, 4))), {
            "window": window, "stride": tuple(int(n) for n in rng.integers(1, 4, space)), "padding": padding,
        }
    yield (2, 4, 6, 3), _HALF
    yield (1, 5, 5, 2), _HALF  # a row and a column are left over
    yield (2, 7, 7, 2), {"window": (3, 3), "stride": (2, 2), "padding": ((1, 1), (0, 1))}
    yield (0, 4, 4, 2), _HALF
    yield (1, 1, 1, 1), {"window": (1, 1), "stride": (1, 1), "padding": ((0, 0), (0, 0))}


def _max_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, attrs in _draw(rng):
        yield Sample((drawing.distinct(rng, shape),), attrs)
    yield Sample((drawing.strided(drawing.distinct(rng, (2, 4, 4, 3))),), _HALF)
    yield Sample((drawing.distinct(rng, (4, 3, 4, 2)).transpose(3, 1, 2, 0),), _HALF)
    yield Sample((rng.integers(-1, 2, (2, 6, 6, 2)).astype(np.float64),), _HALF, gradient=False)  # ties


def _pool_bad() -> list[BadInput]:
    image = np.ones((1, 5, 5, 2))
    return [
        BadInput((np.ones((5, 5, 2)),), _HALF, ValueError, "needs an input (N, space, space, channels)"),
        BadInput((image,), {**_HALF, "window": (6, 2)}, ValueError, "larger than the image"),
        BadInput((image,), {**_HALF, "padding": ((2, 0), (0, 0))}, ValueError, "smaller than the window"),
        BadInput((image,), {**_HALF, "stride": (0, 1)}, ValueError, "at least 1"),
        BadInput((image.astype(int),), _HALF, TypeError, "needs floating numbers"),
    ]


MAX_POOL = define(
    max_pool, infer=_pool_infer("max_pool"), samples=_max_samples, errors=_pool_bad, composite=True, saves_inputs=(0,),
    saves_outputs=(0,),
    vjp=lambda op, g, x, out, needs, window, stride, padding: (
        op.max_pool_gradient(g[0], x[0], out[0], window=window, stride=stride, padding=padding),
    ),
)


def max_pool_gradient(
    xp: Any, g: Any, x: Any, y: Any, *, window: Sizes, stride: Sizes, padding: Pairs
) -> Any:
    """Gradient of `max_pool`: g goes to the elements equal to y, in equal parts.

    Arguments:
        g: gradient of the result, (N, positions..., C).
        x: what was pooled.
        y: the result.
    """
    axis = 1 + len(window)
    padded = xp.pad(x, widths=_fill(padding), value=-float("inf"))
    hits = xp.astype(_windows(xp, padded, window, stride) == xp.expand_dims(y, axis=axis), x.dtype)
    share = xp.expand_dims(g, axis=axis) / xp.sum(hits, axis=axis, keepdims=True)
    return _unwindow(xp, hits * share, x.shape[1:-1], window, stride, padding)


def _max_gradient_infer(
    shapes: Any, dtypes: Any, *, window: Sizes, stride: Sizes, padding: Pairs
) -> tuple[Form, ...]:
    g, x, y = shapes
    expected = (x[0], *_counts("max_pool_gradient", x, window, stride, padding), x[-1])
    if g != expected or y != expected:
        raise ValueError(
            f"max_pool_gradient: gradient and result must be {show_shape(expected)}; got {show_shape(g)} and "
            f"{show_shape(y)}"
        )
    return (Form(x, dtypes[1]),)


def _max_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _max_samples(rng):
        x = sample.inputs[0]
        y = _plain_max(x, **sample.attrs)
        g = drawing.normal(rng, y.shape)
        yield Sample((drawing.strided(g) if x.ndim == 3 else g, x, y), sample.attrs)


def _plain_max(x: np.ndarray, window: Sizes, stride: Sizes, padding: Pairs) -> np.ndarray:
    """Pool one position at a time (samples)."""
    padded = np.pad(x, _fill(padding), constant_values=-np.inf)
    counts = _counts("max_pool", x.shape, window, stride, padding)
    y = np.empty((x.shape[0], *counts, x.shape[-1]))
    for place in np.ndindex(*counts):
        part = tuple(slice(p * s, p * s + w) for p, s, w in zip(place, stride, window, strict=True))
        y[(slice(None), *place)] = padded[(slice(None), *part)].max(axis=tuple(range(1, 1 + len(window))))
    return y


MAX_POOL_GRADIENT = define(
    max_pool_gradient, infer=_max_gradient_infer, samples=_max_gradient_samples, composite=True, differentiable=(0,),
    errors=lambda: [
        BadInput(
            (np.ones((1, 3, 2, 2)), np.ones((1, 4, 4, 2)), np.ones((1, 2, 2, 2))), _HALF, ValueError, "must be (1, 2,"
        ),
    ],
)

# -- the mean --------------------------------------------------------------------------------------------------------


def element_counts(space: Sequence[int], window: Sizes, stride: Sizes, padding: Pairs) -> np.ndarray:
    """Return how many real elements every window holds: (positions..., 1).

    >>> element_counts((3,), (2,), (1,), ((1, 0),)).tolist()
    [[1], [2], [2]]
    """
    total = np.ones((1,), np.int64)
    for length, size, step, pair in zip(space, window, stride, padding, strict=True):
        starts = np.arange(output_length(length, size, step, pair, 1)) * step - pair[0]
        held = np.minimum(starts + size, length) - np.maximum(starts, 0)
        total = total[..., None, :] * held[:, None] if total.ndim > 1 else held[:, None] * total
    return total


def _shares(xp: Any, space: Sizes, window: Sizes, stride: Sizes, padding: Pairs, dtype: Any) -> Any:
    """Return the divisors of `avg_pool` as a number, or as an array where a border takes part."""
    if all(pair == (0, 0) for pair in padding):
        return float(prod(window))
    return xp.asarray(element_counts(space, window, stride, padding), dtype=dtype)


def avg_pool(xp: Any, x: Any, *, window: Sizes, stride: Sizes, padding: Pairs) -> Any:
    """Mean of the real elements of every window, as in Keras; a border adds nothing and is not counted.

    Arguments:
        x: (N, length, C) or (N, height, width, C).
        window, stride: one number for each axis of space.
        padding: a border, (before, after) for each axis, smaller than the window.

    >>> import deepbabysit as db
    >>> x = db.tensor([[[1.0], [5.0], [2.0], [3.0]]])
    >>> db.ops.avg_pool(x, window=(2,), stride=(2,), padding=((1, 1),)).tolist()
    [[[1.0], [3.5], [3.0]]]
    """
    total = xp.sum(_windows(xp, xp.pad(x, widths=_fill(padding)), window, stride), axis=1 + len(window))
    return total / _shares(xp, x.shape[1:-1], window, stride, padding, x.dtype)


def _avg_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, attrs in _draw(rng):
        yield Sample((drawing.normal(rng, shape),), attrs)
    yield Sample((drawing.strided(drawing.normal(rng, (2, 4, 4, 3))),), _HALF)


AVG_POOL = define(
    avg_pool, infer=_pool_infer("avg_pool"), samples=_avg_samples, errors=_pool_bad, composite=True,
    vjp=lambda op, g, x, out, needs, window, stride, padding: (
        op.avg_pool_gradient(g[0], space=x[0].shape[1:-1], window=window, stride=stride, padding=padding),
    ),
)


def avg_pool_gradient(
    xp: Any, g: Any, *, space: Sizes, window: Sizes, stride: Sizes, padding: Pairs
) -> Any:
    """Adjoint of `avg_pool`: every g, divided by its window's count, is added to the window's real elements.

    Arguments:
        g: (N, positions..., C).
        space: lengths of the pooled image's axes.
    """
    axis = 1 + len(window)
    share = xp.expand_dims(g / _shares(xp, space, window, stride, padding, g.dtype), axis=axis)
    parts = xp.broadcast_to(share, (*g.shape[:axis], prod(window), g.shape[-1]))
    return _unwindow(xp, parts, space, window, stride, padding)


def _avg_gradient_infer(
    shapes: Any, dtypes: Any, *, space: Sizes, window: Sizes, stride: Sizes, padding: Pairs
) -> tuple[Form, ...]:
    g = shapes[0]
    counts = _counts("avg_pool_gradient", (g[0], *space, g[-1]), window, stride, padding)
    if g[1:-1] != counts:
        raise ValueError(f"avg_pool_gradient: an image of {space} has {counts} windows; got {show_shape(g)}")
    return (Form((g[0], *space, g[-1]), dtypes[0]),)


def _avg_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, attrs in _draw(rng):
        counts = _counts("avg_pool", shape, attrs["window"], attrs["stride"], attrs["padding"])
        yield Sample((drawing.normal(rng, (shape[0], *counts, shape[-1])),), {"space": shape[1:-1], **attrs})
    yield Sample((drawing.strided(drawing.normal(rng, (2, 2, 2, 3))),), {"space": (5, 4), **_HALF})


AVG_POOL_GRADIENT = define(
    avg_pool_gradient, infer=_avg_gradient_infer, samples=_avg_gradient_samples, composite=True,
    vjp=lambda op, g, x, out, needs, space, **attrs: (op.avg_pool(g[0], **attrs),),
    errors=lambda: [BadInput((np.ones((1, 3, 2, 2)),), {"space": (4, 4), **_HALF}, ValueError, "(2, 2) windows")],
)
