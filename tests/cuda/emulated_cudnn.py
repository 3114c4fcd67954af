"""The part of cuDNN's frontend that the backend calls, over host memory; it refuses what the real one refuses."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
from emulated_cupy import run_library, stream
from emulated_lt import _ten_bits
from emulated_memory import CUDARuntimeError, State

_DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "BFLOAT16": ml_dtypes.bfloat16}
NOTES = ("NONDETERMINISTIC", "FFT", "WINOGRAD", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION", "TENSOR_CORE",
         "STRICT_NAN_PROP")  # fmt: skip
# name, notes, bytes of workspace; in the order of the heuristic. Each adds up in an order of its own. The library puts
# dozens that are not wanted in front, too: for float32 those of tensor cores.
PLANS = (
    *[(f"eng0 atomics {n}", ("NONDETERMINISTIC",), 0) for n in range(20)], ("eng1 winograd", ("WINOGRAD",), 0),
    ("eng2 tf32", ("TENSOR_CORE",), 64), ("eng3 huge", (), 1 << 40), ("eng4", (), 0), ("eng5 split", (), 4096),
)  # fmt: skip


class cudnnGraphNotSupportedError(Exception):  # noqa: N801
    """A graph that no engine takes."""


class Tensor:
    """A tensor of a graph: sizes and steps in the order (n, channels, height, width)."""

    def __init__(self, dim: Any = None, stride: Any = None, data_type: Any = None, uid: int = -1) -> None:
        self.dim, self.stride, self.data_type, self.uid, self.output = dim, stride, data_type, uid, False

    def set_output(self, value: bool) -> Tensor:
        self.output = value
        return self

    def set_data_type(self, value: Any) -> Tensor:
        self.data_type = value
        return self

    def set_dim(self, value: Any) -> Tensor:
        self.dim = list(value)
        return self

    def set_stride(self, value: Any) -> Tensor:
        self.stride = list(value)
        return self

    def set_uid(self, value: int) -> Tensor:
        self.uid = value
        return self

    @property
    def channels_last(self) -> bool:
        _, c, h, w = self.dim
        return list(self.stride) == [h * w * c, 1, w * c, c]


class EmulatedCudnn:
    """Stands for the module `cudnn`.

    Attributes:
        refused: names of nodes ("conv_fprop", "bias", "relu", ...) that no plan takes.
        wrong: names of plans that compute something else.
        forgetful: whether its ReLU turns NaN into 0.
        ran: (nodes, name of the plan) of every execution, at once or in a graph.
        asked: how many graphs were planned.
    """

    cudnnGraphNotSupportedError = cudnnGraphNotSupportedError  # noqa: N815
    data_type = SimpleNamespace(**{name: name for name in _DTYPES})
    heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")
    numerical_note = SimpleNamespace(**{name: name for name in NOTES})

    def __init__(self) -> None:
        self.__version__ = "1.28.0"
        self.version = "9.28.0"
        self.refused: set[str] = set()
        self.wrong: set[str] = set()
        self.forgetful = False
        self.broken = ""
        self.ran: list[tuple[tuple[str, ...], str]] = []
        self.asked = 0

    def backend_version_string(self) -> str:
        return self.version

    def create_handle(self) -> Any:
        if self.broken:
            raise RuntimeError(self.broken)
        _not_captured("cudnnCreate")
        return SimpleNamespace(stream=0)

    def set_stream(self, handle: Any, stream: int) -> None:
        handle.stream = stream

    def pygraph(self, *, handle: Any, io_data_type: Any, intermediate_data_type: Any, compute_data_type: Any) -> Graph:
        if intermediate_data_type != "FLOAT" or compute_data_type != "FLOAT":
            raise AssertionError("sums of less than float32")
        return Graph(self, handle, io_data_type)


class Graph:
    """A graph of one convolution, with a bias and ReLU behind it perhaps."""

    def __init__(self, module: EmulatedCudnn, handle: Any, kind: str) -> None:
        self._module, self._handle, self._kind = module, handle, kind
        self._tensors: dict[str, Tensor] = {}
        self._nodes: list[str] = []
        self._steps: dict[str, Any] = {}
        self._planned = self._ready = False
        self._barred: set[str] = set()
        self._built: set[int] = set()

    def tensor(self, *, dim: Any, stride: Any, data_type: Any, uid: int, name: str) -> Tensor:
        return Tensor(dim, stride, data_type, uid)

    def _conv(self, node: str, made: str, steps: dict[str, Any], **tensors: Tensor) -> Tensor:
        self._nodes.append(node)
        self._steps = steps
        self._tensors.update(tensors)
        self._tensors[made] = self._made = Tensor()
        return self._made

    def conv_fprop(self, *, image: Tensor, weight: Tensor, **steps: Any) -> Tensor:
        return self._conv("conv_fprop", "result", steps, image=image, kernel=weight)

    def conv_dgrad(self, *, loss: Tensor, filter: Tensor, **steps: Any) -> Tensor:
        return self._conv("conv_dgrad", "image", steps, result=loss, kernel=filter)

    def conv_wgrad(self, *, image: Tensor, loss: Tensor, **steps: Any) -> Tensor:
        return self._conv("conv_wgrad", "kernel", steps, image=image, result=loss)

    def bias(self, *, input: Tensor, bias: Tensor) -> Tensor:
        assert input is self._made
        self._nodes.append("bias")
        self._tensors["bias"] = bias
        return input

    def relu(self, *, input: Tensor) -> Tensor:
        assert input is self._made
        self._nodes.append("relu")
        return input

    def validate(self) -> None:
        t, s = self._tensors, self._steps
        (n, c, *lengths), (f, depth, *window), (m, g, *positions) = (t[x].dim for x in ("image", "kernel", "result"))
        counts = [
            (length + before + after - (size - 1) * wide - 1) // step + 1
            for length, size, step, wide, before, after in zip(
                lengths, window, s["stride"], s["dilation"], s["pre_padding"], s["post_padding"], strict=True
            )
        ]
        if n != m or f != g or c % depth or f % (c // depth) or counts != positions or not self._made.output:
            raise RuntimeError(f"CUDNN_STATUS_BAD_PARAM: sizes do not go together, {counts} and {positions}")
        if any(x.data_type != self._kind for x in t.values()) or len({x.uid for x in t.values()}) != len(t):
            raise RuntimeError("CUDNN_STATUS_BAD_PARAM: types or numbers of tensors")
        if "bias" in t and t["bias"].dim != [1, f, 1, 1]:
            raise RuntimeError("CUDNN_STATUS_BAD_PARAM: a bias of other sizes")

    def build_operation_graph(self) -> None:
        _not_captured("building a graph")
        if not all(x.channels_last for x in self._tensors.values()):
            raise cudnnGraphNotSupportedError("CUDNN_STATUS_NOT_SUPPORTED: strides")
        self._ready = True

    def create_execution_plans(self, modes: list[Any]) -> None:
        _not_captured("asking the heuristic")
        assert self._ready and modes == ["A", "FALLBACK"]
        self._module.asked += 1
        refused = self._module.refused & set(self._nodes)
        if refused:
            raise cudnnGraphNotSupportedError(f"No valid engine configs for {sorted(refused)}\nmore lines")
        self._planned = True

    def get_execution_plan_count(self) -> int:
        return len(PLANS) if self._planned else 0

    def deselect_numeric_notes(self, notes: list[str]) -> None:
        assert self._planned, "a filter before there are plans is lost"
        self._barred |= set(notes)

    def build_plan_at_index(self, index: int) -> None:
        _not_captured("building a plan")
        if set(PLANS[index][1]) & self._barred:
            raise RuntimeError(f"Deselected execution plan at index {index}")
        self._built.add(index)

    def get_workspace_size_plan_at_index(self, index: int) -> int:
        return PLANS[index][2] if index in self._built else 0

    def get_plan_name_at_index(self, index: int) -> str:
        return PLANS[index][0]

    def execute_plan_at_index(self, tensors: dict[int, int], workspace: int, *, index: int, handle: Any) -> None:
        name, notes, size = PLANS[index]
        if index not in self._built:
            raise RuntimeError("the plan was not built")
        if handle is not self._handle or handle.stream != stream().ptr:
            raise AssertionError("a convolution on another stream than the kernels around it")
        if set(tensors) != {x.uid for x in self._tensors.values()}:
            raise RuntimeError("a tensor without an address")
        if any(type(p) is not int or not p or p % 16 for p in (*tensors.values(), workspace)):
            raise AssertionError(f"addresses {tensors} and {workspace} are no multiples of 16")
        place = State.find(workspace)
        if size and (place is None or workspace + size > place.ptr + place.size):
            raise AssertionError("a workspace that is too small")
        address = {what: tensors[x.uid] for what, x in self._tensors.items()}

        def work() -> None:
            (ctypes.c_char * size).from_address(workspace)[:] = b"\xee" * size  # it uses all of it
            values = {what: _read(address[what], x) for what, x in self._tensors.items()}
            made = {"conv_fprop": "result", "conv_dgrad": "image", "conv_wgrad": "kernel"}[self._nodes[0]]
            narrow = _ten_bits if "TENSOR_CORE" in notes and self._kind == "FLOAT" else lambda x: x
            ins = {what: narrow(x.astype(np.float32)) for what, x in values.items()}
            out = _convolve(made, ins, values[made].shape, self._steps, index)
            if "bias" in self._nodes:
                out = out + ins["bias"]
            if "relu" in self._nodes:
                out = np.fmax(out, 0) if self._module.forgetful else np.maximum(out, 0)
            values[made][...] = out + 1 if name in self._module.wrong else out

        self._module.ran.append((tuple(self._nodes), name))
        run_library("cuDNN", work, [*tensors.values(), workspace])


def _not_captured(what: str) -> None:
    if stream().capturing:
        raise CUDARuntimeError(f"cudaErrorStreamCaptureUnsupported: {what} while the stream is captured")


def _read(pointer: int, tensor: Tensor) -> np.ndarray:
    """Return device memory as (n, height, width, channels)."""
    n, c, h, w = tensor.dim
    dtype = np.dtype(_DTYPES[tensor.data_type])
    memory = (ctypes.c_char * (n * c * h * w * dtype.itemsize)).from_address(pointer)
    return np.frombuffer(memory, dtype).reshape(n, h, w, c)


def _convolve(made: str, ins: dict[str, np.ndarray], shape: Any, steps: dict[str, Any], order: int) -> np.ndarray:
    """Compute one of the three from the other two; window elements are added up in an order of the plan's own."""
    image, kernel, result = (
        ins[what] if what != made else np.zeros(shape, np.float32) for what in ("image", "kernel", "result")
    )
    (top, left), (bottom, right) = steps["pre_padding"], steps["post_padding"]
    (down, across), (tall, wide) = steps["stride"], steps["dilation"]
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, kh, kw, depth = kernel.shape
    n, oh, ow, f = result.shape
    groups = image.shape[3] // depth
    places = [(r, s) for r in range(kh) for s in range(kw)]
    for r, s in places[order % len(places):] + places[: order % len(places)]:
        window = (slice(None), slice(r * tall, r * tall + (oh - 1) * down + 1, down),
                  slice(s * wide, s * wide + (ow - 1) * across + 1, across))  # fmt: skip
        for group in range(groups):
            cs, fs = (slice(group * k, (group + 1) * k) for k in (depth, f // groups))
            weights = kernel[fs, r, s]
            if made == "result":
                result[..., fs] += padded[window][..., cs] @ weights.T
            elif made == "image":
                padded[(*window, cs)] += result[..., fs] @ weights
            else:
                weights[...] = np.einsum("nijf,nijc->fc", result[..., fs], padded[window][..., cs])
    if made == "image":
        return padded[:, top : top + shape[1], left : left + shape[2]]
    return result if made == "result" else kernel
