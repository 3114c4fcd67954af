"""Measuring one step: what every layer computes, weights, gradients, updates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit import measures
from deepbabysit.babysit.vitals import LayerVitals, ParameterVitals, TensorVitals, UnitVitals
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Array
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.optimizers.scaling import scaling
from deepbabysit.training.events import Controls

_COUNTED = ("relu",)  # activations whose units can die
_CLASSES = 1000  # more classes than this are not counted
_PIECE = 1 << 22  # numbers of an output that are looked at; of more only the first rows are


class Tap:
    """Is shown what every layer computes in one step, and measures it at once; nothing is kept alive.

    Attributes:
        layers: path -> vitals; the first call of a layer in the step counts.
        output: of the model, on the host; None where it holds no classes.
    """

    def __init__(self, device: Any, activity: dict[str, np.ndarray]) -> None:
        self._device = device
        self._activity = activity
        self.layers: dict[str, LayerVitals] = {}
        self.output: np.ndarray | None = None

    def __call__(self, layer: Any, output: Any) -> None:
        """Measure an output."""
        if not isinstance(output, Tensor) or not is_floating(output.dtype) or output.ndim < 2 or output.size == 0:
            return
        path = layer.path
        if layer.is_model() and not path:
            if output.ndim == 2 and output.shape[-1] <= _CLASSES:
                self.output = np.array(self._device.to_host(output.data))
            return
        if path in self.layers:
            return
        data = output.data
        if data.size > _PIECE:
            data = data[: max(1, _PIECE // (data.size // data.shape[0]))]
        kind = activation_of(layer)
        units = None
        if kind in _COUNTED or kind in measures.FLAT:
            center, distance = measures.FLAT.get(kind, (0.0, math.inf))
            active, beyond, rows = measures.of_units(self._device, data, center, distance)
            units = self._units(path, active, beyond, rows, kind)
        self.layers[path] = LayerVitals(path, measures.of_tensor(self._device, data), units)

    def _units(self, path: str, active: np.ndarray, beyond: np.ndarray, rows: int, kind: str) -> UnitVitals:
        """Count units that have been idle for a while; their rows add up over the samples."""
        idle = self._activity.get(path)
        if idle is None or len(idle) != len(active):
            idle = self._activity[path] = np.zeros(len(active), np.int64)
        idle += rows
        idle[active > 0] = 0
        dead = int(np.count_nonzero(idle)) if kind in _COUNTED else 0
        total = max(rows * len(active), 1)
        return UnitVitals(
            len(active), dead, float(beyond.sum()) / total if kind in measures.FLAT else None,
            int(idle.max(initial=0)) or rows,
        )


def activation_of(layer: Any) -> str:
    """Return the name of a layer's activation; a layer that only is one counts, too."""
    name = getattr(getattr(layer, "activation", None), "name", None)
    if isinstance(name, str):
        return name
    return {"LeakyReLU": "leaky_relu", "ReLU": "relu"}.get(type(layer).__name__, "linear")


class Change:
    """The weights before a step, for what the step does to them.

    Attributes:
        scale: what the step's loss is multiplied by (float16), else 1.
    """

    def __init__(self, controls: Controls) -> None:
        self._device = controls.device
        self._optimizer = controls.optimizer
        self._before = [self._device.asarray(flat.w) for flat in flats_of(controls.optimizer)]
        found = scaling(controls.optimizer)
        self.scale, self._skipped = found.get("scale", 1.0), found.get("skipped", 0.0)

    @property
    def skipped(self) -> bool:
        """Whether the step was skipped, since its scaled gradients overflowed: there is nothing to measure."""
        return scaling(self._optimizer).get("skipped", 0.0) > self._skipped

    def parameters(self, touched: bool = False) -> dict[str, ParameterVitals]:
        """Return the vitals of every parameter after the step, in the model's order.

        Arguments:
            touched: whether gradients are in the flat buffers although ``.grad`` was cleared since.
        """
        found: dict[int, ParameterVitals] = {}
        for flat, before in zip(flats_of(self._optimizer), self._before, strict=False):
            parts = flat.segments
            weights = measures.of_segments(self._device, flat.w, parts)
            gradients = [v.divided(self.scale) for v in measures.of_segments(self._device, flat.g, parts)]
            changes = measures.of_change(self._device, flat.w, before, parts)
            for member, w, g, change in zip(flat.members, weights, gradients, changes, strict=True):
                p = member.parameter
                moved = p.trainable and (touched or p.grad is not None)
                found[id(p)] = ParameterVitals(
                    p.name, w, g if moved else None, change.norm if p.trainable else None, _penalty(p, w), p.trainable
                )
        return {v.path: v for p in self._optimizer.parameters if (v := found.get(id(p))) is not None}


