"""Memory shared with other libraries: the DLPack protocol, from our arrays outwards."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.shapes import is_half
from deepbabysit.kernels.spec import Array
from deepbabysit.runtime.device import Device

DLPACK_CPU, DLPACK_CUDA = 1, 2  # kDLCPU, kDLCUDA
HOST_MEMORY = (DLPACK_CPU, 3)  # and kDLCUDAHost, which is pinned
_FLAGS = (1, 0)  # the first version in which memory can be shared for reading only


def share(
    device: Device, array: Array, stream: Any, max_version: tuple[int, int] | None, dl_device: tuple[int, int] | None,
    copy: bool | None,
) -> Any:
    """Return a capsule over an array, as ``__dlpack__`` of the Python array API does.

    On the CPU it is for reading only; a consumer too old to be told so gets a copy.

    Arguments:
        device: where the array lies.
        array: a raw array.
        stream: the consumer's; on a GPU it waits for what was asked for here.
        max_version: the newest version of DLPack that the consumer knows.
        dl_device: where the consumer wants it; None: where it lies.
        copy: whether it must be copied (True), must not (False), or may (None).

    Raises:
        BufferError: it cannot be shared so; the message says what can be done.
    """
    asked = None if dl_device is None else (int(dl_device[0]), int(dl_device[1]))
    if device.backend.share is not None:
        return device.backend.share(array, stream, max_version, asked, copy)
    if asked is not None and asked[0] != DLPACK_CPU:
        place = f"GPU {asked[1]}" if asked[0] == DLPACK_CUDA else f"a device of kind {asked[0]}"
        raise BufferError(f"this tensor lies on {device} and is wanted on {place}; move it first: tensor.to('cuda')")
    if not isinstance(array, np.ndarray):
        return array.__dlpack__()
    if is_half(array.dtype) and array.dtype.kind == "V":
        raise BufferError("NumPy cannot share bfloat16 by DLPack; hand over tensor.astype('float32')")
    if copy or max_version is None or tuple(max_version) < _FLAGS:
        if copy is False:
            raise BufferError(
                "tensors do not change, and this library cannot be told that it may only read (DLPack below 1.0); "
                "allow a copy, or hand over tensor.numpy().copy()"
            )
        return array.copy().__dlpack__(max_version=max_version)
    view = array.view()
    view.flags.writeable = False
    return view.__dlpack__(max_version=max_version)
