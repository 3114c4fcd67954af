"""Whether this machine has a GPU that can really run: driver, compute capability, libraries, one tiny kernel."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from deepbabysit.runtime.backend import BackendUnavailable
from deepbabysit_cupy.libraries import INSTALL

LEAST_CAPABILITY = 75  # Turing: the oldest that every supported compiler still knows
CHOOSE = f"{INSTALL}, whichever matches the driver"
_TINY = 'extern "C" __global__ void tiny(float* x) { x[threadIdx.x] = 2.0f * threadIdx.x; }'


def usable_devices() -> list[int]:
    """Return the numbers of the GPUs that can run.

    Raises:
        BackendUnavailable: there is none; the message says why in one sentence.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] != "cupy":
            raise BackendUnavailable(f"CuPy is installed without what it needs ({error}); {CHOOSE}") from error
        raise BackendUnavailable(f"CuPy is not installed; {CHOOSE}") from error
    except Exception as error:  # a broken installation raises anything
        raise BackendUnavailable(f"CuPy cannot be imported: {_line(error)}") from error
    runtime = cupy.cuda.runtime
    try:
        count = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        raise BackendUnavailable(_no_driver(runtime, error)) from error
    if count == 0:
        raise BackendUnavailable("the driver finds no GPU")
    found, reasons = [], []
    for number in range(count):
        reason = _why_not(cupy, number)
        if reason:
            reasons.append(f"GPU {number}: {reason}")
        else:
            found.append(number)
    if not found:
        raise BackendUnavailable("; ".join(reasons))
    return found


def _no_driver(runtime: Any, error: Exception) -> str:
    try:
        version = int(runtime.driverGetVersion())
    except Exception:  # the question itself needs a driver on some systems
        version = 0
    if version == 0:
        return "there is no NVIDIA driver on this machine"
    return f"the NVIDIA driver is too old for this CuPy ({_line(error)})"


def _why_not(cupy: Any, number: int) -> str:
    """Return why a GPU cannot run, or an empty string."""
    from deepbabysit_cupy import compiler

    try:
        with cupy.cuda.Device(number) as device:
            capability = int(device.compute_capability)
            if capability < LEAST_CAPABILITY:
                return f"its compute capability is {capability / 10}; at least {LEAST_CAPABILITY / 10} is needed"
            code = compiler.machine_code(_TINY, compiler.nearest(capability), None)
            module = cupy.cuda.function.Module()
            module.load(code)
            values = cupy.empty(4, np.float32)
            module.get_function("tiny")((1,), (4,), (values,))
            if values.get().tolist() != [0.0, 2.0, 4.0, 6.0]:
                return "a first kernel gave wrong numbers"
    except compiler.CompilerUnavailable as error:
        return str(error)
    except Exception as error:  # whatever it is, the CPU is there
        return f"a first kernel does not run: {_line(error)}"
    return ""


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
