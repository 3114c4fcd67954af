"""PyTorch and JAX on the same networks, each in a process of its own: ``python -m deepbabysit.bench.gpu.peers``."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

VARIANTS = ("torch-graphed", "jax", "torch-eager", "torch-fused", "torch-reduce-overhead", "torch-compile")
LONGEST = 60.0  # seconds that one of them is waited for


def missing(variant: str) -> str:
    """Return why a peer cannot be measured, or an empty string."""
    library = "jax" if variant == "jax" else "torch"
    return "" if find_spec(library) else f"{library} is not installed"


def ask(variant: str, cases: Sequence[str], steps: int, timeout: float) -> dict[str, dict[str, Any]]:
    """Measure a peer in a new process; returns ``{"seconds", "spread"}`` or ``{"error"}`` for each case."""
    answers = child("peers", [variant, str(steps), *cases], timeout)
    error = {"error": answers.get("error", "it said nothing about it")}
    return {case: answers.get(case, error) for case in cases}


def child(module: str, arguments: list[str], timeout: float) -> dict[str, Any]:
    """Run a module of this folder in a new process; returns the JSON of its lines, and ``error`` where it failed."""
    command = [sys.executable, "-m", f"deepbabysit.bench.gpu.{module}", *arguments]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    answers: dict[str, Any] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            out, said = process.communicate(timeout=max(timeout, 1.0))
            if process.returncode or not out.strip():
                answers["error"] = (said.strip().splitlines() or ["it ended without a word"])[-1][:300]
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            answers["error"] = f"not done within {timeout:.0f} s"
    for line in out.splitlines():
        if line.startswith("{"):  # whatever else a library prints
            answers.update(json.loads(line))
    return answers


def captured(work: Callable[[], Any], repeats: int = 1) -> Callable[[], Any]:
    """Return the replay of a CUDA graph of PyTorch in which some work is done so many times; it is warmed up before."""
    import torch

    side: Any = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            work()
    return graph.replay


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
        run = captured(once)
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
    """Measure one peer on some networks, and print a line of JSON for each."""
    from deepbabysit.bench.cases import GPU_CASES

    variant, steps, *names = sys.argv[1:]
    for name in names:
        try:
            found = _measured(*(_jax if variant == "jax" else partial(_torch, variant))(GPU_CASES[name]), int(steps))
        except Exception as error:  # the next one may work
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps({name: found}), flush=True)


def _measured(step: Callable[[], Any], wait: Callable[[], None], steps: int) -> dict[str, Any]:
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
    return {"seconds": middle, "spread": (max(found) - min(found)) / middle}


if __name__ == "__main__":
    main()
