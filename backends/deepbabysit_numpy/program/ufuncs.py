"""The machine code behind NumPy's ufuncs: the inner loops that NumPy itself runs, by their addresses.

A ufunc is a public structure of NumPy's C interface: a table of inner loops, one for each combination of types, with
the signature ``void loop(char **args, npy_intp const *dimensions, npy_intp const *steps, void *data)``. What is read
here is compared with what Python says of the same ufunc; where they differ, no loop is handed out.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np

Loop = tuple[int, int]  # addresses of the function and of its data


class _Structure(ctypes.Structure):
    """The beginning of NumPy's ``PyUFuncObject``."""

    _fields_ = [
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_ubyte)),
    ]


@cache
def _structure(ufunc: Any) -> _Structure | None:
    """Return the structure if it says what Python says."""
    if not hasattr(ctypes, "pythonapi") or type(ufunc) is not np.ufunc or ufunc.signature is not None:
        return None
    if object.__basicsize__ != ctypes.sizeof(ctypes.c_void_p) * 2:  # a build of Python with another object header
        return None
    found = _Structure.from_address(id(ufunc))
    counts = (found.nin, found.nout, found.nargs, found.ntypes) == (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes)
    if not counts or found.name != ufunc.__name__.encode() or len(ufunc.types) != ufunc.ntypes:
        return None
    for place, text in enumerate(ufunc.types):
        chars = text.replace("->", "")
        for i, char in enumerate(chars):
            if np.dtype(char).num != found.types[place * ufunc.nargs + i]:
                return None
    return found


@cache
def find_loop(ufunc: Any, dtypes: tuple[np.dtype[Any], ...]) -> Loop | None:
    """Return the inner loop for these dtypes of all inputs and outputs, or None."""
    structure = _structure(ufunc)
    if structure is None:
        return None
    wanted = [dtype.char for dtype in dtypes]
    for place, text in enumerate(ufunc.types):  # NumPy, too, takes the first that fits
        if list(text.replace("->", "")) == wanted:
            address = structure.functions[place]
            data = structure.data[place] if structure.data else None
            return (address, data or 0) if address else None
    return None
