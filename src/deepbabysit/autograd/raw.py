"""Operations by name on raw arrays of one device: derivatives run with it when no graph is wanted."""

from __future__ import annotations

from typing import Any

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Array
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import call


class RawOperations:
    """Every operation by name, on raw arrays of one device: derivatives run with it when no graph is wanted."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        spec = SPECS[name]
        device = self._device

        def function(*values: Any, **attrs: Any) -> Any:
            for value in values:
                if isinstance(value, float | int):
                    values = _numbers_to_arrays(device, values)
                    break
            outs = call(device, spec, values, attrs)
            return outs[0] if len(outs) == 1 else outs

        setattr(self, name, function)
        return function


def _numbers_to_arrays(device: Device, values: tuple[Any, ...]) -> tuple[Array, ...]:
    dtype = None
    for value in values:
        if not isinstance(value, float | int) and (dtype is None or is_floating(value.dtype)):
            dtype = value.dtype
            if is_floating(dtype):
                break
    return tuple([device.constant(v, dtype) if isinstance(v, float | int) else v for v in values])


_RAW: dict[Device, RawOperations] = {}


def raw_operations(device: Device) -> RawOperations:
    """Return the operations on raw arrays of a device."""
    found = _RAW.get(device)
    if found is None:
        found = _RAW[device] = RawOperations(device)
    return found
