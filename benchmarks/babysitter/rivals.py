"""What repair has to beat with as many trainings: random search, and the setup that everybody tries.

Both choose by the validation score, as repair does, and the program as it stands is their first training. Neither looks
at a finding; what `fit` refuses stays refused unless a draw happens to mend it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from deepbabysit.babysit import changes
from deepbabysit.babysit.changes import Change
from deepbabysit.babysit.preparation import Prepared as Rows
from deepbabysit.babysit.preparation import Score
from deepbabysit.babysit.setup import Setup

Said = Callable[[Any], np.ndarray]
RATES = (-4.5, -1.0)  # powers of ten between which rates are drawn
BATCHES, WIDTHS, EPOCHS = (16, 32, 64, 128), (0.5, 1.0, 2.0), (1, 2, 4)
ACTIVATIONS, STARTS = ("relu", "tanh", "elu"), ("he_normal", "glorot_uniform", "orthogonal")
OPTIMIZERS = {"adam": {}, "sgd": {"momentum": 0.9}, "rmsprop": {}}  # what each is drawn with


def usual(numbers: int = 1) -> Change:
    """Return the change that everybody tries: Adam 1e-3, He, standardized inputs.

    Arguments:
        numbers: 1 where the inputs are numbers, 0 where they are tokens.
    """
    return changes.both(
        changes.optimizer("adam", 1e-3), changes.initialize("he_normal"),
        *(changes.scale_inputs("zscore") for _ in range(numbers)),
    )


def drawn(setup: Setup, rng: np.random.Generator, numbers: int = 1) -> Change:
    """Return a random setup: optimizer, rate, batch, epochs, width, activation, start, dropout, penalty, scaling."""
    name = str(rng.choice(list(OPTIMIZERS)))
    parts = [
        changes.optimizer(name, float(10.0 ** rng.uniform(*RATES)), **OPTIMIZERS[name]),
        changes.fields(batch_size=int(rng.choice(BATCHES)), epochs=int(rng.choice(EPOCHS)) * setup.epochs),
        changes.widen(float(rng.choice(WIDTHS))), changes.activate(str(rng.choice(ACTIVATIONS))),
        changes.initialize(str(rng.choice(STARTS))),
    ]
    parts += [changes.add_dropout(0.2)] if rng.random() < 0.3 else [changes.dropout_at_most(0.0)]
    parts += [changes.penalty(float(rng.choice([0.0, 0.1, 1.0])))]
    parts += [changes.scale_inputs("zscore")] if numbers and rng.random() < 0.5 else []
    return changes.both(*parts)


def best_of(setup: Setup, tries: Iterable[Setup], x: Any, y: Any, held: tuple[Any, Any]) -> tuple[Said | None, float]:
    """Return what the best of these trainings (and of the setup as it is) says about inputs, and all passes."""
    best: tuple[Score, Rows, Any] | None = None
    passes = 0.0
    for one in (setup, *tries):
        try:
            data = one.prepare(x, y, held)
            model, history, score = one.fit(x, y, held, prepared=data)
        except (TypeError, ValueError, RuntimeError):
            continue  # refused
        passes += len(history.epoch)
        if score is not None and np.isfinite(score.value) and (best is None or score.better(best[0])):
            best = score, data, model
    if best is None:
        return None, passes
    _, rows, chosen = best
    return (lambda inputs: rows.predict(chosen, inputs)), passes


def rivals(setup: Setup, trainings: int, x: Any, y: Any, held: tuple[Any, Any]) -> dict[str, tuple[Said | None, float]]:
    """Return what each rival says with so many trainings, and its passes over the data.

    Arguments:
        setup: the program as it stands.
        trainings: that repair took, the first one included.
        x, y, held: as repair got them.
    """
    numbers = int(np.asarray(x).dtype.kind == "f")
    rng = np.random.default_rng(setup.seed)
    more = range(max(trainings - 1, 0))
    found = {"random search": [_made(drawn(setup, rng, numbers), setup, 0) for _ in more]}
    found["Adam 1e-3, He, standardized inputs"] = [_made(usual(numbers), setup, seed) for seed in more]
    return {name: best_of(setup, tries, x, y, held) for name, tries in found.items()}


def _made(change: Change, setup: Setup, again: int) -> Setup:
    done = change(setup)
    return done.with_(seed=setup.seed + again)
