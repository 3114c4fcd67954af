"""Steps that are measured are a second graph: the numbers and the bits of steps that run call by call."""

import numpy as np

import deepbabysit as db
from deepbabysit.babysit.sitter import Sitter


def _fit(device, rows=64, **options):
    db.set_seed(4)
    model = db.Sequential([
        db.layers.Dense(20, activation="relu", kernel_regularizer=db.regularizers.l1(1e-4)), db.layers.Dropout(0.2),
        db.layers.Dense(12, activation="tanh"), db.layers.BatchNorm(), db.layers.Dense(4),
    ])
    model.compile(db.optimizers.Adam(0.01, **options), loss="cross_entropy", metrics=["accuracy"])
    x = np.random.default_rng(3).normal(size=(rows, 6)).astype(np.float32)
    sitter = Sitter(every=2, check=False)
    history = model.fit(
        x, x[:, :4].argmax(1), batch_size=16, epochs=6, device=device, verbose=0, babysit=sitter
    )
    return history.history, [p.numpy().copy() for p in model.parameters()], sitter.record


def test_the_numbers_and_bits_of_steps_call_by_call(cuda, emulation, monkeypatch):
    rows = 39  # batches of two sizes
    with monkeypatch.context() as patch:
        patch.setattr(cuda.backend, "hold", None)
        expected = _fit(cuda, rows)
    before = emulation.launches["graph"]
    found = _fit(cuda, rows)
    assert found[0] == expected[0]
    for a, b in zip(found[1], expected[1], strict=True):
        assert a.tobytes() == b.tobytes()
    assert list(found[2].losses) == list(expected[2].losses)
    mine, theirs = found[2].steps, expected[2].steps
    assert len(mine) == len(theirs) == 10
    for a, b in zip(mine, theirs, strict=True):
        for name in ("step", "loss", "gradient_norm", "layers", "parameters", "predicted", "actual", "noise", "turn"):
            assert repr(getattr(a, name)) == repr(getattr(b, name)), (a.step, name)
    # of each kind and size of steps the first runs eagerly and the second is recorded
    steps = 6 * -(-rows // 16)
    assert emulation.launches["graph"] - before == steps - 4 * 2


def test_nodes_of_a_measured_step(cuda, monkeypatch):
    made = []
    before = cuda.backend.program

    def program(device, calls, times=1):
        made.append(before(device, calls, times))
        return made[-1]

    monkeypatch.setattr(cuda.backend, "program", program)
    _fit(cuda)
    plain, measured = sorted(len(p.graph.nodes) for p in made[:2])
    names = max((p.graph.nodes for p in made[:2]), key=len)
    statistics = [node.name for node in names if node.name.startswith(("statistics", "units"))]
    # outputs of five layers, the units of two; weights, gradients, changes
    assert len(statistics) == 5 + 2 + 3
    assert measured - plain == len(statistics) + 2  # the weights are kept, and what the model computed
