"""The dense layer: BLAS, then one pass for bias and activation; backward one for the slope and the bias gradient."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.kernels.spec import Form
from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled import packed, thin
from deepbabysit_numpy.compiled.functions import least
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST
from deepbabysit_numpy.compiled.thin import many, multiply, rooms_of, takes
from deepbabysit_numpy.kernels import products

_DTYPES = frozenset({"float32", "float64"})
KINDS = {"linear": 0, "relu": 1, "sigmoid": 2, "tanh": 3}
_GRADIENT = Compiled("dense", "gradient")
_RELU = Compiled("dense", "bias_relu")
_EPILOGUES = {
    "linear": (_RELU, (False,)),
    "relu": (_RELU, (True,)),
    "sigmoid": (Compiled("dense", "bias_sigmoid"), ()),
    "tanh": (Compiled("dense", "bias_tanh"), ()),
}


def _takes_linear(forms: Any, *, activation: str = "linear") -> bool:
    x, kernel, bias = forms
    size = prod(x.shape[:-1]) * kernel.shape[1]
    fits = x.dtype == kernel.dtype == bias.dtype
    if activation == "tanh":
        fits = fits and size >= LEAST[least("tanh", x.dtype.name)]
    rows = Form((prod(x.shape[:-1]), x.shape[-1]), x.dtype)
    long = size >= LEAST["linear"] or takes(rows, kernel) or many(rows, kernel)
    return fits and long and size > 0 and available()


def _flat(x: Any) -> Any:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _rooms(forms: Any, *, activation: str = "linear") -> tuple[Form, ...]:
    x, kernel, _ = forms
    return rooms_of(Form((prod(x.shape[:-1]), x.shape[-1]), x.dtype), kernel)


def _linear(ctx: Any, outs: Any, x: Any, kernel: Any, bias: Any, *, activation: str = "linear") -> None:
    y = outs[0].reshape(-1, kernel.shape[1])
    fused = activation in ("linear", "relu")
    if multiply(_flat(x), kernel, y, ctx.scratch, bias if fused else None, activation == "relu") and fused:
        return
    epilogue, more = _EPILOGUES[activation]
    epilogue(y.dtype, y, bias, *more)


def _takes_gradient(forms: Any, *, activation: str = "linear") -> bool:
    g, y = forms
    size = prod(g.shape)
    return g.dtype == y.dtype and size >= LEAST["linear_gradient"] and size > 0 and available()


def _linear_gradient(ctx: Any, outs: Any, g: Any, y: Any, *, activation: str = "linear") -> None:
    width = y.shape[-1]
    rows = outs[0].reshape(-1, width)
    tall = packed.high(y.itemsize)  # a product may make the sums on its way
    _GRADIENT(y.dtype, g.reshape(-1, width), y.reshape(-1, width), rows, outs[1], KINDS[activation], tall)


def ours(call: Any) -> bool:
    """Tell whether a recorded call is a product as in `thin` or `packed`."""
    run, _, ins, _ = call
    if getattr(run, "func", None) not in _OURS or ins[0].ndim != 2 or ins[1].ndim != 2:
        return False
    return takes(ins[0], ins[1]) or many(ins[0], ins[1])


def threaded(call: Any) -> bool:
    """Tell whether a recorded call is a product that BLAS divides among threads of its own."""
    run, _, ins, _ = call
    if getattr(run, "func", None) not in _PRODUCTS or ours(call):
        return False
    x, y, *_ = ins
    return 2.0 * prod(x.shape) * y.shape[-1] >= LEAST["threads"]


VARIANTS: dict[str, Kernel] = {
    "linear": Kernel(_linear, scratch=_rooms, dtypes=_DTYPES, supports=_takes_linear),
    "linear_gradient": Kernel(_linear_gradient, dtypes=_DTYPES, supports=_takes_gradient, contiguous=True),
}
_OURS = {_linear, thin.VARIANTS["matmul"].run}  # the plain ones are BLAS' at every size
_PRODUCTS = {*_OURS, products.KERNELS["linear"].run, products.KERNELS["matmul"].run}
