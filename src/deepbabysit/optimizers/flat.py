"""Flat buffers: parameters of one dtype side by side in memory, with their gradients, states and settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Array
from deepbabysit.kernels.updates import DECAY, L1, L2, MULTIPLIER, PRODUCT, TABLE_ROWS, TOUCHED, TRAINABLE
from deepbabysit.runtime.buffers import ALIGNMENT
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.funnel import Plan, call, execute, find_plan

_COPY, _ASTYPE = SPECS["copy"], SPECS["astype"]
_TABLES_KEPT = 64  # one for each pattern of which parameters have a gradient


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """An update rule with its settings.

    Attributes:
        spec: name of the KernelSpec.
        states: name of each state and the value it starts with.
        attrs: the spec's attributes.
    """

    spec: str
    states: dict[str, float]
    attrs: dict[str, Any]


@dataclass(slots=True, eq=False)
class Member:
    """One parameter of an optimizer and what its group says.

    Attributes:
        parameter: the parameter.
        multiplier: factor on the optimizer's rate.
        weight_decay: its own weight decay, or None for the optimizer's.
        group: number of its group.
    """

    parameter: Parameter
    multiplier: float = 1.0
    weight_decay: float | None = None
    group: int = 0


class FlatBuffer:
    """Values, gradients and states of parameters of one dtype, each parameter in a segment aligned to 64 bytes.

    Attributes:
        members: the parameters in the order of their segments.
        w, g: flat values and gradients.
        copies: the values in half precision, for steps that compute in it, or None; gradients are of that dtype then.
        states: name -> flat state of the update rule.
        average: flat moving average of the values, or None.
        starts: where each segment begins (on the device).
        progress: updates of each segment, and NAdam's product (on the device).
        statistics: where `gradient_statistics` writes.
    """

    __slots__ = (
        "_begins", "_plan", "_plan_key", "_tables", "average", "copies", "device", "dtype", "g", "members", "progress",
        "slots", "starts", "states", "statistics", "views", "w",
    )

    def __init__(
        self, device: Device, dtype: np.dtype[Any], members: Sequence[Member], half: np.dtype[Any] | None = None
    ) -> None:
        self.device = device
        self.dtype = dtype
        # segments with equal settings side by side: a kernel passes over them at once
        self.members = sorted(members, key=lambda m: (m.group, m.parameter.l1, m.parameter.l2, m.parameter.rate))
        unit = ALIGNMENT // dtype.itemsize
        lengths = [max(-(-m.parameter.size // unit), 1) * unit for m in self.members]
        self._begins = [0, *np.cumsum(lengths).tolist()]
        self.w, self.g = self.zeros(), self.zeros(half)
        self.copies: Array | None = None if half is None else self.zeros(half)
        self.slots = [self.part(self.g, i) for i in range(len(members))]
        self.views = [self.part(self.w, i) for i in range(len(members))]
        self.starts = device.asarray(np.array(self._begins[:-1], np.int64))
        progress = np.zeros((2, len(members)))
        progress[PRODUCT] = 1.0
        self.progress = device.asarray(progress)
        self.statistics = device.asarray(np.zeros((3, len(members))))
        self.states: dict[str, Array] = {}
        self.average: Array | None = None
        self._tables: dict[Any, Array] = {}
        self._plan: Plan | None = None
        self._plan_key: Any = None
        self.place()

    def zeros(self, dtype: np.dtype[Any] | None = None) -> Array:
        """Return a flat buffer of zeros that begins at a multiple of 64 bytes."""
        dtype = self.dtype if dtype is None else dtype
        size, step = self._begins[-1], dtype.itemsize
        memory = self.device.backend.empty((size + ALIGNMENT // step,), dtype)
        host = getattr(memory, "ctypes", None)  # memory of a GPU begins at 256 bytes anyway
        start = 0 if host is None else -host.data % ALIGNMENT // step
        flat = memory[start : start + size]
        flat[...] = 0
        return flat

    def part(self, flat: Array, index: int) -> Array:
        """Return the part of a flat buffer that belongs to a parameter, in its shape."""
        parameter = self.members[index].parameter
        begin = self._begins[index]
        return flat[begin : begin + parameter.size].reshape(parameter.shape)

    @property
    def segments(self) -> tuple[tuple[int, int], ...]:
        """Where each parameter lies: pairs ``(begin, size)``."""
        return tuple((begin, m.parameter.size) for begin, m in zip(self._begins, self.members, strict=False))

    def place(self) -> None:
        """Move every parameter that is elsewhere into the buffer; gradients that are there already come along."""
        moved = False
        for index, (member, view, slot) in enumerate(zip(self.members, self.views, self.slots, strict=True)):
            parameter = member.parameter
            extra = parameter.extra or {}
            if parameter.data is not view or extra.get("slot") is not slot:
                gradient = parameter.grad
                parameter.place(view, slot, None if self.copies is None else self.part(self.copies, index))
                parameter.grad = gradient
                moved = True
        if moved:
            self.refresh()

    def refresh(self) -> None:
        """Make the copies in half precision anew: the values were changed by something else than an update."""
        if self.copies is not None:
            call(self.device, _ASTYPE, (self.w,), {"dtype": self.copies.dtype}, outs=(self.copies,))

    def moved(self) -> bool:
        """Tell whether a parameter has left the device, or has another dtype now."""
        return any(m.parameter.device is not self.device or m.parameter.dtype != self.dtype for m in self.members)

    def forget_tables(self) -> None:
        """Build the tables anew: a parameter's settings changed."""
        self._tables.clear()

    # -- gradients -----------------------------------------------------------------------------------------------------

    def collect(self) -> tuple[bool, ...]:
        """Return which parameters have a gradient; those that lie elsewhere are copied into the flat buffer."""
        pattern = []
        for member, slot in zip(self.members, self.slots, strict=True):
            gradient = member.parameter.grad
            if gradient is not None and gradient.data is not slot:
                self._fetch(member.parameter, gradient, slot)
            pattern.append(gradient is not None)
        return tuple(pattern)

    def _fetch(self, parameter: Parameter, gradient: Tensor, slot: Array) -> None:
        if gradient.shape != parameter.shape or gradient.device is not self.device:
            raise ValueError(
                f"the gradient of {parameter.name or 'a parameter'} must have shape {list(parameter.shape)} on "
                f"{self.device}; it has {list(gradient.shape)} on {gradient.device}"
            )
        array = gradient.data
        if array.dtype != slot.dtype:
            (array,) = call(self.device, _ASTYPE, (array,), {"dtype": slot.dtype})
        call(self.device, _COPY, (array,), outs=(slot,))
        parameter.grad = Tensor(slot, self.device)

    def table(self, pattern: tuple[bool, ...], decay: float) -> Array:
        """Return the table of settings for a pattern of parameters that have a gradient."""
        found = self._tables.get(pattern)
        if found is None:
            if len(self._tables) >= _TABLES_KEPT:
                self._tables.clear()
            table = np.zeros((TABLE_ROWS, len(self.members)))
            for column, (member, touched) in enumerate(zip(self.members, pattern, strict=True)):
                parameter = member.parameter
                table[TRAINABLE, column] = parameter.trainable
                table[TOUCHED, column] = touched
                table[MULTIPLIER, column] = member.multiplier * parameter.rate
                table[DECAY, column] = decay if member.weight_decay is None else member.weight_decay
                table[L1, column] = parameter.l1
                table[L2, column] = parameter.l2
            found = self._tables[pattern] = self.device.asarray(table)
        return found

    @property
    def penalized(self) -> bool:
        """Whether a parameter here has a penalty."""
        return any(m.parameter.l1 or m.parameter.l2 for m in self.members)

    # -- the update ----------------------------------------------------------------------------------------------------

    def run(self, rule: Any, control: Array, table: Array) -> None:
        """Run an update rule in place."""
        states = tuple(self.states.values())
        arrays = (control, table, self.starts, self.progress, self.w, self.g, *states)
        if self._plan_key is not rule or self._plan is None:
            self._plan = find_plan(self.device, SPECS[rule.spec], arrays, rule.attrs)
            self._plan_key = rule
        copies = () if self.copies is None else (self.copies,)
        execute(self.device, self._plan, arrays, (self.progress, self.w, *states, *copies))

    def fit_states(self, starts: dict[str, float]) -> None:
        """Have exactly these states: those that exist stay, new ones begin with their start value."""
        states = {}
        for name, start in starts.items():
            known = self.states.get(name)
            if known is None:
                known = self.zeros()
                if start:
                    for index in range(len(self.members)):
                        self.part(known, index)[...] = start
            states[name] = known
        self.states = states

    def mark(self, by: str, pattern: Sequence[bool] | None = None) -> None:
        """Say of parameters (those with a gradient, or all) that their memory was changed."""
        for index, member in enumerate(self.members):
            if pattern is None or pattern[index]:
                member.parameter.mark_overwritten(by)

    # -- states by parameter -------------------------------------------------------------------------------------------

    def exports(self, index: int) -> dict[str, np.ndarray]:
        """Return copies of everything kept for one parameter."""
        host = self.device.to_host
        found = {name: np.array(host(self.part(flat, index))) for name, flat in self.states.items()}
        if self.average is not None:
            found["average"] = np.array(host(self.part(self.average, index)))
        found["progress"] = np.array(host(self.progress)[:, index])
        return found

    def imports(self, index: int, values: dict[str, np.ndarray]) -> None:
        """Copy what `exports` gave back in."""
        write = self.device.write
        for name, flat in self.states.items():
            if name in values:
                write(self.part(flat, index), values[name])
        if self.average is not None and "average" in values:
            write(self.part(self.average, index), values["average"])
        if "progress" in values:
            progress = np.array(self.device.to_host(self.progress))
            progress[:, index] = values["progress"]
            write(self.progress, progress)


