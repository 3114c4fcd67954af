"""Where weights start: fixed values, random draws scaled to the layer, and methods that look at data.

A layer's output keeps the variance of its input when ``fan_in * Var(w) * E[f(z)^2] = 1``; its gradient keeps its
variance when ``fan_out * Var(w) * E[f'(z)^2] = 1``. Here ``f`` is the activation and ``z`` a standard normal number.

| name | variance of a weight | for | from |
|---|---|---|---|
| glorot (Xavier) | 2 / (fan_in + fan_out) | tanh, linear, sigmoid | Glorot and Bengio, AISTATS 2010 |
| he (Kaiming) | 2 / fan_in | ReLU and its family | He et al., ICCV 2015 |
| lecun | 1 / fan_in | SELU, linear | LeCun et al., Efficient BackProp, 1998 |

Course notes often swap the first two: ``sqrt(2 / fan_in)`` is He's standard deviation and ``sqrt(2 / (fan_in +
fan_out))`` is Glorot's. A uniform draw of the same variance covers ``[-sqrt(3 Var), sqrt(3 Var)]``. The ``_normal``
forms draw from the whole normal distribution, as the papers do (Keras cuts it at two standard deviations and widens it
again, with the same variance).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod, sqrt
from typing import Any, final

import numpy as np

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.errors import module_names, nearest, unknown
from deepbabysit.runtime.context import no_grad, surroundings
from deepbabysit.runtime.random import host_generator

Shape = tuple[int, ...]
Draw = Callable[[Shape, np.random.Generator, tuple[float, float]], Any]


@final
class Initializer:
    """A way to fill an array: ``initializer(shape, rng, dtype) -> np.ndarray``.

    Attributes:
        name: how `get` finds it.
        arguments: what it was made with.
    """

    __slots__ = ("_draw", "arguments", "name")

    def __init__(self, name: str, arguments: dict[str, Any], draw: Draw) -> None:
        self.name = name
        self.arguments = arguments
        self._draw = draw

    def __call__(
        self, shape: Shape, rng: np.random.Generator, dtype: Any = np.float32, fans: tuple[float, float] | None = None
    ) -> np.ndarray:
        """Return an array of that shape; `fans` are (fan_in, fan_out) where the shape does not tell them."""
        values = self._draw(tuple(shape), rng, fans or compute_fans(shape))
        return np.ascontiguousarray(np.broadcast_to(np.asarray(values), shape), dtype=dtype)

    def config(self) -> dict[str, Any]:
        """Return what `get` takes to make it again."""
        return {"name": self.name, **self.arguments}

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v!r}' for k, v in self.arguments.items())})"


def compute_fans(shape: Shape) -> tuple[float, float]:
    """Return (fan_in, fan_out): how many inputs an output has, and how many outputs an input reaches.

    Kernels are (in, out), or (space..., in, out) for convolutions, whose window counts in both.

    >>> compute_fans((784, 10)), compute_fans((3, 3, 16, 32)), compute_fans((7,))
    ((784, 10), (144, 288), (7, 7))
    """
    if not shape:
        return 1, 1
    if len(shape) == 1:
        return shape[0], shape[0]
    window = prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


# -- fixed values and plain draws --------------------------------------------------------------------------------------


def zeros() -> Initializer:
    """Return zeros: right for biases; in a kernel all units stay equal forever (no symmetry is broken)."""
    return Initializer("zeros", {}, lambda shape, rng, fans: 0.0)


def ones() -> Initializer:
    """Return ones: right for scales."""
    return Initializer("ones", {}, lambda shape, rng, fans: 1.0)


def constant(value: Any = 0.0) -> Initializer:
    """Return one value everywhere, or an array of the parameter's own shape."""
    given = value.tolist() if isinstance(value, np.ndarray | np.generic) else value

    def draw(shape: Shape, rng: np.random.Generator, fans: Any) -> Any:
        values = np.asarray(given, np.float64)
        if values.shape not in ((), tuple(shape)):
            raise ValueError(f"constant: values of shape {values.shape} do not fit a parameter of shape {shape}")
        return values

    return Initializer("constant", {"value": given}, draw)


def normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Return draws from a normal distribution."""
    _need_positive("stddev", stddev)
    return Initializer(
        "normal", {"mean": mean, "stddev": stddev}, lambda shape, rng, fans: rng.normal(mean, stddev, shape)
    )


def uniform(minval: float = -0.05, maxval: float = 0.05) -> Initializer:
    """Return draws from ``[minval, maxval)``, all equally likely."""
    if not minval <= maxval:
        raise ValueError(f"uniform: minval {minval} is above maxval {maxval}; swap them")
    return Initializer(
        "uniform", {"minval": minval, "maxval": maxval}, lambda shape, rng, fans: rng.uniform(minval, maxval, shape)
    )


def truncated_normal(mean: float = 0.0, stddev: float = 0.05) -> Initializer:
    """Return normal draws; those beyond two standard deviations are drawn again.

    The variance is 0.774 times ``stddev ** 2``, as in Keras.
    """
    _need_positive("stddev", stddev)

    def draw(shape: Shape, rng: np.random.Generator, fans: Any) -> np.ndarray:
        values = np.asarray(rng.standard_normal(shape))
        while True:
            outside = np.abs(values) > 2.0
            count = int(np.count_nonzero(outside))
            if not count:
                return mean + stddev * values
            values[outside] = rng.standard_normal(count)

    return Initializer("truncated_normal", {"mean": mean, "stddev": stddev}, draw)


def orthogonal(gain: float = 1.0) -> Initializer:
    """Return a matrix whose rows or columns (the fewer) are orthonormal, times `gain`.

    Axes before the last are joined. All singular values are `gain`, so a deep linear network keeps lengths (Saxe,
    McClelland and Ganguli, ICLR 2014). Drawn uniformly from all such matrices (QR with the signs of R's diagonal
    fixed).
    """

    def draw(shape: Shape, rng: np.random.Generator, fans: Any) -> np.ndarray:
        if len(shape) < 2:
            raise ValueError(f"orthogonal needs a parameter of at least two axes; got shape {shape}. Use 'normal'")
        rows, columns = prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return gain * (q if rows >= columns else q.T).reshape(shape)

    return Initializer("orthogonal", {"gain": gain}, draw)


def _need_positive(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be a number >= 0; got {value!r}")


# -- draws scaled to the layer -----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def activation_moments(activation: str = "linear") -> tuple[float, float]:
    """Return ``(E[f(z)^2], E[f'(z)^2])`` of an activation for a standard normal z, by numerical integration.

    >>> [round(m, 3) for m in activation_moments("relu")], [round(m, 3) for m in activation_moments("gelu")]
    ([0.5, 0.5], [0.425, 0.456])
    """
    if activation in ("linear", "identity"):
        return 1.0, 1.0
    known = {"swish": "silu"}.get(activation, activation)
    if known not in _MOMENTS_OF:
        raise ValueError(unknown("activation", activation, ("linear", *_MOMENTS_OF)))
    edges = np.linspace(-12.0, 12.0, 48_001)  # the kink at 0 lies on an edge between two cells
    middle = (edges[1:] + edges[:-1]) / 2
    x = tensor(middle, device="cpu", requires_grad=True)
    with surroundings(grad=True, recorder=None):
        y = getattr(ops, known)(x)
        y.sum().backward()
    density = np.exp(-0.5 * middle * middle) / sqrt(2 * np.pi) * (edges[1] - edges[0])
    slope = x.grad.numpy() if x.grad is not None else np.zeros_like(middle)
    return float((y.numpy() ** 2 * density).sum()), float((slope**2 * density).sum())


_MOMENTS_OF = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "sigmoid", "tanh")


def _keep(dropout_rate: float) -> float:
    if not 0.0 <= dropout_rate < 1.0:
        raise ValueError(f"dropout_rate is at least 0 and below 1; got {dropout_rate!r}")
    return 1.0 - dropout_rate


def _scaled(name: str, arguments: dict[str, Any], variance: Callable[[float, float], float]) -> Initializer:
    """Return an initializer whose variance is a function of the fans; the name's ending gives the distribution."""

    def draw(shape: Shape, rng: np.random.Generator, fans: tuple[float, float]) -> np.ndarray:
        spread = sqrt(variance(max(fans[0], 1), max(fans[1], 1)))
        if name.endswith("_uniform"):
            return rng.uniform(-sqrt(3.0) * spread, sqrt(3.0) * spread, shape)
        return np.asarray(rng.standard_normal(shape)) * spread

    return Initializer(name, arguments, draw)


def _glorot(name: str, dropout_rate: float, activation: str) -> Initializer:
    p = _keep(dropout_rate)

    def variance(fan_in: float, fan_out: float) -> float:
        forward, back = activation_moments(activation)
        return 2.0 / (fan_in * forward / p + fan_out * back * p)

    return _scaled(name, {"dropout_rate": dropout_rate, "activation": activation}, variance)


def _one_sided(name: str, dropout_rate: float, activation: str) -> Initializer:
    p = _keep(dropout_rate)
    return _scaled(
        name, {"dropout_rate": dropout_rate, "activation": activation},
        lambda fan_in, fan_out: p / (fan_in * activation_moments(activation)[0]),
    )


def glorot_uniform(dropout_rate: float = 0.0, activation: str = "linear") -> Initializer:
    """Return uniform draws of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio, AISTATS 2010).

    With dropout of rate ``1 - p`` on the layer's input, and an activation ``f``, both of Glorot's conditions change
    (Hendrycks and Gimpel, ICLR workshop 2017): dropped inputs have ``1 / p`` of the second moment, gradients ``p`` of
    it. The variance is then ``2 / (fan_in * E[f(z)^2] / p + fan_out * p * E[f'(z)^2])``, which is Glorot's for p = 1
    and the linear f. The paper's own initializer is `hendrycks`.

    Arguments:
        dropout_rate: fraction of the layer's inputs that dropout sets to zero.
        activation: name of the activation before the layer.
    """
    return _glorot("glorot_uniform", dropout_rate, activation)


def glorot_normal(dropout_rate: float = 0.0, activation: str = "linear") -> Initializer:
    """Return normal draws of variance ``2 / (fan_in + fan_out)``; see `glorot_uniform`."""
    return _glorot("glorot_normal", dropout_rate, activation)


def he_uniform(dropout_rate: float = 0.0, activation: str = "relu") -> Initializer:
    """Return uniform draws of variance ``2 / fan_in`` (He et al., ICCV 2015); see `he_normal`."""
    return _one_sided("he_uniform", dropout_rate, activation)


def he_normal(dropout_rate: float = 0.0, activation: str = "relu") -> Initializer:
    """Return normal draws of variance ``2 / fan_in``, which keeps the variance through ReLU (He et al., ICCV 2015).

    With dropout of rate ``1 - p`` on the layer's input the variance is ``p / (fan_in * E[f(z)^2])`` (the forward half
    of Hendrycks and Gimpel, ICLR workshop 2017); for ReLU ``E[f(z)^2] = 1/2``, that is ``2 p / fan_in``.

    Arguments:
        dropout_rate: fraction of the layer's inputs that dropout sets to zero.
        activation: name of the activation before the layer.

    >>> rng = np.random.default_rng(0)
    >>> float(np.var(he_normal()((1000, 100), rng)).round(5)), float(np.var(he_normal(0.5)((1000, 100), rng)).round(5))
    (0.002, 0.001)
    """
    return _one_sided("he_normal", dropout_rate, activation)


def lecun_uniform(dropout_rate: float = 0.0, activation: str = "linear") -> Initializer:
    """Return uniform draws of variance ``1 / fan_in`` (LeCun et al., Efficient BackProp, 1998)."""
    return _one_sided("lecun_uniform", dropout_rate, activation)


def lecun_normal(dropout_rate: float = 0.0, activation: str = "linear") -> Initializer:
    """Return normal draws of variance ``1 / fan_in``: the one for SELU (Klambauer et al., NIPS 2017)."""
    return _one_sided("lecun_normal", dropout_rate, activation)


def hendrycks(dropout_rate: float = 0.0, activation: str = "relu") -> Initializer:
    """Return normal draws made unit length per output unit, over ``sqrt(E[f(z)^2] / p + p * E[f'(z)^2])``.

    Hendrycks and Gimpel, "Adjusting for dropout variance in batch normalization and weight initialization", ICLR
    workshop 2017, as printed: the sum of both conditions, not their mean. For ReLU without dropout the divisor is 1.

    Arguments:
        dropout_rate: ``1 - p``, the same before and after the layer.
        activation: name of the activation on both sides.
    """
    p = _keep(dropout_rate)

    def draw(shape: Shape, rng: np.random.Generator, fans: tuple[float, float]) -> np.ndarray:
        forward, back = activation_moments(activation)
        values = np.asarray(rng.standard_normal(shape))
        lengths = np.sqrt((values**2).sum(axis=tuple(range(max(len(shape) - 1, 1))), keepdims=True))
        return values / lengths / sqrt(forward / p + p * back)

    return Initializer("hendrycks", {"dropout_rate": dropout_rate, "activation": activation}, draw)


# -- finding them ------------------------------------------------------------------------------------------------------

_NAMES: dict[str, Callable[..., Initializer]] = {
    f.__name__: f
    for f in (
        zeros, ones, constant, normal, uniform, truncated_normal, orthogonal, glorot_uniform, glorot_normal,
        he_uniform, he_normal, lecun_uniform, lecun_normal, hendrycks,
    )
}
# other libraries' spellings, written without capitals and underscores
_ALIASES = {
    "xavieruniform": "glorot_uniform", "xaviernormal": "glorot_normal", "xavier": "glorot_uniform",
    "glorot": "glorot_uniform", "kaiminguniform": "he_uniform", "kaimingnormal": "he_normal", "kaiming": "he_normal",
    "he": "he_normal", "lecun": "lecun_normal", "randomnormal": "normal", "randomuniform": "uniform",
    "truncnormal": "truncated_normal", "zero": "zeros", "one": "ones",
}


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


_FOLDED = {_fold(name): name for name in _NAMES}


def _find(name: str) -> Callable[..., Initializer]:
    folded = _fold(name)
    known = _FOLDED.get(folded) or _ALIASES.get(folded)
    if known is None:
        close = nearest(name, [*_NAMES, "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"])
        hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
        raise ValueError(f"unknown initializer {name!r}; {hint}Valid: {', '.join(sorted(_NAMES))}")
    return _NAMES[known]


def get(initializer: Any) -> Callable[..., np.ndarray]:
    """Return the initializer meant by a name, a number, a configuration, or a function ``(shape, rng, dtype)``.

    Names are understood in the spellings of Keras and PyTorch too (``"GlorotUniform"``, ``"kaiming_normal_"``).

    Raises:
        ValueError: the name does not exist; the nearest ones are offered.
        TypeError: something else was given.

    >>> get("xavier_uniform"), get(0.5)
    (glorot_uniform(dropout_rate=0.0, activation='linear'), constant(value=0.5))
    """
    if isinstance(initializer, Initializer):
        return initializer
    if isinstance(initializer, str):
        return _find(initializer)()
    if isinstance(initializer, dict) and isinstance(initializer.get("name"), str):
        return _find(initializer["name"])(**{key: value for key, value in initializer.items() if key != "name"})
    if isinstance(initializer, int | float | np.number | np.ndarray) and not isinstance(initializer, bool):
        return constant(initializer)
    if any(initializer is factory for factory in _NAMES.values()):
        return initializer()
    if callable(initializer):
        return initializer
    raise TypeError(f"an initializer is a name, a number or a function (shape, rng, dtype); got {initializer!r}")


# Keras' class names
Zeros, Ones, Constant, RandomNormal, RandomUniform, TruncatedNormal = (
    zeros,
    ones,
    constant,
    normal,
    uniform,
    truncated_normal,
)
GlorotUniform, GlorotNormal, HeUniform, HeNormal = glorot_uniform, glorot_normal, he_uniform, he_normal
LecunUniform, LecunNormal, Orthogonal = lecun_uniform, lecun_normal, orthogonal
# PyTorch's names
xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal = glorot_uniform, glorot_normal, he_uniform, he_normal

# -- looking at data ---------------------------------------------------------------------------------------------------
# A model is known here by what it offers (walk, call, hooks); the layers concerned have `affine(x)`, their output
# before the activation, and `rescale(factor)`, which multiplies it.


class _Seen(Exception):
    """The layer in question has been reached."""


def _as_input(model: Any, x: Any) -> Tensor:
    return x if isinstance(x, Tensor) else tensor(np.asarray(x, np.float32), device=model.device)


def _affine_layers(model: Any, x: Tensor) -> list[Any]:
    """Return the layers with a kernel in the order in which they run."""
    order: list[Any] = []

    def note(layer: Any, inputs: Any, output: Any) -> None:
        if all(layer is not known for known in order):
            order.append(layer)

    removers = [
        layer.register_forward_hook(note) for _, layer in model.walk() if hasattr(layer, "affine")
    ]
    # hooks go on layers that exist before the first call; layers are made by constructors, not by build
    try:
        model(x)
    finally:
        for remove in removers:
            remove()
    if not order:
        raise ValueError("the model has no layer with a kernel (Dense, Conv2D, ...); there is nothing to scale")
    return order


def _before_activation(model: Any, layer: Any, x: Tensor) -> np.ndarray:
    """Run the model until the layer has been called once; return that layer's output before its activation."""
    found: list[np.ndarray] = []

    def measure(_: Any, inputs: Any, output: Any) -> None:
        found.append(layer.affine(*inputs).numpy().astype(np.float64))
        raise _Seen

    remove = layer.register_forward_hook(measure)
    try:
        model(x)
    except _Seen:
        pass
    finally:
        remove()
    return found[0]


def lsuv(model: Any, x: Any, tolerance: float = 0.1, iterations: int = 10) -> dict[str, float]:
    """Give every layer's output before its activation unit variance on a batch (Mishkin and Matas, ICLR 2016).

    Kernels start orthonormal; then, layer by layer from the input, ``kernel /= sqrt(Var(output))`` until the variance
    is within `tolerance` of 1.

    Arguments:
        model: a model or layer.
        x: a batch of inputs, (N, ...).
        tolerance: how far from 1 a variance may stay.
        iterations: the most corrections per layer.

    Returns:
        The variance reached, by layer path.

    Raises:
        ValueError: a layer's output does not vary (or is not finite), or there is no layer with a kernel.
    """
    batch = _as_input(model, x)
    reached: dict[str, float] = {}
    start = orthogonal()
    with no_grad():
        for layer in _affine_layers(model, batch):
            kernel = layer.kernel
            kernel.assign(start(kernel.shape, host_generator(f"{kernel.name}.lsuv"), np.float64), "lsuv()")
            for _ in range(iterations):
                variance = float(_before_activation(model, layer, batch).var())
                if abs(variance - 1.0) <= tolerance:
                    break
                if not 0.0 < variance < float("inf"):
                    raise ValueError(
                        f"lsuv: the output of layer {layer.path} has variance {variance} on this batch; it can be "
                        f"scaled only when it is above 0. Look at the inputs (constant?) and the layers before it"
                    )
                layer.rescale(1.0 / sqrt(variance))
            reached[layer.path] = float(_before_activation(model, layer, batch).var())
    return reached


def data_dependent(model: Any, x: Any, target_mean: float = 0.0, target_std: float = 1.0) -> None:
    """Give every unit's output before its activation a mean and a standard deviation on a batch.

    The within-layer step of Kraehenbuehl, Doersch, Donahue and Darrell, ICLR 2016: layer by layer from the input,
    ``w_k *= target_std / std_k`` and ``b_k = target_mean - mean_k`` for each unit or channel k. (Their second step,
    which equalizes learning rates between layers, is not done.)

    Arguments:
        model: a model or layer.
        x: a batch of inputs, (N, ...).
        target_mean, target_std: what every unit shall have.

    Raises:
        ValueError: a unit does not vary on this batch, or there is no layer with a kernel.
    """
    batch = _as_input(model, x)
    with no_grad():
        for layer in _affine_layers(model, batch):
            if layer.bias is not None:
                layer.bias.assign(np.zeros(layer.bias.shape), "data_dependent()")
            outputs = _before_activation(model, layer, batch)
            outputs = outputs.reshape(-1, outputs.shape[-1])
            spread = outputs.std(axis=0)
            if not np.all(spread > 0):
                dead = np.flatnonzero(~(spread > 0))[:5].tolist()
                raise ValueError(
                    f"data_dependent: units {dead} of layer {layer.path} do not vary on this batch of {len(outputs)} "
                    f"rows; use more samples, or drop constant inputs"
                )
            factor = target_std / spread
            layer.rescale(factor)
            if layer.bias is not None:
                layer.bias.assign(target_mean - outputs.mean(axis=0) * factor, "data_dependent()")


def reestimate_statistics(model: Any, x: Any, batch_size: int = 256) -> None:
    """Compute the running statistics of every BatchNorm again, over all of x and with dropout off.

    Dropout widens the distribution that a BatchNorm sees in training; at test time its variance is then wrong. After
    training this sets mean and variance to those of the network as it is used (Hendrycks and Gimpel, ICLR workshop
    2017).

    Arguments:
        model: a trained model.
        x: inputs, (N, ...); a few thousand samples do.
        batch_size: samples at a time; means and variances over the batches are combined exactly.

    Raises:
        ValueError: there is no BatchNorm in the model.
    """
    data = x if isinstance(x, Tensor) else np.asarray(x)
    layers = [layer for _, layer in model.walk() if hasattr(layer, "begin_estimate")]
    if not layers:
        raise ValueError("the model has no BatchNorm layer; there are no running statistics to estimate")
    for layer in layers:
        layer.begin_estimate()
    try:
        with no_grad(), surroundings(training=False):
            for start in range(0, len(data), batch_size):
                model(_as_input(model, data[start : start + batch_size]))
    except BaseException:
        for layer in layers:
            layer.end_estimate(keep=False)
        raise
    for layer in layers:
        layer.end_estimate()


__getattr__ = module_names(
    "db.initializers", "initializer",
    [n for n, thing in list(globals().items()) if n[0] != "_" and getattr(thing, "__module__", "") == __name__],
)
