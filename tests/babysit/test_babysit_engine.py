"""The engine: one finding per code, causes before symptoms, rules that fail, the verdict, the agenda."""

from __future__ import annotations

from typing import Any

import pytest
from records import kernel, record, step

from deepbabysit.babysit.agenda import FAR, LOOKS, NEAR, Agenda
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


def test_the_first_steps_are_measured_densely_and_later_ones_as_the_time_allows() -> None:
    agenda = Agenda(planned=100_000)
    measured = []
    target = agenda.next(0)
    for number in range(100_000):
        if number == target and agenda.due(number):
            measured.append(number)
            agenda.took(number, 0.011)
        else:
            agenda.passed(1, 0.001)
        if number == target:
            target = agenda.next(number + 1)
    assert measured[:6] == [0, 1, 2, 4, 8, 16]
    assert agenda.spent <= 0.02 * agenda.elapsed
    assert agenda.spent >= 0.006 * agenda.elapsed
    gaps = [b - a for a, b in zip(measured, measured[1:], strict=False)]
    assert max(gaps) < 10_000


def test_a_run_that_is_watched_every_so_many_steps() -> None:
    agenda = Agenda(None, every=5)
    assert [n for n in range(20) if agenda.due(n)] == [0, 1, 2, 5, 10, 15]
    assert [agenda.next(n) for n in (0, 3, 5, 6)] == [0, 5, 5, 10]


def test_looks_follow_the_length_of_a_step_and_the_ring_holds_what_lies_between() -> None:
    for seconds, stride in ((1e-6, FAR), (1e-3, round(LOOKS / 1e-3)), (10.0, NEAR)):
        agenda = Agenda(None)
        agenda.passed(10, 10 * seconds)
        assert agenda.next(100) == 100 + stride - 1
        assert agenda.far(stride) is (stride * seconds >= LOOKS)
    assert FAR < RING
