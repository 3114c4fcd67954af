"""Update rules in one pass over the flat buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.kernels.updates import APPLY
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels.updates import RULES, Rule, Span, rule_kernel

_DTYPES = frozenset({"float32", "float64"})
_FUNCTIONS = {"adamw_update": "adam"}  # rules that share a loop


def _long_enough(forms: Any, **attrs: Any) -> bool:
    return forms[4].shape[0] >= LEAST["update"] and forms[4].dtype == forms[5].dtype and available()


def _kernel(name: str, rule: Rule) -> Kernel:
    function = Compiled("updates", name)

    def sweep(ctx: Any, span: Span, w: Any, g: Any, states: Any, numbers: tuple[float, ...]) -> None:
        run = span.run
        decay = run.decay if rule.coupled else 0.0
        plain = not (run.l1 or run.l2 or decay) and span.limit == np.inf
        scale = span.scale * span.factor if plain else span.scale
        common = (scale, span.factor, span.limit, run.l1, 2.0 * run.l2, decay)
        own = tuple(map(float, numbers))
        a, b = span.begin, span.end
        function(w.dtype, w[a:b], g[a:b], *[s[a:b] for s in states], own, common, plain)

    return rule_kernel(
        rule, sweep, scratch=None, dtypes=_DTYPES, supports=_long_enough, contiguous=True
    )


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
    exact = control.dtype == table.dtype == np.float64 and w.dtype == g.dtype
    return exact and w.shape[0] >= LEAST["update"] and available()


def _statistics(ctx: Any, outs: Any, control: Any, table: Any, starts: Any, w: Any, g: Any) -> None:
    _STATISTICS(w.dtype, control, table, starts, w, g, outs[0])


def _takes_penalty(forms: Any, **attrs: Any) -> bool:
    table, _, w = forms
    return table.dtype == np.float64 and w.shape[0] >= LEAST["update"] and available()


def _penalty(ctx: Any, outs: Any, table: Any, starts: Any, w: Any) -> None:
    _PENALTY(w.dtype, table, starts, w, outs[0].reshape(1))


_AVERAGE, _STATISTICS, _PENALTY = (Compiled("updates", name) for name in ("average", "statistics", "penalty"))

VARIANTS: dict[str, Kernel] = {
    **{name: _kernel(_FUNCTIONS.get(name, name.removesuffix("_update")), rule) for name, rule in RULES.items()},
    "average_update": Kernel(_average, dtypes=_DTYPES, supports=_takes_average, contiguous=True),
    "gradient_statistics": Kernel(_statistics, dtypes=_DTYPES, supports=_takes_statistics, contiguous=True),
    "weight_penalty": Kernel(_penalty, dtypes=_DTYPES, supports=_takes_penalty, contiguous=True),
}
