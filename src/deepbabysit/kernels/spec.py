"""KernelSpec: the one place where an operation is defined, and the table of all of them.

A *primitive* carries its derivative (``vjp``), written as calls of other specs. A *composite* is its reference:
called on Tensors it is the graph of primitives from which derivatives of any order follow. A composite may carry a
fused ``vjp`` as well; its oracle is the derivative of the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

Array = Any  # an array of some backend; kernels/ never asks which
Shape = tuple[int, ...]
Attrs = dict[str, Any]


class Form(NamedTuple):
    """The shape and dtype of an array, without its values."""

    shape: Shape
    dtype: np.dtype[Any]


class Sample(NamedTuple):
    """One input on which kernels are compared with the reference.

    ``gradient`` is False where the derivative does not exist (kinks, ties, overflow), so that only values are compared.
    ``by_dtype`` is True where the meaning names limits of the dtype (its smallest number), so that the oracle is the
    reference in that dtype instead of float64.
    """

    inputs: tuple[np.ndarray, ...]
    attrs: Attrs = {}
    gradient: bool = True
    by_dtype: bool = False


class BadInput(NamedTuple):
    """One input that must be refused, with the exception and a piece of its message."""

    inputs: tuple[Any, ...]
    attrs: Attrs
    error: type[Exception]
    message: str


class Tolerance(NamedTuple):
    """How far a kernel may be from the float64 reference: ``|a - b| <= atol + rtol * |b|``."""

    rtol: float
    atol: float


DEFAULT_TOLERANCE: Mapping[str, Tolerance] = {
    "float64": Tolerance(1e-12, 1e-12),
    "float32": Tolerance(2e-5, 2e-6),
    "float16": Tolerance(2e-2, 2e-3),
    "bfloat16": Tolerance(4e-2, 1e-2),
}


@dataclass(frozen=True, slots=True, eq=False)
class KernelSpec:
    """What one operation means: its shapes, its values, its derivative, its samples.

    Arguments:
        name: the name under which backends offer a kernel and users find the function in ``db.ops``.
        reference: ``reference(xp, *arrays, **attrs)``, pure, written with array-API names (and the names of other
            primitives) of ``xp`` only. Returns one array or a tuple of arrays.
        infer: ``infer(shapes, dtypes, **attrs)`` -> one ``Form`` per output; refuses bad input. Works with the
            symbolic batch axis of `kernels.shapes.BATCH`.
        samples: ``samples(rng)`` -> drawn inputs (empty, one element, broadcast, non-contiguous, extreme values).
        errors: ``errors()`` -> inputs that must be refused.
        vjp: ``vjp(op, g, x, out, needs, **attrs)`` -> one cotangent (or None) per input, with ``op.<spec>`` calls only.
            ``x[i]`` is the array where `saves_inputs` names ``i`` and a `Form` elsewhere; likewise ``out``.
            ``g[i]`` is None where nothing flowed into output ``i``.
        saves_inputs, saves_outputs: positions that the vjp reads; optional inputs that were left out are skipped.
        differentiable: positions of inputs that can have a gradient; None means all that hold floating numbers.
        composite: True when `reference` on Tensors is the definition of the derivative.
        view: True when the result shares memory with the first input wherever the layout allows it.
        inplace: pairs ``(output, input)`` of positions that may share memory.
        order: the highest order of derivative that is claimed.
        defaults: keyword attributes with their defaults, read from the reference's signature.
    """

    name: str
    reference: Callable[..., Any]
    infer: Callable[..., tuple[Form, ...]]
    samples: Callable[[np.random.Generator], Iterable[Sample]]
    errors: Callable[[], Iterable[BadInput]] = tuple
    vjp: Callable[..., tuple[Any, ...]] | None = None
    saves_inputs: tuple[int, ...] = ()
    saves_outputs: tuple[int, ...] = ()
    differentiable: tuple[int, ...] | None = None
    composite: bool = False
    view: bool = False
    inplace: tuple[tuple[int, int], ...] = ()
    order: int = 2
    tolerance: Mapping[str, Tolerance] = field(default_factory=lambda: DEFAULT_TOLERANCE)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"KernelSpec({self.name})"


class SpecTable:
    """All operations by name; filled when the families of `deepbabysit.kernels` are imported."""

    def __init__(self) -> None:
        self._specs: dict[str, KernelSpec] = {}

    def add(self, spec: KernelSpec) -> None:
        """Add a spec; a name can be defined once."""
        if spec.name in self._specs:
            raise ValueError(f"the operation {spec.name!r} is already defined; a spec has one definition")
        self._specs[spec.name] = spec

    def __getitem__(self, name: str) -> KernelSpec:
        return self._specs[name]

    def get(self, name: str) -> KernelSpec | None:
        """Return the spec of that name, or None."""
        return self._specs.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[KernelSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def names(self) -> list[str]:
        """Return the names of all operations."""
        return list(self._specs)


SPECS = SpecTable()


def define(
    reference: Callable[..., Any],
    *,
    infer: Callable[..., tuple[Form, ...]],
    samples: Callable[[np.random.Generator], Iterable[Sample]],
    name: str | None = None,
    tolerance: Mapping[str, Tolerance] | None = None,
    **fields: Any,
) -> KernelSpec:
    """Define an operation: build its spec from the reference and add it to the table.

    Name, attributes and documentation are read from the reference: its name without trailing underscore, its
    keyword-only arguments, its docstring.
    """
    defaults: dict[str, Any] = {}
    code = reference.__code__
    given = reference.__kwdefaults__ or {}
    first = code.co_argcount
    for keyword in code.co_varnames[first : first + code.co_kwonlyargcount]:
        defaults[keyword] = given.get(keyword, REQUIRED)
    spec = KernelSpec(
        name=name or reference.__name__.rstrip("_"),
        reference=reference,
        infer=infer,
        samples=samples,
        tolerance={**DEFAULT_TOLERANCE, **(tolerance or {})},
        defaults=defaults,
        **fields,
    )
    SPECS.add(spec)
    return spec


class _Required:
    """Marks an attribute without a default."""

    def __repr__(self) -> str:
        return "<required>"


REQUIRED = _Required()


def complete_attrs(spec: KernelSpec, attrs: Attrs) -> Attrs:
    """Return the attributes in the spec's order with defaults filled in and lists made hashable.

    Raises:
        TypeError: an attribute is unknown or a required one is missing.
    """
    if not spec.defaults:
        if attrs:
            from deepbabysit.errors import unknown_keywords

            raise TypeError(unknown_keywords(spec.name, attrs, spec.defaults))
        return attrs
    complete = {}
    seen = 0
    for keyword, default in spec.defaults.items():
        if keyword in attrs:
            seen += 1
            value = attrs[keyword]
            complete[keyword] = _freeze(value) if isinstance(value, list | tuple) else value
        elif default is REQUIRED:
            raise TypeError(f"{spec.name} needs the keyword {keyword!r}")
        else:
            complete[keyword] = default
    if seen != len(attrs):
        from deepbabysit.errors import unknown_keywords

        raise TypeError(unknown_keywords(spec.name, [a for a in attrs if a not in spec.defaults], spec.defaults))
    return complete


def _freeze(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value
