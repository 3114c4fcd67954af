"""When a step does not fit into memory: where the memory is, and which batch would fit."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from deepbabysit.layers.layer import Layer
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.runtime.device import Device

Batch = Sequence[Any]
_SHOWN = 12  # layers in the table: the largest


class StepTooLarge(MemoryError):
    """A training step does not fit into the device's memory; the message says what takes it and what would fit."""


def too_large(
    error: MemoryError,
    layer: Layer,
    optimizer: Any,
    device: Device,
    batches: Sequence[Batch],
    again: Callable[[Batch, Callable[[Layer, Any], None]], None],
) -> StepTooLarge:
    """Return the error that says why a step did not fit.

    Arguments:
        error: what was raised.
        layer, optimizer, device: of the step.
        batches: its micro-batches.
        again: passes a batch forward and backward, with a tap, and changes nothing but gradients.
    """
    traceback.clear_frames(error.__traceback__)  # they hold the arrays of the step
    optimizer.zero_grad()
    memory = device.backend.memory
    idle = 0 if memory is None else memory()["pool, idle"]
    _give_back(device)
    held = {} if memory is None else {**memory(), "pool, idle": idle}
    rows = len(batches[0][0])
    outputs = _outputs(batches[0], again)
    fits = _largest(rows, lambda n: _fits([a[:n] for a in batches[0]], again, device))
    flats = flats_of(optimizer)
    copies = [flat.copies for flat in flats if flat.copies is not None]
    kept = [array for flat in flats for array in (*flat.states.values(), flat.average) if array is not None]
    table = [
        ("parameters", sum(p.data.nbytes for p in layer.parameters())),
        *((f"parameters in {a.dtype.name}", a.nbytes) for a in copies),
        ("gradients", sum(flat.g.nbytes for flat in flats)),
        ("optimizer", sum(a.nbytes for a in kept)),
        *held.items(),
    ]
    lines = [f"a step of {rows} rows does not fit into the memory of {device.name}: {error}"]
    lines += [f"  {name:<40}{_size(size):>12}" for name, size in table]
    lines.append(f"  outputs of the layers, {rows} rows (the gradient of each takes as much again):")
    largest = sorted(outputs.items(), key=lambda item: -item[1])
    lines += [f"    {name:<38}{_size(size * rows):>12}" for name, size in largest[:_SHOWN]]
    if len(largest) > _SHOWN:
        rest = sum(size for _, size in largest[_SHOWN:])
        lines.append(f"    {f'{len(largest) - _SHOWN} others':<38}{_size(rest * rows):>12}")
    if fits:
        parts = -(-rows // fits)
        lines.append(
            f"The largest batch that passes is {fits} rows (tried): batch_size={fits}, with accumulate={parts} for "
            f"steps of as many rows as before"
        )
    else:
        lines.append("Not even one row passes: make the model smaller, or free memory that others use")
    lines.append("Weights and optimizer are as they were before the step")
    return StepTooLarge("\n".join(lines))


def _give_back(device: Device) -> None:
    gc.collect()
    device.backend.free()


def _outputs(batch: Batch, again: Callable[[Batch, Callable[[Layer, Any], None]], None]) -> dict[str, int]:
    """Return the bytes of each layer's output for one row; nothing where not even that fits."""
    found: dict[str, int] = {}

    def tap(layer: Layer, result: Any) -> None:
        if all(child is layer for _, child in layer.walk()):
            results = result if isinstance(result, list | tuple) else (result,)
            found[f"{layer.path} {type(layer).__name__}".strip()] = sum(r.data.nbytes for r in results)

    try:
        again([a[:1] for a in batch], tap)
    except (MemoryError, ValueError):  # a layer may refuse a single row
        return {}
    return found


def _fits(batch: Batch, again: Callable[[Batch, Callable[[Layer, Any], None]], None], device: Device) -> bool:
    try:
        again(batch, lambda layer, result: None)
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)
        return False
    finally:
        _give_back(device)
    return True


def _largest(rows: int, fits: Callable[[int], bool]) -> int:
    """Return the most rows that fit, less than `rows`.

    >>> _largest(1000, lambda n: n <= 307)
    307
    """
    low, high = 0, rows
    while high > 1 and not low:
        half = high // 2
        low, high = (half, high) if fits(half) else (0, half)
    while low and high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"
