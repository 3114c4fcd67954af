"""Convolutions by cuDNN, through its frontend (extras `cudnn12`, `cudnn13`): plans for one convolution each.

Plans give the same bits run after run, and add up products of the numbers as they are: none that uses FFT or Winograd's
way, whose errors are larger; TF32 only where the user allows it. Images lie as cuDNN has them with channels last.
Kernels do not: there the outputs are the first axis, so a kernel is a matrix that has to be turned.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from deepbabysit_cupy.libraries import load_library

INSTALL = "pip install 'deepbabysit[cudnn12]' or 'deepbabysit[cudnn13]', as CuPy's extra"
LEAST = (1, 24)  # of the frontend: the oldest that its calls below were looked up in
KINDS = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BFLOAT16"}
IMAGE, KERNEL, RESULT, BIAS = 1, 2, 3, 4  # tensors of a graph; gradients have the number of what they belong to
ALIGNMENT = 16  # bytes, of every address
MOST_WORKSPACE = 256 << 20
TRIED = 3  # plans that are timed


class DnnUnavailable(RuntimeError):
    """cuDNN cannot be used; the message says why.

    Attributes:
        installed: whether something of it is there.
    """

    def __init__(self, reason: str, installed: bool = True) -> None:
        super().__init__(reason)
        self.installed = installed


class DnnError(RuntimeError):
    """cuDNN refused to run a plan."""


@cache
def load() -> Any:
    """Load the frontend.

    Raises:
        DnnUnavailable: it, or the library behind it, is missing or too old.
    """
    # loaded first, so that the frontend finds it wherever CUDA's other libraries are found
    if load_library("cudnn", "cudnn", (9,)) is None:
        raise DnnUnavailable(f"cuDNN is not installed; {INSTALL}", installed=False)
    try:
        module = importlib.import_module("cudnn")
    except ImportError as error:
        raise DnnUnavailable(
            f"the frontend of cuDNN cannot be imported ({error}); {INSTALL}", installed=False
        ) from error
    version = tuple(map(int, re.findall(r"\d+", module.__version__)[:2]))
    if version < LEAST:
        raise DnnUnavailable(
            f"the frontend of cuDNN is {module.__version__}, {'.'.join(map(str, LEAST))} is needed; {INSTALL}"
        )
    return module


def version() -> str:
    """Return what would run, such as "cuDNN 9.28.0, frontend 1.28.0".

    Raises:
        DnnUnavailable: nothing would.
    """
    module = load()
    return f"cuDNN {module.backend_version_string()}, frontend {module.__version__}"


@dataclass(frozen=True, slots=True)
class Task:
    """A convolution, or one of its gradients.

    Attributes:
        make: "result", "image" or "kernel": what is computed from the other two.
        image, result: (n, height, width, channels).
        window, stride, dilation: along height and width.
        before, after: borders of zeros along height and width.
        groups: of channels.
        dtype: of everything; sums are in float32.
        tf32: whether operands of float32 may be rounded to 10 bits.
        bias: whether a bias is added to the result.
        relu: whether ReLU follows it.
    """

    make: str
    image: tuple[int, int, int, int]
    result: tuple[int, int, int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    groups: int
    dtype: str
    tf32: bool = False
    bias: bool = False
    relu: bool = False

    @property
    def kernel(self) -> tuple[int, int, int, int]:
        """The kernel as cuDNN has it: (outputs, height, width, inputs of a group)."""
        return self.result[3], *self.window, self.image[3] // self.groups


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to do a task.

    Attributes:
        graph: the frontend's.
        index: among the graph's plans.
        name: as the library names it.
        workspace: bytes that it needs beside its operands.
    """

    graph: Any
    index: int
    name: str
    workspace: int


@dataclass(frozen=True, slots=True)
class Offer:
    """What the library offers for a task: plans, the one that it holds best first, or why there is none."""

    plans: tuple[Plan, ...]
    why: str = ""


def _laid(shape: tuple[int, int, int, int]) -> dict[str, list[int]]:
    """Return the sizes and steps of a contiguous (n, height, width, channels), in cuDNN's order of axes."""
    n, h, w, c = shape
    return {"dim": [n, c, h, w], "stride": [h * w * c, 1, w * c, c]}


