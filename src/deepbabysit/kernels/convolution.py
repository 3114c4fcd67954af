"""Convolutions over images and sequences, channels last; kernels are (window..., in, out).

``conv``, ``conv_input_gradient`` and ``conv_kernel_gradient`` are linear in each argument, and each is the derivative
of the other two; so derivatives of any order stay within the three. What is called convolution here is the
cross-correlation that every library of neural networks means by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.elementwise import like
from deepbabysit.kernels.products import PRODUCT_TOLERANCE, swap_last
from deepbabysit.kernels.shapes import need_floating, result_dtype, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Shape, define
from deepbabysit.kernels.structure import Sizes, window_count

Pairs = tuple[tuple[int, int], ...]

# -- padding ---------------------------------------------------------------------------------------------------------


def same_padding(length: int, window: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Return the border (before, after) with which an axis of `length` gives ``ceil(length / stride)`` positions.

    An odd element goes behind, as in Keras and TensorFlow.

    >>> same_padding(5, 3), same_padding(6, 3, stride=2), same_padding(5, 3, dilation=2)
    ((1, 1), (0, 1), (2, 2))
    """
    span = (window - 1) * dilation + 1
    total = max((-(-length // stride) - 1) * stride + span - length, 0)
    return total // 2, total - total // 2


def resolve_padding(
    padding: Any, lengths: Sequence[int], window: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pairs:
    """Return one (before, after) pair for each axis.

    Arguments:
        padding: "valid", "same", "causal" (one axis: the past only), a whole number, one number per axis, or one
            (before, after) pair per axis.
        lengths, window, stride, dilation: one number per axis.

    Raises:
        ValueError: the padding is none of these.

    >>> resolve_padding("same", (5, 6), (3, 3), (1, 2), (1, 1)), resolve_padding(1, (5,), (3,), (1,), (1,))
    (((1, 1), (0, 1)), ((1, 1),))
    """
    space = len(window)
    if padding == "valid":
        return ((0, 0),) * space
    if padding == "same":
        return tuple(same_padding(*axis) for axis in zip(lengths, window, stride, dilation, strict=True))
    if padding == "causal" and space == 1:
        return (((window[0] - 1) * dilation[0], 0),)
    if isinstance(padding, int | np.integer) and not isinstance(padding, bool) and padding >= 0:
        return ((int(padding), int(padding)),) * space
    if isinstance(padding, list | tuple) and len(padding) == space:
        pairs = [(p, p) if isinstance(p, int | np.integer) else p for p in padding]
        if all(
            isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(n, int | np.integer) and n >= 0 for n in p)
            for p in pairs
        ):
            return tuple((int(a), int(b)) for a, b in pairs)
    causal = ", 'causal'" if space == 1 else ""
    raise ValueError(
        f"padding must be 'valid', 'same'{causal}, a whole number >= 0, one number for each of the {space} axes, "
        f"or one (before, after) pair for each; got {padding!r}"
    )


def output_length(length: int, window: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    """Return how many positions a window has along an axis.

    >>> output_length(28, 3, 2, (0, 1), 1)
    14
    """
    return window_count(length + sum(padding), window, stride, dilation)


def resolve_transposed_padding(
    padding: Any, window: Sequence[int], stride: Sequence[int], dilation: Sequence[int], output_padding: Any = None
) -> tuple[Pairs, Sizes]:
    """Return what `conv_transpose` needs: pairs to crop and what to add behind, for Keras' output sizes.

    Without `output_padding`: "same" gives ``length * stride``, "valid" ``length * stride + max(span - stride, 0)``,
    with ``span = (window - 1) * dilation + 1``. With it: ``(length - 1) * stride + span - 2 * p + output_padding``,
    where p is ``span // 2`` for "same" and 0 for "valid". Numbers and pairs are taken as they are, as in PyTorch.

    >>> resolve_transposed_padding("same", (3, 3), (2, 2), (1, 1))
    (((0, 1), (0, 1)), (0, 0))
    >>> resolve_transposed_padding("valid", (2,), (3,), (1,))
    (((0, 0),), (1,))
    """
    space = len(window)
    extra = (output_padding,) * space if isinstance(output_padding, int | np.integer) else output_padding
    if extra is not None and (len(extra) != space or any(n < 0 for n in extra)):
        raise ValueError(
            f"output_padding must be a whole number >= 0, or one for each of the {space} axes; got {output_padding!r}"
        )
    if padding not in ("valid", "same"):
        pairs = resolve_padding(padding, (0,) * space, window, stride, dilation)
        return pairs, tuple(extra) if extra is not None else (0,) * space
    crops = []
    adds = []
    for axis in range(space):
        span = (window[axis] - 1) * dilation[axis] + 1
        if extra is None:
            crop = max(span - stride[axis], 0) if padding == "same" else 0
            add = max(stride[axis] - span, 0)
        else:
            whole = (2 * (span // 2) if padding == "same" else 0) - extra[axis]
            crop, add = max(whole, 0), max(-whole, 0)
        crops.append((crop // 2, crop - crop // 2))
        adds.append(add)
    return tuple(crops), tuple(adds)


# -- what fits together ----------------------------------------------------------------------------------------------


def _check_steps(name: str, space: int, stride: Sizes, padding: Pairs, dilation: Sizes) -> None:
    if not len(stride) == len(dilation) == len(padding) == space:
        raise ValueError(
            f"{name}: {space} axes need {space} strides, dilations and (before, after) paddings; got stride {stride}, "
            f"dilation {dilation}, padding {padding}"
        )
    if any(n < 1 for n in (*stride, *dilation)) or any(n < 0 for pair in padding for n in pair):
        raise ValueError(
            f"{name}: stride {stride} and dilation {dilation} must be at least 1, padding {padding} at least 0"
        )


def positions(
    name: str, lengths: Sequence[int], window: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes
) -> Sizes:
    """Return how many positions the window has along each axis; refuse a window that does not fit."""
    _check_steps(name, len(window), stride, padding, dilation)
    if any(n < 1 for n in window):
        raise ValueError(f"{name}: the window {window} must be at least 1 along each axis")
    counts = tuple(output_length(*axis) for axis in zip(lengths, window, stride, padding, dilation, strict=True))
    if any(n < 1 for n in counts):
        raise ValueError(
            f"{name}: a window of {show_shape(window)} (dilation {dilation}, padding {padding}) is larger than the "
            f"image {show_shape(lengths)}; use padding='same' or a smaller window"
        )
    return counts


def _check_kernel(name: str, shape: Shape, kernel: Shape, groups: int, channel: str = "in") -> int:
    """Check ranks and channels; returns the number of axes of space."""
    space = len(kernel) - 2
    if space < 1 or len(shape) != space + 2:
        raise ValueError(
            f"{name}: an input (N, length, channels) needs a kernel (width, in, out), an input (N, height, width, "
            f"channels) a kernel (height, width, in, out); got {show_shape(shape)} and {show_shape(kernel)}"
        )
    if groups < 1 or kernel[-1] % groups:
        raise ValueError(f"{name}: groups must divide the kernel's last axis, {kernel[-1]}; got groups={groups}")
    expected = kernel[-2] * groups if channel == "in" else kernel[-1]
    if shape[-1] != expected:
        raise ValueError(
            f"{name}: the kernel {show_shape(kernel)} with groups={groups} takes {expected} channels; the input "
            f"{show_shape(shape)} has {shape[-1]} (channels are the last axis)"
        )
    return space


def _form(name: str, shape: Shape, dtypes: Any) -> tuple[Form, ...]:
    dtype = result_dtype(dtypes)
    need_floating(name, dtype)
    return (Form(shape, dtype),)


# -- the three products ----------------------------------------------------------------------------------------------


def _columns(xp: Any, x: Any, window: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int) -> Any:
    """Write every window as a row: (groups, positions, window * channels of a group)."""
    padded = xp.pad(x, widths=((0, 0), *padding, (0, 0)))
    view = xp.window_view(padded, window=window, stride=stride, dilation=dilation)
    space = len(window)
    count = prod(view.shape[: 1 + space])
    width = x.shape[-1] // groups
    rows = xp.reshape(view, (count, prod(window), groups, width))
    return xp.reshape(xp.permute_dims(rows, (2, 0, 1, 3)), (groups, count, prod(window) * width))


def _weights(xp: Any, kernel: Any, groups: int) -> Any:
    """Write the kernel as matrices: (groups, window * in, out of a group)."""
    size, depth, out = prod(kernel.shape[:-2]), kernel.shape[-2], kernel.shape[-1] // groups
    parts = xp.reshape(kernel, (size, depth, groups, out))
    return xp.reshape(xp.permute_dims(parts, (2, 0, 1, 3)), (groups, size * depth, out))


def _by_group(xp: Any, g: Any, groups: int) -> Any:
    """Write (N, positions..., out) as (groups, N * positions, out of a group)."""
    count, out = prod(g.shape[:-1]), g.shape[-1] // groups
    return xp.permute_dims(xp.reshape(g, (count, groups, out)), (1, 0, 2))


def conv(
    xp: Any, x: Any, kernel: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> Any:
    """Convolution: ``y[n, p, f] = sum over o, c of x[n, p * stride + o * dilation - before, c] * kernel[o, c, f]``.

    Arguments:
        x: (N, length, in) or (N, height, width, in).
        kernel: (width, in / groups, out) or (height, width, in / groups, out).
        stride, dilation: one number for each axis of space.
        padding: zeros (before, after) for each axis of space; `resolve_padding` makes it from "same" and the like.
        groups: how many independent convolutions the channels are divided into, in order.

    LeCun et al., Proc. IEEE 86 (1998); dilation: Yu and Koltun, ICLR 2016.

    >>> import deepbabysit as db
    >>> x, kernel = db.tensor([[[1.0], [2.0], [4.0]]]), db.tensor([[[1.0]], [[10.0]]])
    >>> db.ops.conv(x, kernel, stride=(1,), padding=((0, 0),), dilation=(1,)).tolist()
    [[[21.0], [42.0]]]
    """
    window = kernel.shape[:-2]
    counts = positions("conv", x.shape[1:-1], window, stride, padding, dilation)
    columns = _columns(xp, x, window, stride, padding, dilation, groups)
    product = xp.permute_dims(xp.matmul(columns, _weights(xp, kernel, groups)), (1, 0, 2))
    return xp.reshape(product, (x.shape[0], *counts, kernel.shape[-1]))


def _conv_infer(
    shapes: Any, dtypes: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> tuple[Form, ...]:
    x, kernel = shapes
    _check_kernel("conv", x, kernel, groups)
    counts = positions("conv", x[1:-1], kernel[:-2], stride, padding, dilation)
    return _form("conv", (x[0], *counts, kernel[-1]), dtypes)


def _conv_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, **attrs: Any) -> Any:
    return (
        like(op, op.conv_input_gradient(g[0], x[1], space=x[0].shape[1:-1], **attrs), x[0]) if needs[0] else None,
        like(op, op.conv_kernel_gradient(x[0], g[0], window=x[1].shape[:-2], **attrs), x[1]) if needs[1] else None,
    )


def _draw(rng: np.random.Generator) -> Iterator[tuple[Shape, Shape, dict[str, Any]]]:
    """Draw shapes of input and kernel with attributes that fit."""
    for space, groups in ((1, 1), (2, 1), (2, 1), (2, 1), (2, 2), (1, 3), (2, 1), (2, 3)):
        window = tuple(int(n) for n in rng.integers(1, 4, space))
        stride = tuple(int(n) for n in rng.integers(1, 4, space))
        dilation = tuple(int(n) for n in rng.integers(1, 3, space))
        padding = tuple((int(a), int(b)) for a, b in rng.integers(0, 3, (space, 2)))
        lengths = tuple((w - 1) * d + 1 + int(rng.integers(0, 5)) for w, d in zip(window, dilation, strict=True))
        depth, out = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        yield (int(rng.integers(1, 4)), *lengths, depth * groups), (*window, depth, out * groups), {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
        }
    plain = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    yield (2, 4, 3, 2), (1, 1, 2, 3), plain  # a product
    yield (0, 5, 5, 2), (3, 3, 2, 3), plain  # no images
    yield (1, 1, 1, 1), (1, 1, 1, 1), plain
    same = {**plain, "padding": ((1, 1), (1, 1))}
    yield (2, 5, 4, 3), (3, 3, 3, 2), same
    yield (2, 5, 4, 3), (3, 3, 3, 2), {**same, "stride": (2, 2)}
    yield (2, 4, 4, 3), (3, 3, 1, 3), {**same, "groups": 3}  # depthwise
    yield (1, 4, 4, 2), (2, 2, 1, 6), {**plain, "groups": 2, "stride": (2, 1)}  # depthwise with a multiplier
    yield (1, 3, 3, 2), (1, 1, 2, 2), {**plain, "padding": ((2, 2), (1, 3))}  # a border wider than the window


def _conv_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, kernel, attrs in _draw(rng):
        yield Sample((drawing.normal(rng, shape), drawing.normal(rng, kernel)), attrs)
    last = {"stride": (1, 1), "padding": ((0, 1), (1, 0)), "dilation": (1, 1)}
    image, kernel_values = drawing.normal(rng, (2, 4, 5, 3)), drawing.normal(rng, (2, 2, 3, 2))
    yield Sample((drawing.strided(image), drawing.strided(kernel_values)), last)
    yield Sample((drawing.normal(rng, (3, 5, 4, 2)).transpose(3, 1, 2, 0), drawing.normal(rng, (2, 2, 3, 2))), last)


_PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1)}


def _conv_bad() -> list[BadInput]:
    image, kernel = np.ones((1, 5, 5, 2)), np.ones((3, 3, 2, 4))
    return [
        BadInput((image, np.ones((3, 3, 3, 4))), _PLAIN, ValueError, "takes 3 channels"),
        BadInput((np.ones((5, 5, 2)), kernel), _PLAIN, ValueError, "needs a kernel"),
        BadInput((np.ones((1, 2, 5, 2)), kernel), _PLAIN, ValueError, "larger than the image"),
        BadInput((image, kernel), {**_PLAIN, "stride": (1,)}, ValueError, "2 axes need 2 strides"),
        BadInput((image, kernel), {**_PLAIN, "dilation": (0, 1)}, ValueError, "at least 1"),
        BadInput((image, kernel), {**_PLAIN, "groups": 3}, ValueError, "groups must divide"),
        BadInput((image.astype(int), kernel.astype(int)), _PLAIN, TypeError, "needs floating numbers"),
    ]


CONV = define(conv, infer=_conv_infer, samples=_conv_samples, errors=_conv_bad, composite=True, vjp=_conv_vjp,
              saves_inputs=(0, 1), tolerance=PRODUCT_TOLERANCE)


def conv_input_gradient(
    xp: Any, g: Any, kernel: Any, *, space: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> Any:
    """Adjoint of `conv` in its input: every g[n, p, f] adds ``g * kernel[:, :, f]`` to the window it was made from.

    Arguments:
        g: (N, positions..., out).
        kernel: (window..., in / groups, out).
        space: lengths of the input's axes of space.
    """
    window = kernel.shape[:-2]
    depth = kernel.shape[-2]
    rows = xp.matmul(_by_group(xp, g, groups), swap_last(xp, _weights(xp, kernel, groups)))
    parts = xp.reshape(rows, (groups, rows.shape[1], prod(window), depth))
    windows = xp.reshape(xp.permute_dims(parts, (1, 2, 0, 3)), (*g.shape[:-1], *window, groups * depth))
    bordered = tuple(n + a + b for n, (a, b) in zip(space, padding, strict=True))
    image = xp.window_sum(windows, space=bordered, stride=stride, dilation=dilation)
    return image[(slice(None), *(slice(a, a + n) for n, (a, _) in zip(space, padding, strict=True)))]


def _input_gradient_infer(
    shapes: Any, dtypes: Any, *, space: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> tuple[Form, ...]:
    g, kernel = shapes
    name = "conv_input_gradient"
    _check_kernel(name, g, kernel, groups, channel="out")
    counts = positions(name, space, kernel[:-2], stride, padding, dilation)
    if g[1:-1] != counts:
        raise ValueError(f"{name}: an image of {space} has {counts} positions; got a gradient {show_shape(g)}")
    return _form(name, (g[0], *space, kernel[-2] * groups), dtypes)


def _input_gradient_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, space: Sizes, **attrs: Any) -> Any:
    return (
        like(op, op.conv(g[0], x[1], **attrs), x[0]) if needs[0] else None,
        like(op, op.conv_kernel_gradient(g[0], x[0], window=x[1].shape[:-2], **attrs), x[1]) if needs[1] else None,
    )


def _result_shape(shape: Shape, kernel: Shape, attrs: dict[str, Any]) -> Shape:
    steps = (attrs["stride"], attrs["padding"], attrs["dilation"])
    return (shape[0], *positions("conv", shape[1:-1], kernel[:-2], *steps), kernel[-1])


def _input_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, kernel, attrs in _draw(rng):
        g = drawing.normal(rng, _result_shape(shape, kernel, attrs))
        yield Sample((g, drawing.normal(rng, kernel)), {"space": shape[1:-1], **attrs})


CONV_INPUT_GRADIENT = define(
    conv_input_gradient, infer=_input_gradient_infer, samples=_input_gradient_samples, composite=True,
    vjp=_input_gradient_vjp, saves_inputs=(0, 1), tolerance=PRODUCT_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, n, n, c)), np.ones((3, 3, 2, 4))), {"space": (5, 5), **_PLAIN}, ValueError, message)
        for n, c, message in ((2, 4, "(3, 3) positions"), (3, 3, "4 channels"))
    ],
)


def conv_kernel_gradient(
    xp: Any, x: Any, g: Any, *, window: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> Any:
    """Adjoint of `conv` in its kernel: ``sum over n, p of x[n, p * stride + o * dilation - before, c] * g[n, p, f]``.

    Arguments:
        x: (N, space..., in).
        g: (N, positions..., out).
        window: lengths of the kernel's window.
    """
    columns = _columns(xp, x, window, stride, padding, dilation, groups)
    product = xp.matmul(swap_last(xp, columns), _by_group(xp, g, groups))
    depth = x.shape[-1] // groups
    parts = xp.reshape(product, (groups, prod(window), depth, g.shape[-1] // groups))
    return xp.reshape(xp.permute_dims(parts, (1, 2, 0, 3)), (*window, depth, g.shape[-1]))


def _kernel_gradient_infer(
    shapes: Any, dtypes: Any, *, window: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int = 1
) -> tuple[Form, ...]:
    x, g = shapes
    name = "conv_kernel_gradient"
    if len(x) != len(window) + 2 or len(g) != len(x) or x[0] != g[0] or groups < 1 or x[-1] % groups or g[-1] % groups:
        raise ValueError(
            f"{name}: input {show_shape(x)} and gradient {show_shape(g)} must be (N, space..., channels) with a window "
            f"of {len(window)} axes, and channels that groups={groups} divides"
        )
    counts = positions(name, x[1:-1], window, stride, padding, dilation)
    if g[1:-1] != counts:
        raise ValueError(f"{name}: an image {show_shape(x)} has {counts} positions; got a gradient {show_shape(g)}")
    return _form(name, (*window, x[-1] // groups, g[-1]), dtypes)


def _kernel_gradient_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, window: Sizes, **attrs: Any) -> Any:
    return (
        like(op, op.conv_input_gradient(x[1], g[0], space=x[0].shape[1:-1], **attrs), x[0]) if needs[0] else None,
        like(op, op.conv(x[0], g[0], **attrs), x[1]) if needs[1] else None,
    )


def _kernel_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, kernel, attrs in _draw(rng):
        g = drawing.normal(rng, _result_shape(shape, kernel, attrs))
        yield Sample((drawing.normal(rng, shape), g), {"window": kernel[:-2], **attrs})


CONV_KERNEL_GRADIENT = define(
    conv_kernel_gradient, infer=_kernel_gradient_infer, samples=_kernel_gradient_samples, composite=True,
    vjp=_kernel_gradient_vjp, saves_inputs=(0, 1), tolerance=PRODUCT_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 5, 5, 2)), np.ones((n, m, m, 4))), {"window": (3, 3), **_PLAIN}, ValueError, message)
        for n, m, message in ((1, 2, "positions"), (2, 3, "must be (N"))
    ],
)

# -- what is made of them --------------------------------------------------------------------------------------------


def transposed_space(
    lengths: Sequence[int], window: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, output_padding: Sizes | None
) -> Sizes:
    """Return the lengths of a transposed convolution's output.

    >>> transposed_space((4,), (3,), (2,), ((0, 1),), (1,), None)
    (8,)
    """
    extra = (0,) * len(window) if output_padding is None else output_padding
    return tuple(
        (n - 1) * s + (w - 1) * d + 1 - a - b + e
        for n, w, s, (a, b), d, e in zip(lengths, window, stride, padding, dilation, extra, strict=True)
    )


def conv_transpose(
    xp: Any, x: Any, kernel: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes,
    output_padding: Sizes | None = None, groups: int = 1,
) -> Any:
    """Transposed convolution: the adjoint of `conv` with the same kernel, stride, padding and dilation.

    Arguments:
        x: (N, space..., in).
        kernel: (window..., out / groups, in), as in Keras.
        stride, dilation: one number for each axis of space.
        padding: how much of the result is cropped, (before, after) for each axis of space.
        output_padding: elements added behind, less than the stride; the length of an axis is
            ``(n - 1) * stride + (window - 1) * dilation + 1 - before - after + output_padding``.
            `resolve_transposed_padding` gives both for Keras' output sizes.

    Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016.
    """
    space = transposed_space(x.shape[1:-1], kernel.shape[:-2], stride, padding, dilation, output_padding)
    return xp.conv_input_gradient(
        x, kernel, space=space, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


def _transpose_infer(
    shapes: Any, dtypes: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes, output_padding: Sizes | None = None,
    groups: int = 1,
) -> tuple[Form, ...]:
    x, kernel = shapes
    name = "conv_transpose"
    space = _check_kernel(name, x, kernel, groups, channel="out")
    _check_steps(name, space, stride, padding, dilation)
    extra = (0,) * space if output_padding is None else output_padding
    if len(extra) != space or any(not 0 <= e < s for e, s in zip(extra, stride, strict=True)):
        raise ValueError(
            f"{name}: output_padding {extra} must hold, for each axis, a number from 0 to stride - 1 (stride {stride})"
        )
    lengths = transposed_space(x[1:-1], kernel[:-2], stride, padding, dilation, output_padding)
    if any(n < 1 for n in lengths):
        raise ValueError(
            f"{name}: padding {padding} crops everything: an input {show_shape(x)} would become {show_shape(lengths)}"
        )
    return _form(name, (x[0], *lengths, kernel[-2] * groups), dtypes)


def _transpose_vjp(
    op: Any, g: Any, x: Any, out: Any, needs: Any, output_padding: Sizes | None = None, **attrs: Any
) -> Any:
    return (
        like(op, op.conv(g[0], x[1], **attrs), x[0]) if needs[0] else None,
        like(op, op.conv_kernel_gradient(g[0], x[0], window=x[1].shape[:-2], **attrs), x[1]) if needs[1] else None,
    )


def _transpose_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for space, groups in ((1, 1), (2, 1), (2, 1), (2, 2), (1, 1), (2, 1)):
        window = tuple(int(n) for n in rng.integers(2, 4, space))
        stride = tuple(int(n) for n in rng.integers(1, 4, space))
        shape = (2, *(int(n) for n in rng.integers(2, 5, space)), 2 * groups)
        yield Sample((drawing.normal(rng, shape), drawing.normal(rng, (*window, 3, 2 * groups))), {
            "stride": stride, "groups": groups, "dilation": tuple(int(n) for n in rng.integers(1, 3, space)),
            "padding": tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (space, 2))),
            "output_padding": tuple(int(rng.integers(0, s)) for s in stride),
        })
    yield Sample((np.ones((0, 3, 3, 2)), np.ones((3, 3, 4, 2))), _PLAIN)
    yield Sample((drawing.strided(drawing.normal(rng, (1, 3, 2))), drawing.normal(rng, (2, 1, 2))),
                 {"stride": (2,), "padding": ((0, 0),), "dilation": (1,)})


CONV_TRANSPOSE = define(
    conv_transpose, infer=_transpose_infer, samples=_transpose_samples, composite=True, vjp=_transpose_vjp,
    saves_inputs=(0, 1), tolerance=PRODUCT_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 3, 3, 2)), np.ones((3, 3, 4, 3))), _PLAIN, ValueError, "takes 3 channels"),
        BadInput((np.ones((1, 3, 3, 2)), np.ones((3, 3, 4, 2))), {**_PLAIN, "output_padding": (1, 0)}, ValueError,
                 "stride - 1"),
        BadInput((np.ones((1, 1, 1, 2)), np.ones((3, 3, 4, 2))), {**_PLAIN, "padding": ((2, 1), (1, 1))}, ValueError,
                 "crops everything"),
    ],
)