def _penalty(parameter: Any, w: TensorVitals) -> float | None:
    """Return the norm of ``l1 sign(w) + 2 l2 w``; the cross term is bounded from below by 0."""
    if not (parameter.l1 or parameter.l2):
        return None
    return math.sqrt(parameter.l1**2 * (w.count - w.zeros) + (2.0 * parameter.l2 * w.norm) ** 2)


class Pair:
    """The gradient of one step, kept to be compared with that of the next."""

    def __init__(self, controls: Controls) -> None:
        self._device = controls.device
        self._optimizer = controls.optimizer
        self._kept: list[Array] = [self._device.asarray(flat.g) for flat in flats_of(controls.optimizer)]

    def compare(self, batch: int) -> tuple[float | None, float | None]:
        """Return (noise scale in samples, cosine) from this gradient and the one that is there now.

        With ``g1 = G + n1, g2 = G + n2`` and independent noise, ``g1 . g2`` estimates ``|G|^2`` and
        ``(|g1|^2 + |g2|^2) / 2 - g1 . g2`` the variance at this batch; McCandlish et al., 2018, "An Empirical Model of
        Large-Batch Training", call ``batch * variance / |G|^2`` the simple noise scale.
        """
        product = first = second = 0.0
        for flat, kept in zip(flats_of(self._optimizer), self._kept, strict=False):
            product += measures.dot(self._device, flat.g, kept)
            first += measures.dot(self._device, kept, kept)
            second += measures.dot(self._device, flat.g, flat.g)
        if not (math.isfinite(first) and math.isfinite(second)) or first == 0.0 or second == 0.0:
            return None, None
        noise = (first + second) / 2.0 - product
        signal = max(product, 1e-4 * (first + second) / 2.0)
        return batch * noise / signal, product / math.sqrt(first * second)


def classes(targets: Any, output: np.ndarray | None) -> tuple[dict[int, int], dict[int, int]]:
    """Return how often each class was predicted and meant; empty where outputs or targets are no classes."""
    if output is None or targets is None:
        return {}, {}
    labels = np.asarray(targets)
    width = output.shape[-1]
    if width > 1 and labels.ndim == 2 and labels.shape == output.shape:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all()):
            return {}, {}
        labels, guesses = labels.argmax(axis=-1), output.argmax(axis=-1)
    elif width > 1 and labels.dtype.kind in "iu" and labels.size == len(output):
        labels, guesses = labels.reshape(-1), output.argmax(axis=-1)
    elif width == 1 and labels.size == len(output) and np.isin(labels, (0, 1)).all() and _probabilities(output):
        labels, guesses = labels.reshape(-1).astype(np.int64), (output.reshape(-1) > 0.5).astype(np.int64)
    else:
        return {}, {}
    return _counts(guesses), _counts(labels)


def _probabilities(output: np.ndarray) -> bool:
    return bool(((output >= 0.0) & (output <= 1.0)).all())


def _counts(labels: np.ndarray) -> dict[int, int]:
    if labels.size and labels.min() >= 0 and labels.max() < _CLASSES:
        return {label: count for label, count in enumerate(np.bincount(labels).tolist()) if count}
    values, counts = np.unique(labels, return_counts=True)
    return {int(v): int(c) for v, c in zip(values, counts, strict=True)}
