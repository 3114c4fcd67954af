"""A CUDA device without a GPU: the backend over the emulated CuPy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import emulated_modules
import pytest
from emulated_device import emulate

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
    """The emulated device's state."""
    return emulate()


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
