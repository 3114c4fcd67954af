"""Penalties on weights; the optimizer adds their gradient, and `loss` contains their value."""

from __future__ import annotations

from typing import Any, final

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import module_names, unknown


@final
class Regularizer:
    """The penalty ``l1 * sum(abs(w)) + l2 * sum(w * w)``, without a factor one half.

    Attributes:
        l1, l2: strengths, numbers >= 0.
    """

    __slots__ = ("l1", "l2")

    def __init__(self, l1: float = 0.0, l2: float = 0.0) -> None:
        for name, value in (("l1", l1), ("l2", l2)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < float("inf"):
                raise ValueError(f"the strength {name} of a penalty is a number >= 0; got {value!r}")
        self.l1 = float(l1)
        self.l2 = float(l2)

    def __call__(self, w: Tensor) -> Tensor:
        """Return the penalty of a tensor as a tensor without axes."""
        return self.l1 * abs(w).sum() + self.l2 * (w * w).sum()

    def config(self) -> dict[str, Any]:
        """Return what `get` takes to make it again."""
        return {"name": "l1_l2", "l1": self.l1, "l2": self.l2}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regularizer) and (self.l1, self.l2) == (other.l1, other.l2)

    def __hash__(self) -> int:
        return hash((self.l1, self.l2))

    def __repr__(self) -> str:
        return f"l1_l2(l1={self.l1}, l2={self.l2})"


def l1(l1: float = 0.01) -> Regularizer:
    """Return the penalty ``l1 * sum(abs(w))``, which makes weights exactly zero (Tibshirani, JRSS B 1996).

    >>> l1(0.001).l1
    0.001
    """
    return Regularizer(l1=l1)


def l2(l2: float = 0.01) -> Regularizer:
    """Return the penalty ``l2 * sum(w * w)``; its gradient is ``2 * l2 * w`` (there is no factor one half).

    >>> l2(0.01)
    l1_l2(l1=0.0, l2=0.01)
    """
    return Regularizer(l2=l2)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> Regularizer:
    """Return the sum of both penalties (the elastic net; Zou and Hastie, JRSS B 2005)."""
    return Regularizer(l1, l2)


_NAMES = {"l1": l1, "l2": l2, "l1_l2": l1_l2, "L1": l1, "L2": l2, "L1L2": l1_l2}


def get(regularizer: Any) -> Regularizer:
    """Return the penalty meant by None (no penalty), a name, a configuration, or a `Regularizer`.

    Raises:
        ValueError: the name does not exist.
        TypeError: something else was given.

    >>> get("l2"), get(None)
    (l1_l2(l1=0.0, l2=0.01), l1_l2(l1=0.0, l2=0.0))
    """
    if regularizer is None:
        return Regularizer()
    if isinstance(regularizer, Regularizer):
        return regularizer
    if isinstance(regularizer, str):
        found = _NAMES.get(regularizer)
        if found is None:
            raise ValueError(unknown("regularizer", regularizer, ("l1", "l2", "l1_l2")))
        return found()
    if isinstance(regularizer, dict) and isinstance(regularizer.get("name"), str):
        arguments = {key: value for key, value in regularizer.items() if key != "name"}
        found = _NAMES.get(regularizer["name"])
        if found is None:
            raise ValueError(unknown("regularizer", regularizer["name"], ("l1", "l2", "l1_l2")))
        return found(**arguments)
    if any(regularizer is factory for factory in _NAMES.values()):
        return regularizer()
    if hasattr(regularizer, "l1") and hasattr(regularizer, "l2"):
        return Regularizer(regularizer.l1, regularizer.l2)
    raise TypeError(
        f"a regularizer is None, 'l1', 'l2', 'l1_l2' or made by them, such as regularizers.l2(0.01); "
        f"got {regularizer!r}"
    )


__getattr__ = module_names(
    "db.regularizers", "regularizer",
    [n for n, thing in list(globals().items()) if n[0] != "_" and getattr(thing, "__module__", "") == __name__],
)
