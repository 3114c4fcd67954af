"""PyTorch and JAX on the same networks, each in a process of its own: ``python -m deepbabysit.bench.gpu.peers``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

VARIANTS = ("torch-eager", "torch-fused", "torch-compile", "torch-reduce-overhead", "torch-graphed", "jax")


def missing(variant: str) -> str:
    """Return why a peer cannot be measured, or an empty string."""
    library = "jax" if variant == "jax" else "torch"
    return "" if find_spec(library) else f"{library} is not installed"


def ask(variant: str, case: str, steps: int, timeout: float) -> dict[str, Any]:
    """Measure a peer in a new process; returns ``{"seconds", "spread"}`` or ``{"error"}``."""
    return child("peers", [variant, case, str(steps)], timeout)


def child(module: str, arguments: list[str], timeout: float) -> dict[str, Any]:
    """Run a module of this folder in a new process; returns the JSON of its last line, or ``{"error"}``."""
    command = [sys.executable, "-m", f"deepbabysit.bench.gpu.{module}", *arguments]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(timeout, 1.0), env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done within {timeout:.0f} s"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:300]}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _torch(variant: str, case: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], None]]:
    import torch

    from deepbabysit.bench.cases import batches
    from deepbabysit.bench.torch_side import network

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU")
    model: Any = network(case).to("cuda")
    xs, ys = ([torch.from_numpy(v).to("cuda") for v in part] for part in batches(case, 8))
    if xs[0].ndim == 4:
        xs = [x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) for x in xs]
        model = model.to(memory_format=torch.channels_last)
    graphed = variant == "torch-graphed"
    optimizer = torch.optim.Adam(
        model.parameters(), 1e-3, fused=variant != "torch-eager" or None, capturable=graphed
    )
    loss_of = torch.nn.MSELoss() if case["loss"] == "mse" else torch.nn.CrossEntropyLoss()
    forward: Any = lambda x, y: loss_of(model(x), y)  # noqa: E731
    if variant == "torch-compile":
        forward = torch.compile(forward)
    elif variant == "torch-reduce-overhead":
        forward = torch.compile(forward, mode="reduce-overhead")
    x, y = xs[0].clone(), ys[0].clone()

    def once() -> Any:
        optimizer.zero_grad(set_to_none=not graphed)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss

    run = once
    if graphed:
        side: Any = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                once()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            once()
        run = graph.replay
    count = 0

    def step() -> Any:
        nonlocal count
        x.copy_(xs[count % len(xs)])
        y.copy_(ys[count % len(ys)])
        count += 1
        return run()

    return step, torch.cuda.synchronize


def _jax(case: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], None]]:
    import jax

    from deepbabysit.bench.jax_side import build

    if jax.default_backend() == "cpu":
        raise RuntimeError("this JAX sees no GPU")
    return build({"kind": "step", "case": case, "batches": 8}, "jax", 1)[0], lambda: None  # it reads every loss


def main() -> None:
    """Measure one peer and print one line of JSON."""
    from deepbabysit.bench.cases import GPU_CASES

    variant, name, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    step, wait = _jax(GPU_CASES[name]) if variant == "jax" else _torch(variant, GPU_CASES[name])
    for _ in range(10):
        step()
    found = []
    for _ in range(5):
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        found.append((time.perf_counter() - start) / steps)
    middle = statistics.median(found)
    print(json.dumps({"seconds": middle, "spread": (max(found) - min(found)) / middle}))


if __name__ == "__main__":
    main()