def pack(
    kind: str, members: Sequence[Member], states: dict[str, float], average: bool, half: np.dtype[Any] | None = None
) -> list[FlatBuffer]:
    """Pack parameters into one flat buffer per dtype, with fresh states; an average starts at the values.

    Raises:
        ValueError: they lie on several devices.
    """
    devices = {id(m.parameter.device): m.parameter.device for m in members}
    if len(devices) > 1:
        names = ", ".join(sorted(str(device) for device in devices.values()))
        raise ValueError(f"{kind}: the parameters lie on several devices ({names}); move the model to one of them")
    flats = []
    for dtype in sorted({m.parameter.dtype for m in members}, key=str):
        own = [m for m in members if m.parameter.dtype == dtype]
        flat = FlatBuffer(members[0].parameter.device, dtype, own, half if dtype == np.float32 else None)
        flat.fit_states(states)
        if average:
            flat.average = flat.zeros()
            flat.average[...] = flat.w
        flats.append(flat)
    return flats


def exported(flats: Sequence[FlatBuffer], paths: Mapping[int, str]) -> dict[str, np.ndarray]:
    """Return copies of all states by ``path/state``."""
    found: dict[str, np.ndarray] = {}
    for flat in flats:
        for index, member in enumerate(flat.members):
            for state, values in flat.exports(index).items():
                found[f"{paths[id(member.parameter)]}/{state}"] = values
    return found


