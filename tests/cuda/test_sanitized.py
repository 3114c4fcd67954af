"""Kernels under AddressSanitizer and UndefinedBehaviorSanitizer, on arrays without a byte to spare."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from host_build import sanitizer_library

HERE = Path(__file__).parent
PREPARED = """
import sys
sys.path[:0] = [{here!r}, *{paths!r}]
import numpy as np
from host_build import HostModule
from deepbabysit_cupy import compiler
from deepbabysit_cupy.kernels import launching, maps

def real(*shape): return np.random.default_rng(3).standard_normal(shape).astype(np.float32)
def blank(*shape): return np.full(shape, np.nan, np.float32)
parts = [
    launching.source(file, macro, *kinds) for file, macro, kinds in (
        ("softmax.cu", "SOFTMAX", ["float"]), ("losses.cu", "LOSSES", ["float"]), ("scan.cu", "SCANS", ["float"]),
        ("windows.cu", "COLUMNS", ["32"]), ("random.cu", "DROPOUT", ["float"]), ("structure.cu", "MOVES", ["32"]),
        ("normalization.cu", "NORMALIZE", ["float", "float"]),
    )
]
more = "MOMENTS(float) WINDOWS(float) ADDS(float)" + chr(10)
text = "".join(parts) + more + maps.flat_source("add", ("float32",) * 2, "ww", ())
module = HostModule(compiler.with_includes(text), sanitize=True)  # all in one: built once
def run(name, grid, *arguments):
    numbers = [np.int64(a) if isinstance(a, int) else np.float64(a) if isinstance(a, float) else a for a in arguments]
    for order in ("forward", "reverse", "shuffled"):
        module.launch(name, grid, 256, numbers, order=order)
"""
# what each kernel is given: lengths that are odd, rows that begin where sixteen bytes do and where they do not
CASES = {
    "map": 'run("map_add", 2, blank(37), real(37), real(37), 37)',
    "softmax": 'run("softmax_float", 1, y := blank(5, 39), real(5, 39), 5, 39, 1, 8, 0); '
    "assert np.allclose(y.sum(1), 1)",
    "softmax, columns": 'run("softmax_float", 1, blank(9, 5), real(9, 5), 5, 9, 5, 8, 1)',
    "losses": 'run("labels_float", 1, blank(5), blank(5, 7), real(5, 7), '
    "np.array([0, 6, -1, 7, 3]), 6, 5, 7, 32, 0.1, 0, 0)",
    "normalize": 'run("normalize_float_float", 1, blank(3, 21), real(3, 21), '
    "real(21), real(21), 1, 3, 1, 1, 21, 8, 1, 1e-5)",
    "moments": 'run("moments_float", (1, 2), blank(2, 7), blank(2, 7), real(11, 7), '
    "11, 7, 6, 8)",
    "columns": 'run("columns_32", 2, blank(2 * 12, 9, 3), real(2, 3, 4, 3), 1, '
    "2, 3, 4, 3, 3, 3, 1, 1, 1, 1, 1, 1, 3, 4)",
    "uncolumns": 'run("uncolumns_float", 2, blank(2, 3, 4, 3), real(2 * 12, 9, 3), 1, '
    "2, 3, 4, 3, 3, 3, 1, 1, 1, 1, 1, 1, 3, 4)",
    "pool": 'run("max_pool_gradient_float", 2, blank(1, 5, 5, 2), real(1, 3, 3, 2), '
    "real(1, 5, 5, 2), real(1, 3, 3, 2), 1, 5, 5, 2, 3, 3, 2, 2, 1, 1, 1, 1, 3, 3)",
    "take": 'run("take_32", 1, blank(4, 3), real(5, 3), np.array([4, -5, 5, -6]), 6, '
    "np.uint64(0), 1, 5, 4, 3)",
    "scatter_add": 'run("scatter_add_float", (4, 1), blank(5, 3), real(4, 3), '
    "np.array([4, -5, 5, 4]), 6, 5, 4, 3)",
    "running_sum": 'run("running_sum_float", 2, blank(3, 259), real(3, 259), 3, 259, 1)',
    "dropout": 'run("dropout_float", 1, blank(7, 3), blank(7, 3), real(7, 3), '
    "np.array([5, 1, 3, 0], np.uint64), 1, 21, 3, np.uint64(9), np.uint64(0), np.uint64(2**31), 0.5)",
}


def _child(lines):
    paths = [str(HERE.parents[1] / folder) for folder in ("src", "backends")]
    environment = {**os.environ, "LD_PRELOAD": sanitizer_library(), "ASAN_OPTIONS": "detect_leaks=0"}
    text = PREPARED.format(here=str(HERE), paths=paths) + "\n".join(lines)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, check=False)


def test_nothing_is_read_or_written_beyond_an_array():
    lines = [line for case, code in CASES.items() for line in (f"print({case!r}, flush=True)", code)]
    done = _child([*lines, 'print("ended")'])
    assert done.stdout.endswith("ended\n"), f"after {done.stdout.splitlines()[-1:]}: {done.stderr[-3000:]}"


@pytest.mark.parametrize("shorter", ["blank(36), real(37), real(37)", "blank(37), real(37), real(36)"])
def test_one_element_too_few_is_caught(shorter):
    done = _child([CASES["map"].replace("blank(37), real(37), real(37)", shorter)])
    assert "heap-buffer-overflow" in done.stderr
