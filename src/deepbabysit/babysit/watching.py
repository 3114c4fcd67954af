"""Watching a hand-written loop: one line around it, one line in it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from types import FrameType, TracebackType
from typing import Any, final

import numpy as np

from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit.agenda import Agenda
from deepbabysit.babysit.budget import BUDGET, SHARE, UNHURRIED, looking
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.handwork import Handwork
from deepbabysit.babysit.measures import Slab
from deepbabysit.babysit.preflight import look_into
from deepbabysit.babysit.reading import model_facts
from deepbabysit.babysit.sampling import Change, Pair, Tap
from deepbabysit.babysit.sitter import spoken
from deepbabysit.babysit.verdict import verdict
from deepbabysit.babysit.vitals import EpochVitals, Record, RunFacts, StepVitals
from deepbabysit.io.text import printable
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.runtime.context import current, enter, leave, surroundings

_LOOKS = 12.0  # so many times a trace of the model is what trying it out takes
_TRIES = 8  # steps between two questions whether it is
_PATIENT = 64  # steps without an update that may be parts of one: then the optimizer is forgotten


class _Place:
    """What `sampling` asks of a run: device and optimizer."""

    def __init__(self, device: Any, optimizer: Any) -> None:
        self.device = device
        self.optimizer = optimizer


@final
class Watch:
    """Watches a hand-written loop; made by `watch`.

    Attributes:
        record: everything that was measured.
        findings: what was found, likeliest cause first.
    """

    def __init__(
        self, model: Any, optimizer: Any, say: Callable[[str], Any], every: int | None, batch: int | None
    ) -> None:
        self._model = model
        self._optimizer = optimizer
        self._say = say
        self._agenda = Agenda(every)
        self._batch = batch
        self.record = Record(run=RunFacts(optimizer=type(optimizer).__name__, batch_size=batch))
        self.engine = Engine(self.record, self._hear)
        self._place: Any = None
        self._activity: dict[str, np.ndarray] = {}
        self._slab: Slab | None = None
        self._tap: Tap | None = None
        self._change: Change | None = None
        self._pair: Pair | None = None
        self._token: Any = None
        self._began = 0.0
        self._updates = int(optimizer.steps)
        self._gathered = 0  # steps since the last update
        self._work: Handwork | None = None
        self._epoch_start = 0
        self._tried = False
        self._entered = math.inf
        self._every = every

    @property
    def findings(self) -> list[Finding]:
        """What was found, likeliest cause first."""
        return self.engine.ranked()

    def verdict(self) -> str:
        """Return one screen about the loop."""
        return verdict(self.record, self.findings, self.engine.asked)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        self._entered = perf_counter()
        self._work = Handwork(self.record, self._model, self._optimizer)
        self._token = enter(current().but(tap=self._work))
        self._prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._token)
        self._tap = self._change = self._pair = None
        if self._work is not None:
            self._work.end()
            self._try_model(1.0)
        self.record.stopped = "" if error is None else f"{type(error).__name__}: {error}"
        self.engine.ask("epoch")
        self.engine.ask("end")
        if any(f.severity != "note" for f in self.findings):
            self._line(self.verdict())

    def step(self, loss: Any) -> None:
        """Report a step: after ``optimizer.step()``.

        Arguments:
            loss: the step's loss, a Tensor of one number or a float.
        """
        now = perf_counter()
        value = float(loss.item()) if isinstance(loss, Tensor) else float(loss)
        self.record.losses.append(value)
        number = len(self.record.losses) - 1
        assert self._work is not None
        ask = self._work.step(number, loss, now)
        updates = int(self._optimizer.steps)
        self._gathered = 0 if updates != self._updates else self._gathered + 1
        # gradients are gathered over several steps: what an update changes is measured where there is one
        postponed = self._change is not None and 0 < self._gathered <= _PATIENT
        self._updates = updates
        measured = self._change is not None and not postponed
        if self._pair is not None:
            self._compare()
        if measured:
            self._measure(number, value)
        if measured or ask or not math.isfinite(value):
            self.engine.ask("step")
        if ask:
            self.engine.ask("epoch")
        if number % _TRIES == 0:
            self._try_model(_LOOKS)
        done = perf_counter()
        if measured:
            self._agenda.took(number, done - self._began)
        else:
            self._agenda.passed(1, now - self._began)
        self._prepare(postponed, sys._getframe(1))

    def epoch(self, **logs: float) -> None:
        """Report an epoch, with numbers such as ``val_loss=0.3``; the mean loss of its steps is added."""
        curve = list(self.record.losses[self._epoch_start :])
        self._epoch_start = len(self.record.losses)
        mean = sum(curve) / len(curve) if curve else math.nan
        self.record.epochs.append(EpochVitals(len(self.record.epochs), {"loss": mean, **logs}))
        self.engine.ask("epoch")

    def _try_model(self, looks: float) -> None:
        """Try the model on the first batch, on a copy, once it is worth it: as the check before `fit` does."""
        work, record = self._work, self.record
        if self._tried or work is None or not work.inputs or not record.losses:
            return
        budget = UNHURRIED if self._every is not None else min(BUDGET, SHARE * (perf_counter() - self._entered))
        if budget < looks * looking(record.model, record.run):
            return
        self._tried = True
        with surroundings(tap=None):
            try:
                seen, found = look_into(self._model, work.inputs, record.run, budget)
                record.probes.update({name: value for name, value in seen.probes.items() if value is not None})
            except (TypeError, ValueError) as error:  # a model of a kind that cannot be tried out
                record.probes["unchecked"] = str(error)
                found = []
        work.inputs = []
        self.engine.take(found)

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _prepare(self, postponed: bool = False, caller: FrameType | None = None) -> None:
        """Decide whether the next step is measured (`postponed`: it is), and wait for it; `caller`: of `step`."""
        assert self._work is not None
        self._tap = self._change = self._work.beside = None
        due = postponed or self._agenda.due(len(self.record.losses))
        if due and self._work.held and flats_of(self._optimizer) and self._model.parameters():
            if self._place is None:
                self._place = _Place(self._model.device, self._optimizer)
                self.record.model = model_facts(self._model)
            self._slab = Slab(self._place.device)
            self._tap, self._change = Tap(self._slab, self._activity), Change(self._place, self._slab)
            self._work.beside = self._show
            self._change.before()
        self._began = perf_counter()
        self._work.rest(caller)

    def _show(self, layer: Any, output: Any) -> None:
        """Look at what a layer computes in a step that is measured."""
        assert self._tap is not None
        if self._batch is None and isinstance(output, Tensor) and output.ndim > 1:
            self._batch = output.shape[0]
            self.record.run = RunFacts(
                optimizer=type(self._optimizer).__name__, batch_size=self._batch,
                rate=float(self._optimizer.applied_rate), schedule=self._optimizer.schedule.name,
            )
        self._tap(layer, output)

    def _measure(self, number: int, loss: float) -> None:
        change, tap = self._change, self._tap
        assert change is not None and tap is not None and self._work is not None
        change.after()
        assert self._slab is not None
        page = self._slab.page_now()
        if change.skipped(page) or not self._work.held:
            return
        parameters = change.parameters(page, touched=all(p.grad is None for p in self._optimizer.parameters))
        norms = [p.gradient.norm for p in parameters.values() if p.gradient is not None]
        self.record.steps.append(
            StepVitals(
                step=number, epoch=len(self.record.epochs), loss=loss, rate=float(self._optimizer.applied_rate),
                gradient_norm=math.sqrt(sum(n * n for n in norms)) if norms else None, layers=tap.finish(page),
                parameters=parameters,
            )
        )
        self._pair = Pair(self._place)

    def _compare(self) -> None:
        pair, self._pair = self._pair, None
        assert pair is not None
        products = self._place.device.fetch(pair.compare()).values()
        noise, turn = Pair.read(products, self.record.run.batch_size or 1)
        self.record.steps[-1] = replace(self.record.steps[-1], noise=noise, turn=turn)

    # -- saying --------------------------------------------------------------------------------------------------------

    def _hear(self, finding: Finding) -> None:
        if finding.severity != "note":
            self._line(spoken(finding))

    def _line(self, text: str) -> None:
        for line in text.splitlines():
            self._say(printable(line))


def watch(
    model: Any, optimizer: Any, say: Callable[[str], Any] = print, every: int | None = None, batch: int | None = None
) -> Watch:
    """Watch a hand-written training loop: ``with db.babysit.watch(model, optimizer) as sitter: ... sitter.step(loss)``.

    No bit of the training changes. What only a hand-written loop can get wrong is looked for as well: gradients that
    are not cleared, a graph that is kept alive, layers in the wrong mode.

    Arguments:
        model: the layer or model that is trained.
        optimizer: made with its parameters.
        say: shows a line.
        every: measure every so many steps; None measures as often as 1 % of the time allows.
        batch: rows per batch, where the loop knows it.

    Returns:
        A context manager whose ``step(loss)`` is called after ``optimizer.step()``, and ``epoch(val_loss=...)`` where
        the loop has epochs; ``findings`` and ``verdict()`` tell what was found.

    >>> import deepbabysit as db
    >>> model = db.Sequential([db.layers.Dense(1, input_shape=1)])
    >>> optimizer = db.optimizers.SGD(model.parameters(), 0.1)
    >>> with db.babysit.watch(model, optimizer) as sitter:
    ...     for _ in range(20):
    ...         optimizer.zero_grad()
    ...         loss = db.losses.mse([[1.0], [3.0]], model([[0.0], [1.0]]))
    ...         loss.backward()
    ...         optimizer.step()
    ...         sitter.step(loss)
    >>> sitter.findings
    []
    """
    return Watch(model, optimizer, say, every, batch)
