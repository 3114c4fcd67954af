"""``gpucheck``: is a GPU right, and how fast is it?"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from deepbabysit.bench.gpu.run import open_device
from deepbabysit.bench.gpu.supervising import supervise
from deepbabysit.cli.usage import UsageError
from deepbabysit.runtime.backend import BackendUnavailable


def gpucheck(options: argparse.Namespace) -> int:
    """Check the first GPU within a budget; 1 where there is none or something is wrong."""
    if options.budget <= 0:
        raise UsageError(f"--budget is a number of seconds above 0; got {options.budget:g}")
    try:
        device = open_device()
    except BackendUnavailable as reason:
        print(f"no GPU can be checked: {reason}", file=sys.stderr)
        return 1
    path = Path(options.json) if options.json else _default(device)
    found = supervise(path, options.budget, lambda line: print(line, flush=True))
    print(f"written: {path}")
    return 1 if found["failed"] else 0


def _default(device: Any) -> Path:
    backend = device.backend
    name = backend.xp.cuda.runtime.getDeviceProperties(backend.number)["name"]
    text = name.decode() if isinstance(name, bytes) else str(name)
    return Path("benchmarks/results") / f"gpucheck-{re.sub('[^a-z0-9]+', '-', text.lower()).strip('-')}.json"
