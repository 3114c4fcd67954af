"""The backend object: CuPy arrays on one GPU, one stream, and the table of kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from math import prod
from typing import Any, cast
from weakref import WeakSet

import numpy as np

from deepbabysit.kernels.spec import Array, Shape
from deepbabysit.runtime.arrival import Arrival
from deepbabysit.runtime.backend import Arena, Backend
from deepbabysit.runtime.sharing import DLPACK_CUDA
from deepbabysit_cupy import compiler
from deepbabysit_cupy import dnn as convolutions
from deepbabysit_cupy.arena import StaticArena
from deepbabysit_cupy.capture import program
from deepbabysit_cupy.kernels import KERNELS
from deepbabysit_cupy.launch import Library
from deepbabysit_cupy.lt import WORKSPACE, Lt
from deepbabysit_cupy.staging import Staging
from deepbabysit_cupy.tuning import Tuning

BLOCKS_PER_PROCESSOR = 16  # enough waves that the last one costs little; kernels loop over what is left
DATA_SHARE = 0.25  # of the free memory that the data of a training may take


class _InForce(threading.local):
    """The backend whose GPU and stream CuPy uses in this thread."""

    backend: Any = None


_IN_FORCE = _InForce()


class _Held(threading.local):
    """What this thread writes from the host while that is collected."""

    writes: list[tuple[Array, np.ndarray]] | None = None


class CupyBackend(Backend):
    """CuPy arrays on one GPU.

    All work goes to one stream of its own, since the default stream cannot be captured; CuPy's calls in threads that
    use this backend go there, too.

    Arguments:
        number: the GPU's number.

    Attributes:
        merging: whether small launches of a captured step are merged.
        tuning: what was chosen by timing; None before the first product.
    """

    name = "cupy"
    eager_replays = 0
    divides = False  # a buffer's place follows from all calls that use it

    def __init__(self, number: int) -> None:
        import cupy

        self.xp = cupy
        self.kernels = KERNELS
        self.number = number
        self.merging = True
        self.program = program
        self.hold = self._hold
        self.fetch = self._fetch
        self.memory = self._memory
        self.adopt = self._adopt
        self.share = self._share
        self.keeps = self._keeps
        with cupy.cuda.Device(number) as device:
            architecture = compiler.nearest(int(device.compute_capability))
            self.library = Library(cupy, architecture, self.enter)
            properties = cupy.cuda.runtime.getDeviceProperties(number)
            self.most_blocks = int(properties["multiProcessorCount"]) * BLOCKS_PER_PROCESSOR
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self._lt: Lt | None = None
        self.tuning: Tuning | None = None
        self._dnn: convolutions.Dnn | convolutions.DnnUnavailable | None = None
        self.choices = self._choices
        self.remarks = self._remarks
        self._staging = Staging(cupy)
        self._held = _Held()
        self._arenas: WeakSet[StaticArena] = WeakSet()
        self._workspace: Any = None

    def enter(self) -> None:
        """Make this GPU and its stream those that CuPy uses in this thread."""
        if _IN_FORCE.backend is not self:
            self.xp.cuda.Device(self.number).use()
            self.stream.use()
            _IN_FORCE.backend = self

    @property
    def lt(self) -> Lt:
        """The matrix library, opened when the first product is asked for."""
        if self.library.hear is not None:
            self.library.hear(None)
        if self._lt is None:
            self._workspace = self.xp.cuda.alloc(WORKSPACE)
            self._lt = Lt(self._workspace.ptr)
            self.tuning = Tuning(self, self._lt.version)
            self._lt.choose = self.tuning.choose
        return self._lt

    def chooser(self) -> Tuning:
        """Return who chooses by timing; opened with the matrix library, to whose version the choices belong."""
        _ = self.lt
        return cast(Tuning, self.tuning)

    @property
    def dnn(self) -> convolutions.Dnn:
        """The library for convolutions, opened when a choice by timing asks for it.

        Raises:
            DnnUnavailable: it cannot be used; asked once.
        """
        if self.library.hear is not None:
            self.library.hear(None)
        if self._dnn is None:
            self.enter()
            try:
                self._dnn = convolutions.Dnn(self.stream.ptr)
            except convolutions.DnnUnavailable as reason:
                self._dnn = reason
        if isinstance(self._dnn, convolutions.DnnUnavailable):
            raise self._dnn
        return self._dnn

    def _remarks(self) -> list[str]:
        """Say who does convolutions."""
        try:
            return [f"{convolutions.version()}: convolutions where compile(tune=True) finds it faster"]
        except convolutions.DnnUnavailable as reason:
            return [f"our own kernels do all convolutions: {reason}"]

    def _choices(self) -> dict[str, Any]:
        """Return what was chosen by timing in this process."""
        return {} if self.tuning is None else self.tuning.record()

    @cached_property
    def ticket(self) -> Array:
        """A number that is 0 between launches: blocks of one count there who ends last."""
        return self.asarray(np.zeros(1, np.uint32))

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return a new CuPy array with these values."""
        self.enter()
        if isinstance(values, self.xp.ndarray):
            return values.astype(dtype or values.dtype, copy=True)
        host = np.asarray(values)
        made = self.empty(host.shape, host.dtype if dtype is None else dtype)
        self._send(made, host)
        return made

    def _keeps(self, size: int) -> bool:
        """Tell whether data are small enough to stay on the device beside a training."""
        self.enter()
        return size <= int(self.xp.cuda.runtime.memGetInfo()[0]) * DATA_SHARE

    def _adopt(self, data: Any) -> Array | None:
        """Return a CuPy array over memory of this GPU that another library shares (DLPack), or None.

        The other library is told our stream, which then waits for what it has asked for there.
        """
        ask = getattr(data, "__dlpack_device__", None)
        if self.owns(data) or ask is None:
            return None
        kind, number = ask()
        if kind != DLPACK_CUDA:
            return None
        if number != self.number:
            raise ValueError(
                f"the {type(data).__name__} lies on GPU {number}, the tensor shall lie on cuda:{self.number}; "
                f"write device='cuda:{number}', or move it first"
            )
        self.enter()
        return self.xp.from_dlpack(data)

    def _share(self, array: Array, stream: Any, max_version: Any, dl_device: Any, copy: Any) -> Any:
        """Return the DLPack capsule of an array; the consumer's stream waits for ours."""
        if self.stream.is_capturing():
            raise BufferError("memory of a captured step cannot be shared")
        if dl_device not in (None, (DLPACK_CUDA, self.number)):
            raise BufferError(
                f"this tensor lies on cuda:{self.number}; hand over tensor.numpy() where the host's memory is wanted"
            )
        self.enter()  # CuPy lets the consumer wait for the stream in force
        return array.__dlpack__(stream=stream, max_version=max_version, copy=copy)

    def _send(self, array: Array, values: np.ndarray, copy: Callable[..., None] | None = None) -> None:
        """Copy values of the host into a contiguous array; nobody waits."""
        if self.stream.is_capturing():
            raise RuntimeError("values of the host cannot be part of a captured step")
        (copy or self._staging.copy)(array, np.ascontiguousarray(values, array.dtype), self.stream)

    def to_host(self, array: Array) -> np.ndarray:
        """Return the values as a NumPy array; waits for them."""
        self.enter()
        return np.asarray(array.get())

    def _fetch(self, arrays: Sequence[Array]) -> Arrival:
        """Begin to copy arrays to the host, behind what was asked for so far."""
        self.enter()
        if self.stream.is_capturing():
            raise RuntimeError("values cannot be read while a step is captured")
        ready = [array if array.flags.c_contiguous else array.copy() for array in arrays]
        return self._staging.fetch(ready, self.stream)

    @contextmanager
    def _hold(self) -> Iterator[list[tuple[Array, np.ndarray]]]:
        """Collect what this thread writes from the host in a block."""
        made: list[tuple[Array, np.ndarray]] = []
        self._held.writes = made
        try:
            yield made
        finally:
            self._held.writes = None

    def write(self, array: Array, values: Any) -> None:
        """Copy values into an array."""
        self.enter()
        if isinstance(values, self.xp.ndarray):
            array[...] = values
            return
        host = np.broadcast_to(np.asarray(values, array.dtype), array.shape)
        if self._held.writes is not None:
            self._held.writes.append((array, host.copy()))
        elif array.flags.c_contiguous:
            self._send(array, host, self._staging.bring)
        else:
            array[...] = self.asarray(host)

    def empty(self, shape: Shape, dtype: Any) -> Array:
        """Return an uninitialized buffer from CuPy's pool."""
        self.enter()
        try:
            return self.xp.empty(shape, dtype)
        except self.xp.cuda.memory.OutOfMemoryError:
            self.xp.get_default_memory_pool().free_all_blocks()
        try:
            return self.xp.empty(shape, dtype)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            free, total = self.xp.cuda.runtime.memGetInfo()
            size = prod(shape) * np.dtype(dtype).itemsize
            raise MemoryError(
                f"{size / 2**20:.1f} MiB were asked for, {free / 2**20:.1f} of {total / 2**20:.1f} MiB are free"
            ) from error

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""
        self.stream.synchronize()

    def owns(self, array: Any) -> bool:
        """Tell whether it is a CuPy array."""
        return isinstance(array, self.xp.ndarray)

    def arena(self) -> Arena:
        """Return memory for one recording."""
        self.enter()
        made = StaticArena(self.xp, self.empty)
        self._arenas.add(made)
        return made

    def _memory(self) -> dict[str, int]:
        """Return where the memory is that this process has."""
        pool = self.xp.get_default_memory_pool()
        return {
            "recorded steps": sum(arena.size for arena in self._arenas),
            "pool, in use (the above and data)": int(pool.used_bytes()), "pool, idle": int(pool.free_bytes()),
        }

    def free(self) -> int:
        """Give unused pooled memory back."""
        self.enter()
        self._staging.free()  # the host's memory, which is not counted
        pool = self.xp.get_default_memory_pool()
        before = int(pool.total_bytes())
        pool.free_all_blocks()
        return before - int(pool.total_bytes())
