"""Activations: generated from their references where they work element by element; softmax along an axis."""

from __future__ import annotations

from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_cupy.kernels.launching import around, launch, rowwise, same_floats, team_width
from deepbabysit_cupy.kernels.maps import mapped

NAMES = (
    "elu", "elu_gradient", "erf_gradient", "gelu", "gelu_gradient", "leaky_relu", "leaky_relu_gradient", "relu",
    "relu_gradient", "selu", "selu_gradient", "sigmoid", "sigmoid_gradient", "silu", "silu_gradient", "softplus",
    "tanh_gradient",
)  # fmt: skip


def _along_axis(name: str, kernel: str, logarithm: bool) -> Kernel:
    def run(ctx: Any, outs: Any, *ins: Any, axis: int = -1) -> None:
        x = ins[0]
        axis %= x.ndim
        before, after = around(x.shape, axis)
        rows, length = before * after, x.shape[axis]
        width = team_width(length, after, rows)
        launch(
            ctx, "softmax.cu", kernel, (x.dtype.name,), rows,
            (*outs, *ins, rows, length, after, width, int(logarithm)), grid=(-(-rows // width),),
        )

    return rowwise(name, run, same_floats)


KERNELS: dict[str, Kernel] = {
    **{name: mapped(name) for name in NAMES},
    "softmax": _along_axis("softmax", "softmax", False),
    "log_softmax": _along_axis("log_softmax", "softmax", True),
    "softmax_gradient": _along_axis("softmax_gradient", "gradient", False),
    "log_softmax_gradient": _along_axis("log_softmax_gradient", "gradient", True),
}
