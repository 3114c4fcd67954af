"""Normalizations, channels last. Variances are divided by the count and taken in two passes: no cancellation.

Inputs in half precision are normalized in float32, and statistics of theirs are float32. The result has the input's
dtype, whatever the dtype of scale and shift.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.elementwise import like
from deepbabysit.kernels.shapes import computed, is_half, need_floating, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, Tolerance, define

NORM_TOLERANCE = {
    "float64": Tolerance(1e-10, 1e-11), "float32": Tolerance(1e-4, 2e-5), "float16": Tolerance(2e-2, 4e-3),
}


def _wide(xp: Any, x: Any) -> Any:
    """Return numbers in half precision as float32."""
    return xp.astype(x, xp.float32) if is_half(x.dtype) else x


def _check(name: str, shapes: Any, dtypes: Any, epsilon: float, labels: tuple[str, ...] = ("gamma", "beta")) -> None:
    """Check an input (N, ..., C) and per-channel vectors (C,)."""
    x = shapes[0]
    for dtype in dtypes:
        need_floating(name, dtype)
    if len(x) < 2 or x[-1] < 1:
        raise ValueError(f"{name}: the input must be (N, ..., channels) with at least one channel; got {show_shape(x)}")
    for label, shape in zip(labels, shapes[1:], strict=True):
        if shape != x[-1:]:
            raise ValueError(
                f"{name}: {label} must have one number for each of the {x[-1]} channels; got shape {show_shape(shape)}"
            )
    if not epsilon >= 0.0:
        raise ValueError(f"{name}: epsilon must be at least 0; got {epsilon}")


def _bad(*labels: str, **attrs: Any) -> Any:
    """Return the inputs that every normalization refuses."""

    def errors() -> list[BadInput]:
        vectors = tuple(np.ones(3) for _ in labels)
        return [
            BadInput((np.ones((2, 3)), *vectors[1:], np.ones(4)), attrs, ValueError, "one number for each of the 3"),
            BadInput((np.ones(3), *vectors), attrs, ValueError, "must be (N, ..., channels)"),
            BadInput((np.ones((2, 3), int), *vectors), attrs, TypeError, "needs floating numbers"),
            BadInput((np.ones((2, 3)), *vectors), {**attrs, "epsilon": -1.0}, ValueError, "epsilon must be at least 0"),
        ]

    return errors


_SHAPES = ((4, 3), (2, 3), (3, 4, 2), (2, 3, 4, 3), (5, 1), (1, 2, 3, 2))


def _inputs(rng: np.random.Generator, shape: Any, vectors: int) -> tuple[np.ndarray, ...]:
    """Draw an input away from mean 0, and positive scales before shifts."""
    values = drawing.normal(rng, shape, 1.5) + rng.normal(size=shape[-1])
    return (values, *(drawing.normal(rng, shape[-1:]) + (1.5 if i == 0 else 0.0) for i in range(vectors)))


# -- over the batch --------------------------------------------------------------------------------------------------


def batch_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> Any:
    """Batch normalization in training: ``y = gamma * (x - mean) / sqrt(var + epsilon) + beta``; also mean and var.

    Mean and variance (divided by the count) are taken over all axes but the last: over the rows of (N, C), over images
    and positions of (N, H, W, C). They are outputs like y: gradients that arrive at them flow back to x. One row has
    variance 0; then y = beta.

    Arguments:
        x: (N, ..., C).
        gamma, beta: (C,).
        epsilon: added to the variance.

    Returns:
        y like x; mean (C,) and var (C,), float32 for half precision.

    Ioffe and Szegedy, ICML 2015.

    >>> import deepbabysit as db
    >>> one, zero = db.tensor([1.0]), db.tensor([0.0])
    >>> y, mean, var = db.ops.batch_norm(db.tensor([[1.0], [3.0]]), one, zero, epsilon=0.0)
    >>> y.tolist(), mean.tolist(), var.tolist()
    ([[-1.0], [1.0]], [2.0], [1.0])
    """
    wide = _wide(xp, x)
    axes = tuple(range(len(x.shape) - 1))
    mean = xp.mean(wide, axis=axes)
    centered = wide - mean
    var = xp.mean(centered * centered, axis=axes)
    y = centered * (gamma / xp.sqrt(var + epsilon)) + beta
    return xp.astype(y, x.dtype), mean, var


def _batch_infer(shapes: Any, dtypes: Any, *, epsilon: float = 1e-3) -> tuple[Form, ...]:
    _check("batch_norm", shapes, dtypes, epsilon)
    if prod(shapes[0][:-1]) == 0:
        raise ValueError(f"batch_norm: an empty batch {show_shape(shapes[0])} has no mean")
    statistic = Form(shapes[1], computed(dtypes[0]))
    return (Form(shapes[0], dtypes[0]), statistic, statistic)


def _batch_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in _SHAPES:
        yield Sample(_inputs(rng, shape, 2))
    yield Sample(_inputs(rng, (6, 2), 2), {"epsilon": 0.1})
    x, gamma, beta = _inputs(rng, (4, 5, 3), 2)
    yield Sample((drawing.strided(x), gamma, beta))
    yield Sample((x.transpose(1, 0, 2), gamma, beta))
    yield Sample((np.full((1, 2), 3.0), np.ones(2), np.zeros(2)), gradient=False)  # one row: variance 0
    yield Sample((drawing.normal(rng, (64, 2)) + 100.0, np.ones(2), np.zeros(2)), gradient=False)


def _batch_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, epsilon: float) -> Any:
    parts: Any = (None, None, None)
    if g[0] is not None:
        parts = op.batch_norm_gradient(g[0], x[0], x[1], out[1], out[2], epsilon=epsilon)
    return _with_statistics(op, parts, g, x, out, needs)


def _with_statistics(op: Any, parts: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    """Add what flows into mean and variance to the gradient that came through y."""
    by_input, by_gamma, by_beta = parts
    values = x[0]
    if needs[0]:
        count = float(prod(values.shape[:-1]))
        extra = None
        if g[1] is not None:
            extra = op.broadcast_to(op.divide(g[1], count), shape=values.shape)
        if g[2] is not None:
            centered = op.subtract(op.astype(values, dtype=out[1].dtype), out[1])
            by_var = op.multiply(centered, op.multiply(g[2], 2.0 / count))
            extra = by_var if extra is None else op.add(extra, by_var)
        if extra is not None:
            extra = op.astype(extra, dtype=values.dtype)
            by_input = extra if by_input is None else op.add(by_input, extra)
    return by_input, by_gamma, by_beta if by_beta is None else like(op, by_beta, x[2])


BATCH_NORM = define(
    batch_norm, infer=_batch_infer, samples=_batch_samples, composite=True, vjp=_batch_vjp, saves_inputs=(0, 1),
    saves_outputs=(1, 2), tolerance=NORM_TOLERANCE,
    errors=lambda: [
        *_bad("gamma", "beta")(),
        BadInput((np.ones((0, 3)), np.ones(3), np.ones(3)), {}, ValueError, "an empty batch"),
    ],
)


def batch_norm_gradient(
    xp: Any, g: Any, x: Any, gamma: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> Any:
    """Gradient of `batch_norm` through y, given its statistics: for x, gamma and beta.

    With ``s = 1 / sqrt(var + epsilon)``, ``n = (x - mean) * s`` and M rows: beta gets ``sum(g)``, gamma ``sum(g * n)``,
    x ``gamma * s * (g - sum(g) / M - n * sum(g * n) / M)``.
    """
    wide, flow = _wide(xp, x), _wide(xp, g)
    axes = tuple(range(len(x.shape) - 1))
    count = float(prod(x.shape[:-1]))
    inverse = 1.0 / xp.sqrt(var + epsilon)
    normal = (wide - mean) * inverse
    by_beta = xp.sum(flow, axis=axes)
    by_gamma = xp.sum(flow * normal, axis=axes)
    by_input = (gamma * inverse) * (flow - by_beta / count - normal * (by_gamma / count))
    return xp.astype(by_input, x.dtype), xp.astype(by_gamma, gamma.dtype), xp.astype(by_beta, gamma.dtype)


def _batch_gradient_infer(shapes: Any, dtypes: Any, *, epsilon: float = 1e-3) -> tuple[Form, ...]:
    name = "batch_norm_gradient"
    _check(name, shapes[1:], dtypes[1:], epsilon, ("gamma", "mean", "var"))
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name}: gradient {show_shape(shapes[0])} and input {show_shape(shapes[1])} differ")
    channel = Form(shapes[2], dtypes[2])
    return (Form(shapes[1], dtypes[1]), channel, channel)


def _batch_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in _SHAPES:
        x, gamma = _inputs(rng, shape, 1)
        yield Sample((drawing.normal(rng, shape), x, gamma, drawing.normal(rng, shape[-1:]),
                      drawing.positive(rng, shape[-1:])))
    x, gamma = _inputs(rng, (4, 5, 3), 1)
    yield Sample((drawing.strided(drawing.normal(rng, x.shape)), drawing.strided(x), gamma, np.zeros(3), np.ones(3)))


BATCH_NORM_GRADIENT = define(
    batch_norm_gradient, infer=_batch_gradient_infer, samples=_batch_gradient_samples, composite=True,
    tolerance=NORM_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((3, 3)), np.ones((2, 3)), *[np.ones(3)] * 3), {}, ValueError, "differ"),
    ],
)


def batch_norm_inference(
    xp: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> Any:
    """Batch normalization with given statistics: ``y = gamma * (x - mean) / sqrt(var + epsilon) + beta``.

    Arguments:
        x: (N, ..., C).
        gamma, beta, mean, var: (C,).
    """
    y = (_wide(xp, x) - mean) * (gamma / xp.sqrt(var + epsilon)) + beta
    return xp.astype(y, x.dtype)


def _inference_infer(shapes: Any, dtypes: Any, *, epsilon: float = 1e-3) -> tuple[Form, ...]:
    _check("batch_norm_inference", shapes, dtypes, epsilon, ("gamma", "beta", "mean", "var"))
    return (Form(shapes[0], dtypes[0]),)


def _inference_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for shape in (*_SHAPES, (0, 3)):
        x, gamma, beta, mean = _inputs(rng, shape, 3)
        yield Sample((x, gamma, beta, mean, drawing.positive(rng, mean.shape)))
    x, gamma, beta, mean = _inputs(rng, (4, 5, 3), 3)
    yield Sample((drawing.strided(x), gamma, beta, mean, drawing.positive(rng, mean.shape)), {"epsilon": 0.1})


BATCH_NORM_INFERENCE = define(
    batch_norm_inference, infer=_inference_infer, samples=_inference_samples, composite=True, inplace=((0, 0),),
    errors=_bad("gamma", "beta", "mean", "var"), tolerance=NORM_TOLERANCE,
)

# -- over the batch, then ReLU: half of the memory traffic of the two operations ---------------------------------------


def batch_norm_relu(xp: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-3) -> Any:
    """`batch_norm` followed by ReLU: ``y = max(gamma * (x - mean) / sqrt(var + epsilon) + beta, 0)``, mean and var.

    Arguments and results are those of `batch_norm`.
    """
    y, mean, var = xp.batch_norm(x, gamma, beta, epsilon=epsilon)
    return xp.relu(y), mean, var


def _relu_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, epsilon: float) -> Any:
    parts: Any = (None, None, None)
    if g[0] is not None:
        parts = op.batch_norm_relu_gradient(g[0], x[0], x[1], x[2], out[1], out[2], epsilon=epsilon)
    return _with_statistics(op, parts, g, x, out, needs)


def _relu_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _batch_samples(rng):
        y = batch_norm(np, *sample.inputs, **sample.attrs)[0]
        smooth = sample.gradient and bool((np.abs(y) > 1e-3).all())
        yield Sample(sample.inputs, sample.attrs, gradient=smooth)


BATCH_NORM_RELU = define(
    batch_norm_relu, infer=_batch_infer, samples=_relu_samples, composite=True, vjp=_relu_vjp,
    saves_inputs=(0, 1, 2), saves_outputs=(1, 2), tolerance=NORM_TOLERANCE, errors=_bad("gamma", "beta"),
)


def batch_norm_relu_gradient(
    xp: Any, g: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> Any:
    """Gradient of `batch_norm_relu` through y: that of `batch_norm` for g where y is above 0, else for 0."""
    y = xp.batch_norm_inference(_wide(xp, x), gamma, beta, mean, var, epsilon=epsilon)
    return xp.batch_norm_gradient(xp.where(y > 0, g, xp.zeros_like(g)), x, gamma, mean, var, epsilon=epsilon)


def _relu_gradient_infer(shapes: Any, dtypes: Any, *, epsilon: float = 1e-3) -> tuple[Form, ...]:
    name = "batch_norm_relu_gradient"
    _check(name, shapes[1:], dtypes[1:], epsilon, ("gamma", "beta", "mean", "var"))
    if shapes[0] != shapes[1]:
        raise ValueError(f"{name}: gradient {show_shape(shapes[0])} and input {show_shape(shapes[1])} differ")
    channel = Form(shapes[2], dtypes[2])
    return (Form(shapes[1], dtypes[1]), channel, channel)


def _relu_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _batch_gradient_samples(rng):
        g, x, gamma, mean, var = sample.inputs
        beta = drawing.normal(rng, gamma.shape)
        y = batch_norm_inference(np, x, gamma, beta, mean, var)
        yield Sample((g, x, gamma, beta, mean, var), gradient=bool((np.abs(y) > 1e-3).all()))


BATCH_NORM_RELU_GRADIENT = define(
    batch_norm_relu_gradient, infer=_relu_gradient_infer, samples=_relu_gradient_samples, composite=True,
    tolerance=NORM_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((3, 3)), np.ones((2, 3)), *[np.ones(3)] * 4), {}, ValueError, "differ"),
    ],
)


def batch_norm_relu_inference(
    xp: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any, *, epsilon: float = 1e-3
) -> Any:
    """`batch_norm_inference` followed by ReLU."""
    return xp.relu(xp.batch_norm_inference(x, gamma, beta, mean, var, epsilon=epsilon))


BATCH_NORM_RELU_INFERENCE = define(
    batch_norm_relu_inference, infer=_inference_infer, samples=_inference_samples, composite=True, inplace=((0, 0),),
    errors=_bad("gamma", "beta", "mean", "var"), tolerance=NORM_TOLERANCE,
)

# -- over the channels of a sample -----------------------------------------------------------------------------------


def layer_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, epsilon: float = 1e-5) -> Any:
    """Layer normalization over the last axis: ``y = gamma * (x - mean) / sqrt(var + epsilon) + beta``.

    Arguments:
        x: (..., C), with two axes or more.
        gamma, beta: (C,).

    Ba, Kiros and Hinton, 2016.
    """
    wide = _wide(xp, x)
    centered = wide - xp.mean(wide, axis=-1, keepdims=True)
    var = xp.mean(centered * centered, axis=-1, keepdims=True)
    return xp.astype(centered / xp.sqrt(var + epsilon) * gamma + beta, x.dtype)


def _row_infer(name: str, labels: tuple[str, ...]) -> Any:
    def infer(shapes: Any, dtypes: Any, *, epsilon: float = 1e-5) -> tuple[Form, ...]:
        _check(name, shapes, dtypes, epsilon, labels)
        return (Form(shapes[0], dtypes[0]),)

    return infer


def _row_samples(vectors: int) -> Any:
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for shape in ((4, 3), (1, 2), (2, 3, 5), (2, 2, 3, 4), (0, 3)):
            yield Sample(_inputs(rng, shape, vectors))
        x, *rest = _inputs(rng, (3, 5, 4), vectors)
        yield Sample((drawing.strided(x), *rest), {"epsilon": 0.1})
        yield Sample((x.transpose(1, 0, 2), *rest))
        yield Sample((x * 0.1 + 10.0, *rest), gradient=False)
        yield Sample((np.zeros((2, 3)), *(np.ones(3) for _ in rest)), gradient=False)

    return samples


def _row_gradient_infer(name: str, labels: tuple[str, ...], results: int) -> Any:
    def infer(shapes: Any, dtypes: Any, *, epsilon: float = 1e-5) -> tuple[Form, ...]:
        _check(name, shapes[1:], dtypes[1:], epsilon, labels)
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name}: gradient {show_shape(shapes[0])} and input {show_shape(shapes[1])} differ")
        return (Form(shapes[1], dtypes[1]), *[Form(shapes[2], dtypes[2])] * (results - 1))

    return infer


def _row_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _row_samples(1)(rng):
        g = drawing.normal(rng, sample.inputs[0].shape)
        yield Sample((g, *sample.inputs), sample.attrs, sample.gradient)


def _differ() -> list[BadInput]:
    return [BadInput((np.ones((3, 3)), np.ones((2, 3)), np.ones(3)), {}, ValueError, "differ")]


LAYER_NORM = define(
    layer_norm, infer=_row_infer("layer_norm", ("gamma", "beta")), samples=_row_samples(2), composite=True,
    errors=_bad("gamma", "beta"), saves_inputs=(0, 1), tolerance=NORM_TOLERANCE,
    vjp=lambda op, g, x, out, needs, epsilon: _cast_last(
        op, op.layer_norm_gradient(g[0], x[0], x[1], epsilon=epsilon), x
    ),
)


def _cast_last(op: Any, results: Any, x: Any) -> Any:
    """Give the gradient of beta its dtype."""
    return (*results[:-1], like(op, results[-1], x[-1]))


def layer_norm_gradient(xp: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> Any:
    """Gradient of `layer_norm` for x, gamma and beta.

    With ``n`` the normalized input and ``h = g * gamma``: x gets
    ``(h - mean(h) - n * mean(h * n)) / sqrt(var + epsilon)``, gamma ``sum(g * n)``, beta ``sum(g)``.
    """
    wide, flow = _wide(xp, x), _wide(xp, g)
    centered = wide - xp.mean(wide, axis=-1, keepdims=True)
    inverse = 1.0 / xp.sqrt(xp.mean(centered * centered, axis=-1, keepdims=True) + epsilon)
    normal = centered * inverse
    scaled = flow * gamma
    by_input = inverse * (
        scaled - xp.mean(scaled, axis=-1, keepdims=True) - normal * xp.mean(scaled * normal, axis=-1, keepdims=True)
    )
    rows = tuple(range(len(x.shape) - 1))
    by_gamma, by_beta = xp.sum(flow * normal, axis=rows), xp.sum(flow, axis=rows)
    return xp.astype(by_input, x.dtype), xp.astype(by_gamma, gamma.dtype), xp.astype(by_beta, gamma.dtype)


LAYER_NORM_GRADIENT = define(
    layer_norm_gradient, infer=_row_gradient_infer("layer_norm_gradient", ("gamma",), 3), composite=True,
    samples=_row_gradient_samples, errors=_differ, tolerance=NORM_TOLERANCE,
)


def rms_norm(xp: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> Any:
    """Root-mean-square normalization over the last axis: ``y = gamma * x / sqrt(mean(x^2) + epsilon)``.

    Zhang and Sennrich, NeurIPS 2019.

    Arguments:
        x: (..., C), with two axes or more.
        gamma: (C,).
    """
    wide = _wide(xp, x)
    square = xp.mean(wide * wide, axis=-1, keepdims=True)
    return xp.astype(wide / xp.sqrt(square + epsilon) * gamma, x.dtype)


RMS_NORM = define(
    rms_norm, infer=_row_infer("rms_norm", ("gamma",)), samples=_row_samples(1), composite=True, errors=_bad("gamma"),
    saves_inputs=(0, 1), tolerance=NORM_TOLERANCE,
    vjp=lambda op, g, x, out, needs, epsilon: op.rms_norm_gradient(g[0], x[0], x[1], epsilon=epsilon),
)


def rms_norm_gradient(xp: Any, g: Any, x: Any, gamma: Any, *, epsilon: float = 1e-5) -> Any:
    """Gradient of `rms_norm` for x and gamma.

    With ``n = x * s``, ``s = 1 / sqrt(mean(x^2) + epsilon)`` and ``h = g * gamma``: x gets
    ``s * (h - n * mean(h * n))``, gamma ``sum(g * n)``.
    """
    wide, flow = _wide(xp, x), _wide(xp, g)
    inverse = 1.0 / xp.sqrt(xp.mean(wide * wide, axis=-1, keepdims=True) + epsilon)
    normal = wide * inverse
    scaled = flow * gamma
    by_input = inverse * (scaled - normal * xp.mean(scaled * normal, axis=-1, keepdims=True))
    by_gamma = xp.sum(flow * normal, axis=tuple(range(len(x.shape) - 1)))
    return xp.astype(by_input, x.dtype), xp.astype(by_gamma, gamma.dtype)


RMS_NORM_GRADIENT = define(
    rms_norm_gradient, infer=_row_gradient_infer("rms_norm_gradient", ("gamma",), 2), composite=True,
    samples=_row_gradient_samples, errors=_differ, tolerance=NORM_TOLERANCE,
)

# -- over groups of channels and the positions of a sample -----------------------------------------------------------


def _grouped(xp: Any, x: Any, groups: int) -> Any:
    """Return (N, positions, groups, channels of a group)."""
    return xp.reshape(x, (x.shape[0], prod(x.shape[1:-1]), groups, x.shape[-1] // groups))


def group_norm(xp: Any, x: Any, gamma: Any, beta: Any, *, groups: int, epsilon: float = 1e-5) -> Any:
    """Group normalization: mean 0 and variance 1 over a sample's positions and each group of neighbouring channels.

    ``y = gamma * (x - mean) / sqrt(var + epsilon) + beta``. Wu and He, ECCV 2018. One group is layer
    normalization over everything but the batch, as many groups as channels are instance normalization.

    Arguments:
        x: (N, ..., C).
        gamma, beta: (C,).
        groups: a divisor of C.
    """
    wide = _grouped(xp, _wide(xp, x), groups)
    centered = wide - xp.mean(wide, axis=(1, 3), keepdims=True)
    var = xp.mean(centered * centered, axis=(1, 3), keepdims=True)
    normal = xp.reshape(centered / xp.sqrt(var + epsilon), x.shape)
    return xp.astype(normal * gamma + beta, x.dtype)


def _check_groups(name: str, shape: Any, groups: int) -> None:
    if groups < 1 or shape[-1] % groups:
        raise ValueError(f"{name}: groups must divide the {shape[-1]} channels; got groups={groups}")
    if prod(shape[1:]) == 0:
        raise ValueError(f"{name}: a sample of shape {show_shape(shape[1:])} is empty and has no mean")


def _group_infer(shapes: Any, dtypes: Any, *, groups: int, epsilon: float = 1e-5) -> tuple[Form, ...]:
    _check("group_norm", shapes, dtypes, epsilon)
    _check_groups("group_norm", shapes[0], groups)
    return (Form(shapes[0], dtypes[0]),)


def _group_samples(vectors: int) -> Any:
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for shape, groups in (((4, 8), 2), ((2, 3, 6), 3), ((2, 3, 2, 4), 2), ((1, 2, 3), 1), ((3, 4, 2), 2),
                              ((0, 2, 4), 2)):
            yield Sample(_inputs(rng, shape, vectors), {"groups": groups})
        x, *rest = _inputs(rng, (3, 5, 4), vectors)
        yield Sample((drawing.strided(x), *rest), {"groups": 2, "epsilon": 0.1})
        yield Sample((x.transpose(1, 0, 2), *rest), {"groups": 4})

    return samples


GROUP_NORM = define(
    group_norm, infer=_group_infer, samples=_group_samples(2), composite=True, saves_inputs=(0, 1),
    tolerance=NORM_TOLERANCE,
    vjp=lambda op, g, x, out, needs, groups, epsilon: _cast_last(
        op, op.group_norm_gradient(g[0], x[0], x[1], groups=groups, epsilon=epsilon), x
    ),
    errors=lambda: [
        *_bad("gamma", "beta", groups=1)(),
        BadInput((np.ones((2, 3)), np.ones(3), np.ones(3)), {"groups": 2}, ValueError, "groups must divide"),
    ],
)


def group_norm_gradient(
    xp: Any, g: Any, x: Any, gamma: Any, *, groups: int, epsilon: float = 1e-5
) -> Any:
    """Gradient of `group_norm` for x, gamma and beta; the formula of `layer_norm_gradient` with means over a group."""
    wide, flow = _grouped(xp, _wide(xp, x), groups), _wide(xp, g)
    centered = wide - xp.mean(wide, axis=(1, 3), keepdims=True)
    inverse = 1.0 / xp.sqrt(xp.mean(centered * centered, axis=(1, 3), keepdims=True) + epsilon)
    normal = centered * inverse
    scaled = _grouped(xp, flow * gamma, groups)
    by_input = inverse * (
        scaled - xp.mean(scaled, axis=(1, 3), keepdims=True)
        - normal * xp.mean(scaled * normal, axis=(1, 3), keepdims=True)
    )
    rows = tuple(range(len(x.shape) - 1))
    by_gamma, by_beta = xp.sum(flow * xp.reshape(normal, x.shape), axis=rows), xp.sum(flow, axis=rows)
    return (
        xp.astype(xp.reshape(by_input, x.shape), x.dtype), xp.astype(by_gamma, gamma.dtype),
        xp.astype(by_beta, gamma.dtype),
    )


def _group_gradient_infer(shapes: Any, dtypes: Any, *, groups: int, epsilon: float = 1e-5) -> tuple[Form, ...]:
    _check_groups("group_norm_gradient", shapes[1], groups)
    forms: tuple[Form, ...] = _row_gradient_infer("group_norm_gradient", ("gamma",), 3)(
        shapes, dtypes, epsilon=epsilon
    )
    return forms


def _group_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _group_samples(1)(rng):
        yield Sample((drawing.normal(rng, sample.inputs[0].shape), *sample.inputs), sample.attrs, sample.gradient)


GROUP_NORM_GRADIENT = define(
    group_norm_gradient, infer=_group_gradient_infer, samples=_group_gradient_samples, composite=True,
    tolerance=NORM_TOLERANCE,
    errors=lambda: [
        BadInput((np.ones((3, 3)), np.ones((2, 3)), np.ones(3)), {"groups": 1}, ValueError, "differ"),
        BadInput((np.ones((2, 3)), np.ones((2, 3)), np.ones(3)), {"groups": 2}, ValueError, "groups must divide"),
    ],
)
