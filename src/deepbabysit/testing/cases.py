"""Inputs for the checks: drawn samples, layouts in memory, guarded output buffers, comparisons."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from deepbabysit.kernels.namespace import Namespace
from deepbabysit.kernels.shapes import is_floating
from deepbabysit.kernels.spec import Array, Attrs, Form, KernelSpec, Sample, Tolerance, complete_attrs
from deepbabysit.runtime.device import Device
from deepbabysit.testing.outcome import ConformanceError, NothingToCheck

Host = tuple[np.ndarray, ...]
_NUMPY = Namespace(np)
GUARD = 64  # elements before and after an output; a multiple of every alignment that kernels use
_PATTERN = 0x5A


def generator(spec: KernelSpec, number: int) -> np.random.Generator:
    """Return the generator of a draw: a function of the operation's name and the number."""
    return np.random.default_rng([zlib.crc32(spec.name.encode()), number])


def draw(spec: KernelSpec, draws: int) -> Iterator[Sample]:
    """Yield the samples of an operation, drawn several times."""
    for number in range(draws):
        for sample in spec.samples(generator(spec, number)):
            inputs = tuple(np.asarray(x) for x in sample.inputs)
            yield sample._replace(inputs=inputs, attrs=complete_attrs(spec, sample.attrs))


def draw_gradients(spec: KernelSpec, count: int) -> list[Sample]:
    """Return so many samples on which the derivative exists (fewer only where an operation has none)."""
    found: list[Sample] = []
    for number in range(100, 100 + 4 * count):
        before = len(found)
        for sample in spec.samples(generator(spec, number)):
            inputs = tuple(np.asarray(x) for x in sample.inputs)
            if sample.gradient and any(inputs[i].size for i in derivable(spec, inputs)):
                found.append(Sample(inputs, complete_attrs(spec, sample.attrs)))
        if len(found) >= count or len(found) == before:
            break
    if not found:
        raise NothingToCheck("no sample has a gradient")
    # the samples of one draw are spread over the kinds of input, so that a short list has some of each
    step = max(len(found) // count, 1)
    return found[::step][:count]


def derivable(spec: KernelSpec, inputs: Sequence[np.ndarray]) -> list[int]:
    """Return the positions of inputs that can have a gradient."""
    return [
        i
        for i, x in enumerate(inputs)
        if is_floating(x.dtype) and (spec.differentiable is None or i in spec.differentiable)
    ]


def has_gradient(spec: KernelSpec) -> bool:
    """Tell whether an operation claims a derivative."""
    return spec.differentiable != () and (spec.vjp is not None or spec.composite)


def cast(inputs: Sequence[np.ndarray], dtype: str) -> Host:
    """Return the inputs with floating numbers rounded to a dtype."""
    with np.errstate(all="ignore"):
        return tuple(x.astype(dtype) if is_floating(x.dtype) else x for x in inputs)


def infer(spec: KernelSpec, inputs: Sequence[np.ndarray], attrs: Attrs) -> tuple[Form, ...]:
    """Return the forms of the outputs."""
    return spec.infer([x.shape for x in inputs], [x.dtype for x in inputs], **attrs)


def expect(spec: KernelSpec, inputs: Sequence[np.ndarray], attrs: Attrs, by_dtype: bool = False) -> Host:
    """Return what the reference gives in float64, or in the dtype of the inputs where the meaning depends on it."""
    with np.errstate(all="ignore"):
        results = spec.reference(_NUMPY, *(inputs if by_dtype else cast(inputs, "float64")), **attrs)
    return tuple(np.asarray(r) for r in (results if isinstance(results, tuple) else (results,)))


def tolerance(spec: KernelSpec, inputs: Sequence[np.ndarray], form: Form) -> Tolerance | None:
    """Return how far an output may be off: by the coarsest dtype involved; None for whole numbers, which are exact."""
    if not is_floating(form.dtype):
        return None
    coarsest = min([form.dtype, *[x.dtype for x in inputs if is_floating(x.dtype)]], key=lambda d: d.itemsize)
    return spec.tolerance[coarsest.name]


def compare(what: str, actual: np.ndarray, expected: np.ndarray, allowed: Tolerance | None, scale: float = 0.0) -> None:
    """Raise with the worst element where values differ by more than allowed.

    Arguments:
        what: begins the message.
        actual: the values found.
        expected: the values of the oracle.
        allowed: the tolerance, or None where every bit counts.
        scale: the size that the relative tolerance is measured by where it is larger than the element's own.
    """
    if actual.shape != expected.shape:
        raise ConformanceError(f"{what}: shape {actual.shape}, expected {expected.shape}")
    if actual.size == 0:
        return
    if allowed is None:
        wrong = ~((actual == expected) | ((actual != actual) & (expected != expected)))
        distance = wrong.astype(np.float64)
    else:
        with np.errstate(all="ignore"):
            rounded = expected.astype(actual.dtype).astype(np.float64)  # what overflows in the dtype may overflow
            found = actual.astype(np.float64)
            distance = np.abs(found - rounded)
            limit = allowed.atol + allowed.rtol * np.maximum(np.abs(rounded), scale)
            same = (found == rounded) | (np.isnan(found) & np.isnan(rounded))
            wrong = ~(same | (distance <= limit))
        distance = np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))
    if wrong.any():
        place = np.unravel_index(int(np.argmax(np.where(wrong, distance, -1.0))), actual.shape)
        index = [int(i) for i in place]
        raise ConformanceError(
            f"{what}: {int(wrong.sum())} of {actual.size} elements differ, the worst at {index}: got "
            f"{actual[place]!r}, expected {expected[place]!r}"
        )


