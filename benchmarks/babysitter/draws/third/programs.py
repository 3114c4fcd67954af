"""Base programs of this draw."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.recipes import Recipe, conv, dense, layer, optimizer, recipe

_ADAM, _ADAM2, _ADAM4, _ADAM8 = (optimizer("Adam", rate) for rate in (1e-3, 2e-3, 4e-3, 8e-3))
_FLAT, _HALF, _MEAN = layer("Flatten"), layer("MaxPool2D", pool_size=2), layer("GlobalAvgPool2D")


def _sgd(rate: float, momentum: float = 0.9, **more: Any) -> dict[str, Any]:
    return optimizer("SGD", rate, momentum=momentum, **more)


def _wave(filters: int, size: int, **more: Any) -> dict[str, Any]:
    return layer("Conv1D", **{
        "filters": filters, "kernel_size": size, "activation": "relu", "kernel_initializer": "he_normal", **more})


def _embed(count: int, width: int) -> dict[str, Any]:
    return layer("Embedding", input_dim=count, output_dim=width)


PROGRAMS: list[Recipe] = [
    recipe("borehole-relu", "borehole", [dense(32), dense(16)], 25, _ADAM4, batch=25, rows=700),
    recipe("borehole-tanh-rms", "borehole", [dense(32, "tanh")], 30, optimizer("RMSprop", 4e-3), batch=25, rows=700),
    recipe("piston-gelu", "piston", [dense(32, "gelu"), dense(16, "gelu")], 25, _ADAM4, batch=25, rows=700),
    recipe("piston-selu-sgd", "piston", [dense(24, "selu"), dense(16, "selu")], 30, _sgd(0.02), batch=28, rows=700),
    recipe("ishigami-relu", "ishigami", [dense(48), dense(32)], 40, _ADAM4, batch=26, rows=780),
    recipe("ishigami-silu-nadam", "ishigami", [dense(32, "silu"), dense(32, "silu")], 45, optimizer("NAdam", 2e-3),
           batch=26, rows=780),
    recipe("pendulum-elu", "pendulum", [dense(32, "elu"), dense(32, "elu")], 35, _ADAM4, batch=24, rows=720),
    recipe("pendulum-relu-deep", "pendulum", [dense(24), dense(24), dense(24), dense(24)], 35, _ADAM2, batch=18,
           rows=720),
    recipe("lorenz-relu", "lorenz", [dense(32), dense(24)], 25, _ADAM4, batch=22, rows=660),
    recipe("lorenz-rnn", "lorenz", [layer("GRU", units=14), dense(12, "tanh")], 18, _ADAM8, batch=33, rows=660,
           shape=[8, 1]),
    recipe("houses-leaky", "houses", [dense(24, "leaky_relu"), dense(24, "leaky_relu")], 25, _ADAM4, batch=30,
           rows=750),
    recipe("houses-huber-adamw", "houses", [dense(32)], 25, optimizer("AdamW", 6e-3, weight_decay=1e-3), batch=30,
           rows=750, loss="huber"),
    recipe("relief-tanh", "relief", [dense(32, "tanh"), dense(32, "tanh")], 40, _ADAM8, batch=30, rows=900),
    recipe("relief-relu", "relief", [dense(48), dense(32), dense(16)], 35, _ADAM4, batch=30, rows=900),
    recipe("birds-tanh", "birds", [dense(16, "tanh")], 15, _sgd(0.03), batch=24, rows=600),
    recipe("birds-relu", "birds", [dense(20), dense(10)], 15, _ADAM2, batch=24, rows=600),
    recipe("star-relu", "star", [dense(40), dense(24)], 35, _ADAM8, batch=45, rows=900),
    recipe("star-gelu-deep", "star", [dense(24, "gelu"), dense(24, "gelu"), dense(24, "gelu")], 30, _ADAM8, batch=45,
           rows=900),
    recipe("products-relu", "products", [dense(40), dense(20)], 22, _ADAM4, batch=40, rows=1000),
    recipe("products-norm", "products", [dense(40, use_bias=False), layer("BatchNorm", momentum=0.9), dense(20)], 18,
           _ADAM4, batch=40, rows=1000),
    recipe("churn-relu", "churn", [dense(20), dense(10)], 18, _ADAM2, batch=20, rows=800),
    recipe("churn-elu-adagrad", "churn", [dense(16, "elu")], 16, optimizer("Adagrad", 0.04), batch=25, rows=800),
    recipe("pinwheel-relu", "pinwheel", [dense(32), dense(32)], 32, _ADAM4, batch=26, rows=700),
    recipe("pinwheel-tanh-nesterov", "pinwheel", [dense(32, "tanh"), dense(16, "tanh")], 36,
           _sgd(0.05, nesterov=True), batch=28, rows=700),
    recipe("countries-relu", "countries", [dense(48), dense(32)], 48, _ADAM4, batch=40, rows=1000),
    recipe("countries-layernorm", "countries", [dense(48), layer("LayerNorm"), dense(32)], 30, _ADAM4, batch=40,
           rows=1000),
    recipe("clusters-relu-lion", "clusters", [dense(40), dense(20)], 14, optimizer("Lion", 5e-4), batch=30, rows=1200),
    recipe("clusters-norms", "clusters", [
        dense(32, use_bias=False), layer("BatchNorm", momentum=0.9), dense(24, use_bias=False),
        layer("BatchNorm", momentum=0.9)], 12, _ADAM2, batch=40, rows=1200),
    recipe("chirps-conv", "chirps", [_wave(8, 5, strides=2), _wave(8, 3), _FLAT, dense(16)], 12, _ADAM4, batch=26,
           rows=700, shape=[40, 1]),
    recipe("chirps-relu", "chirps", [dense(48), dense(24)], 24, _ADAM2, batch=25, rows=780),
    recipe("beats-relu", "beats", [dense(40), dense(20)], 16, _ADAM2, batch=24, rows=700),
    recipe("beats-conv-elu", "beats", [_wave(8, 7, strides=2, activation="elu"), _FLAT, dense(16, "elu")], 14, _ADAM2,
           batch=24, rows=700, shape=[36, 1]),
    recipe("gestures-gru", "gestures", [layer("GRU", units=16)], 16, _ADAM8, batch=35, rows=700, shape=[15, 2]),
    recipe("gestures-conv", "gestures", [_wave(12, 3), _wave(12, 3, strides=2), _FLAT], 12, _ADAM4, batch=28, rows=700,
           shape=[15, 2]),
    recipe("textures-conv", "textures", [conv(6), _HALF, conv(8), _MEAN], 22, _ADAM8, batch=25, rows=600,
           shape=[12, 12, 1]),
    recipe("textures-conv-group", "textures", [conv(8), layer("GroupNorm", groups=4), _HALF, conv(8), _HALF, _FLAT],
           9, _ADAM4, batch=30, rows=600, shape=[12, 12, 1]),
    recipe("letters-relu", "letters", [dense(64), dense(32)], 16, _ADAM2, batch=30, rows=1080),
    recipe("letters-conv", "letters", [conv(8, 5), _HALF, conv(12), _FLAT], 8, _ADAM4, batch=26, rows=780,
           shape=[11, 9, 1]),
    recipe("bars-conv", "bars", [conv(6), _HALF, conv(8), _FLAT, dense(16)], 14, _ADAM4, batch=22, rows=660,
           shape=[10, 10, 1]),
    recipe("bars-silu", "bars", [dense(40, "silu"), dense(20, "silu")], 20, _ADAM2, batch=22, rows=660),
    recipe("photographs-conv", "photographs", [conv(8), _HALF, _FLAT, dense(16)], 12, _ADAM2, batch=32, rows=900,
           shape=[6, 6, 3]),
    recipe("holes-leaky", "holes", [dense(48, "leaky_relu"), dense(32, "leaky_relu")], 12, _ADAM2,
           batch=40, rows=2000),
    recipe("holes-sgd", "holes", [dense(40)], 16, _sgd(0.08), batch=40, rows=1800),
    recipe("tall_digits-conv", "tall_digits", [conv(6, strides=2), conv(8), _HALF, _FLAT, dense(24)], 10, _ADAM4,
           batch=32, rows=1600, shape=[14, 10, 1]),
    recipe("chains-lstm", "chains", [_embed(9, 6), layer("LSTM", units=10)], 13, _ADAM8, batch=45, rows=900),
    recipe("chains-conv", "chains", [_embed(9, 6), _wave(12, 2), _FLAT], 12, _ADAM4, batch=45, rows=900),
    recipe("follows-conv", "follows", [_embed(7, 5), _wave(10, 2), _FLAT, dense(12)], 12, _ADAM8, batch=45,
           rows=960),
    recipe("reviews-conv", "reviews", [_embed(10, 4), _wave(12, 2), _FLAT, dense(16)], 16, _ADAM8, batch=40, rows=1400),
    recipe("verse-gru", "verse", [_embed(29, 6), layer("GRU", units=10)], 12,
           optimizer("Adam", 6e-3, clip_norm=1.0), batch=50, rows=1800),
]
