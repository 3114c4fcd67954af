"""The sitter: listens to a training, measures it now and then, asks the rules, says what they find."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np

from deepbabysit.babysit.agenda import Agenda
from deepbabysit.babysit.broken import Guard, find_origin
from deepbabysit.babysit.budget import BUDGET, UNHURRIED, budget_for, planned_seconds
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.measures import Slab, of_segments
from deepbabysit.babysit.preflight import preflight
from deepbabysit.babysit.reading import model_facts, run_facts
from deepbabysit.babysit.sampling import Change, Pair, Tap, classes
from deepbabysit.babysit.settling import settle
from deepbabysit.babysit.verdict import verdict
from deepbabysit.babysit.vitals import EpochVitals, Record, StepVitals
from deepbabysit.kernels.spec import Array
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.runtime.arrival import Arrival
from deepbabysit.training.events import Controls, Listener, RunInfo, StepInfo

STALL = 5.0  # a wait so many times the next longest one stands for itself only: a lid that was shut
CLOSE = 8  # steps between two looks at the losses where errors end the run
GROWN = 4.0  # a loss so many times the best so far, and above the first, is a reason to ask the rules
APART = 0.3  # a validation loss so much of guessing above the training loss is a reason to look at data once more
BLOCK = 64  # losses are judged at steps that this divides, whenever they are read


# model -> form of the data that it was checked with, and whether there was no time for all of it
_LOOKED: WeakKeyDictionary[Any, tuple[Any, bool]] = WeakKeyDictionary()


def _form(loader: Any) -> Any:
    """Return what tells data apart without looking at them: rows, shapes, types."""
    if loader is None:
        return None
    arrays = [a for a in (loader.x, loader.y) if isinstance(a, np.ndarray)]
    return (loader.rows, loader.batch_size, *((a.shape, a.dtype) for a in arrays))


@dataclass(slots=True)
class _Look:
    """A measured step: what the host knows of it, and what it means what the device has measured.

    Attributes:
        vitals: what is known at once.
        tap, change, slab: what measured it.
        layers: see `Tap`.
        rows: of the batch.
        targets: of the batch, where they are on the host.
        place: of its vitals in the record, once they are there.
    """

    vitals: StepVitals
    tap: Tap
    change: Change
    slab: Slab
    layers: Mapping[str, tuple[str, int]]
    rows: int | None
    targets: Any
    place: int | None = None


@final
class Sitter(Listener):
    """Watches one run of `fit`.

    Arguments:
        stop: end the run at a finding that is surely an error.
        record: what is known already (facts about the data); a fresh one by default.
        every: measure every so many steps beside the first ones and powers of four, whatever it costs (None: what costs
            little); the check before the first step then takes its time, too, so that findings do not depend on the
            machine's speed.
        callbacks: the run's callbacks, for the facts.
        verdict: say the verdict at the end where there is something to say.
        check: look at data and model before the first step (once for the same model and data of one form); a number
            is the seconds that this may take. By default a short run leaves little time for it: what there was none
            for is looked at after a run in which something is wrong.

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
        check: bool | float = True,
    ) -> None:
        self._check = check
        self._form: Any = None  # of the data and the model that a check looks at
        self.record = Record() if record is None else record
        self.engine = Engine(self.record, self._hear)
        self._stop = stop
        self._every = every
        self._callbacks = callbacks
        self._verdict = verdict
        self._controls: Controls | None = None
        self._guard: Guard | None = None
        self._info = RunInfo(epochs=0)
        self._agenda = Agenda(every)
        self._activity: dict[str, np.ndarray] = {}
        self._slab: Slab | None = None
        self._means: tuple[Tap, Change]
        self._tap: Tap | None = None
        self._change: Change | None = None
        self._pair: tuple[Pair, _Look] | None = None
        self._coming: list[tuple[Arrival, Callable[[list[np.ndarray]], None]]] = []  # on the way to the host
        self._requested = len(self.record.losses)  # so many losses are known or on their way
        self._before = 0  # steps of the optimizer before this run
        self._epoch = self._start = 0  # the epoch, and the step of this run that it began with
        self._whole = 0  # steps of an epoch, but for a shorter last one: that is recorded apart, and says less
        self._broken = self._lost = False  # a number was not finite; a loss was not
        self._least = math.inf  # the smallest loss so far
        self._grown = 0  # so many losses are known when it is time again to ask because of one far above it
        self._target = 0  # the next step of this run that may be measured
        self._last = -1  # the last step of the epoch, where it is measured
        self._mark = (0, 0.0)  # step and time since which nothing was measured
        self._ended = 0.0
        self._asked = 0
        self._since = 0
        self._time = self._wait = 0.0
        self._longest, self._second = (0.0, 0.0), 0.0  # the longest wait, and what it stands for; the next one
        self._waits = (0.0, 0.0)  # the last two that were seen
        self._told = (0, 0.0, 0.0)
        self._epoch_began = (0.0, 0.0)

    @property
    def begun(self) -> bool:
        """Whether the run has come as far as its first step."""
        return self._controls is not None

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
        if run.steps is not None:
            rows = (run.batch_size or 1) * run.accumulate
            self._whole = run.steps - (run.samples % rows > 0 if run.samples else 0)
        self.record.probes["reading"] = run.reading

    def handed(self, controls: Controls) -> None:
        """Read the facts and stand by the step."""
        self._controls = controls
        self.record.model = model_facts(controls.layer)
        self.record.run = run_facts(self._info, controls, self.record.model, self._callbacks)
        self._guard = controls.step.guard = Guard(controls)
        self._before = controls.optimizer.steps
        if self._check:
            self._look(controls)

    def _look(self, controls: Controls) -> None:
        """Check data and model before the first step, within the time that the plan allows."""
        run, model = self.record.run, controls.layer
        self._form = (
            _form(controls.data), _form(controls.validation), controls.loss.name, run.batch_size, controls.weighted,
            self.record.model.parameters,
        )
        if controls.data is None or _LOOKED.get(model, (None, False))[0] == self._form:
            return
        known = self.record.model
        facts = None if self._every is not None else known
        self._examine(controls, self._check_budget(planned_seconds(run, known)), facts=facts)

    def _look_again(self, controls: Controls, settled: Mapping[str, Finding]) -> bool:
        """Look at data for which there was no time before a run in which something is wrong; ask again."""
        form, hurried = _LOOKED.get(controls.layer, (None, False))
        if self._check is not True or not hurried or form != self._form:
            return False
        if not (_apart(self.record) or any(f.severity != "note" for f in settled.values())):
            return False
        self._examine(controls, BUDGET, trained=True)
        if self.record.epochs:
            self.engine.ask("epoch")
        self.engine.ask("end")
        return True

    def _examine(self, controls: Controls, budget: float, **how: Any) -> None:
        """Take what a check sees."""
        run = self.record.run
        try:
            record, found = preflight(
                controls.layer, controls.data, None, controls.validation, replace(run, weighted=controls.weighted),
                budget, loss=controls.loss, **how,
            )
        except (TypeError, ValueError) as error:  # data of a kind that is not looked at; the run itself takes it
            _LOOKED[controls.layer] = (self._form, False)
            self.record.probes["unchecked"] = str(error)
            return
        _LOOKED[controls.layer] = (self._form, found.hurried)
        self.record.probes["hurried"] = found.hurried
        self.record.data = record.data
        self.record.probes.update({name: value for name, value in record.probes.items() if value is not None})
        plan = record.run
        self.record.run = replace(
            run, weighted=plan.weighted, task=plan.task or run.task, classes=plan.classes or run.classes,
            chance=plan.chance or run.chance,
        )
        self.engine.before.update(found.asked)
        self.engine.take(found)

    def _check_budget(self, planned: float | None) -> float:
        if self._check is not True:
            return float(self._check)
        return budget_for(planned) if self._every is None else UNHURRIED

    def epoch_begin(self, epoch: int) -> None:
        """Count anew what is counted by epoch."""
        self._epoch_began = (self._time, self._wait)
        count = self._done()
        self._epoch, self._start = epoch, count
        last = count + self._whole - 1
        self._last = last if last >= count and self._agenda.ends(epoch + 1, count, last) else -1
        if count >= self._target:
            self._plan(count)
        elif self._last >= 0 or self._pair is not None or self._stop:
            self._aim(count)
        else:  # the target stands, and with it where to wake up
            self._ended = perf_counter()
            self._mark = (count, self._ended)

    def _done(self) -> int:
        """Return how many steps of this run are done."""
        return 0 if self._controls is None else self._controls.optimizer.steps - self._before

    def _plan(self, count: int) -> None:
        """Choose the step that may be measured next, and begin to take the time of those before it."""
        self._target = self._agenda.next(count)
        self._aim(count)

    def _aim(self, count: int) -> None:
        """Begin to take the time of steps that are not measured, and choose where to wake up: a step before the target.

        Between two wakings nothing of ours runs in Python. The last step of some epochs is a target, too.
        """
        if count <= self._last < self._target:
            self._target = self._last
        self._sleep(count if self._pair is not None else self._waking(count))
        self._ended = perf_counter()
        self._mark = (count, self._ended)

    def _waking(self, count: int) -> int:
        """Return the step before the next target; one that is not far away where something is awaited."""
        waking = max(self._target - 1, count)
        return min(waking, count + CLOSE - 1) if self._stop or self._coming else waking

    def _sleep(self, until: int) -> None:
        """Ask to be called again at a step of this run."""
        if self._controls is not None:
            self.wake = self._controls.steps + until

    def _close(self, count: int, now: float) -> None:
        """Take note of the steps since the mark."""
        steps = count - self._mark[0]
        if steps > 0:
            self._agenda.passed(steps, now - self._mark[1])
            self._time += now - self._mark[1]
        self._mark = (count, now)

    def step_begin(self, epoch: int, step: int) -> None:
        """Stand by a step that is measured."""
        count = self._start + step
        if count < self._target or self._controls is None:
            return
        now = perf_counter()
        waited = now - self._ended if count else 0.0  # the first batch of all may open a file
        standing = waited * max(count - self._told[0], 1)  # one wait stands for those since the last look
        self._wait += standing
        self._waits = self._waits[1], waited
        if waited > self._longest[0]:
            self._longest, self._second = (waited, standing), self._longest[0]
        else:
            self._second = max(self._second, waited)
        self.record.probes["stall"] = self._longest[1] if self._longest[0] > STALL * self._second else 0.0
        self._told = (count, *self._told[1:])
        if count == self._mark[0]:
            self._time += waited  # right after another step that was measured
        self._close(count, now)
        if count == self._last or self._agenda.due(count):
            self._stand_by(self._controls)

    def _stand_by(self, controls: Controls) -> None:
        """Have the next step measured, always into the same places: such steps are recorded, too."""
        if self._slab is None:
            self._slab = Slab(controls.device)
            self._means = Tap(self._slab, self._activity), Change(controls, self._slab)
        self._tap, self._change = self._means
        self._tap.begin()
        controls.step.tap, controls.step.change = self._tap, self._change

    def step_end(self, step: StepInfo) -> None:
        """Read the losses; measure where it is due."""
        began = perf_counter()
        count = self._done()  # this step included
        if self._coming or self._pair is not None:
            self._close(count, began)  # a single step: the least of several has not waited for other work
            if self._coming:
                self._land()
            if self._pair is not None:
                self._compare()
            began = perf_counter()
            self._mark = (count, began)
        if count <= self._target:
            if self._stop or self._alarmed():
                self._read()
            self._ended = perf_counter()
            self._sleep(self._waking(count))
            return
        if self._tap is not None and self._controls is not None:
            self._controls.step.tap = self._controls.step.change = None
            self._measure(step)
            now = perf_counter()
            self._agenda.took(count - 1, now - self._mark[1])
            self._time += min(now - self._mark[1], self._agenda.usual or math.inf)
        else:
            self._read()
            self._close(count, began)
        self._plan(count)

    def evaluation_begin(self, steps: int | None) -> None:
        """Leave the evaluation out of the time of the steps."""
        self._close(self._done(), perf_counter())

    def epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Take the numbers of the epoch and ask."""
        if self._info.validation_samples is None:
            self._close(self._done(), perf_counter())
        if self._coming:
            self._land(wait=True)
        left = self._done() - 1 - self._told[0]
        if left > 0:  # nothing was looked at since: those steps waited as the last ones did that were seen
            self._wait += left * min(self._waits)
            self._told = (self._told[0] + left, *self._told[1:])
        time, wait = self._epoch_began
        waited = min(self._wait - wait, self._time - time)
        self.record.epochs.append(EpochVitals(epoch, dict(logs), self._time - time - waited, waited))
        if self._agenda.asks(epoch + 1):  # of short epochs some; the end of the run always is
            began = perf_counter()
            self._read()
            self._land(wait=True)
            self._asked = epoch + 1
            self.engine.ask("epoch")
            self._agenda.asked(epoch + 1, self._done(), perf_counter() - began)

    def run_end(self, stopped: str) -> None:
        """Ask a last time; say the verdict where something is wrong."""
        if self._controls is None:
            return
        self._controls.step.tap = None
        self._read()
        self._land(wait=True)
        self.record.stopped = stopped
        if self.record.epochs and (stopped != "epochs" or self._asked != self.record.epochs[-1].epoch + 1):
            self.engine.ask("epoch")  # what is asked once much of the plan is done holds at an early end, too
        self.engine.ask("end")
        settled = settle(self.record, self.engine.found)
        if self._look_again(self._controls, settled):
            settled = settle(self.record, self.engine.found)
        self.engine.found = settled
        if self._verdict and any(f.severity != "note" for f in self.findings):
            self._controls.say(self.verdict())

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _expect(self, arrays: Sequence[Array], action: Callable[[list[np.ndarray]], None]) -> None:
        """Have something done with the values of arrays as they are now: on the host at once, else when they arrive."""
        assert self._controls is not None
        self._coming.append((self._controls.device.fetch(arrays), action))
        self._land()

    def _land(self, wait: bool = False) -> None:
        """Look at what has arrived, in order; `wait`: at everything that is on its way."""
        while self._coming and (wait or self._coming[0][0].ready):
            arrival, action = self._coming.pop(0)
            action(arrival.values())

    def _read(self) -> None:
        """Read the losses of the steps since the last look; find out where a number was not finite."""
        count, arrays = self._done(), [] if self._guard is None else self._guard.arrays
        if count > self._requested and arrays:
            self._requested = count
            self._expect(arrays, partial(self._take_losses, count))

    def _take_losses(self, count: int, values: Sequence[np.ndarray]) -> None:
        """Look at the losses of the first `count` steps, and whether a number was not finite."""
        guard, known = self._guard, len(self.record.losses)
        assert guard is not None
        ring, *taken = values
        fresh = np.frombuffer(guard.losses(ring, self._before + known + 1, self._before + count))
        low, high = (float(fresh.min()), float(fresh.max())) if len(fresh) else (0.0, 0.0)
        lost = not (math.isfinite(low) and math.isfinite(high))  # both are NaN where one of them is
        usual = GROWN * min(self._least, low)  # what is under it cannot have grown, whenever it is judged
        if lost or (known and high <= max(self.record.losses[0], usual)):
            self._add(fresh, low)  # none of them has grown: nothing is to be judged
        else:  # whether they grow is judged as if they were read step by step
            for end in range(known - known % BLOCK + BLOCK, count, BLOCK):
                self._judge(fresh[: end - known])
                fresh, known = fresh[end - known :], end
            if count % BLOCK:
                self._add(fresh, float(fresh.min(initial=math.inf)))
            else:
                self._judge(fresh)
        kept = None if self._broken else guard.step(taken)
        if kept is not None:
            self._find_origin(kept)
        elif lost and not self._lost:
            self.engine.ask("step")
        if self._broken and (lost or count - self.record.probes["broken"]["step"] > CLOSE):
            guard.quiet()
        self._lost = self._lost or lost

    def _add(self, fresh: np.ndarray, low: float) -> None:
        """Write losses down, of which `low` is the least."""
        if len(fresh):
            self.record.losses.frombytes(fresh.tobytes())
            self._least = min(self._least, low)

    def _judge(self, fresh: np.ndarray) -> None:
        """Write losses down, and ask the rules where they have grown."""
        if len(fresh):
            self._add(fresh, float(fresh.min()))
            if self._running_away():
                self.engine.ask("step")

    def _alarmed(self) -> bool:
        alarm = None if self._controls is None else self._controls.step.alarm
        return alarm is not None and alarm[0] != 0.0

    def _running_away(self) -> bool:
        """Tell whether the losses have grown so much that it is time to ask the rules."""
        losses = self.record.losses
        if not (losses[-1] > GROWN * self._least and losses[-1] > losses[0]) or len(losses) < self._grown:
            return False
        self._grown = len(losses) + max(CLOSE, len(losses) // 20)
        return True

    def _measure(self, step: StepInfo) -> None:
        """Ask for what a step has measured."""
        controls, guard, slab, tap, change = self._controls, self._guard, self._slab, self._tap, self._change
        assert controls is not None and guard is not None
        assert slab is not None and tap is not None and change is not None
        self._tap = None
        _, time, wait = self._told
        count = self._done()
        steps = max(count - self._since, 1)
        vitals = StepVitals(
            step=count - 1, epoch=step.epoch, rate=float(controls.optimizer.applied_rate),
            seconds=(self._time - time) / steps, waiting=(self._wait - wait) / steps,
        )
        self._told, self._since = (count, self._time, self._wait), count
        targets = self._targets(step)
        here = targets is None or isinstance(targets, np.ndarray)
        rows = len(step.batches[0][0]) if step.batches else None
        look = _Look(vitals, tap, change, slab, dict(tap.layers), rows, targets if here else None)
        self._requested = count
        self._pair = Pair(controls), look
        self._expect(
            [*guard.arrays, *slab.arrays, *(() if here else (targets,))],
            partial(self._take, look, len(guard.arrays), len(slab.arrays)),
        )

    def _take(self, look: _Look, losses: int, slabs: int, values: Sequence[np.ndarray]) -> None:
        """Look at what a step has measured, and ask the rules."""
        if losses:
            self._take_losses(look.vitals.step + 1, values[:losses])
        tap, page = look.tap, look.slab.page(values[losses : losses + slabs])
        if not look.change.skipped(page):
            parameters = look.change.parameters(page)
            targets = values[-1] if len(values) > losses + slabs else look.targets
            predicted, actual = classes(targets, tap.guesses(page, look.rows), tap.width)
            # between weights and update stands what the rule makes of the gradient: norms of all gradients together
            norms = [p.gradient.norm for p in parameters.values() if p.gradient is not None]
            look.place = len(self.record.steps)
            self.record.steps.append(
                replace(
                    look.vitals, loss=self.record.losses[-1] if len(self.record.losses) else None,
                    gradient_norm=math.sqrt(sum(n * n for n in norms)) if norms else None,
                    layers=tap.finish(page, look.layers), parameters=parameters, predicted=predicted, actual=actual,
                )
            )
        self.engine.ask("step")

    def _targets(self, step: StepInfo) -> Any:
        """Return the targets of a step, where they lie."""
        arrays = step.batches[0] if step.batches else ()
        signature = getattr(self._controls.step, "signature", None) if self._controls is not None else None
        if signature is None or signature.targets != 1 or len(arrays) <= signature.inputs:
            return None
        return arrays[signature.inputs]

    def _compare(self) -> None:
        """Compare the gradient of the measured step with that of the step after it."""
        if self._pair is not None:
            (pair, look), self._pair = self._pair, None
            self._expect(pair.compare(), partial(self._take_pair, look))

    def _take_pair(self, look: _Look, values: Sequence[np.ndarray]) -> None:
        if look.place is not None:
            noise, turn = Pair.read(values, self.record.run.batch_size or 1)
            self.record.steps[look.place] = replace(self.record.steps[look.place], noise=noise, turn=turn)

    def _find_origin(self, kept: int) -> None:
        """A number was not finite in a step of the optimizer: find where it began, and ask the rules now."""
        self._broken = True
        controls, guard = self._controls, self._guard
        assert controls is not None and guard is not None
        count = kept - 1 - self._before  # the step in this run
        place = {"step": count, "epoch": self._epoch}
        self.record.probes["broken"] = {**place, "growth": self._growth(guard)}
        tap, controls.step.tap = controls.step.tap, None
        try:
            arrays, rows = controls.batch(self._epoch, count - self._start)
            if arrays:
                # random streams count the steps of the trainer
                origin = find_origin(controls, guard.kept, arrays, controls.steps + count)
                if origin is not None:
                    known = [int(rows[origin.part][i]) for i in origin.rows if i < len(rows[origin.part])]
                    self.record.probes["origin"] = {
                        **place, "pass": origin.pass_, "layer": origin.layer, "operation": origin.operation,
                        "rows": known, "nan": origin.nan, "infinite": origin.infinite, "largest": origin.largest,
                    }
        finally:
            controls.step.tap = tap
        self.engine.ask("step")

    def _growth(self, guard: Guard) -> float | None:
        """Return how many times longer the weights of the broken step are than those that were measured last."""
        if not self.record.steps or self._controls is None:
            return None
        before = sum(p.weight.norm**2 for p in self.record.steps[-1].parameters.values())
        parts = zip(flats_of(self._controls.optimizer), guard.kept, strict=True)
        now = sum(
            v.norm**2 for flat, kept in parts for v in of_segments(self._controls.device, kept, flat.segments)
        )
        return math.sqrt(now / before) if before > 0.0 and math.isfinite(now) else None

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


def _apart(record: Record) -> bool:
    """Tell whether the validation loss ended far above the training loss, measured by that of guessing."""
    loss, val = record.logs("loss"), record.logs("val_loss")
    return bool(loss and val) and not val[-1] - loss[-1] <= APART * (record.run.chance or loss[-1])


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
