"""From CUDA C++ to machine code: NVRTC through ctypes, so that sources compile where there is no GPU and no CuPy.

Compiled code is kept on disk by a digest of source, options and compiler version; what a file holds is checked against
its digest before it is loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deepbabysit.runtime.caches import keep
from deepbabysit_cupy.libraries import INSTALL, load_library

SOURCES = Path(__file__).parent / "src"
OPTIONS = ("--std=c++17", "--fmad=false", "-default-device", "--ptxas-options=-v", "-DNDEBUG")
_INCLUDE = re.compile(r'^#include "([\w.]+)"$', re.MULTILINE)


class CompilerUnavailable(RuntimeError):
    """NVRTC is not installed or cannot be loaded; the message says which file to install."""


class CompileError(RuntimeError):
    """A CUDA source does not compile; the message is the compiler's."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one kernel takes: registers per thread, bytes of stack, bytes spilled, bytes of static shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int


def source(file: str) -> str:
    """Return one file of `src` with the files it includes put in (each once)."""
    return with_includes((SOURCES / file).read_text(encoding="utf-8"))


def with_includes(text: str) -> str:
    """Return a source with the files of `src` that it includes put in (each once)."""
    seen: set[str] = set()

    def insert(match: re.Match[str]) -> str:
        file = match[1]
        if not (SOURCES / file).exists():
            return match[0]
        if file in seen:
            return ""
        seen.add(file)
        return _INCLUDE.sub(insert, (SOURCES / file).read_text(encoding="utf-8").replace("#pragma once\n", ""))

    return _INCLUDE.sub(insert, text)


@cache
def nvrtc() -> Any:
    """Load NVRTC.

    Raises:
        CompilerUnavailable: no version of it is installed.
    """
    library = load_library("nvrtc", "cuda_nvrtc")
    if library is None:
        raise CompilerUnavailable(f"NVRTC, the CUDA compiler library, was not found; {INSTALL}")
    return library


def _check(library: Any, status: int, what: str) -> None:
    if status:
        library.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise CompileError(f"{what}: {library.nvrtcGetErrorString(status).decode()}")


@cache
def version() -> tuple[int, int]:
    """Return the compiler's version, such as (12, 9)."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    library = nvrtc()
    _check(library, library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)), "nvrtcVersion")
    return major.value, minor.value


@cache
def architectures() -> tuple[int, ...]:
    """Return the compute capabilities it compiles for, such as (75, 80, 90)."""
    library, count = nvrtc(), ctypes.c_int()
    _check(library, library.nvrtcGetNumSupportedArchs(ctypes.byref(count)), "nvrtcGetNumSupportedArchs")
    values = (ctypes.c_int * count.value)()
    _check(library, library.nvrtcGetSupportedArchs(values), "nvrtcGetSupportedArchs")
    return tuple(values)


def compile_source(text: str, architecture: int, name: str = "kernels.cu") -> tuple[bytes, str]:
    """Compile CUDA C++ to machine code for one architecture; returns it and the compiler's log.

    Arguments:
        text: the source, includes put in.
        architecture: compute capability without the point, such as 90.
        name: what the compiler calls it in messages.

    Raises:
        CompileError: with the compiler's messages.
        CompilerUnavailable: there is no NVRTC.
    """
    library, program = nvrtc(), ctypes.c_void_p()
    made = library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None, None)
    _check(library, made, name)
    try:
        options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture=sm_{architecture}")]
        status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = _text(library, program, "Log").decode(errors="replace").rstrip("\0")
        if status:
            raise CompileError(f"{name} does not compile for sm_{architecture}:\n{log}")
        return _text(library, program, "CUBIN"), log
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    prefix = "nvrtcGetProgramLog" if what == "Log" else f"nvrtcGet{what}"
    _check(library, getattr(library, f"{prefix}Size")(program, ctypes.byref(size)), prefix)
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, prefix)(program, buffer), prefix)
    return buffer.raw


_ENTRY = re.compile(r"Function properties for '?(\w+)'?|Compiling entry function '(\w+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+)(?:\+\d+)? bytes smem)?")


def usage(log: str) -> dict[str, Usage]:
    """Return what every kernel takes, as the assembler's log says."""
    found: dict[str, Usage] = {}
    name, stack, spilled = "", 0, 0
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            name, stack, spilled = match[1] or match[2], 0, 0
        if match := _STACK.search(line):
            stack, spilled = int(match[1]), int(match[2]) + int(match[3])
        if match := _USED.search(line):
            found[name] = Usage(int(match[1]), stack, spilled, int(match[2] or 0))
    return found


# -- kept on disk ------------------------------------------------------------------------------------------------------

_LOCK = threading.Lock()


def machine_code(text: str, architecture: int, folder: Path | None, name: str = "kernels.cu") -> bytes:
    """Return machine code from `folder`, or compile it and keep it there (`folder` None: not kept)."""
    if folder is None:
        return compile_source(text, architecture, name)[0]
    options = " ".join((*OPTIONS, str(architecture), ".".join(map(str, version()))))
    key = hashlib.sha256(f"{options}\0{text}".encode()).hexdigest()
    path = folder / f"{key}.cubin"
    with _LOCK:
        kept = _read(path)
        if kept is not None:
            return kept
        code = compile_source(text, architecture, name)[0]
        keep(path, hashlib.sha256(code).digest() + code)
        return code


def _read(path: Path) -> bytes | None:
    """Return what was kept, or None where there is nothing whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def nearest(capability: int) -> int:
    """Return the newest architecture that NVRTC knows and a GPU of this capability runs.

    Raises:
        CompileError: it knows none.
    """
    # machine code runs on a newer GPU of the same major number only
    known = [a for a in architectures() if a <= capability and a // 10 == capability // 10]
    if not known:
        raise CompileError(f"NVRTC {'.'.join(map(str, version()))} does not know compute capability {capability / 10}")
    return max(known)
