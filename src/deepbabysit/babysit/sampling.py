"""Measuring one step: what every layer computes, weights, gradients, updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit import measures
from deepbabysit.babysit.vitals import LayerVitals, ParameterVitals, TensorVitals, UnitVitals
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Array
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.runtime.funnel import call
from deepbabysit.training.events import Controls

_COUNTED = ("relu",)  # activations whose units can die
_CLASSES = 1000  # more classes than this are not counted
_WHOLE, _BLOCK, _EVERY = 1 << 18, 1 << 8, 4  # of a gradient of more numbers than that one block in four is compared
_PIECE = 1 << 22  # numbers of an output that are looked at; of more only the first rows are


class Tap:
    """Is shown what every layer computes in one step, and measures it on the device; nothing is kept alive.

    The step may be recorded: in a replay the same is measured, though nobody shows it.

    Attributes:
        layers: path -> activation, and units where they are counted.
        width: numbers of a row of the model's output, where that has two axes; else 0.
    """

    def __init__(self, slab: measures.Slab, activity: dict[str, np.ndarray]) -> None:
        self._slab = slab
        self._activity = activity
        self._seen: set[str] = set()
        self.layers: dict[str, tuple[str, int]] = {}
        self._rows = 0
        self.width = 0

    def begin(self) -> None:
        """Begin a step: the first call of a layer in it counts."""
        self._seen.clear()

    def __call__(self, layer: Any, output: Any) -> None:
        """Measure an output."""
        if not isinstance(output, Tensor) or not is_floating(output.dtype) or output.ndim < 2 or output.size == 0:
            return
        path = layer.path
        if path in self._seen:
            return
        self._seen.add(path)
        if layer.is_model() and not path:
            if output.ndim == 2 and output.shape[-1] <= _CLASSES:
                self._rows, self.width = output.shape
                if self.width > 1:
                    self._slab.largest("output", output.data)
                else:
                    self._slab.keep("output", output.data.reshape(-1))
            return
        data = output.data
        if data.size > _PIECE:
            data = data[: max(1, _PIECE // (data.size // data.shape[0]))]
        kind = activation_of(layer)
        units = 0
        if kind in _COUNTED or kind in measures.FLAT:
            center, distance = measures.FLAT.get(kind, (0.0, math.inf))
            units = data.shape[-1]
            self._slab.units((path, "units"), data, center, distance)
        self.layers[path] = kind, units
        self._slab.tensor((path, "output"), data)

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

    def finish(
        self, page: measures.Page, layers: Mapping[str, tuple[str, int]] | None = None
    ) -> dict[str, LayerVitals]:
        """Return the vitals of the layers as the slab was read; `layers`: those that there were then."""
        found = {}
        for path, (kind, units) in (self.layers if layers is None else layers).items():
            vitals, counted = page.vitals((path, "output")), None
            if units:
                seen = vitals.count // units
                active, beyond = page.activity((path, "units"), units, seen)
                counted = self._units(path, active, beyond, seen, kind)
            found[path] = LayerVitals(path, vitals, counted)
        return found

    def guesses(self, page: measures.Page, rows: int | None = None) -> np.ndarray | None:
        """Return what the model computed: the class of each row, or its only number; None where it has no such output.

        Arguments:
            page: the slab as it was read.
            rows: of the batch, where there are several sizes.
        """
        if not self.width:
            return None
        found = page.values("output", (self._rows if rows is None else rows,))
        return found.view(np.int64) if self.width > 1 else found


def activation_of(layer: Any) -> str:
    """Return the name of a layer's activation; a layer that only is one counts, too."""
    name = getattr(getattr(layer, "activation", None), "name", None)
    if isinstance(name, str):
        return name
    return {"LeakyReLU": "leaky_relu", "ReLU": "relu"}.get(type(layer).__name__, "linear")


