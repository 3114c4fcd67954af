"""The proof's machinery: bounds, splits, judging, planted faults that are found, look-alikes that are not."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.babysitter import draws
from benchmarks.babysitter.__main__ import main, read
from benchmarks.babysitter.baselines import BASELINES
from benchmarks.babysitter.cases import TRIALS, Case, pool
from benchmarks.babysitter.code_cases import SOURCES, WAYS, CodeCase, code_outcome, code_pool
from benchmarks.babysitter.judging import Scores, judge, plain, significant
from benchmarks.babysitter.operators import LOOKALIKES, OPERATORS, apply
from benchmarks.babysitter.outcomes import outcome, truth
from benchmarks.babysitter.programs import BY_NAME, PROGRAMS
from benchmarks.babysitter.recipes import KNOWN, optimizer, pool_of
from benchmarks.babysitter.repairs import able, repair_figures, restored
from benchmarks.babysitter.rivals import best_of, rivals, usual
from benchmarks.babysitter.running import build, plan, run, score
from benchmarks.babysitter.scoring import bounds, figures, per_code
from benchmarks.babysitter.sources import Part, prepare, present, raw
from benchmarks.babysitter.table import table, table_of_groups, table_of_misses, table_of_repairs

from deepbabysit.babysit.codes import CODES

DEV = draws.NAMES[0]


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # the usual worked examples of exact intervals: 0 of n gives 1 - 0.025^(1/n); tables of Documenta Geigy
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (5, 10, 0.1871, 0.8129), (1, 20, 0.0013, 0.2487),
     (10, 20, 0.2720, 0.7280), (4, 400, 0.0027, 0.0254), (0, 400, 0.0, 0.0092)],
)
def test_bounds_are_those_of_clopper_and_pearson(hits: int, of: int, low: float, high: float) -> None:
    assert bounds(hits, of) == pytest.approx((low, high), abs=6e-5)


def test_bounds_leave_half_of_the_rest_on_either_side() -> None:
    low, high = bounds(37, 120)
    def at_most(k: int, p: float) -> float:
        return math.fsum(math.comb(120, i) * p**i * (1 - p) ** (120 - i) for i in range(k + 1))
    assert 1.0 - at_most(36, low) == pytest.approx(0.025, abs=1e-9)
    assert at_most(37, high) == pytest.approx(0.025, abs=1e-9)


# -- the pools ---------------------------------------------------------------------------------------------------------


def test_pools_share_no_data_no_program_no_fault_and_no_seed() -> None:
    cases = {name: pool(name) for name in draws.NAMES}
    assert all(cases.values())
    fault_of: list[tuple[str, Callable[[Case], Any]]] = [
        ("program", lambda c: c.program), ("name", lambda c: c.name), ("seeds", lambda c: c.seeds[0]),
        ("source", lambda c: BY_NAME[c.program]["data"]["source"]),
        ("fault", lambda c: c.operator if c.kind == "fault" else c.name),
    ]
    for what, key in fault_of:
        for one, other in combinations(draws.NAMES, 2):
            assert not {key(c) for c in cases[one]} & {key(c) for c in cases[other]}, (what, one, other)
    seeds = {name: {seed for c in cases[name] for seed in c.seeds} for name in draws.NAMES}
    looks = {name: {c.operator for c in cases[name] if c.kind == "lookalike"} for name in draws.NAMES}
    for one, other in combinations(draws.NAMES, 2):
        assert not seeds[one] & seeds[other]
        assert looks[one] & looks[other] <= ({"longer"} if {one, other} == set(draws.NAMES[:2]) else set())
        assert not set(SOURCES[one]) & set(SOURCES[other])
        assert not set(WAYS[one]) & set(WAYS[other])


def test_every_operator_belongs_to_one_pool_and_names_codes_that_exist() -> None:
    names = [o.name for o in OPERATORS]
    assert len(names) == len(set(names))
    for name in draws.NAMES:
        assert sum(o.pool == name for o in OPERATORS) >= 30
        ways = WAYS[name].values()
        assert {code for way in ways for code in way.codes} <= set(CODES)
        assert any(way.codes for way in ways) and not all(way.codes for way in ways)
    for o in OPERATORS:
        assert o.codes and set(o.codes) <= set(CODES), o.name
    mine, theirs, *sealed = ({o.codes[0] for o in OPERATORS if o.pool == name} for name in draws.NAMES)
    assert mine >= theirs
    assert all(theirs < others for others in sealed)
    assert all(not o.codes for o in LOOKALIKES)


@pytest.mark.parametrize("name", draws.NAMES[2:])
def test_a_sealed_pool_is_large_enough_for_what_is_claimed(name: str) -> None:
    if not all(present(source) for source in draws.parts("sources")[name].SOURCES):
        pytest.skip("files or extras are missing")
    cases = pool(name)
    counts = Counter(case.codes[0] for case in cases if case.codes)
    assert sum(counts.values()) >= 800
    assert min(counts.values()) >= 20
    kinds = Counter(case.kind for case in cases)
    assert kinds["lookalike"] > kinds["clean"] > 200


def test_the_newest_draw_has_enough_of_each_kind() -> None:
    name = draws.NEWEST
    assert len(draws.parts("programs")[name].PROGRAMS) >= 55
    assert sum(o.pool == name for o in OPERATORS) >= 100
    claimed = {other: {o.codes[0] for o in OPERATORS if o.pool == other} for other in draws.NAMES}
    assert claimed[name] >= claimed[draws.NAMES[-2]]
    cases = code_pool(name)  # its code cases need no files
    counts = Counter(case.codes[0] if case.codes else "healthy" for case in cases)
    assert len(cases) >= 450 and counts["healthy"] >= 150
    assert min(counts.values()) >= 12 and len(counts) >= 10
    before = {code for other in draws.NAMES[1:-1] for way in WAYS[other].values() for code in way.codes[:1]}
    assert before <= set(counts)


def test_draws_are_in_the_order_of_their_seeds() -> None:
    assert draws.NAMES[:4] == (DEV, "first", "second", "third")
    seeds = [draw.FIRST_SEED for draw in draws.DRAWS.values()]
    assert seeds == sorted(set(seeds))
    assert draws.draw_of(draws.parts("programs")[draws.NEWEST].__name__) == draws.NEWEST == draws.NAMES[-1]


def test_cases_are_data_and_the_same_every_time() -> None:
    first = pool(DEV)
    pool.cache_clear()
    again = pool(DEV)
    assert first == again
    assert len({c.name for c in first}) == len(first)
    for case in first + pool(draws.NEWEST):
        assert json.loads(json.dumps(case.as_dict())) == case.as_dict(), case.name
        assert len(set(case.seeds)) == len(case.seeds) == (1 if case.kind == "clean" else TRIALS)
    kinds = [c.kind for c in first[:200]]
    assert 100 <= kinds.count("fault") <= 140  # the first cases are a sample of all
    assert min(kinds.count("clean"), kinds.count("lookalike")) >= 20


def test_no_operator_changes_the_recipe_it_is_given_and_every_case_changes_something() -> None:
    before = json.dumps(PROGRAMS)
    rng = np.random.default_rng(0)
    for o in (*OPERATORS, *LOOKALIKES):
        assert any(o.make(program, rng) is not None for program in PROGRAMS if pool_of(program) == o.pool), o.name
    assert json.dumps(PROGRAMS) == before
    for case in pool(DEV):
        assert (apply(BY_NAME[case.program], case.delta) == BY_NAME[case.program]) == (case.kind == "clean")


def test_one_case_of_every_operator_can_be_built() -> None:
    for name in draws.NAMES:
        found = {case.operator: case for case in pool(name)}
        for case in found.values():
            recipe = apply(BY_NAME[case.program], case.delta)
            assert build(recipe, prepare(recipe["data"], case.seeds[0]), 0).built, case.name


def test_programs_say_the_truth_about_their_data() -> None:
    for program in PROGRAMS:
        source = program["data"]["source"]
        if not present(source):
            continue  # files that are not everywhere
        x, y, task = raw(source)
        assert KNOWN[source][:3] == (task, x.shape[1], 0 if task == "regression" else int(y.max()) + 1)
        assert program in draws.parts("programs")[pool_of(program)].PROGRAMS


def test_the_test_part_is_clean_and_no_row_is_in_two_parts() -> None:
    recipe = dict(BY_NAME["wine-relu"]["data"])
    bare = prepare(recipe, 3)
    rows = [tuple(row) for part in (bare.train, bare.held, bare.test) for row in part.x.round(5).tolist()]
    assert len(set(rows)) == len(rows)
    spoiled = prepare({**recipe, "spoil": [{"kind": "shuffle_labels"}, {"kind": "bad_cells"}]}, 3)
    np.testing.assert_array_equal(spoiled.test.x, bare.test.x)
    np.testing.assert_array_equal(spoiled.test.y, bare.test.y)
    assert np.isnan(spoiled.train.x).any()
    assert (spoiled.train.y != bare.train.y).mean() > 0.4
    leaking = prepare({**recipe, "spoil": [{"kind": "leak_feature"}]}, 3)
    assert leaking.test.x.shape[1] == leaking.train.x.shape[1] == 14
    assert abs(np.corrcoef(leaking.test.x[:, -1], leaking.test.y)[0, 1]) < 0.5 < abs(
        np.corrcoef(leaking.train.x[:, -1], leaking.train.y)[0, 1])


def test_no_row_of_a_source_stands_there_twice() -> None:
    for source in ("iris", "concrete", "tokens"):
        if present(source):
            x, y, _ = raw(source)
            assert len(np.unique(x, axis=0)) == len(x) == len(y), source
    assert len(raw("iris")[0]) == 149  # as published it has 150, two of them the same


def test_a_pixel_that_never_changes_is_no_number_of_millions() -> None:
    data = prepare({**BY_NAME["digits-relu"]["data"], "scale": "minmax"}, 4)
    assert (data.train.x.std(0) == 0).any()
    assert np.abs(data.test.x).max() < 50


# -- judging and scoring -----------------------------------------------------------------------------------------------


def scored(accuracy: float, skill: float = 0.8, promise: float = 0.01, refused: bool = False) -> dict[str, Any]:
    return {"scores": {"accuracy": accuracy, "skill": skill}, "promise": promise, "refused": refused, "weights": ""}


def test_a_fault_counts_only_when_it_hurts() -> None:
    healthy = [scored(0.95), scored(0.96), scored(0.94)]
    assert judge([scored(0.5), scored(0.55), scored(0.5)], healthy)[0] == "hurts"
    assert judge([scored(0.95), scored(0.95), scored(0.95)], healthy)[0] == "harmless"
    assert judge([scored(0.7), scored(0.97), scored(0.97)], healthy)[0] == "unclear"
    assert judge([scored(0.2), scored(0.9), scored(0.9)], healthy)[0] == "hurts"  # much or little, but every time
    assert judge([scored(0.95, promise=0.2), scored(0.96, promise=0.25), scored(0.94, promise=0.2)], healthy)[0] == (
        "hurts")
    assert judge([scored(0.0, refused=True)] * 3, healthy)[0] == "hurts"
    assert not significant([0.3, -0.2, 0.1])
    assert truth("fault", "harmless") == "healthy"
    assert truth("lookalike", "hurts") == truth("fault", "unclear") == "out"


def test_a_third_seed_is_asked_only_where_two_are_not_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    values = {"twin": 0.95, "bad": 0.4, "little": 0.9}

    def of(self: Scores, recipe: Any, seed: int) -> dict[str, Any]:
        asked.append((recipe["name"], seed))
        return scored(values.get(recipe["name"], 0.0), refused=recipe["name"] == "refused")

    monkeypatch.setattr(Scores, "of", of)
    for name, runs in (("bad", 4), ("little", 6), ("refused", 1)):
        asked.clear()
        own, other = Scores(None).pair({"name": name}, {"name": "twin"}, (1, 2, 3))
        assert len(asked) == runs
        assert judge(own, other)[0] == "hurts"
    assert not plain([scored(0.4), scored(0.9)], [scored(0.95), scored(0.95)])


def made(truth: str, codes: list[str], *found: tuple[str, str, float], at: int = 0, kind: str = "fault") -> Any:
    return {
        "truth": truth, "codes": codes, "kind": kind, "steps": 100, "seconds": 1.0, "named": None, "same": True,
        "baselines": {}, "name": "n", "operator": "o", "refused": "",
        "findings": [{"code": c, "severity": s, "confidence": p, "at": at} for c, s, p in found],
    }


def test_figures_of_outcomes_counted_by_hand() -> None:
    outcomes = [
        made("faulty", ["a"], ("a", "error", 1.0), at=10),
        made("faulty", ["a"], ("b", "warning", 0.8), ("a", "warning", 0.6), at=30),
        made("faulty", ["b", "c"], ("c", "warning", 0.5), at=50),
        made("faulty", ["b"], ("b", "note", 0.9)),
        made("healthy", [], ("a", "warning", 0.7), kind="lookalike"),
        made("healthy", [], kind="clean"),
        made("out", ["a"], ("a", "error", 1.0)),
    ]
    found = figures(outcomes)
    assert (found["faulty"], found["healthy"], found["left_out"]) == (4, 2, 1)
    assert (found["detected"]["hits"], found["first"]["hits"], found["first_three"]["hits"]) == (3, 3, 4)
    assert (found["first, no note"]["hits"], found["first_three, no note"]["hits"]) == (2, 3)
    assert found["false_alarms"]["all"]["hits"] == 1
    assert found["false_alarms"]["clean"]["hits"] == 0
    # first findings: a right at 1.0, b wrong at 0.8, c right at 0.5, the alarm a at 0.7
    assert found["brier"] == pytest.approx((0.0 + 0.64 + 0.25 + 0.49) / 4)
    assert found["time_to_finding"] == pytest.approx(0.2)  # 0.1, 0.3, 0.5, and 0 where the note was said
    codes = per_code([o for o in outcomes if o["truth"] == "faulty"], [o for o in outcomes if o["truth"] == "healthy"])
    assert (codes["a"]["precision"], codes["a"]["recall"]) == (0.5, 0.5)
    assert (codes["b"]["precision"], codes["b"]["recall"]) == (0.5, 0.5)
    text = table(found, "some")
    assert "75.0% (3 of 4; 19.4% to 99.4%)" in text
    assert "a (warning 0.70)" in table_of_misses(outcomes)
    assert "| o | faulty | a | 1 | 4 | b 1 |\n| o | healthy | none | 1 | 2 | a 1 |" in table_of_groups(outcomes)


def test_scores_are_those_of_the_task() -> None:
    data = prepare(BY_NAME["circles-relu"]["data"], 1)
    part = Part(np.zeros((4, 2)), np.array([[0.0], [0.0], [1.0], [1.0]]))
    right = score([[0.1], [0.1], [0.9], [0.9]], part, data)
    assert right["accuracy"] == 1.0
    assert right["skill"] == pytest.approx(1 - -math.log(0.9) / math.log(2))
    assert score([[-9.0], [-9.0], [9.0], [9.0]], part, data)["skill"] > 0.99  # logits
    assert score([[0.9]] * 4, part, data)["accuracy"] == 0.5
    assert score([[math.nan]] * 4, part, data) == {"accuracy": 0.5, "skill": -1.0}


# -- a few real cases --------------------------------------------------------------------------------------------------


def planted(program: str, name: str) -> Case:
    return next(c for c in pool(DEV) if c.program == program and c.operator == name)


@pytest.mark.parametrize(
    ("program", "name"), [("circles-relu", "missing_cells"), ("wine-relu", "zeros"), ("circles-relu", "adam_cold")],
)
def test_planted_faults_are_found_first(program: str, name: str) -> None:
    found = outcome(planted(program, name), Scores(None))
    assert found["truth"] == "faulty"
    assert found["findings"][0]["code"] in found["codes"]
    assert set(found["baselines"]) <= set(BASELINES)


def test_a_healthy_run_is_silent_and_watching_changes_no_bit() -> None:
    recipe = BY_NAME["wine-relu"]
    watched, alone = run(recipe, 1100), run(recipe, 1100, watch=False)
    assert watched.weights == alone.weights != ""
    assert [f.code for f in watched.findings if f.severity != "note"] == []
    assert watched.scores["accuracy"] > 0.9
    assert watched.done == watched.steps


def test_a_nan_is_named_with_its_step() -> None:
    recipe = apply(BY_NAME["waves-relu"], {"optimizer": optimizer("SGD", 50.0), "epochs": 4})
    found = run(recipe, 1000)
    assert found.bad_step is not None
    named = [f for f in found.findings if f.code in ("nan_loss", "nan_in_layer")]
    assert named and all(f.step == found.bad_step for f in named)


def test_code_cases_and_what_looks_like_them() -> None:
    for operator, code in (("never_cleared", "missing_zero_grad"), ("batch_mean", "batch_leak"), ("plain", None)):
        case = next(c for c in code_pool(DEV) if c.operator == operator and c.source == "circles")
        assert case.codes == ((code,) if code else ())
        found = code_outcome(case)
        loud = [f["code"] for f in found["findings"] if f["severity"] != "note"]
        assert loud[:1] == ([code] if code else []), operator
    assert isinstance(case, CodeCase)


def test_figures_of_repairs_counted_by_hand() -> None:
    def one(truth: str, before: float | None, after: float | None, kept: list[str], kind: str = "fault") -> Any:
        return {"name": "n", "operator": "o", "codes": ["a"], "kind": kind, "truth": truth, "twin": 0.9, "failed": "",
                "before": before, "after": after, "kept": kept, "trainings": 1 + len(kept), "seconds": 1.0}

    outcomes = [
        one("faulty", 0.4, 0.89, ["a"]), one("faulty", 0.4, 0.87, ["a", "b"]), one("faulty", None, 0.95, ["b"]),
        one("faulty", None, None, []), one("out", None, None, []),
        one("healthy", 0.9, 0.9, [], "clean"), one("healthy", 0.9, 0.95, ["b"], "lookalike"),
        one("healthy", 0.9, 0.87, ["b"], "lookalike"), one("healthy", 0.9, 0.89, ["b"]),
    ]
    found = repair_figures(outcomes)
    assert (found["restored"]["hits"], found["restored"]["of"]) == (2, 4)
    assert found["restored where it could be trained"]["hits"] == 1
    assert found["restored, a remedy of the right name first"]["hits"] == 1
    assert [found[key]["clean and look-alikes"]["hits"] for key in ("left alone", "harmed")] == [1, 1]
    assert found["harmed"]["faults without harm"]["hits"] == 0
    text = table_of_repairs(found, outcomes, "some")
    assert text.count("| n | faulty |") == 2 and text.count("| n | healthy |") == 1
    assert found["rivals"] == {} and found["passes"] == {}
    raced = [{**o, "passes": 40.0, "rivals": {"chance": {"after": after, "passes": 30.0}}}
             for o, after in zip(outcomes[:4], (0.885, None, 0.2, 0.879), strict=True)]
    found = repair_figures(raced)
    assert (found["rivals"]["chance"]["hits"], found["rivals"]["chance"]["of"]) == (1, 4)
    assert found["passes"] == {"repair": 40.0, "chance": 30.0}
    assert "| restored by chance, as many trainings | 25.0% (1 of 4;" in table_of_repairs(found, raced, "some")


def test_rivals_choose_the_best_of_as_many_trainings() -> None:
    recipe = apply(BY_NAME["circles-relu"], {"optimizer": optimizer("SGD", 1e-6), "epochs": 4})
    data = prepare(recipe["data"], 1000)
    setup = plan(recipe, data, 1000)[1]
    held = data.held.x, data.held.y
    found = rivals(setup, 3, data.train.x, data.train.y, held)
    assert set(found) == {"random search", "Adam 1e-3, He, standardized inputs"}
    for said, passes in found.values():
        assert said is not None and said(data.test.x).shape == (len(data.test.x), 1)
        assert passes >= 3 * setup.epochs
    alone, passes = rivals(setup, 1, data.train.x, data.train.y, held)["random search"]
    assert passes == setup.epochs and alone is not None  # the first training is that of the program as it stands
    good, bad = usual()(setup.with_(epochs=30)), setup
    scores = [one.fit(data.train.x, data.train.y, held).score for one in (good, bad)]
    assert scores[0] is not None and scores[1] is not None and scores[0].better(scores[1])
    best, _ = best_of(bad, [good], data.train.x, data.train.y, held)
    only, _ = best_of(good, [], data.train.x, data.train.y, held)
    assert best is not None and only is not None
    np.testing.assert_array_equal(best(data.test.x), only(data.test.x))


def test_a_case_is_repaired_and_scored_beside_its_twin(tmp_path: Path) -> None:
    name = "wine-tanh/scaled_twice/0"
    assert main(["--repair", "--folder", str(tmp_path), "--only", name]) == 0
    found = read(tmp_path / "babysitter-development-repair.jsonl")[name]
    assert found["truth"] == "faulty" and found["before"] < 0.6
    assert restored(found) and found["kept"][0] in found["codes"]
    assert not able(next(c for c in pool(DEV) if c.operator == "labels_shuffled"))


def test_a_pool_goes_on_where_it_was_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--folder", str(tmp_path), "--only", "wine-relu/onehot_for_indices"]
    assert main(arguments) == 0
    file = tmp_path / "babysitter-development.jsonl"
    assert list(read(file)) == ["wine-relu/onehot_for_indices/0"]
    with file.open("a") as out:
        out.write('{"name": "cut o')  # a run that was ended in the middle of a line
    before = file.read_text()
    assert main(arguments) == 0
    assert file.read_text() == before
    assert "100.0% (1 of 1" in capsys.readouterr().out
    assert json.loads((tmp_path / "babysitter-development.json").read_text())["faulty"] == 1
