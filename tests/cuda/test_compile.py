"""Every CUDA source becomes machine code, within a budget of registers, where there is no GPU."""

import os
import re

import numpy as np
import pytest

from deepbabysit.kernels import SPECS
from deepbabysit_cupy import compiler
from deepbabysit_cupy.kernels import activations, elementwise, gathers, launching, losses, maps, reducing, updates

ARCHITECTURES = (75, 80, 90)
# With 256 threads that leaves four blocks on a processor, two where numbers are twice as wide.
REGISTERS, WIDE_REGISTERS = 64, 128
WIDE_FILES = ("statistics.cu",)  # float64 throughout, whatever is measured
FILES = ("statistics.cu",)  # complete in themselves; the others are families, made for the types that are used


@pytest.fixture(scope="module")
def nvrtc():
    try:
        return compiler.nvrtc()
    except compiler.CompilerUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def _budget(text: str, architecture: int, registers: int = REGISTERS) -> None:
    code, log = compiler.compile_source(text, architecture)
    assert code[:4] == b"\x7fELF"
    used = compiler.usage(log)
    assert used
    for name, usage in used.items():
        assert usage.spilled == 0, (name, usage)
        assert usage.registers <= registers, (name, usage)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", FILES)
def test_files(nvrtc, file, architecture):
    _budget(compiler.source(file), architecture, WIDE_REGISTERS if file in WIDE_FILES else REGISTERS)


def test_the_newest_architecture(nvrtc):
    for file in FILES:
        _budget(
            compiler.source(file), max(compiler.architectures()),
            WIDE_REGISTERS if file in WIDE_FILES else REGISTERS,
        )


def _families(float_: str, *more: str) -> list[tuple[str, ...]]:
    """Return the families' kernels for a type; `more`: types of vectors beside arrays of it."""
    found = []
    for file, macros in launching.FAMILIES.items():
        for macro in macros:
            if macro in ("MOVES", "COLUMNS"):
                kinds = [(bits,) for bits in ("16", "128")] if float_ == "float" else []
            else:
                kinds = {"WORDS": [("uint32_t",)], "JOINED": [(float_,)] if float_ in ("float", "double") else []}.get(
                    macro, [(float_, vector) for vector in more] if macro == "NORMALIZE" else [(float_,)]
                )
            found += [(file, macro, *kind) for kind in kinds]
    return found


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, 0])
def test_families(nvrtc, architecture):
    for family in _families("float", "float"):
        _budget(compiler.with_includes(launching.source(*family)), architecture or max(compiler.architectures()))


@pytest.mark.parametrize(
    ("dtype", "vectors"), [("double", ["double"]), ("float16", ["float16", "float"]), ("bfloat16", ["bfloat16"])]
)
def test_families_of_other_types(nvrtc, dtype, vectors):
    for family in _families(dtype, *vectors):
        _budget(compiler.with_includes(launching.source(*family)), 90)


def test_every_family_has_its_macro():
    for file, macros in launching.FAMILIES.items():
        text = (compiler.SOURCES / file).read_text(encoding="utf-8")
        for macro, names in macros.items():
            assert f"#define {macro}(" in text
            assert all(f" {name}_##" in text or macro == "MOVES" for name in names)


def _together(texts: list[str]) -> str:
    """Return sources as one, so that what they include is read once; every function is renamed by its number."""
    parts = []
    for number, text in enumerate(texts):
        body = text.replace('#include "common.cuh"\n', "")
        names = re.findall(r"__global__ void (?:__launch_bounds__\([^()]*\) )?(\w+)", body)
        parts.append(re.sub(rf"\b({'|'.join([*names, 'one'])})\(", rf"\1_{number}(", body))
    return compiler.with_includes('#include "common.cuh"\n' + "".join(parts))


def _inputs(name: str, dtype: str) -> tuple[tuple[str, ...], tuple]:
    count = SPECS[name].reference.__code__.co_argcount - 1
    dtypes = ("bool",) * count if name.startswith("logical") else (dtype,) * count
    return dtypes, (("dtype", "float32"),) if name == "astype" else tuple(SPECS[name].defaults.items())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_generated_maps(nvrtc, dtype):
    texts = []
    for name in (*elementwise.NAMES, *activations.NAMES, *losses.NAMES):
        dtypes, attrs = _inputs(name, dtype)
        texts.append(maps.flat_source(name, dtypes, "w" * len(dtypes), attrs))
        if name in ("divide", "gelu_gradient", "power", "where"):  # one element at a time: never more registers
            texts += [maps.strided_source(name, dtypes, 4, attrs, short) for short in (True, False)]
    epsilon, wide = (("epsilon", 1e-3),), dtype if dtype == "float64" else "float32"
    texts += [
        maps.flat_source("biased", (dtype,) * 2, "wr", (("activation", "tanh"),)),
        maps.flat_source("batch_norm_relu_inference", (dtype, *(wide,) * 4), "wrrrr", epsilon),
        maps.flat_source("batch_flow", (dtype, dtype, *(wide,) * 7), "wwrrrr1rr", epsilon),
        maps.strided_source("lstm_cell_gradient_units", (dtype,) * 8, 2, (("count", 5), ("given", (True, True)))),
        maps.strided_source("gru_cell_gradient_units", (dtype,) * 8, 2, (("count", 4),)),
    ]
    _budget(_together(texts), 90, WIDE_REGISTERS if dtype == "float64" else REGISTERS)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_generated_reductions(nvrtc, dtype):
    wide, epsilon = dtype if dtype == "float64" else "float32", (("epsilon", 1e-3),)
    texts = [reducing.source("itself", (dtype,), (), (kind,), (dtype,), 4, (True,)) for kind in ("sum", "max", "min")]
    texts += [
        reducing.source("true", ("bool",), (), ("any",), ("bool",), 1, (True,)),
        reducing.source("deviation", (dtype, dtype), (), ("sum",), (dtype,), 1, (True, False)),
        reducing.source("power_over", (dtype, dtype), (), ("sum",), (dtype,), 1, (True, False)),
        reducing.source("linear_gradient_sums", (dtype,) * 2, (("activation", "relu"),), ("sum",), (dtype,), 1,
                        (True,) * 3),
        reducing.source("batch_sums", (dtype, dtype, *(wide,) * 4), epsilon, ("sum",) * 2, (wide,) * 2, 1,
                        (True, True, False, False, False, False)),
        reducing.source("channel_sums", (dtype, dtype, wide, wide), (), ("sum",) * 2, (wide,) * 2, 4, (True,) * 4),
    ]
    _budget(_together(texts), 90, WIDE_REGISTERS if dtype == "float64" else REGISTERS)


