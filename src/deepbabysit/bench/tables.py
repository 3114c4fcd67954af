"""Tables from the file of a run: Markdown that is aligned, so that a terminal shows it as well as a page."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from deepbabysit.bench.cases import MLP_NETS
from deepbabysit.bench.contenders import library
from deepbabysit.bench.networks import floor
from deepbabysit.bench.results import Results
from deepbabysit.bench.session import OURS, show_time

TORCH_MEAN, JAX_MEAN, OF_FLOOR = 1.5, 1.15, 0.9
_TRIVIAL = ("copy", "add", "matmul")  # BLAS, and what joins gradients


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with columns of equal width.

    >>> print(markdown(["a", "bc"], [["1", "2"]]))
    | a | bc |
    |---|----|
    | 1 | 2  |
    """
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    text = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines]
    text.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(text)


def _groups(results: Results, part: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Return group -> contender -> its extra information, for one part."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in results["benchmarks"]:
        extra = row.get("extra_info") or {}
        if extra.get("part") == part and "median" in extra:
            found.setdefault(extra["case"], {})[extra["contender"]] = extra
    return found


def _best(rows: dict[str, dict[str, Any]], own: str, device: str = "") -> tuple[str, dict[str, Any]] | None:
    """Return the fastest contender of a library on a device (the CPU unless named)."""
    fitting = [(n, r) for n, r in rows.items() if library(n) == own and n.partition(":")[2] == device]
    return min(fitting, key=lambda pair: pair[1]["median"]) if fitting else None


def _cell(row: dict[str, Any]) -> str:
    return f"{show_time(row['median'])} ±{row['spread'] * 100:.0f} %"


def _against(rows: dict[str, dict[str, Any]], own: str) -> tuple[str, float | None]:
    """Return the cell of a library's best contender, and its time over ours."""
    best = _best(rows, own)
    if best is None:
        return "-", None
    name, row = best
    variant = f" ({name.partition('-')[2]})" if own == "torch" else ""
    return _cell(row) + variant, float(row["ratio"])


def steps_table(results: Results) -> str:
    """Return the training steps: ours against theirs, and against the machine's limits."""
    limits = results["machine_info"]["limits"]
    rows = []
    for key, group in _groups(results, "steps").items():
        ours = group.get(OURS)
        if ours is None:
            continue
        torch, over_torch = _against(group, "torch")
        jax, over_jax = _against(group, "jax")
        ratios = [r for r in (over_torch, over_jax) if r is not None]
        share = floor(ours["operations"], ours["parameters"], limits) / ours["median"]
        met = not ratios or min(ratios) >= 1 or share >= OF_FLOOR
        rows.append([
            key, _cell(ours), torch, jax, f"{min(ratios):.2f}" if ratios else "-", f"{share * 100:.0f} %",
            "yes" if met else "no",
        ])  # fmt: skip
    head = ["network@batch", "ours", "best PyTorch", "JAX", "best peer / ours", "floor / ours", "met"]
    return markdown(head, rows) if rows else ""


def means(results: Results) -> dict[str, tuple[float, int]]:
    """Return, for "torch", "jax" and "peer": the geometric mean of its best time over ours on the dense networks."""
    found: dict[str, list[float]] = {"torch": [], "jax": [], "peer": []}
    for group in _groups(results, "steps").values():
        if OURS not in group or group[OURS]["net"] not in MLP_NETS:
            continue
        ratios = {own: ratio for own in ("torch", "jax") if (ratio := _against(group, own)[1]) is not None}
        for own, ratio in ratios.items():
            found[own].append(ratio)
        if ratios:
            found["peer"].append(min(ratios.values()))
    return {own: (statistics.geometric_mean(values), len(values)) for own, values in found.items() if values}


def devices_table(results: Results) -> str:
    """Return our steps on the CPU against a GPU, or why there is none."""
    rows = []
    for part in ("steps", "kernels"):
        for key, group in _groups(results, part).items():
            gpu = [(n, r) for n, r in group.items() if library(n) == "ours" and ":cuda" in n]
            if gpu and OURS in group:
                rows.append([key, _cell(group[OURS]), _cell(gpu[0][1]), f"{1 / gpu[0][1]['ratio']:.2f}"])
    if rows:
        return markdown(["network@batch", "CPU", "GPU", "CPU / GPU"], rows)
    reasons = [reason for name, reason in results.get("skipped", {}).items() if ":cuda" in name]
    return f"CPU against GPU: skipped: {reasons[0]}" if reasons else ""


def kernels_table(results: Results) -> str:
    """Return single operations, and below it where ours is slower than a contender that computes the same."""
    rows = []
    for key, group in _groups(results, "kernels").items():
        ours = group.get(OURS)
        if ours is None:
            continue
        cells = [_cell(group[name]) if name in group else "-" for name in ("ours-plain", "ours-reference")]
        cells += [_against(group, own)[0] for own in ("torch", "jax")]
        peers = [ratio for label, ratio in _others(group).items() if label != "NumPy"]
        ran = ours.get("kernels", {})
        plain = sorted({*ran.get("plain", ()), *ran.get("passed", ())} - {*ran.get("compiled", ()), *_TRIVIAL})
        rows.append([
            key, _cell(ours), *cells, f"{min(peers):.2f}" if peers else "-",
            "all compiled" if not plain else "plain: " + ", ".join(plain),
        ])  # fmt: skip
    head = ["forward + backward", "ours", "NumPy", "references", "best PyTorch", "JAX", "best peer / ours", "kernels"]
    if not rows:
        return ""
    behind = slower(results)
    lines = [f"- {min(others.values()):.2f} {key} ({_named(others)})" for key, others in behind.items()]
    text = f"slower than others (their time over ours): {len(behind)} of {len(rows)}"
    return "\n\n".join([markdown(head, rows), "\n".join([text, *lines])])


def _named(ratios: dict[str, float]) -> str:
    return ", ".join(f"{label} {ratio:.2f}" for label, ratio in ratios.items())


def _others(group: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the times over ours of what computes the same: plain NumPy, and the best of each library."""
    found = {"NumPy": float(group["ours-plain"]["ratio"])} if "ours-plain" in group else {}
    for own, label in (("torch", "PyTorch"), ("jax", "JAX")):
        ratio = _against(group, own)[1]
        if ratio is not None:
            found[label] = ratio
    return found


def slower(results: Results) -> dict[str, dict[str, float]]:
    """Return the operations that another contender computes in less time than we, the worst first, and by whom."""
    groups = {key: group for key, group in _groups(results, "kernels").items() if OURS in group}
    behind = {key: {own: ratio for own, ratio in _others(group).items() if ratio < 1} for key, group in groups.items()}
    return dict(sorted(((k, v) for k, v in behind.items() if v), key=lambda pair: min(pair[1].values())))


def plain_table(results: Results, part: str, base: str, title: str) -> str:
    """Return one row for each group and a column for each contender, with its time over that of the base."""
    groups = _groups(results, part)
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    names.sort(key=lambda name: name != base)
    rows = []
    for key, group in groups.items():
        cells = [key]
        for name in names:
            row = group.get(name)
            cells.append("-" if row is None else _cell(row) if name == base else f"{_cell(row)}, {row['ratio']:.2f}")
        rows.append(cells)
    return markdown([title, *names], rows) if rows else ""


def figures_table(results: Results) -> str:
    """Return the numbers that are no times, each with its limit."""
    rows = []
    for figure in results.get("figures", []):
        limit = figure["limit"]
        met = "" if limit is None else "yes" if figure["value"] <= limit else "no"
        rows.append([figure["part"], figure["name"], f"{figure['value']:.4g} {figure['unit']}".strip(),
                     "" if limit is None else f"{limit:.4g}", met])  # fmt: skip
    return markdown(["part", "figure", "value", "at most", "met"], rows) if rows else ""


def machine_text(results: Results) -> str:
    """Return what the machine is, what it can do at best, and what else it was doing."""
    machine = results["machine_info"]
    limits, load = machine.get("limits") or {}, machine.get("load") or {}
    lines = [
        f"{machine['cpu'].get('brand_raw', '')}, {machine.get('threads', '?')} threads; "
        + ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    ]
    if limits:
        (small, cached), (large, beyond) = limits["bandwidth"][0], limits["bandwidth"][-1]
        lines.append(
            f"limits: products {limits['flops'] / 1e9:.0f} GFLOP/s; memory {beyond / 1e9:.0f} GB/s over "
            f"{large >> 20} MiB, {cached / 1e9:.0f} GB/s over {small >> 20} MiB; a call {limits['call'] * 1e9:.0f} ns"
        )
    if load:
        note = ": taken under load" if load["under_load"] else ""
        lines.append(f"load before the run {load['before']}, processors kept busy by others {load['others']}{note}")
    return "\n".join(lines)


def report(results: Results) -> str:
    """Return everything: machine, tables, geometric means, what was skipped or failed."""
    parts = [machine_text(results), steps_table(results)]
    for own, (mean, count) in means(results).items():
        goal = {"torch": TORCH_MEAN, "jax": JAX_MEAN}.get(own)
        wanted = f" (at least {goal}: {'met' if mean >= goal else 'not met'})" if goal else ""
        label = {"torch": "PyTorch's best", "jax": "JAX", "peer": "the best peer"}[own]
        parts.append(f"{label} / ours, geometric mean over {count} dense rows: {mean:.2f}{wanted}")
    parts += [
        devices_table(results),
        kernels_table(results),
        plain_table(results, "loading", "ours-loader", "data loading, one epoch"),
        plain_table(results, "fit", "ours-bare", "one epoch"),
        figures_table(results),
    ]
    parts += [f"{name}: skipped: {why}" for name, why in results.get("skipped", {}).items() if ":cuda" not in name]
    parts += [f"{name}: FAILED: {why}" for name, why in results.get("failed", {}).items()]
    return "\n\n".join(part for part in parts if part)
