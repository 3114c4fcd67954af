"""Products by cuBLASLt: constants and descriptors of the real library, epilogues against float64 on an emulated one."""

import ctypes
import re
from dataclasses import replace
from itertools import product as combinations
from pathlib import Path

import numpy as np
import pytest

from deepbabysit_cupy import lt
from deepbabysit_cupy.libraries import load_library

# -- the real library, where its wheel is installed; it needs no GPU for descriptors -----------------------------------

CONSTANTS = {  # of cublasLt.h; checked against the header where there is one
    "CUBLASLT_MATMUL_DESC_TRANSA": lt.TRANSPOSE_A, "CUBLASLT_MATMUL_DESC_TRANSB": lt.TRANSPOSE_B,
    "CUBLASLT_MATMUL_DESC_EPILOGUE": lt.EPILOGUE, "CUBLASLT_MATMUL_DESC_BIAS_POINTER": lt.BIAS_POINTER,
    "CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE": lt.BIAS_TYPE,
    "CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER": lt.AUX_POINTER,
    "CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD": lt.AUX_LEAD,
    "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": lt.BATCHES, "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": lt.BATCH_OFFSET,
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": lt.MOST_WORKSPACE,
    **{f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{x}_BYTES": n for x, n in zip("ABCD", lt.LEAST_ALIGNMENTS, strict=True)},
}  # fmt: skip
VALUES = {
    "TRANSA": 3, "TRANSB": 4, "EPILOGUE": 7, "BIAS_POINTER": 8, "BIAS_DATA_TYPE": 26, "AUX_POINTER": 11, "AUX_LD": 12,
    "BATCH_COUNT": 5, "BATCH_OFFSET": 6, "WORKSPACE_BYTES": 1, "A_BYTES": 5, "B_BYTES": 6, "C_BYTES": 7, "D_BYTES": 8,
}  # fmt: skip
PARTS = {
    "relu": "RELU", "bias": "BIAS", "gelu": "GELU", "aux": "AUX", "drelu": "DRELU", "dgelu": "DGELU",
    "bgrad": "BGRAD", "bgrada": "BGRADA", "bgradb": "BGRADB",
}  # fmt: skip


def _header():
    import importlib.util

    found = importlib.util.find_spec("nvidia")
    for place in [] if found is None else list(found.submodule_search_locations or ()):
        for path in sorted(Path(place).glob("*/include/cublasLt.h")):
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def _library():
    found = load_library("cublasLt", "cublas")
    if found is None or _header() is None:
        pytest.skip("the wheel of cuBLAS is not installed")
    return found


def test_constants():
    text = _header()
    for name, mine in CONSTANTS.items():
        end = next(value for key, value in VALUES.items() if name.endswith(key))
        assert mine == end
        if text is not None:
            assert int(re.search(rf"^\s*{name} = (\d+),", text, re.MULTILINE)[1]) == mine


def test_epilogues():
    """Bits as the header puts them together: 2 ReLU, 4 bias, 8 its gradient, 16 for the bias, 32, 64 GELU, 128 aux."""
    bits = {"relu": 2, "bias": 4, "gelu": 32, "aux": 128, "drelu": 136, "dgelu": 192, "bgrad": 16, "bgrada": 256,
            "bgradb": 512}  # fmt: skip
    text = _header()
    for name, mine in lt.EPILOGUES.items():
        parts = name.split("+") if name else []
        assert mine == (sum(bits[part] for part in parts) or 1)
        if text is not None and parts:
            order = ["relu", "drelu", "gelu", "dgelu", "aux", "bias", "bgrad", "bgrada", "bgradb"]
            theirs = "CUBLASLT_EPILOGUE_" + "_".join(PARTS[p] for p in sorted(parts, key=order.index))
            assert _evaluated(text, theirs) == mine


def _evaluated(text, name):
    expression = re.search(rf"^\s*{name} = ([^,]+),", text, re.MULTILINE)[1]
    return sum({_evaluated(text, part) if part.startswith("CUBLAS") else int(part)
                for part in re.findall(r"\w+", expression)}) if "|" in expression else int(expression.strip("() "))


def test_attributes_of_the_real_library_come_back(monkeypatch):
    """Every descriptor that the backend makes, made by the library itself: sizes are right, values are kept."""
    library = _library()
    monkeypatch.setattr(lt, "load", lambda: library)
    made = object.__new__(lt.Lt)
    made._library, made._workspace = library, 1 << 20
    product = lt.Product(24, 40, 16, True, False, 24, 40, 40, "float16", epilogue="drelu+bgrad")
    plan = made._described(product, 8)
    assert 120000 <= made.version < 150000

    def read(what, handle, attribute, kind):
        value, written = kind(), ctypes.c_size_t()
        size = ctypes.c_size_t(ctypes.sizeof(value))
        get = getattr(library, f"cublasLt{what}GetAttribute")
        assert get(handle, attribute, ctypes.byref(value), size, ctypes.byref(written)) == 0
        assert written.value == ctypes.sizeof(value)
        return value.value

    d = plan.description
    assert read("MatmulDesc", d, lt.EPILOGUE, ctypes.c_uint32) == 152
    assert read("MatmulDesc", d, lt.TRANSPOSE_A, ctypes.c_int32) == 0
    assert read("MatmulDesc", d, lt.TRANSPOSE_B, ctypes.c_int32) == 1
    assert read("MatmulDesc", d, lt.BIAS_TYPE, ctypes.c_int32) == lt.REAL["float16"]
    assert read("MatmulDesc", d, lt.AUX_LEAD, ctypes.c_int64) == 128
    assert read("MatmulDesc", d, lt.AUX_POINTER, ctypes.c_void_p) == (1 << 20) + 8
    assert read("MatmulDesc", d, lt.BIAS_POINTER, ctypes.c_void_p) == (1 << 20) + 8
    for attribute in lt.LEAST_ALIGNMENTS:
        assert read("MatmulPreference", plan.preference, attribute, ctypes.c_uint32) == 8
    assert read("MatmulPreference", plan.preference, lt.MOST_WORKSPACE, ctypes.c_uint64) == lt.WORKSPACE
    batched = made._described(replace(product, batches=3, step_c=960, epilogue=""), 16)
    assert read("MatrixLayout", batched.c, lt.BATCHES, ctypes.c_int32) == 3
    assert read("MatrixLayout", batched.c, lt.BATCH_OFFSET, ctypes.c_int64) == 960
    assert ctypes.sizeof(lt.Algorithm) == 64
    assert ctypes.sizeof(lt.Choice) == 64 + 8 + 4 + 4 + 16
    with pytest.raises(lt.LtError, match="SetAttribute failed"):
        made._set("MatmulDesc", d, lt.EPILOGUE, ctypes.c_uint8(1))


# -- what epilogues compute, on the emulated device --------------------------------------------------------------------

RNG = np.random.default_rng(7)


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _slope(x, h=1e-6):
    return (_gelu(x + h) - _gelu(x - h)) / (2 * h)


def _ready(cuda, rows, columns, inner, dtype, turn_a=False, turn_b=False):
    from deepbabysit_cupy import lt  # the one over the emulated CuPy

    a, b = (RNG.normal(size=s).astype(dtype) for s in ((rows, inner), (inner, columns)))
    on = [cuda.asarray(np.ascontiguousarray(x.T if turned else x)) for x, turned in ((a, turn_a), (b, turn_b))]
    c, vector = (cuda.asarray(np.full(s, np.nan, dtype)) for s in ((rows, columns), (columns,)))
    product = lt.Product(
        rows, columns, inner, turn_a, turn_b, rows if turn_a else inner, inner if turn_b else columns, columns, dtype
    )
    return product, a.astype(float), b.astype(float), on, c, vector


SHAPES = [(5, 24, 7), (16, 136, 33)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_forward_and_backward_of_an_activation(cuda, shape, dtype, activation):
    library, stream = cuda.backend.lt, cuda.backend.stream.ptr
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-2, "atol": 2e-2}
    for turn_a, turn_b in combinations((False, True), repeat=2):
        product, a, b, (x, w), c, bias = _ready(cuda, *shape, dtype, turn_a, turn_b)
        product = replace(product, epilogue=f"bias+{activation}+aux")
        cuda.write(bias, np.linspace(-1, 1, shape[1]))
        lead = product.aux_lead
        if activation == "relu":
            aux = cuda.asarray(np.full((shape[0], lead // 8), 0x55, np.uint8))
        else:
            aux = cuda.asarray(np.full((shape[0], lead), np.nan, dtype))
        library.run(product, x.data.ptr, w.data.ptr, c.data.ptr, bias.data.ptr, stream, aux.data.ptr)
        before = a @ b + np.linspace(-1, 1, shape[1]).astype(dtype)
        expected = np.maximum(before, 0) if activation == "relu" else _gelu(before)
        np.testing.assert_allclose(cuda.to_host(c), expected, **tolerance)
        if activation == "relu":
            bits = np.unpackbits(cuda.to_host(aux), axis=1, bitorder="little")[:, : shape[1]]
            assert np.array_equal(bits, cuda.to_host(c) > 0)
        else:
            np.testing.assert_allclose(cuda.to_host(aux), before, **tolerance)
            before = cuda.to_host(aux).astype(float)
        # backward: a gradient of c is the product of two others
        product, a, b, (g, v), d, by_bias = _ready(cuda, shape[0], shape[1], 9, dtype, turn_a, turn_b)
        product = replace(product, epilogue=f"d{activation}+bgrad")
        library.run(product, g.data.ptr, v.data.ptr, d.data.ptr, by_bias.data.ptr, stream, aux.data.ptr)
        through = a @ b * (cuda.to_host(c) > 0 if activation == "relu" else _slope(before))
        np.testing.assert_allclose(cuda.to_host(d), through, **tolerance)
        wide = {"rtol": tolerance["rtol"], "atol": 8 * tolerance["atol"]}
        np.testing.assert_allclose(cuda.to_host(by_bias), through.sum(0), **wide)
        plain = replace(product, epilogue=f"d{activation}")
        library.run(plain, g.data.ptr, v.data.ptr, d.data.ptr, 0, stream, aux.data.ptr)
        np.testing.assert_allclose(cuda.to_host(d), through, **tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("epilogue", "axis"), [("bgrada", 1), ("bgradb", 0)])
def test_bias_gradients_of_operands(cuda, shape, epilogue, axis):
    """Their first operand is our second one: the sum over its columns is that of a dense layer's bias."""
    for turn_a, turn_b in combinations((False, True), repeat=2):
        product, a, b, (x, w), c, _ = _ready(cuda, *shape, "float32", turn_a, turn_b)
        vector = cuda.asarray(np.full(shape[1] if axis else shape[0], np.nan, np.float32))
        cuda.backend.lt.run(
            replace(product, epilogue=epilogue), x.data.ptr, w.data.ptr, c.data.ptr, vector.data.ptr,
            cuda.backend.stream.ptr,
        )
        np.testing.assert_allclose(cuda.to_host(c), a @ b, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(cuda.to_host(vector), b.sum(0) if axis else a.sum(1), rtol=1e-4, atol=1e-4)


def test_what_the_library_refuses(cuda):
    from deepbabysit_cupy import lt  # the one over the emulated CuPy

    library = cuda.backend.lt
    product = lt.Product(8, 24, 8, False, False, 8, 24, 24, "float32")
    for epilogue in lt.EPILOGUES:
        assert library.supports(replace(product, epilogue=epilogue))
        assert library.supports(replace(product, epilogue=epilogue, dtype="float64")) is (epilogue == "")
    assert not library.supports(replace(product, columns=25, lead_b=25, lead_c=25, epilogue="bias+gelu+aux"))
    assert library.supports(replace(product, columns=25, lead_b=25, lead_c=25, epilogue="bias+relu+aux"))
    with pytest.raises(lt.LtError, match="no algorithm"):
        library.run(replace(product, epilogue="bias", dtype="float64"), 0, 0, 0, 0, cuda.backend.stream.ptr)
    for missing in ({"bias": 0, "aux": 1}, {"bias": 1, "aux": 0}):
        x = cuda.asarray(np.ones((8, 32), np.float32))
        p = x.data.ptr
        fresh = lt.Lt(cuda.backend._workspace.ptr)
        plan = fresh._plan(replace(product, epilogue="drelu+bgrad"), 16)
        for attribute, name in ((lt.BIAS_POINTER, "bias"), (lt.AUX_POINTER, "aux")):
            if not missing[name]:
                fresh._set("MatmulDesc", plan.description, attribute, ctypes.c_void_p(0))
        with pytest.raises(lt.LtError, match="status 7"):
            fresh._launch(plan, p, p, p, 0, cuda.backend.stream.ptr, 0, plan.algorithm)


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_operands_that_begin_anywhere(cuda, offset):
    """An algorithm that reads 16 bytes at once is not asked to read from an address that is no multiple of it."""
    host = RNG.normal(size=200).astype(np.float32)
    flat = cuda.asarray(host)
    a, b = flat[offset : offset + 32].reshape(4, 8), flat[40 + offset : 40 + offset + 64].reshape(8, 8)
    x, y = host[offset : offset + 32].reshape(4, 8), host[40 + offset : 40 + offset + 64].reshape(8, 8)
    found = cuda.backend.to_host(_matmul(cuda, a, b))
    np.testing.assert_allclose(found, x @ y, rtol=1e-4, atol=1e-5)


def _matmul(cuda, a, b):
    from deepbabysit.kernels import SPECS
    from deepbabysit.runtime.funnel import call

    return call(cuda, SPECS["matmul"], (a, b))[0]
