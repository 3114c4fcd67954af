"""The CUDA backend over the emulated CuPy, in the tests and in processes that they start."""

from __future__ import annotations

from typing import Any

import emulated_cupy
import emulated_modules
from emulated_lt import EmulatedLt


def emulate() -> Any:
    """Import `deepbabysit_cupy` anew over the emulated CuPy, with g++ in the compiler's place; returns its state."""
    state = emulated_modules.install()
    from deepbabysit_cupy import compiler, dnn, lt

    def missing() -> Any:
        raise dnn.DnnUnavailable("cuDNN is not installed", installed=False)

    compiler.version = lambda: (12, 9)
    compiler.architectures = lambda: (75, 80, 90)
    compiler.machine_code = lambda text, architecture, folder, name="": text.encode()
    library = EmulatedLt(emulated_cupy.run_library, lambda: emulated_cupy.stream().ptr)
    lt.load = lambda: library
    state.matrices = library
    state.load_dnn, dnn.load = dnn.load, missing  # whatever this machine has
    return state
