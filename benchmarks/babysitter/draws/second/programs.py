"""Base programs of this draw."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.recipes import Recipe, conv, dense, layer, optimizer, recipe

_ADAM, _ADAM2, _ADAM5 = optimizer("Adam", 1e-3), optimizer("Adam", 2e-3), optimizer("Adam", 5e-3)
_FLAT, _HALF = layer("Flatten"), layer("MaxPool2D", pool_size=2)


def _wave(filters: int, size: int, **more: Any) -> dict[str, Any]:
    return layer("Conv1D", **{
        "filters": filters, "kernel_size": size, "activation": "relu", "kernel_initializer": "he_normal", **more})


def _embed(count: int, width: int) -> dict[str, Any]:
    return layer("Embedding", input_dim=count, output_dim=width)


PROGRAMS: list[Recipe] = [
    recipe("iris-selu", "iris", [dense(12, "selu")], 50, _ADAM5, batch=10),
    recipe("hastie-relu", "hastie", [dense(40), dense(20)], 26, _ADAM2, batch=24, rows=900),
    recipe("hastie-gelu-adamw", "hastie", [dense(48, "gelu")], 35, optimizer("AdamW", 4e-3, weight_decay=1e-3),
           rows=900),
    recipe("quantiles-elu", "quantiles", [dense(24, "elu"), dense(24, "elu")], 25, _ADAM5, batch=40, rows=700),
    recipe("quantiles-relu-nadam", "quantiles", [dense(32)], 30, optimizer("NAdam", 4e-3), batch=20, rows=700),
    recipe("friedman2-relu", "friedman2", [dense(24), dense(24)], 25, _ADAM2, batch=20),
    recipe("friedman2-tanh-nesterov", "friedman2", [dense(20, "tanh")], 30,
           optimizer("SGD", 0.03, momentum=0.9, nesterov=True), batch=24),
    recipe("friedman3-gelu", "friedman3", [dense(32, "gelu"), dense(16, "gelu")], 30, _ADAM5, batch=24),
    recipe("s_curve-relu", "s_curve", [dense(32), dense(16)], 20, _ADAM5, batch=24),
    recipe("s_curve-selu-deep", "s_curve", [dense(16, "selu")] * 4, 20, _ADAM2, batch=20),
    recipe("swiss_roll-relu", "swiss_roll", [dense(32), dense(32), dense(16)], 30, _ADAM2, batch=24, rows=750),
    recipe("swiss_roll-silu-rms", "swiss_roll", [dense(40, "silu"), dense(20, "silu")], 30, optimizer("RMSprop", 2e-3),
           batch=32, rows=750),
    recipe("redundant-relu", "redundant", [dense(32)], 28, _ADAM2, batch=40, rows=700),
    recipe("redundant-norm", "redundant", [dense(32, use_bias=False), layer("BatchNorm", momentum=0.9), dense(16)], 24,
           _ADAM2, batch=35, rows=700),
    recipe("redundant-layernorm-lion", "redundant", [dense(32), layer("LayerNorm"), dense(16)], 26,
           optimizer("Lion", 5e-4), rows=700),
    recipe("checkerboard-relu", "checkerboard", [dense(48), dense(32)], 40, _ADAM5, batch=40, rows=900),
    recipe("checkerboard-gelu-deep", "checkerboard", [dense(32, "gelu")] * 3, 35, _ADAM5, batch=40, rows=900),
    recipe("arm-tanh", "arm", [dense(24, "tanh"), dense(24, "tanh")], 25, _ADAM5, batch=24),
    recipe("arm-relu-adagrad", "arm", [dense(48)], 30, optimizer("Adagrad", 0.05), batch=20),
    recipe("uneven-relu", "uneven_noise", [dense(32), dense(24)], 25, _ADAM5, batch=32),
    recipe("counts-huber", "counts", [dense(32)], 20, _ADAM5, batch=32, rows=700, loss="huber"),
    recipe("counts-silu", "counts", [dense(24, "silu"), dense(12, "silu")], 20, _ADAM5, batch=25, rows=700),
    recipe("series-leaky", "series", [dense(32, "leaky_relu"), dense(16, "leaky_relu")], 25, _ADAM2, batch=20),
    recipe("series-conv", "series", [_wave(8, 3), _FLAT, dense(16)], 20, _ADAM5, batch=24, shape=[12, 1]),
    recipe("loans-relu", "loans", [dense(24), dense(12)], 15, _ADAM, batch=16, rows=700),
    recipe("loans-selu-sgd", "loans", [dense(16, "selu")], 15, optimizer("SGD", 0.02, momentum=0.9), batch=20,
           rows=700),
    recipe("signals-conv", "signals", [_wave(8, 5, strides=2), _wave(12, 3), _FLAT], 12, _ADAM5,
           batch=24, shape=[32, 1]),
    recipe("signals-relu", "signals", [dense(48), dense(24)], 20, _ADAM2, batch=24),
    recipe("pulses-elu", "pulses", [dense(24, "elu"), dense(12, "elu")], 20, _ADAM2, batch=20),
    recipe("shapes-conv", "shapes", [conv(6), _HALF, conv(8), _HALF, _FLAT], 10, _ADAM5, batch=25, shape=[12, 12, 1]),
    recipe("shapes-relu", "shapes", [dense(48), dense(24)], 12, _ADAM2, batch=25),
    recipe("dots-conv", "dots", [conv(8, 3, padding="valid"), _FLAT, dense(24)], 12, _ADAM2, batch=25,
           shape=[10, 10, 1]),
    recipe("parity-relu", "parity", [dense(32), dense(16)], 9, _ADAM, batch=40, rows=1600),
    recipe("high_digits-tanh", "high_digits", [dense(40, "tanh")], 10, _ADAM2, batch=25, rows=1100),
    recipe("high_digits-sgd", "high_digits", [dense(32), dense(24)], 7,
           optimizer("SGD", 0.08, momentum=0.8), batch=32, rows=1100),
    recipe("tokens-gru", "tokens", [_embed(8, 6), layer("GRU", units=12)], 12, _ADAM5, batch=50, rows=900),
    recipe("tokens-dense", "tokens", [_embed(8, 6), _FLAT, dense(24)], 20, _ADAM5, batch=30, rows=900),
    recipe("order-lstm", "order", [_embed(6, 6), layer("LSTM", units=12)], 15,
           optimizer("Adam", 1e-2, clip_norm=1.0), batch=50, rows=800),
    recipe("text-dense", "text", [_embed(30, 8), _FLAT, dense(32)], 8, _ADAM2, batch=50, rows=2500),
]
