"""The checks: each looks at one operation on one device and raises what is wrong.

A check returns the names of the ways in which the operation ran ("kernel", "reference"), so that an operation without a
kernel is never counted as a kernel that passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels.spec import Array, Attrs, Form, KernelSpec, Sample
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import Plan, call, find_plan
from deepbabysit.runtime.record import Recorder, RecordingRefused
from deepbabysit.runtime.registry import find_device
from deepbabysit.runtime.subnormals import flushed
from deepbabysit.testing.cases import (
    LAYOUTS,
    Guarded,
    Host,
    cast,
    compare,
    derivable,
    draw,
    draw_gradients,
    expect,
    generator,
    has_gradient,
    infer,
    place,
    same_bits,
    show,
    tolerance,
)
from deepbabysit.testing.derivatives import cotangents, first_order, gradients, pull, run, second_order
from deepbabysit.testing.outcome import ConformanceError, NothingToCheck
from deepbabysit.testing.settings import Settings

Ways = set[str]


def _way(plan: Plan) -> str:
    return "kernel" if plan.kernel is not None or plan.view else "reference"


def _fits(spec: KernelSpec, inputs: Sequence[np.ndarray], attrs: Attrs) -> bool:
    """Tell whether the operation takes these dtypes (its samples are float64; some take no other)."""
    try:
        infer(spec, inputs, attrs)
    except TypeError:
        return False
    return True


def _place_all(device: Device, inputs: Sequence[np.ndarray]) -> tuple[Array, ...]:
    return tuple(device.asarray(x) for x in inputs)


def values(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """Values, shapes and dtypes; inputs unchanged; every output written, and nothing beside it; twice the same bits."""
    ways: Ways = set()
    for sample in draw(spec, settings.draws):
        for dtype in settings.dtypes:
            inputs = cast(sample.inputs, dtype)
            attrs = sample.attrs
            if dtype != "float64" and not _fits(spec, inputs, attrs):
                continue
            what = show(spec, inputs, attrs)
            expected = expect(spec, inputs, attrs, sample.by_dtype)
            forms = infer(spec, inputs, attrs)
            arrays = _place_all(device, inputs)
            plan = find_plan(device, spec, arrays, attrs)
            ways.add(_way(plan))
            results = []
            for kind in (0, 1):
                if plan.view:
                    outs = call(device, spec, arrays, attrs)
                else:
                    buffers = [Guarded(device, form, kind) for form in forms]
                    outs = call(device, spec, arrays, attrs, tuple(b.array for b in buffers))
                    device.synchronize()
                    for buffer in buffers:
                        buffer.check(what)
                results.append([np.array(device.to_host(out)) for out in outs])
            for number, (array, host) in enumerate(zip(arrays, inputs, strict=True)):
                same_bits(f"{what}: input {number} was changed", np.array(device.to_host(array)), host)
            if len(expected) != len(forms):
                raise ConformanceError(f"{what}: the reference gives {len(expected)} outputs, infer {len(forms)}")
            for number, (out, form, oracle) in enumerate(zip(results[0], forms, expected, strict=True)):
                if out.shape != form.shape or out.dtype != form.dtype:
                    raise ConformanceError(
                        f"{what}: output {number} is {out.dtype}{list(out.shape)}; infer says "
                        f"{form.dtype}{list(form.shape)}"
                    )
                compare(f"{what} output {number}", out, oracle, tolerance(spec, inputs, form))
            if plan.kernel is None or plan.kernel.deterministic:
                for number, (one, other) in enumerate(zip(*results, strict=True)):
                    same_bits(f"{what} output {number} with other values in the buffer before", one, other)
            else:
                for number, (other, form, oracle) in enumerate(zip(results[1], forms, expected, strict=True)):
                    compare(f"{what} output {number}, second run", other, oracle, tolerance(spec, inputs, form))
    return ways


def layouts(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """The same values from inputs that are strided, transposed, reversed or not aligned."""
    ways: Ways = set()
    dtype = settings.dtypes[-1] if len(settings.dtypes) == 1 else settings.dtypes[1]
    for sample in draw(spec, 1):
        inputs = cast(sample.inputs, dtype)
        if not _fits(spec, inputs, sample.attrs):
            inputs = sample.inputs
        if all(x.ndim == 0 or x.size == 0 for x in inputs):
            continue
        expected = expect(spec, inputs, sample.attrs, sample.by_dtype)
        forms = infer(spec, inputs, sample.attrs)
        for layout in LAYOUTS:
            arrays = tuple(place(device, x, layout) for x in inputs)
            plan = find_plan(device, spec, arrays, sample.attrs)
            ways.add(_way(plan))
            outs = call(device, spec, arrays, sample.attrs)
            for number, (out, form, oracle) in enumerate(zip(outs, forms, expected, strict=True)):
                what = f"{show(spec, inputs, sample.attrs)} output {number} from {layout} inputs"
                compare(what, np.asarray(device.to_host(out)), oracle, tolerance(spec, inputs, form))
            for number, (array, host) in enumerate(zip(arrays, inputs, strict=True)):
                same_bits(f"{spec.name}: {layout} input {number} was changed", np.array(device.to_host(array)), host)
    return ways


def empty(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """No rows: wherever the operation takes a first axis of length 0, it gives what the reference gives."""
    ways: Ways = set()
    for sample in draw(spec, 1):
        length = max((x.shape[0] for x in sample.inputs if x.ndim), default=0)
        if not length:
            continue
        inputs = tuple(x[:0] if x.ndim and x.shape[0] == length else x for x in sample.inputs)
        if any(x.dtype.kind in "iu" and x is y for x, y in zip(inputs, sample.inputs, strict=True)):
            continue  # whole numbers that stay may name places in what was cut
        try:
            forms = infer(spec, inputs, sample.attrs)
        except (ValueError, TypeError, IndexError):
            continue  # refused, or an attribute names the old length
        what = f"{show(spec, inputs, sample.attrs)}, which infer allows,"
        try:
            expected = expect(spec, inputs, sample.attrs)
        except Exception as error:
            raise ConformanceError(f"{what} is refused by the reference: {type(error).__name__}: {error}") from error
        arrays = _place_all(device, inputs)
        ways.add(_way(find_plan(device, spec, arrays, sample.attrs)))
        for out, form, oracle in zip(call(device, spec, arrays, sample.attrs), forms, expected, strict=True):
            compare(what, np.asarray(device.to_host(out)), oracle, tolerance(spec, inputs, form))
    if not ways:
        raise NothingToCheck("no sample can be cut to no rows")
    return ways


def aliasing(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """Writing into the memory of an input, where the operation allows it, gives the same bits."""
    if not spec.inplace:
        raise NothingToCheck("no output may share memory with an input")
    ways: Ways = set()
    together = tuple({out: (out, position) for out, position in reversed(spec.inplace)}.values())
    groups = {*[(pair,) for pair in spec.inplace], together}
    for sample in draw(spec, 1):
        inputs = cast(sample.inputs, "float32")
        if not _fits(spec, inputs, sample.attrs):
            inputs = sample.inputs
        forms = infer(spec, inputs, sample.attrs)
        arrays = _place_all(device, inputs)
        ways.add(_way(find_plan(device, spec, arrays, sample.attrs)))
        separate = [np.array(device.to_host(out)) for out in call(device, spec, arrays, sample.attrs)]
        for group in groups:
            if any(forms[o] != Form(inputs[i].shape, inputs[i].dtype) for o, i in group):
                continue
            if len({i for _, i in group}) != len(group):
                continue
            fresh = _place_all(device, inputs)
            shared = dict(group)
            outs = tuple(
                fresh[shared[o]] if o in shared else device.empty(form.shape, form.dtype)
                for o, form in enumerate(forms)
            )
            call(device, spec, fresh, sample.attrs, outs)
            for number, (out, oracle) in enumerate(zip(outs, separate, strict=True)):
                what = f"{show(spec, inputs, sample.attrs)} output {number}, in place by {group}"
                same_bits(what, np.array(device.to_host(out)), oracle)
    return ways


def errors(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """Bad input is refused with the exception and the message that the operation names."""
    bad = list(spec.errors())
    if not bad:
        raise NothingToCheck("no bad input is named")
    for inputs, attrs, kind, message in bad:
        hosts = tuple(np.asarray(x) for x in inputs)
        what = show(spec, hosts, attrs)
        try:
            call(device, spec, _place_all(device, hosts), attrs)
        except kind as error:
            if message not in str(error):
                raise ConformanceError(f"{what}: the message lacks {message!r}: {error}") from error
        except Exception as error:
            raise ConformanceError(f"{what} raised {type(error).__name__}, not {kind.__name__}: {error}") from error
        else:
            raise ConformanceError(f"{what} was accepted; expected {kind.__name__} with {message!r}")
    return {"kernel"}


def graph(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """A composite's reference, run on Tensors, gives the values, shapes and dtypes that the operation promises."""
    if not spec.composite:
        raise NothingToCheck("a primitive")
    operations = tensor_operations(device)
    for sample in draw(spec, 1):
        for dtype in settings.dtypes[:2]:
            inputs = cast(sample.inputs, dtype)
            if not _fits(spec, inputs, sample.attrs):
                continue
            forms = infer(spec, inputs, sample.attrs)
            expected = expect(spec, inputs, sample.attrs, sample.by_dtype)
            tensors = [Tensor(device.asarray(x), device) for x in inputs]
            results = spec.reference(operations, *tensors, **sample.attrs)
            results = results if isinstance(results, tuple) else (results,)
            for number, (out, form, oracle) in enumerate(zip(results, forms, expected, strict=True)):
                what = f"{show(spec, inputs, sample.attrs)} as a graph, output {number}"
                if Form(out.shape, out.dtype) != form:
                    raise ConformanceError(
                        f"{what}: {out.dtype}{list(out.shape)}; infer says {form.dtype}{list(form.shape)}"
                    )
                compare(what, np.asarray(device.to_host(out.data)), oracle, tolerance(spec, inputs, form))
    return {"kernel"}


