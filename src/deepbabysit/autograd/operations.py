"""Operations by name on Tensors: the namespace that references and higher derivatives are written against."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.autograd import tape
from deepbabysit.autograd.tensor import Tensor, apply, as_tensor, tensor
from deepbabysit.errors import unknown
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import KernelSpec
from deepbabysit.runtime.device import Device


class TensorOperations:
    """Every operation by name, on Tensors of one device; references of composites run with it as their `xp`."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __getattr__(self, name: str) -> Any:
        spec = SPECS.get(name)
        if spec is None:
            raise AttributeError(unknown("operation", name, SPECS.names()))
        function = _tensor_function(spec)
        setattr(self, name, function)
        return function

    # What references need beside operations: constants and spellings of the array API.

    uint64, uint32, int64, int32, bool = np.uint64, np.uint32, np.int64, np.int32, np.bool_
    float64, float32, float16 = np.float64, np.float32, np.float16

    def asarray(self, values: Any, dtype: Any = None) -> Tensor:
        """Return a constant."""
        return values if isinstance(values, Tensor) else self._constant(np.asarray(values, dtype))

    def arange(self, start: int, stop: int | None = None, step: int = 1, dtype: Any = None) -> Tensor:
        """Return evenly spaced numbers as a constant."""
        if stop is None:
            start, stop = 0, start
        return self._constant(np.arange(start, stop, step, dtype=dtype))

    def zeros(self, shape: Any, dtype: Any = np.float32) -> Tensor:
        """Return zeros as a constant."""
        return self.full(shape, 0, dtype)

    def ones(self, shape: Any, dtype: Any = np.float32) -> Tensor:
        """Return ones as a constant."""
        return self.full(shape, 1, dtype)

    def full(self, shape: Any, value: Any, dtype: Any = np.float32) -> Tensor:
        """Return a constant of one value: a single number in memory."""
        scalar = Tensor(self.device.constant(value, np.dtype(dtype)), self.device)
        return self.broadcast_to(scalar, shape=tuple(shape))

    def zeros_like(self, x: Tensor) -> Tensor:
        """Return zeros of the same form."""
        return self._filled_like(x, 0)

    def ones_like(self, x: Tensor) -> Tensor:
        """Return ones of the same form."""
        return self._filled_like(x, 1)

    def _filled_like(self, x: Tensor, value: int) -> Tensor:
        device = self.device if x.device.abstract else x.device
        scalar = Tensor(device.constant(value, x.dtype), device)
        if not x.device.abstract:
            return self.broadcast_to(scalar, shape=x.shape)
        # a symbolic batch has no length yet: a choice between equals takes that of each batch, NaN or not
        return self.where(self.equal(x, x), scalar, scalar)

    def _constant(self, values: np.ndarray) -> Tensor:
        return Tensor(self.device.asarray(values), self.device)

    def abs(self, x: Tensor) -> Tensor:
        """Absolute value."""
        return self.absolute(x)

    def pow(self, x: Any, y: Any) -> Tensor:
        """Power."""
        return self.power(x, y)

    def square(self, x: Tensor) -> Tensor:
        """Square."""
        return x * x

    def clip(self, x: Tensor, low: Any, high: Any) -> Tensor:
        """Limit to a range."""
        return self.minimum(self.maximum(x, low), high)

    def expand_dims(self, x: Tensor, axis: int) -> Tensor:
        """Insert an axis of length 1."""
        place = axis % (len(x.shape) + 1)
        return self.reshape(x, shape=(*x.shape[:place], 1, *x.shape[place:]))

    def squeeze(self, x: Tensor, axis: int) -> Tensor:
        """Remove an axis of length 1."""
        place = axis % len(x.shape)
        if x.shape[place] != 1:
            raise ValueError(f"squeeze: axis {axis} of {x.shape} has not length 1")
        return self.reshape(x, shape=(*x.shape[:place], *x.shape[place + 1 :]))

    def moveaxis(self, x: Tensor, source: int, target: int) -> Tensor:
        """Move one axis to another place."""
        rank = len(x.shape)
        order = [a for a in range(rank) if a != source % rank]
        order.insert(target % rank, source % rank)
        return self.permute_dims(x, axes=tuple(order))

    def stack(self, arrays: Any, axis: int = 0) -> Tensor:
        """Join arrays along a new axis."""
        return self.concat([self.expand_dims(a, axis) for a in arrays], axis=axis)

    def concat(self, arrays: Any, *more: Any, axis: int = 0) -> Tensor:
        """Join arrays along an existing axis; takes a sequence (array API) or the arrays themselves."""
        joined = (arrays, *more) if isinstance(arrays, Tensor) else tuple(arrays)
        return apply(SPECS["concat"], joined, {"axis": axis})

    def alias(self, x: Tensor) -> Tensor:
        """Return the same values as another tensor that gradients pass through."""
        return apply(SPECS["reshape"], (x,), {"shape": x.shape})

    # Array-API spellings that take as positional what is an attribute of ours.

    def reshape(self, x: Tensor, shape: Any) -> Tensor:
        """Give another shape."""
        return apply(SPECS["reshape"], (x,), {"shape": tuple(shape) if not isinstance(shape, int) else (shape,)})

    def broadcast_to(self, x: Tensor, shape: Any) -> Tensor:
        """Repeat to a shape."""
        return apply(SPECS["broadcast_to"], (x,), {"shape": tuple(shape)})

    def permute_dims(self, x: Tensor, axes: Any) -> Tensor:
        """Put the axes in another order."""
        return apply(SPECS["permute_dims"], (x,), {"axes": tuple(axes)})

    def astype(self, x: Tensor, dtype: Any) -> Tensor:
        """Convert to a dtype."""
        return x if x.dtype == dtype else apply(SPECS["astype"], (x,), {"dtype": np.dtype(dtype)})


def _tensor_function(spec: KernelSpec) -> Any:
    def function(*values: Any, **attrs: Any) -> Any:
        for value in values:
            if not isinstance(value, Tensor):
                break
        else:
            return apply(spec, values, attrs)
        for value in values:
            if isinstance(value, Tensor):
                break
        else:
            value = tensor(values[0]) if values else None
            values = (value, *values[1:])
        like = value
        for v in values:  # a number takes the dtype of the first floating tensor
            if isinstance(v, Tensor) and is_floating(v.dtype):
                like = v
                break
        return apply(spec, tuple([as_tensor(v, like) for v in values]), attrs)

    function.__name__ = function.__qualname__ = spec.name
    function.__doc__ = spec.reference.__doc__
    function.__kwdefaults__ = None
    return function


_OPERATIONS: dict[Device, TensorOperations] = {}


def tensor_operations(device: Device) -> TensorOperations:
    """Return the operations on Tensors of a device."""
    found = _OPERATIONS.get(device)
    if found is None:
        found = _OPERATIONS[device] = TensorOperations(device)
    return found


tape.HANDED.tensor_operations = tensor_operations