@pytest.mark.parametrize(
    ("dtype", "gradient", "architecture"),
    [*[("float", "float", architecture) for architecture in (*ARCHITECTURES, 0)], ("double", "double", 90),
     ("float", "float16", 90), ("float", "bfloat16", 90)],
)
def test_updates(nvrtc, dtype, gradient, architecture):
    calls = [("RULE", f"rule_{rule}", rule, dtype, "double", gradient) for rule, _ in updates.RULES.values()]
    calls += [("MEASURE", dtype, "double", gradient), ("AVERAGE", dtype, "double"), ("CLIP", "double"),
              ("KEEP", dtype, dtype, "double", dtype, "double", "double")]
    text = updates.source(*calls[0]) + "".join(f"{macro}({', '.join(rest)})\n" for macro, *rest in calls[1:])
    newest = max(compiler.architectures())
    budget = WIDE_REGISTERS if dtype == "double" else REGISTERS
    _budget(compiler.with_includes(text), architecture or newest, budget)


@pytest.mark.parametrize("x", ["uint8", "int64", "float16", "float32", "float64"])
def test_gathers(nvrtc, x):
    for out in ("float16", "float32", "float64"):
        text = gathers.source(x, "int64", "float64", "float64", out, 2)
        _budget(compiler.with_includes(text), 90, WIDE_REGISTERS)


def test_what_does_not_compile_is_said_in_the_compilers_words(nvrtc):
    with pytest.raises(compiler.CompileError, match="undefined"):
        compiler.compile_source('extern "C" __global__ void f(float* x) { x[0] = nothing; }', 90)


def test_machine_code_is_kept_and_checked(nvrtc, tmp_path, monkeypatch):
    text = 'extern "C" __global__ void f(float* x) { x[0] = 1; }'
    code = compiler.machine_code(text, 90, tmp_path)
    (kept,) = tmp_path.glob("*.cubin")
    monkeypatch.setattr(compiler, "compile_source", lambda *a, **k: pytest.fail("compiled again"))
    assert compiler.machine_code(text, 90, tmp_path) == code
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert compiler.machine_code(text, 90, tmp_path) == code  # what was damaged is made anew
    assert not list(tmp_path.glob("*.part"))


def test_spills_and_registers_are_read_from_the_log():
    log = """ptxas info    : Compiling entry function 'many' for 'sm_90'
ptxas info    : Function properties for many
    96 bytes stack frame, 80 bytes spill stores, 84 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 96 bytes cumulative stack size, 1024 bytes smem"""
    assert compiler.usage(log) == {"many": compiler.Usage(255, 96, 164, 1024)}


@pytest.mark.parametrize("architecture", [75, 90, 0])
def test_merged_launches(nvrtc, architecture):
    """Lanes from a file and from generated maps, and a tail: no name of one part meets another's."""
    from deepbabysit_cupy.merging import Launch, merged

    def launch(text, name, blocks, arguments):
        return Launch(None, text, name, (blocks,), (256,), arguments, 0)

    file = (compiler.SOURCES / "statistics.cu").read_text(encoding="utf-8")
    n = np.int64(1000)
    maps_of = [maps.flat_source(name, ("float32", "float32"), "ww", ()) for name in ("add", "multiply")]
    first, second = (
        launch(text, f"map_{name}", 1, (object(), object(), object(), n))
        for text, name in zip(maps_of, ("add", "multiply"), strict=True)
    )
    units = launch(
        file, "units_float", 7,
        (object(), object(), object(), n, n, n, np.float64(0), np.float64(1), object()),
    )
    straight = np.bool_(True)
    penalty = launch(
        updates.source("MEASURE", "float", "double", "float"), "measure_penalty", 3,
        (*[object()] * 5, n, n, n, object()),
    )
    keep = launch(
        updates.source("KEEP", "float", "float", "double", "float", "double", "double"), "keep_step", 1,
        (*[object()] * 10, n, n, n, straight),
    )
    text, blocks, arguments = merged([[units], [first, second], [penalty]], [second, first, keep], object())
    assert blocks == 11
    assert len(arguments) == 9 + 4 * 4 + 9 + 14 + 1
    newest = max(compiler.architectures())
    _budget(compiler.with_includes(text), architecture or newest, WIDE_REGISTERS)
