"""Which backends exist, which of them can run, and which device is meant by a name.

Backends are plug-ins of the entry-point group ``deepbabysit.backends``; an entry point names a function that returns a
`Backend` (or, for several devices, a mapping from device name to `Backend`), or raises `BackendUnavailable` with the
reason. Nothing is imported before a device is named or ``"auto"`` asks.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deepbabysit.errors import unknown
from deepbabysit.runtime.backend import Backend, BackendUnavailable
from deepbabysit.runtime.context import current, set_surroundings, surroundings
from deepbabysit.runtime.device import Device
from deepbabysit.runtime.reference import ReferenceBackend, ShapeBackend

GROUP = "deepbabysit.backends"
# From a bare checkout there is no entry-point metadata: our own packages are known by name.
_OURS = {"numpy": "deepbabysit_numpy:open_backend", "cupy": "deepbabysit_cupy:open_backend"}
# The backend whose devices have the plain names.
_PLAIN = {"numpy": "cpu", "cupy": "cuda"}

Opener = Callable[[], Any]


@dataclass(slots=True)
class BackendInfo:
    """What is known of one backend.

    Attributes:
        name: its name.
        source: where it comes from.
        usable: whether it could be opened.
        reason: why not, in one sentence.
        devices: names of its devices.
    """

    name: str
    source: str
    usable: bool
    reason: str
    devices: tuple[str, ...]


class _Registry:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.by_hand: dict[str, Opener] = {}
        self.devices: dict[str, Device] = {}
        self.reasons: dict[str, str] = {}
        self.opened: dict[str, tuple[str, ...]] = {}

    def sources(self) -> dict[str, str]:
        """Return backend name -> where it comes from."""
        from importlib.metadata import entry_points  # slow to import: only when a device is named

        found = dict(_OURS)
        for point in entry_points(group=GROUP):
            found[point.name] = point.value
        for name in self.by_hand:
            found[name] = "registered by hand"
        return found

    def open(self, name: str) -> tuple[str, ...]:
        """Open a backend once; returns the names of its devices, or raises BackendUnavailable."""
        with self.lock:
            if name in self.opened:
                return self.opened[name]
            if name in self.reasons:
                raise BackendUnavailable(self.reasons[name])
            if name not in self.by_hand and name not in (sources := self.sources()):
                # not kept as a reason: it may be installed later
                raise BackendUnavailable(unknown("backend", name, [*sources, "reference"]))
            try:
                opened = self._opener(name)()
            except BackendUnavailable as error:
                self.reasons[name] = str(error)
                raise
            except ImportError as error:
                self.reasons[name] = f"it could not be imported: {error}"
                raise BackendUnavailable(self.reasons[name]) from error
            except Exception as error:  # one broken plug-in must not break the others
                self.reasons[name] = f"opening it failed: {type(error).__name__}: {error}"
                raise BackendUnavailable(self.reasons[name]) from error
            plain = _PLAIN.get(name, f"cpu:{name}")
            backends: dict[str, Backend] = opened if isinstance(opened, dict) else {plain: opened}
            for device_name in backends:
                family = device_name.partition(":")[0]
                reserved = device_name in ("auto", "shapes", "cpu:reference") or (
                    _PLAIN.get(name) != family and (device_name == "cpu" or family == "cuda")
                )
                if reserved or device_name in self.devices:
                    self.reasons[name] = f"its device name {device_name!r} is taken; a plug-in needs a name of its own"
                    raise BackendUnavailable(self.reasons[name])
            for device_name, backend in backends.items():
                self.devices[device_name] = Device(device_name, backend)
            self.opened[name] = tuple(backends)
            return self.opened[name]

    def _opener(self, name: str) -> Opener:
        if name in self.by_hand:
            return self.by_hand[name]
        module, _, attribute = self.sources()[name].partition(":")
        opener: Opener = getattr(importlib.import_module(module), attribute)
        return opener


_REGISTRY = _Registry()
_SHAPES = Device("shapes", ShapeBackend())


def register_backend(name: str, opener: Opener) -> None:
    """Add a backend by hand; its device is then ``cpu:<name>``, or what `opener` names.

    Arguments:
        name: the backend's name.
        opener: a function without arguments that returns a `Backend` or a dict from device name to `Backend`.

    Raises:
        ValueError: that name is taken.
    """
    with _REGISTRY.lock:
        if name in _REGISTRY.by_hand or name in _REGISTRY.opened or name == "reference":
            raise ValueError(f"a backend named {name!r} is already registered; choose another name")
        _REGISTRY.by_hand[name] = opener
        _REGISTRY.reasons.pop(name, None)


def backends() -> list[BackendInfo]:
    """Return every installed backend: usable, or the reason why not.

    >>> import deepbabysit as db
    >>> [info.name for info in db.backends() if info.usable][0]
    'numpy'
    """
    found = []
    for name, source in _REGISTRY.sources().items():
        try:
            names = _REGISTRY.open(name)
            found.append(BackendInfo(name, source, True, "", names))
        except BackendUnavailable as error:
            found.append(BackendInfo(name, source, False, str(error), ()))
    found.append(BackendInfo("reference", "built in", True, "", ("cpu:reference",)))
    return found


def opened_devices() -> list[Device]:
    """Return every device that was opened so far, without opening others."""
    return list(_REGISTRY.devices.values())


def devices() -> list[Device]:
    """Return every device that can run here.

    >>> import deepbabysit as db
    >>> "cpu" in [device.name for device in db.devices()]
    True
    """
    result: list[Device] = []
    for info in backends():
        result.extend(find_device(name) for name in info.devices)
    return result


def find_device(name: str | Device) -> Device:
    """Return the device of a name; ``"auto"`` chooses the GPU when one can run, else the CPU.

    Raises:
        ValueError: there is no such device here; the message says why and what there is.
    """
    if isinstance(name, Device):
        return name
    if not isinstance(name, str):
        raise TypeError(f"a device is named by a string such as 'cpu' or 'cuda:1'; got {type(name).__name__}")
    known = _REGISTRY.devices.get(name)
    if known is not None:
        return known
    if name == "auto":
        return _automatic()
    family, _, detail = name.partition(":")
    if name == "cpu":
        return _open_cpu()
    if name == "cpu:reference":
        with _REGISTRY.lock:
            return _REGISTRY.devices.setdefault(name, Device(name, ReferenceBackend()))
    if name == "shapes":
        return _SHAPES
    if family not in ("cpu", "cuda"):
        names = _names()  # a plug-in may name its devices as it likes
        if name in _REGISTRY.devices:
            return _REGISTRY.devices[name]
        hint = "a GPU is named 'cuda'. " if name.lower().partition(":")[0] in ("gpu", "nvidia", "mps", "rocm") else ""
        if hint:
            raise ValueError(f"unknown device {name!r}; {hint}Available: {', '.join([*names, 'auto'])}")
        raise ValueError(unknown("device", name, [*names, "auto", "cuda"]))
    backend = "cupy" if family == "cuda" else detail.partition(":")[0]
    if family == "cpu" and backend.isdigit():
        raise ValueError(f"there is one CPU device, 'cpu', and no {name!r}. Available: {_available()}")
    try:
        opened = _REGISTRY.open(backend)
    except BackendUnavailable as error:
        raise ValueError(f"the device {name!r} is not available: {error}. Available: {_available()}") from error
    if name == "cuda" and opened:
        return _REGISTRY.devices[opened[0]]
    if name in _REGISTRY.devices:
        return _REGISTRY.devices[name]
    raise ValueError(f"{unknown('device', name, _names())}")


def _open_cpu() -> Device:
    try:
        _REGISTRY.open("numpy")
    except BackendUnavailable:  # the plug-in is not installed: the references train too
        with _REGISTRY.lock:
            _REGISTRY.devices.setdefault("cpu", Device("cpu", ReferenceBackend()))
    return _REGISTRY.devices["cpu"]


def _automatic() -> Device:
    try:
        names = _REGISTRY.open("cupy")
        return _REGISTRY.devices[names[0]]
    except BackendUnavailable:
        return find_device("cpu")


def _names() -> list[str]:
    return [name for info in backends() for name in info.devices]


def _available() -> str:
    return ", ".join(_names())


def default_device() -> Device:
    """Return the device on which new tensors are made: what `set_device` or `device` chose, else the CPU."""
    return current().device or find_device("cpu")


def set_device(name: str | Device) -> Device:
    """Choose the device for what follows in this thread: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    >>> import deepbabysit as db
    >>> db.set_device("cpu").name
    'cpu'
    """
    device = find_device(name)
    set_surroundings(device=device)
    return device


@contextmanager
def device(name: str | Device) -> Iterator[Device]:
    """Choose the device for a block: ``with db.device("cuda"):``."""
    found = find_device(name)
    with surroundings(device=found):
        yield found


def shapes_device() -> Device:
    """Return the device whose arrays have shapes and no values."""
    return _SHAPES
