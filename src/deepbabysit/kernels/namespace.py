"""The namespace that references are written against: an array library plus the primitives it lacks."""

from __future__ import annotations

from functools import partial
from typing import Any

from deepbabysit.kernels.spec import SPECS

# Primitives whose names no array library has, or means differently; their references stand in.
_OURS = frozenset(
    {
        "erf",
        "pad",
        "scatter_add",
        "sum_to",
        "stop_gradient",
        "window_view",
        "window_sum",
        "getitem",
        "getitem_add",
        "take",
        "random_words",
        "one_hot",
    }
)


class Namespace:
    """An array library (NumPy, CuPy) together with the operations only we define.

    Arguments:
        library: the module with array-API names.
    """

    def __init__(self, library: Any) -> None:
        self.library = library

    def __getattr__(self, name: str) -> Any:
        if name in _OURS or (spec := SPECS.get(name)) is not None and not hasattr(self.library, name):
            found = partial(SPECS[name].reference, self)
        elif spec is not None and spec.composite:
            found = partial(spec.reference, self)
        else:
            found = getattr(self.library, name)
        setattr(self, name, found)  # the second look finds it without coming here
        return found
