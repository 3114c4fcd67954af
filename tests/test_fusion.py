"""Batch normalization and the ReLU behind it run as one operation: same bits, nothing else changes."""

import numpy as np
import pytest

import deepbabysit as db
from deepbabysit.runtime.context import surroundings

L = db.layers


def sequential():
    return db.Sequential([
        L.Conv2D(5, 3, input_shape=(8, 8, 2)), L.BatchNorm(), L.Activation("relu"), L.Flatten(), L.Dense(6),
        L.BatchNorm(), L.Activation("relu"), L.Dense(3),
    ])


def functional():
    x = db.Input(shape=(8, 8, 2))
    h = L.Activation("relu")(L.BatchNorm()(L.Conv2D(5, 3)(x)))
    h = L.Dense(6)(L.Flatten()(h))
    return db.Model(x, L.Dense(3)(L.Activation("relu")(L.BatchNorm()(h))))


def kernels_of(model, x, **changes):
    """Train one step by hand; return output, gradients, statistics, and the operations on the tape."""
    with surroundings(**changes):
        with db.training():
            y = model(x)
            names, waiting = set(), [y.node]
            while waiting:
                node = waiting.pop()
                names.add(node.name())
                waiting += [edge[0] for edge in node.parents if edge is not None and hasattr(edge[0], "parents")]
            (y * y).sum().backward()
        found = [p.grad.numpy().copy() for p in model.parameters()]
        for p in model.parameters():
            p.grad = None
        return [y.numpy(), *found, model(x).numpy(), *[s.numpy() for _, s in model.named_states()]], names


@pytest.mark.parametrize("make", [sequential, functional])
@pytest.mark.parametrize("rows", [4, 200])  # below and above the size from which compiled kernels run
def test_fused_and_apart_give_the_same_bits(make, rows):
    x = db.tensor(np.random.default_rng(0).standard_normal((rows, 8, 8, 2)).astype("f"))
    results = []
    for changes in ({}, {"tap": lambda layer, result: None}):
        db.set_seed(3)
        arrays, names = kernels_of(make(), x, **changes)
        assert ("batch_norm_relu" in names) == (not changes), names
        assert ("relu" in names) == bool(changes), names
        results.append(arrays)
    assert len(results[0]) > 10
    for one, two in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes()


def test_a_hook_sees_its_layer():
    db.set_seed(0)
    model = sequential()
    seen = []
    for layer in model.layers[1:3]:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append((type(layer).__name__, output.numpy())))
    model(db.tensor(np.random.default_rng(0).standard_normal((4, 8, 8, 2)).astype("f")))
    assert [name for name, _ in seen] == ["BatchNorm", "Activation"]
    assert (np.maximum(seen[0][1], 0) == seen[1][1]).all()
    assert (seen[0][1] < 0).any()


def test_a_result_that_is_used_twice_stays():
    x = db.Input(shape=(4,))
    h = L.BatchNorm()(x)
    y = L.Add()([L.Activation("relu")(h), h])
    model = db.Model(x, y)
    both = db.Model(x, [h, L.Activation("relu")(h)])
    values = db.tensor(np.random.default_rng(0).standard_normal((6, 4)).astype("f"))
    normal, positive = both(values)
    assert (normal.numpy() < 0).any()
    assert (positive.numpy() == np.maximum(normal.numpy(), 0)).all()
    assert (model(values).numpy() == normal.numpy() + positive.numpy()).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_seen(value):
    x = np.random.default_rng(0).standard_normal((600, 8)).astype("f")
    x[3, 2] = value
    one, zero = db.tensor(np.ones(8, "f")), db.tensor(np.zeros(8, "f"))
    y, mean, var = db.ops.batch_norm_relu(db.tensor(x), one, zero)
    for found in (y.numpy(), var.numpy()[None]):
        assert np.isnan(found[:, 2]).all()
        assert np.isfinite(np.delete(found, 2, axis=1)).all()
    assert not np.isfinite(mean.numpy()[2])
