"""The narrow part of CuPy that the backend uses, over host memory: a device for machines without one.

Kernels are those of the `.cu` files, built for this CPU (`host_build`). The emulator refuses what CuPy refuses while a
stream is being captured, poisons memory that is new or freed, finds writes beyond a buffer and replays of graphs whose
memory was given back, and counts launches.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from emulated_memory import (
    FRESH,
    CUDARuntimeError,
    EmulatorError,
    MemoryPointer,
    State,
    alloc,
    learn,
)
from host_build import ORDERS, HostModule


def stream() -> Stream:
    """Return the stream in force."""
    return State.current if State.current is not None else NULL


def _refuse_capture(what: str) -> None:
    if stream().capturing:
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while the stream is captured")


# -- arrays ------------------------------------------------------------------------------------------------------------


class Flags:
    def __init__(self, flags: Any) -> None:
        self.c_contiguous = flags.c_contiguous
        self.f_contiguous = flags.f_contiguous
        self.forc = flags.forc
        self.owndata = False


class ndarray:  # noqa: N801  (CuPy's name)
    """An array in device memory."""

    __array_priority__ = 100
    __array_ufunc__ = None

    def __init__(
        self, shape: Any = (), dtype: Any = float, memptr: Any = None, strides: Any = None, order: str = "C"
    ) -> None:
        shape = (shape,) if isinstance(shape, int | np.integer) else tuple(int(n) for n in shape)
        dtype = np.dtype(dtype)
        self._pointer = memptr if memptr is not None else alloc(prod(shape) * dtype.itemsize)
        block = self._pointer.mem.allocation.inside
        self._host = np.ndarray(shape, dtype, block.data if block.size else b"", self._pointer.start, strides, order)
        self.base: ndarray | None = None

    @classmethod
    def _view(cls, source: ndarray, host: np.ndarray) -> ndarray:
        made = object.__new__(cls)
        offset = host.ctypes.data - source._pointer.mem.ptr if host.size else 0
        made._pointer = MemoryPointer(source._pointer.mem, offset)
        made._host = host
        made.base = source if source.base is None else source.base
        return made

    # what it is
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    strides = property(lambda self: self._host.strides)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: Flags(self._host.flags))
    T = property(lambda self: ndarray._view(self, self._host.T))
    mT = property(lambda self: ndarray._view(self, self._host.mT))  # noqa: N815
    data = property(lambda self: self._pointer)
    device = property(lambda self: Device(0))

    def __len__(self) -> int:
        return len(self._host)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a "
                        "NumPy array explicitly.")

    # between host and device
    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        if blocking:
            _refuse_capture("reading on the host")
            at = globals()["stream"]()
            State.use(at, [self._pointer.mem.allocation.number], "reading on the host")
            learn(State.waited, at.knows)
            State.catch_up()
            State.deliver()
            State.synchronizations += 1
        if out is None:
            return self._host.copy(order=order)
        out[...] = self._host
        return out

    def set(self, array: np.ndarray, stream: Any = None) -> None:
        _refuse_capture("copying from the host")
        State.catch_up()
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(f"shape or dtype mismatch: {array.shape} {array.dtype}, {self.shape} {self.dtype}")
        self._host[...] = array

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    __index__ = __int__

    # views
    def __getitem__(self, key: Any) -> ndarray:
        if _advanced(key):
            return call_library("getitem", lambda a, *k: a[_rebuild(key, k)], self, *_keys(key))
        return ndarray._view(self, _at(self._host, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        place = ndarray._view(self, _at(self._host, key)) if not _advanced(key) else None
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        if place is None:
            raise EmulatorError("assignment through an index array is not part of the emulated CuPy")
        call_library("copy", lambda d, v: np.copyto(d, v, casting="unsafe"), place, value, out=place)

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        try:
            return ndarray._view(self, np.reshape(self._host, shape, copy=False))
        except ValueError:
            if prod(shape) != self.size and -1 not in tuple(np.atleast_1d(shape)):
                raise
            return call_library("copy", lambda a: a.copy(), self).reshape(shape)

    def ravel(self) -> ndarray:
        return self.reshape(-1)

    def transpose(self, *axes: Any) -> ndarray:
        return ndarray._view(self, self._host.transpose(*axes))

    def view(self, dtype: Any = None) -> ndarray:
        return ndarray._view(self, self._host if dtype is None else self._host.view(dtype))

    def squeeze(self, axis: Any = None) -> ndarray:
        return ndarray._view(self, self._host.squeeze(axis))

    # computing
    def astype(self, dtype: Any, order: str = "K", casting: Any = None, copy: bool = True) -> ndarray:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return call_library("astype", lambda a: a.astype(dtype), self)

    def copy(self, order: str = "C") -> ndarray:
        return call_library("copy", lambda a: a.copy(order="C"), self)

    def fill(self, value: Any) -> None:
        call_library("fill", lambda d: d.fill(value), self, out=self)

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        _refuse_capture("exporting")
        State.catch_up()
        State.waits.append((stream, globals()["stream"]().ptr))  # the consumer waits for the stream in force
        if self.dtype.kind == "V":
            return Capsule(self._host)  # CuPy shares bfloat16, NumPy does not
        return (self._host.copy() if copy else self._host).__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __repr__(self) -> str:
        return f"device {self._host!r}"

    __hash__ = None  # type: ignore[assignment]


class Capsule:
    """What is shared where NumPy has no capsule for it."""

    def __init__(self, host: np.ndarray) -> None:
        self.host = host


def _advanced(key: Any) -> bool:
    return any(isinstance(k, ndarray | np.ndarray | list) for k in (key if isinstance(key, tuple) else (key,)))


def _at(host: np.ndarray, key: Any) -> np.ndarray:
    keys = key if isinstance(key, tuple) else (key,)
    return host[(*keys, ...)] if Ellipsis not in [k for k in keys if k is Ellipsis] else host[keys]


def _keys(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _rebuild(key: Any, values: tuple[Any, ...]) -> Any:
    return tuple(values) if isinstance(key, tuple) else values[0]


def _unwrap(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)(_unwrap(v) for v in value)
    return value


def _put(host: np.ndarray) -> ndarray:
    made = ndarray(host.shape, host.dtype)
    made._host[...] = host
    return made


def _place(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(_place(r) for r in result)
    return _put(np.asarray(result))


def call_library(name: str, function: Any, *inputs: Any, out: ndarray | None = None) -> Any:
    """Run one of CuPy's own kernels: at once, or as a node of the graph that is being captured."""
    at = stream()
    State.catch_up()
    if not at.capturing:
        arrays = [v for v in (*inputs, out) if isinstance(v, ndarray)]
        State.use(at, [v._pointer.mem.allocation.number for v in arrays], name)
    if out is None or not at.capturing:
        for value in (*inputs, *(() if out is None else (out,))):
            if isinstance(value, ndarray):
                _need_alive(name, _address(value))
        # nothing runs while a stream is captured: zeros tell the form of the result
        hosts = [_unwrap(v) if not at.capturing else _zeros(_unwrap(v)) for v in inputs]
        with np.errstate(all="ignore"):
            result = function(*hosts)
    made = out if out is not None else _place(result)
    if at.capturing:
        for target in made if out is None and isinstance(made, tuple) else (made,) if out is None else ():
            target._pointer.mem.allocation.inside[:] = FRESH  # nothing has run yet
        targets = made if isinstance(made, tuple) else (made,)
        touched = [v for v in inputs if isinstance(v, ndarray)] + list(targets)
        hosts = [_unwrap(v) for v in inputs]

        written = out is not None

        def again() -> None:
            with np.errstate(all="ignore"):
                values = function(*hosts)
            if not written:
                for target, value in zip(targets, values if isinstance(values, tuple) else (values,), strict=True):
                    target[0][...] = value

        # a graph holds addresses, not arrays: views of the memory, no reference to its owner
        targets = [(np.ndarray(t.shape, t.dtype, t._pointer.mem.allocation.inside.data, t._pointer.start, t.strides),)
                   for t in targets]
        at.nodes.append(Node(name, again, [_address(t) for t in touched]))
    State.launches[f"cupy.{name}"] += 1
    return made


