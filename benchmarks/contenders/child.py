"""The child's side: build, measure; blocked on its pipe between requests. The loss is read on the host every step."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time


def main() -> None:
    """Serve requests until the pipe closes."""
    name, threads = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):  # the one limit that every library keeps to
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not enter the protocol
    module = importlib.import_module(f"benchmarks.contenders.{name.split('-')[0]}_side")
    step = None
    for line in sys.stdin:
        message = json.loads(line)
        if message["do"] == "build":
            step = module.build(message["case"], name, threads)
            for _ in range(message["warm"]):
                loss = step()
            answer = {"loss": loss}
        else:
            start = time.perf_counter()
            for _ in range(message["steps"]):
                loss = step()
            answer = {"seconds": (time.perf_counter() - start) / message["steps"], "loss": loss}
        out.write(json.dumps(answer) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
