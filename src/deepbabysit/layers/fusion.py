"""Layers that follow each other and run as one operation: half of the traffic through memory, and the same bits."""

from __future__ import annotations

from typing import Any

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.layers.basic import Activation
from deepbabysit.layers.normalization import BatchNorm
from deepbabysit.runtime.context import current


def rectifies(first: Any, second: Any) -> bool:
    """Tell whether `second` is a ReLU that a batch normalization `first` can compute on its way."""
    return isinstance(first, BatchNorm) and isinstance(second, Activation) and second.activation.fused == "relu"


def fusible(first: Any, second: Any, x: Tensor) -> bool:
    """Tell whether nobody looks between two layers that fit together, and the device can run them as one."""
    fits = (
        first.built and second.built and not first.hooked and not second.hooked
        and "batch_norm_relu" in x.device.backend.kernels
    )
    mode = current()
    if fits and mode.tap is not None:
        if mode.recorder is not None:
            mode.recorder.apart = True
        return False
    return fits
