"""NVIDIA GPUs: CuPy arrays, own CUDA C++ kernels, cuBLASLt products, steps captured into CUDA graphs."""

from __future__ import annotations

from deepbabysit.runtime.backend import Backend


def open_backend() -> dict[str, Backend]:
    """Open the backend on every GPU that can run (the entry point of the plug-in).

    Raises:
        BackendUnavailable: with the reason in one sentence.
    """
    from deepbabysit_cupy.probe import usable_devices

    numbers = usable_devices()
    from deepbabysit_cupy.backend import CupyBackend

    return {f"cuda:{number}": CupyBackend(number) for number in numbers}
