"""Choices made by timing: made on request, kept, used again with the same bits; products that do more on their way."""

import json

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.runtime.context import surroundings
from deepbabysit.runtime.notices import NOTICES

RELU_AUX, GELU_AUX, DRELU, DGELU, BGRADA = 134, 164, 152, 208, 256


def _fit(device, activation="relu", tune=True, replay=True, width=16, precision=None):
    db.set_seed(5)
    model = db.Sequential([
        db.layers.Dense(width, activation=activation), db.layers.Dense(24, activation=activation),
        db.layers.Dense(4),
    ])
    model.compile(db.optimizers.Adam(0.01), loss="cross_entropy", replay=replay, tune=tune, precision=precision)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 8)).astype(np.float32)
    history = model.fit(
        x, x[:, :4].argmax(1), batch_size=32, epochs=3, verbose=0, device=device, babysit=False, shuffle=False
    )
    return history, [p.numpy().copy() for p in model.parameters()]


def _close(first, second):
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5)


def _gelu(x):
    return db.ops.gelu(x, approximate="tanh")


@pytest.mark.parametrize(
    ("activation", "expected"), [("relu", {RELU_AUX, DRELU, BGRADA}), (_gelu, {GELU_AUX, DGELU, BGRADA})]
)
def test_backward_in_the_products_epilogues(tuned, emulation, activation, expected):
    cuda = tuned.device
    plain = _fit(cuda, activation, tune=False)
    assert not expected & set(emulation.matrices.epilogues)
    together = _fit(cuda, activation)
    assert expected <= set(emulation.matrices.epilogues)
    _close(together, plain)
    _close(together, _fit("cpu", activation, tune=False))


def test_backward_in_the_epilogues_in_half_precision(tuned, emulation):
    plain = _fit(tuned.device, tune=False, precision="float16")
    found = _fit(tuned.device, precision="float16")
    assert {RELU_AUX, DRELU} <= set(emulation.matrices.epilogues)
    for a, b in zip(found[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-2, atol=5e-3)


def test_launches_of_the_worked_example_go_down(tuned, merging, monkeypatch):
    made = []
    before = merging.backend.program
    monkeypatch.setattr(merging.backend, "program", lambda *a, **k: made.append(before(*a, **k)) or made[-1])
    for tune in (False, True):
        db.set_seed(3)
        model = db.Sequential([*[db.layers.Dense(n, activation="relu") for n in (512, 256)], db.layers.Dense(10)])
        model.compile(db.optimizers.Adam(1e-3), loss="cross_entropy", metrics=["accuracy"], tune=tune)
        x = np.random.default_rng(0).normal(size=(384, 784)).astype(np.float32)
        model.fit(x, x[:, :10].argmax(1), batch_size=128, verbose=0, device=merging, babysit=False)
    names = [[node.name for node in program.graph.nodes] for program in made]
    assert [len(n) for n in names] == [13, 11], names
    assert [n.count("cublasLt") for n in names] == [8, 8]


def test_nothing_is_timed_unless_asked_for(tuned, tmp_path):
    _fit(tuned.device, tune=False)
    assert tuned.asked == 0
    assert not (tmp_path / "tuning").exists()


def test_what_is_slower_stays_apart(tuned, emulation):
    tuned.faster = False
    plain = _fit(tuned.device, tune=False)
    emulation.matrices.epilogues.clear()
    found = _fit(tuned.device)
    assert tuned.asked > 0
    _close(found, plain)
    for a, b in zip(found[1], plain[1], strict=True):
        assert a.tobytes() == b.tobytes()  # every choice is the library's first


@pytest.mark.parametrize("refused", [RELU_AUX, DRELU, BGRADA])
def test_an_epilogue_that_is_not_offered(tuned, emulation, refused):
    emulation.matrices.refused.add((refused, None))
    plain = _fit(tuned.device, tune=False)
    emulation.matrices.epilogues.clear()
    _close(_fit(tuned.device), plain)
    assert refused not in emulation.matrices.epilogues


def test_widths_that_gelu_cannot_have(tuned, emulation):
    """Rows of what went into GELU are read eight elements at a time."""
    _close(_fit(tuned.device, _gelu, width=15), _fit(tuned.device, _gelu, width=15, tune=False))
    assert emulation.matrices.epilogues.count(GELU_AUX) > 0  # the other layer


def test_choices_are_kept_and_give_the_same_bits(tuned, emulation, tmp_path):
    first = _fit(tuned.device)
    (file,) = (tmp_path / "tuning").iterdir()
    kept = json.loads(file.read_text())
    assert kept["made by"] == {"format": 1, "library": 120901, "device": "Emulated device", "capability": "9.0"}
    assert any("bgrad" in key and len(choice["algorithm"]) == 128 for key, choice in kept["choices"].items()
               if key.startswith("product"))
    assert first[0].choices == kept
    assert db.History.from_config(first[0].to_config()).choices == kept
    tuned.anew()
    tuned.faster = False  # would choose otherwise, were it asked
    again = _fit(tuned.device)
    assert tuned.asked == 0
    assert again[0].choices == kept
    for a, b in zip(first[1], again[1], strict=True):
        assert a.tobytes() == b.tobytes()
    tuned.anew()
    file.unlink()
    other = _fit(tuned.device)
    assert any(a.tobytes() != b.tobytes() for a, b in zip(first[1], other[1], strict=True))


def test_a_watched_run_can_be_tuned(tuned, tmp_path):
    found = []
    for tune in (False, True):
        db.set_seed(5)
        model = db.Sequential([db.layers.Dense(16, activation="relu"), db.layers.Dense(24, activation="relu"),
                               db.layers.Dense(4)])
        model.compile(db.optimizers.Adam(0.01), loss="cross_entropy", tune=tune)
        x = np.random.default_rng(0).normal(size=(96, 8)).astype(np.float32)
        history = model.fit(
            x, x[:, :4].argmax(1), batch_size=16, epochs=4, verbose=0, device=tuned.device, run_dir=tmp_path / str(tune)
        )
        found.append((history, [p.numpy().copy() for p in model.parameters()]))
    assert found[1][0].choices["choices"] and not found[0][0].choices
    assert json.loads((tmp_path / "True" / "tuning.json").read_text()) == found[1][0].choices
    assert not (tmp_path / "False" / "tuning.json").exists()
    _close(*found)


def test_an_eager_step_uses_the_same_algorithms(tuned, emulation):
    """Where nothing is put together, call by call and replayed give the same bits with tuned products, too."""
    for epilogue in (RELU_AUX, BGRADA):
        emulation.matrices.refused.add((epilogue, None))
    replayed, eager = _fit(tuned.device), _fit(tuned.device, replay=False)
    for a, b in zip(replayed[1], eager[1], strict=True):
        assert a.tobytes() == b.tobytes()
    assert any(c["rank"] > 0 for key, c in replayed[0].choices["choices"].items() if key.startswith("product"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: {**found, "made by": {**found["made by"], "library": 110800}}, "made by cuBLASLt 110800"),
        (lambda found: [], "cannot be read"),
    ],
)
def test_a_file_of_another_version_is_ignored_with_a_line(tuned, monkeypatch, tmp_path, change, words):
    _fit(tuned.device)
    (file,) = (tmp_path / "tuning").iterdir()
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    tuned.anew()
    said = []
    monkeypatch.setattr(NOTICES, "tell", said.append)
    _fit(tuned.device)
    assert tuned.asked > 0
    assert len(set(said)) == 1 and words in said[0] and "timed anew" in said[0]
    assert json.loads(file.read_text())["made by"]["library"] == 120901


