"""Recurrent layers, embedding and attention against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layer_checks import check_slopes, draw, gradients, scramble, weights

import deepbabysit as db
from deepbabysit.runtime.random import streams

L = db.layers
N, T, F, U = 3, 5, 4, 6

# our gate order -> theirs: LSTM i, f, c, o is PyTorch's i, f, g, o; GRU z, r, h is PyTorch's r, z, n
GATES = {"SimpleRNN": [0], "LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2]}


def to_torch(kind: str, array: np.ndarray) -> np.ndarray:
    """Reorder the gates of the last axis; matrices are transposed."""
    parts = np.split(array, len(GATES[kind]), axis=-1)
    joined = np.concatenate([parts[i] for i in GATES[kind]], axis=-1)
    return joined.T


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("kind", GATES)
def test_recurrent_layers(kind: str, sequences: bool, backwards: bool) -> None:
    torch = pytest.importorskip("torch")
    layer = getattr(L, kind)(U, return_sequences=sequences, go_backwards=backwards)
    theirs = {"SimpleRNN": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[kind](
        F, U, batch_first=True
    ).double()
    x = draw(N, T, F)
    layer(db.tensor(x))
    scramble(layer)
    kernel, recurrent, bias = (layer.state_dict()[n] for n in ("kernel", "recurrent_kernel", "bias"))
    first, second = (bias[0], bias[1]) if kind == "GRU" else (bias, np.zeros_like(bias))
    with torch.no_grad():
        for name, value in (
            ("weight_ih_l0", kernel),
            ("weight_hh_l0", recurrent),
            ("bias_ih_l0", first),
            ("bias_hh_l0", second),
        ):
            getattr(theirs, name).copy_(torch.tensor(to_torch(kind, value)))
    t = torch.tensor(x[:, ::-1].copy() if backwards else x, requires_grad=True)
    out = theirs(t)[0] if sequences else theirs(t)[0][:, -1]
    y, found = gradients(layer, x)
    np.testing.assert_allclose(y, out.detach().numpy(), rtol=1e-10, atol=1e-12)
    (out * torch.tensor(weights(y.shape))).sum().backward()
    by_input = t.grad.numpy()[:, ::-1] if backwards else t.grad.numpy()
    np.testing.assert_allclose(found[0], by_input, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(to_torch(kind, found[1]), theirs.weight_ih_l0.grad.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(to_torch(kind, found[2]), theirs.weight_hh_l0.grad.numpy(), rtol=1e-9, atol=1e-12)
    by_bias = found[3][0] if kind == "GRU" else found[3]
    np.testing.assert_allclose(to_torch(kind, by_bias), theirs.bias_ih_l0.grad.numpy(), rtol=1e-9, atol=1e-12)
    if kind == "GRU":
        np.testing.assert_allclose(to_torch(kind, found[3][1]), theirs.bias_hh_l0.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_state_names_starts_and_shapes() -> None:
    lstm = L.LSTM(U)
    lstm(draw(N, T, F))
    shapes = {name: value.shape for name, value in lstm.state_dict().items()}
    assert shapes == {"kernel": (F, 4 * U), "recurrent_kernel": (U, 4 * U), "bias": (4 * U,)}
    np.testing.assert_array_equal(lstm.bias.numpy(), np.repeat([0, 1, 0, 0], U))  # the forget gate starts open
    recurrent = lstm.recurrent_kernel.numpy()
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(U), atol=1e-6)
    plain = L.LSTM(U, unit_forget_bias=False)
    plain(draw(N, T, F))
    assert not plain.bias.numpy().any()
    gru = L.GRU(U)
    gru(draw(N, T, F))
    assert gru.bias.shape == (2, 3 * U)
    assert gru.count_params() == 3 * U * (F + U + 2)
    assert L.SimpleRNN(U, use_bias=False)(draw(N, 1, F)).shape == (N, U)


@pytest.mark.parametrize("kind", GATES)
def test_state_can_be_returned_and_given_back(kind: str) -> None:
    layer = getattr(L, kind)(U, return_sequences=True, return_state=True)
    x = db.tensor(draw(N, 6, F))
    whole = layer(x)
    part = layer(x[:, :4])
    rest = layer(x[:, 4:], initial_state=list(part[1:]))
    np.testing.assert_allclose(rest[0].numpy(), whole[0].numpy()[:, 4:], rtol=1e-10)
    np.testing.assert_allclose(rest[1].numpy(), whole[1].numpy(), rtol=1e-10)
    with pytest.raises(ValueError, match="initial_state"):
        layer(x, initial_state=[x[:, 0]])


def test_gru_forms_of_the_reset_gate() -> None:
    x = draw(N, T, F)
    check_slopes(L.GRU(3, reset_after=False), x)
    layer = L.GRU(U, reset_after=False)
    layer(db.tensor(x))
    scramble(layer)
    k, r, b = (w.numpy() for w in layer.parameters())
    h = np.zeros((N, U))
    for step in range(T):
        zx = x[:, step] @ k + b
        z, s = (1 / (1 + np.exp(-(zx[:, p] + h @ r[:, p]))) for p in (slice(0, U), slice(U, 2 * U)))
        candidate = np.tanh(zx[:, 2 * U :] + (s * h) @ r[:, 2 * U :])
        h = z * h + (1 - z) * candidate
    np.testing.assert_allclose(layer(db.tensor(x)).numpy(), h, rtol=1e-10)


@pytest.mark.parametrize("sequences", [False, True])
def test_bidirectional(sequences: bool) -> None:
    torch = pytest.importorskip("torch")
    layer = L.Bidirectional(L.LSTM(U, return_sequences=sequences))
    theirs = torch.nn.LSTM(F, U, batch_first=True, bidirectional=True).double()
    x = draw(N, T, F)
    layer(db.tensor(x))
    scramble(layer)
    with torch.no_grad():
        for name, value in layer.state_dict().items():
            direction, _, kind = name.partition(".")
            short = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih"}[kind]
            suffix = "_l0" if direction == "forward" else "_l0_reverse"
            getattr(theirs, short + suffix).copy_(torch.tensor(to_torch("LSTM", value)))
            if kind == "bias":
                getattr(theirs, "bias_hh" + suffix).zero_()
    out, (h, _) = theirs(torch.tensor(x))
    expected = out if sequences else torch.cat([h[0], h[1]], dim=-1)
    np.testing.assert_allclose(layer(db.tensor(x)).numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_merge_modes_of_bidirectional() -> None:
    x = db.tensor(draw(N, T, F))
    made = {mode: L.Bidirectional(L.SimpleRNN(U), merge_mode=mode) for mode in ("concat", "sum", "mul", "ave", None)}
    for layer in made.values():
        layer(x)
        layer.set_weights(made["concat"].get_weights())
    a, b = (part.numpy() for part in made[None](x))
    np.testing.assert_allclose(made["concat"](x).numpy(), np.concatenate([a, b], axis=-1))
    for mode, expected in (("sum", a + b), ("mul", a * b), ("ave", (a + b) / 2)):
        np.testing.assert_allclose(made[mode](x).numpy(), expected)
    named = L.Bidirectional(L.SimpleRNN(U, name="memory"))
    named(x)
    assert list(named.state_dict())[::3] == ["memory.kernel", "backward_memory.kernel"]


def test_unstack_takes_apart_and_fills_with_zeros_where_nothing_flowed() -> None:
    x = db.tensor(draw(2, 3, 2), requires_grad=True)
    parts = db.ops.unstack(x, axis=1)
    np.testing.assert_array_equal(np.stack([part.numpy() for part in parts], axis=1), x.numpy())
    parts[1].backward(np.full((2, 2), np.inf))
    expected = np.zeros((2, 3, 2))
    expected[:, 1] = np.inf
    np.testing.assert_array_equal(x.grad.numpy(), expected)  # type: ignore[union-attr]


# -- embedding ---------------------------------------------------------------------------------------------------------


def test_embedding_looks_up_and_adds_gradients_up() -> None:
    layer, ids = L.Embedding(7, 3), np.array([[1, 6], [1, 1]])
    y = layer(ids)
    np.testing.assert_array_equal(y.numpy(), layer.embeddings.numpy()[ids])
    _, found = gradients(layer, ids)
    expected = np.zeros((7, 3))
    np.add.at(expected, ids, weights((2, 2, 3)))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert list(layer.state_dict()) == ["embeddings"]
    assert np.abs(layer.embeddings.numpy()).max() <= 0.05
    assert L.Embedding(7, 3)(db.Input(shape=4)).shape[1:] == (4, 3)


@pytest.mark.parametrize("bad", [-1, 7])
def test_ids_outside_are_named(bad: int) -> None:
    layer, ids = L.Embedding(7, 3, name="words"), np.array([[1, 6], [bad, 1]])
    with pytest.raises(ValueError, match=rf"words \(Embedding\): expected ids 0 to 6; got {bad} at \[1, 0\]"):
        layer(ids)
    with pytest.raises(TypeError, match="astype"):
        layer(np.array([[1.0]]))


# -- attention ---------------------------------------------------------------------------------------------------------


def twin(layer: Any, x: np.ndarray) -> Any:
    """Return PyTorch's attention with our weights."""
    torch = pytest.importorskip("torch")
    layer(db.tensor(x))
    scramble(layer)
    theirs = torch.nn.MultiheadAttention(x.shape[-1], layer.heads, batch_first=True).double()
    state = layer.state_dict()
    with torch.no_grad():
        joined = np.concatenate([state[f"{part}.kernel"] for part in ("query", "key", "value")], axis=1)
        theirs.in_proj_weight.copy_(torch.tensor(joined.T))
        theirs.in_proj_bias.copy_(torch.tensor(np.concatenate([state[f"{p}.bias"] for p in ("query", "key", "value")])))
        theirs.out_proj.weight.copy_(torch.tensor(state["output.kernel"].T))
        theirs.out_proj.bias.copy_(torch.tensor(state["output.bias"]))
    return theirs


