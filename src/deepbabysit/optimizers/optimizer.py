"""The engine of every optimizer: packs parameters into flat buffers and runs an update rule over them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import numpy as np

from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import Tensor
from deepbabysit.errors import nearest, unknown_keywords
from deepbabysit.kernels import SPECS
from deepbabysit.kernels.spec import Array
from deepbabysit.kernels.updates import APPLY, AS_WRITTEN, FACTOR, NORM, PENALTY, SQUARES, host_control
from deepbabysit.optimizers.arguments import Check, above_zero, fraction, read_groups, tell_apart, understand
from deepbabysit.optimizers.flat import FlatBuffer, Member, Rule, arrays_for, averaged, copied, exported, pack, paths_of
from deepbabysit.optimizers.scaling import LossScale, accepted, scaling
from deepbabysit.optimizers.schedules import Schedule, get
from deepbabysit.runtime.context import CONFIGURATION, current, no_grad
from deepbabysit.runtime.funnel import call
from deepbabysit.runtime.random import advance
from deepbabysit.runtime.record import host_action
from deepbabysit.runtime.subnormals import flushed

_ADD, _PENALTY = SPECS["add"], SPECS["weight_penalty"]
_STATISTICS, _CLIP, _AVERAGE = SPECS["gradient_statistics"], SPECS["clip_control"], SPECS["average_update"]
_COMMON = ("parameters", "learning_rate", "clip_norm", "clip_value", "ema")
FORMAT = 1


class Optimizer(ABC):
    """Changes parameters from their gradients; `SGD`, `Adam` and the others are its rules.

    Made as in Keras, ``Adam(1e-3)``, and bound to parameters later, or as in PyTorch, ``Adam(model.parameters(),
    1e-3)``, also with groups ``[{"params": ..., "learning_rate": ..., "weight_decay": ...}]``, whose rates keep their
    ratio to the optimizer's when that changes.

    A step uses ``scale * gradient + gradient of the penalties (l1, l2)``, clipped. Parameters without a gradient and
    frozen ones are left alone with their states. All values stay on the device; `update` can be recorded.
    """

    __slots__ = (
        "_applied", "_clip_norm", "_clip_value", "_control", "_ema", "_flats", "_half", "_measure", "_members",
        "_pending", "_rule", "_scale", "_scaled", "_schedule", "_settings", "_skip", "_steps", "_swapped", "_tell",
        "_version",
    )

    _schedule: Schedule
    _steps: int
    _rule: Rule
    _flats: list[FlatBuffer]
    _members: list[Member]
    _settings: dict[str, Any]
    _clip_norm: float | None
    _clip_value: float | None
    _ema: float | None
    _measure: bool
    _skip: bool
    _scale: LossScale | None
    _scaled: bool
    _half: np.dtype[Any] | None

    name: ClassVar[str]
    checks: ClassVar[Mapping[str, Check]]  # settings of the rule: name -> check(what, value) -> value
    advice: ClassVar[Mapping[str, str]] = {}  # keywords that are refused with the right name
    start_rate: ClassVar[float]
    __deepcopy__ = copied

    @abstractmethod
    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return the update rule for these settings."""

    def __init__(
        self,
        parameters: Any,
        learning_rate: Any,
        settings: dict[str, Any],
        clip_norm: float | None,
        clip_value: float | None,
        ema: float | None,
        foreign: dict[str, Any],
    ) -> None:
        kind = type(self).__name__
        valid = (*_COMMON, *self.checks)
        meant = understand(kind, foreign, valid, self.advice)
        parameters, learning_rate = tell_apart(kind, parameters, learning_rate, meant)
        schedule = get(self.start_rate if learning_rate is None else learning_rate)
        start: dict[str, Any] = {
            "_settings": {}, "_schedule": schedule, "_flats": [], "_members": [], "_steps": 0, "_swapped": False,
            "_measure": False, "_skip": False, "_version": -1, "_pending": None, "_ema": None, "_clip_value": None,
            "_clip_norm": None, "_scale": None, "_scaled": False, "_half": None,
        }
        for slot, value in start.items():
            self._put(slot, value)
        self.clip_norm = meant.pop("clip_norm", clip_norm)
        self.clip_value = meant.pop("clip_value", clip_value)
        if ema is not None:
            self._put("_ema", fraction(f"{kind}: ema", ema))
        self._settings.update(self._checked({**settings, **meant}))
        self._put("_rule", self.rule(self._settings))
        if parameters is not None:
            self.bind(parameters)

    def _put(self, slot: str, value: Any) -> None:
        """Set a slot without the checks of `__setattr__`."""
        object.__setattr__(self, slot, value)

    # -- settings ------------------------------------------------------------------------------------------------------

    def _checked(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        kind = type(self).__name__
        if foreign := set(settings) - set(self.checks):
            raise TypeError(unknown_keywords(kind, foreign, self.checks))
        return {name: self.checks[name](f"{kind}: {name}", value) for name, value in settings.items()}

    def set(self, **settings: Any) -> None:
        """Change settings of the rule (``optimizer.set(beta_2=0.99)``); states stay. Recorded steps are made anew."""
        self._settings.update(self._checked(settings))
        self._put("_rule", self.rule(self._settings))
        for flat in self._flats:
            flat.fit_states(self._rule.states)
        CONFIGURATION.bump()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._settings:
            return self._settings[name]
        if name == "param_groups":
            raise AttributeError("param_groups is PyTorch's; use optimizer.learning_rate, optimizer.groups, set()")
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{self._hint(name)}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in type(self).checks:
            self.set(**{name: value})
        elif hasattr(type(self), name):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"{type(self).__name__} has no setting {name!r}{self._hint(name)}")

    def _hint(self, name: str) -> str:
        close = " or ".join(nearest(name, [*_COMMON[1:], *self.checks]))
        return f"; did you mean {close}?" if close else ""

    @property
    def learning_rate(self) -> Any:
        """The rate: a number, or the Schedule. Setting it keeps recorded steps; groups keep their ratio to it."""
        return self._schedule.base if self._schedule.name == "constant" else self._schedule

    @learning_rate.setter
    def learning_rate(self, value: Any) -> None:
        self._put("_schedule", get(value))

    @property
    def schedule(self) -> Schedule:
        """The schedule of the rate; a fixed rate is a constant one."""
        return self._schedule

    @property
    def current_rate(self) -> float:
        """The rate of the next step."""
        return self._rate_at(self._steps)

    def _rate_at(self, step: int) -> float:
        rate = self._schedule.rate(step)
        if 0.0 <= rate < math.inf:
            return rate
        raise ValueError(f"{self._schedule!r} gives the rate {rate} at step {step}; it must be finite, at least 0")

    @property
    def applied_rate(self) -> float:
        """The rate of the last step (of the next one before any)."""
        return self._rate_at(max(self._steps - 1, 0))

    @property
    def steps(self) -> int:
        """How many steps were prepared."""
        return self._steps

    @property
    def clip_norm(self) -> float | None:
        """Limit of the norm of all gradients together (penalties included), or None."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float | None) -> None:
        self._set_clip("_clip_norm", value)

    @property
    def clip_value(self) -> float | None:
        """Limit of the absolute value of each gradient (penalties included), or None."""
        return self._clip_value

    @clip_value.setter
    def clip_value(self, value: float | None) -> None:
        self._set_clip("_clip_value", value)

    def _set_clip(self, slot: str, value: float | None) -> None:
        checked = None if value is None else above_zero(f"{type(self).__name__}: {slot[1:]}", value)
        other = self._clip_value if slot == "_clip_norm" else self._clip_norm
        if checked is not None and other is not None:
            raise ValueError(f"{type(self).__name__}: give clip_norm or clip_value, not both")
        if (checked is None) != (getattr(self, slot) is None):
            CONFIGURATION.bump()  # the number itself lies in the control array
        self._put(slot, checked)

    @property
    def ema(self) -> float | None:
        """Decay of the moving average of the weights, or None."""
        return self._ema

    @property
    def measure(self) -> bool:
        """Whether each update measures the gradients (`report`, `gradient_norms`); no bit of the training changes."""
        return self._measure

    @measure.setter
    def measure(self, value: bool) -> None:
        self._switch("_measure", value)

    @property
    def skip_nonfinite(self) -> bool:
        """Whether a step with a gradient that is not finite changes nothing (loss scaling); else it is applied."""
        return self._skip

    @skip_nonfinite.setter
    def skip_nonfinite(self, value: bool) -> None:
        self._switch("_skip", value)

    def scale_loss(self, on: bool = True) -> None:
        """Expect gradients of a loss times `loss_scale` (float16); a step whose gradients overflow changes nothing."""
        if on != self._scaled:
            self._switch("_scaled", on)
            self._put("_scale", LossScale(self._flats[0].device) if on and self._flats else None)

    def compute_in(self, half: np.dtype[Any] | None) -> None:
        """Keep copies of the parameters in half precision, written by each update, and gradients in that dtype."""
        if half != self._half:
            self._put("_half", half)
            if self._flats:
                self._pack(self._members)
                CONFIGURATION.bump()

    @property
    def loss_scale(self) -> LossScale | None:
        """The scale of the loss (``loss.backward(optimizer.loss_scale.tensor)``); None where it is not scaled."""
        return self._scale

    def _switch(self, slot: str, value: bool) -> None:
        if bool(value) != getattr(self, slot):
            self._put(slot, bool(value))
            CONFIGURATION.bump()

    # -- parameters ----------------------------------------------------------------------------------------------------

    @property
    def bound(self) -> bool:
        """Whether it has parameters."""
        return bool(self._flats)

    @property
    def parameters(self) -> list[Parameter]:
        """The parameters, each once, in the order given."""
        return [member.parameter for member in self._members]

    @property
    def groups(self) -> list[dict[str, Any]]:
        """What holds for each group: names of its parameters, factor on the rate, weight decay."""
        paths = self._paths()
        common = self._settings.get("weight_decay", 0.0)
        found: dict[int, dict[str, Any]] = {}
        for member in self._members:
            decay = common if member.weight_decay is None else member.weight_decay
            start: dict[str, Any] = {"params": [], "rate": member.multiplier, "weight_decay": decay}
            found.setdefault(member.group, start)["params"].append(paths[id(member.parameter)])
        return list(found.values())

    def _paths(self) -> dict[int, str]:
        """Return ``id(parameter)`` -> its path, or its place in the list where it has none of its own."""
        return paths_of(self._members)

    def bind(self, parameters: Any) -> None:
        """Take parameters (or groups of them) and pack them into flat buffers: one per dtype, identical ones once.

        Binding again to the same parameters changes nothing, their groups included; to more or fewer, the states of
        those that stay are kept. Another optimizer that packed them before takes them back at its own next step.

        Raises:
            ValueError: there are no parameters, or only others than it has trained so far.
            TypeError: something else than parameters was given.
        """
        kind = type(self).__name__
        members = read_groups(kind, parameters, self._schedule, "weight_decay" in self.checks)
        if self._members:
            known = {id(m.parameter) for m in self._members}
            given = {id(m.parameter) for m in members}
            if not known & given:
                raise ValueError(f"this {kind} already trains other parameters; make a new {kind} for these")
            if known == given and all(m.multiplier == 1.0 and m.weight_decay is None for m in members):
                self._follow()
                return
        self._pack(members)
        state = self._pending
        if state is not None:
            self._put("_pending", None)
            self.load_state_dict(state)

    def _pack(self, members: list[Member]) -> None:
        """Make new flat buffers; what is known of parameters that stay comes along."""
        kept = {
            id(m.parameter): flat.exports(index) for flat in self._flats for index, m in enumerate(flat.members)
        }
        flats = pack(type(self).__name__, members, self._rule.states, self._ema is not None, self._half)
        for flat in flats:
            for index, member in enumerate(flat.members):
                flat.imports(index, kept.get(id(member.parameter), {}))
        device = flats[0].device
        self._put("_members", members)
        self._put("_flats", flats)
        self._put("_control", device.asarray(host_control(0, 0.0)))
        self._put("_tell", device.writer(self._control))
        self._put("_applied", device.asarray(host_control(0, 0.0)))
        self._put("_scale", LossScale(device, scaling(self)) if self._scaled else None)
        self._put("_version", CONFIGURATION.count)

    def _follow(self) -> None:
        """Follow what changed since the last step: freezing, settings of parameters, memory, device."""
        if CONFIGURATION.count == self._version:
            return
        if any(flat.moved() for flat in self._flats):
            self._pack(self._members)
        for flat in self._flats:
            flat.place()
            flat.forget_tables()
        self._put("_version", CONFIGURATION.count)

    def _need_parameters(self) -> None:
        if not self._flats:
            kind = type(self).__name__
            raise RuntimeError(
                f"this {kind} has no parameters yet: make it with {kind}(model.parameters(), ...), or call "
                f"bind(model.parameters())"
            )

    # -- a step --------------------------------------------------------------------------------------------------------

    def step(self, scale: float = 1.0) -> None:
        """Do one update from the gradients in ``.grad``, and move the random streams on to the next step.

        Arguments:
            scale: factor on the gradients (``1 / k`` after summing those of `k` micro-batches).

        Raises:
            RuntimeError: no parameter has a gradient, or the optimizer has no parameters.
        """
        self._need_parameters()
        host_action(partial(self.prepare, scale), before=True)
        self.update()
        host_action(advance, before=False)

    def zero_grad(self) -> None:
        """Forget all gradients (``.grad`` becomes None)."""
        for member in self._members:
            member.parameter.grad = None

    def gradients(self) -> list[Array]:
        """Return the flat buffers in which gradients accumulate (raw arrays): between backward and update."""
        return [flat.g for flat in self._flats]

    def prepare(self, scale: float = 1.0) -> None:
        """Do the host's part of a step: count it, ask the schedule, write the control array that `update` reads.

        Arguments:
            scale: factor on the gradients, such as ``1 / (micro-batches * loss scale)``.
        """
        if self._swapped:
            raise RuntimeError("a step inside ema_weights() would be lost when the weights come back; leave it first")
        if CONFIGURATION.count != self._version:  # so it is before there are parameters
            self._need_parameters()
            self._follow()
        rate = self._rate_at(self._steps)
        object.__setattr__(self, "_steps", self._steps + 1)
        limits = self._clip_norm or math.inf, self._clip_value or math.inf
        self._tell(self._steps, rate, scale, *limits, self._skip or self._scaled, *AS_WRITTEN)

    @flushed()
    def update(self) -> None:
        """Do the device's part of a step: kernel calls only, so that it can be recorded. `prepare` comes first.

        Raises:
            RuntimeError: no parameter has a gradient.
        """
        self._need_parameters()
        patterns = [flat.collect() for flat in self._flats]
        if not any(map(any, patterns)):
            raise RuntimeError(
                "no parameter of this optimizer has a gradient: call loss.backward() before the step, on a loss that "
                "was computed from these parameters while they are not frozen"
            )
        decay = self._settings.get("weight_decay", 0.0)
        tables = [flat.table(pattern, decay) for flat, pattern in zip(self._flats, patterns, strict=True)]
        scale = self._scale
        if scale is not None:
            scale.unscale(self._control)
        control = self._reduce(tables) if self._reduces else self._control
        if scale is not None:
            scale.judge(control)
        for flat, table, pattern in zip(self._flats, tables, patterns, strict=True):
            if any(pattern):
                flat.run(self._rule, control, table)
                flat.mark(f"{type(self).__name__}.step()", pattern)
        self._constrain()
        if self._ema is not None:
            for flat in self._flats:
                arrays, attrs = (control, flat.average, flat.w), {"decay": self._ema}
                call(flat.device, _AVERAGE, arrays, attrs, outs=(flat.average,))
        if scale is not None:
            scale.follow()

    @property
    def _reduces(self) -> bool:
        return self._clip_norm is not None or self._skip or self._measure or self._scaled

    def _reduce(self, tables: list[Array]) -> Array:
        """Measure all gradients, and finish the control array from that."""
        rows = []
        for flat, table in zip(self._flats, tables, strict=True):
            arrays = (self._control, table, flat.starts, flat.w, flat.g)
            rows += call(flat.device, _STATISTICS, arrays, outs=(flat.statistics,))
        return call(self._flats[0].device, _CLIP, (self._control, *rows), outs=(self._applied,))[0]

    def _constrain(self) -> None:
        """Apply the constraints of the parameters that were updated."""
        for member in self._members:
            parameter = member.parameter
            if parameter.constraint is not None and parameter.grad is not None and parameter.trainable:
                with no_grad():
                    parameter.assign(accepted(self, parameter.constraint(parameter), parameter), "a constraint")

    def penalty(self) -> Tensor:
        """Return the value of the penalties ``sum of l1 sum|w| + l2 sum w^2`` as a float64 tensor without axes.

        Made of kernel calls on the weights as they are now: ask before `update` for what belongs to a step's loss.
        """
        self._need_parameters()
        self._follow()
        device = self._flats[0].device
        decay = self._settings.get("weight_decay", 0.0)
        total: Array | None = None
        for flat in self._flats:
            if flat.penalized:
                table = flat.table((False,) * len(flat.members), decay)
                (value,) = call(device, _PENALTY, (table, flat.starts, flat.w))
                total = value if total is None else call(device, _ADD, (total, value))[0]
        return Tensor(device.constant(0.0, np.dtype(np.float64)) if total is None else total, device)

    @property
    def penalized(self) -> bool:
        """Whether a parameter has a penalty (else `penalty` is 0)."""
        return any(flat.penalized for flat in self._flats)

    # -- what was measured ---------------------------------------------------------------------------------------------

    def _host(self, array: Array, what: str) -> np.ndarray:
        recorder = current().recorder
        if recorder is not None:
            recorder.refuse(f"{what} reads values on the host, which a recorded step cannot repeat")
        return self._flats[0].device.to_host(array)

    def report(self) -> dict[str, Any]:
        """Return what the last update measured: norm of the gradient before clipping, factor, penalty, whether applied.

        Raises:
            RuntimeError: nothing is measured without ``clip_norm``, ``skip_nonfinite`` or ``measure``.
        """
        self._need_measures("report()")
        values = self._host(self._applied, "report()")
        return {
            "gradient_norm": float(values[NORM]),
            "clip_factor": float(values[FACTOR]),
            "penalty": float(values[PENALTY]),
            "applied": bool(values[APPLY]),
        }

    def gradient_norms(self) -> dict[str, float]:
        """Return the norm of each parameter's gradient in the last update (scaled, penalties included, not clipped)."""
        self._need_measures("gradient_norms()")
        names = self._paths()
        found: dict[str, float] = {}
        for flat in self._flats:
            squares = self._host(flat.statistics, "gradient_norms()")[SQUARES].tolist()
            found.update((names[id(m.parameter)], math.sqrt(s)) for m, s in zip(flat.members, squares, strict=True))
        return {name: found[name] for name in names.values()}

    def _need_measures(self, what: str) -> None:
        if not self._reduces:
            raise RuntimeError(f"{what} needs measured gradients: set optimizer.measure = True before the step")

    @property
    def control(self) -> Array:
        """The raw control array that `prepare` wrote for the next `update`: its step, rate and limits."""
        return self._control

    # -- averaged weights ----------------------------------------------------------------------------------------------

    @contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Put the averaged weights into the parameters for a block; the trained ones come back bit for bit.

        Raises:
            RuntimeError: the optimizer keeps no average.
        """
        self._need_parameters()
        if self._ema is None:
            raise RuntimeError(f"this optimizer keeps no average: make it with {type(self).__name__}(..., ema=0.999)")
        if self._swapped:
            raise RuntimeError("the averaged weights are in place")
        self._put("_swapped", True)
        try:
            with averaged(self._flats):
                yield
        finally:
            self._put("_swapped", False)

    # -- saving --------------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return name and settings as plain values (JSON); `deepbabysit.optimizers.get` makes the optimizer again.

        Raises:
            TypeError: the rate is computed by a function.
        """
        if not self._schedule.savable:
            raise TypeError("a rate computed by a function cannot be written into a file; use one of db.schedules")
        return self._config()

    def _config(self) -> dict[str, Any]:
        rate: Any = None
        if self._schedule.savable:
            rate = self._schedule.base if self._schedule.name == "constant" else self._schedule.config()
        limits = {"clip_norm": self._clip_norm, "clip_value": self._clip_value, "ema": self._ema}
        return {"name": self.name, "learning_rate": rate, **self._settings, **limits}

    def state_dict(self) -> dict[str, Any]:
        """Return everything a resume needs: plain values (JSON), and under ``"arrays"`` arrays by ``path/state``.

        A rate that is computed by a function is left out; `load_state_dict` then keeps the one in force.
        """
        return {
            "format": FORMAT, "config": self._config(), "steps": self._steps, "schedule": self._schedule.state_dict(),
            "arrays": exported(self._flats, self._paths()), "scaling": scaling(self),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state: steps, rate, settings and states of every parameter; bit for bit the same run.

        Before the optimizer has parameters the state waits for them.

        Raises:
            KeyError: parameters are missing or unknown; nothing is changed then.
            ValueError: it is the state of another optimizer, or a shape is another one; nothing is changed then.
        """
        config = state["config"]
        if state.get("format") != FORMAT:
            raise ValueError(f"this state has format {state.get('format')!r}; this version reads {FORMAT}")
        if config.get("name") != self.name:
            raise ValueError(f"this is the state of {config.get('name')!r}; it does not fit {type(self).__name__}")
        if config["ema"] != self._ema:
            raise ValueError(f"the state has ema={config['ema']}, this optimizer ema={self._ema}; give it the same")
        if not self._flats:
            self._put("_pending", state)
            return
        settings = self._checked({name: config[name] for name in self.checks if name in config})
        rule = self.rule({**self._settings, **settings})
        chosen = arrays_for(self._flats, self._paths(), state["arrays"], rule.states)
        if config["learning_rate"] is not None:
            self._put("_schedule", get(config["learning_rate"]))
        self._schedule.load_state_dict(state["schedule"])
        self._put("_clip_norm", None)
        self.clip_value = config["clip_value"]
        self.clip_norm = config["clip_norm"]
        self.set(**settings)
        self._put("_steps", int(state["steps"]))
        if self._scaled:
            self._put("_scale", LossScale(self._flats[0].device, state.get("scaling")))
        for flat, index, values in chosen:
            flat.imports(index, values)

    def __repr__(self) -> str:
        shown = {"learning_rate": self.learning_rate, **self._settings}
        shown.update({k: v for k, v in (("clip_norm", self._clip_norm), ("clip_value", self._clip_value)) if v})
        if self._ema is not None:
            shown["ema"] = self._ema
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"

