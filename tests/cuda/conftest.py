"""A CUDA device without a GPU: the backend over the emulated CuPy."""

from collections.abc import Iterator
from typing import Any

import emulated_cupy
import emulated_modules
import pytest
from emulated_lt import EmulatedLt

from deepbabysit.runtime.device import Device


@pytest.fixture(scope="session")
def emulation() -> Iterator[Any]:
    """The emulated device's state; `deepbabysit_cupy` is imported anew over it, with g++ in the compiler's place."""
    with emulated_modules.installed() as state:
        from deepbabysit_cupy import compiler, lt

        compiler.version = lambda: (12, 9)
        compiler.architectures = lambda: (75, 80, 90)
        compiler.machine_code = lambda text, architecture, folder, name="": text.encode()
        library = EmulatedLt(emulated_cupy.run_library, lambda: emulated_cupy.stream().ptr)
        lt.load = lambda: library
        yield state


@pytest.fixture(scope="session")
def cuda(emulation: Any) -> Device:
    """The emulated device; captured launches stay apart, since merging them compiles a kernel for each combination."""
    from deepbabysit_cupy.backend import CupyBackend

    backend = CupyBackend(0)
    backend.merging = False
    return Device("cuda:0", backend)


@pytest.fixture
def merging(cuda: Device) -> Iterator[Device]:
    """The emulated device with merged launches."""
    cuda.backend.merging = True
    yield cuda
    cuda.backend.merging = False
