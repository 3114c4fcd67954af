"""How programs run plain kernels that look at values: ufuncs as in the kernel, and compiled twins for the rest.

Keyed by the function that the kernel runs. Only the order of arithmetic matters here; a form whose bits differ from
its kernel's is not used (see `building`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.kernels.updates import STEP
from deepbabysit_numpy.compiled import draws, updates
from deepbabysit_numpy.compiled.loading import Compiled
from deepbabysit_numpy.kernels.guarding import KERNELS as GUARDING
from deepbabysit_numpy.kernels.losses import KERNELS as LOSSES
from deepbabysit_numpy.kernels.random import KERNELS as RANDOM
from deepbabysit_numpy.kernels.updates import KERNELS as UPDATES
from deepbabysit_numpy.kernels.updates import RULES

_PICK, _MARK, _LABELS = (Compiled("exact", name) for name in ("pick", "mark", "label_gradient"))
_KEEP = Compiled("exact", "keep")


def _cross_entropy(
    ctx: Any, outs: Any, logits: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None
) -> None:
    losses, probabilities = outs
    classes = logits.shape[-1]
    ignored = (ignore_index or 0, ignore_index is not None)
    np.subtract(logits, logits.max(axis=-1, keepdims=True), probabilities)
    picked = np.empty_like(losses)
    _PICK(None, probabilities.reshape(-1, classes), labels.reshape(-1), *ignored, picked.reshape(-1))
    mean: Any = probabilities.mean(axis=-1) if label_smoothing else None
    np.exp(probabilities, probabilities)
    total = probabilities.sum(axis=-1, keepdims=True)
    np.divide(probabilities, total, probabilities)
    np.log(total[..., 0], losses)
    if label_smoothing:
        np.subtract(losses, (1.0 - label_smoothing) * picked, losses)
        np.subtract(losses, label_smoothing * mean, losses)
    else:
        np.subtract(losses, picked, losses)
    _MARK(None, losses.reshape(-1), labels.reshape(-1), classes, *ignored)


def _cross_entropy_gradient(
    ctx: Any, outs: Any, g: Any, probabilities: Any, labels: Any, *, label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> None:
    classes = probabilities.shape[-1]
    _LABELS(
        None, g.reshape(-1), probabilities.reshape(-1, classes), labels.reshape(-1), outs[0].reshape(-1, classes),
        1.0 - label_smoothing, label_smoothing / classes, ignore_index or 0, ignore_index is not None,
    )


def _keep_step(
    ctx: Any, outs: Any, loss: Any, probe: Any, control: Any, w: Any, kept: Any, taken: Any, ring: Any
) -> None:
    for out, source in zip(outs, (kept, taken, ring), strict=True):
        np.copyto(out, source)  # nothing where they are the same memory
    _KEEP(None, loss.reshape(-1), probe, control[STEP : STEP + 1], w, *outs)


FORMS: dict[Callable[..., Any], Callable[..., None]] = {
    LOSSES["softmax_cross_entropy"].run: _cross_entropy,
    LOSSES["softmax_cross_entropy_gradient"].run: _cross_entropy_gradient,
    GUARDING["keep_step"].run: _keep_step,
    RANDOM["dropout"].run: draws.VARIANTS["dropout"].run,
    # the same bits at every size
    **{UPDATES[name].run: updates.VARIANTS[name].run for name in UPDATES if name in RULES},
}