def run_library(name: str, work: Any, pointers: list[int]) -> None:
    """Run work of a library that takes addresses: at once, or as a node of the graph that is being captured."""
    touched = []
    for pointer in pointers:
        allocation = State.find(pointer)
        if allocation is None:
            raise EmulatorError(f"{name} was given an address outside of any buffer")
        touched.append((allocation.number, allocation.ptr))
    State.launches[name] += 1
    if stream().capturing:
        stream().nodes.append(Node(name, work, touched))
    else:
        State.use(stream(), [number for number, _ in touched], name)
        State.catch_up()
        work()


def _address(array: ndarray) -> tuple[int, int]:
    allocation = array._pointer.mem.allocation
    return allocation.number, allocation.ptr


def _zeros(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_zeros(v) for v in value)
    return np.zeros_like(value) if isinstance(value, np.ndarray) else value


def _need_alive(name: str, touched: tuple[int, int]) -> None:
    allocation = State.allocations.get(touched[0])
    if allocation is None or not allocation.alive:
        raise EmulatorError(f"{name} uses memory that was given back")


def _operator(name: str) -> Any:
    function = getattr(np.ndarray, name)

    def operate(self: ndarray, other: Any = None) -> Any:
        if isinstance(other, np.ndarray) and other.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        if other is None:
            return call_library(name, lambda a: function(a), self)
        return call_library(name, lambda a, b: function(a, b) if function(a, b) is not NotImplemented
                            else NotImplemented, self, other)

    return operate


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "radd", "rsub", "rmul", "rtruediv", "rpow",
              "and", "or", "xor", "lshift", "rshift", "lt", "le", "gt", "ge", "eq", "ne", "rand", "ror"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("neg", "abs", "invert", "pos"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("sum", "mean", "max", "min", "all", "any", "argmax", "argmin", "std", "var", "cumsum", "prod", "clip"):
    def _method(self: ndarray, *args: Any, _name: str = _name, **kwargs: Any) -> Any:
        return call_library(_name, lambda a: np.asarray(getattr(a, _name)(*args, **kwargs)), self)
    setattr(ndarray, _name, _method)


# -- streams, events, graphs -------------------------------------------------------------------------------------------


class Node:
    """A launch in a graph: what to run and which allocations it touches, by number and address."""

    def __init__(self, name: str, run: Any, touched: list[tuple[int, int]]) -> None:
        self.name = name
        self.run = run
        self.touched = touched


class Stream:
    """A queue of work; here everything runs at once, or is written down while it is captured."""

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.null_stream = null
        self.non_blocking = non_blocking
        self.nodes: list[Node] = []
        self.capturing = False
        self.ptr = 0 if null else id(self)
        self._before: list[Any] = []
        self.number = State.take()
        self.knows: dict[int, int] = {}  # stream -> until when this one has waited for it

    def __enter__(self) -> Stream:
        self._before.append(State.current)
        State.current = self
        return self

    def __exit__(self, *_: object) -> None:
        State.current = self._before.pop()

    def use(self) -> Stream:
        State.current = self
        return self

    def begin_capture(self, mode: Any = None) -> None:
        if self.null_stream:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.capturing:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is captured already")
        self.nodes = []
        self.capturing = True

    def end_capture(self) -> Graph:
        if not self.capturing:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream is not captured")
        self.capturing = False
        nodes, self.nodes = self.nodes, []
        return Graph(nodes)

    def is_capturing(self) -> bool:
        return self.capturing

    def synchronize(self) -> None:
        if self.capturing:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: not permitted when stream is capturing")
        State.catch_up()
        learn(State.waited, self.knows)
        State.deliver()
        State.synchronizations += 1

    def record(self, event: Any = None) -> Any:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        learn(self.knows, event.knows)

    @property
    def done(self) -> bool:
        return True


class Graph:
    """A captured list of launches."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        # what was given back and taken again within the capture is in order; what is taken after it is not
        self.touched = {}
        for node in nodes:
            for _, ptr in node.touched:
                allocation = State.find(ptr)
                if allocation is None:
                    raise EmulatorError(f"{node.name} in a graph uses memory that was given back")
                self.touched[allocation.number] = (allocation, node.name)

    def launch(self, stream: Any = None) -> None:
        State.use(stream, self.touched, "a graph")
        State.catch_up()
        for number, (allocation, name) in self.touched.items():
            if State.allocations.get(number) is not allocation or not (allocation.alive or not allocation.shared):
                raise EmulatorError(f"{name} in a graph uses memory that was given back")
        for node in self.nodes:
            node.run()
        State.launches["graph"] += 1

    def upload(self, stream: Any = None) -> None:
        """Nothing to do."""


class Event:
    """A mark in a stream."""

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.knows: dict[int, int] = {}
        self.asked = 0
        self.behind = -1  # how often the device had caught up when copies that are before this were waiting

    @property
    def done(self) -> bool:
        """Whether all before it is done: what goes to the host is so when somebody asks for the second time."""
        if not any(self.knows.get(copy.stream, 0) >= copy.when for copy in State.leaving):
            return State.caught_up > self.behind
        self.asked += 1
        if self.asked <= State.refusals:
            return False
        learn(State.waited, self.knows)
        State.deliver()
        return True

    def record(self, stream: Any = None) -> None:
        self.asked = 0
        self.behind = State.caught_up if State.pending else -1
        self.knows = dict((globals()["stream"]() if stream is None else stream).knows)

    def synchronize(self) -> None:
        _refuse_capture("waiting for an event")
        State.catch_up()
        learn(State.waited, self.knows)
        State.deliver()
        State.synchronizations += 1


NULL = Stream(null=True)


# -- modules and kernels -----------------------------------------------------------------------------------------------


class Function:
    """One kernel of a module."""

    def __init__(self, module: HostModule, name: str) -> None:
        self.module = module
        self.name = name

    def __call__(
        self, grid: Any, block: Any, args: Any, shared_mem: int = 0, stream: Any = None, **options: Any
    ) -> None:
        cells: list[Any] = []
        touched = []
        for value in args:
            if isinstance(value, ndarray):
                touched.append(_address(value))
                cells.append(np.uint64(value.data.ptr))
            elif isinstance(value, np.generic):
                cells.append(value)
            else:
                raise TypeError(f"{self.name}: arguments are arrays or NumPy scalars; got {type(value).__name__}")
        threads = prod(block)
        if not 0 < threads <= 1024 or any(n < 1 for n in (*grid, *block)) or max(grid[1:], default=1) > 65535:
            raise CUDARuntimeError(f"cudaErrorInvalidConfiguration: {self.name} grid {grid} block {block}")
        at = globals()["stream"]() if stream is None else stream

        def run() -> None:
            State.catch_up()
            State.turn += 1
            order = tuple(ORDERS)[State.turn % len(ORDERS)] if State.order == "turns" else State.order
            self.module.launch(self.name, grid, block, cells, shared_mem, order, State.turn)
            for allocation in allocations:
                allocation.check()

        allocations = [State.allocations[number] for number, _ in touched if number in State.allocations]
        for place in touched:
            _need_alive(self.name, place)
        State.launches[self.name] += 1
        if at.capturing:
            at.nodes.append(Node(self.name, run, touched))
        else:
            State.use(at, [number for number, _ in touched], self.name)
            run()


class Module:
    """Loaded code: under emulation what `load` gets is the source."""

    def __init__(self) -> None:
        self._module: Any = None

    def load(self, code: bytes) -> None:
        if code not in State.modules:
            State.modules[code] = HostModule(code.decode())
        self._module = State.modules[code]

    def get_function(self, name: str) -> Function:
        if name not in self._module.names:
            raise CUDARuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")
        return Function(self._module, name)


class Device:
    """The emulated device."""

    def __init__(self, number: int = 0) -> None:
        self.id = number

    @property
    def compute_capability(self) -> str:
        return str(State.capability)

    @property
    def mem_info(self) -> tuple[int, int]:
        return State.limit - State.used, State.limit

    def use(self) -> None:
        """There is one."""

    def synchronize(self) -> None:
        stream().synchronize()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        return None
