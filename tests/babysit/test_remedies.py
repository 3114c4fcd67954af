"""What remedies do is what they say: the setup changes, can be written and built, and the finding is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.babysit import changes, remedies
from deepbabysit.babysit.finding import Finding, Remedy
from deepbabysit.babysit.setup import Setup, setup_of
from deepbabysit.babysit.vitals import Record, RunFacts

L = db.layers
ROWS = 240


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of three classes around different centers."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, ROWS)
    return (rng.normal(size=(ROWS, 6)) + 1.5 * np.eye(3, 6)[y]).astype(np.float32), y


def net(*layers: Any, loss: str = "sparse_categorical_crossentropy", optimizer: Any = "adam") -> Any:
    stack = layers or (L.Dense(16, "relu", input_shape=6), L.Dense(16, "relu"), L.Dense(3, "softmax"))
    return db.Sequential(list(stack)).compile(optimizer, loss, [] if loss == "mse" else ["accuracy"])


def dense(*units: int, last: Any = None, **options: Any) -> Any:
    activation = options.pop("activation", "relu")
    stack = [L.Dense(n, activation, **options) for n in units]
    return [L.Flatten(input_shape=6), *stack, last or L.Dense(3, "softmax")]


x0, y0 = table()
held = (x0[180:], y0[180:])
x0, y0 = x0[:180], y0[:180]


def scaled_by(factor: float) -> Any:
    return x0 * factor, y0, (held[0] * factor, held[1])


def holes() -> Any:
    x = x0.copy()
    x[3, 1] = x[70, 2] = np.nan
    return x, y0, held


def amounts(scale: float, offset: float) -> Any:
    y = ((x0[:, :1] + x0[:, 1:2]) * scale + offset).astype(np.float32)
    return x0, y, None


def copied() -> Any:
    return np.concatenate((x0, x0[:60])), np.concatenate((y0, y0[:60])), held


def leaking() -> Any:
    return x0, y0, (np.concatenate((held[0], x0[:40])), np.concatenate((held[1], y0[:40])))


def telling() -> Any:
    def add(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[:, 5] = y
        return x

    x = np.random.default_rng(1).normal(size=x0.shape).astype(np.float32)
    return add(x, y0), y0, None


def constant() -> Any:
    x = x0.copy()
    x[:, 2] = 4.0
    return x, y0, None


def moved() -> Any:
    return x0[:-1], y0[1:], None


def rare() -> Any:
    rng = np.random.default_rng(0)
    y = (rng.random(ROWS) < 0.06).astype(int)
    return rng.normal(size=(ROWS, 6)).astype(np.float32), y, None


def drifted() -> Any:
    order = np.argsort(x0[:, 0])
    return x0[order[:120]], y0[order[:120]], (x0[order[120:]], y0[order[120:]])


plain = lambda: (x0, y0, held)  # noqa: E731
CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "pixels": (net, lambda: (np.round(np.clip(np.random.default_rng(0).normal(128, 60, (180, 6)), 0, 255)), y0, None),
               "input_not_normalized"),
    "unscaled": (net, lambda: scaled_by(300.0), "input_not_normalized"),
    "tiny": (net, lambda: scaled_by(0.004), "input_normalized_twice"),
    "holes": (net, holes, "nan_in_data"),
    "target": (lambda: net(*dense(16, last=L.Dense(1)), loss="mse"), lambda: amounts(500.0, 40_000.0),
               "target_not_normalized"),
    "copies": (net, copied, "duplicate_rows"),
    "leak": (net, leaking, "split_leak"),
    "drift": (net, drifted, "split_drift"),
    "telling": (net, telling, "feature_leak"),
    "constant": (net, constant, "constant_feature"),
    "shifted": (net, moved, "corrupted_labels"),
    "rare": (lambda: net(*dense(16, last=L.Dense(2, "softmax"))), rare, "class_imbalance"),
    "double": (lambda: net(loss="cross_entropy"), plain, "double_softmax"),
    "twice": (lambda: net(*dense(16), L.Activation("softmax")), plain, "double_softmax"),
    "bare": (lambda: net(*dense(16, last=L.Dense(3))), plain, "missing_output_activation"),
    "single": (lambda: net(*dense(16, last=L.Dense(1, "softmax")), loss="binary_crossentropy"),
               lambda: (x0, (y0 > 0).astype(np.float32)[:, None], None), "one_unit_softmax"),
    "rectified": (lambda: net(*dense(16, last=L.Dense(3, "relu")), loss="cross_entropy"), plain,
                  "wrong_loss_for_output"),
    "bounded": (lambda: net(*dense(16, last=L.Dense(1, "sigmoid")), loss="mse"), lambda: amounts(1.0, 0.0),
                "target_out_of_range"),
    "from one": (net, lambda: (x0, y0 + 1, None), "target_out_of_range"),
    "shapes": (lambda: net(*dense(16, last=L.Dense(1)), loss="mse"), lambda: (x0, x0[:, 0], None),
               "loss_shape_mismatch"),
    "linear": (lambda: net(*dense(16, 16, activation=None)), plain, "missing_hidden_activation"),
    "equal": (lambda: net(*dense(16, 16, kernel_initializer="zeros")), plain, "symmetric_init"),
    "large": (lambda: net(*dense(16, 16, 16, kernel_initializer=db.initializers.normal(stddev=3.0))), plain,
              "bad_init_scale"),
    "shrinking": (lambda: net(*dense(16, 16, 16, 16, 16, kernel_initializer=db.initializers.normal(stddev=0.06))),
                  plain, "unstable_activation_scale"),
    "biased": (lambda: net(*dense(16, 16, bias_initializer=db.initializers.constant(-30.0))), plain, "bad_bias_init"),
    "off": (lambda: net(*dense(16, last=L.Dense(3, "softmax", kernel_initializer=db.initializers.normal(stddev=30.0)))),
            plain, "initial_loss_off_chance"),
    "dropped": (lambda: net(*dense(16, last=L.Dropout(0.9)), L.Dense(3, "softmax")), plain, "dropout_too_high"),
    "slow norm": (lambda: net(L.Dense(16, input_shape=6), L.BatchNorm(momentum=0.999), L.Activation("relu"),
                              L.Dense(3, "softmax")), plain, "batchnorm_misuse"),
    "gate": (lambda: net(*dense(16, last=L.Dense(1, "softmax")), L.Dense(3, "softmax")), plain, "one_unit_softmax"),
    "forgetful norm": (lambda: net(L.Dense(16, use_bias=False, input_shape=6), L.BatchNorm(momentum=0.05),
                                   L.Activation("relu"), L.Dense(3, "softmax")), plain, "batchnorm_misuse"),
    "wide epsilon": (lambda: net(L.Dense(16, use_bias=False, input_shape=6), L.BatchNorm(momentum=0.9, epsilon=50.0),
                                 L.Activation("relu"), L.Dense(3, "softmax")), plain, "batchnorm_misuse"),
    "norm behind dropout": (lambda: net(L.Dense(16, "relu", input_shape=6), L.Dropout(0.4), L.BatchNorm(momentum=0.5),
                                        L.Dense(3, "softmax")), plain, "batchnorm_misuse"),
}


def found(setup: Setup, data: Any, code: str) -> Finding | None:
    """Check what a setup builds from what it prepares."""
    prepared = setup.prepare(*data)
    x = prepared.x[0]
    validation = None if prepared.validation is None else (prepared.validation[0][0], prepared.validation[1])
    model = setup.build(0)
    seen = db.babysit.check(model, x, prepared.y, validation, batch_size=16, epochs=20, budget=2.0,
                            class_weight=setup.class_weight)
    return next((f for f in seen if f.code == code), None)


@pytest.mark.parametrize("name", CASES)
def test_the_finding_is_gone_after_its_first_remedy(name: str) -> None:
    make, data, code = CASES[name]
    given = data()
    setup = setup_of(make(), epochs=20, batch_size=16)
    seen = found(setup, given, code)
    assert seen is not None, "the fault is not seen"
    able = [r for r in seen.remedies if r.apply is not None]
    assert able, "nothing can be applied"
    for number, remedy in enumerate(able):
        assert remedy.apply is not None
        changed = remedy.apply(setup)
        assert changed != setup
        text = json.loads(json.dumps(changed.as_dict()))
        assert Setup.from_dict(text, db.Model).as_dict() == changed.as_dict()
        if number == 0:
            after = found(changed, given, code)
            assert after is None or (seen.severity != "note" and after.severity == "note"), after
        else:
            changed.build(0)
        with pytest.raises(ValueError):
            remedy.apply(changed)  # nothing is done twice


def run(**facts: Any) -> Record:
    known: dict[str, Any] = {"rate": 0.02, "optimizer": "Adam", "batch_size": 128, "steps": 10, "epochs": 5, "l1": 0.1}
    return Record(run=RunFacts(**{**known, **facts}))


def strong() -> Any:
    penalty = db.regularizers.l1(0.1)
    return setup_of(net(L.Dense(16, "sigmoid", input_shape=6, kernel_regularizer=penalty), L.Dropout(0.8),
                        L.Dense(16, "tanh"), L.Dense(3, "softmax"), optimizer=db.optimizers.SGD(0.02)), batch_size=128,
                    epochs=5)


def rate(setup: Setup) -> float:
    return changes.first_rate(setup.optimizer)


SHARED: dict[str, tuple[Remedy, Callable[[Setup], bool]]] = {
    "slower": (remedies.slower(run()), lambda s: rate(s) == pytest.approx(0.002)),
    "faster": (remedies.faster(run())[0], lambda s: rate(s) == pytest.approx(0.2)),
    "set_rate": (remedies.set_rate(0.0123), lambda s: rate(s) == pytest.approx(0.012)),
    "clipping": (remedies.clipping(run()), lambda s: s.optimizer["clip_norm"] == 1.0 and rate(s) == 0.02),
    "adam": (remedies.adam(), lambda s: s.optimizer["name"] == "adam" and rate(s) == 1e-3),
    "decay": (remedies.decay(), lambda s: s.optimizer["weight_decay"] == 0.01),
    "dropout": (remedies.dropout(), lambda s: s.build().layers[1].rate == 0.8),
    "early_stop": (remedies.early_stop(), lambda s: s.patience == 5),
    "batches": (remedies.batches(32), lambda s: s.batch_size == 32),
    "weaker": (remedies.weaker_penalty("L1", 0.1), lambda s: s.build().layers[0].kernel.l1 == pytest.approx(1e-3)),
    "weights": (remedies.weigh_classes(), lambda s: s.class_weight == "balanced"),
    "norm": (remedies.batch_norm(), lambda s: [type(la).__name__ for la in s.build().layers].count("BatchNorm") == 2),
    "rectify": (remedies.rectify(), lambda s: [la.activation.name for la in s.build().layers if hasattr(la, "kernel")]
                == ["relu", "relu", "softmax"]),
    "initial": (remedies.initial("he_normal"), lambda s: s.model["layers"][2]["config"]["kernel_initializer"]
                == "he_normal"),
    "wider": (remedies.wider(), lambda s: s.build().layers[2].units == 32),
    "standardize": (remedies.standardize(), lambda s: s.inputs == ({"step": "zscore"},)),
    "target": (remedies.standardize_target(), lambda s: s.targets == ({"step": "zscore"},)),
    "split": (remedies.split_again(), lambda s: s.rows == ({"step": "resplit", "fraction": 0.2},)),
}


@pytest.mark.parametrize("name", SHARED)
def test_shared_remedies_do_what_they_say(name: str) -> None:
    remedy, holds = SHARED[name]
    before = strong()
    assert remedy.apply is not None
    if name == "dropout":  # what stands there already is stronger
        with pytest.raises(ValueError, match="already"):
            remedy.apply(before)
        return
    after = remedy.apply(before)
    assert holds(after)
    assert Setup.from_dict(json.loads(json.dumps(after.as_dict())), db.Model).as_dict() == after.as_dict()
    number = {"slower": "0.002", "faster": "0.2", "set_rate": "0.012", "weaker": "0.001"}.get(name)
    if number:
        assert number in remedy.text and number in remedy.code


def test_a_schedule_keeps_its_form_at_another_rate() -> None:
    warm = db.schedules.warmup(db.schedules.cosine(0.1, 100, minimum=0.01), 10)
    setup = setup_of(net(optimizer=db.optimizers.SGD(warm)))
    calm = changes.rate(0.01)(setup).build().optimizer.schedule
    assert [calm(s) for s in (0, 9, 50, 200)] == pytest.approx([warm(s) / 10 for s in (0, 9, 50, 200)])
    assert changes.optimizer("adam")(setup).optimizer["learning_rate"] == setup.optimizer["learning_rate"]
    fixed = setup_of(net(optimizer=db.optimizers.SGD(0.1, momentum=0.9)))
    assert changes.cosine(40)(fixed).build().optimizer.schedule(40) == 0.0
    assert changes.rate(0.01)(fixed).optimizer["momentum"] == 0.9


def test_constraints_are_taken_out() -> None:
    held = setup_of(net(L.Dense(16, input_shape=6, kernel_constraint="max_norm", bias_constraint="non_neg"),
                        L.Dense(3, "softmax")), batch_size=16, epochs=5)
    free = changes.unconstrained()(held)
    assert held.build().layers[0].kernel.constraint is not None
    assert all(p.constraint is None for p in free.build().parameters())
    with pytest.raises(ValueError):
        changes.unconstrained()(free)


def test_dropout_layers_and_heads_are_changed_where_they_are() -> None:
    setup = strong()
    assert changes.dropout_at_most(0.5)(setup).build().layers[1].rate == 0.5
    assert [type(la).__name__ for la in changes.add_dropout(0.2)(setup_of(net())).build().layers] == [
        "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    assert changes.deepen(7)(setup).build().layers[3].units == 7
    assert changes.penalty(0.0)(setup).build().layers[0].kernel.l1 == 0.0
    assert changes.normalize_first()(setup).build().layers[0].momentum == 0.9
    one = changes.output("sigmoid", "binary_crossentropy", 1)(setup)
    assert one.build().layers[3].units == 1 and one.build().loss.name == "binary_crossentropy"
    with pytest.raises(ValueError, match="already"):
        changes.leaky(("3",))(changes.leaky(("3",))(setup))
    with pytest.raises(ValueError, match="normalization layers already"):
        changes.normalize_layers()(changes.normalize_first()(setup))


def test_a_written_class_can_still_be_trained_otherwise() -> None:
    class Net(db.Model):
        def __init__(self) -> None:
            super().__init__()
            self.out = L.Dense(3, "softmax")

        def call(self, x: Any) -> Any:
            return self.out(x)

    setup = setup_of(Net().compile("adam", "sparse_categorical_crossentropy"), x0)
    for change in (changes.rate(0.1), changes.scale_inputs(), changes.fields(epochs=3), changes.clip(1.0)):
        assert change(setup) != setup
    for change in (changes.widen(2), changes.add_dropout(0.2), changes.initialize(), changes.output("linear")):
        with pytest.raises(ValueError, match="class with a call"):
            change(setup)
