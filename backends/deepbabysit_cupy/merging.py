"""Several launches as one kernel: the same code on the same blocks, so the same bits, for one node of a graph.

Blocks of launches that do not depend on each other lie side by side in one grid ("lanes"). Launches of a single block
may follow one another in a lane; those that need what other lanes write are done by the block that ends last ("tail").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_INCLUDE = re.compile(r'^#include "[\w.]+"\n', re.MULTILINE)
_DEFINE = re.compile(r"^\s*#define\s+(\w+)", re.MULTILINE)
_PLAIN = (
    (re.compile(r'extern "C"\s+__global__'), "__device__"),
    (re.compile(r"__launch_bounds__\([^()]*\)"), ""),
    # what one of the launches writes is read by the next: no load may go past the coherent cache
    (re.compile(r"\b__restrict__\b"), ""),
    (re.compile(r"\b__ldg\s*\("), "*("),
)
_SCALARS = {
    "bool": "bool", "int32": "int", "uint32": "unsigned", "int64": "long long", "uint64": "unsigned long long",
    "float32": "float", "float64": "double",
}


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """One launch of an own kernel.

    Attributes:
        function: what launches it.
        text: its source, with includes by name.
        name: of the kernel.
        grid, block: blocks and threads.
        arguments: arrays and NumPy scalars.
        shared: bytes of dynamic shared memory.
        rows: (all, of a block) where a block takes rows one after another and nothing of others: it is given arrays of
            so many rows only.
    """

    function: Any
    text: str
    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Any, ...]
    shared: int
    rows: tuple[int, int] | None = None

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return int(np.prod(self.grid))

    @property
    def mergeable(self) -> bool:
        """Whether it can be part of a merged kernel."""
        scalars = all(not isinstance(a, np.generic) or a.dtype.name in _SCALARS for a in self.arguments)
        return scalars and not self.shared and len(self.block) == 1

    def run(self) -> None:
        """Launch it."""
        self.function(self.grid, self.block, self.arguments, shared_mem=self.shared)


class _Source:
    """The text of a merged kernel while it is put together."""

    def __init__(self) -> None:
        self.includes: dict[str, None] = {'#include "blocks.cuh"\n': None}
        self.spaces: dict[tuple[str, int, tuple[int, ...]], str] = {}
        self.bodies: list[str] = []
        self.parameters: list[str] = []
        self.arguments: list[Any] = []

    def space(self, launch: Launch, offset: int) -> str:
        """Return the namespace in which the kernel sees its own blocks, which begin at `offset` in the grid."""
        grid = (*launch.grid, 1, 1)[:3]
        key = (launch.text, offset if launch.blocks > 1 else 0, grid)
        name = self.spaces.get(key)
        if name is None:
            name = self.spaces[key] = f"part{len(self.spaces)}"
            text = launch.text
            for include in _INCLUDE.findall(text):
                self.includes[include] = None
            text = _INCLUDE.sub("", text)
            for pattern, plain in _PLAIN:
                text = pattern.sub(plain, text)
            number = f"block_number() - {offset}u" if launch.blocks > 1 else "0u"
            x, y, _ = grid
            undefine = "".join(f"#undef {macro}\n" for macro in dict.fromkeys(_DEFINE.findall(text)))
            self.bodies.append(
                f"namespace {name} {{\n"
                f"__device__ __forceinline__ Place place() {{ unsigned b = {number}; "
                f"return Place{{b % {x}u, b / {x}u % {y}u, b / {x * y}u}}; }}\n"
                f"__device__ __forceinline__ Place places() {{ return Place{{{x}u, {y}u, {grid[2]}u}}; }}\n"
                f"#define blockIdx place()\n#define gridDim places()\n{text}\n"
                f"#undef blockIdx\n#undef gridDim\n{undefine}}}\n"
            )
        return name

    def call(self, launch: Launch, offset: int) -> str:
        """Return the statement that runs a launch's blocks."""
        given = []
        for value in launch.arguments:
            place = f"a{len(self.arguments)}"
            self.arguments.append(value)
            if isinstance(value, np.generic):
                self.parameters.append(f"{_SCALARS[value.dtype.name]} {place}")
                given.append(place)
            else:
                self.parameters.append(f"void* {place}")
                given.append(f"Pointer{{{place}}}")
        return f"{self.space(launch, offset)}::{launch.name}({', '.join(given)});"


def merged(lanes: Sequence[Sequence[Launch]], tail: Sequence[Launch], ticket: Any) -> tuple[str, int, tuple[Any, ...]]:
    """Return source, number of blocks and arguments of the kernel `merged` that runs these launches.

    Arguments:
        lanes: independent of each other; launches of one lane have as many blocks, and one depends on the blocks of
            those before it that have its own number.
        tail: launches of one block, after all lanes.
        ticket: one number on the device that is 0 between launches.
    """
    source = _Source()
    statements, offset = [], 0
    for lane in lanes:
        calls = " __syncthreads(); ".join(source.call(launch, offset) for launch in lane)
        count = lane[0].blocks
        statements.append(f"if (block >= {offset}u && block < {offset + count}u) {{ {calls} }}")
        offset += count
    ending = ""
    if tail:
        calls = " __syncthreads(); ".join(source.call(launch, 0) for launch in tail)
        # one block alone needs no count of those that have ended
        wait = "__syncthreads();" if offset == 1 else f"if (!last_of(ticket, {offset}u)) return;"
        ending = f"{wait} {calls}"
    source.arguments.append(ticket)
    # what includes define comes first, so that the parts only see their own blocks
    threads = lanes[0][0].block[0]
    text = f"""{''.join(source.includes)}
struct Place {{ unsigned x, y, z; }};
struct Pointer {{ void* at; template <class T> __device__ operator T*() const {{ return (T*)at; }} }};
__device__ __forceinline__ unsigned block_number() {{ return blockIdx.x; }}
{''.join(source.bodies)}
extern "C" __global__ void __launch_bounds__({threads}) merged({', '.join([*source.parameters, 'unsigned* ticket'])}) {{
  unsigned block = block_number();
  {chr(10).join(statements)}
  {ending}
}}
"""
    return text, offset, tuple(source.arguments)
