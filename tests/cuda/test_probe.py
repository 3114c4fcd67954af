"""Whether a GPU can run is found out, and said in one sentence."""

import sys

import pytest

from deepbabysit.runtime.backend import BackendUnavailable


def _reason(monkeypatch=None):
    from deepbabysit_cupy.probe import usable_devices

    with pytest.raises(BackendUnavailable) as caught:
        usable_devices()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_device_that_runs(emulation):
    from deepbabysit_cupy.probe import usable_devices

    assert usable_devices() == [0]


def test_no_driver(emulation, monkeypatch):
    monkeypatch.setattr(emulation, "devices", 0)
    assert _reason() == "there is no NVIDIA driver on this machine"


def test_a_gpu_that_is_too_old(emulation, monkeypatch):
    monkeypatch.setattr(emulation, "capability", 70)
    assert _reason() == "GPU 0: its compute capability is 7.0; at least 7.5 is needed"


def test_no_compiler(emulation, monkeypatch):
    from deepbabysit_cupy import compiler

    def missing(*_, **__):
        raise compiler.CompilerUnavailable("NVRTC was not found")

    monkeypatch.setattr(compiler, "machine_code", missing)
    assert _reason() == "GPU 0: NVRTC was not found"


def test_a_kernel_that_gives_wrong_numbers(emulation, monkeypatch):
    from deepbabysit_cupy import compiler

    wrong = compiler.machine_code
    monkeypatch.setattr(
        compiler, "machine_code", lambda text, *a, **k: wrong(text.replace("2.0f", "3.0f"), *a, **k)
    )
    assert _reason() == "GPU 0: a first kernel gave wrong numbers"


def test_no_cupy(emulation, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "CuPy" in _reason()


def test_every_operation_has_a_kernel(emulation):
    import deepbabysit_cupy
    from deepbabysit.kernels import SPECS

    (backend,) = deepbabysit_cupy.open_backend().values()
    assert set(SPECS.names()) == set(backend.kernels)
