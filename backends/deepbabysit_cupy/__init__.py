"""NVIDIA GPUs: CuPy arrays, own CUDA C++ kernels, cuBLASLt products, steps captured into CUDA graphs."""

from __future__ import annotations

from deepbabysit.runtime.backend import Backend, BackendUnavailable


def open_backend() -> dict[str, Backend]:
    """Open the backend on every GPU that can run (the entry point of the plug-in).

    Raises:
        BackendUnavailable: with the reason in one sentence.
    """
    from deepbabysit_cupy.probe import usable_devices

    numbers = usable_devices()
    from deepbabysit.kernels import SPECS
    from deepbabysit_cupy.backend import CupyBackend
    from deepbabysit_cupy.kernels import KERNELS

    names = SPECS.names()
    if not set(names) <= set(KERNELS):  # references on small GPU arrays are slower than the CPU
        done = len(set(names) & set(KERNELS))
        raise BackendUnavailable(f"the CUDA backend is not finished: {done} of {len(names)} operations have a kernel")
    return {f"cuda:{number}": CupyBackend(number) for number in numbers}
