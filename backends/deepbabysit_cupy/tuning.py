"""Choices made by timing, on request only: which algorithm a product runs with, which calls run as one.

They are kept in a file for each kind of GPU. A later process takes them from there, so that its bits are the same; a
file that another version of the library made says nothing about this one.
"""

from __future__ import annotations

import ctypes
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from deepbabysit.runtime.caches import base_folder, keep
from deepbabysit.runtime.notices import NOTICES
from deepbabysit_cupy.lt import Algorithm, Attempt, Product

FORMAT = 1
REPEATS, ROUNDS = 10, 3  # launches in a graph, and how often it is timed; the fastest counts
GAIN = 0.03  # what is not faster by so much is not faster
_DRAWN = 1 << 16  # random numbers that are repeated to the length that is needed


class Tuning:
    """The choices for one GPU.

    Arguments:
        backend: of the GPU.
        library: version of the matrix library.
    """

    def __init__(self, backend: Any, library: int) -> None:
        properties = backend.xp.cuda.runtime.getDeviceProperties(backend.number)
        name = properties["name"]
        self._backend = backend
        self._made_by = {
            "format": FORMAT, "library": library, "device": name.decode() if isinstance(name, bytes) else str(name),
            "capability": f"{properties['major']}.{properties['minor']}",
        }
        self.path = base_folder() / "tuning" / f"{_slug(self._made_by['device'])}.json"
        self._used: dict[str, Any] = {}
        self._apart: dict[str, Any] | None = None
        self._choices = self._read()

    def _read(self) -> dict[str, Any]:
        """Return what the file holds for this GPU and library, empty where there is nothing."""
        try:
            found = json.loads(self.path.read_bytes())
            choices = found["choices"]
            made_by = {key: found["made by"].get(key) for key in self._made_by}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            NOTICES.tell(f"the tuning file {self.path} cannot be read ({error}); what is chosen is timed anew")
            return {}
        if made_by != self._made_by or not isinstance(choices, dict):
            NOTICES.tell(
                f"the tuning file {self.path} was made by {_shown(made_by)}, this is {_shown(self._made_by)}; "
                f"what is chosen is timed anew"
            )
            return {}
        return choices

    def _keep(self, key: str, choice: dict[str, Any]) -> None:
        """Add a choice to the file; where it cannot be written, the choice holds for this process."""
        self._choices[key] = self._used[key] = choice
        try:
            # another process may have added others
            self._choices = {**self._read(), **self._choices}
            keep(self.path, json.dumps({"made by": self._made_by, "choices": self._choices}, indent=1).encode())
        except OSError as error:
            NOTICES.tell(f"what was chosen by timing is not kept: {error}")

    def record(self) -> dict[str, Any]:
        """Return who chose and what was chosen for this process: a part of a run's record."""
        return {"made by": dict(self._made_by), "choices": dict(sorted(self._used.items()))}

    # -- algorithms ----------------------------------------------------------------------------------------------------

    def choose(
        self, product: Product, alignment: int, candidates: Sequence[Algorithm], takes: Callable[[Algorithm], bool],
        attempt: Attempt,
    ) -> Algorithm | None:
        """Return the algorithm for a product: the one that was chosen before, else the fastest; None: the first."""
        key = f"product {_named(product)} aligned {alignment}"
        kept = _algorithm(self._choices.get(key))
        if kept is not None and takes(kept):
            self._used[key] = self._choices[key]
            return kept
        if self._backend.stream.is_capturing():
            return None  # nothing can be timed; steps run eagerly before they are captured
        try:
            operands = self._operands(product)
        except MemoryError:
            NOTICES.tell("there is no memory to time products in; the first algorithm of the library is used")
            return None
        a, b, c, bias, aux = operands[1:]
        stream = self._backend.stream.ptr
        seconds = [self.seconds(partial(attempt, a, b, c, bias, stream, aux, candidate)) for candidate in candidates]
        best = fastest(seconds)
        chosen = candidates[best]
        self._keep(key, {"algorithm": bytes(chosen).hex(), "rank": best, "seconds": seconds})
        return chosen

    def _operands(self, product: Product) -> tuple[Any, ...]:
        """Return arrays of random numbers, which stay alive, and the addresses: a, b, c, bias, aux."""
        p = product
        stored_a = (p.inner, p.rows) if p.turn_a else (p.rows, p.inner)
        stored_b = (p.columns, p.inner) if p.turn_b else (p.inner, p.columns)
        sizes = [
            (p.batches - 1) * step + (rows - 1) * lead + columns
            for (rows, columns), lead, step in (
                (stored_a, p.lead_a, p.step_a), (stored_b, p.lead_b, p.step_b),
                ((p.rows, p.columns), p.lead_c, p.step_c),
            )
        ]
        kind = np.dtype(np.uint16 if p.dtype == "bfloat16" else p.dtype)
        arrays = [self.drawn(size, kind, p.dtype) for size in sizes]
        arrays.append(self.drawn(p.columns, kind, p.dtype) if p.vector else None)
        bits = p.aux_lead and ("relu" in p.epilogue)
        arrays.append(
            self.drawn(p.rows * p.aux_lead // 8, np.dtype(np.uint8)) if bits
            else self.drawn(p.rows * p.aux_lead, kind, p.dtype) if p.aux_lead else None
        )
        return (arrays, *[0 if a is None else int(a.data.ptr) for a in arrays])

    def drawn(self, size: int, kind: np.dtype[Any], meant: str = "") -> Any:
        """Return a flat array of random numbers on the device (zeros would be faster than what trainings hold)."""
        rng = np.random.default_rng(size)
        if kind.kind in "fV":  # V: bfloat16 where it has a type
            values = rng.standard_normal(_DRAWN).astype(np.float32).astype(kind)
        elif meant == "bfloat16":  # the upper half of a float32
            values = (rng.standard_normal(_DRAWN).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        else:
            values = rng.integers(0, 256, _DRAWN).astype(kind)
        return self._backend.asarray(np.resize(values, size))

    # -- calls that run as one -----------------------------------------------------------------------------------------

    def prefers(
        self, key: str, ways: Sequence[Callable[[], None]], names: Sequence[str] = (), **facts: Any
    ) -> int:
        """Return which of several ways to compute the same is fastest (0: the plain one), as chosen before or now.

        Arguments:
            key: what is computed.
            ways: to compute it.
            names: of the ways; see `recall`.
            facts: kept beside the choice.
        """
        kept = self.recall(key, names, str(facts.get("by", ""))) if names else self.recall(key, range(len(ways)))
        if kept is not None:
            return kept
        seconds = [self.seconds(way) for way in ways]
        best = fastest(seconds)
        choice: dict[str, Any] = {"way": best, "seconds": seconds}
        if names:
            choice = {"way": names[best], "seconds": dict(zip(names, seconds, strict=True))}
        choice |= {name: fact for name, fact in facts.items() if fact}
        if self._apart is None:
            self._keep(key, choice)
        else:
            self._apart[key] = choice
        return best

    def recall(self, key: str, ways: Sequence[Any], by: str = "") -> int | None:
        """Return which of some ways was chosen before, or None.

        Arguments:
            key: what is computed.
            ways: numbers, or the names that the file has for them.
            by: the version of the library that does some of them; what another one did says nothing.
        """
        kept = self._choices.get(key)
        if self._apart is not None or not isinstance(kept, dict) or kept.get("by", "") != by:
            return None
        if kept.get("way") not in ways:
            return None
        self._used[key] = kept
        return ways.index(kept["way"])

    @contextmanager
    def apart(self) -> Iterator[dict[str, Any]]:
        """Let `prefers` choose anew in a block, into the dictionary that this gives; nothing of it is kept."""
        self._apart = {}
        try:
            yield self._apart
        finally:
            self._apart = None

    def seconds(self, work: Callable[[], None]) -> float:
        """Return how long the GPU takes for some launches: in a graph, so that the host's time does not count."""
        stream = self._backend.stream
        work()
        stream.begin_capture()
        try:
            for _ in range(REPEATS):
                work()
        finally:
            graph = stream.end_capture()
        graph.launch(stream)
        found = []
        for _ in range(ROUNDS):
            stream.synchronize()
            start = time.perf_counter()
            graph.launch(stream)
            stream.synchronize()
            found.append((time.perf_counter() - start) / REPEATS)
        return min(found)


def fastest(seconds: Sequence[float]) -> int:
    """Return which is the fastest; the first one where none is clearly faster than it.

    >>> fastest([1.0, 0.99]), fastest([1.0, 0.9, 0.8])
    (0, 2)
    """
    best = min(range(len(seconds)), key=lambda i: seconds[i])
    return best if seconds[best] < (1 - GAIN) * seconds[0] else 0


def _algorithm(choice: Any) -> Algorithm | None:
    """Return an algorithm as a file keeps it, or None where that is not one."""
    text = choice.get("algorithm") if isinstance(choice, dict) else None
    if not isinstance(text, str) or not re.fullmatch(f"[0-9a-f]{{{2 * ctypes.sizeof(Algorithm)}}}", text):
        return None
    return Algorithm.from_buffer_copy(bytes.fromhex(text))


def _named(p: Product) -> str:
    """Return a product as text."""
    turned = ("T" if p.turn_a else "N") + ("T" if p.turn_b else "N")
    kind = "tf32" if p.tf32 and p.dtype == "float32" else p.dtype
    batches = f" x{p.batches} steps {p.step_a} {p.step_b} {p.step_c}" if p.batches > 1 else ""
    return (
        f"{p.rows} {p.columns} {p.inner} {turned} rows {p.lead_a} {p.lead_b} {p.lead_c}{batches} {kind}"
        f"{' ' + p.epilogue if p.epilogue else ''}{' added' if p.accumulate else ''}"
    )


def _slug(name: Any) -> str:
    return re.sub(r"[^a-z0-9]+", "-", str(name).lower()).strip("-") or "gpu"


def _shown(made_by: dict[str, Any]) -> str:
    return f"cuBLASLt {made_by['library']} on {made_by['device']}"