def depthwise_conv(
    xp: Any, x: Any, kernel: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes
) -> Any:
    """Convolve every channel by itself; channel c with multiplier m gives the outputs ``c * m`` to ``c * m + m - 1``.

    Arguments:
        x: (N, space..., in).
        kernel: (window..., in, multiplier), as in Keras.
        stride, padding, dilation: as in `conv`.

    Sifre, thesis, Ecole Polytechnique 2014; Howard et al., "MobileNets", 2017.
    """
    return xp.conv(
        x, _as_groups(xp, kernel), stride=stride, padding=padding, dilation=dilation, groups=x.shape[-1]
    )


def _as_groups(xp: Any, kernel: Any) -> Any:
    """Write a depthwise kernel as the kernel of `conv` with one group for each channel."""
    return xp.reshape(kernel, shape=(*kernel.shape[:-2], 1, kernel.shape[-2] * kernel.shape[-1]))


def _depthwise_infer(
    shapes: Any, dtypes: Any, *, stride: Sizes, padding: Pairs, dilation: Sizes
) -> tuple[Form, ...]:
    x, kernel = shapes
    name = "depthwise_conv"
    if len(kernel) < 3 or len(x) != len(kernel) or x[-1] != kernel[-2]:
        raise ValueError(
            f"{name}: an input (N, space..., channels) needs a kernel (window..., channels, multiplier); got "
            f"{show_shape(x)} and {show_shape(kernel)}"
        )
    counts = positions(name, x[1:-1], kernel[:-2], stride, padding, dilation)
    return _form(name, (x[0], *counts, kernel[-2] * kernel[-1]), dtypes)


