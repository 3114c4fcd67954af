"""Cross-entropies from logits with their gradients, and other losses, in one pass."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.kernels.losses import probability_limits
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.flat import FLOATS, flat_kernel, same_forms, sweep
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_HARD, _HARD_GRADIENT = Compiled("losses", "cross_entropy"), Compiled("losses", "cross_entropy_gradient")
_SOFT, _SOFT_GRADIENT = Compiled("losses", "soft_cross_entropy"), Compiled("losses", "soft_cross_entropy_gradient")
_LOG_PROBABILITY = Compiled("losses", "log_probability")


def _takes_hard(forms: Any, **attrs: Any) -> bool:
    logits, labels = forms
    size = prod(logits.shape)
    return labels.dtype.name in ("int32", "int64") and size >= LEAST["loss"] and size > 0 and available()


def _hard(
    ctx: Any, outs: Any, logits: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> None:
    losses, probabilities = outs
    classes = logits.shape[-1]
    _HARD(
        (logits.dtype, labels.dtype), logits.reshape(-1, classes), labels.reshape(-1), losses.reshape(-1),
        probabilities.reshape(-1, classes), float(label_smoothing), ignore_index or 0, ignore_index is not None,
    )


def _takes_hard_gradient(forms: Any, **attrs: Any) -> bool:
    g, probabilities, labels = forms
    size = prod(probabilities.shape)
    fits = g.dtype == probabilities.dtype and labels.dtype.name in ("int32", "int64")
    return fits and size >= LEAST["loss"] and size > 0 and available()


def _hard_gradient(
    ctx: Any, outs: Any, g: Any, probabilities: Any, labels: Any, *, label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> None:
    classes = probabilities.shape[-1]
    _HARD_GRADIENT(
        (g.dtype, labels.dtype), g.reshape(-1), probabilities.reshape(-1, classes), labels.reshape(-1),
        outs[0].reshape(-1, classes), float(label_smoothing), ignore_index or 0, ignore_index is not None,
    )


def _takes_soft(forms: Any, **attrs: Any) -> bool:
    return same_forms(forms, LEAST["loss"])


def _soft(ctx: Any, outs: Any, logits: Any, targets: Any, *, label_smoothing: float = 0.0) -> None:
    losses, probabilities = outs
    classes = logits.shape[-1]
    rows = [a.reshape(-1, classes) for a in (logits, targets, probabilities)]
    _SOFT(logits.dtype, rows[0], rows[1], losses.reshape(-1), rows[2], float(label_smoothing))


def _takes_soft_gradient(forms: Any, **attrs: Any) -> bool:
    g, *rest = forms
    return g.dtype == rest[0].dtype and same_forms(rest, LEAST["loss"])


def _soft_gradient(
    ctx: Any, outs: Any, g: Any, probabilities: Any, targets: Any, *, label_smoothing: float = 0.0
) -> None:
    classes = probabilities.shape[-1]
    rows = [a.reshape(-1, classes) for a in (probabilities, targets, outs[0])]
    _SOFT_GRADIENT(g.dtype, g.reshape(-1), *rows, float(label_smoothing))


def _log_probability(ctx: Any, outs: Any, p: Any) -> None:
    tiny, _, slack = probability_limits(p.dtype)
    sweep(_LOG_PROBABILITY, outs[0], (p,), (tiny, slack))


VARIANTS: dict[str, Kernel] = {
    "softmax_cross_entropy": Kernel(_hard, dtypes=FLOATS, supports=_takes_hard, contiguous=True),
    "softmax_cross_entropy_gradient": Kernel(
        _hard_gradient, dtypes=FLOATS, supports=_takes_hard_gradient, contiguous=True
    ),
    "softmax_cross_entropy_soft": Kernel(_soft, dtypes=FLOATS, supports=_takes_soft, contiguous=True),
    "softmax_cross_entropy_soft_gradient": Kernel(
        _soft_gradient, dtypes=FLOATS, supports=_takes_soft_gradient, contiguous=True
    ),
    **{
        name: flat_kernel(Compiled("losses", name))
        for name in ("sigmoid_cross_entropy", "sigmoid_cross_entropy_gradient", "log_cosh")
    },
    "log_probability": Kernel(
        _log_probability, dtypes=FLOATS, supports=lambda forms: same_forms(forms, LEAST["elementwise"]),
        contiguous=True,
    ),
}