class Change:
    """The weights before a step, and what the step does to them; measured on the device, as a part of the step."""

    def __init__(self, controls: Controls, slab: measures.Slab) -> None:
        self._optimizer = controls.optimizer
        self._slab = slab
        self._kept: list[Array] = []
        self._scaled = False

    def before(self) -> None:
        """Keep the weights."""
        device, flats = self._slab.device, flats_of(self._optimizer)
        if [k.shape for k in self._kept] != [f.w.shape for f in flats]:
            self._kept = [device.backend.empty(flat.w.shape, flat.w.dtype) for flat in flats]
        for flat, kept in zip(flats, self._kept, strict=True):
            call(device, SPECS["copy"], (flat.w,), outs=(kept,))
        scale = self._optimizer.loss_scale
        self._scaled = scale is not None
        if scale is not None:
            self._slab.keep("scale", scale.tensor.data)

    def after(self) -> None:
        """Measure weights, gradients, and what has changed."""
        for number, (flat, kept) in enumerate(zip(flats_of(self._optimizer), self._kept, strict=False)):
            parts = flat.segments
            self._slab.segments(("w", number), flat.w, parts)
            self._slab.segments(("g", number), flat.g, parts)
            self._slab.change(("change", number), flat.w, kept, parts)
        if self._scaled:
            self._slab.keep("applied", self._optimizer.loss_scale.applied)

    def skipped(self, page: measures.Page) -> bool:
        """Whether the step was skipped, since its scaled gradients overflowed: there is nothing to measure."""
        return self._scaled and not page.values("applied", ())

    def parameters(self, page: measures.Page, touched: bool = False) -> dict[str, ParameterVitals]:
        """Return the vitals of every parameter as the slab was read, in the model's order.

        Arguments:
            page: the slab.
            touched: whether gradients are in the flat buffers although ``.grad`` was cleared since.
        """
        found: dict[int, ParameterVitals] = {}
        scale = float(page.values("scale", ())) if self._scaled else 1.0
        for number, flat in enumerate(flats_of(self._optimizer)[: len(self._kept)]):
            count = len(flat.segments)
            weights, changes = page.rows(("w", number), count), page.rows(("change", number), count)
            gradients = [v.divided(scale) for v in page.rows(("g", number), count)]
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
        flats = flats_of(self._optimizer)
        self._kept: list[Array] = [self._device.asarray(_some(flat.g)).reshape(-1) for flat in flats]

    def compare(self) -> list[Array]:
        """Return, on the device, what `read` needs of this gradient and of the one that is there now."""
        found = []
        for flat, kept in zip(flats_of(self._optimizer), self._kept, strict=False):
            some = _some(flat.g)
            now = some if some is flat.g else self._device.asarray(some).reshape(-1)
            found.append(measures.products(self._device, now, kept))
        return found

    @staticmethod
    def read(products: Sequence[np.ndarray], batch: int) -> tuple[float | None, float | None]:
        """Return (noise scale in samples, cosine) from what was compared.

        With ``g1 = G + n1, g2 = G + n2`` and independent noise, ``g1 . g2`` estimates ``|G|^2`` and
        ``(|g1|^2 + |g2|^2) / 2 - g1 . g2`` the variance at this batch; McCandlish et al., 2018, "An Empirical Model of
        Large-Batch Training", call ``batch * variance / |G|^2`` the simple noise scale.
        """
        product, second, first = (sum(float(p[n]) for p in products) for n in range(3))
        if not (math.isfinite(first) and math.isfinite(second)) or first == 0.0 or second == 0.0:
            return None, None
        noise = (first + second) / 2.0 - product
        signal = max(product, 1e-4 * (first + second) / 2.0)
        return batch * noise / signal, product / math.sqrt(first * second)


def _some(flat: Array) -> Array:
    """Return a flat gradient, or blocks of a large one from everywhere."""
    size = flat.shape[0]
    if size <= _WHOLE:
        return flat
    return flat[: size - size % (_EVERY * _BLOCK)].reshape(-1, _EVERY, _BLOCK)[:, 0]


def classes(targets: Any, guesses: np.ndarray | None, width: int) -> tuple[dict[int, int], dict[int, int]]:
    """Return how often each class was predicted and meant; empty where outputs or targets are no classes.

    Arguments:
        targets: of the batch.
        guesses, width: see `Tap`.
    """
    if guesses is None or targets is None:
        return {}, {}
    labels = np.asarray(targets)
    if width > 1 and labels.ndim == 2 and labels.shape == (len(guesses), width):
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=-1) == 1).all()):
            return {}, {}
        labels = labels.argmax(axis=-1)
    elif width > 1 and labels.dtype.kind in "iu" and labels.size == len(guesses):
        labels = labels.reshape(-1)
    elif width == 1 and labels.size == len(guesses) and np.isin(labels, (0, 1)).all() and _probabilities(guesses):
        labels, guesses = labels.reshape(-1).astype(np.int64), (guesses > 0.5).astype(np.int64)
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
