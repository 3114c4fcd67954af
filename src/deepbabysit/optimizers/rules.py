"""The optimizers: each names its update rule and the settings of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, final

from deepbabysit.optimizers.arguments import Check, above_zero, fraction, not_negative, truth
from deepbabysit.optimizers.flat import Rule
from deepbabysit.optimizers.optimizer import Optimizer

_USE_ADAMW = {
    "weight_decay": "means two different things elsewhere; for decoupled decay use AdamW(weight_decay=...), for an L2 "
    "penalty kernel_regularizer=db.regularizers.l2(...) in the layers"
}


@final
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if wanted: ``v = mu v + g; w -= lr v`` (PyTorch's form).

    With ``nesterov=True``: ``w -= lr (g + mu v)``. Polyak 1964; Sutskever et al., ICML 2013. Keras folds the rate into
    `v`, which differs when the rate changes.

    Arguments:
        parameters: parameters or groups, or the rate (Keras' spelling).
        learning_rate: a number or a schedule; 0.01 if not given.
        momentum: ``mu``, at least 0 and below 1.
        nesterov: look ahead along the momentum.
        weight_decay: added to the gradient as ``weight_decay * w``, after clipping (PyTorch's L2).
        clip_norm: limit of the norm of all gradients together.
        clip_value: limit of each gradient's absolute value.
        ema: decay of a moving average of the weights, such as 0.999.

    Raises:
        TypeError, ValueError: an argument is unknown, of the wrong kind, or out of range.

    >>> from deepbabysit.optimizers import SGD
    >>> SGD(0.1, momentum=0.9)
    SGD(learning_rate=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    __slots__ = ()
    name = "sgd"
    start_rate = 0.01
    checks: ClassVar[Mapping[str, Check]] = {"momentum": fraction, "nesterov": truth, "weight_decay": not_negative}

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, momentum: float = 0.0, nesterov: bool = False,
        weight_decay: float = 0.0, clip_norm: float | None = None, clip_value: float | None = None,
        ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return plain descent, or descent with a velocity."""
        momentum, nesterov = settings["momentum"], settings["nesterov"]
        if not momentum:
            if nesterov:
                raise ValueError("SGD: nesterov=True needs a momentum, such as momentum=0.9")
            return Rule("sgd_update", {}, {})
        return Rule("momentum_update", {"velocity": 0.0}, {"momentum": momentum, "nesterov": nesterov})


@final
class Adagrad(Optimizer):
    """Adagrad: ``s += g^2; w -= lr g / (sqrt(s) + epsilon)``.

    Duchi, Hazan and Singer, JMLR 12 (2011). `s` starts at 0 as in PyTorch (Keras: 0.1).

    Arguments:
        parameters, learning_rate, weight_decay, clip_norm, clip_value, ema: as in `SGD`; the rate is 0.01 if not given.
        epsilon: keeps the division finite, above 0.
        initial_accumulator_value: what `s` starts with.

    >>> from deepbabysit.optimizers import Adagrad
    >>> Adagrad(0.1).epsilon
    1e-10
    """

    __slots__ = ()
    name = "adagrad"
    start_rate = 0.01
    checks: ClassVar[Mapping[str, Check]] = {
        "epsilon": above_zero, "initial_accumulator_value": not_negative, "weight_decay": not_negative,
    }

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, epsilon: float = 1e-10,
        initial_accumulator_value: float = 0.0, weight_decay: float = 0.0, clip_norm: float | None = None,
        clip_value: float | None = None, ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {
            "epsilon": epsilon, "initial_accumulator_value": initial_accumulator_value, "weight_decay": weight_decay
        }
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return Adagrad's rule."""
        start = settings["initial_accumulator_value"]
        return Rule("adagrad_update", {"total": start}, {"epsilon": settings["epsilon"]})


