"""Update rules in one pass over the flat buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.kernels.updates import APPLY
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import team
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
# rule -> its function, and its settings as the function takes them
_RULES: dict[str, tuple[str, Callable[[Any], tuple[float, ...]]]] = {
    "sgd_update": ("sgd", lambda a: (0.0,)),
    "momentum_update": ("momentum", lambda a: (float(a["momentum"]), float(a["nesterov"]))),
    "adagrad_update": ("adagrad", lambda a: (float(a["epsilon"]),)),
    "rmsprop_update": ("rmsprop", lambda a: (float(a["rho"]), float(a["epsilon"]))),
    "rmsprop_momentum_update": (
        "rmsprop_momentum", lambda a: (float(a["rho"]), float(a["epsilon"]), float(a["momentum"])),
    ),
    "adadelta_update": ("adadelta", lambda a: (float(a["rho"]), float(a["epsilon"]))),
    "adam_update": ("adam", lambda a: (float(a["beta_1"]), float(a["beta_2"]), float(a["epsilon"]), 0.0)),
    "adamw_update": ("adam", lambda a: (float(a["beta_1"]), float(a["beta_2"]), float(a["epsilon"]), 1.0)),
    "nadam_update": (
        "nadam", lambda a: (float(a["beta_1"]), float(a["beta_2"]), float(a["epsilon"]), float(a["momentum_decay"])),
    ),
    "lion_update": ("lion", lambda a: (float(a["beta_1"]), float(a["beta_2"]))),
}


def _long_enough(forms: Any, **attrs: Any) -> bool:
    control, table, starts, progress, w, g = forms[:6]
    exact = control.dtype == table.dtype == progress.dtype == np.float64 and starts.dtype == np.int64
    return exact and w.shape[0] >= LEAST["update"] and w.dtype == g.dtype and available()


def _parts(w: Any) -> int:
    """Return into how many parts a team divides an update of these weights."""
    if team.in_program():
        return parts_of(w.size)
    return team.parts(w.size, float(w.size), LEAST["update part"])


def parts_of(size: int) -> int:
    """Return into how many parts a program divides an update of so many weights."""
    return team.parts(size, float(size), LEAST["update part awake"])


def _kernel(name: str, settings: Callable[[Any], tuple[float, ...]]) -> Kernel:
    function = Compiled("rules", name)

    def run(
        ctx: Any, outs: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, *states: Any,
        **attrs: Any,
    ) -> None:
        for out, source in zip(outs, (progress, w, *states), strict=True):
            if out is not source:
                np.copyto(out, source)
        before = progress
        progress, w, *states = outs
        number = _parts(w)
        if number > 1 and np.may_share_memory(before, progress):
            before = progress.copy()  # every part reads it, and writes the new one
        # a rule without states is handed the weights, which it does not look at
        rest = (tuple(states) or (w,), settings(attrs))
        team.TEAM.run(function, w.dtype, number, (control, table, starts, before, progress), w, g, *rest)

    _OWN[run] = name, settings
    return Kernel(run, dtypes=_DTYPES, supports=_long_enough, contiguous=True)


# what runs a rule -> its function, and how it takes settings
_OWN: dict[Any, tuple[str, Callable[[Any], tuple[float, ...]]]] = {}


def rule_of(run: Any, attrs: Any) -> tuple[str, tuple[float, ...]] | None:
    """Return the compiled function of a rule by what its kernel runs, and its settings; None for other kernels."""
    found = _OWN.get(run)
    return None if found is None else (found[0], found[1](attrs))


def _takes_average(forms: Any, **attrs: Any) -> bool:
    return forms[2].shape[0] >= LEAST["update"] and forms[1].dtype == forms[2].dtype and available()


def _average(ctx: Any, outs: Any, control: Any, average: Any, w: Any, *, decay: float) -> None:
    out = outs[0]
    if out is not average:
        np.copyto(out, average)
    if control[APPLY] != 0.0:
        team.TEAM.run(_AVERAGE, w.dtype, _parts(w), out, w, 1.0 - decay)


def _takes_statistics(forms: Any, **attrs: Any) -> bool:
    control, table, _, w, g = forms
    exact = control.dtype == table.dtype == np.float64 and w.dtype == g.dtype
    return exact and w.shape[0] >= LEAST["update"] and available()


def _statistics(ctx: Any, outs: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> None:
    _STATISTICS(w.dtype, control, table, starts, w, g, outs[0])


def _takes_penalty(forms: Any, **attrs: Any) -> bool:
    table, _, w = forms
    return table.dtype == np.float64 and w.shape[0] >= LEAST["update"] and available()


def _penalty(ctx: Any, outs: Any, table: Any, starts: Any, w: Any) -> None:
    _PENALTY(w.dtype, table, starts, w, outs[0].reshape(1))


_AVERAGE = Compiled("rules", "average")
_STATISTICS, _PENALTY = Compiled("penalties", "statistics"), Compiled("penalties", "penalty")

VARIANTS: dict[str, Kernel] = {
    **{name: _kernel(*rule) for name, rule in _RULES.items()},
    "average_update": Kernel(_average, dtypes=_DTYPES, supports=_takes_average, contiguous=True),
    "gradient_statistics": Kernel(_statistics, dtypes=_DTYPES, supports=_takes_statistics, contiguous=True),
    "weight_penalty": Kernel(_penalty, dtypes=_DTYPES, supports=_takes_penalty, contiguous=True),
}