def arrays_for(
    flats: Sequence[FlatBuffer], paths: Mapping[int, str], arrays: Mapping[str, Any], states: Iterable[str]
) -> list[tuple[FlatBuffer, int, dict[str, np.ndarray]]]:
    """Return the arrays of each parameter from what `exported` gave; all are checked before one is used.

    Raises:
        KeyError: paths are missing or unknown.
        ValueError: a shape or dtype is another one.
    """
    kinds = [*states, "progress", *(["average"] if any(flat.average is not None for flat in flats) else [])]
    wanted = {f"{path}/{kind}" for path in paths.values() for kind in kinds}
    missing, foreign = sorted(wanted - set(arrays)), sorted(set(arrays) - wanted)
    if missing or foreign:
        raise KeyError(
            f"the state does not fit these parameters: missing {missing[:5] or 'nothing'}, "
            f"unknown {foreign[:5] or 'nothing'}"
        )
    chosen = []
    for flat in flats:
        for index, member in enumerate(flat.members):
            path = paths[id(member.parameter)]
            values = {kind: np.asarray(arrays[f"{path}/{kind}"]) for kind in kinds}
            for kind, array in values.items():
                shape, dtype = ((2,), np.dtype(float)) if kind == "progress" else (member.parameter.shape, flat.dtype)
                if array.shape != shape or array.dtype != dtype:
                    raise ValueError(
                        f"{path}/{kind} must be {dtype} of shape {list(shape)}; "
                        f"the state holds {array.dtype} {list(array.shape)}"
                    )
            chosen.append((flat, index, values))
    return chosen


def copied(optimizer: Any, memo: dict[int, Any]) -> Any:
    """Return an optimizer with states of its own for copies of the parameters (those of `memo`, if it has them)."""
    twin = type(optimizer)(
        learning_rate=deepcopy(optimizer._schedule, memo), clip_norm=optimizer._clip_norm,
        clip_value=optimizer._clip_value, ema=optimizer._ema, **optimizer._settings,
    )
    twin.scale_loss(optimizer._scaled)
    twin.compute_in(optimizer._half)
    if optimizer._members:
        twin._pack([replace(m, parameter=deepcopy(m.parameter, memo)) for m in optimizer._members])
        twin.load_state_dict(optimizer.state_dict())
    elif optimizer._pending is not None:
        twin.load_state_dict(optimizer._pending)
    return twin


def paths_of(members: Sequence[Member]) -> dict[int, str]:
    """Return ``id(parameter)`` -> its path, or its place in the list where it has none of its own."""
    paths: dict[int, str] = {}
    taken: set[str] = set()
    for place, member in enumerate(members):
        path = member.parameter.name or f"parameter_{place}"
        if path in taken:
            path = f"{path}#{place}"
        taken.add(path)
        paths[id(member.parameter)] = path
    return paths


@contextmanager
def averaged(flats: Sequence[FlatBuffer]) -> Iterator[None]:
    """Put the averaged weights into the parameters for a block; the others come back bit for bit."""
    kept = [flat.device.asarray(flat.w) for flat in flats]
    try:
        for flat in flats:
            call(flat.device, _COPY, (flat.average,), outs=(flat.w,))
            flat.refresh()
            flat.mark("ema_weights()")
        yield
    finally:
        for flat, weights in zip(flats, kept, strict=True):
            call(flat.device, _COPY, (weights,), outs=(flat.w,))
            flat.refresh()
            flat.mark("the end of ema_weights()")


def flats_of(optimizer: Any) -> list[FlatBuffer]:
    """Return the flat buffers of an optimizer, for those who measure."""
    found: list[FlatBuffer] = optimizer._flats
    return found
