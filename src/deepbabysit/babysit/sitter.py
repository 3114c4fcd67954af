"""The sitter: listens to a training, measures it now and then, asks the rules, says what they find."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, final

import numpy as np

from deepbabysit.babysit.agenda import Agenda
from deepbabysit.babysit.broken import Guard, find_origin
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.reading import model_facts, run_facts
from deepbabysit.babysit.sampling import Change, Pair, Tap, classes
from deepbabysit.babysit.verdict import verdict
from deepbabysit.babysit.vitals import EpochVitals, Record, StepVitals
from deepbabysit.training.events import Controls, Listener, RunInfo, StepInfo

ASKED_AGAIN = 1.2  # epochs are asked about when this factor more of them are done, whatever that costs
RING = 32  # losses that wait on an accelerator until they are read


@final
class Sitter(Listener):
    """Watches one run of `fit`.

    Arguments:
        stop: end the run at a finding that is surely an error.
        record: what is known already (facts about the data); a fresh one by default.
        every: measure every so many steps, whatever it costs (None: as the cost allows).
        callbacks: the run's callbacks, for the facts.
        verdict: say the verdict at the end where there is something to say.

    Attributes:
        record: everything that was measured.
        findings: what was found, likeliest cause first.
    """

    def __init__(
        self,
        stop: bool = False,
        record: Record | None = None,
        every: int | None = None,
        callbacks: Sequence[Any] = (),
        verdict: bool = True,
    ) -> None:
        self.record = Record() if record is None else record
        self.engine = Engine(self.record, self._hear)
        self._stop = stop
        self._every = every
        self._callbacks = callbacks
        self._verdict = verdict
        self._controls: Controls | None = None
        self._guard: Guard | None = None
        self._info = RunInfo(epochs=0)
        self._agenda = Agenda(None)
        self._activity: dict[str, np.ndarray] = {}
        self._tap: Tap | None = None
        self._change: Change | None = None
        self._pair: Pair | None = None
        self._waiting: list[tuple[Any, StepInfo]] = []
        self._previous: StepInfo | None = None
        self._host = True
        self._penalty = 0.0
        self._base = 0
        self._broken = False
        self._count = 0  # steps done in this run
        self._wake = 0  # the next step at which there is more to do than keep the loss
        self._last = -1  # the last step of the epoch
        self._mark = (0, 0.0)  # step and time since which nothing was measured
        self._ended = 0.0
        self._asked = 0
        self._asking = 0.0
        self._since = 0
        self._time = self._wait = 0.0
        self._told = (0, 0.0, 0.0)
        self._epoch_began = (0.0, 0.0)
        self._predicted: Counter[int] = Counter()

    @property
    def findings(self) -> list[Finding]:
        """What was found, likeliest cause first."""
        return self.engine.ranked()

    def verdict(self) -> str:
        """Return one screen about the run."""
        return verdict(self.record, self.findings, self.engine.asked)

    # -- the run -------------------------------------------------------------------------------------------------------

    def run_begin(self, run: RunInfo) -> None:
        """Take the plan."""
        self._info = run
        planned = None if run.steps is None else run.steps * (run.epochs - run.first_epoch)
        self._agenda = Agenda(planned, self._every)

    def handed(self, controls: Controls) -> None:
        """Read the facts and stand by the step."""
        self._controls = controls
        self.record.model = model_facts(controls.layer)
        self.record.run = run_facts(self._info, controls, self.record.model, self._callbacks)
        self._guard = controls.step.guard = Guard(controls)
        self._host = isinstance(controls.device.asarray(np.zeros(1)), np.ndarray)

    def epoch_begin(self, epoch: int) -> None:
        """Count anew what is counted by epoch."""
        self._epoch_began = (self._time, self._wait)
        self._predicted.clear()
        self._last = -1 if self._info.steps is None else self._count + self._info.steps - 1
        self._open()

    def _open(self) -> None:
        """Begin to take the time of steps that are not measured, and choose when to look again."""
        self._wake = self._agenda.next(self._count)
        if self._count <= self._last < self._wake:
            self._wake = self._last
        self._ended = perf_counter()
        self._mark = (self._count, self._ended)

    def _close(self, now: float) -> None:
        """Take note of the steps since the mark."""
        steps = self._count - self._mark[0]
        if steps:
            self._agenda.passed(steps, now - self._mark[1])
            self._time += now - self._mark[1]
        self._mark = (self._count, now)

    def step_begin(self, epoch: int, step: int) -> None:
        """Stand by a step that is measured. Nearly every call ends at the first line."""
        if self._count != self._wake or self._controls is None:
            return
        now = perf_counter()
        waited = now - self._ended  # the wait of one step stands for those since the last look
        self._wait += waited * max(self._count - self._told[0], 1)
        self._told = (self._count, *self._told[1:])
        self._close(now)
        if self._agenda.due(self._count, wanted=self._count == self._last):
            self._tap = self._controls.step.tap = Tap(self._controls.device, self._activity)
            self._change = Change(self._controls)

    def step_end(self, step: StepInfo) -> None:
        """Take the loss; measure where it is due. Nearly every call ends after the loss."""
        guard = self._guard
        if guard is None:
            return
        if self._host:
            loss = step.loss.data.item()
            self.record.losses.append(loss)
            if (loss - loss != 0.0 or guard.broken()) and not self._broken:  # NaN or infinite
                self._find_origin(step)
            self._previous = step
        else:
            self._keep(step, self._tap is not None)
        self._count = count = self._count + 1
        if self._pair is not None:
            self._compare()
        if count <= self._wake:
            if count == self._wake:
                self._ended = perf_counter()
            return
        tap = self._tap
        if tap is not None and self._controls is not None:
            self._controls.step.tap = self._tap = None
            self._measure(step, tap)
            self.engine.ask("step")
            now = perf_counter()
            self._agenda.took(count - 1, now - self._mark[1])
            self._time += min(now - self._mark[1], self._agenda.usual or math.inf)
        else:
            self._close(perf_counter())
        self._open()

    def evaluation_begin(self, steps: int | None) -> None:
        """Leave the evaluation out of the time of the steps."""
        self._close(perf_counter())

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Take the numbers of the epoch and ask."""
        self._read()
        if self._info.validation_samples is None:
            self._close(perf_counter())
        time, wait = self._epoch_began
        total = sum(self._predicted.values())
        predicted = {c: n / total for c, n in self._predicted.items()} if total else None
        waited = min(self._wait - wait, self._time - time)
        self.record.epochs.append(
            EpochVitals(
                epoch, {k: float(v) for k, v in logs.items()}, predicted, self._time - time - waited, waited
            )
        )
        # short epochs are asked about now and then; the end of the run always is
        if self._agenda.spare(self._asking) or epoch + 1 >= ASKED_AGAIN * self._asked:
            began = perf_counter()
            self._asked = epoch + 1
            self.engine.ask("epoch")
            self._asking = perf_counter() - began
            self._agenda.beside(self._asking)

    def run_end(self, stopped: str) -> None:
        """Ask a last time; say the verdict where something is wrong."""
        if self._controls is None:
            return
        self._controls.step.tap = None
        self._read()
        self.record.stopped = stopped
        if self.record.epochs and self._asked != self.record.epochs[-1].epoch + 1:
            self.engine.ask("epoch")
        self.engine.ask("end")
        if self._verdict and any(f.severity != "note" for f in self.findings):
            self._controls.say(self.verdict())

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _keep(self, step: StepInfo, now: bool) -> None:
        """Keep a loss on the accelerator until it is read with others."""
        assert self._controls is not None
        self._waiting.append((self._controls.device.asarray(step.loss.data), step))
        if now or len(self._waiting) >= RING:
            self._read()

    def _read(self) -> None:
        """Read the losses that wait."""
        waiting, self._waiting = self._waiting, []
        for array, step in waiting:
            assert self._controls is not None
            loss = float(self._controls.device.to_host(array))
            self.record.losses.append(loss)
            if not self._broken and not math.isfinite(loss):
                self._find_origin(step)
            self._previous = step

    def _measure(self, step: StepInfo, tap: Tap) -> None:
        controls, change = self._controls, self._change
        assert controls is not None and change is not None
        self._change = None
        parameters = change.parameters()
        loss = self.record.losses[-1] if len(self.record.losses) else None
        penalized = any(p.penalty is not None for p in parameters.values())
        if penalized:
            self._penalty = float(controls.optimizer.penalty().item())
        targets = self._targets(step)
        predicted, actual = classes(targets, tap.output)
        self._predicted.update(predicted)
        # between weights and update stands what the rule makes of the gradient: norms of all gradients together
        norms = [p.gradient.norm for p in parameters.values() if p.gradient is not None]
        norm = math.sqrt(sum(n * n for n in norms)) if norms else None
        clip = controls.optimizer.clip_norm
        _, time, wait = self._told
        steps = max(self._count - self._since, 1)
        self.record.steps.append(
            StepVitals(
                step=step.total - 1, epoch=step.epoch,
                loss=None if loss is None else loss + self._penalty, data_loss=loss if penalized else None,
                rate=float(controls.optimizer.applied_rate), gradient_norm=norm,
                clip_factor=None if clip is None or not norm else min(1.0, clip / norm),
                layers=tap.finish(), parameters=parameters, seconds=(self._time - time) / steps,
                waiting=(self._wait - wait) / steps, predicted=predicted, actual=actual,
            )
        )
        self._told, self._since = (self._count, self._time, self._wait), self._count
        self._pair = Pair(controls)

    def _targets(self, step: StepInfo) -> Any:
        arrays = step.batches[0] if step.batches else ()
        signature = getattr(self._controls.step, "signature", None) if self._controls is not None else None
        if signature is None or signature.targets != 1 or len(arrays) <= signature.inputs:
            return None
        return arrays[signature.inputs]

    def _compare(self) -> None:
        """Compare the gradient of the measured step with that of the step after it."""
        pair, self._pair = self._pair, None
        if pair is None or not self.record.steps:
            return
        noise, turn = pair.compare(self.record.run.batch_size or 1)
        self.record.steps[-1] = replace(self.record.steps[-1], noise=noise, turn=turn)

    def _find_origin(self, step: StepInfo) -> None:
        """A loss is not finite: find where it began, and ask the rules now."""
        self._broken = True
        controls, guard = self._controls, self._guard
        assert controls is not None and guard is not None
        tap, controls.step.tap = controls.step.tap, None
        kept = guard.step()
        # the gradient of the step before may have been broken while its loss was still finite
        if kept is not None and kept < controls.optimizer.steps and self._previous is not None:
            step = self._previous
        try:
            if step.batches and kept is not None:
                origin = find_origin(controls, guard.kept, step.batches, step.total - 1)
                if origin is not None:
                    rows = step.rows[0] if len(step.rows) else ()
                    known = [int(rows[i]) for i in origin.rows if i < len(rows)]
                    self.record.probes["origin"] = {
                        "step": step.total - 1, "epoch": step.epoch, "pass": origin.pass_, "layer": origin.layer,
                        "operation": origin.operation, "rows": known, "nan": origin.nan,
                        "infinite": origin.infinite, "largest": origin.largest,
                    }
        finally:
            controls.step.tap = tap
        self.record.probes["broken"] = {"step": step.total - 1, "epoch": step.epoch}
        self._previous = None
        self.engine.ask("step")

    # -- saying --------------------------------------------------------------------------------------------------------

    def _hear(self, finding: Finding) -> None:
        """Say a finding once, as it appears; notes wait for the verdict."""
        controls = self._controls
        if controls is None:
            return
        if finding.severity != "note":
            controls.say(spoken(finding))
        if self._stop and finding.severity == "error":
            controls.stop(f"babysit: {finding.code}")


def spoken(finding: Finding) -> str:
    """Return a finding as it is said while the run goes on."""
    place = [] if finding.epoch is None else [f"epoch {finding.epoch + 1}"]
    if finding.step is not None:
        place.append(f"step {finding.step + 1}")
    where = f" ({', '.join(place)})" if place else ""
    lines = [f"{finding.severity}: {finding.code}{where}: {finding.message}"]
    if finding.remedies:
        lines.append(f"  try first: {finding.remedies[0].text}")
    return "\n".join(lines)
