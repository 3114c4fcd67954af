"""DLPack with a GPU: memory is shared both ways, streams wait for each other, wrong places are named."""

import numpy as np
import pytest
from emulated_cupy import Capsule

import deepbabysit as db


class Foreign:
    """An array of another library on a GPU, which remembers the stream it was asked for."""

    def __init__(self, host, number=0):
        self.host = host
        self.number = number
        self.streams = []

    def __dlpack_device__(self):
        return 2, self.number

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.streams.append(stream)
        return Capsule(self.host) if self.host.dtype.kind == "V" else self.host.__dlpack__()

    def __array__(self, *_, **__):
        raise TypeError("not through the host")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", "bool", "bfloat16"])
def test_arrays_of_other_libraries_come_in(cuda, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    host = (np.arange(6).reshape(2, 3) % 2).astype(dtype)
    foreign = Foreign(host)
    tensor = db.tensor(foreign, device=cuda)
    assert foreign.streams == [cuda.backend.stream.ptr]  # theirs waits; ours is never 0, the default stream
    assert tensor.dtype == host.dtype
    np.testing.assert_array_equal(tensor.numpy(), host)
    host[...] = 0
    assert tensor.numpy().any()  # values are copied


def test_ours_go_out_when_our_stream_is_ready(cuda, emulation):
    """The consumer waits for the stream of this backend, whichever stream was in force before."""
    import cupy

    host = np.arange(6.0, dtype=np.float32)
    tensor = db.tensor(host, device=cuda) * 2.0
    assert tensor.__dlpack_device__() == (2, 0)
    from deepbabysit_cupy.backend import _IN_FORCE

    cupy.cuda.Stream(non_blocking=True).use()
    _IN_FORCE.backend = None  # another backend was asked last
    emulation.waits.clear()
    shared = cupy.from_dlpack(tensor)
    ((consumer, ours),) = emulation.waits
    assert ours == cuda.backend.stream.ptr != 0
    assert consumer != ours
    np.testing.assert_array_equal(shared.get(), host * 2)


def test_bfloat16_goes_out(cuda):
    import cupy

    kind = pytest.importorskip("ml_dtypes").bfloat16
    tensor = db.tensor(np.arange(4).astype(kind), device=cuda)
    assert cupy.from_dlpack(tensor).dtype == kind


def test_a_tensor_of_the_cpu_is_not_taken_for_memory_of_the_gpu(cuda):
    import cupy

    tensor = db.tensor([1.0, 2.0])
    with pytest.raises(BufferError, match="CPU arrays"):
        cupy.from_dlpack(tensor)
    with pytest.raises(BufferError, match=r"lies on cpu and is wanted on GPU 0; move it first: tensor.to\('cuda'\)"):
        tensor.__dlpack__(dl_device=(2, 0))
    assert cuda.backend.adopt(tensor) is None
    with pytest.raises(ValueError, match="cpu.*cuda:0|cuda:0.*cpu"):
        db.tensor([1.0, 2.0], device=cuda) + tensor


def test_memory_of_a_gpu_is_not_read_as_the_hosts(cuda):
    with pytest.raises(TypeError, match="the Foreign lies on GPU 0 and the tensor shall lie on the CPU"):
        db.tensor(Foreign(np.ones(3)), device="cpu")
    with pytest.raises(ValueError, match="the Foreign lies on GPU 1, the tensor shall lie on cuda:0"):
        db.tensor(Foreign(np.ones(3), number=1), device=cuda)
    tensor = db.tensor([1.0], device=cuda)
    with pytest.raises(BufferError, match=r"lies on cuda:0; hand over tensor.numpy\(\)"):
        tensor.__dlpack__(dl_device=(1, 0))


def test_nothing_is_shared_from_a_recorded_step(cuda):
    seen = []

    @db.record
    def step(x):
        y = x * 2.0
        if recording:
            seen.append(y.__dlpack__())
        return y

    recording = False
    step(db.tensor([1.0], device=cuda))
    recording = True
    step(db.tensor([1.0], device=cuda))  # refused while it is recorded, then run eagerly
    assert len(seen) == 1
    array = cuda.asarray([1.0])
    cuda.backend.stream.begin_capture()
    try:
        with pytest.raises(BufferError, match="captured"):
            cuda.backend.share(array, None, None, None, None)
    finally:
        cuda.backend.stream.end_capture()
