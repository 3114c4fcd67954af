"""The cells of recurrent layers in one pass."""

from __future__ import annotations

from math import prod
from typing import Any

from deepbabysit.runtime.backend import Kernel
from deepbabysit_numpy.compiled.flat import FLOATS
from deepbabysit_numpy.compiled.loading import Compiled, available
from deepbabysit_numpy.compiled.sizes import LEAST

_LSTM, _LSTM_GRADIENT = Compiled("recurrent", "lstm_cell"), Compiled("recurrent", "lstm_cell_gradient")
_GRU, _GRU_GRADIENT = Compiled("recurrent", "gru_cell"), Compiled("recurrent", "gru_cell_gradient")


def _takes(forms: Any, **attrs: Any) -> bool:
    size = max(prod(form.shape) for form in forms)
    same = all(form.dtype == forms[0].dtype for form in forms)
    return same and size >= LEAST["cell"] and size > 0 and available()


def _takes_gradient(forms: Any, **attrs: Any) -> bool:
    # its loops run over the units of one sample: with few of them NumPy's long loops win
    return min(form.shape[1] for form in forms) >= LEAST["units"] and _takes(forms)


def _lstm(ctx: Any, outs: Any, z: Any, c: Any) -> None:
    _LSTM(z.dtype, z, c, *outs)


def _lstm_gradient(
    ctx: Any, outs: Any, z: Any, c: Any, after: Any, *gradients: Any, given: Any = (True, True)
) -> None:
    _LSTM_GRADIENT(z.dtype, z, c, after, gradients[0], gradients[-1], bool(given[0]), bool(given[1]), *outs)


def _gru(ctx: Any, outs: Any, zx: Any, zh: Any, h: Any) -> None:
    _GRU(zx.dtype, zx, zh, h, outs[0])


def _gru_gradient(ctx: Any, outs: Any, g: Any, zx: Any, zh: Any, h: Any) -> None:
    _GRU_GRADIENT(zx.dtype, g, zx, zh, h, *outs)


VARIANTS: dict[str, Kernel] = {
    name: Kernel(run, dtypes=FLOATS, supports=takes, contiguous=True)
    for name, run, takes in (
        ("lstm_cell", _lstm, _takes), ("lstm_cell_gradient", _lstm_gradient, _takes_gradient),
        ("gru_cell", _gru, _takes), ("gru_cell_gradient", _gru_gradient, _takes_gradient),
    )
}
