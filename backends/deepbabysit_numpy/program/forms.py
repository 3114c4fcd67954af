"""How programs run plain kernels that look at values: ufuncs as in the kernel, and compiled twins for the rest.

Keyed by the function that the kernel runs. Only the order of arithmetic matters here; a form whose bits differ from
its kernel's is not used (see `building`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit_numpy.compiled import draws
from deepbabysit_numpy.compiled.loading import Compiled
from deepbabysit_numpy.kernels.losses import KERNELS as LOSSES
from deepbabysit_numpy.kernels.random import KERNELS as RANDOM
from deepbabysit_numpy.kernels.updates import KERNELS as UPDATES

_PICK, _MARK, _LABELS = (Compiled("exact", name) for name in ("pick", "mark", "label_gradient"))


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


def _update(name: str, own: Callable[[Any], tuple[float, ...]]) -> Callable[..., None]:
    function = Compiled("exact", name)

    def run(
        ctx: Any, outs: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, *states: Any,
        **attrs: Any,
    ) -> None:
        for out, source in zip(outs, (progress, w, *states), strict=True):
            np.copyto(out, source)  # nothing where they are the same memory
        progress, w, *states = outs
        space = np.empty_like(w)
        function(None, control, table, starts, progress, w, g, tuple(states) or (w,), own(attrs), space)

    return run


FORMS: dict[Callable[..., Any], Callable[..., None]] = {
    LOSSES["softmax_cross_entropy"].run: _cross_entropy,
    LOSSES["softmax_cross_entropy_gradient"].run: _cross_entropy_gradient,
    RANDOM["dropout"].run: draws.VARIANTS["dropout"].run,
    UPDATES["sgd_update"].run: _update("sgd", lambda attrs: (0.0,)),
    UPDATES["momentum_update"].run: _update("momentum", lambda a: (a["momentum"], float(a["nesterov"]))),
    UPDATES["rmsprop_update"].run: _update("rmsprop", lambda a: (a["rho"], a["epsilon"])),
    UPDATES["adam_update"].run: _update("adam", lambda a: (a["beta_1"], a["beta_2"], a["epsilon"], 0.0)),
    UPDATES["adamw_update"].run: _update("adam", lambda a: (a["beta_1"], a["beta_2"], a["epsilon"], 1.0)),
}
