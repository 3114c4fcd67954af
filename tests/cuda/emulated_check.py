"""A check of the emulated GPU in a process of its own, for tests: ``emulated_check.py FAULT JSON SECONDS``."""

import os
import sys
from pathlib import Path

from emulated_device import emulate

from deepbabysit.runtime.backend import Kernel


def _end(*_: object, **__: object) -> None:
    os._exit(11)


def main(fault: str, path: Path, budget: float) -> None:
    """Run it with a kernel that ends the process, with a phase that does and one that raises, or end before it."""
    emulate()
    from deepbabysit.bench.gpu import correctness, peers, run, speed, tools
    from deepbabysit.bench.gpu.sizes import Sizes
    from deepbabysit_cupy.kernels import KERNELS

    peers.find_spec = tools.which = lambda name: None
    if fault == "kernel":
        KERNELS["relu"] = Kernel(_end)
    elif fault == "phases":
        speed.choices = _end
        correctness.memory = None
    elif fault == "start":
        run.open_device = _end
    operations = ("sum",) if fault == "phases" else ("sum", "relu", "add")
    run.main(path, budget, Sizes(
        copied=4096, product=16, aligned=16, elements=4096, repeats=1, steps=1, compared=2, networks=("tiny@64",),
        trained=(), draws=1, convolutions=("tiny",), operations=operations,
    ))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
