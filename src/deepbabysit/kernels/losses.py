"""The hot losses: cross-entropies from logits, each with a fused derivative, and the logarithm of a probability.

From logits nothing is clipped: values and gradients are exact at logits of any size. A label outside of the classes
gives NaN (never a silent number); the losses of ``db.losses`` find it on the host first and name the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepbabysit.kernels import drawing
from deepbabysit.kernels.shapes import elementwise_float, limits, need_floating, show_shape
from deepbabysit.kernels.spec import BadInput, Form, Sample, define

# -- integer labels --------------------------------------------------------------------------------------------------


def _standing(xp: Any, labels: Any, classes: int, ignore_index: int | None) -> tuple[Any, Any, Any]:
    """Return (labels that exist, where a label counts, where it is ignored)."""
    labels = xp.astype(labels, xp.int64)
    valid = xp.logical_and(labels >= 0, labels < classes)
    ignored = None if ignore_index is None else labels == ignore_index
    if ignored is not None:
        valid = xp.logical_and(valid, xp.logical_not(ignored))
    return xp.where(valid, labels, xp.zeros_like(labels)), valid, ignored


def softmax_cross_entropy(
    xp: Any, logits: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> Any:
    """Cross-entropy of softmax with integer labels: ``logsumexp(x) - (1 - s) x[label] - s mean(x)``, and softmax(x).

    Logits (..., C), labels (...): the losses have the labels' shape. `s` is the label smoothing (Szegedy et al., CVPR
    2016). Where the label is `ignore_index` loss and gradient are 0; another label outside 0..C-1 gives NaN.
    """
    classes = logits.shape[-1]
    safe, valid, ignored = _standing(xp, labels, classes, ignore_index)
    shifted = logits - xp.stop_gradient(xp.max(logits, axis=-1, keepdims=True))
    exponentials = xp.exp(shifted)
    total = xp.sum(exponentials, axis=-1, keepdims=True)
    picked = xp.take_along_axis(shifted, xp.expand_dims(safe, axis=-1), axis=-1)
    losses = xp.log(total) - (1.0 - label_smoothing) * picked
    if label_smoothing:
        losses = losses - label_smoothing * xp.mean(shifted, axis=-1, keepdims=True)
    losses = xp.reshape(losses, labels.shape)
    instead = xp.full(labels.shape, math.nan, dtype=logits.dtype)
    if ignored is not None:
        instead = xp.where(ignored, xp.zeros_like(losses), instead)
    return xp.where(valid, losses, instead), exponentials / total


def _labels_infer(shapes: Any, dtypes: Any, **attrs: Any) -> tuple[Form, ...]:
    x, labels = shapes
    need_floating("softmax_cross_entropy", dtypes[0])
    if dtypes[1].kind not in "iu":
        raise TypeError(
            f"softmax_cross_entropy: labels must be whole numbers; got {dtypes[1]}. Convert first: y.astype('int64'), "
            f"or give one-hot rows to softmax_cross_entropy_soft"
        )
    if not x or labels != x[:-1] or x[-1] == 0:
        raise ValueError(
            f"softmax_cross_entropy: logits (..., C) go with labels (...); got {show_shape(x)} and {show_shape(labels)}"
        )
    return Form(labels, dtypes[0]), Form(x, dtypes[0])


def _labels_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for smoothing in (0.0, 0.1):
        for _ in range(3):
            lead = drawing.draw_shape(rng, (0, 2))
            classes = int(rng.integers(1, 6))
            labels = np.asarray(rng.integers(0, classes, lead))
            yield Sample((drawing.normal(rng, (*lead, classes), 3.0), labels), {"label_smoothing": smoothing})
    labels = np.array([0, -100, 2, 1], np.int32)
    yield Sample((drawing.normal(rng, (4, 3)), labels), {"ignore_index": -100, "label_smoothing": 0.2})
    yield Sample((drawing.normal(rng, (4, 3)), np.array([0, 1, 2, 1], np.uint8)), {"ignore_index": 1})
    yield Sample((drawing.normal(rng, (3, 2)), np.array([0, -1, 2])), gradient=False)
    yield Sample((np.ones((0, 3)), np.ones((0,), np.int64)))
    yield Sample((drawing.strided(drawing.normal(rng, (4, 3))), np.array([2, 0, 1, 1])))
    yield Sample((np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]]), np.array([1, 2])), gradient=False)


def _labels_vjp(
    op: Any, g: Any, x: Any, out: Any, needs: Any, label_smoothing: float, ignore_index: int | None
) -> Any:
    gradient = None
    if g[0] is not None:
        gradient = op.softmax_cross_entropy_gradient(
            g[0], out[1], x[1], label_smoothing=label_smoothing, ignore_index=ignore_index
        )
    return _with_probabilities(op, gradient, g[1], out[1]), None


def _with_probabilities(op: Any, gradient: Any, g: Any, probabilities: Any) -> Any:
    """Add what flows back through the probabilities, the second output."""
    if g is None:
        return gradient
    more = op.softmax_gradient(g, probabilities)
    return more if gradient is None else op.add(gradient, more)


SOFTMAX_CROSS_ENTROPY = define(
    softmax_cross_entropy, infer=_labels_infer, samples=_labels_samples, composite=True, vjp=_labels_vjp,
    saves_inputs=(1,), saves_outputs=(1,), differentiable=(0,),
    errors=lambda: [
        BadInput((np.ones((2, 3)), np.ones((2, 3))), {}, TypeError, "whole numbers"),
        BadInput((np.ones((2, 3)), np.zeros((2, 1), int)), {}, ValueError, "logits (..., C) go with labels (...)"),
        BadInput((np.ones((2, 3), int), np.zeros((2,), int)), {}, TypeError, "floating"),
    ],
)


def _gradient_infer(name: str, one_hot: bool) -> Any:
    def infer(shapes: Any, dtypes: Any, **attrs: Any) -> tuple[Form, ...]:
        g, p, targets = shapes
        need_floating(name, dtypes[1])
        if not p or p[-1] == 0 or g != p[:-1] or targets != (p if one_hot else p[:-1]):
            wanted = "(..., C)" if one_hot else "(...)"
            raise ValueError(
                f"{name}: gradients (...), probabilities (..., C) and targets {wanted} go together; "
                f"got {show_shape(g)}, {show_shape(p)} and {show_shape(targets)}"
            )
        return (Form(p, dtypes[1]),)

    return infer


def softmax_cross_entropy_gradient(
    xp: Any, g: Any, probabilities: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> Any:
    """Gradient of `softmax_cross_entropy`: ``g (p - t)``, with `t` the smoothed one-hot label; 0 where ignored."""
    classes = probabilities.shape[-1]
    safe, valid, _ = _standing(xp, labels, classes, ignore_index)
    targets = xp.one_hot(safe, classes=classes, dtype=probabilities.dtype)
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + label_smoothing / classes
    counted = xp.where(valid, g, xp.zeros_like(g))
    return (probabilities - targets) * xp.expand_dims(counted, axis=-1)


def _labels_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _labels_samples(rng):
        x, labels = sample.inputs
        g = drawing.normal(rng, labels.shape)
        yield Sample((g, np.abs(drawing.normal(rng, x.shape)), labels), sample.attrs)


SOFTMAX_CROSS_ENTROPY_GRADIENT = define(
    softmax_cross_entropy_gradient, infer=_gradient_infer("softmax_cross_entropy_gradient", one_hot=False),
    samples=_labels_gradient_samples, composite=True, differentiable=(0, 1),
)

# -- one-hot and soft labels -----------------------------------------------------------------------------------------


def softmax_cross_entropy_soft(xp: Any, logits: Any, targets: Any, *, label_smoothing: float = 0.0) -> Any:
    """Cross-entropy of softmax with rows of target probabilities: ``-sum(t log softmax(x))``, and softmax(x).

    Logits and targets (..., C), losses (...); with label smoothing `s` the targets are ``(1 - s) t + s / C``.
    """
    shifted = logits - xp.stop_gradient(xp.max(logits, axis=-1, keepdims=True))
    exponentials = xp.exp(shifted)
    total = xp.sum(exponentials, axis=-1, keepdims=True)
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
    return xp.sum(targets * (xp.log(total) - shifted), axis=-1), exponentials / total


def _soft_infer(shapes: Any, dtypes: Any, **attrs: Any) -> tuple[Form, ...]:
    x, targets = shapes
    need_floating("softmax_cross_entropy_soft", dtypes[0])
    if not x or x != targets or x[-1] == 0:
        raise ValueError(
            f"softmax_cross_entropy_soft: logits and targets need one shape (..., C); "
            f"got {show_shape(x)} and {show_shape(targets)}"
        )
    if dtypes[0] != dtypes[1]:
        raise TypeError(
            f"softmax_cross_entropy_soft: logits and targets need one dtype; got {dtypes[0]} and {dtypes[1]}"
        )
    return Form(x[:-1], dtypes[0]), Form(x, dtypes[0])


def _soft_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for smoothing in (0.0, 0.1):
        for _ in range(3):
            shape = drawing.draw_shape(rng, (1, 3))
            yield Sample((drawing.normal(rng, shape, 3.0), rng.random(shape)), {"label_smoothing": smoothing})
    yield Sample((np.ones((0, 3)), np.ones((0, 3))))
    yield Sample((drawing.strided(drawing.normal(rng, (4, 3))), rng.random((3, 4)).T))
    yield Sample((np.array([[1e4, -1e4, 0.0]]), np.array([[0.0, 1.0, 0.0]])), gradient=False)


def _soft_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any, label_smoothing: float) -> Any:
    by_logits = by_targets = None
    if needs[0]:
        gradient = None
        if g[0] is not None:
            gradient = op.softmax_cross_entropy_soft_gradient(g[0], out[1], x[1], label_smoothing=label_smoothing)
        by_logits = _with_probabilities(op, gradient, g[1], out[1])
    if needs[1] and g[0] is not None:
        wide = op.reshape(op.multiply(g[0], label_smoothing - 1.0), shape=(*g[0].shape, 1))
        by_targets = op.multiply(wide, op.log_softmax(x[0]))
    return by_logits, by_targets


SOFTMAX_CROSS_ENTROPY_SOFT = define(
    softmax_cross_entropy_soft, infer=_soft_infer, samples=_soft_samples, composite=True, vjp=_soft_vjp,
    saves_inputs=(0, 1), saves_outputs=(1,),
    errors=lambda: [BadInput((np.ones((2, 3)), np.ones((2, 1))), {}, ValueError, "need one shape")],
)


def softmax_cross_entropy_soft_gradient(
    xp: Any, g: Any, probabilities: Any, targets: Any, *, label_smoothing: float = 0.0
) -> Any:
    """Gradient of `softmax_cross_entropy_soft`: ``g (p sum(t) - t)`` with the smoothed targets."""
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + label_smoothing / probabilities.shape[-1]
    mass = xp.sum(targets, axis=-1, keepdims=True)
    return (probabilities * mass - targets) * xp.expand_dims(g, axis=-1)


def _soft_gradient_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in _soft_samples(rng):
        x, targets = sample.inputs
        yield Sample((drawing.normal(rng, x.shape[:-1]), rng.random(x.shape), targets), sample.attrs)


SOFTMAX_CROSS_ENTROPY_SOFT_GRADIENT = define(
    softmax_cross_entropy_soft_gradient, infer=_gradient_infer("softmax_cross_entropy_soft_gradient", one_hot=True),
    samples=_soft_gradient_samples, composite=True,
)

# -- yes or no -------------------------------------------------------------------------------------------------------


def sigmoid_cross_entropy(xp: Any, logits: Any, targets: Any) -> Any:
    """Cross-entropy of sigmoid, element by element: ``max(x, 0) - x t + log(1 + exp(-|x|))``; both of one shape."""
    positive = xp.where(logits > 0, logits, xp.zeros_like(logits))
    return positive - logits * targets + xp.log1p(xp.exp(-xp.abs(logits)))


def _pair_infer(name: str) -> Any:
    def infer(shapes: Any, dtypes: Any) -> tuple[Form, ...]:
        need_floating(name, dtypes[0])
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name}: logits and targets need one shape; got {show_shape(shapes[0])} and {show_shape(shapes[1])}"
            )
        if dtypes[0] != dtypes[1]:
            raise TypeError(f"{name}: logits and targets need one dtype; got {dtypes[0]} and {dtypes[1]}")
        return (Form(shapes[0], dtypes[0]),)

    return infer


def _sigmoid_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for _ in range(4):
        shape = drawing.draw_shape(rng)
        yield Sample((drawing.away_from(rng, shape, 0.0), rng.random(shape)))
    yield Sample((np.ones((0, 2)), np.ones((0, 2))))
    yield Sample((drawing.strided(drawing.away_from(rng, (3, 4), 0.0)), rng.random((4, 3)).T))
    yield Sample((np.array([-1e4, -40.0, 0.0, 40.0, 1e4]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])), gradient=False)


SIGMOID_CROSS_ENTROPY = define(
    sigmoid_cross_entropy, infer=_pair_infer("sigmoid_cross_entropy"), samples=_sigmoid_samples, composite=True,
    saves_inputs=(0, 1),
    vjp=lambda op, g, x, out, needs: (
        op.sigmoid_cross_entropy_gradient(g[0], x[0], x[1]) if needs[0] else None,
        op.negative(op.multiply(g[0], x[0])) if needs[1] else None,
    ),
    errors=lambda: [BadInput((np.ones((3,)), np.ones((3, 1))), {}, ValueError, "need one shape")],
)


def sigmoid_cross_entropy_gradient(xp: Any, g: Any, logits: Any, targets: Any) -> Any:
    """Gradient of `sigmoid_cross_entropy`: ``g (sigmoid(x) - t)``."""
    return (xp.sigmoid(logits) - targets) * g


SIGMOID_CROSS_ENTROPY_GRADIENT = define(
    sigmoid_cross_entropy_gradient, infer=elementwise_float("sigmoid_cross_entropy_gradient"), composite=True,
    samples=lambda rng: [
        Sample((drawing.normal(rng, s.inputs[0].shape), *s.inputs), gradient=s.gradient) for s in _sigmoid_samples(rng)
    ],
    inplace=((0, 0),),
)

# -- probabilities that remember nothing -----------------------------------------------------------------------------


def probability_limits(dtype: Any) -> tuple[float, float, float]:
    """Return (smallest p in the value, smallest p in the slope, how far outside of [0, 1] rounding may lead)."""
    found = limits(np.dtype(dtype))
    tiny, eps = float(found.tiny), float(found.eps)
    return tiny, max(eps * eps, tiny), 100 * eps


def log_probability(xp: Any, p: Any) -> Any:
    """Logarithm of a probability: ``log(max(p, tiny))`` with the slope ``1 / max(p, eps^2)``.

    `tiny` is the smallest normal number of the dtype and `eps` its spacing at 1. The value is exact for every normal p
    and finite at 0 (-87.3 in float32, -708.4 in float64). The slope is exact down to eps^2 (1.4e-14, 4.9e-32) and is
    held there, so that it is never zero and its square does not overflow. Outside of [0, 1], by more than rounding
    explains (100 eps), the result is NaN.
    """
    tiny, _, slack = probability_limits(p.dtype)
    inside = xp.logical_and(p >= -slack, p <= 1.0 + slack)
    low = p < tiny
    value = xp.log(xp.where(low, xp.full(p.shape, tiny, dtype=p.dtype), p))
    return xp.where(inside, value, xp.full(p.shape, math.nan, dtype=p.dtype))


def _log_probability_vjp(op: Any, g: Any, x: Any, out: Any, needs: Any) -> Any:
    return (op.divide(g[0], op.maximum(x[0], probability_limits(x[0].dtype)[1])),)


def _log_probability_samples(rng: np.random.Generator) -> Iterator[Sample]:
    for sample in drawing.unary(lambda r, shape: r.uniform(0.05, 0.95, shape), (1e-4, 1.0, -0.5, 1.5))(rng):
        yield sample._replace(by_dtype=not sample.gradient)  # at 0 the value is the logarithm of the dtype's own limit


LOG_PROBABILITY = define(
    log_probability, infer=elementwise_float("log_probability"), saves_inputs=(0,), vjp=_log_probability_vjp,
    samples=_log_probability_samples,
    errors=lambda: [BadInput((np.ones((2,), np.int64),), {}, TypeError, "needs floating numbers")],
)

# -- a smooth absolute value -----------------------------------------------------------------------------------------


def log_cosh(xp: Any, x: Any) -> Any:
    """Logarithm of the hyperbolic cosine, ``|x| + log(1 + exp(-2 |x|)) - log 2``: about x^2/2 near 0."""
    size = xp.abs(x)
    return size + xp.log1p(xp.exp(-2.0 * size)) - math.log(2.0)


LOG_COSH = define(
    log_cosh, infer=elementwise_float("log_cosh"), composite=True, saves_inputs=(0,),
    samples=drawing.unary(lambda rng, shape: drawing.away_from(rng, shape, 0.0), (-1e4, 0.0, 1e4)),
    errors=lambda: [BadInput((np.ones((2,), np.int64),), {}, TypeError, "needs floating numbers")],
    vjp=lambda op, g, x, out, needs: (op.multiply(g[0], op.tanh(x[0])),),
)
