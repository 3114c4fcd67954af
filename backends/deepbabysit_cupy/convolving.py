"""Convolutions of a recorded step that are faster another way: by cuDNN, or with the bias' gradient in the product.

That is found by timing, so on request only (`tune=True`), and kept with the other choices. cuDNN adds up in an order of
its own: a step changed like that gives other last bits than its calls one by one, and the same ones in every run. A
plan is taken only after it has given what our own kernels give, on random numbers and on one that is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.chains import Call, extent
from deepbabysit.runtime.notices import NOTICES
from deepbabysit.runtime.record import run_calls
from deepbabysit_cupy import dnn
from deepbabysit_cupy.kernels import convolution
from deepbabysit_cupy.kernels.convolution import Conv
from deepbabysit_cupy.kernels.maps import run_map

# operation -> (how its convolution is read, what it makes)
READ: dict[str, tuple[Callable[..., Conv], str]] = {
    "conv": (convolution.of_conv, "result"), "affine_conv": (convolution.of_conv, "result"),
    "depthwise_conv": (convolution.of_depthwise, "result"),
    "conv_input_gradient": (convolution.of_input_gradient, "image"),
    "conv_transpose": (convolution.of_transpose, "image"),
    "conv_kernel_gradient": (convolution.of_kernel_gradient, "kernel"),
    "conv_parameter_gradients": (convolution.of_kernel_gradient, "kernel"),
}
OWN = "own kernels"
SUMS = "own kernels, sums for the bias in the product"
# How far apart two orders of summation may be, relative to the largest number; one rounding of the result included.
_APART = {"float32": 2e-5, "float16": 4e-3, "bfloat16": 2e-2}
_APART_TF32 = 5e-3


Fresh = Callable[[Any, Any], Any]  # makes a buffer for a shape and a dtype


class Way(NamedTuple):
    """A way to run a call: its name in the tuning file; ``calls(fresh, outs, ins)`` returns the calls in its place."""

    name: str
    calls: Callable[[Fresh, Any, Any], list[Call]]


def choose(
    device: Any, calls: Sequence[Call], names: Sequence[str], fresh: Fresh, private: Callable[[Any], bool]
) -> tuple[list[Call], list[str]]:
    """Return recorded calls with convolutions done the way that is fastest, and their names where they are as before.

    Arguments:
        device: where they run.
        calls: in order.
        names: their operations.
        fresh: makes a buffer of the recording.
        private: tells whether only the recording uses the memory of an array.
    """
    found: list[Call] = []
    left: list[str] = []
    for call, name in zip(calls, names, strict=True):
        way = _faster(device, name, call) if name in READ else None
        if way is None:
            found.append(call)
            left.append(name)
            continue
        made = way.calls(fresh, call[1], call[2])
        before = None if private(call[2][1]) else _turned_before(found, made[0])
        if before is not None:  # forward has turned the same kernel
            run, outs, (first, _, *more), scratch = made[1]
            made = [(run, outs, (first, before, *more), scratch)]
        found += made
        left += [""] * len(made)
    return found, left


def _turned_before(calls: Sequence[Call], turn: Call) -> Any:
    """Return the kernel that a call turns as an earlier call has left it, where nobody has written since; else None."""
    if not _turns(turn):
        return None
    (kernel,) = turn[2]
    begin, end = extent(kernel)
    for call in reversed(calls):
        if _turns(call) and extent(call[2][0]) == (begin, end) and call[2][0].shape == kernel.shape:
            (flat,) = call[1]
            return flat.T.reshape(turn[0].keywords["shape"])  # type: ignore[attr-defined]
        if any(a < end and begin < b for a, b in map(extent, (*call[1], *call[3]))):
            return None
    return None


def _turns(call: Call) -> bool:
    return getattr(call[0], "func", None) is _turn


def _faster(device: Any, name: str, call: Call) -> Way | None:
    """Return how a call is done faster than as it is, or None."""
    run, outs, ins, scratch = call
    attrs = getattr(run, "keywords", {})
    read, make = READ[name]
    steps = {key: value for key, value in attrs.items() if key != "activation"}
    conv = read(*ins[:2], **steps)
    if not all(a.size for a in (*outs, *ins)):
        return None
    library, by = _library(device)
    tuning = device.backend.tuning
    key = _key(name, conv, outs, ins, attrs, device.backend.tf32)
    if tuning.recall(key, [OWN], by) is not None:
        return None
    ways: list[Way] = []
    if name == "conv_parameter_gradients" and convolution.sums_in_product(device, conv, scratch, *ins, *outs):
        forms = tuple(Form(a.shape, a.dtype) for a in scratch)
        ways.append(Way(SUMS, partial(_by_product, partial(convolution.run_with_sums, device, **attrs), forms)))
    why = "" if library is None else _offered(device, library, conv, make, outs, ins, attrs, ways)
    if not ways and not by:
        return None  # nothing to choose from, nothing to say
    kept = tuning.recall(key, [OWN, *[way.name for way in ways]], by)
    if kept is not None:
        return ways[kept - 1] if kept else None
    try:
        rehearsal = _Rehearsal(device, call)
        right = [way for way in ways if rehearsal.agrees(way, conv)]
        works = [rehearsal.plain, *[rehearsal.work(way) for way in right]]
        refused = [way.name for way in ways if way not in right]
        chosen = tuning.prefers(
            key, works, [OWN, *[way.name for way in right]], by=by, why=why,
            refused=refused and [f"{name}: {rehearsal.refused[name]}" for name in refused],
        )
    except MemoryError:
        NOTICES.tell("there is no memory to time convolutions in; our own kernels do them")
        return None
    return right[chosen - 1] if chosen else None


def _library(device: Any) -> tuple[dnn.Dnn | None, str]:
    """Return cuDNN and its version; or None, and why it cannot be used where it is installed."""
    try:
        library = device.backend.dnn
    except dnn.DnnUnavailable as reason:
        return None, str(reason) if reason.installed else ""
    return library, library.version


def _key(name: str, conv: Conv, outs: Any, ins: Any, attrs: Any, tf32: bool) -> str:
    """Return a call as text."""
    g = conv.geometry
    kind = "tf32" if tf32 and conv.dtype == np.float32 else conv.dtype.name
    activation = attrs.get("activation", "")
    return (
        f"{name}: {kind} {g.n}x{g.h}x{g.w}x{g.c} to {g.oh}x{g.ow}x{conv.f} window {g.kh}x{g.kw} stride {g.sh}x{g.sw} "
        f"border {g.top} {g.left} dilation {g.dh}x{g.dw} groups {conv.groups}{' ' + activation if activation else ''}"
    )


# -- cuDNN -------------------------------------------------------------------------------------------------------------


def task_of(conv: Conv, make: str, tf32: bool) -> dnn.Task:
    """Return what cuDNN is asked for."""
    g = conv.geometry
    spans = ((g.h, g.oh, g.sh, g.kh, g.dh, g.top), (g.w, g.ow, g.sw, g.kw, g.dw, g.left))
    # what lies behind the last window is not read: no border is needed there
    behind = [max(0, (many - 1) * step + (size - 1) * wide + 1 - n - first)
              for n, many, step, size, wide, first in spans]  # fmt: skip
    return dnn.Task(
        make, (g.n, g.h, g.w, g.c), (g.n, g.oh, g.ow, conv.f), (g.kh, g.kw), (g.sh, g.sw), (g.dh, g.dw),
        (g.top, g.left), (behind[0], behind[1]), conv.groups, conv.dtype.name, tf32 and conv.dtype == np.float32,
    )


def _offered(
    device: Any, library: dnn.Dnn, conv: Conv, make: str, outs: Any, ins: Any, attrs: Any, ways: list[Way]
) -> str:
    """Add cuDNN's ways to do a call; returns why there is none."""
    if conv.dtype.name not in dnn.KINDS:
        return f"cuDNN is not asked for {conv.dtype.name}"
    if any(int(a.data.ptr) % dnn.ALIGNMENT for a in (*outs, *ins)):
        return f"an address is no multiple of {dnn.ALIGNMENT} bytes"
    task = task_of(conv, make, device.backend.tf32)
    activation = attrs.get("activation", "linear")
    asked = [task]
    if len(ins) > 2:
        asked.insert(0, replace(task, bias=True, relu=activation == "relu"))
    why = ""
    for wanted in asked:
        offer = library.offer(wanted)
        why = why or offer.why
        for plan in offer.plans:
            added = "" if not wanted.bias else ", bias and ReLU" if wanted.relu else ", bias"
            calls = partial(_by_plan, device, plan, wanted, activation)
            ways.append(Way(f"cuDNN{added}: {plan.name}", calls))
        if offer.plans:
            return ""
    return why


