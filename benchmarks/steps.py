"""Training steps, ours against PyTorch and JAX: ``python -m benchmarks.steps --cases worked@64 --threads 2``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time
from typing import Any

from benchmarks.cases import CASES, work
from benchmarks.contenders import NAMES, Contender, ContenderError


def summary(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return, per contender: median, interquartile spread over median, median of the paired ratios to the first."""
    base = next(iter(times.values()))
    found = {}
    for name, seconds in times.items():
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        ratio = statistics.median(t / b for t, b in zip(seconds, base, strict=True))
        found[name] = {"median": middle, "spread": (high - low) / middle, "ratio": ratio}
    return found


def run_case(case: dict[str, Any], names: list[str], threads: int, rounds: int, slice_s: float) -> dict[str, Any]:
    """Time the contenders in turns, the order reversed every round."""
    children: dict[str, Contender] = {}
    failed: dict[str, str] = {}
    try:
        steps = {}
        for name in names:
            child = children[name] = Contender(name, threads)
            try:
                child.ask(do="build", case=case, warm=5)
                steps[name] = max(3, min(1000, int(slice_s / child.ask(do="measure", steps=3)["seconds"])))
            except ContenderError as error:
                failed[name] = str(error)
            child.pause()
        times: dict[str, list[float]] = {name: [] for name in steps}
        for n in range(rounds):
            for name in list(steps)[:: -1 if n % 2 else 1]:
                child = children[name]
                child.resume()
                child.ask(do="measure", steps=2)  # wake its threads, fill its caches
                times[name].append(child.ask(do="measure", steps=steps[name])["seconds"])
                child.pause()
        return {"times": times, "failed": failed}
    finally:
        for child in children.values():
            child.close()


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--contenders", nargs="*", default=NAMES)
    parser.add_argument("--json")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    note = " (taken under load)" if load >= 0.7 else ""
    print(f"load {load:.2f}{note}")
    rows, ratios = [], []
    for key in options.cases:
        case = CASES[key]
        names = [n for n in options.contenders if n.startswith("ours") or importlib.util.find_spec(n.split("-")[0])]
        for name in sorted(set(options.contenders) - set(names)):
            print(f"{key:18} {name:14} skipped: {name.split('-')[0]} is not installed (extra peers)")
        names = [n for n in names if n != "torch-last" or len(case["input"]) == 3]
        done = run_case(case, names, options.threads, 4 if options.quick else 12, 0.1 if options.quick else 0.4)
        table = summary(done["times"])
        for name, row in table.items():
            print(f"{key:18} {name:14} {row['median'] * 1e6:10.0f} us +-{row['spread'] * 100:3.0f} % "
                  f"ratio {row['ratio']:5.2f}", flush=True)
            data = sorted(done["times"][name])
            rows.append({
                "group": key, "name": f"{key}[{name}]", "fullname": f"benchmarks/steps.py::{key}[{name}]",
                "params": None, "param": None, "options": {},
                "extra_info": {**row, "operations": work(case)[0], "under_load": load >= 0.7},
                "stats": {"min": data[0], "max": data[-1], "mean": statistics.mean(data), "median": row["median"],
                          "stddev": statistics.stdev(data), "rounds": len(data), "iterations": 1, "data": data},
            })
        for name, text in done["failed"].items():
            print(f"{key:18} {name:14} failed: {text[-300:]}")
        peers = [row["ratio"] for name, row in table.items() if not name.startswith("ours")]
        if peers and "ours-replay" in table:
            ratios.append(min(peers))
    if ratios:
        print(f"best peer's time over ours, geometric mean: {statistics.geometric_mean(ratios):.2f}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine_info": {"machine": platform.machine(), "load": load,
                       "threads": options.threads}, "commit_info": {}, "benchmarks": rows,
                       "datetime": time.strftime("%Y-%m-%dT%H:%M:%S"), "version": "5.1.0"}, file, indent=1)


if __name__ == "__main__":
    main()
