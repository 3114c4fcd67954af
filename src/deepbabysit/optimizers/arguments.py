"""What users hand to an optimizer: both spellings, groups of parameters, foreign names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from deepbabysit.autograd.parameter import Parameter
from deepbabysit.errors import unknown_keywords
from deepbabysit.optimizers.flat import Member
from deepbabysit.optimizers.schedules import Schedule, check_rate, get

Check = Callable[[str, Any], Any]

GROUP_KEYS = ("params", "learning_rate", "rate", "weight_decay")
# Spellings of PyTorch and Keras that mean exactly the same.
_SAME = {"lr": "learning_rate", "eps": "epsilon", "global_clipnorm": "clip_norm", "clipvalue": "clip_value"}
_REFUSED = {
    "clipnorm": "clips each parameter by itself in Keras; clip_norm= clips the norm of all gradients together",
    "amsgrad": "is not offered; leave it out",
    "use_ema": "is spelled ema=0.999 (the decay of the average)",
    "ema_momentum": "is spelled ema=0.999 (the decay of the average)",
    "dampening": "is not offered; leave it out (0 is what is computed)",
    "maximize": "is not offered; change the sign of the loss",
    "centered": "is not offered; leave it out",
    "decay": "is not offered; give a schedule as learning_rate, or weight_decay= to shrink weights",
    "gradient_accumulation_steps": "belongs to fit: fit(accumulate=...)",
    "loss_scale_factor": "follows from the precision: compile(precision=...)",
}
_IGNORED = ("foreach", "fused", "capturable", "differentiable", "jit_compile", "name")


def fraction(what: str, value: Any) -> float:
    """Check a decay rate such as beta or rho: at least 0, below 1."""
    number = _number(what, value)
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{what} must be at least 0 and below 1; got {value!r}")
    return number


def above_zero(what: str, value: Any) -> float:
    """Check a number above 0."""
    number = _number(what, value)
    if not 0.0 < number < np.inf:
        raise ValueError(f"{what} must be above 0 and finite; got {value!r}")
    return number


def not_negative(what: str, value: Any) -> float:
    """Check a number of at least 0."""
    number = _number(what, value)
    if not 0.0 <= number < np.inf:
        raise ValueError(f"{what} must be at least 0 and finite; got {value!r}")
    return number


def truth(what: str, value: Any) -> bool:
    """Check a switch."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{what} must be True or False; got {value!r}")
    return bool(value)


