"""What is around the steps: an epoch through `fit`, data loading, memory, start-up, what an installation takes."""

from __future__ import annotations

import importlib.util
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from deepbabysit.bench import results
from deepbabysit.bench.cases import CASES, work
from deepbabysit.bench.contenders import Contender, ContenderError, fits, library
from deepbabysit.bench.session import Session
from deepbabysit.bench.turns import Pace, run_turns

FIT_LIMIT, IMPORT_LIMIT, INSTALLED_LIMIT = 1.15, 0.15, 300.0
LOADERS = ("ours-loader", "ours-ahead", "ours-gather", "torch-batched", "torch-loader")
EPOCHS = ("ours-bare", "ours-fit", "ours-watched")
_HOW = {"ours-fit": "fit(babysit=False)", "ours-watched": "fit(babysit=True)"}
MNIST_ROWS = 60_000
_NOISE = 0.5  # MB; pages that the system counts late
_OPERATIONS = 4e12  # of a process whose memory is read: some 20 s


def fit(session: Session) -> None:
    """Time an epoch through `fit`, watched and not, against as many bare steps: the worked example, then LeNet-5."""
    plans = [("worked@64", MNIST_ROWS)]  # of fewer rows, recording the step would be most of what is found
    plans += [] if session.quick else [("lenet5@32", 3_200)]
    for key, rows in plans:
        group = f"{key}, {rows} rows"
        task = {"kind": "epoch", "case": CASES[key], "rows": rows}
        turns = run_turns(session.pool, {n: (n, task) for n in EPOCHS}, Pace(5 if session.quick else 7, 0.01), warm=1)
        session.add("fit", group, turns, {"rows": rows}, "ours-bare")
        for row in session.found["benchmarks"]:
            extra = row["extra_info"]
            if extra["part"] == "fit" and extra["case"] == group and extra["contender"] in _HOW:
                text = f"{group}: {_HOW[extra['contender']]} / bare steps"
                note(session, "fit", text, extra["ratio"], "", FIT_LIMIT if key == "worked@64" else None)