def same_bits(what: str, one: np.ndarray, other: np.ndarray) -> None:
    """Raise where two arrays differ in a bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        raise ConformanceError(f"{what}: {one.dtype}{list(one.shape)} and {other.dtype}{list(other.shape)}")
    if np.ascontiguousarray(one).tobytes() != np.ascontiguousarray(other).tobytes():
        compare(what, one, other, None)
        raise ConformanceError(f"{what}: the same values with other bits (signs of zero or NaN)")


def show(spec: KernelSpec, inputs: Sequence[np.ndarray], attrs: Attrs) -> str:
    """Write a call for people."""
    forms = [f"{x.dtype}{list(x.shape)}" for x in inputs]
    return f"{spec.name}({', '.join([*forms, *[f'{k}={v!r}' for k, v in attrs.items()]])})"


# -- memory ----------------------------------------------------------------------------------------------------------


def poison(form: Form, kind: int) -> np.ndarray:
    """Return a buffer full of values that no kernel would write: NaN or a large number; patterns for whole numbers."""
    count = prod(form.shape) + 2 * GUARD
    if is_floating(form.dtype):
        return np.full(count, np.nan if kind == 0 else 12288.0, form.dtype)
    if form.dtype.kind == "b":
        return np.full(count, kind == 0)
    pattern = np.full(count * form.dtype.itemsize, _PATTERN if kind == 0 else 0xA5, np.uint8)
    return pattern.view(form.dtype)


class Guarded:
    """An output buffer with poison inside, before and after it."""

    def __init__(self, device: Device, form: Form, kind: int) -> None:
        self._device = device
        self._before = poison(form, kind)
        self._memory = device.asarray(self._before)
        size = prod(form.shape)
        self.array: Array = self._memory[GUARD : GUARD + size].reshape(form.shape)

    def check(self, what: str) -> None:
        """Raise when something was written before or after the buffer."""
        now = self._device.to_host(self._memory)
        for part in (slice(None, GUARD), slice(-GUARD, None)):
            if now[part].tobytes() != self._before[part].tobytes():
                raise ConformanceError(f"{what}: the kernel wrote outside of its output")


LAYOUTS = ("strided", "transposed", "reversed", "shifted")


def place(device: Device, values: np.ndarray, layout: str) -> Array:
    """Return an array on the device whose elements lie in memory as the layout says."""
    if values.ndim == 0:
        return device.asarray(values)
    if layout == "strided":
        wide = np.repeat(values, 2, axis=-1)
        return device.asarray(wide)[..., ::2]
    if layout == "transposed":
        axes = tuple(range(values.ndim))[::-1]
        return device.namespace.permute_dims(device.asarray(np.ascontiguousarray(values.transpose(axes))), axes)
    if layout == "reversed":
        return device.asarray(np.ascontiguousarray(values[::-1]))[::-1]
    flat = device.asarray(np.concatenate([np.zeros(1, values.dtype), values.reshape(-1)]))
    return flat[1:].reshape(values.shape)
