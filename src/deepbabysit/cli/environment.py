"""``devices`` and ``env``: what is here and what can run."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from deepbabysit import __version__
from deepbabysit.runtime.registry import backends, find_device

PACKAGES = (
    "numpy", "rich", "safetensors", "numba", "cupy-cuda12x", "cupy-cuda13x", "scikit-learn", "pandas", "matplotlib",
    "nvidia-cudnn-frontend", "optuna", "onnx", "torch", "jax",
)


def devices() -> int:
    """Print every backend with its devices, or the reason why it cannot run."""
    for info in backends():
        state = ", ".join(info.devices) if info.usable else f"not usable: {info.reason}"
        print(f"{info.name:12} {state}")
        for device in info.devices[:1]:
            remarks = find_device(device).backend.remarks
            for remark in remarks() if remarks is not None else ():
                print(f"{'':12} {remark}")
    print(f"{'auto':12} chooses {find_device('auto').name}")
    return 0


def env() -> int:
    """Print versions, threads and machine."""
    print(f"deepbabysit {__version__}")
    print(f"python      {sys.version.split()[0]} ({platform.python_implementation()})")
    print(f"machine     {platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} processors")
    for name in PACKAGES:
        try:
            print(f"{name:11} {version(name)}")
        except PackageNotFoundError:
            print(f"{name:11} not installed")
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "DEEPBABYSIT_DATA"):
        print(f"{name}={os.environ.get(name, '')}")
    return 0
