"""Update rules in one pass over the flat buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.kernels.updates import RULES, Rule, Span, rule_kernel


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
        rule, sweep, scratch=None, dtypes=frozenset({"float32", "float64"}), supports=_long_enough, contiguous=True
    )


VARIANTS: dict[str, Kernel] = {
    f"{rule}_update": _kernel(name, RULES[f"{rule}_update"])
    for rule, name in (
        ("sgd", "sgd"), ("momentum", "momentum"), ("rmsprop", "rmsprop"), ("adam", "adam"), ("adamw", "adam"),
    )
}
