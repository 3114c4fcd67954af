"""What only a hand-written loop can get wrong, seen from its layers, its losses and its optimizer."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, final

import numpy as np

from deepbabysit.autograd.tape import Node
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.babysit import losstail
from deepbabysit.babysit.vitals import Record
from deepbabysit.babysit.waiting import Waiting
from deepbabysit.optimizers.flat import flats_of
from deepbabysit.runtime.context import current

MODAL = ("Dropout", "BatchNorm", "BatchNormalization", "SpatialDropout")
KEPT, LOOKED, SECOND = 1, 5, 24  # steps at which weights that the optimizer does not hold are kept, and compared
COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024, 4096)  # steps at which what is kept alive is counted
OFTEN = 3  # updates with gradients that were kept, or used again, until the rules are asked
FEW = 4  # so many of the smallest parameters are kept to see whether weights are put back
AGAIN = 8  # steps with the weights in another optimizer's hands, until the rules are asked
BATCH = 64  # rows of the first batch that are kept
ROWS = 8  # of fewer rows a loss does not say whether it is a sum


class _Glance:
    """A look at the gradient of a parameter right before the first backward pass of a step adds to it.

    Attributes:
        parameter: whose gradient is looked at.
        empty: whether it was None or all 0; None where no backward pass came to it since `again`.
    """

    def __init__(self, parameter: Any) -> None:
        self.parameter = parameter
        self.empty: bool | None = None
        self.end: Callable[[], None] = parameter.register_hook(self._see)

    def again(self) -> bool | None:
        """Return what was seen, and look anew."""
        seen, self.empty = self.empty, None
        return seen

    def _see(self, _: Any) -> None:
        if self.empty is None:
            known = self.parameter.grad
            self.empty = known is None or not np.any(known.numpy())


class _Arrivals:
    """Counts the updates that gradients arrived for: how many were made when a backward pass came."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._before: set[int] = set()
        self._ends = [p.register_hook(self._see) for p in optimizer.parameters if p.trainable]

    def again(self) -> int:
        """Return how many there were since the last time."""
        seen, self._before = len(self._before), set()
        return seen

    def end(self) -> None:
        """Count no more."""
        while self._ends:
            self._ends.pop()()

    def _see(self, _: Any) -> None:
        self._before.add(int(self._optimizer.steps))