@final
class RMSprop(Optimizer):
    """RMSprop: ``s = rho s + (1 - rho) g^2; w -= lr g / (sqrt(s) + epsilon)``.

    Tieleman and Hinton, lecture 6.5 of "Neural networks for machine learning" (2012). With a momentum the quotient goes
    through ``v = mu v + ...; w -= lr v``. PyTorch calls `rho` alpha and sets it to 0.99.

    Arguments:
        parameters, learning_rate, weight_decay, clip_norm, clip_value, ema: as in `SGD`; the rate is 1e-3 if not given.
        rho: decay of the mean square.
        momentum: ``mu``, or 0 for none.
        epsilon: keeps the division finite (outside the root), above 0.

    >>> from deepbabysit.optimizers import RMSprop
    >>> RMSprop().rho
    0.9
    """

    __slots__ = ()
    name = "rmsprop"
    start_rate = 1e-3
    checks: ClassVar[Mapping[str, Check]] = {
        "rho": fraction, "momentum": fraction, "epsilon": above_zero, "weight_decay": not_negative
    }

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, rho: float = 0.9, momentum: float = 0.0,
        epsilon: float = 1e-8, weight_decay: float = 0.0, clip_norm: float | None = None,
        clip_value: float | None = None, ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"rho": rho, "momentum": momentum, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return the rule with or without a velocity."""
        attrs = {"rho": settings["rho"], "epsilon": settings["epsilon"]}
        if not settings["momentum"]:
            return Rule("rmsprop_update", {"square": 0.0}, attrs)
        attrs["momentum"] = settings["momentum"]
        return Rule("rmsprop_momentum_update", {"square": 0.0, "velocity": 0.0}, attrs)


@final
class Adadelta(Optimizer):
    """Adadelta: ``d = sqrt(u + eps) / sqrt(s + eps) g; w -= lr d``, `s` and `u` running means of ``g^2`` and ``d^2``.

    Zeiler, arXiv 1212.5701 (2012), whose `rho` and `epsilon` are the defaults. PyTorch has rho 0.9, Keras a rate of
    0.001.

    Arguments:
        parameters, learning_rate, weight_decay, clip_norm, clip_value, ema: as in `SGD`; the rate is 1 if not given.
        rho: decay of both means.
        epsilon: inside both roots, above 0.

    >>> from deepbabysit.optimizers import Adadelta
    >>> Adadelta().learning_rate
    1.0
    """

    __slots__ = ()
    name = "adadelta"
    start_rate = 1.0
    checks: ClassVar[Mapping[str, Check]] = {"rho": fraction, "epsilon": above_zero, "weight_decay": not_negative}

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, rho: float = 0.95, epsilon: float = 1e-6,
        weight_decay: float = 0.0, clip_norm: float | None = None, clip_value: float | None = None,
        ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"rho": rho, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return Adadelta's rule."""
        attrs = {"rho": settings["rho"], "epsilon": settings["epsilon"]}
        return Rule("adadelta_update", {"square": 0.0, "change": 0.0}, attrs)


_BETAS: Mapping[str, Check] = {"beta_1": fraction, "beta_2": fraction, "epsilon": above_zero}
_MOMENTS = {"m": 0.0, "v": 0.0}


@final
class Adam(Optimizer):
    """Adam: ``w -= lr m^ / (sqrt(v^) + epsilon)``, bias-corrected means ``m^`` of the gradient, ``v^`` of its square.

    Kingma and Ba, ICLR 2015. `epsilon` is added after the bias-corrected root (paper, PyTorch). Steps are counted for
    each parameter, so that one that is unfrozen later starts with its own bias correction.

    Arguments:
        parameters, learning_rate, clip_norm, clip_value, ema: as in `SGD`; the rate is 1e-3 if not given.
        beta_1, beta_2: decay of the two means (``betas=(0.9, 0.999)`` is understood).
        epsilon: keeps the division finite, above 0.

    Raises:
        TypeError: `weight_decay` is given: use `AdamW`.

    >>> from deepbabysit.optimizers import Adam
    >>> Adam(1e-3)
    Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-08)
    """

    __slots__ = ()
    name = "adam"
    start_rate = 1e-3
    checks = _BETAS
    advice: ClassVar[Mapping[str, str]] = _USE_ADAMW

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-8, clip_norm: float | None = None, clip_value: float | None = None,
        ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return Adam's rule."""
        return Rule("adam_update", _MOMENTS, dict(settings))


