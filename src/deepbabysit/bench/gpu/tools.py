"""NVIDIA's own tools over our kernels, where they are installed: compute-sanitizer for errors, ncu for bandwidth."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Sequence
from shutil import which

from deepbabysit.bench.gpu.report import Report

CHECKS = ("memcheck", "racecheck")
METRIC = "dram__throughput.avg.pct_of_peak_sustained_elapsed"
SMALL, LARGE = 5000, 1 << 26  # elements: a sanitizer takes a hundred times as long; ncu wants what no cache holds
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (\d+) (?:errors?|hazards?)")


def look(report: Report) -> None:
    """Run both tools, each in processes of its own; one that is missing, or not allowed to look, is named."""
    sanitizer, profiler = which("compute-sanitizer"), which("ncu")
    for check in CHECKS:
        name = f"compute-sanitizer {check}"
        if sanitizer is None:
            report.keep(name, {"skipped": "it is not installed"}, "skipped: it is not installed")
            continue
        text, code = _run(report, [sanitizer, "--tool", check, "--error-exitcode", "0"], SMALL)
        found = [int(number) for number in _SUMMARY.findall(text)]
        if not found:
            report.keep(name, {"skipped": _last(text)}, f"skipped: it ended with {code}: {_last(text)}")
        elif any(found):
            report.fail(name, f"{sum(found)} errors: {_first_error(text)}")
        else:
            report.keep(name, 0, "0 errors")
    if profiler is None:
        report.keep("ncu", {"skipped": "it is not installed"}, "skipped: it is not installed")
        return
    text, code = _run(report, [profiler, "--clock-control", "none", "--csv", "--metrics", METRIC], LARGE)
    shares = bandwidths(text)
    if not shares:
        report.keep("ncu", {"skipped": _last(text)}, f"skipped: it ended with {code}: {_last(text)}")
    for kernel, share in shares.items():
        report.keep(f"ncu {kernel}", share, f"{share:.0f} % of the memory's peak")


def bandwidths(text: str) -> dict[str, float]:
    """Return the share of the memory's peak in percent that each kernel reached, from what ncu prints as CSV.

    >>> bandwidths('"ID","Kernel Name","Metric Name","Metric Value"\\n"0","relu","dram__x","91.5"\\n')
    {'relu': 91.5}
    """
    lines = text.splitlines()
    begin = next((n for n, line in enumerate(lines) if '"Kernel Name"' in line and '"Metric Value"' in line), None)
    found: dict[str, float] = {}
    for row in [] if begin is None else csv.DictReader(lines[begin:]):
        try:
            share = float(str(row["Metric Value"]).replace(",", ""))
        except ValueError:  # a line between the rows
            continue
        name = str(row["Kernel Name"]).partition("(")[0]
        found[name] = max(share, found.get(name, 0.0))
    return found


def _run(report: Report, tool: Sequence[str], elements: int) -> tuple[str, str]:
    """Return what a tool says about our kernels, and how it ended."""
    command = [*tool, sys.executable, "-m", "deepbabysit.bench.gpu.exercise", str(elements)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=max(report.left, 1.0), check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {report.left:.0f} s"
    except OSError as error:
        return "", str(error)
    return f"{done.stdout}\n{done.stderr}", f"status {done.returncode}"


def _last(text: str) -> str:
    lines = [line.strip("= ") for line in text.splitlines() if line.strip("= ")]
    telling = [line for line in lines if "ERR_" in line or "rror" in line]
    return (telling or lines or ["it said nothing"])[-1][:200]


def _first_error(text: str) -> str:
    lines = [line.strip("= ") for line in text.splitlines() if line.startswith("=========")]
    return next((line for line in lines if re.search(r"Invalid|hazard|Race|race|leaked", line)), "")[:200]