def _number(what: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{what} must be a number; got {value!r}")
    return float(value)


def tell_apart(kind: str, parameters: Any, learning_rate: Any, meant: dict[str, Any]) -> tuple[Any, Any]:
    """Return parameters and rate of a call in either spelling; `meant` loses what belongs to them."""
    parameters = meant.pop("parameters", parameters)
    if parameters is not None and _is_rate(parameters):
        if learning_rate is not None or "learning_rate" in meant:
            raise TypeError(
                f"{kind} takes a rate, {kind}(1e-3), or parameters and a rate, {kind}(model.parameters(), 1e-3); "
                f"got a rate twice"
            )
        return None, parameters
    return parameters, meant.pop("learning_rate", learning_rate)


def _is_rate(value: Any) -> bool:
    """Tell whether a first argument is a rate (Keras' spelling) and not parameters (PyTorch's)."""
    if isinstance(value, int | float | np.integer | np.floating | str | Schedule):
        return True
    if isinstance(value, Mapping):
        return "params" not in value
    return callable(value) and not hasattr(value, "__iter__") and not hasattr(value, "parameters")


def understand(kind: str, foreign: dict[str, Any], valid: Iterable[str], advice: Mapping[str, str]) -> dict[str, Any]:
    """Return keywords in foreign spellings by our names; refuse the rest with the right name."""
    names = list(valid)
    meant: dict[str, Any] = {}
    rest = []
    for name, value in foreign.items():
        if name in advice:
            raise TypeError(f"{kind}: {name}= {advice[name]}")
        if name == "betas" and "beta_1" in names:
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise TypeError(f"{kind}: betas is a pair such as (0.9, 0.999), or beta_1= and beta_2=; got {value!r}")
            meant["beta_1"], meant["beta_2"] = value
        elif name == "alpha" and "rho" in names:
            meant["rho"] = value
        elif name == "params":
            meant["parameters"] = value
        elif _SAME.get(name) in names:
            meant[_SAME[name]] = value
        elif name in ("amsgrad", "maximize", "centered", "use_ema", "decay") and not value:
            continue
        elif name in _REFUSED:
            raise TypeError(f"{kind}: {name}= {_REFUSED[name]}")
        elif name not in _IGNORED:
            rest.append(name)
    if rest:
        raise TypeError(unknown_keywords(kind, rest, names))
    return meant


def read_groups(kind: str, parameters: Any, base: Schedule, decays: bool) -> list[Member]:
    """Return the parameters, each once, with what their groups say.

    Arguments:
        kind: name of the optimizer, for messages.
        parameters: a model, parameters, or dicts with ``params`` and settings.
        base: the optimizer's schedule; rates of groups are relative to its nominal rate.
        decays: whether this optimizer has a weight decay.
    """
    if hasattr(parameters, "parameters"):
        raise TypeError(f"{kind} takes the parameters of a model: {kind}(model.parameters(), 1e-3)")
    if isinstance(parameters, Parameter):
        raise TypeError(f"{kind} takes a list of parameters; write [parameter] for a single one")
    if isinstance(parameters, Mapping):
        raise TypeError(f"{kind} takes a list of groups; write [group] for a single one")
    items = list(parameters)
    if not items:
        raise ValueError(
            f"{kind} got no parameters. A model has them once its input shape is known: give input_shape= to the first "
            f"layer, or call the model once, before you make the optimizer"
        )
    groups = [_read_group(kind, item, base, decays) for item in items if isinstance(item, Mapping)]
    if groups and len(groups) != len(items):
        raise TypeError(f"{kind}: parameters and groups are mixed; put every one into a group {{'params': [...]}}")
    members: list[Member] = []
    seen: dict[int, int] = {}
    for number, (inside, multiplier, decay) in enumerate(groups or [(items, 1.0, None)]):
        for parameter in inside:
            _check_parameter(kind, parameter)
            first = seen.get(id(parameter))
            if first is None:
                seen[id(parameter)] = number
                members.append(Member(parameter, multiplier, decay, number))
            elif first != number:
                raise ValueError(f"{kind}: {parameter.name or 'a parameter'} is in two groups; keep it in one")
    return members


def _check_parameter(kind: str, parameter: Any) -> None:
    if not isinstance(parameter, Parameter):
        hint = " (a pair of name and parameter: use parameters() instead)" if isinstance(parameter, tuple) else ""
        raise TypeError(f"{kind} changes parameters; got {type(parameter).__name__}{hint}")
    if parameter.device.abstract:
        raise ValueError(f"{kind}: {parameter.name or 'a parameter'} has no values yet; build the model first")
    if parameter.dtype.name not in ("float32", "float64"):
        raise TypeError(
            f"{kind} keeps parameters in float32 or float64; {parameter.name or 'a parameter'} is {parameter.dtype}. "
            f"To compute in lower precision use compile(precision=...)"
        )


def _read_group(
    kind: str, group: Mapping[str, Any], base: Schedule, decays: bool
) -> tuple[list[Parameter], float, float | None]:
    settings = {("learning_rate" if key == "lr" else key): value for key, value in group.items()}
    foreign = [key for key in settings if key not in GROUP_KEYS]
    if foreign:
        raise TypeError(unknown_keywords(f"{kind}: a group", foreign, GROUP_KEYS))
    if "params" not in settings:
        raise TypeError(f"{kind}: a group needs 'params', a list of parameters")
    inside = settings["params"]
    inside = [inside] if isinstance(inside, Parameter) else list(inside)
    multiplier = check_rate(settings.get("rate", 1.0), f"{kind}: rate of a group")
    if "learning_rate" in settings:
        own = get(settings["learning_rate"])
        if own.name != "constant":
            raise TypeError(
                f"{kind}: the learning_rate of a group is a number; schedules belong to the optimizer, and groups keep "
                f"their ratio to it"
            )
        if base.base == 0.0:
            if own.base:
                raise ValueError(
                    f"{kind}: the learning_rate of a group is kept as a ratio to the optimizer's, which is 0; "
                    f"give the optimizer a rate above 0"
                )
        else:
            multiplier *= own.base / base.base
    decay = settings.get("weight_decay")
    if decay is not None:
        if not decays:
            raise TypeError(f"{kind} has no weight_decay; use AdamW, SGD or Lion for it")
        decay = not_negative(f"{kind}: weight_decay of a group", decay)
    return inside, multiplier, decay
