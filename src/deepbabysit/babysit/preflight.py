"""The check before training: data, splits, graph, loss, first weights; a few experiments on a copy of the model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepbabysit import losses
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit import probes
from deepbabysit.babysit.budget import BUDGET, TRACED, TRIED, budget_for, looking, planned_seconds, products_of
from deepbabysit.babysit.columns import COMMON
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.facts import SPENT, DataFacts, class_pulls, data_facts
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.findings import Findings
from deepbabysit.babysit.graph import trace
from deepbabysit.babysit.rules import load
from deepbabysit.babysit.rules.rule import RULES
from deepbabysit.babysit.task import (
    CLASS_LOGITS,
    CLASS_PROBABILITIES,
    LOG_PROBABILITIES,
    NUMBERS,
    certainty,
    refusal,
    setup_facts,
    with_task,
)
from deepbabysit.babysit.vitals import ModelFacts, Record, RunFacts
from deepbabysit.babysit.yardstick import measure, seconds
from deepbabysit.data.loader import Loader
from deepbabysit.errors import spelled
from deepbabysit.layers.layer import Layer
from deepbabysit.training.arrays import arrange, weights_of

OF_CODE = ("wrong_gradient", "batch_leak", "output_ignores_input", "mode_bug")  # what a model shows without targets
READ = 4096  # rows that are read of a source that is no array

# what a code's rule looks at; where it is missing the code was not looked for
NEEDS: Mapping[str, str] = {
    "loss_shape_mismatch": "loss", "target_out_of_range": "loss", "wrong_loss_for_output": "loss",
    "double_softmax": "codes", "one_unit_softmax": "codes", "missing_output_activation": "output",
    "initial_loss_off_chance": "first loss", "loss_reduction_sum": "first loss",
    "dead_relu": "signals",
    "symmetric_init": "signals", "bad_init_scale": "signals", "unstable_activation_scale": "signals",
    "bad_bias_init": "signals", "missing_hidden_activation": "signals", "dropout_too_high": "signals",
    "batchnorm_misuse": "signals", "mode_bug": "modes", "output_ignores_input": "ignores", "batch_leak": "leak",
    "wrong_gradient": "derivative", "underfitting": "fit", "split_leak": "overlap", "split_drift": "drift",
    "feature_leak": "alone", "corrupted_labels": "association", "unshuffled_rows": "order", "duplicate_rows": "copies",
    "conflicting_labels": "copies", "class_imbalance": "labels", "class_collapse": "labels",
    "regularization_too_strong": "labels",
    "target_not_normalized": "labels", "learning_rate_too_high": "range", "learning_rate_too_low": "range",
    "nan_in_data": "data", "input_not_normalized": "data", "input_normalized_twice": "data", "constant_feature": "data",
}


@dataclass(slots=True)
class Given:
    """Data as arrays: inputs, targets, the same of the validation part; weights of the rows."""

    x: tuple[np.ndarray, ...]
    y: np.ndarray | None
    validation: tuple[tuple[np.ndarray, ...], np.ndarray | None] | None
    weights: np.ndarray | None = None


@spelled
def check(
    model: Any,
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    *,
    loss: Any = None,
    batch_size: int = 32,
    epochs: int | None = None,
    class_weight: Any = None,
    sample_weight: Any = None,
    budget: float = BUDGET,
    range_test: bool = False,
) -> Findings:
    """Look for what is wrong before training: data, splits, graph, loss, first weights, and a few experiments.

    Nothing is changed: the experiments (forward, backward, the batch twice, inputs zeroed, other rows changed, a few
    rows learned by heart) run on a copy with random streams of their own. Wrong things are findings, not errors.

    Arguments:
        model: a model, compiled or not (then without a loss nothing is said about outputs).
        x: inputs (N, ...), as for `fit`, or a `db.data.Loader`.
        y: targets (N, ...).
        validation_data: ``(x, y)`` or a Loader.
        loss: the loss of a model that is not compiled.
        batch_size, epochs: as they are planned; None for unknown epochs.
        class_weight, sample_weight: as for `fit`; imbalance is no fault where they are given.
        budget: seconds that may be spent. What there was no time for is named as not asked.
        range_test: also try rates from 1e-6 to 10 on a copy; the result is ``findings.record.probes["range"]``.

    Returns:
        A list of findings, likeliest cause first; it prints as text and says how many checks passed.

    Raises:
        TypeError: the model is no layer, data are no arrays, an unknown keyword.
        ValueError: there are no rows; x and y have different lengths; the budget is not above 0.

    >>> import numpy as np, deepbabysit as db
    >>> model = db.Sequential([db.layers.Dense(8, "relu", input_shape=4), db.layers.Dense(3, "softmax")])
    >>> _ = model.compile("adam", "cross_entropy")
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(90, 4)); y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    >>> db.babysit.check(model, x, y).codes[0]
    'double_softmax'
    """
    if not isinstance(model, Layer):
        raise TypeError(f"check looks at a model or a layer; got {type(model).__name__}")
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not budget > 0:
        raise ValueError(f"budget is a number of seconds above 0; got {budget!r}")
    given = gather(model, x, y, validation_data)
    trainer = getattr(model, "_trainer", None)
    found_loss = losses.get(loss) if loss is not None else getattr(trainer, "loss", None)
    optimizer = getattr(trainer, "optimizer", None)
    metrics = {m.name: "" for m in getattr(trainer, "metrics", ())}
    rows = len(given.x[0])
    with suppress(IndexError, TypeError, ValueError):  # `fit` says what is wrong with weights
        ys = () if given.y is None else (given.y,)
        given.weights = weights_of(sample_weight, class_weight, ys, rows, np.dtype(np.float64))
    run = setup_facts(
        model, found_loss, optimizer, samples=rows,
        validation_samples=None if given.validation is None else len(given.validation[0][0]),
        batch_size=min(batch_size, rows), epochs=epochs,
        weighted=class_weight is not None or sample_weight is not None, metrics=metrics,
    )
    return _examine(model, given, run, found_loss, optimizer if range_test else None, float(budget))


def preflight(
    model: Layer, x: Any, y: Any, validation: Any, run_facts: RunFacts, budget_seconds: float = BUDGET,
    loss: Any = None, facts: ModelFacts | None = None, trained: bool = False,
) -> tuple[Record, Findings]:
    """Check before a run that has been set up; the same as `check`, for the loop's first seconds.

    Arguments:
        model: compiled.
        x, y, validation: as they were given to `fit`.
        run_facts: what is known of the run; task, classes and chance are filled in from the targets.
        budget_seconds: how long it may take.
        loss: what is minimized; None takes that of the model.
        facts: what is known of the model; with them, one that would take too long to look at is left alone.
        trained: the weights are no longer the first ones, so only data are looked at.

    Returns:
        The record (facts and probes) and the findings.
    """
    begun = time.perf_counter()
    found_loss = loss if loss is not None else getattr(getattr(model, "_trainer", None), "loss", None)
    given = gather(model, x, y, validation, until=begun + 0.2 * budget_seconds)
    found = _examine(model, given, run_facts, found_loss, None, budget_seconds, begun, True, facts, trained)
    return found.record, found


def look_into(model: Layer, x: Sequence[np.ndarray], run: RunFacts, budget: float) -> tuple[Record, list[Finding]]:
    """Try a model on one batch without targets: own derivatives, leaks across rows, modes, outputs for no input."""
    record = Record(run=run)
    now = _Examination(Given(tuple(x), None, None), None, record, time.perf_counter(), budget, {})
    with np.errstate(all="ignore"):
        subject = _look_at_model(model, now)
        now.pass_seconds = time.perf_counter() - now.begun
        if subject is not None:
            _experiment(subject, now)
    engine = Engine(record)
    engine.ask("check")
    return record, [f for f in explained(engine.ranked()) if f.code in OF_CODE and f.severity != "note"]


# -- data --------------------------------------------------------------------------------------------------------------


def gather(model: Any, x: Any, y: Any, validation: Any, until: float = math.inf) -> Given:
    """Return what a user gave as arrays; of sources that are no arrays what can be read `until` then.

    Raises:
        TypeError: something is no array of numbers.
        ValueError: there are no rows, or other numbers of rows.
    """
    xs, ys = _part(model, x, y, "", until)
    held = None
    if validation is not None:
        if isinstance(validation, Loader):
            held = _part(model, validation, None, "validation ", until)
        elif isinstance(validation, list | tuple) and len(validation) in (2, 3):
            held = _part(model, validation[0], validation[1], "validation ", until)
        else:
            raise TypeError(
                f"validation_data is (x, y), (x, y, sample_weight) or a Loader; got {type(validation).__name__}"
            )
    return Given(xs, ys, held, x.sample_weight if isinstance(x, Loader) else None)


def _part(model: Any, x: Any, y: Any, of: str, until: float) -> tuple[tuple[np.ndarray, ...], np.ndarray | None]:
    if isinstance(x, Loader):
        x, y = _read(x, until)
    xs = _arrays(f"{of}x", arrange(x, model))
    ys = None
    if y is not None:
        several = _arrays(f"{of}y", y)
        ys = several[0] if len(several) == 1 else None
        if len(several[0]) != len(xs[0]):
            raise ValueError(
                f"{of}x has {len(xs[0])} rows and {of}y has {len(several[0])}; every sample needs one target"
            )
    return xs, ys


def _read(loader: Loader, until: float) -> tuple[Any, Any]:
    """Return the arrays of a loader, or its first rows where they are not all here."""
    if isinstance(loader.x, np.ndarray) and (loader.y is None or isinstance(loader.y, np.ndarray)):
        return loader.x, loader.y
    xs: list[Any] = []
    ys: list[Any] = []
    rows = 0
    batches = loader.epoch(0)
    for batch in batches:
        xs.append(batch.x)
        ys.append(batch.y)
        rows += len(batch.rows)
        if rows >= READ or time.perf_counter() > until:
            break
    close = getattr(batches, "close", None)
    if close is not None:
        close()
    return _join(xs), _join(ys)


def _join(parts: Sequence[Any]) -> Any:
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {key: np.concatenate([p[key] for p in parts]) for key in first}
    if isinstance(first, list | tuple):
        return tuple(np.concatenate([p[i] for p in parts]) for i in range(len(first)))
    return np.concatenate(parts)


def _arrays(name: str, value: Any) -> tuple[np.ndarray, ...]:
    if value is None:
        raise TypeError(f"{name} is missing: pass an array with one row per sample")
    items = list(value.values()) if isinstance(value, Mapping) else (
        list(value) if isinstance(value, tuple) and value and all(np.ndim(v) for v in value) else [value])
    found = []
    for item in items:
        if isinstance(item, Tensor):
            item = item.numpy()
        elif hasattr(item, "to_numpy"):
            item = item.to_numpy()
        try:
            array = np.asarray(item)
        except ValueError as error:
            raise TypeError(f"{name} cannot be made an array: its rows have different lengths ({error})") from error
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} must hold numbers; got {array.dtype}. Encode text first: db.data.read_table")
        if array.ndim == 0 or not len(array):
            raise ValueError(f"{name} must hold at least one row; got shape {array.shape}")
        if array.dtype.kind == "b":
            array = array.astype(np.int64 if name.endswith("y") else np.float32)
        found.append(array)
    if len({len(a) for a in found}) > 1:
        raise ValueError(f"the arrays of {name} have different numbers of rows: {[len(a) for a in found]}")
    return tuple(found)


# -- the check itself --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Examination:
    """One check as it goes on: what was found out, what could not be, until when it may go on."""

    given: Given
    loss: Any
    record: Record
    begun: float
    budget: float
    missing: dict[str, str]
    failure: str = ""
    hurried: bool = False  # something was left out because a run is short
    pass_seconds: float = 0.0  # what looking at the model took: a measure for experiments on it

    def left(self, seconds: float = 0.0) -> bool:
        """Tell whether so many seconds of the budget are left."""
        return time.perf_counter() + seconds < self.begun + self.budget

    def attempt(self, name: str, passes: float, run: Any) -> Any:
        """Run an experiment that takes as long as `passes` looks at the model; what it raises is noted."""
        if not self.left(passes * self.pass_seconds):
            self.missing[name] = SPENT
            return None
        try:
            found = run()
        except Exception as error:  # an experiment must never end a run
            self.missing[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            return None
        if found is None:
            self.missing.setdefault(name, "there was nothing to try it on")
        return found


def _examine(
    model: Layer, given: Given, run: RunFacts, loss: Any, optimizer: Any, budget: float, begun: float | None = None,
    planned: bool = False, facts: ModelFacts | None = None, trained: bool = False,
) -> Findings:
    """Look at model and data; in a `planned` run layers that share weights may show that there is more time."""
    begun = time.perf_counter() if begun is None else begun
    record = Record(run=run)
    now = _Examination(given, loss, record, begun, budget, {})
    with np.errstate(all="ignore"):
        subject = None
        if trained:
            now.failure = "it was trained since"
        elif facts is not None and looking(facts, run) > max(budget, TRACED):
            now.failure, now.hurried = f"the run is too short for it: {now.budget:.2g} s may be spent", True
        else:
            subject = _look_at_model(model, now)
            now.pass_seconds = time.perf_counter() - begun
        if planned and subject is not None:
            seconds = planned_seconds(run, record.model, products_of(record.model))
            now.budget = max(budget, budget_for(seconds or 0.0))
        ids = record.probes.pop("ids", ())
        record.data = data_facts(given.x, given.y, given.validation, ids=ids, deadline=begun + 0.6 * now.budget)
        pulls = class_pulls(record.data.labels, given.y, given.weights, getattr(loss, "options", {}))
        record.data, run = replace(record.data, pulls=pulls), replace(run, weighted=run.weighted or bool(pulls))
        _note_data(record.data, given, now)
        record.run = with_task(run, loss, record.data.labels, record.model)
        if record.run.chance is None:
            record.run = replace(record.run, chance=now.attempt("guessing", 0.0, lambda: _guessing(now)))
        _measure_yardstick(now, ids)
        if subject is not None:
            _look_at_loss(subject, now)
            _experiment(subject, now)
            if optimizer is not None and subject.y is not None and "targets" not in record.probes:
                record.probes["range"] = now.attempt("range", 0.0, lambda: probes.range_test(
                    subject, given.x, np.asarray(given.y), optimizer, batch_size=run.batch_size or 32))
            elif optimizer is None:
                now.missing["range"] = "no range test was asked for"
    return _judge(now)


def _measure_yardstick(now: _Examination, ids: Sequence[bool]) -> None:
    """See what cheap models reach on these data, where there is time for it."""
    given, data = now.given, now.record.data
    (held, targets), y = given.validation or ((), None), given.y
    if y is None or targets is None or data.labels is None:
        now.missing["yardstick"] = "there are no validation rows with targets"
        return
    if not now.left(seconds(len(y), max(data.features, COMMON * any(ids)))):
        now.missing["yardstick"] = SPENT
        return
    price = _price(now.loss) if now.record.run.loss_kind == NUMBERS and now.loss.name not in ("mse", "rmse") else None
    again = bool(data.copies or (data.overlap is not None and data.overlap.rows))
    now.record.probes["yardstick"] = now.attempt(
        "yardstick", 0.0, lambda: measure(given.x, y, held, targets, data.labels, ids, price, again)
    )


def _price(loss: Any) -> Callable[[np.ndarray], float]:
    """Return what errors cost with a loss of numbers."""
    return lambda errors: float(loss(errors[:, None], np.zeros((len(errors), 1))).item())


def _guessing(now: _Examination) -> float | None:
    """Return what guessing the mean of the targets costs, of a loss of numbers for which no formula says it."""
    y = now.given.y
    if y is None or now.record.run.loss_kind != NUMBERS or now.record.run.task != "regression" or y.size != len(y):
        return None
    numbers = np.asarray(y, np.float64).reshape(-1)[:READ]
    numbers = numbers[np.isfinite(numbers)]
    return _price(now.loss)(numbers - numbers.mean()) or None if len(numbers) else None


def _fine_rows(given: Given) -> np.ndarray:
    """Return rows for a batch: finite ones, drawn from everywhere, the same each time."""
    rows = np.arange(len(given.x[0]))
    rng = np.random.Generator(np.random.Philox(5))
    rows = rng.permutation(rows)[: 4 * TRIED] if len(rows) > TRIED else rows
    fine = np.ones(len(rows), bool)
    for array in (*given.x, *([] if given.y is None else [given.y])):
        if array.dtype.kind == "f":
            fine &= np.isfinite(array[rows]).reshape(len(rows), -1).all(axis=1)
    return np.sort(rows[fine][:TRIED])


def _look_at_model(model: Layer, now: _Examination) -> probes.Subject | None:
    rows = _fine_rows(now.given)
    if not len(rows):
        now.failure = "no row is finite"
        return None
    trainer = getattr(model, "_trainer", None)
    dtype = getattr(trainer, "dtype", np.dtype(np.float32))
    y = None if now.given.y is None else now.given.y[rows]
    try:
        subject = probes.Subject(model, now.loss, [a[rows] for a in now.given.x], y, dtype)
    except Exception as error:
        now.failure = f"the model cannot be copied ({type(error).__name__}: {error})"
        return None
    try:
        try:
            traced = trace(subject.model, subject.tensors(gradient=True), subject.seed)
        except (TypeError, ValueError) as refused:
            if isinstance(refused, ValueError) and subject.model.device is not model.device:
                subject.model.to(model.device)  # constants in its code stand where it does
            elif isinstance(refused, ValueError) or all(a.dtype.kind == "f" for a in subject.x):
                raise
            else:
                subject.floating = True  # pixels and counts become floating numbers; ids for an Embedding stay
            traced = trace(subject.model, subject.tensors(gradient=True), subject.seed)
    except Exception as error:
        now.failure = f"{type(error).__name__}: {error}"
        return None
    probe = now.record.probes
    now.record.model, probe["signals"], probe["memories"] = traced.model, traced.signals, traced.memories
    probe["ids"] = traced.embedded
    probe["entering"] = {path: _entering(values) for path, values in traced.entering.items()}
    probe["output"] = probes.probe_output(traced.output)
    codes = [] if now.loss is None else list(now.loss.codes(traced.output))
    memory = traced.output.logits
    before = None if memory is None else memory[1].logits
    if memory is not None and before is not None and {memory[0], before[0]} <= {"softmax", "sigmoid"}:
        codes += ["double_softmax", "softmax_of_softmax"]
    probe["codes"] = tuple(dict.fromkeys(codes))
    return subject


def _entering(values: np.ndarray) -> dict[str, float]:
    """Return how large what enters the first weights is: the largest spread or mean of a feature, the largest value."""
    rows = np.asarray(values, np.float64)
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim > 2 else rows.reshape(len(rows), -1)
    scales = np.maximum(rows.std(axis=0), np.abs(rows.mean(axis=0)) / 1.5)
    return {"largest": float(scales.max(initial=0.0)), "top": float(np.abs(rows).max(initial=0.0))}


def _look_at_loss(subject: probes.Subject, now: _Examination) -> None:
    record = now.record
    if now.loss is None or now.given.y is None:
        return
    refused = refusal(now.loss, now.given.y, record.model.output_shape, record.data.labels)
    if refused is None and now.given.validation is not None and now.given.validation[1] is not None:
        refused = refusal(now.loss, now.given.validation[1], record.model.output_shape, record.data.labels)
        if refused is not None:  # the run would end where it first comes to them
            refused["message"] = f"validation data: {refused['message']}"
    if refused is not None:
        record.probes["targets"] = refused
        return
    labels = record.data.labels
    if record.run.loss_kind == NUMBERS and labels is not None and (labels.kind == "one_hot" or labels.classes == 2):
        record.probes["certain"] = now.attempt("certain", 1.0, lambda: certainty(now.loss, labels.shape))
    calm = subject.undropped()
    record.probes["loss"] = now.attempt("first loss", 2.0, lambda: probes.probe_loss(subject, calm))
    record.probes["gradients"] = now.attempt("gradients", 2.0, lambda: probes.probe_gradients(subject, calm))


def _experiment(subject: probes.Subject, now: _Examination) -> None:
    record, probe = now.record, now.record.probes
    drawn = now.attempt("drawn", 1.0, subject.drawn)
    calm = now.attempt("undropped", 1.0, subject.undropped)
    if drawn is None or calm is None:
        for name in ("ignores", "leak", "modes"):
            now.missing[name] = now.missing.get("drawn", now.missing.get("undropped", SPENT))
    else:
        probe["ignores"] = now.attempt("ignores", 1.0, lambda: probes.probe_ignoring(subject, drawn, calm))
        if sum(layer.inputs is not None for layer in record.model.layers) > 1:
            probe["straight"] = now.attempt(
                "straight", 1.0, lambda: probes.probe_straight(subject, drawn, record.model.output_activation))
        probe["leak"] = now.attempt("leak", 2.0, lambda: probes.probe_leak(subject, drawn))
        probe["modes"] = now.attempt("modes", 1.0, lambda: probes.probe_modes(subject, drawn, calm))
    if record.model.functions:
        probe["derivative"] = now.attempt(
            "derivative", 2.0, lambda: probes.probe_derivative(subject, record.model.functions))
    else:
        now.missing["derivative"] = "no operation has a backward of its own"
    if now.loss is None or subject.y is None or "targets" in probe:
        return
    labels = record.data.labels
    kind, classes = "loss", None
    if record.run.loss_kind in (CLASS_LOGITS, CLASS_PROBABILITIES, LOG_PROBABILITIES) or (
        labels is not None and labels.kind == "one_hot"
    ):
        kind = "classes"
        flat = subject.y.reshape(len(subject.y), -1)
        classes = flat.argmax(axis=1) if labels is not None and labels.kind == "one_hot" else flat[:, 0]
    elif record.run.task in ("binary", "multilabel") and record.run.loss_kind != "own":
        kind, classes = "binary", subject.y.reshape(len(subject.y), -1)[:, 0]
    elif record.run.task == "regression" and record.run.loss_kind == "numbers":
        kind = "numbers"
    until = now.begun + now.budget
    probe["fit"] = now.attempt("fit", 8.0, lambda: probes.probe_fit(
        subject, kind, float(now.loss.threshold), until, classes=classes))
    if probe["fit"] is not None and not probe["fit"].decided and probe["fit"].error > 0.05:
        now.missing["fit"] = SPENT


def _note_data(data: DataFacts, given: Given, now: _Examination) -> None:
    for name, reason in data.skipped.items():
        now.missing[name] = reason
    if given.validation is None:
        now.missing["overlap"] = now.missing["drift"] = "there is no validation data"
    elif data.overlap is None:
        now.missing.setdefault("overlap", "the parts have different shapes")
    if given.validation is not None and data.drift is None:
        now.missing.setdefault("drift", "the parts cannot be compared")
    if data.labels is None:
        now.missing["labels"] = "there are no targets"
    if now.record.run.shuffled is None:
        now.missing["order"] = "fit says whether it shuffles"
    if data.association is None:
        now.missing.setdefault("association", "there are too few rows or no single target")
    if data.association is None or data.association.alone is None:
        now.missing.setdefault("alone", now.missing.get("association", "there are too few features or no time"))
    if "copies" not in data.skipped and not data.looked:
        now.missing["copies"] = "no row is finite"


def explained(findings: list[Finding]) -> list[Finding]:
    """Make notes of warnings whose cause stands among the findings, too: one cause speaks once."""
    causes = {code: rule.causes for rule in RULES if rule.phase == "check" for code in rule.codes}
    loud = {finding.code for finding in findings if finding.severity != "note"}
    result = []
    for finding in findings:
        found = [code for code in causes.get(finding.code, ()) if code in loud]
        if finding.severity == "warning" and found:
            finding = replace(finding, severity="note", evidence={**finding.evidence, "explained_by": found})
        result.append(finding)
    return result


def _judge(now: _Examination) -> Findings:
    load()
    probe, missing = now.record.probes, now.missing
    if now.failure:
        for name in (
            "range", "loss", "codes", "output", "first loss", "signals", "modes", "ignores", "leak", "derivative",
            "fit",
        ):
            missing.setdefault(name, "the model did not run")
    elif now.loss is None:
        for name in ("loss", "first loss", "fit", "codes", "output", "range"):
            missing.setdefault(name, "the model is not compiled")
    elif now.given.y is None:
        for name in ("loss", "first loss", "fit", "range"):
            missing.setdefault(name, "there is no single array of targets")
    elif "targets" in probe:
        for name in ("first loss", "fit", "range"):
            missing.setdefault(name, "the loss refuses the targets")
    engine = Engine(now.record)
    engine.ask("check")
    codes = [code for rule in RULES if rule.phase == "check" for code in rule.codes]
    found = explained(engine.ranked())
    seen = {finding.code for finding in found}
    skipped = {
        code: missing[NEEDS[code]] for code in codes if NEEDS.get(code) in missing and code not in seen
    }
    for code, error in engine.failed.items():
        skipped[code] = f"{type(error).__name__}: {error}"
    asked = [code for code in dict.fromkeys(codes) if code not in skipped]
    return Findings(
        found, asked, skipped, time.perf_counter() - now.begun, now.record, now.failure,
        now.hurried or SPENT in missing.values(),
    )