def test_self_attention_causal_and_masked() -> None:
    torch = pytest.importorskip("torch")
    layer, x = L.MultiHeadAttention(2, 4), draw(3, 5, 8)
    theirs, t = twin(layer, x), torch.tensor(x)
    np.testing.assert_allclose(layer(db.tensor(x)).numpy(), theirs(t, t, t)[0].detach().numpy(), rtol=1e-9)
    later = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
    expected = theirs(t, t, t, attn_mask=later)[0].detach().numpy()
    np.testing.assert_allclose(layer(db.tensor(x), use_causal_mask=True).numpy(), expected, rtol=1e-9)
    np.testing.assert_allclose(layer(db.tensor(x), mask=~later.numpy()).numpy(), expected, rtol=1e-9)
    keys = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool)
    expected = theirs(t, t, t, key_padding_mask=torch.tensor(~keys))[0].detach().numpy()
    np.testing.assert_allclose(layer(db.tensor(x), mask=keys[:, None, :]).numpy(), expected, rtol=1e-9)


def test_cross_attention() -> None:
    torch = pytest.importorskip("torch")
    layer, x, other, keys = L.MultiHeadAttention(2, 4), draw(3, 5, 8), draw(3, 7, 8, seed=1), draw(3, 7, 8, seed=2)
    theirs = twin(layer, x)
    q, k, v = (torch.tensor(a) for a in (x, keys, other))
    found = layer(db.tensor(x), db.tensor(other), key=db.tensor(keys)).numpy()
    np.testing.assert_allclose(found, theirs(q, k, v)[0].detach().numpy(), rtol=1e-9)
    found = layer(db.tensor(x), value=other).numpy()
    np.testing.assert_allclose(found, theirs(q, v, v)[0].detach().numpy(), rtol=1e-9)


