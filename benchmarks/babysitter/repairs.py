"""Repair: does it bring a faulty program back to its healthy twin, and does it leave healthy ones alone?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import deepbabysit as db
from benchmarks.babysitter.cases import Case
from benchmarks.babysitter.judging import Scores
from benchmarks.babysitter.operators import OPERATORS, apply
from benchmarks.babysitter.outcomes import Outcome, truth, verdict_of
from benchmarks.babysitter.programs import BY_NAME
from benchmarks.babysitter.recipes import task_of
from benchmarks.babysitter.rivals import rivals
from benchmarks.babysitter.running import plan, score
from benchmarks.babysitter.scoring import rate
from benchmarks.babysitter.sources import Prepared, prepare

RETRIES = 5
LOST = {operator.name for operator in OPERATORS if operator.lost}
POINTS = 0.02  # of accuracy or R2: as good as the healthy twin; worse by more than that is harm


def able(case: Case) -> bool:
    """Tell whether a case is given to a repair: nothing is lost for good, and no weight was trained before."""
    return "pretrain" not in case.delta and case.operator not in LOST


def repair_outcome(case: Case, scores: Scores, raced: bool = True) -> Outcome:
    """Repair a case and score what comes back on the clean test part, beside the healthy twin with the same seed.

    A faulty one is given to the rivals, too, with as many trainings, where it is `raced`.
    """
    program, seed = BY_NAME[case.program], case.seeds[0]
    recipe = apply(program, case.delta)
    measure = "r2" if task_of(program) == "regression" else "accuracy"
    data = prepare(recipe["data"], seed)
    found: Outcome = {
        "name": case.name, "operator": case.operator, "codes": list(case.codes), "kind": case.kind,
        "truth": truth(case.kind, verdict_of(case, scores)[0]), "twin": scores.of(program, seed)["scores"][measure],
        "before": scores.of(recipe, seed)["scores"].get(measure),  # none where the run is refused
        "after": None, "trainings": 0, "kept": [], "failed": "", "seconds": 0.0, "passes": 0.0, "rivals": {},
    }
    if found["truth"] == "out":
        return found
    began = perf_counter()
    try:
        after, told = _repaired(recipe, data, seed)
        found.update(told, after=score(after, data.test, data)[measure])
    except (TypeError, ValueError, RuntimeError) as error:
        found["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
    found["seconds"] = round(perf_counter() - began, 2)
    if raced and found["truth"] == "faulty":
        others = rivals(plan(recipe, data, seed)[1], found["trainings"] or RETRIES + 1, data.train.x, data.train.y,
                        (data.held.x, data.held.y))
        found["rivals"] = {
            name: {"after": None if said is None else score(said(data.test.x), data.test, data)[measure],
                   "passes": passes}
            for name, (said, passes) in others.items()
        }
    return found


def _repaired(recipe: Mapping[str, Any], data: Prepared, seed: int) -> tuple[Any, Outcome]:
    """Return outputs for the test part after a repair, and what it did."""
    _, setup = plan(recipe, data, seed)
    result = db.babysit.repair(
        lambda _: plan(recipe, data, seed)[0], data.train.x, data.train.y, (data.held.x, data.held.y), RETRIES,
        epochs=setup.epochs, batch_size=setup.batch_size, patience=setup.patience, class_weight=setup.class_weight,
        shuffle=setup.shuffle, seed=seed,
    )
    told = {"trainings": len(result.history), "kept": [a.finding for a in result.history[1:] if a.kept],
            "passes": result.passes + result.side_passes}
    return result.predict(data.test.x), told


def restored(found: Outcome) -> bool:
    """Tell whether a repaired program is as good as its healthy twin."""
    return found["after"] is not None and found["after"] >= found["twin"] - POINTS


def harmed(found: Outcome) -> bool:
    """Tell whether a healthy program came back worse than it went."""
    return found["after"] is None or (bool(found["kept"]) and found["after"] < found["before"] - POINTS)


def repair_figures(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Return how many faulty programs came back as good as their twins, and what was done to healthy ones."""
    known = [o for o in outcomes if o["truth"] != "out"]
    faulty = [o for o in known if o["truth"] == "faulty"]
    trained = [o for o in faulty if o["before"] is not None]
    healthy = {
        "clean and look-alikes": [o for o in known if o["truth"] == "healthy" and o["kind"] != "fault"],
        "faults without harm": [o for o in known if o["truth"] == "healthy" and o["kind"] == "fault"],
    }
    names = sorted({name for o in faulty for name in o.get("rivals", {})})
    others = {name: [{**o, **o["rivals"][name]} for o in faulty if name in o.get("rivals", {})] for name in names}
    own = [o for o in faulty if restored(o) and set(o["kept"][:1]) & set(o["codes"])]
    return {
        "faulty": len(faulty), "restored": rate(sum(map(restored, faulty)), len(faulty)),
        "restored where it could be trained": rate(sum(map(restored, trained)), len(trained)),
        "restored, a remedy of the right name first": rate(len(own), len(faulty)),
        "rivals": {name: rate(sum(map(restored, some)), len(some)) for name, some in others.items()},
        "passes": {name: median([o["passes"] for o in some]) for name, some in (("repair", faulty), *others.items())
                   if some and all("passes" in o for o in some)},
        "left alone": {name: rate(sum(not o["kept"] for o in some), len(some)) for name, some in healthy.items()},
        "harmed": {name: rate(sum(map(harmed, some)), len(some)) for name, some in healthy.items()},
        "trainings": median([o["trainings"] for o in faulty]) if faulty else None,
        "seconds": median([o["seconds"] for o in known]) if known else None,
    }