def _depthwise_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, **attrs: Any) -> Any:
    channels = x[0].shape[-1]
    by_input = by_kernel = None
    if needs[0]:
        grouped = _as_groups(op, x[1])
        by_input = op.conv_input_gradient(g[0], grouped, space=x[0].shape[1:-1], groups=channels, **attrs)
        by_input = like(op, by_input, x[0])
    if needs[1]:
        found = op.conv_kernel_gradient(x[0], g[0], window=x[1].shape[:-2], groups=channels, **attrs)
        by_kernel = like(op, op.reshape(found, shape=x[1].shape), x[1])
    return by_input, by_kernel


def _depthwise_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape, kernel, attrs in _draw(rng):
        steps = {k: v for k, v in attrs.items() if k != "groups"}
        multiplier = int(rng.integers(1, 4))
        yield Sample(
            (drawing.normal(rng, shape), drawing.normal(rng, (*kernel[:-2], shape[-1], multiplier))), steps
        )
    image, values = drawing.normal(rng, (2, 4, 5, 3)), drawing.normal(rng, (2, 2, 3, 2))
    yield Sample((drawing.strided(image), drawing.strided(values)), _PLAIN)


DEPTHWISE_CONV = define(
    depthwise_conv, infer=_depthwise_infer, samples=_depthwise_samples, composite=True, vjp=_depthwise_vjp,
    saves_inputs=(0, 1), tolerance=PRODUCT_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((1, 3, 3, 2)), np.ones((3, 3, 1, 2))), _PLAIN, ValueError, "(window..., channels,"),
    ],
)
