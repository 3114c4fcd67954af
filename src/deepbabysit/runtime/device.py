"""A Device: a place where arrays live, bound to one backend when it is opened."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from deepbabysit.kernels.namespace import Namespace
from deepbabysit.kernels.spec import Array, Shape
from deepbabysit.runtime.arrival import Arrival, Arrived
from deepbabysit.runtime.backend import Backend
from deepbabysit.runtime.context import current

if TYPE_CHECKING:
    from deepbabysit.runtime.funnel import Plan

_CONSTANTS_KEPT = 1024


class Device:
    """A place where arrays live and operations run: ``cpu``, ``cpu:reference``, ``cuda:0``.

    Attributes:
        name: what users write.
        backend: the backend that runs here.
        namespace: its array library, completed with our primitives; references are called with it.
        misses: operation name -> how often its reference ran because there was no kernel.
    """

    def __init__(self, name: str, backend: Backend) -> None:
        self.name = name
        self.backend = backend
        self.namespace = Namespace(backend.xp)
        self.plans: dict[Any, Plan] = {}
        self.misses: Counter[str] = Counter()
        self._own = threading.local()
        self.abstract = backend.abstract
        self._constants: dict[Any, Array] = {}

    @property
    def scratch(self) -> tuple[Array, ...]:
        """The arrays that the kernel running in this thread asked for."""
        return getattr(self._own, "scratch", ())

    @scratch.setter
    def scratch(self, arrays: tuple[Array, ...]) -> None:
        self._own.scratch = arrays

    def __deepcopy__(self, memo: Any) -> Device:
        """Return the device itself: copies of what lives here live here too."""
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "tensors and optimizers are not pickled; save a model with model.save(path) and read it with "
            "db.load_model(path), hand a tensor over as tensor.numpy()"
        )

    def __repr__(self) -> str:
        return f"Device({self.name!r}, {self.backend.name})"

    def __str__(self) -> str:
        return self.name

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return a new array on this device with these values."""
        return self.backend.asarray(values, dtype)

    def write(self, array: Array, values: np.ndarray) -> None:
        """Copy values from the host into an existing array."""
        self.backend.write(array, values)

    def writer(self, array: Array) -> Callable[..., None]:
        """Return a function that writes numbers into an array without axes or with one: ``write(1.0, 2.0)``."""
        make = self.backend.writer
        if make is not None:
            return make(array)
        dtype = array.dtype
        return lambda *numbers: self.backend.write(array, np.array(numbers, dtype))

    def to_host(self, array: Array) -> np.ndarray:
        """Return the values as a NumPy array."""
        return self.backend.to_host(array)

    def fetch(self, arrays: Sequence[Array]) -> Arrival:
        """Return the values of arrays as they are now, some time later where a device has to come to it first."""
        fetch = self.backend.fetch
        return Arrived([self.to_host(array) for array in arrays]) if fetch is None else fetch(arrays)

    def empty(self, shape: Shape, dtype: Any) -> Array:
        """Return an uninitialized buffer, from the recording's memory while one is made."""
        recorder = current().recorder
        return self.backend.empty(shape, dtype) if recorder is None else recorder.arena.empty(shape, dtype)

    def constant(self, value: Any, dtype: Any) -> Array:
        """Return a Python number as an array without axes, a tuple of them as a row; the same one each time."""
        # 0.0 equals -0.0, and 1 / x tells them apart
        key = (value, type(value), dtype) if value else (repr(value), type(value), dtype)
        found = self._constants.get(key)
        if found is None:
            if len(self._constants) >= _CONSTANTS_KEPT:
                del self._constants[next(iter(self._constants))]
            found = self.backend.asarray(value, dtype)
            self._constants[key] = found
        return found

    def constants(self) -> list[Array]:
        """Return what `constant` has made and keeps: who stores addresses of it has to keep it longer."""
        return list(self._constants.values())

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""
        self.backend.synchronize()
