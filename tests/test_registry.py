"""Backends and devices: found by entry point or by hand, opened when they are named, honest about what is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deepbabysit.autograd.tensor import tensor
from deepbabysit.runtime import registry
from deepbabysit.runtime.backend import BackendUnavailable
from deepbabysit.runtime.context import current
from deepbabysit.runtime.reference import ReferenceBackend
from deepbabysit.runtime.registry import (
    backends,
    default_device,
    device,
    devices,
    find_device,
    register_backend,
    set_device,
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a registry of its own, and the device back that was chosen."""
    monkeypatch.setattr(registry, "_REGISTRY", registry._Registry())
    from deepbabysit.runtime.context import set_surroundings

    before = current().device
    yield
    set_surroundings(device=before)


def test_the_same_device_each_time() -> None:
    assert find_device("cpu") is find_device("cpu")
    assert find_device("cpu").backend.name == "numpy"
    assert find_device("cpu:reference").backend.name == "reference"
    assert find_device(find_device("cpu")) is find_device("cpu")


def test_without_the_plug_in_the_references_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepbabysit_numpy", None)
    cpu = find_device("cpu")
    assert cpu.backend.name == "reference"
    assert (tensor([1.0, 2.0], device=cpu) * 2.0).tolist() == [2.0, 4.0]
    info = {b.name: b for b in backends()}["numpy"]
    assert not info.usable
    assert "could not be imported" in info.reason


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cpuu", "unknown device 'cpuu'; did you mean 'cpu'"),
        ("gpu", "unknown device 'gpu'; "),
        ("cpu:refrence", "did you mean 'reference'"),
        ("cuda:99", "'cuda:99'"),
    ],
)
def test_a_missing_device_is_an_error_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_device(name)
    with pytest.raises(TypeError, match="named by a string"):
        find_device(3)  # type: ignore[arg-type]


def test_registering_by_hand() -> None:
    register_backend("mine", ReferenceBackend)
    assert find_device("cpu:mine").backend.name == "reference"
    assert "cpu:mine" in [d.name for d in devices()]
    with pytest.raises(ValueError, match="already registered"):
        register_backend("mine", ReferenceBackend)
    with pytest.raises(ValueError, match="already registered"):
        register_backend("reference", ReferenceBackend)


def test_several_devices_and_their_own_families() -> None:
    register_backend("opencl", lambda: {"opencl:0": ReferenceBackend(), "opencl:1": ReferenceBackend()})
    assert find_device("opencl:1").name == "opencl:1"
    with pytest.raises(ValueError, match="did you mean 'opencl:"):
        find_device("opencl:2")


def test_a_backend_can_be_registered_after_it_was_asked_for() -> None:
    with pytest.raises(ValueError, match="unknown backend 'later'"):
        find_device("cpu:later")
    register_backend("later", ReferenceBackend)
    assert find_device("cpu:later").backend.name == "reference"


def test_a_backend_that_cannot_run_keeps_its_reason() -> None:
    calls: list[int] = []

    def opener() -> Any:
        calls.append(1)
        raise BackendUnavailable("the driver is too old")

    register_backend("old", opener)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"'cpu:old' is not available: the driver is too old. Available: cpu"):
            find_device("cpu:old")
    assert len(calls) == 1
    assert {b.name: b.reason for b in backends()}["old"] == "the driver is too old"


def test_one_broken_plug_in_does_not_break_the_list() -> None:
    register_backend("broken", lambda: 1 / 0)
    info = {b.name: b for b in backends()}
    assert info["numpy"].usable
    assert info["broken"].reason == "opening it failed: ZeroDivisionError: division by zero"


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cpu:reference", "auto", "shapes"])
def test_a_plug_in_cannot_take_the_name_of_another_device(name: str) -> None:
    register_backend("thief", lambda: {name: ReferenceBackend()})
    info = {b.name: b for b in backends()}["thief"]
    assert not info.usable
    assert f"device name {name!r} is taken" in info.reason
    assert find_device("cpu").backend.name == "numpy"


def test_choosing_a_device() -> None:
    with device("cpu:reference") as chosen:
        assert default_device() is chosen
        assert tensor([1.0]).device is chosen
    assert default_device().name == "cpu"
    assert set_device("cpu:reference").name == "cpu:reference"
    assert tensor([1.0]).device.name == "cpu:reference"


def test_nothing_is_imported_before_a_device_is_named() -> None:
    root = Path(__file__).parent.parent
    code = (
        "import sys, deepbabysit, deepbabysit.autograd.ops\n"
        "bad = [m for m in ('deepbabysit_numpy', 'deepbabysit_cupy', 'cupy', 'numba', 'rich') if m in sys.modules]\n"
        "assert not bad, bad\n"
    )
    path = f"{root / 'src'}:{root / 'backends'}"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_registering_by_hand_what_could_not_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepbabysit_cupy", None)
    assert not {b.name: b for b in backends()}["cupy"].usable
    register_backend("cupy", lambda: {"cuda:0": ReferenceBackend()})
    assert find_device("cuda").name == "cuda:0"
