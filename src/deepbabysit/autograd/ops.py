"""``db.ops``: every operation as a function on Tensors, by the name of its spec.

Arrays and nested lists are accepted where a Tensor is expected. The functions are made from the table of specs, so a
new operation appears here by itself.

Functions that were asked for become globals of this module, under names such as ``all``, ``max`` and ``sum``: nothing
here may use builtins of those names.
"""

from __future__ import annotations

from typing import Any

from deepbabysit.autograd.convolution import conv1d, conv2d
from deepbabysit.autograd.operations import tensor_operations
from deepbabysit.errors import unknown
from deepbabysit.kernels import SPECS
from deepbabysit.runtime.registry import default_device

__all__ = ["conv1d", "conv2d"]  # the rest is served by name

_SPELLINGS = {
    "abs": "absolute", "pow": "power", "concatenate": "concat", "transpose": "permute_dims", "cumsum": "cumulative_sum",
}
_DERIVED = ("stack", "expand_dims", "squeeze", "clip", "square", "moveaxis", "zeros_like", "ones_like", "arange",
            "zeros", "ones", "full", "concat", "astype", "reshape", "broadcast_to", "permute_dims")


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    meant = _SPELLINGS.get(name, name)
    if meant not in SPECS and meant not in _DERIVED:
        raise AttributeError(unknown("operation", name, __dir__()))
    found = getattr(tensor_operations(default_device()), meant)
    if meant in SPECS and meant not in _DERIVED:
        globals()[name] = found  # functions of specs do not depend on the device; the next look is direct
    return found


def __dir__() -> list[str]:
    return sorted({*SPECS.names(), *_DERIVED, *_SPELLINGS, "conv1d", "conv2d"})
