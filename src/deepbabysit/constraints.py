"""Constraints on weights, applied after each update (the definitions of Keras)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from deepbabysit.autograd import ops
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import module_names, unknown

EPSILON = 1e-7  # keeps a weight vector of length 0 where it is


@final
class Constraint:
    """A function from weights to allowed weights, with its name and arguments."""

    __slots__ = ("_apply", "arguments", "name")

    def __init__(self, name: str, arguments: dict[str, Any], apply: Callable[[Tensor], Tensor]) -> None:
        self.name = name
        self.arguments = arguments
        self._apply = apply

    def __call__(self, w: Tensor) -> Tensor:
        """Return the allowed weights nearest in direction."""
        return self._apply(w)

    def config(self) -> dict[str, Any]:
        """Return what `get` takes to make it again."""
        return {"name": self.name, **self.arguments}

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.arguments.items())})"


def _axes(axis: Any) -> int | tuple[int, ...]:
    return axis if isinstance(axis, int) else tuple(axis)


def _norms(w: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    return (w * w).sum(axis=axis, keepdims=True).sqrt()


def max_norm(max_value: float = 2.0, axis: int | tuple[int, ...] = 0) -> Constraint:
    """Limit the length of each weight vector: ``w * clip(|w|, 0, max_value) / (1e-7 + |w|)``.

    Arguments:
        max_value: the greatest length.
        axis: axes along which the length is taken; 0 for a Dense kernel (one vector per unit), (0, 1, 2) for a
            convolution.

    Srivastava et al., JMLR 15 (2014), use it together with dropout.
    """
    place = _axes(axis)

    def limit(w: Tensor) -> Tensor:
        norms = _norms(w, place)
        return w * (ops.clip(norms, 0.0, max_value) / (norms + EPSILON))

    return Constraint("max_norm", {"max_value": max_value, "axis": axis}, limit)


def min_max_norm(
    min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0, axis: int | tuple[int, ...] = 0
) -> Constraint:
    """Keep the length of each weight vector in a range, or move it there by a fraction `rate` per update."""
    place = _axes(axis)

    def limit(w: Tensor) -> Tensor:
        norms = _norms(w, place)
        wanted = ops.clip(norms, min_value, max_value) * rate + norms * (1.0 - rate)
        return w * (wanted / (norms + EPSILON))

    return Constraint(
        "min_max_norm", {"min_value": min_value, "max_value": max_value, "rate": rate, "axis": axis}, limit
    )


def non_neg() -> Constraint:
    """Set negative weights to zero."""
    return Constraint("non_neg", {}, ops.relu)


def unit_norm(axis: int | tuple[int, ...] = 0) -> Constraint:
    """Give each weight vector the length one: ``w / (1e-7 + |w|)``."""
    place = _axes(axis)
    return Constraint("unit_norm", {"axis": axis}, lambda w: w / (_norms(w, place) + EPSILON))


_NAMES: dict[str, Callable[..., Constraint]] = {
    "max_norm": max_norm, "min_max_norm": min_max_norm, "non_neg": non_neg, "unit_norm": unit_norm,
}
_ALIASES = {"MaxNorm": "max_norm", "MinMaxNorm": "min_max_norm", "NonNeg": "non_neg", "UnitNorm": "unit_norm"}


def get(constraint: Any) -> Callable[[Tensor], Tensor] | None:
    """Return the constraint meant by None, a name, a configuration, or a function of the weights.

    Raises:
        ValueError: the name does not exist.
        TypeError: something else was given.

    >>> get("max_norm")
    max_norm(max_value=2.0, axis=0)
    """
    if constraint is None or isinstance(constraint, Constraint):
        return constraint
    if isinstance(constraint, str):
        return _find(constraint)()
    if isinstance(constraint, dict) and isinstance(constraint.get("name"), str):
        return _find(constraint["name"])(**{key: value for key, value in constraint.items() if key != "name"})
    if any(constraint is factory for factory in _NAMES.values()):
        return constraint()
    if callable(constraint):
        return constraint
    raise TypeError(
        f"a constraint is None, a name ({', '.join(_NAMES)}) or a function of the weights; got {constraint!r}"
    )


def _find(name: str) -> Callable[..., Constraint]:
    found = _NAMES.get(_ALIASES.get(name, name))
    if found is None:
        raise ValueError(unknown("constraint", name, _NAMES))
    return found


__getattr__ = module_names(
    "db.constraints", "constraint",
    [n for n, thing in list(globals().items()) if n[0] != "_" and getattr(thing, "__module__", "") == __name__],
)
