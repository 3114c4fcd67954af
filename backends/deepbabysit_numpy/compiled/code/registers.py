"""How large a tile of a result the vector registers hold; nothing here imports Numba before it is asked."""

from __future__ import annotations

from functools import cache

# vectors side by side -> rows, for 32 registers (AVX-512, ARM) and for 16
_MANY = {1: 12, 2: 12, 3: 8, 4: 6}
_FEW = {1: 8, 2: 6, 3: 4, 4: 3}
_EFFORT = {1: 1.3, 2: 1.05, 3: 1.02, 4: 1.0}  # loads for each multiplication cost the narrow ones time


@cache
def _machine() -> tuple[int, bool]:
    """Return (bytes of a vector register, whether there are 32 of them)."""
    import platform

    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f"):
        return 64, True
    if features.get("avx"):
        return 32, False
    return 16, platform.machine().lower() in ("arm64", "aarch64")


@cache
def has_matrix_registers() -> bool:
    """Tell whether the processor has matrix registers that multiply bfloat16 numbers (Intel's AMX)."""
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    return all(features.get(name) for name in ("avx512f", "avx512bw", "avx512dq", "amx-tile", "amx-bf16"))


@cache
def matrix_registers() -> bool:
    """Tell whether this process may use them: Linux gives them to those who ask."""
    import ctypes
    import platform

    if platform.system() != "Linux" or platform.machine() != "x86_64" or not has_matrix_registers():
        return False
    try:
        return ctypes.CDLL(None).syscall(158, 0x1023, 18) == 0  # arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)
    except (OSError, AttributeError):
        return False


def register_bytes() -> int:
    """Return how many bytes a vector register has."""
    return _machine()[0]


def tile_rows(vectors: int) -> int:
    """Return how many rows of so many vectors the registers hold."""
    return (_MANY if _machine()[1] else _FEW)[vectors]


def tall_rows() -> int:
    """Return how many rows of two vectors they hold where nothing else needs one."""
    return 14 if _machine()[1] else 6


def vectors_for(columns: int, itemsize: int) -> int:
    """Return how many vectors side by side cover so many columns best."""
    lanes = register_bytes() // itemsize
    return min(_EFFORT, key=lambda v: (-(-columns // (v * lanes)) * v * _EFFORT[v], v))


def best_rows(vectors: int, sums: list[int]) -> int:
    """Return how many rows a tile should have where so many rows are to be computed, each list by itself."""
    most = tile_rows(vectors)
    # a step takes the time of its multiplications or of its loads, two at a time, and half a cycle
    cost = {rows: max(rows * vectors, rows + vectors) / 2 + 0.5 for rows in {most, 9, 8, 6} if rows <= most}
    return min(cost, key=lambda rows: (sum(-(-n // rows) for n in sums) * cost[rows], -rows))