@final
class AdamW(Optimizer):
    """Adam with decoupled weight decay: ``w -= lr weight_decay w``, then Adam's step.

    Loshchilov and Hutter, ICLR 2019.

    Arguments:
        parameters, learning_rate, beta_1, beta_2, epsilon, clip_norm, clip_value, ema: as in `Adam`.
        weight_decay: strength of the decay (0.01 as in PyTorch; Keras 0.004).

    >>> from deepbabysit.optimizers import AdamW
    >>> AdamW(1e-3).weight_decay
    0.01
    """

    __slots__ = ()
    name = "adamw"
    start_rate = 1e-3
    checks: ClassVar[Mapping[str, Check]] = {**_BETAS, "weight_decay": not_negative}

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-8, weight_decay: float = 0.01, clip_norm: float | None = None,
        clip_value: float | None = None, ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return the rule with decoupled decay."""
        return Rule("adamw_update", _MOMENTS, {name: settings[name] for name in _BETAS})


@final
class NAdam(Optimizer):
    """Adam with Nesterov momentum, and Dozat's schedule of the momentum (as in PyTorch and Keras).

    ``mu_t = beta_1 (1 - 0.96^(t momentum_decay) / 2)``. Dozat, ICLR workshop 2016.

    Arguments:
        parameters, learning_rate, beta_1, beta_2, epsilon, clip_norm, clip_value, ema: as in `Adam` (PyTorch's rate is
            2e-3).
        momentum_decay: how fast the momentum rises to `beta_1`.

    >>> from deepbabysit.optimizers import NAdam
    >>> NAdam().momentum_decay
    0.004
    """

    __slots__ = ()
    name = "nadam"
    start_rate = 1e-3
    checks: ClassVar[Mapping[str, Check]] = {**_BETAS, "momentum_decay": not_negative}
    advice: ClassVar[Mapping[str, str]] = _USE_ADAMW

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-8, momentum_decay: float = 0.004, clip_norm: float | None = None,
        clip_value: float | None = None, ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "momentum_decay": momentum_decay}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return NAdam's rule."""
        return Rule("nadam_update", _MOMENTS, dict(settings))


@final
class Lion(Optimizer):
    """Lion: ``w -= lr (sign(beta_1 m + (1 - beta_1) g) + weight_decay w); m = beta_2 m + (1 - beta_2) g``.

    Chen et al., NeurIPS 2023. Every weight moves by the rate, so that the rate is 3 to 10 times smaller than Adam's.

    Arguments:
        parameters, learning_rate, clip_norm, clip_value, ema: as in `SGD`; the rate is 1e-4 if not given.
        beta_1, beta_2: weights of the momentum in the step and in its own mean.
        weight_decay: decoupled decay.

    >>> from deepbabysit.optimizers import Lion
    >>> Lion().learning_rate
    0.0001
    """

    __slots__ = ()
    name = "lion"
    start_rate = 1e-4
    checks: ClassVar[Mapping[str, Check]] = {"beta_1": fraction, "beta_2": fraction, "weight_decay": not_negative}

    def __init__(
        self, parameters: Any = None, learning_rate: Any = None, *, beta_1: float = 0.9, beta_2: float = 0.99,
        weight_decay: float = 0.0, clip_norm: float | None = None, clip_value: float | None = None,
        ema: float | None = None, **foreign: Any,
    ) -> None:
        settings = {"beta_1": beta_1, "beta_2": beta_2, "weight_decay": weight_decay}
        super().__init__(parameters, learning_rate, settings, clip_norm, clip_value, ema, foreign)

    def rule(self, settings: Mapping[str, Any]) -> Rule:
        """Return Lion's rule."""
        return Rule("lion_update", {"m": 0.0}, {"beta_1": settings["beta_1"], "beta_2": settings["beta_2"]})
