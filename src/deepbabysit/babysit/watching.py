"""Watching a hand-written loop: one line around it, one line in it."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from types import TracebackType
from typing import Any, final

import numpy as np

from deepbabysit.autograd.tape import Node
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit.agenda import Agenda
from deepbabysit.babysit.engine import Engine
from deepbabysit.babysit.finding import Finding
from deepbabysit.babysit.measures import Slab
from deepbabysit.babysit.reading import model_facts
from deepbabysit.babysit.sampling import Change, Pair, Tap
from deepbabysit.babysit.sitter import spoken
from deepbabysit.babysit.verdict import verdict
from deepbabysit.babysit.vitals import EpochVitals, Record, RunFacts, StepVitals
from deepbabysit.io.text import printable
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.runtime.context import current, enter, leave

_MODAL = ("Dropout", "BatchNorm", "BatchNormalization", "SpatialDropout")
_KEPT, _LOOKED = 1, 5  # steps at which weights that the optimizer does not hold are kept, and compared
_PATIENT = 64  # steps without an update that may be parts of one: then the optimizer is forgotten
_COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024, 4096)  # steps at which what is kept alive is counted


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
        self._gradients: list[Any] = []
        self._kept = 0
        self._unheld: list[tuple[str, Any, np.ndarray]] = []
        self._calls = 0
        self._modal: dict[str, bool] = {}
        self._asleep = 0
        self._epoch_start = 0
        self._base = 0

    @property
    def findings(self) -> list[Finding]:
        """What was found, likeliest cause first."""
        return self.engine.ranked()

    def verdict(self) -> str:
        """Return one screen about the loop."""
        return verdict(self.record, self.findings, self.engine.asked)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Watch:
        self._token = enter(current().but(tap=self._see))
        self._base = _alive()
        self._prepare()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._token)
        self._tap = self._change = self._pair = None
        self.record.stopped = "" if error is None else f"{type(error).__name__}: {error}"
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
        self._look_at_gradients(number)
        self._look_at_modes(number)
        if number in (_KEPT, _LOOKED):
            self._look_at_unheld(number)
        if number in _COUNTS:
            self._count_alive(number)
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
        if measured or not math.isfinite(value):
            self.engine.ask("step")
        done = perf_counter()
        if measured:
            self._agenda.took(number, done - self._began)
        else:
            self._agenda.passed(1, now - self._began)
        self._prepare(postponed)

    def epoch(self, **logs: float) -> None:
        """Report an epoch, with numbers such as ``val_loss=0.3``; the mean loss of its steps is added."""
        curve = list(self.record.losses[self._epoch_start :])
        self._epoch_start = len(self.record.losses)
        mean = sum(curve) / len(curve) if curve else math.nan
        self.record.epochs.append(EpochVitals(len(self.record.epochs), {"loss": mean, **logs}))
        self.engine.ask("epoch")

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _prepare(self, postponed: bool = False) -> None:
        """Decide whether the next step is measured; `postponed`: it is."""
        self._calls = 0
        self._tap = self._change = None
        self._modal.clear()
        due = postponed or self._agenda.due(len(self.record.losses))
        if due and flats_of(self._optimizer) and self._model.parameters():
            if self._place is None:
                self._place = _Place(self._model.device, self._optimizer)
                self.record.model = model_facts(self._model)
            self._slab = Slab(self._place.device)
            self._tap, self._change = Tap(self._slab, self._activity), Change(self._place, self._slab)
            self._change.before()
        self._began = perf_counter()

    def _see(self, layer: Any, output: Any) -> None:
        """Look at what a layer computes: its mode always, its output where the step is measured."""
        self._calls += 1
        mode = current()
        kind = type(layer).__name__
        training = bool(mode.training)
        if kind in _MODAL and mode.training is not None:
            learning = isinstance(output, Tensor) and output.requires_grad
            if training and not mode.grad:
                self._wrong_evaluation(layer.path)
            elif learning or training:
                self._modal[layer.path] = self._modal.get(layer.path, False) or training
        if self._tap is not None and mode.grad:
            if self._batch is None and isinstance(output, Tensor) and output.ndim > 1:
                self._batch = output.shape[0]
                self.record.run = RunFacts(
                    optimizer=type(self._optimizer).__name__, batch_size=self._batch,
                    rate=float(self._optimizer.applied_rate), schedule=self._optimizer.schedule.name,
                )
            self._tap(layer, output)

    def _wrong_evaluation(self, path: str) -> None:
        seen = self.record.probes.setdefault("evaluation_in_training", {"times": 0, "layers": [], "step": 0})
        seen["times"] += 1
        seen["step"] = len(self.record.losses)
        if path not in seen["layers"]:
            seen["layers"].append(path)

    def _look_at_gradients(self, number: int) -> None:
        """See whether the gradients of the step before are still there, added to."""
        gradients = [p.grad for p in self._optimizer.parameters if p.grad is not None]
        same = (
            bool(gradients) and self._calls > 0 and self._optimizer.steps > self._updates > 0
            and len(gradients) == len(self._gradients)
            and all(a is b for a, b in zip(gradients, self._gradients, strict=True))
        )
        self._kept = self._kept + 1 if same else 0
        self._gradients = gradients
        if self._kept:
            norm = math.sqrt(sum(float(np.sum(np.square(g.numpy(), dtype=np.float64))) for g in gradients[:8]))
            self.record.probes["gradients_kept"] = {"times": self._kept, "norm": norm, "step": number}
        else:
            self.record.probes.pop("gradients_kept", None)

    def _look_at_unheld(self, number: int) -> None:
        """See whether weights that get gradients are nobody's: not in the optimizer, and the same some steps later."""
        if number == _KEPT:
            held = {id(p) for p in self._optimizer.parameters}
            self._unheld = [
                (name, p, np.array(p.numpy())) for name, p in self._model.named_parameters()
                if p.trainable and id(p) not in held and p.grad is not None
            ]
            return
        still = [(name, p.size) for name, p, before in self._unheld if np.array_equal(p.numpy(), before)]
        self._unheld = []
        if still:
            total = sum(p.size for _, p in self._model.named_parameters() if p.trainable)
            self.record.probes["unheld"] = {
                "names": [name for name, _ in still], "numbers": sum(size for _, size in still), "of": total,
                "steps": _LOOKED - _KEPT, "step": number,
            }
            self.engine.ask("step")

    def _look_at_modes(self, number: int) -> None:
        """See whether layers that must train ran in inference mode."""
        asleep = [path for path, training in self._modal.items() if not training]
        self._asleep = self._asleep + 1 if asleep else 0
        if self._asleep:
            self.record.probes["inference_steps"] = {
                "times": self._asleep, "layers": asleep, "step": number
            }

    def _count_alive(self, number: int) -> None:
        """Count the steps of computation that somebody keeps alive."""
        counts = self.record.probes.setdefault("alive", [])
        counts.append((number, max(_alive() - self._base, 0)))

    def _measure(self, number: int, loss: float) -> None:
        change, tap = self._change, self._tap
        assert change is not None and tap is not None
        change.after()
        assert self._slab is not None
        page = self._slab.page_now()
        if change.skipped(page):
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


def _alive() -> int:
    """Return how many steps of computation are kept by somebody."""
    # by type: asking a proxy of something that is gone for its class raises
    return sum(1 for thing in gc.get_objects() if issubclass(type(thing), Node))


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