def build(module: Any, where: dict[str, Any], task: Task) -> tuple[Any, Any]:
    """Return the frontend's graph for a task, and its output; `where`: the handle, or what a GPU is like."""
    kinds = module.data_type
    kind = getattr(kinds, KINDS[task.dtype])
    graph = module.pygraph(
        io_data_type=kind, intermediate_data_type=kinds.FLOAT, compute_data_type=kinds.FLOAT, **where
    )
    shapes = {IMAGE: task.image, KERNEL: task.kernel, RESULT: task.result}
    made = {"image": IMAGE, "kernel": KERNEL, "result": RESULT}[task.make]
    tensors = {
        number: graph.tensor(name=f"t{number}", data_type=kind, uid=number, **_laid(shape))
        for number, shape in shapes.items() if number != made
    }
    steps: dict[str, Any] = {
        "pre_padding": list(task.before), "post_padding": list(task.after), "stride": list(task.stride),
        "dilation": list(task.dilation), "compute_data_type": kinds.FLOAT,
    }
    if task.make == "image":
        out = graph.conv_dgrad(loss=tensors[RESULT], filter=tensors[KERNEL], **steps)
    elif task.make == "kernel":
        out = graph.conv_wgrad(image=tensors[IMAGE], loss=tensors[RESULT], **steps)
    else:
        out = graph.conv_fprop(image=tensors[IMAGE], weight=tensors[KERNEL], **steps)
        if task.bias:
            bias = graph.tensor(name="bias", data_type=kind, uid=BIAS, **_laid((1, 1, 1, task.result[3])))
            out = graph.bias(input=out, bias=bias)
        if task.relu:
            out = graph.relu(input=out)
    laid = _laid(shapes[made])
    out.set_output(True).set_data_type(kind).set_dim(laid["dim"]).set_stride(laid["stride"]).set_uid(made)
    return graph, out


def plans_for(module: Any, where: dict[str, Any], task: Task) -> Offer:
    """Ask the library for plans that are deterministic and no less precise than was asked for.

    Arguments:
        module: the frontend.
        where: as in `build`.
        task: what is to be done.
    """
    graph, _ = build(module, where, task)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([module.heur_mode.A, module.heur_mode.FALLBACK])
    note = module.numerical_note
    unwanted = [note.NONDETERMINISTIC, note.FFT, note.WINOGRAD, note.DOWN_CONVERT_INPUTS,
                note.REDUCED_PRECISION_REDUCTION]  # fmt: skip
    if task.dtype == "float32" and not task.tf32:
        unwanted.append(note.TENSOR_CORE)
    graph.deselect_numeric_notes(unwanted)
    plans: list[Plan] = []
    why = "no plan is deterministic and of the precision that was asked for"
    for index in range(graph.get_execution_plan_count()):
        try:
            graph.build_plan_at_index(index)
        except (RuntimeError, module.cudnnGraphNotSupportedError) as error:
            why = f"not offered: {_line(error)}"
            continue
        size = int(graph.get_workspace_size_plan_at_index(index))
        if size <= MOST_WORKSPACE:
            plans.append(Plan(graph, index, str(graph.get_plan_name_at_index(index)), size))
        if len(plans) == TRIED:
            break
    return Offer(tuple(plans), "" if plans else why)


class Dnn:
    """A handle on one stream, and the plans made so far.

    Arguments:
        stream: CUDA's handle of the stream that everything runs on.

    Attributes:
        version: of the library and its frontend.

    Raises:
        DnnUnavailable: the library is missing, too old, or refuses this GPU.
    """

    def __init__(self, stream: int) -> None:
        self._module = load()
        self.version = version()
        try:
            self._handle = self._module.create_handle()
            self._module.set_stream(handle=self._handle, stream=stream)
        except RuntimeError as error:
            raise DnnUnavailable(f"{self.version} cannot be opened: {_line(error)}") from error
        self._offers: dict[Task, Offer] = {}

    def offer(self, task: Task) -> Offer:
        """Return the plans for a task; they are made at the first call, which no capture may see."""
        if task not in self._offers:
            try:
                self._offers[task] = plans_for(self._module, {"handle": self._handle}, task)
            except (RuntimeError, self._module.cudnnGraphNotSupportedError) as error:
                self._offers[task] = Offer((), f"not offered: {_line(error)}")
        return self._offers[task]

    def run(self, plan: Plan, addresses: dict[int, int], workspace: int) -> None:
        """Enqueue a plan.

        Arguments:
            plan: of `offer`.
            addresses: of the tensors `IMAGE`, `KERNEL`, `RESULT` and, where there is one, `BIAS`.
            workspace: address of the bytes that the plan needs; 0 where it needs none.

        Raises:
            DnnError: the library refused.
        """
        try:
            plan.graph.execute_plan_at_index(addresses, workspace, index=plan.index, handle=self._handle)
        except (RuntimeError, self._module.cudnnGraphNotSupportedError) as error:
            raise DnnError(f"cuDNN refused {plan.name}: {_line(error)}") from error


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
