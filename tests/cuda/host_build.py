"""Builds CUDA sources for the CPU and runs their kernels on NumPy arrays (see host/cuda_host.h)."""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HEADERS = Path(__file__).parent / "host"
PRELUDE = '#include "cuda_host.h"\n'
ORDERS = {"forward": 0, "reverse": 1, "shuffled": 2}
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")
FLAGS = ("-O1", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-w", "-DHOST")


class DivergentBarrier(RuntimeError):
    """Some threads of a block waited at a barrier that the others never reached."""


def compiler() -> str:
    """Return g++ or clang++; without one the test fails in CI and is skipped elsewhere."""
    for name in ("g++", "clang++"):
        if path := shutil.which(name):
            return path
    if os.environ.get("CI"):
        pytest.fail("no g++ or clang++: the CUDA kernels cannot be run on the CPU")
    pytest.skip("no g++ or clang++ is installed")


def sanitizer_library() -> str:
    """Return AddressSanitizer's library, which has to be loaded before Python; without one the test is skipped."""
    found = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if "/" not in path:
        pytest.skip("AddressSanitizer's library is not installed")
    return path


def kernel_names(text: str) -> list[str]:
    """Return the kernels that a source defines, those made by macros included."""
    plain = text
    if re.search(r'#define(?:.*\\\n)*.*extern "C"', text):
        empty = _folder() / "empty"
        empty.mkdir(exist_ok=True)
        (empty / "cuda_host.h").touch()
        plain = subprocess.run(
            [compiler(), "-E", "-P", "-x", "c++", "-std=c++17", "-DHOST", "-I", str(empty), "-"],
            input=text, capture_output=True, text=True, check=True,
        ).stdout
    found = re.findall(r'extern "C"\s+__global__\s+void\s+(?:__launch_bounds__\([^()]*\)\s+)?(\w+)\s*\(', plain)
    return list(dict.fromkeys(found))


class HostModule:
    """A CUDA source as a library of this CPU.

    Arguments:
        text: the source with its includes put in.
        defines: macros for planted faults.
        sanitize: build with AddressSanitizer and UndefinedBehaviorSanitizer (then run it in a child process).
    """

    def __init__(self, text: str, defines: tuple[str, ...] = (), sanitize: bool = False) -> None:
        self.names = kernel_names(text)
        self.path = _build(text, tuple(self.names), defines, sanitize)
        self._library: Any = None
        self._sanitize = sanitize

    @property
    def library(self) -> Any:
        if self._library is None:
            if not self._sanitize:
                _load_scheduler()
            self._library = ctypes.CDLL(str(self.path))
        return self._library

    def _message(self) -> str:
        scheduler = self.library if self._sanitize else _load_scheduler()
        scheduler.host_message.restype = ctypes.c_char_p
        return str(scheduler.host_message().decode())

    def launch(
        self, name: str, grid: Any, block: Any, arguments: Any, shared: int = 0, order: str = "forward", seed: int = 1
    ) -> None:
        """Run a kernel; arguments are NumPy arrays (their memory) and NumPy scalars (their value).

        Raises:
            DivergentBarrier: a barrier was not reached by all threads.
        """
        held = [np.uint64(a.ctypes.data) if np.ndim(a) else np.asarray(a)[()] for a in arguments]
        cells = [np.array(value) for value in held]
        parameters = (ctypes.c_void_p * max(1, len(cells)))(*[cell.ctypes.data for cell in cells])
        status = self.library.host_launch(
            name.encode(), _three(grid), _three(block), ctypes.c_size_t(shared), parameters, ORDERS[order], seed
        )
        if status == 2:
            raise KeyError(f"no kernel {name}; there are {', '.join(self.names)}")
        if status:
            raise DivergentBarrier(self._message())


def _three(lengths: Any) -> Any:
    values = (lengths,) if isinstance(lengths, int) else tuple(lengths)
    return (ctypes.c_uint * 3)(*(values + (1, 1, 1))[:3])


@cache
def _folder() -> Path:
    path = Path(tempfile.gettempdir()) / f"deepbabysit-host-{os.getuid() if hasattr(os, 'getuid') else 0}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _build(text: str, names: tuple[str, ...], defines: tuple[str, ...], sanitize: bool) -> Path:
    """Return the library of a source: built once, kept by a digest of all that went into it."""
    flags = [*FLAGS, *(SANITIZERS if sanitize else ())]
    calls = "\n".join(f"static void call_{name}() {{ host::call({name}); }}" for name in names)
    table = "\n".join(
        f'  if (!strcmp(name, "{name}")) return host_run(call_{name}, grid, block, shared, params, order, seed);'
        for name in names
    )
    unit = f"""{PRELUDE}{text}
{calls}
extern "C" int host_run(void (*)(), const unsigned*, const unsigned*, size_t, void**, int, unsigned);
extern "C" int host_launch(const char* name, const unsigned* grid, const unsigned* block, size_t shared, void** params,
                           int order, unsigned seed) {{
{table}
  return 2;
}}
"""
    chosen = [f"-D{define}" for define in defines]
    if sanitize:
        return _compiled([*flags, *chosen], unit, [str(_scheduler(sanitize))], ".so")
    # what it needs is loaded already: linking nothing is five times quicker
    return _compiled([*flags, *chosen, "-I", str(_precompiled().parent)], unit, ["-nostdlib"], ".so")


@cache
def _scheduler(sanitize: bool) -> Path:
    """Return the scheduler: an object for libraries that contain it, or a library that all others share."""
    flags = [*FLAGS, *SANITIZERS] if sanitize else list(FLAGS)
    text = (HEADERS / "cuda_host.cpp").read_text()
    if sanitize:
        return _compiled([f for f in flags if f != "-shared"], text, ["-c"], ".o")
    return _compiled(flags, text, ["-lm"], ".so")


@cache
def _load_scheduler() -> Any:
    return ctypes.CDLL(str(_scheduler(False)), mode=ctypes.RTLD_GLOBAL)


@cache
def _precompiled() -> Path:
    """Return the header as the compiler keeps it, in a folder of its own; only g++ looks for it."""
    header = (HEADERS / "cuda_host.h").read_text(encoding="utf-8")
    digest = hashlib.sha256("\0".join([compiler(), *FLAGS, header]).encode()).hexdigest()[:24]
    path = _folder() / digest / "cuda_host.h.gch"
    if not path.exists() and "g++" in compiler():
        path.parent.mkdir(exist_ok=True)
        (path.parent / "cuda_host.h").write_text(header, encoding="utf-8")
        temporary = path.with_suffix(f".{os.getpid()}")
        flags = [f for f in FLAGS if f != "-shared"]
        command = [compiler(), *flags, "-x", "c++-header", str(path.with_suffix("")), "-o", str(temporary)]
        subprocess.run(command, check=True)
        os.replace(temporary, path)
    return path


def _compiled(flags: list[str], unit: str, more: list[str], suffix: str) -> Path:
    header = (HEADERS / "cuda_host.h").read_text(encoding="utf-8")
    digest = hashlib.sha256("\0".join([compiler(), *flags, *more, header, unit]).encode()).hexdigest()[:24]
    path = _folder() / f"{digest}{suffix}"
    if not path.exists():
        temporary = path.with_suffix(f".{os.getpid()}{suffix}")
        done = subprocess.run(
            [compiler(), *flags, "-I", str(HEADERS), "-x", "c++", "-", "-x", "none", *more, "-o", str(temporary)],
            input=unit, capture_output=True, text=True, check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        os.replace(temporary, path)
    return path
