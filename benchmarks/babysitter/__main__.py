"""``python -m benchmarks.babysitter``: run a pool (or go on with it) and print its table."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.babysitter import draws
from benchmarks.babysitter.cases import Case, pool
from benchmarks.babysitter.code_cases import CodeCase, code_outcome, code_pool
from benchmarks.babysitter.judging import Scores
from benchmarks.babysitter.outcomes import outcome, places, truth, verdict_of
from benchmarks.babysitter.repairs import able, repair_figures, repair_outcome
from benchmarks.babysitter.scoring import figures
from benchmarks.babysitter.table import table, table_of_groups, table_of_misses, table_of_repairs, table_of_truths
from deepbabysit.io.files import atomic_write

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing of a pool's first cases, then print figures and misses."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.babysitter", description=__doc__)
    parser.add_argument("--pool", choices=draws.NAMES, default=draws.NAMES[0])
    parser.add_argument("--cases", type=int, help="only the first N cases (a sample of the pool)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, help="begin no further case after so long")
    parser.add_argument("--folder", type=Path, default=RESULTS, help="where outcomes are kept, and looked for")
    parser.add_argument("--fresh", action="store_true", help="forget outcomes that are there (not the scores)")
    parser.add_argument("--show", action="store_true", help="run nothing, print what is there")
    parser.add_argument("--only", help="only cases whose name holds this")
    parser.add_argument("--scores", action="store_true", help="only find out which cases hurt: nobody watches")
    parser.add_argument("--code", action="store_true", help="run the pool's code cases instead")
    parser.add_argument("--default", action="store_true", help="watch as fit does by default: what little time allows")
    parser.add_argument("--repair", action="store_true", help="repair the pool's cases instead")
    parser.add_argument("--alone", action="store_true", help="repair without the rivals that it has to beat")
    parser.add_argument("--misses", action="store_true", help="print the table of misses, too")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.scores:
        return find_scores(given.pool, given.folder, given.cases, given.minutes)
    mode = "code" if given.code else "repair" if given.repair else "default" if given.default else "watch"
    label = given.pool if mode == "watch" else f"{given.pool}-{mode}"
    file, _ = places(given.folder, label)
    if given.fresh and file.exists() and not given.show:
        file.unlink()
    known = read(file)
    if given.show:  # what there is, whatever data are here
        missing, names = [], list(known)
    else:
        cases: Sequence[Any] = code_pool(given.pool) if mode == "code" else pool(given.pool)
        if mode == "repair":
            cases = [case for case in cases if able(case)]
        missing, names = [case for case in cases if case.name not in known], [case.name for case in cases]
    names = [name for name in names[: given.cases] if given.only is None or given.only in name]
    missing = [case for case in missing if case.name in names]
    until = perf_counter() + 60.0 * given.minutes if given.minutes else float("inf")
    way = "alone" if mode == "repair" and given.alone else mode
    for done, found in enumerate(run_all(missing, way, given.folder, given.jobs, until), 1):
        if found is None:
            continue
        with file.open("a") as out:
            out.write(json.dumps(found, separators=(",", ":")) + "\n")
        known[found["name"]] = found
        if done % 50 == 0:
            print(f"{done} of {len(missing)} cases", file=sys.stderr, flush=True)
    there = [known[name] for name in names if name in known]
    result = repair_figures(there) if mode == "repair" else figures(there)
    if not given.show:
        text = json.dumps(result, indent=1) + "\n"
        atomic_write(given.folder / f"babysitter-{label}.json", text.encode())
    print(table_of_repairs(result, there, given.pool) if mode == "repair" else table(result, label))
    if given.misses and mode != "repair":
        print("\n" + table_of_groups(there) + "\n\n" + table_of_misses(there))
    return 0


def find_scores(name: str, folder: Path, count: int | None, minutes: float | None) -> int:
    """Find out which cases of a pool hurt, keep the scores, and print how many there are of each code."""
    scores = Scores(places(folder, name)[1])
    until = perf_counter() + 60.0 * minutes if minutes else float("inf")
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for done, case in enumerate(pool(name)[:count], 1):
        if perf_counter() >= until:
            break
        found[case.codes[0] if case.codes else case.kind][truth(case.kind, verdict_of(case, scores)[0])] += 1
        if done % 100 == 0:
            print(f"{done} cases", file=sys.stderr, flush=True)
    print(table_of_truths(found))
    return 0


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Return the outcomes of a file by name; a line that was cut off is left out."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["name"]] = entry
    return found


def run_all(
    cases: Sequence[Any], mode: str, folder: Path, jobs: int, until: float
) -> Iterator[dict[str, Any] | None]:
    """Yield the outcomes of cases as they come, in one process or several; None for a case that crashed."""
    if jobs <= 1:
        for case in cases:
            if perf_counter() >= until:
                return
            yield _one(case, mode, folder)
        return
    with ProcessPoolExecutor(jobs) as workers:
        for start in range(0, len(cases), 8 * jobs):
            if perf_counter() >= until:
                return
            part = cases[start : start + 8 * jobs]
            yield from workers.map(_one, part, [mode] * len(part), [folder] * len(part))


_SCORES: dict[tuple[Path, str], Scores] = {}


def _one(case: Case | CodeCase, mode: str, folder: Path) -> dict[str, Any] | None:
    try:
        if isinstance(case, CodeCase):
            return code_outcome(case)
        key = (folder, case.pool)
        if key not in _SCORES:
            _SCORES[key] = Scores(places(folder, case.pool)[1])
        if mode in ("repair", "alone"):
            return repair_outcome(case, _SCORES[key], mode == "repair")
        return outcome(case, _SCORES[key], every=None) if mode == "default" else outcome(case, _SCORES[key])
    except Exception:  # one case does not end a pool: it is missing in the counts, and run again next time
        print(f"{case.name} crashed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return None


if __name__ == "__main__":
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    sys.exit(main())
