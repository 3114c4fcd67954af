"""A CUDA device without a GPU: the backend over the emulated CuPy."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import emulated_modules
import pytest
from emulated_cudnn import EmulatedCudnn
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


class Clock:
    """Instead of a GPU's time: each way is faster than the one before, or slower."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.faster = True
        self.asked = 0

    def __call__(self, work: Callable[[], None]) -> float:
        work()
        self.asked += 1
        return 0.9**self.asked if self.faster else float(self.asked)

    def anew(self) -> None:
        """Forget what this process knows; the file stays."""
        backend: Any = self.device.backend
        backend._lt = backend.tuning = backend._dnn = None
        self.asked = 0


@pytest.fixture
def tuned(cuda: Device, emulation: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    """The emulated device before its first product, with a folder of its own and a clock that likes the last way."""
    from deepbabysit_cupy import tuning

    monkeypatch.setenv("DEEPBABYSIT_CACHE", str(tmp_path))
    clock = Clock(cuda)
    monkeypatch.setattr(tuning.Tuning, "seconds", staticmethod(clock))
    for name in ("_lt", "tuning", "_dnn"):
        monkeypatch.setattr(cuda.backend, name, None)
    monkeypatch.setattr(emulation.matrices, "refused", set())
    emulation.matrices.epilogues.clear()
    return clock


@pytest.fixture
def cudnn(tuned: Clock, monkeypatch: pytest.MonkeyPatch) -> EmulatedCudnn:
    """cuDNN beside the emulated device, on a clock that likes the last way."""
    from deepbabysit_cupy import dnn

    module = EmulatedCudnn()
    monkeypatch.setattr(dnn, "load", lambda: module)
    return module
