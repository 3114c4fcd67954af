"""The draws: folders of one shape, each a pool of cases that shares no data, program, fault or seed with the others.

A draw has ``__init__`` (its seeds), ``programs``, ``sources``, ``spoiling``, ``faults_of_data``, ``faults_of_models``,
``faults_of_training``, ``lookalikes`` and ``code_cases``. It is found because it is there. Its first seed is larger
than those of the draws before it, so that their order is known; the newest one is the sealed one.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

_FOUND = {entry.name: import_module(f"{__name__}.{entry.name}") for entry in iter_modules(__path__)}
DRAWS: dict[str, ModuleType] = dict(sorted(_FOUND.items(), key=lambda item: item[1].FIRST_SEED))
NAMES = tuple(DRAWS)
NEWEST = NAMES[-1]


def parts(name: str) -> dict[str, ModuleType]:
    """Return the modules of one name, draw by draw."""
    return {draw: import_module(f"{__name__}.{draw}.{name}") for draw in NAMES}


def draw_of(module: str) -> str:
    """Return the draw that a module belongs to.

    >>> draw_of("benchmarks.babysitter.draws.development.programs")
    'development'
    """
    return module.removeprefix(f"{__name__}.").split(".")[0]
