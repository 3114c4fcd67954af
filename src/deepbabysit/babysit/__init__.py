"""The babysitter: it sees what is wrong with a training, proves it with numbers, and knows what to do.

>>> import deepbabysit as db
>>> db.babysit.explain("double_softmax").splitlines()[0]
'double_softmax: softmax or sigmoid is applied twice'

The names are served lazily: importing this package imports none of its modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepbabysit.babysit.codes import explain
    from deepbabysit.babysit.finding import Finding, Remedy
    from deepbabysit.babysit.preflight import check
    from deepbabysit.babysit.recipe.running import Recipe
    from deepbabysit.babysit.repairing import repair
    from deepbabysit.babysit.watching import watch

_HOME = {
    "Finding": "finding",
    "Recipe": "recipe.running",
    "Remedy": "finding",
    "check": "preflight",
    "explain": "codes",
    "repair": "repairing",
    "watch": "watching",
}

__all__ = ["Finding", "Recipe", "Remedy", "check", "explain", "repair", "watch"]


def __getattr__(name: str) -> Any:
    import importlib

    home = _HOME.get(name)
    if home is None:
        if name.startswith("__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from deepbabysit.errors import unknown

        raise AttributeError(unknown("name in db.babysit", name, __all__))
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
