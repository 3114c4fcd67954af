"""The boundary that backends stand behind: a Backend is an array library and a table of kernels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepbabysit.kernels.spec import Array, Form, Shape
from deepbabysit.runtime.arrival import Arrival


class BackendUnavailable(RuntimeError):
    """A backend is installed and cannot run here; the message is the reason in one sentence."""


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """A fast way to run one operation.

    ``run(ctx, outs, *ins, **attrs)`` writes into the buffers `outs`, allocates nothing that grows with its input except
    the scratch space it declares (``ctx.scratch``), and reads nothing back to the host. With ``view=True`` it is
    ``run(ctx, None, *ins, **attrs)`` and returns a view of its first input.

    Arguments:
        run: the function.
        scratch: ``scratch(in_forms, **attrs)`` -> forms of the scratch arrays it needs.
        dtypes: names of the dtypes that every floating input must have; None means any.
        supports: ``supports(in_forms, **attrs)`` -> False for a combination this kernel leaves to the reference.
        contiguous: whether inputs must be C-contiguous; others are copied first.
        deterministic: whether it gives the same bits run after run.
        capturable: whether it can be part of a recorded step.
        view: whether it returns a view instead of writing.
        variants: faster kernels of the same operation, asked first and in this order; one that does not take the
            inputs (by its `dtypes` and `supports`) leaves them to the next, and in the end to this kernel.
    """

    run: Callable[..., Any]
    scratch: Callable[..., tuple[Form, ...]] | None = None
    dtypes: frozenset[str] | None = None
    supports: Callable[..., bool] | None = None
    contiguous: bool = False
    deterministic: bool = True
    capturable: bool = True
    view: bool = False
    variants: tuple[Kernel, ...] = ()


class Arena:
    """Memory of one recording: buffers whose addresses stay as they are for as long as the recording lives.

    This plain one keeps every buffer alive. A backend may reuse the memory of buffers that have died, since a replay
    repeats the same calls in the same order; then `pin` returns the array in a form that does not keep it alive.
    """

    def __init__(self, empty: Callable[[Shape, Any], Array]) -> None:
        self._empty = empty

    def empty(self, shape: Shape, dtype: Any) -> Array:
        """Return an uninitialized buffer."""
        return self._empty(shape, dtype)

    def pin(self, array: Array) -> Array:
        """Return the array as the recording keeps it."""
        return array

    def held(self) -> int:
        """Return the bytes that the recording has taken so far, as far as that is known."""
        return 0

    def finish(self, calls: list[Any], names: list[str], device: Any) -> list[Any]:
        """Return the calls of a finished recording, improved where possible; `names`: their operations with kernels."""
        return calls

    def late_inputs(self, calls: list[Any], slots: Sequence[Array], results: Sequence[Array]) -> list[Any]:
        """Return, for each input, what lets calls read another array in its place, or None: values are copied."""
        return [None] * len(slots)


class Backend(ABC):
    """An array library and the kernels written for it.

    Attributes:
        name: the name users see (``db.backends()``).
        xp: the array namespace, with array-API names.
        kernels: operation name -> Kernel; what is missing runs as the reference.
        abstract: True when arrays have a shape and no values.
        choices: ``choices()`` returns what was chosen by timing, and by whom, as a run's record keeps it; None where a
            backend has no such choices.
        remarks: ``remarks()`` returns what a user should know of the libraries behind it, a sentence each; None where
            there is nothing to say.
        program: ``program(device, calls)`` runs recorded calls ``(run, outs, ins, scratch)`` once, in order, and
            returns a function that repeats them faster and with the same bits; or returns None and runs nothing. None
            where a backend has no such thing. Where there is `hold`, ``times=n`` says that the calls are `n` times the
            same ones, but for where they read.
        reads: whether programs take inputs: ``program(device, calls, slots=..., late=...)`` is told which arrays are
            written before each run, and which calls read them (`runtime.late`); ``reads(*arrays)`` of what it returns
            is 1 if the next run takes these in their place, ``picks(rows, *arrays)`` if it takes these rows of them.
            ``giver(results)`` of it returns a function that copies results into arrays of their kind, or None. Such
            programs set the mode of `runtime.subnormals` themselves.
        hold: ``with hold() as writes`` collects what this thread writes from the host, as (array, values), in place of
            doing it; None where nothing is gained by several steps at once.
        writer: ``writer(array)`` returns a function that writes numbers into the array, one argument for each element;
            None where `write` is all there is.
        fetch: ``fetch(arrays)`` begins to copy arrays to the host, as they are when the work that was asked for so far
            is done, and waits for nothing; None where `to_host` does not wait.
        adopt: ``adopt(data)`` returns an array over memory of this backend's devices that another library shares by
            DLPack, or None where it is not there; None where a backend takes such data like all others.
        share: ``share(array, stream, max_version, dl_device, copy)`` returns the DLPack capsule of an array, as
            ``__dlpack__`` does; None where the arrays are the host's.
        keeps: ``keeps(size)`` tells whether data of so many bytes shall lie on the device for a whole training; None
            where the host's arrays are as near.
        tf32: whether products of float32 that run now may round their operands to 10 bits (some GPUs are faster so).
        memory: ``memory()`` returns bytes by name: what recorded steps have for themselves, what is in use of the pool
            that everything else lies in (parameters, states, data), and what of it is idle; None on the host.
        divides: whether some calls of a recording can be finished, and all of them replayed as they are, too.
        eager_replays: how often a recording is replayed call by call before a program is asked for; None leaves it to
            what making one costs on a CPU.
    """

    name: str
    xp: Any
    kernels: Mapping[str, Kernel]
    abstract: bool = False
    tf32: bool = False
    divides: bool = True
    reads: bool = False
    eager_replays: int | None = None
    adopt: Callable[[Any], Array | None] | None = None
    share: Callable[[Array, Any, Any, Any, Any], Any] | None = None
    keeps: Callable[[int], bool] | None = None
    memory: Callable[[], dict[str, int]] | None = None
    choices: Callable[[], dict[str, Any]] | None = None
    remarks: Callable[[], Sequence[str]] | None = None
    program: Callable[..., Callable[[], None] | None] | None = None
    fetch: Callable[[Sequence[Array]], Arrival] | None = None
    hold: Callable[[], AbstractContextManager[list[tuple[Array, np.ndarray]]]] | None = None
    writer: Callable[[Any], Callable[..., None]] | None = None

    @abstractmethod
    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return a new array of this backend with these values (always a copy)."""

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray:
        """Return the values as a NumPy array; waits for them."""

    @abstractmethod
    def write(self, array: Array, values: np.ndarray) -> None:
        """Copy values from the host into an existing array of the same shape."""

    @abstractmethod
    def empty(self, shape: Shape, dtype: Any) -> Array:
        """Return an uninitialized buffer (pooled where that helps)."""

    @abstractmethod
    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""

    @abstractmethod
    def owns(self, array: Any) -> bool:
        """Tell whether an array is of this backend's type."""

    @abstractmethod
    def arena(self) -> Arena:
        """Return fresh memory for one recording."""

    @abstractmethod
    def free(self) -> int:
        """Give unused pooled memory back; returns the number of bytes."""