def test_a_kept_algorithm_that_the_library_refuses_is_timed_anew(tuned, tmp_path):
    _fit(tuned.device)
    (file,) = (tmp_path / "tuning").iterdir()
    found = json.loads(file.read_text())
    for key, choice in found["choices"].items():
        if key.startswith("product"):
            choice["algorithm"] = "00" * 64
    file.write_text(json.dumps(found))
    tuned.anew()
    _fit(tuned.device)
    assert tuned.asked > 0


@pytest.mark.parametrize("where", ["relu", "gelu", "before gelu"])
def test_a_gradient_that_others_read_too_is_still_made(tuned, emulation, where):
    """A hook looks at the gradient between two layers: its product is not put together with what follows it."""
    cuda = tuned.device
    rng = np.random.default_rng(1)
    x, w, b, v, c = (rng.normal(size=s).astype(np.float32) for s in ((32, 8), (8, 16), (16,), (16, 8), (8,)))

    def gradients(device, tune, look):
        given = [db.tensor(a, device=device, requires_grad=True) for a in (w, b, v, c)]

        @db.record
        def step(x):
            seen = []
            p = h = db.ops.linear(x, given[0], given[1], activation="relu" if where == "relu" else "linear")
            if where != "relu":
                h = _gelu(p)
            if look:
                (p if where == "before gelu" else h).register_hook(seen.append)
            y = db.ops.linear(h, given[2], given[3])
            (y * y).sum().backward()
            found = [a.grad for a in given]
            for a in given:
                a.grad = None
            return (*found, *[g * 2.0 for g in seen])

        with surroundings(tune=tune):
            for _ in range(3):
                results = step(db.tensor(x, device=device))
        return [r.numpy() for r in results]

    for look in (False, True):
        emulation.matrices.epilogues.clear()
        found = gradients(cuda, True, look)
        assert ((DRELU if where == "relu" else DGELU) in emulation.matrices.epilogues) is not look
        for mine, theirs in zip(found, gradients("cpu", False, look), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