def test_attention_sizes_slopes_and_names() -> None:
    layer = L.MultiHeadAttention(2, 3, value_dim=5, output_dim=7)
    check_slopes(layer, draw(2, 4, 6))
    check_slopes(layer, draw(2, 4, 6), use_causal_mask=True)
    shapes = {name: value.shape for name, value in layer.state_dict().items() if name.endswith("kernel")}
    assert shapes == {
        "query.kernel": (6, 6), "key.kernel": (6, 6), "value.kernel": (6, 10), "output.kernel": (10, 7),
    }
    for bad, message in (
        (np.ones((2, 4)), "boolean"), (np.ones((2, 3), bool), r"mask\[:, None, :\]"), (np.ones((4, 5), bool), "T=4")
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            layer(draw(2, 4, 6), mask=bad)


def test_dropout_on_attention_weights() -> None:
    layer, x = L.MultiHeadAttention(2, 4, dropout=0.4), db.tensor(draw(2, 6, 8))
    plain = layer(x, use_causal_mask=True).numpy()
    streams().begin(0)
    with db.training():
        runs = np.mean([layer(x, use_causal_mask=True).numpy() for _ in range(600)], axis=0)
        first = layer(x, use_causal_mask=True).numpy()
    assert not np.allclose(first, plain)
    np.testing.assert_allclose(runs, plain, atol=0.25)  # right on average, the future stays hidden
    layer.dropout = 1e-12  # nothing falls out: the long way equals the fused one
    allowed = np.tril(np.ones((6, 6), bool))
    allowed[0] = False
    with db.training():
        for options in ({"use_causal_mask": True}, {"mask": allowed}, {"mask": allowed, "use_causal_mask": True}):
            np.testing.assert_allclose(layer(x, **options).numpy(), layer.eval()(x, **options).numpy(), rtol=1e-6)
    with db.training():
        long = layer(x, mask=allowed).numpy()
    np.testing.assert_allclose(long, layer(x, mask=allowed).numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_block(norm_first: bool) -> None:
    torch = pytest.importorskip("torch")
    layer, x = L.TransformerBlock(2, units=16, activation="relu", norm_first=norm_first), draw(3, 5, 8)
    layer(db.tensor(x))
    scramble(layer)
    theirs = torch.nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.0, activation="relu", batch_first=True, norm_first=norm_first
    ).double()
    state = layer.state_dict()
    attention = ("query", "key", "value")
    with torch.no_grad():
        parts = np.concatenate([state[f"attention.{p}.kernel"] for p in attention], axis=1)
        theirs.self_attn.in_proj_weight.copy_(torch.tensor(parts.T))
        theirs.self_attn.in_proj_bias.copy_(
            torch.tensor(np.concatenate([state[f"attention.{p}.bias"] for p in attention]))
        )
        for target, name in (
            (theirs.self_attn.out_proj, "attention.output"),
            (theirs.linear1, "hidden"),
            (theirs.linear2, "output"),
        ):
            target.weight.copy_(torch.tensor(state[f"{name}.kernel"].T))
            target.bias.copy_(torch.tensor(state[f"{name}.bias"]))
        for target, name in ((theirs.norm1, "norm1"), (theirs.norm2, "norm2")):
            target.weight.copy_(torch.tensor(state[f"{name}.gamma"]))
            target.bias.copy_(torch.tensor(state[f"{name}.beta"]))
    y = layer(db.tensor(x)).numpy()
    np.testing.assert_allclose(y, theirs(torch.tensor(x)).detach().numpy(), rtol=1e-8, atol=1e-9)


def test_a_causal_block_does_not_see_the_future() -> None:
    layer, x = L.TransformerBlock(2, causal=True), draw(1, 6, 8)
    before = layer(db.tensor(x)).numpy()
    x[0, 4] += 1
    after = layer(db.tensor(x)).numpy()
    np.testing.assert_allclose(after[0, :4], before[0, :4], rtol=1e-12)
    assert not np.allclose(after[0, 4:], before[0, 4:])
    with pytest.raises(ValueError, match="3 heads divide"):
        L.TransformerBlock(3)(draw(1, 6, 8))
