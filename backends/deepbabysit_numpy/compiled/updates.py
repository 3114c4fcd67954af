"""Update rules in one pass over the flat buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from deepbabysit.kernels.updates import APPLY
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_DTYPES = frozenset({"float32", "float64"})
_FLOAT64 = np.dtype(np.float64)


def _takes(forms: Any, **attrs: Any) -> bool:
    control, table, starts, progress, w, g, *_ = forms
    small = control.dtype == table.dtype == progress.dtype == _FLOAT64 and starts.dtype == np.int64
    return small and w.shape[0] >= LEAST["update"] and w.shape[0] > 0 and w.dtype == g.dtype and available()


def _rule(name: str, own: Callable[[Any], tuple[float, ...]]) -> Kernel:
    """Return the kernel of a rule; `own` gives the numbers of its attributes."""
    function = Compiled("updates", name)

    def run(
        ctx: Any, outs: Any, control: Any, table: Any, starts: Any, progress: Any, w: Any, g: Any, *states: Any,
        **attrs: Any,
    ) -> None:
        for out, source in zip(outs, (progress, w, *states), strict=True):
            if out is not source:
                np.copyto(out, source)
        progress, w, *states = outs
        function(w.dtype, control, table, starts, progress, w, g, *states, *own(attrs))

    return Kernel(run, dtypes=_DTYPES, supports=_takes, contiguous=True)


def _takes_average(forms: Any, **attrs: Any) -> bool:
    return forms[2].shape[0] >= LEAST["update"] and forms[1].dtype == forms[2].dtype and available()


def _average(ctx: Any, outs: Any, control: Any, average: Any, w: Any, *, decay: float) -> None:
    out = outs[0]
    if out is not average:
        np.copyto(out, average)
    if control[APPLY] != 0.0:
        _AVERAGE(w.dtype, out, w, 1.0 - decay)


def _takes_statistics(forms: Any, **attrs: Any) -> bool:
    control, table, _, w, g = forms
    exact = control.dtype == table.dtype == _FLOAT64 and w.dtype == g.dtype
    return exact and w.shape[0] >= LEAST["update"] and available()


def _statistics(ctx: Any, outs: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> None:
    _STATISTICS(w.dtype, control, table, starts, w, g, outs[0])


def _takes_penalty(forms: Any, **attrs: Any) -> bool:
    table, _, w = forms
    return table.dtype == _FLOAT64 and w.shape[0] >= LEAST["update"] and available()


def _penalty(ctx: Any, outs: Any, table: Any, starts: Any, w: Any) -> None:
    _PENALTY(w.dtype, table, starts, w, outs[0].reshape(1))


_AVERAGE, _STATISTICS, _PENALTY = (Compiled("updates", name) for name in ("average", "statistics", "penalty"))

VARIANTS: dict[str, Kernel] = {
    "sgd_update": _rule("sgd", lambda a: ()),
    "momentum_update": _rule("momentum", lambda a: (a["momentum"], float(a["nesterov"]))),
    "adagrad_update": _rule("adagrad", lambda a: (a["epsilon"],)),
    "rmsprop_update": _rule("rmsprop", lambda a: (a["rho"], a["epsilon"])),
    "rmsprop_momentum_update": _rule("rmsprop_momentum", lambda a: (a["rho"], a["epsilon"], a["momentum"])),
    "adadelta_update": _rule("adadelta", lambda a: (a["rho"], a["epsilon"])),
    "adam_update": _rule("adam", lambda a: (a["beta_1"], a["beta_2"], a["epsilon"], 0.0)),
    "adamw_update": _rule("adam", lambda a: (a["beta_1"], a["beta_2"], a["epsilon"], 1.0)),
    "nadam_update": _rule("nadam", lambda a: (a["beta_1"], a["beta_2"], a["epsilon"], a["momentum_decay"])),
    "lion_update": _rule("lion", lambda a: (a["beta_1"], a["beta_2"])),
    "average_update": Kernel(_average, dtypes=_DTYPES, supports=_takes_average, contiguous=True),
    "gradient_statistics": Kernel(_statistics, dtypes=_DTYPES, supports=_takes_statistics, contiguous=True),
    "weight_penalty": Kernel(_penalty, dtypes=_DTYPES, supports=_takes_penalty, contiguous=True),
}