def _by_product(run: Callable[..., None], forms: Sequence[Form], fresh: Fresh, outs: Any, ins: Any) -> list[Call]:
    return [(run, outs, ins, tuple(fresh(form.shape, form.dtype) for form in forms))]


def _by_plan(
    device: Any, plan: dnn.Plan, task: dnn.Task, activation: str, fresh: Fresh, outs: Any, ins: Any
) -> list[Call]:
    """Return the calls that do a convolution by a plan; those that turn kernels stand alone, and can be merged."""
    ours = outs[0] if task.make == "kernel" else ins[1]
    turned = fresh(task.kernel, ours.dtype)
    flat = turned.reshape(task.kernel[0], -1).T  # as our kernels are: (window and inputs, outputs)
    ours = ours.reshape(flat.shape)
    scratch = (fresh((max(plan.workspace, 1),), np.uint8),)
    run = partial(_run_plan, device, plan=plan, task=task, activation=activation)
    turn = partial(_turn, device, shape=task.kernel)
    if task.make != "kernel":
        return [(turn, (flat,), (ours,), ()), (run, outs, (ins[0], turned, *ins[2:]), scratch)]
    calls: list[Call] = [(run, (turned,), ins, scratch), (turn, (ours,), (flat,), ())]
    if len(outs) > 1:
        sums = tuple(fresh(form.shape, form.dtype) for form in convolution.bias_scratch(ins[1]))
        calls.append((partial(_sum, device), outs[1:], ins[1:], sums))
    return calls