def loading(session: Session) -> None:
    """Time a shuffled epoch of batches: `Loader`, the bare gather, PyTorch's DataLoader in two ways."""
    rows = 12_800 if session.quick else MNIST_ROWS
    names = session.allowed(LOADERS)
    for key in ("worked@64",) if session.quick else ("worked@64", "six-conv-norm@32"):
        task = {"kind": "loading", "case": CASES[key], "rows": rows if key == "worked@64" else rows // 4}
        turns = run_turns(session.pool, {n: (n, task) for n in names}, Pace(session.pace.rounds, 0.1), warm=1)
        counts = {name: first[0] for name, first in turns.first.items() if first[0] != task["rows"]}
        if counts:
            session.found["failed"][f"loading[{key}]"] = f"not {task['rows']} rows: {counts}"
        session.add("loading", f"{key}, {task['rows']} rows", turns, {}, "ours-loader")


def note(session: Session, part: str, name: str, value: float, unit: str, limit: float | None = None) -> None:
    """Add a number that is no time of a contender, and say it."""
    session.found["figures"].append(results.figure(part, name, value, unit, limit))
    bound = "" if limit is None else f" (at most {limit:.4g})"
    session.tell(f"{name}: {value:.4g} {unit}{bound}")


# -- memory ---------------------------------------------------------------------------------------------------------


def memory(session: Session) -> None:
    """Compare the peak of a training process with PyTorch's, and what later steps add."""
    for key in session.cases:
        names = [n for n in session.names if fits(n, CASES[key]) and ":" not in n and "compile" not in n]
        found: dict[str, dict[str, float]] = {}
        for name in names:
            try:
                found[name] = _process(session, name, key)
            except ContenderError as error:
                session.found["failed"][f"memory[{key}-{name}]"] = str(error)[-600:]
        theirs = [values for name, values in found.items() if library(name) == "torch"]
        for what, text in (("peak", "peak of the process"), ("above", "peak above what the imports take")):
            limit = min((values[what] for values in theirs), default=None)
            for name, values in found.items():
                own = library(name) == "ours"
                note(session, "memory", f"{key} {name}: {text}", values[what], "MB", limit if own else None)
        for name, values in found.items():
            own = library(name) == "ours"
            text = f"{key} {name}: growth over {values['steps']:.0f} steps"
            note(session, "memory", text, values["growth"], "MB", _NOISE if own else None)


def _process(session: Session, name: str, key: str) -> dict[str, float]:
    """Train in a fresh process; returns megabytes: at its peak, above the imports, and what later steps added."""
    own = library(name) == "ours"
    # growth is asked of ours alone; a peak is reached in the first steps
    most = 20 if not own else 200 if session.quick else 1000
    first, steps = 20, min(most, max(60, int(_OPERATIONS / work(CASES[key])[0])))
    if own:  # a process that compiles kernels takes some 150 MB for it, once on a machine
        first_child = Contender(name, session.threads)
        try:
            first_child.ask(do="build", task={"kind": "step", "case": CASES[key], "batches": 4})
            first_child.ask(do="measure", steps=4)
        finally:
            first_child.close()
    child = Contender(name, session.threads)
    try:
        # Numba is loaded at first use; PyTorch's counterpart is part of its import
        numba = own and importlib.util.find_spec("numba") is not None
        before = child.ask(do="memory", imports=["numba.core.registry"] if numba else [])
        child.ask(do="build", task={"kind": "step", "case": CASES[key], "batches": 4})
        child.ask(do="measure", steps=first)
        settled = child.ask(do="memory")
        child.ask(do="measure", steps=steps)
        after = child.ask(do="memory")
    finally:
        child.close()
    return {
        "peak": after["peak"] / 1e6, "above": (after["peak"] - before["now"]) / 1e6,
        "growth": (after["now"] - settled["now"]) / 1e6, "steps": float(steps),
    }  # fmt: skip


# -- start-up -------------------------------------------------------------------------------------------------------

CODES = {
    "import deepbabysit": "import numpy, deepbabysit",
    "first tensor": "import numpy, deepbabysit as db; db.tensor([1.0]) + 1",
    "first model": "import numpy, deepbabysit as db; db.Sequential([db.layers.Dense(2, input_shape=3)])",
    "first fit": (
        "import numpy as np, deepbabysit as db\n"
        "m = db.Sequential([db.layers.Dense(64, 'relu', input_shape=64), db.layers.Dense(10)])\n"
        "m.compile('adam', 'cross_entropy')\n"
        "m.fit(np.zeros((256, 64), 'f'), np.arange(256) % 10, batch_size=64, verbose=0)"
    ),
    "import torch": "import numpy, torch",
    "import jax": "import numpy, jax",
}


def startup(session: Session) -> None:
    """Time imports and first uses above ``import numpy`` in fresh processes, in pairs; add up what is installed."""
    for label, code in CODES.items():
        module = label.removeprefix("import ")
        if module in ("torch", "jax") and importlib.util.find_spec(module) is None:
            continue
        pairs = 3 if session.quick else 9
        above = statistics.median(_seconds(code) - _seconds("import numpy") for _ in range(pairs))
        note(session, "start-up", f"{label}, above import numpy", above, "s",
             IMPORT_LIMIT if label == "import deepbabysit" else None)  # fmt: skip
    sizes = installed(["deepbabysit"], ("fast",))
    note(session, "start-up", f"unpacked: {', '.join(sizes)}", sum(sizes.values()), "MB", INSTALLED_LIMIT)
    whole = sum(installed(["deepbabysit"], ("fast",), bytecode=True).values())
    note(session, "start-up", "the same with the bytecode that pip writes beside it", whole, "MB")
    for peer in ("torch", "jax"):
        if importlib.util.find_spec(peer) is not None:
            note(session, "start-up", f"unpacked: {peer} and what it needs", sum(installed([peer]).values()), "MB")


def _seconds(code: str) -> float:
    environment = Contender.environment("ours-replay", 1)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=environment)
    return time.perf_counter() - start


def installed(names: list[str], extras: tuple[str, ...] = (), bytecode: bool = False) -> dict[str, float]:
    """Return distribution -> megabytes on disk, for these and everything that they require.

    Arguments:
        names: distributions; ours is counted by its folders, since a checkout has no list of files.
        extras: of the first ones, what they bring is counted too.
        bytecode: also count ``.pyc`` files, which are in no wheel: installers and imports write them.
    """
    found: dict[str, float] = {}
    waiting = [(name, extras) for name in names]
    while waiting:
        name, wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            package = distribution(name)
        except PackageNotFoundError:
            if key == "deepbabysit":
                found[key] = _ours(bytecode)
                waiting += [(n, ()) for n in ("numpy", "rich", "safetensors", *(("numba",) if extras else ()))]
            continue
        found[key] = _ours(bytecode) if key == "deepbabysit" else _files(package, bytecode)
        for line in package.requires or []:
            requirement, _, marker = line.partition(";")
            required = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
            asked = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", marker)
            if required and (asked is None or asked.group(1) in wanted):
                waiting.append((required.group(), ()))
    return found


def _files(package: Distribution, bytecode: bool) -> float:
    paths = [Path(str(package.locate_file(file))) for file in package.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file() and (bytecode or path.suffix != ".pyc")) / 1e6


def _ours(bytecode: bool) -> float:
    total = 0
    for module in ("deepbabysit", "deepbabysit_numpy", "deepbabysit_cupy"):
        spec = importlib.util.find_spec(module)
        for folder in (spec.submodule_search_locations or []) if spec is not None else []:
            files = (path for path in Path(folder).rglob("*") if path.is_file())
            total += sum(path.stat().st_size for path in files if bytecode or path.suffix != ".pyc")
    return total / 1e6


PARTS: dict[str, Callable[[Session], None]] = {"loading": loading, "fit": fit, "memory": memory, "startup": startup}