@final
class Handwork:
    """Is shown every layer's output and every step of a hand-written loop; puts what it sees into a record.

    Arguments:
        record: its probes get what was seen.
        model: what is trained.
        optimizer: what trains it.

    Attributes:
        beside: shown every layer's output as well, while a step is measured.
        calls: of layers since the last step.
        rows: of the last output of the model that gradients flow through.
        inputs: what the model was first called with; None before.
    """

    def __init__(self, record: Record, model: Any, optimizer: Any) -> None:
        self._record = record
        self._model = model
        self._optimizer = optimizer
        self.beside: Callable[[Any, Any], None] | None = None
        self.calls = self.rows = 0
        self.inputs: list[np.ndarray] | None = None
        self._before = alive()
        self._updates = int(optimizer.steps)
        self._updated: dict[int, Any] = {}  # gradients that went through the last update
        self._kept: dict[int, int] = {}
        self._broken = False  # a loss was not finite
        self._glance: _Glance | None = None
        self._held: list[Any] = []  # the optimizer's
        self._others: dict[int, tuple[Any, int]] | None = None  # not the optimizer's, and when they last changed
        self._arrivals: _Arrivals | None = None
        self._start: tuple[int, list[np.ndarray]] = (0, [])  # updates and weights at the beginning of a step
        self._made = int(optimizer.steps)
        self._place: Any = None  # the memory of a parameter
        self._by_hand = False  # gradients are the same tensors, and emptied
        self._unheld: list[tuple[str, Any, np.ndarray]] = []  # tensors that the optimizer does not hold
        self._of_unheld: _Glance | None = None
        self._modal: dict[str, bool] = {}
        self._several = False  # the model ran several times in the last step, in training mode
        self._passes = self._followed = self._used = 0  # of the model in this step; followed; backward came to it
        self._asleep = 0
        self._time = Waiting()

    # -- layers --------------------------------------------------------------------------------------------------------

    def entering(self, layer: Any, inputs: Sequence[Any]) -> None:
        """Take note of a forward pass that begins; what lies before the first one of a step is waiting for data."""
        if current().grad:
            if not self._time.begun:
                self._look_at_start()
            self._time.enter()
            if self.inputs is None and layer is self._model:
                self.inputs = [np.array(t.numpy()[:BATCH]) for t in inputs if isinstance(t, Tensor) and t.ndim]
        else:
            self._time.away(True)

    def __call__(self, layer: Any, output: Any) -> None:
        """Look at what a layer computes: its mode always, its output where the step is measured."""
        self.calls += 1
        mode = current()
        if type(layer).__name__ in MODAL and mode.training is not None:
            training = bool(mode.training)
            learning = isinstance(output, Tensor) and output.requires_grad
            if training and not mode.grad:
                self._wrong_evaluation(layer.path)
            elif learning or training:
                self._modal[layer.path] = self._modal.get(layer.path, False) or training
        if not mode.grad:
            if mode.scope == "":
                self._time.away(False)
            return
        if layer is self._model and isinstance(output, Tensor) and output.ndim:
            self.rows = output.shape[0]
            self._passes += 1
            if self._several and mode.training and mode.recorder is None and output.requires_grad:
                output.register_hook(self._used_by)
                self._followed += 1
        if self.beside is not None:
            self.beside(layer, output)

    def _wrong_evaluation(self, path: str) -> None:
        seen = self._record.probes.setdefault("evaluation_in_training", {"times": 0, "layers": [], "step": 0})
        seen["times"] += 1
        seen["step"] = len(self._record.losses)
        if path not in seen["layers"]:
            seen["layers"].append(path)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def step(self, number: int, loss: Any, now: float) -> bool:
        """Look at a step that is done; returns whether the rules should be asked.

        Arguments:
            number: of the step, from 0.
            loss: as the loop reports it.
            now: when it was reported.
        """
        ask = self._time.step(number, now)
        if ask:
            self._record.probes["waits"] = self._time.seen()
        ask |= self._look_at_gradients(number)
        ask |= self._look_at_holder(number)
        self._look_at_modes(number)
        self._look_at_passes(number)
        if isinstance(loss, Tensor) and loss.node is not None:
            if number == 0:
                ask |= self._look_at_tail(loss)
            if not self._broken and not math.isfinite(self._record.losses[-1]):
                self._find_origin(loss, number)
        if number in (KEPT, LOOKED - 1, LOOKED, SECOND):
            ask |= self._look_at_unheld(number)
        if number in COUNTS:
            counts = self._record.probes.setdefault("alive", [])
            counts.append((number, max(alive() - self._before, 0)))
        return ask

    def rest(self, caller: FrameType | None = None) -> None:
        """Begin to wait for the next step; `caller`: what reported the one that is done."""
        self.calls = 0
        self._modal.clear()
        self._time.rest(caller)

    def end(self) -> None:
        """Compare what is still to be compared."""
        self._time.end()
        self._record.probes["waits"] = self._time.seen()
        self._ended(self._glance)
        if self._arrivals is not None:
            self._arrivals.end()
        if self._unheld and len(self._record.losses) > LOOKED:
            self._look_at_unheld(SECOND)
        self._ended(self._of_unheld)

    def _look_at_start(self) -> None:
        """See whether the weights that a step begins with are those that the last one began with, put back by hand."""
        number, updates = len(self._record.losses), int(self._optimizer.steps)
        if number > OFTEN:
            return
        before, self._start = self._start, (updates, [
            np.array(p.numpy()) for p in sorted(self._optimizer.parameters, key=lambda p: p.size)[:FEW] if p.trainable
        ])
        if number and updates > before[0] and before[1] and all(
            np.array_equal(a, b) for a, b in zip(before[1], self._start[1], strict=True)
        ) and not any(p.overwritten_by.endswith(".step()") for p in self._optimizer.parameters if p.trainable):
            seen = self._record.probes.setdefault("put_back", {"times": 0})
            seen.update(times=seen["times"] + 1, step=number - 1)

    @property
    def held(self) -> bool:
        """Whether the weights are where the optimizer keeps them: another one may have taken them."""
        flats = flats_of(self._optimizer)
        return not flats or flats[0].members[0].parameter.data is flats[0].views[0]

    def _look_at_holder(self, number: int) -> bool:
        """See whether other optimizers take the weights from the one that is watched, and how often."""
        if int(self._optimizer.steps) > self._made or self.held:
            self._made, self._place = int(self._optimizer.steps), None
            return False
        memory = flats_of(self._optimizer)[0].members[0].parameter.data
        seen = self._record.probes.setdefault("taken", {"times": 0, "steps": 0, "step": number, "states": bool(
            flats_of(self._optimizer)[0].states)})
        seen["times"], seen["steps"] = seen["times"] + (memory is not self._place), seen["steps"] + 1
        self._place = memory
        return seen["steps"] == AGAIN

    def _updates_of(self, number: int) -> list[Any]:
        """Return the parameters that were updated in this step: by the optimizer, or by another one."""
        updates = int(self._optimizer.steps)
        made, self._updates = updates - self._updates, updates
        if self._others is None or number & (number - 1) == 0:  # layers may be frozen, or come later
            self._held = [p for p in self._optimizer.parameters if p.trainable]
            known = {id(p) for p in self._held}
            self._others = {
                id(p): (p, p.overwritten) for p in self._model.parameters() if p.trainable and id(p) not in known
            }
        changed = [p for p, before in self._others.values() if p.overwritten != before] if self._others else []
        for p in changed:
            self._others[id(p)] = p, p.overwritten
        if made > 1 or self._arrivals is not None:
            self._look_at_arrivals(number, made)
        return [*self._held, *changed] if made else changed

    def _look_at_arrivals(self, number: int, made: int) -> None:
        """See whether the optimizer makes several updates from one and the same gradients."""
        if self._arrivals is None:
            self._arrivals = _Arrivals(self._optimizer)
            return
        seen = self._record.probes.setdefault("reused", {"looks": 0, "times": 0})
        if seen["looks"] == OFTEN:
            return
        came = self._arrivals.again()
        seen["looks"] += 1
        if 0 < came < made:
            seen.update(times=seen["times"] + 1, updates=made, arrived=came, step=number)
        if seen["looks"] == OFTEN:
            self._arrivals.end()

    def _look_at_gradients(self, number: int) -> bool:
        """See which gradients went through two updates, added to in between."""
        if not self.calls:
            return False
        updated = self._updates_of(number)
        if not updated:
            return False
        emptied = None
        if self._glance is not None and any(p is self._glance.parameter for p in updated):
            emptied = self._glance.again()
        known_by = self._updated
        kept = []
        for p in updated:
            gradient, place = p.grad, id(p)
            if gradient is not None and known_by.get(place) is gradient:
                kept.append(p)
            known_by[place] = gradient
        if not kept or self._by_hand:
            return False
        known = self._record.probes.get("gradients_kept", {"sure": False})
        if self._glance is not None and any(p is self._glance.parameter for p in kept):
            known["sure"], self._by_hand = not emptied, bool(emptied)
            self._glance.end()
            self._glance = None
        for p in kept:
            self._kept[id(p)] = self._kept.get(id(p), 0) + 1
        times = max(self._kept.values())
        norm = math.sqrt(sum(float(np.sum(np.square(p.grad.numpy(), dtype=np.float64))) for p in kept[:8]))
        trained = [p for p in self._model.parameters() if p.trainable and self._updated.get(id(p)) is not None]
        self._record.probes["gradients_kept"] = {
            "times": times, "norm": norm, "step": number, "names": [p.name for p in trained if id(p) in self._kept],
            "of": len(trained), "sure": known["sure"],
        }
        if not known["sure"] and self._glance is None and not self._by_hand:
            self._glance = _Glance(min(kept, key=lambda p: p.size))
        return times == OFTEN

    def _look_at_unheld(self, number: int) -> bool:
        """See whether weights that get gradients are nobody's: not in the optimizer, and the same some steps later.

        Those whose gradient nobody clears are surely nobody's; another optimizer may take its time.
        """
        if number == KEPT:
            held = {id(p) for p in self._optimizer.parameters}
            self._unheld = [
                (name, p, np.array(p.numpy())) for name, p in self._model.named_parameters()
                if p.trainable and id(p) not in held and p.grad is not None
            ]
        if number == LOOKED - 1 and self._unheld:
            self._of_unheld = _Glance(min((p for _, p, _ in self._unheld), key=lambda p: p.size))
        if number < LOOKED:
            return False
        cleared, self._of_unheld = self._ended(self._of_unheld), None
        self._unheld = [u for u in self._unheld if np.array_equal(u[1].numpy(), u[2])]
        if number == LOOKED and cleared is not False:
            return False
        still, self._unheld, last = self._unheld, [], len(self._record.losses) - 1
        if still:
            self._record.probes["unheld"] = {
                "names": [name for name, _, _ in still], "numbers": sum(p.size for _, p, _ in still),
                "of": sum(p.size for _, p in self._model.named_parameters() if p.trainable), "steps": last - KEPT,
                "step": last,
            }
        return bool(still)

    @staticmethod
    def _ended(glance: _Glance | None) -> bool | None:
        if glance is None:
            return None
        glance.end()
        return glance.again()

    def _used_by(self, _: Any) -> None:
        self._used += 1

    def _look_at_passes(self, number: int) -> None:
        """See whether the model ran in training mode, on the tape, for outputs that no backward pass comes to."""
        if self._followed > self._used:
            seen = self._record.probes.setdefault("idle_passes", {"times": 0, "layers": [], "step": 0})
            seen.update(times=seen["times"] + 1, layers=[path for path, on in self._modal.items() if on], step=number)
        self._several = self._passes > 1 and number < SECOND and any(self._modal.values())
        self._passes = self._followed = self._used = 0

    def _look_at_modes(self, number: int) -> None:
        """See whether layers that must train ran in inference mode."""
        asleep = [path for path, training in self._modal.items() if not training]
        self._asleep = self._asleep + 1 if asleep else 0
        if self._asleep:
            self._record.probes["inference_steps"] = {"times": self._asleep, "layers": asleep, "step": number}

    def _look_at_tail(self, loss: Tensor) -> bool:
        """See what stands between the model's output and the first loss."""
        probes = self._record.probes
        found = losstail.factors(loss, self.rows) if self.rows >= ROWS else []
        if found:
            probes["reduction"] = {"factor": max(found), "rows": self.rows}
            count = losstail.classes(loss)
            if count is not None and abs(max(found) * self.rows - 1.0) < 1e-3:
                probes["guessing"] = math.log(count)
        probes["stacked"] = losstail.stacked(loss)
        probes["broadcast"] = losstail.broadcast(loss, self.rows)
        return bool(probes["stacked"] or probes["broadcast"])

    def _find_origin(self, loss: Tensor, number: int) -> None:
        """Find where the first number that is not finite came from."""
        self._broken = True
        place = {"step": number, "epoch": len(self._record.epochs)}
        self._record.probes["broken"] = {**place, "growth": None}
        found = losstail.origin(loss)
        if found is not None:
            self._record.probes["origin"] = {
                **place, "pass": found.pass_, "layer": found.layer, "operation": found.operation, "rows": found.rows,
                "nan": found.nan, "infinite": found.infinite, "largest": found.largest,
            }


def alive() -> int:
    """Return how many steps of computation are kept by somebody, and a constant for their types."""
    # each instance holds its type: no walk over all objects of the process
    count, kinds = 0, [Node]
    for kind in kinds:
        kinds += kind.__subclasses__()
        count += sys.getrefcount(kind)
    return count
