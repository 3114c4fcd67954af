"""The one funnel: every operation of every kind on every device runs through `call`.

What depends on shapes, dtypes and attributes only is decided once and kept as a `Plan`: the forms of the outputs, which
kernel runs, whether its limits allow it. A call finds its plan, takes buffers, runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from deepbabysit.kernels import SPECS
from deepbabysit.kernels.activations import REMEMBERED
from deepbabysit.kernels.shapes import computed, is_floating, is_half
from deepbabysit.kernels.spec import Array, Attrs, Form, KernelSpec, complete_attrs
from deepbabysit.runtime.backend import Kernel
from deepbabysit.runtime.context import current
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.reference import ShapeArray

NO_ATTRS: Attrs = {}
_ASTYPE = SPECS["astype"]
# Nothing is computed, or the meaning names limits of the dtype, or (update rules) dtypes are mixed on purpose:
# references take numbers in half precision as they are.
_BY_DTYPE = frozenset({"astype", "copy", "log_probability", *(s.name for s in SPECS if s.name.endswith("_update"))})
_PLANS_KEPT = 20_000


class Plan:
    """One operation for given shapes, dtypes and attributes on one device.

    Attributes:
        spec: the operation.
        attrs: all attributes.
        inputs: forms of the inputs.
        outputs: forms of the outputs.
        run: ``run(outs, *ins)``; for a view ``run(*ins)``.
        kernel: the kernel behind `run`, or None where the reference runs.
        simple: one output, a kernel, and nothing to prepare.
        differentiable: whether gradients can pass.
        special: whether the result remembers its first input (views, activations).
        wide: the plan in float32 that does the work for numbers in half precision that have no kernel; None elsewhere.
    """

    __slots__ = (
        "attrs", "contiguous", "differentiable", "inputs", "kernel", "outputs", "run", "scratch",
        "simple", "spec", "special", "view", "wide",
    )

    def __init__(self, device: Device, spec: KernelSpec, arrays: tuple[Array, ...], attrs: Attrs) -> None:
        self.spec = spec
        self.attrs = complete_attrs(spec, attrs)
        self.inputs = tuple(Form(tuple(a.shape), a.dtype) for a in arrays)
        self.outputs = spec.infer([f.shape for f in self.inputs], [f.dtype for f in self.inputs], **self.attrs)
        self.view = spec.view
        self.wide: Plan | None = None
        self.kernel = _choose(device, spec, self.inputs, self.attrs)
        self.scratch: tuple[Form, ...] = ()
        self.contiguous = False
        kernel = self.kernel
        if self.view:
            source = kernel.run if kernel is not None else None
            self.run: Callable[..., Any] = (
                partial(source, device, None, **self.attrs)
                if source is not None
                else partial(spec.reference, device.namespace, **self.attrs)
            )
        elif kernel is not None:
            self.run = partial(kernel.run, device, **self.attrs)
            self.contiguous = kernel.contiguous
            if kernel.scratch is not None:
                self.scratch = kernel.scratch(self.inputs, **self.attrs)
        elif spec.name not in _BY_DTYPE and any(is_half(f.dtype) for f in self.inputs) and not device.abstract:
            forms: Any = [Form(f.shape, computed(f.dtype)) for f in self.inputs]
            wide = self.wide = Plan(device, spec, tuple(forms), attrs)
            self.kernel, self.contiguous = wide.kernel, wide.contiguous
            made = [w for w, f in zip(wide.outputs, self.outputs, strict=True) if w.dtype != f.dtype]
            changed = [w for w, f in zip(wide.inputs, self.inputs, strict=True) if w.dtype != f.dtype]
            self.scratch = (*changed, *made, *wide.scratch)
            self.run = partial(_run_wide, device, self, wide)
        else:
            self.run = partial(_run_reference, device, spec, self.attrs)
        self.simple = (
            kernel is not None and kernel.deterministic and len(self.outputs) == 1
            and not (self.view or self.contiguous or self.scratch or device.abstract)
        )
        self.differentiable = spec.differentiable != () and any(is_floating(form.dtype) for form in self.outputs)
        self.special = self.view or spec.name in REMEMBERED


def _choose(device: Device, spec: KernelSpec, inputs: tuple[Form, ...], attrs: Attrs) -> Kernel | None:
    kernel = device.backend.kernels.get(spec.name)
    if kernel is None:
        return None
    for variant in kernel.variants:
        if _takes(variant, inputs, attrs):
            return variant
    return kernel if _takes(kernel, inputs, attrs) else None


def _run_wide(device: Device, plan: Plan, wide: Plan, outs: tuple[Array, ...], *ins: Array) -> None:
    """Compute numbers in half precision in float32: inputs are widened, results rounded."""
    spare = iter(device.scratch)
    given = []
    for array, form in zip(ins, plan.inputs, strict=True):
        if is_half(form.dtype):
            source, array = array, next(spare)
            _cast(device, array, source)
        given.append(array)
    made = [
        next(spare) if f.dtype != w.dtype else out
        for out, f, w in zip(outs, plan.outputs, wide.outputs, strict=True)
    ]
    device.scratch = tuple(spare)
    wide.run(tuple(made), *given)
    for out, result in zip(outs, made, strict=True):
        if out is not result:
            _cast(device, out, result)


def _cast(device: Device, out: Array, x: Array) -> None:
    """Write an array into one of another dtype."""
    plan = find_plan(device, _ASTYPE, (x,), {"dtype": out.dtype})
    if plan.kernel is None or (plan.contiguous and not x.flags.c_contiguous):
        out[...] = x
    else:
        plan.run((out,), x)


def _takes(kernel: Kernel, inputs: tuple[Form, ...], attrs: Attrs) -> bool:
    """Tell whether a kernel can run on inputs of these forms."""
    if kernel.dtypes is not None and any(is_floating(f.dtype) and f.dtype.name not in kernel.dtypes for f in inputs):
        return False
    return kernel.supports is None or kernel.supports(inputs, **attrs)


def _run_reference(device: Device, spec: KernelSpec, attrs: Attrs, outs: tuple[Array, ...], *ins: Array) -> None:
    """Run the reference and copy what it returns into the buffers."""
    results = spec.reference(device.namespace, *ins, **attrs)
    if not isinstance(results, tuple):
        results = (results,)
    for out, result in zip(outs, results, strict=True):
        if tuple(result.shape) != tuple(out.shape):
            raise AssertionError(f"{spec.name}: the reference gave {result.shape}, infer said {out.shape}")
        out[...] = result


def find_plan(device: Device, spec: KernelSpec, arrays: tuple[Array, ...], attrs: Attrs) -> Plan:
    """Return the plan for these inputs; bad input is refused here, before anything runs."""
    key: Any
    if len(arrays) == 2:
        x, y = arrays
        key = (spec, x.shape, x.dtype, y.shape, y.dtype)
    elif len(arrays) == 1:
        x = arrays[0]
        key = (spec, x.shape, x.dtype)
    else:
        key = (spec, *[(a.shape, a.dtype) for a in arrays])
    if attrs:
        key = (key, tuple(attrs.items()))
    try:
        plan = device.plans.get(key)
    except TypeError:  # an attribute that cannot be hashed: a list becomes a tuple
        attrs = complete_attrs(spec, attrs)
        key = (key[0], tuple(attrs.items()))
        plan = device.plans.get(key)
    if plan is None:
        plan = Plan(device, spec, arrays, attrs)
        if len(device.plans) >= _PLANS_KEPT:
            device.plans.clear()
        device.plans[key] = plan
    return plan


def execute(device: Device, plan: Plan, arrays: tuple[Array, ...], outs: tuple[Array, ...] | None = None) -> Any:
    """Run a plan; returns a tuple of arrays. `outs` are buffers to write into instead of new ones."""
    mode = current()
    recorder = mode.recorder
    if plan.simple and recorder is None and outs is None:
        form = plan.outputs[0]
        outs = (device.backend.empty(form.shape, form.dtype),)
        plan.run(outs, *arrays)
        return outs
    if device.abstract:
        return tuple(ShapeArray(form.shape, form.dtype) for form in plan.outputs)
    if plan.view:
        return (_view(device, plan, arrays, recorder),)
    kernel = plan.kernel
    if kernel is None:
        device.misses[plan.spec.name] += 1
        if mode.strict:
            forms = ", ".join(f"{f.dtype}{list(f.shape)}" for f in plan.inputs)
            raise RuntimeError(
                f"{plan.spec.name}({forms}) has no kernel on {device.name} ({device.backend.name}) and strict() is on; "
                f"its reference would have run"
            )
    else:
        if mode.deterministic and not kernel.deterministic:
            raise RuntimeError(
                f"{plan.spec.name} has no deterministic kernel on {device.name}; "
                f"allow it with db.deterministic(False), or use another operation"
            )
        if recorder is not None and not kernel.capturable:
            recorder.refuse(f"{plan.spec.name} cannot be part of a recorded step on {device.name}")
    if plan.contiguous:
        arrays = tuple(a if a.flags.c_contiguous else call(device, SPECS["copy"], (a,))[0] for a in arrays)
    if outs is None:
        outs = tuple(device.empty(form.shape, form.dtype) for form in plan.outputs)
    scratch: tuple[Array, ...] = ()
    if plan.scratch:
        scratch = device.scratch = tuple(device.empty(form.shape, form.dtype) for form in plan.scratch)
    try:
        plan.run(outs, *arrays)
    finally:
        if scratch:
            device.scratch = ()
    if recorder is not None:
        recorder.add(plan.run, outs, arrays, scratch, plan if plan.wide is None else None)
    return outs


def _view(device: Device, plan: Plan, arrays: tuple[Array, ...], recorder: Any) -> Array:
    result = plan.run(*arrays)
    source = arrays[0]
    if recorder is not None and result is not source and _root(result) is not _root(source) and result.size:
        # the layout did not allow a view: the library copied, and a replay has to copy again
        permanent = recorder.arena.empty(result.shape, result.dtype)
        permanent[...] = result
        recorder.add(partial(_refresh_copy, plan), (permanent,), arrays, ())
        return permanent
    return result


def _root(array: Array) -> Any:
    """Return the object at the end of the chain of views: two arrays with the same one share memory."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


def _refresh_copy(plan: Plan, outs: tuple[Array, ...], *ins: Array) -> None:
    outs[0][...] = plan.run(*ins)


def call(
    device: Device,
    spec: KernelSpec,
    arrays: tuple[Array, ...],
    attrs: Attrs = NO_ATTRS,
    outs: tuple[Array, ...] | None = None,
) -> Any:
    """Run an operation on raw arrays of one device; returns a tuple of arrays.

    Arguments:
        device: where the arrays live.
        spec: the operation.
        arrays: the inputs, in the spec's order.
        attrs: keyword attributes.
        outs: buffers to write into; the spec must allow it where they share memory with inputs.
    """
    return execute(device, find_plan(device, spec, arrays, attrs), arrays, outs)
