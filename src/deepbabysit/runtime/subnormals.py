"""Numbers too small for full speed count as 0 while a network trains on the CPU.

Below the smallest normal number (1.2e-38 in float32, 2.2e-308 in float64) processors compute up to a hundred times
slower. A long training ends there: gradients of a loss near 0, Adam's moments of units that no longer move. In training
steps (`fit`, recorded steps, ``backward()``, ``optimizer.step()``, ``db.training()``) this thread therefore reads and
writes such numbers as 0, in NumPy and in compiled kernels alike, as XLA does. It is the processor's own mode: it costs
a microsecond for a step, and what was in force before comes back after it. Threads of BLAS keep their own.

Where the mode cannot be set (other systems than Linux on x86-64 and ARM64) nothing changes.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy as np

# (system, machine) -> place of the control word in C's fenv_t, counted in 32 bits, and the bits of the mode
_LAYOUTS = {
    ("linux", "x86_64"): (7, 0x8040),  # MXCSR: flush to zero, denormals are zero
    ("linux", "aarch64"): (0, 1 << 24),  # FPCR: FZ
}
_WORDS = 16


class _Room(threading.local):
    """Memory of this thread for one fenv_t."""

    def __init__(self) -> None:
        self.words = (ctypes.c_uint32 * _WORDS)()
        self.address = ctypes.addressof(self.words)


_ROOM = _Room()


class _Mode:
    """The processor's mode as the C library gives and takes it."""

    def __init__(self, place: int, bits: int) -> None:
        library: Any = ctypes.CDLL(None)
        self.get, self.put = library.fegetenv, library.fesetenv
        for function in (self.get, self.put):
            function.argtypes = [ctypes.c_void_p]
        self.place = place
        self.bits = bits

    def on(self) -> bool:
        """Tell whether the mode is set in this thread."""
        room = _ROOM
        self.get(room.address)
        return room.words[self.place] & self.bits == self.bits

    def enter(self) -> int | None:
        """Set the mode; return the word to go back to, or None where it was set already."""
        room = _ROOM
        self.get(room.address)
        before = room.words[self.place]
        if before & self.bits == self.bits:
            return None
        room.words[self.place] = before | self.bits
        self.put(room.address)
        return before

    def leave(self, before: int) -> None:
        """Go back; the other words are those of the last `enter` of this thread, and nobody changes them."""
        room = _ROOM
        room.words[self.place] = before
        self.put(room.address)


@cache
def _mode() -> _Mode | None:
    """Return the mode, or None where it cannot be set or does not do what it should."""
    layout = _LAYOUTS.get((sys.platform, platform.machine()))
    if layout is None:
        return None
    try:
        mode = _Mode(*layout)
    except (OSError, AttributeError):
        return None
    small, tenth = np.full(16, 1.2e-38, np.float32), np.float32(0.1)
    before = mode.enter()
    if before is None:
        return mode  # someone set it for the whole thread
    try:
        inside = small * tenth
    finally:
        mode.leave(before)
    return mode if not inside.any() and (small * tenth).all() else None


def supported() -> bool:
    """Tell whether the mode can be set here."""
    return _mode() is not None


def machine_mode() -> tuple[int, int, int, int] | None:
    """Return what machine code needs to set the mode itself; None where it cannot be set.

    Addresses of C's `fegetenv` and `fesetenv`, the place of the control word in what they hand over, counted in 32
    bits, and the bits of the mode.
    """
    mode = _mode()
    if mode is None:
        return None
    get, put = (ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (mode.get, mode.put))
    return get, put, mode.place, mode.bits


def in_force() -> bool:
    """Tell whether this thread reads and writes such numbers as 0 now.

    >>> with flushed():
    ...     inside = in_force()
    >>> inside == supported(), in_force()
    (True, False)
    """
    mode = _mode()
    return mode is not None and mode.on()


def compute_with_them() -> None:
    """Compute with such numbers in this thread from here on: a thread begins in the mode of the one that starts it."""
    mode = _mode()
    if mode is not None and mode.on():
        mode.leave(_ROOM.words[mode.place] & ~mode.bits)


class flushed:  # noqa: N801  (used like a function)
    """Read and write numbers below the smallest normal one as 0 for a block, in this thread.

    >>> import numpy as np
    >>> small = np.full(3, 1e-39, np.float32)
    >>> with flushed():
    ...     inside = small * np.float32(0.5)
    >>> bool(inside.any()) != supported(), bool((small * np.float32(0.5)).any())
    (True, True)
    """

    __slots__ = ("_before",)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with flushed():
                return function(*args, **kwargs)

        return run

    def __enter__(self) -> None:
        mode = _mode()
        self._before = None if mode is None else mode.enter()

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            mode = _mode()
            assert mode is not None
            mode.leave(self._before)