def _turn(ctx: Any, outs: Any, kernel: Any, *, shape: Any) -> None:
    """Write a kernel in the other order; `shape`: as cuDNN has it."""
    run_map("copy", ctx, outs, (kernel,), {})


def _sum(ctx: Any, outs: Any, g: Any) -> None:
    convolution.by_bias(ctx, ctx.scratch, g, outs[0])


def _run_plan(
    ctx: Any, outs: Any, first: Any, second: Any, *bias: Any, plan: dnn.Plan, task: dnn.Task, activation: str
) -> None:
    """Run a plan; kernels are as cuDNN has them, the scratch array is the plan's workspace."""
    tensors = {
        "result": {dnn.IMAGE: first, dnn.KERNEL: second, dnn.RESULT: outs[0]},
        "image": {dnn.IMAGE: outs[0], dnn.KERNEL: second, dnn.RESULT: first},
        "kernel": {dnn.IMAGE: first, dnn.KERNEL: outs[0], dnn.RESULT: second},
    }[task.make]
    if task.bias:
        tensors[dnn.BIAS] = bias[0]
    addresses = {number: int(array.data.ptr) for number, array in tensors.items()}
    ctx.backend.dnn.run(plan, addresses, int(ctx.scratch[0].data.ptr))
    if bias and not task.bias:
        run_map("biased", ctx, outs, (outs[0], bias[0]), {"activation": activation})
    elif bias and activation not in ("linear", "relu"):
        run_map(activation, ctx, outs, outs, {})


# -- trying it out -----------------------------------------------------------------------------------------------------


class _Rehearsal:
    """A call on memory of its own, filled with random numbers.

    Attributes:
        plain: runs it as it is.
        refused: name of a way -> why it is not one.
    """

    def __init__(self, device: Any, call: Call) -> None:
        self._device = device
        self._drawn = device.backend.tuning.drawn
        run, outs, ins, scratch = call
        self._ins = tuple(self._like(a.shape, a.dtype) for a in ins)
        self._outs = [tuple(self._like(a.shape, a.dtype) for a in outs) for _ in range(2)]
        mine = (run, self._outs[0], self._ins, tuple(self._like(a.shape, a.dtype) for a in scratch))
        self.plain = partial(run_calls, device, [mine])
        self.refused: dict[str, str] = {}

    def _like(self, shape: Any, dtype: Any) -> Any:
        return self._drawn(int(np.prod(shape)), np.dtype(dtype)).reshape(shape)

    def work(self, way: Way) -> Callable[[], None]:
        """Return what runs it another way."""
        return partial(run_calls, self._device, way.calls(self._like, self._outs[1], self._ins))

    def agrees(self, way: Way, conv: Conv) -> bool:
        """Tell whether a way computes the same as our kernels, within what the order of sums explains, NaN included."""
        first = self._ins[0].reshape(-1)[:1]
        tf32 = self._device.backend.tf32 and conv.dtype == np.float32
        most = _APART_TF32 if tf32 else _APART.get(conv.dtype.name, 1e-12)
        reason = ""
        try:
            work = self.work(way)
            for value in (float("nan"), 0.5):  # the last one stays
                first.fill(value)
                self.plain()
                work()
                pairs = [[self._device.backend.to_host(a).astype(np.float64) for a in both]
                         for both in zip(*self._outs, strict=True)]  # fmt: skip
                if any((np.isnan(mine) != np.isnan(theirs)).any() for mine, theirs in pairs):
                    reason = reason or "NaN is lost or spread"
                elif value == value and not reason:
                    apart = max(np.abs(mine - theirs).max() / max(np.abs(mine).max(), 1e-30) for mine, theirs in pairs)
                    reason = "" if apart <= most else f"{apart:.1e} from our own kernels"
        except dnn.DnnError as error:
            reason = str(error)
        if reason:
            self.refused[way.name] = reason
        return not reason
