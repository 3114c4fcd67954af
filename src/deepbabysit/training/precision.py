"""The precision of training steps: what numbers are stored and computed with.

In half precision (float16, bfloat16) parameters stay float32. A step computes with copies of them: while a model runs,
each copy stands in for its parameter, inputs are converted, and so activations and gradients are in half precision;
outputs are handed to losses and metrics as float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import unknown
from deepbabysit.kernels.shapes import half, is_floating, is_half
from deepbabysit.layers.layer import Layer
from deepbabysit.optimizers.scaling import scaling
from deepbabysit.runtime.backend import Backend
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device

PRECISIONS = ("float32", "tf32", "bfloat16", "float16", "float64")
_SINGLE = np.dtype(np.float32)
_EXACT = nullcontext()


@final
class Precision:
    """What a model is trained and used with.

    Arguments:
        name: one of `PRECISIONS`; None is "float32".

    Attributes:
        name: the name.
        dtype: of parameters, states, losses and what users are handed.
        half: the dtype of copies of the parameters, of activations and of their gradients; None where it is `dtype`.

    Raises:
        ValueError: there is no such precision.
        ImportError: bfloat16 without the package ml_dtypes.

    >>> Precision("float16").dtype, Precision("float16").half
    (dtype('float32'), dtype('float16'))
    """

    __slots__ = ("dtype", "half", "name")

    def __init__(self, name: str | None = None) -> None:
        self.name = "float32" if name is None else name
        if self.name not in PRECISIONS:
            raise ValueError(unknown("precision", self.name, PRECISIONS))
        self.dtype = np.dtype(np.float64) if self.name == "float64" else _SINGLE
        self.half = half(self.name) if self.name.endswith("16") else None

    def notes(self, device: Device) -> list[str]:
        """Return what has to be said about a training on a device."""
        if not device.name.startswith("cpu") or self.name in ("float32", "float64"):
            return []
        if self.half is None:
            return ["precision tf32 is about matrix products on a GPU; the CPU computes in float32"]
        return [
            f"precision {self.name}: numbers are stored in half precision and computed in float32 on the CPU, which is "
            f"not faster there than float32"
        ]

    def on(self, device: Device) -> AbstractContextManager[None]:
        """Let a device's products round as this precision allows, for the duration of a step."""
        return _rounding(device.backend) if self.name == "tf32" else _EXACT

    def prepare(self, optimizer: Any) -> None:
        """Have an optimizer keep the copies and expect the gradients of this precision."""
        optimizer.compute_in(self.half)
        optimizer.scale_loss(self.name == "float16")

    def logs(self, optimizer: Any) -> dict[str, float]:
        """Return what an epoch's logs tell about the precision: the scale of the loss, and skipped steps so far."""
        found = scaling(optimizer)
        return {"loss_scale": found["scale"], "skipped_steps": found["skipped"]} if found else {}

    def run(self, layer: Layer, inputs: Sequence[Tensor]) -> Any:
        """Run a layer in this precision; returns what it returns, with numbers in half precision made float32."""
        if self.half is None:
            return layer(*inputs)
        copies = {id(p): p.in_half(self.half) for p in layer.parameters() if p.dtype == _SINGLE}
        with surroundings(stand_ins=copies):
            outputs = layer(*[x.astype(self.half) if is_floating(x.dtype) else x for x in inputs])
        return _widened(outputs)


@contextmanager
def _rounding(backend: Backend) -> Iterator[None]:
    before, backend.tf32 = backend.tf32, True
    try:
        yield
    finally:
        backend.tf32 = before


def _widened(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.astype(_SINGLE) if is_half(outputs.dtype) else outputs
    if isinstance(outputs, list | tuple):
        return type(outputs)([_widened(output) for output in outputs])
    return outputs
