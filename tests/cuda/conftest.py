"""A CUDA device without a GPU: the backend over the emulated CuPy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import emulated_cupy
import emulated_modules
import pytest
from emulated_lt import EmulatedLt

from deepbabysit.runtime.device import Device


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: Any, nextitem: Any) -> Any:
    """Let the tests of this folder, and no others, find the emulated CuPy: elsewhere "auto" would choose its GPU."""
    if Path(__file__).parent not in item.path.parents:
        return (yield)
    with emulated_modules.in_place():
        return (yield)


@pytest.fixture(scope="session")
def emulation() -> Any:
    """The emulated device's state; `deepbabysit_cupy` is imported anew over it, with g++ in the compiler's place."""
    state = emulated_modules.install()
    from deepbabysit_cupy import compiler, lt

    compiler.version = lambda: (12, 9)
    compiler.architectures = lambda: (75, 80, 90)
    compiler.machine_code = lambda text, architecture, folder, name="": text.encode()
    library = EmulatedLt(emulated_cupy.run_library, lambda: emulated_cupy.stream().ptr)
    lt.load = lambda: library
    state.matrices = library
    return state


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
