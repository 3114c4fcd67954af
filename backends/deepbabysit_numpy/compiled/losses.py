"""Softmax cross-entropy with integer labels: one pass over the rows, and one for the gradient."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_FORWARD, _BACKWARD = Compiled("losses", "cross_entropy"), Compiled("losses", "cross_entropy_gradient")
_WIDEST = 128  # classes: with more of them NumPy's vectorized exp wins


def _takes_forward(forms: Any, **attrs: Any) -> bool:
    logits, labels = forms
    size = prod(logits.shape)
    few = logits.shape[-1] <= _WIDEST
    return few and labels.dtype.name in ("int32", "int64") and size >= LEAST["loss"] and size > 0 and available()


def _forward(
    ctx: Any, outs: Any, logits: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> None:
    losses, probabilities = outs
    classes = logits.shape[-1]
    _FORWARD(
        (logits.dtype, labels.dtype), logits.reshape(-1, classes), labels.reshape(-1), losses.reshape(-1),
        probabilities.reshape(-1, classes), float(label_smoothing), ignore_index or 0, ignore_index is not None,
    )


def _takes_backward(forms: Any, **attrs: Any) -> bool:
    g, probabilities, labels = forms
    size = prod(probabilities.shape)
    fits = g.dtype == probabilities.dtype and labels.dtype.name in ("int32", "int64")
    return fits and size >= LEAST["loss"] and size > 0 and available()


def _backward(
    ctx: Any, outs: Any, g: Any, probabilities: Any, labels: Any, *, label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> None:
    classes = probabilities.shape[-1]
    _BACKWARD(
        (g.dtype, labels.dtype), g.reshape(-1), probabilities.reshape(-1, classes), labels.reshape(-1),
        outs[0].reshape(-1, classes), float(label_smoothing), ignore_index or 0, ignore_index is not None,
    )


VARIANTS: dict[str, Kernel] = {
    "softmax_cross_entropy": Kernel(_forward, dtypes=_DTYPES, supports=_takes_forward, contiguous=True),
    "softmax_cross_entropy_gradient": Kernel(_backward, dtypes=_DTYPES, supports=_takes_backward, contiguous=True),
}