def _need_gradient(spec: KernelSpec) -> None:
    if not has_gradient(spec):
        raise NothingToCheck("no derivative")


def vjp(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """The derivative on the device against that of the reference, in float64; also for each input alone."""
    _need_gradient(spec)
    reference = find_device("cpu:reference")
    ways: Ways = set()
    rng = generator(spec, 7)
    cases: list[Sample] = [s for s in draw(spec, 1) if s.gradient and derivable(spec, s.inputs)]
    if not cases:
        raise NothingToCheck("no sample has a gradient")
    for sample in cases:
        for dtype in settings.dtypes[:2]:
            inputs = cast(sample.inputs, dtype)
            attrs = sample.attrs
            if not _fits(spec, inputs, attrs):
                continue
            positions = derivable(spec, inputs)
            weights = cotangents(rng, infer(spec, inputs, attrs))
            oracle = gradients(reference, spec, cast(inputs, "float64"), attrs, weights, positions, spec.composite)
            allowed = spec.tolerance[dtype]
            ways.add(_way(find_plan(device, spec, _place_all(device, inputs), attrs)))
            groups = [positions, *[[i] for i in positions]] if len(positions) > 1 else [positions]
            for group in groups:
                found = gradients(device, spec, inputs, attrs, weights, group)
                for i, g in zip(group, found, strict=True):
                    truth = oracle[positions.index(i)]
                    what = f"{show(spec, inputs, attrs)}: gradient by input {i} (of {group})"
                    if g.dtype != inputs[i].dtype:
                        raise ConformanceError(f"{what} is {g.dtype}")
                    compare(what, g, truth, allowed, float(np.abs(truth).max()) if truth.size else 0.0)
    return ways


def gradcheck(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """The gradient against finite differences of the reference in float64, five points, rtol 1e-5."""
    _need_gradient(spec)
    ways: Ways = set()
    for number, sample in enumerate(draw_gradients(spec, settings.gradients)):
        inputs = cast(sample.inputs, "float64")
        ways.add(_way(find_plan(device, spec, _place_all(device, inputs), sample.attrs)))
        wrong = first_order(device, spec, inputs, sample.attrs, generator(spec, 1000 + number))
        if wrong is not None:
            raise ConformanceError(f"{show(spec, inputs, sample.attrs)}: {wrong}")
    return ways


def second(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """The gradient of the gradient against finite differences of the gradient."""
    _need_gradient(spec)
    if spec.order < 2:
        raise NothingToCheck("only first derivatives are claimed")
    ways: Ways = set()
    for number, sample in enumerate(draw_gradients(spec, settings.second)):
        inputs = cast(sample.inputs, "float64")
        ways.add(_way(find_plan(device, spec, _place_all(device, inputs), sample.attrs)))
        wrong = second_order(device, spec, inputs, sample.attrs, generator(spec, 2000 + number))
        if wrong is not None:
            raise ConformanceError(f"{show(spec, inputs, sample.attrs)}: {wrong}")
    return ways


def _changed(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Return other values that are as valid: the same ones in another order; a control array moves on by one."""
    if values.dtype == np.uint64:
        return values + np.uint64(1)
    return rng.permutation(values.reshape(-1)).reshape(values.shape)


@flushed()  # as in a training step
def _step(
    device: Device,
    spec: KernelSpec,
    arrays: Sequence[Array],
    attrs: Attrs,
    weights: Sequence[Any],
    positions: list[int],
) -> list[Array]:
    """Run forward and backward on raw arrays; returns outputs and gradients."""
    tensors = [Tensor(a, device, requires_grad=i in positions) for i, a in enumerate(arrays)]
    outputs = run(spec, tensors, attrs)
    found = pull(outputs, weights, [tensors[i] for i in positions]) if positions else []
    return [*[o.data for o in outputs], *[g for g in found if g is not None]]


def replay(device: Device, spec: KernelSpec, settings: Settings) -> Ways:
    """A recorded call, with its gradient, replayed on changed inputs, gives the bits of an eager call on them."""
    ways: Ways = set()
    rng = generator(spec, 9)
    cases = list(draw(spec, 1))
    for sample in cases[:: max(len(cases) // settings.replays, 1)]:
        inputs: Host = cast(sample.inputs, "float32")
        attrs = sample.attrs
        if not _fits(spec, inputs, attrs):
            inputs = sample.inputs
        forms = infer(spec, inputs, attrs)
        arrays = _place_all(device, inputs)
        plan = find_plan(device, spec, arrays, attrs)
        if plan.kernel is not None and not plan.kernel.deterministic:
            raise NothingToCheck("no deterministic kernel")
        ways.add(_way(plan))
        positions = derivable(spec, inputs) if has_gradient(spec) and sample.gradient else []
        weights = [
            None if w is None else device.asarray(w.astype(form.dtype))
            for w, form in zip(cotangents(rng, forms), forms, strict=True)
        ]
        recorder = Recorder(device)
        try:
            with surroundings(recorder=recorder):
                recorded = _step(device, spec, arrays, attrs, weights, positions)
        except RecordingRefused as error:
            raise NothingToCheck(f"not recordable: {error}") from error
        recording = recorder.finish()
        changed = tuple(_changed(rng, x) for x in inputs)
        for array, host in zip(arrays, changed, strict=True):
            device.write(array, host)
        recording.replay()
        eager = _step(device, spec, _place_all(device, changed), attrs, weights, positions)
        for number, (one, other) in enumerate(zip(recorded, eager, strict=True)):
            what = f"{show(spec, inputs, attrs)} replayed, result {number}"
            same_bits(what, np.array(device.to_host(one)), np.array(device.to_host(other)))
    return ways


Check = Callable[[Device, KernelSpec, Settings], Ways]
CHECKS: dict[str, Check] = {
    check.__name__: check for check in (values, layouts, empty, aliasing, errors, graph, vjp, gradcheck, second, replay)
}
