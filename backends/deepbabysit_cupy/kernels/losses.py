"""Losses from logits: loss and probabilities in one launch; elementwise ones are generated from references."""

from __future__ import annotations

from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import WHOLE, launch, rowwise, same_floats, team_width, whole_kind
from deepbabysit_cupy.kernels.maps import mapped

NAMES = ("log_cosh", "log_probability", "sigmoid_cross_entropy", "sigmoid_cross_entropy_gradient")
_FILE = "losses.cu"


def _labels(kernel: str) -> Any:
    def run(
        ctx: Any, outs: Any, *ins: Any, label_smoothing: float = 0.0, ignore_index: int | None = None
    ) -> None:
        *arrays, labels = ins
        rows, classes = labels.size, arrays[-1].shape[-1]
        width = team_width(classes, 1, rows)
        launch(
            ctx, _FILE, kernel, (arrays[-1].dtype.name,), rows,
            (*outs, *arrays, labels, whole_kind(labels), rows, classes, width, float(label_smoothing),
             ignore_index or 0, int(ignore_index is not None)),
            grid=(-(-rows // width),), rows=(rows, width),
        )

    return run


def _soft(kernel: str) -> Any:
    def run(ctx: Any, outs: Any, *ins: Any, label_smoothing: float = 0.0) -> None:
        rows, classes = ins[-1].size // ins[-1].shape[-1], ins[-1].shape[-1]
        width = team_width(classes, 1, rows)
        launch(
            ctx, _FILE, kernel, (ins[-1].dtype.name,), rows,
            (*outs, *ins, rows, classes, width, float(label_smoothing)), grid=(-(-rows // width),), rows=(rows, width),
        )

    return run


def _labelled(forms: Any, **attrs: Any) -> bool:
    return same_floats(forms[:-1]) and forms[-1].dtype.name in WHOLE


KERNELS: dict[str, Kernel] = {
    **{name: mapped(name) for name in NAMES},
    "softmax_cross_entropy": rowwise("softmax_cross_entropy", _labels("labels"), _labelled),
    "softmax_cross_entropy_gradient": rowwise(
        "softmax_cross_entropy_gradient", _labels("labels_gradient"), _labelled
    ),
    "softmax_cross_entropy_soft": rowwise("softmax_cross_entropy_soft", _soft("soft"), same_floats),
    "softmax_cross_entropy_soft_gradient": rowwise(
        "softmax_cross_entropy_soft_gradient", _soft("soft_gradient"), same_floats
    ),
}
