"""The engine: one finding per code, causes before symptoms, rules that fail, the verdict, the agenda."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from records import kernel, record, step

from deepbabysit.babysit.agenda import FAR, GOAL, LOOKS, NEAR, Agenda
from deepbabysit.babysit.broken import RING
from deepbabysit.babysit.engine import Engine, merge, rank
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.rules import load
from deepbabysit.babysit.rules.rule import RULES, Rule
from deepbabysit.babysit.verdict import verdict
from deepbabysit.babysit.vitals import Record


def finding(code: str, severity: Any = "warning", confidence: float = 0.8, **more: Any) -> Finding:
    return Finding(code, severity, confidence, f"{code} was seen: 3 (limit 2).", **more)


def test_errors_stand_before_warnings_and_those_before_notes() -> None:
    ranked = rank([finding("a", "note", 1.0), finding("b", "warning", 0.9), finding("c", "error", 0.5)], [])
    assert [f.code for f in ranked] == ["c", "b", "a"]


def test_equals_are_ranked_by_confidence() -> None:
    assert [f.code for f in rank([finding("a", confidence=0.6), finding("b", confidence=0.7)], [])] == ["b", "a"]


def rule_of(code: str, *causes: str) -> Rule:
    return Rule((code,), "step", lambda record, limits: None, {}, "", causes)


def test_a_cause_stands_before_its_symptom_even_where_it_is_milder() -> None:
    rules = [rule_of("nan_loss", "rate"), rule_of("rate", "scale")]
    ranked = rank([finding("nan_loss", "error", 1.0), finding("rate", confidence=0.6), finding("scale")], rules)
    assert [f.code for f in ranked] == ["scale", "rate", "nan_loss"]


def test_a_note_explains_nothing_that_is_worse() -> None:
    ranked = rank([finding("nan_loss", "error", 1.0), finding("rate", "note")], [rule_of("nan_loss", "rate")])
    assert [f.code for f in ranked] == ["nan_loss", "rate"]


def test_causes_in_a_circle_come_to_an_end() -> None:
    rules = [rule_of("a", "b"), rule_of("b", "a")]
    assert {f.code for f in rank([finding("a"), finding("b")], rules)} == {"a", "b"}


def test_every_cause_named_by_a_rule_is_no_symptom_of_itself() -> None:
    load()
    for rule in RULES:
        assert not set(rule.codes) & set(rule.causes), rule.codes


def test_many_layers_are_one_finding() -> None:
    merged = merge([finding("dead", layer=str(i), confidence=0.5 + i / 100) for i in range(9)])
    assert len(merged) == 1
    assert merged[0].layer == "8"
    assert merged[0].evidence["layers"] == [str(i) for i in range(9)]
    assert "in 9 places" in merged[0].message
    assert merged[0].message.endswith("...")


def test_a_finding_is_heard_once_and_again_when_it_is_graver() -> None:
    heard: list[Finding] = []
    engine = Engine(Record(), heard.append)
    engine.take([finding("a")])
    engine.take([finding("a", confidence=0.9)])
    assert len(heard) == 1
    assert engine.ranked()[0].confidence == 0.9
    engine.take([finding("a", "error")])
    assert [f.severity for f in heard] == ["warning", "error"]
    engine.take([finding("a", "warning")])
    assert engine.ranked()[0].severity == "error"


def test_a_rule_that_fails_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(record: Record, limits: Any) -> None:
        raise KeyError("oh")

    load()
    monkeypatch.setattr("deepbabysit.babysit.engine.RULES", [Rule(("odd",), "step", broken, {}, "")])
    engine = Engine(Record())
    assert engine.ask("step") == []
    assert isinstance(engine.failed["odd"], KeyError)


def test_no_rule_finds_anything_in_an_empty_record_or_fails_on_it() -> None:
    engine = Engine(Record())
    for phase in ("step", "epoch", "end"):
        assert engine.ask(phase) == []  # type: ignore[arg-type]
    assert engine.failed == {}


def test_the_verdict_fits_a_screen() -> None:
    made = record({"loss": [2.3, 2.0, 1.9], "val_loss": [2.3, 2.1, 2.2]}, [step(0, [kernel("0.kernel")])])
    findings = [
        finding(code, remedies=(Remedy("do this", "model.compile('adam')"), Remedy("or that"))) for code in "abcdef"
    ]
    text = verdict(made, findings, 40)
    lines = text.splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("verdict: loss 2.3 -> 1.9 (best 1.9); val_loss 2.3 -> 2.2 (best 2.1)")
    assert "1. a (warning, confidence 80%)" in text
    assert "also seen: d, e, f" in text
    assert "    model.compile('adam')" in lines
    assert lines[-1].startswith("34 of 40 checks passed")


def looks(cost: Callable[[int], float], usual: Callable[[int], float], steps: int = 20_000) -> tuple[list[int], Agenda]:
    """Return which steps are measured where a step and what a look takes beside it are so long."""
    agenda, measured, began = Agenda(), [], 0
    target = agenda.next(0)
    while target < steps:
        if target > began:
            agenda.passed(target - began, sum(map(usual, range(began, target))))
        began = target
        if agenda.due(target):
            measured.append(target)
            agenda.took(target, usual(target) + cost(target))
            agenda.passed(1, usual(target + 1))  # its gradient is compared with that of the next step
            began += 1
        target = agenda.next(target + 1)
    return measured, agenda


def test_the_first_steps_and_powers_of_four_are_measured_and_others_as_their_cost_allows() -> None:
    powers = [0, 1, 2, *(4**n for n in range(1, 8))]
    for cost, stride in ((1e-5, 16), (8e-4, 256), (8e-3, 4096), (10.0, FAR)):
        measured, agenda = looks(lambda n: cost, lambda n: 1e-3)  # noqa: B023
        assert set(powers) <= set(measured) and agenda.measured == len(measured)
        between = sorted(set(measured) - set(powers))
        assert all(n > 64 and n % stride == 0 for n in between)
        assert len(between) + len(powers) >= 20_000 // stride
        if 1e-4 < cost < 5e-3:
            assert 0.5 * GOAL < cost * len(between) / 20.0 < 2.0 * GOAL


def test_which_steps_are_measured_does_not_depend_on_how_busy_the_machine_is() -> None:
    quiet, _ = looks(lambda n: 8e-4, lambda n: 1e-3)
    rng = np.random.default_rng(0)
    late = 1.0 + 20.0 * (rng.random(20_000) < 0.3)  # nearly a third of the steps and looks wait for others
    busy, _ = looks(lambda n: 8e-4 * late[n] + 0.1 * (n % 7 == 0), lambda n: 1e-3 * late[n])
    assert busy == quiet
    slow, _ = looks(lambda n: 1e-2, lambda n: 1.1e-2)  # ten times slower
    assert slow == quiet
    fewer, _ = looks(lambda n: 8e-3, lambda n: 1e-3)  # looks are what is slow there: fewer of the same steps
    assert set(fewer) < set(quiet)


def test_a_run_that_is_watched_every_so_many_steps() -> None:
    agenda = Agenda(every=5)
    assert [n for n in range(20) if agenda.due(n)] == [0, 1, 2, 4, 5, 10, 15, 16]
    assert [agenda.next(n) for n in (0, 3, 5, 6, 11, 16, 17)] == [0, 4, 5, 10, 15, 16, 20]
    assert all(agenda.asks(epoch) for epoch in range(1, 20))
    assert not any(agenda.ends(epoch, 100 * epoch - 100, 100 * epoch - 1) for epoch in range(1, 20))


def test_short_epochs_are_asked_about_now_and_then() -> None:
    agenda = Agenda()
    agenda.passed(100, 100 * 1e-4)
    assert [n for n in range(1, 100) if agenda.asks(n)] == [1, 2, 4, 16, 64]
    agenda.asked(16, 128, 4e-4)  # epochs of 0.8 ms, and questions of 0.4 ms
    assert [n for n in range(65, 1024) if agenda.asks(n)] == [256, 512, 768]
    agenda = Agenda()
    agenda.passed(100, 100 * 1e-2)
    agenda.asked(1, 800, 1e-3)
    assert all(agenda.asks(n) for n in range(1, 100))
    assert agenda.ends(1, 0, 799) and not agenda.ends(3, 1600, 2399)  # looks at the ends of others wait for the stride
    agenda.took(64, 0.012)
    assert agenda.ends(3, 1600, 2399) and not agenda.ends(3, 66, 79)


def test_looks_at_the_losses_follow_the_length_of_a_step_and_the_ring_holds_what_lies_between() -> None:
    for seconds, stride in ((1e-6, FAR), (1e-3, round(LOOKS / 1e-3)), (10.0, NEAR)):
        agenda = Agenda()
        agenda.passed(10, 10 * seconds)
        assert agenda.next(5000) == min(5000 + stride - 1, 16384)
    assert FAR < RING


def test_what_has_no_cause_but_itself_stands_before_warnings_that_usually_explain_it() -> None:
    heat = Finding("learning_rate_too_high", "warning", 0.9, "x")
    for alone, expected in (
        (True, ["nan_in_layer", "learning_rate_too_high"]), (False, ["learning_rate_too_high", "nan_in_layer"])
    ):
        bad = Finding("nan_in_layer", "error", 1.0, "x", {"unexplained": alone})
        assert [f.code for f in rank([heat, bad])] == expected
        sure = Finding("missing_output_activation", "error", 0.97, "x")  # as the logarithm of what is no probability
        assert [f.code for f in rank([bad, sure])] == ["missing_output_activation", "nan_in_layer"]
