"""The modules that ``import cupy`` finds under emulation."""

from __future__ import annotations

import sys
import types
from contextlib import contextmanager
from typing import Any

import numpy as np
from emulated_cupy import (
    Capsule,
    Device,
    Event,
    Function,
    Graph,
    Module,
    Stream,
    _place,
    _put,
    _refuse_capture,
    _unwrap,
    call_library,
    ndarray,
    stream,
)
from emulated_memory import (
    POOL,
    CUDARuntimeError,
    MemoryPointer,
    MemoryPool,
    OutOfMemoryError,
    State,
    UnownedMemory,
    alloc,
    empty_pinned,
    using_allocator,
)

# What runs cuBLAS, which CuPy refuses while a stream is captured.
LIBRARY_REFUSED = ("matmul", "dot", "tensordot", "vdot", "inner", "einsum", "linalg")


def _function(name: str) -> Any:
    inner = getattr(np, name)

    def call(*inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if name in LIBRARY_REFUSED and stream().capturing:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        where = [i for i, v in enumerate(inputs) if isinstance(v, ndarray | list | tuple)]
        named = {key: _unwrap(value) for key, value in kwargs.items()}
        return call_library(
            name, lambda *v: inner(*v, **named, **({} if out is None else {"out": out._host})), *inputs, out=out
        ) if where or kwargs or inputs else _place(inner())

    return call


def asarray(values: Any, dtype: Any = None, **_: Any) -> ndarray:
    if isinstance(values, ndarray):
        return values if dtype is None or values.dtype == dtype else values.astype(dtype)
    _refuse_capture("copying from the host")
    return _put(np.asarray(values, dtype))


def array(values: Any, dtype: Any = None, copy: bool = True, **_: Any) -> ndarray:
    if isinstance(values, ndarray):
        return values.astype(dtype or values.dtype)
    return asarray(values, dtype)


_VIEWS = {
    "reshape", "permute_dims", "broadcast_to", "expand_dims", "squeeze", "swapaxes", "moveaxis", "matrix_transpose",
}  # fmt: skip


def _viewing(name: str) -> Any:
    def call(x: ndarray, *args: Any, **kwargs: Any) -> ndarray:
        if name == "reshape":
            return x.reshape(kwargs.get("shape", args[0] if args else ()))
        return ndarray._view(x, getattr(np, name)(x._host, *args, **kwargs))

    return call


def build() -> dict[str, types.ModuleType]:
    """Return the modules by name, as `sys.modules` holds them."""
    State.reset()
    POOL.free.clear()
    cupy = types.ModuleType("cupy")
    cuda = types.ModuleType("cupy.cuda")
    runtime = types.ModuleType("cupy.cuda.runtime")
    function = types.ModuleType("cupy.cuda.function")
    cupyx = types.ModuleType("cupyx")

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _VIEWS:
            return _viewing(name)
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found
        return _function(name)

    cupy.__getattr__ = attribute  # type: ignore[method-assign]
    cupy.ndarray, cupy.asarray, cupy.array = ndarray, asarray, array
    cupy.asnumpy = lambda x, **k: x.get(**k) if isinstance(x, ndarray) else np.asarray(x)
    cupy.empty = lambda shape, dtype=float, order="C": ndarray(shape, dtype)
    cupy.zeros = lambda shape, dtype=float, **_: _filled(shape, dtype, 0)
    cupy.ones = lambda shape, dtype=float, **_: _filled(shape, dtype, 1)
    cupy.full = lambda shape, value, dtype=None, **_: _filled(shape, dtype or np.asarray(value).dtype, value)
    cupy.zeros_like = lambda x, dtype=None, **_: _filled(x.shape, dtype or x.dtype, 0)
    cupy.ones_like = lambda x, dtype=None, **_: _filled(x.shape, dtype or x.dtype, 1)
    cupy.from_dlpack = _from_dlpack
    cupy.get_default_memory_pool = lambda: POOL
    cupy.arange = lambda *a, dtype=None, **_: call_library("arange", lambda: np.arange(*a, dtype=dtype))
    cupy.__version__ = "14.2.0"
    for name, value in {
        "Stream": Stream, "Event": Event, "Graph": Graph, "MemoryPool": MemoryPool, "MemoryPointer": MemoryPointer,
        "UnownedMemory": UnownedMemory,
        "Device": Device, "alloc": alloc, "using_allocator": using_allocator, "get_current_stream": stream,
        "is_available": lambda: State.devices > 0, "runtime": runtime, "function": function,
    }.items():
        setattr(cuda, name, value)
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError)
    cuda.get_elapsed_time = lambda start, end: 0.0
    runtime.CUDARuntimeError = CUDARuntimeError
    runtime.getDeviceCount = _device_count
    runtime.driverGetVersion = lambda: 12090 if State.devices else 0
    runtime.runtimeGetVersion = lambda: 12090
    runtime.getDeviceProperties = lambda n: {
        "name": b"Emulated device", "multiProcessorCount": 4, "major": State.capability // 10,
        "minor": State.capability % 10, "totalGlobalMem": State.limit,
    }
    runtime.memGetInfo = lambda: (State.limit - State.used, State.limit)
    function.Module, function.Function = Module, Function
    cupyx.empty_pinned = empty_pinned
    cupyx.zeros_pinned = lambda shape, dtype=float, order="C": np.zeros(shape, dtype)
    cupy.cuda = cuda
    return {
        "cupy": cupy, "cupy.cuda": cuda, "cupy.cuda.runtime": runtime, "cupy.cuda.function": function, "cupyx": cupyx,
    }


class _AsHost:
    """Hands a capsule on as memory of the host, which that of the emulated device is."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def _from_dlpack(values: Any, **_: Any) -> ndarray:
    if values.__dlpack_device__()[0] != 2:
        raise BufferError("CPU arrays cannot be directly imported to CuPy. Use `cupy.array(numpy.from_dlpack(input))`.")
    capsule = values.__dlpack__(stream=stream().ptr, max_version=(1, 0))
    return _put(capsule.host if isinstance(capsule, Capsule) else np.from_dlpack(_AsHost(capsule)))


def _device_count() -> int:
    if not State.devices:
        raise CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
    return State.devices


def _filled(shape: Any, dtype: Any, value: Any) -> ndarray:
    made = ndarray(shape, dtype)
    made.fill(value)
    return made


_EMULATED: dict[str, types.ModuleType] = {}  # what the tests of the backend find, between them


def _concerned() -> dict[str, types.ModuleType]:
    """Return the modules that are others under emulation."""
    roots = ("cupy", "cupyx", "deepbabysit_cupy")
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] in roots}


def _replace(modules: dict[str, types.ModuleType]) -> None:
    for name in _concerned():
        del sys.modules[name]
    sys.modules.update(modules)


def install() -> Any:
    """Put the emulated modules where ``import cupy`` finds them, until the test ends; returns the device's state."""
    _EMULATED.update(build())
    _replace(_EMULATED)
    return State


@contextmanager
def in_place() -> Any:
    """Have the emulated modules, once they are installed, in place for one test and out of the way after it."""
    before = _concerned()
    if _EMULATED:
        _replace(_EMULATED)
    try:
        yield
    finally:
        if _EMULATED:
            _EMULATED.update(_concerned())
            _replace(before)
