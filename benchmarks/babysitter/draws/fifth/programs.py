"""Base programs of this draw."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.recipes import Recipe, conv, dense, layer, optimizer, recipe

_ADAM1, _ADAM2, _ADAM4, _ADAM6, _ADAM10 = (optimizer("Adam", rate) for rate in (1e-3, 2e-3, 4e-3, 6e-3, 1e-2))
_FLAT, _HALF, _MEAN = layer("Flatten"), layer("MaxPool2D", pool_size=2), layer("GlobalAvgPool2D")


def _sgd(rate: float, momentum: float = 0.9, **more: Any) -> dict[str, Any]:
    return optimizer("SGD", rate, momentum=momentum, **more)


def _wave(filters: int, size: int, **more: Any) -> dict[str, Any]:
    return layer("Conv1D", **{
        "filters": filters, "kernel_size": size, "activation": "relu", "kernel_initializer": "he_normal", **more})


def _embed(count: int, width: int) -> dict[str, Any]:
    return layer("Embedding", input_dim=count, output_dim=width)


def _norm(units: int, bend: str = "relu") -> list[dict[str, Any]]:
    """Return a dense layer, normalized over the batch, bent."""
    return [layer("Dense", units=units, use_bias=False, kernel_initializer="he_normal"),
            layer("BatchNorm", momentum=0.9), layer("Activation", activation=bend)]


PROGRAMS: list[Recipe] = [
    recipe("turbine-relu", "turbine", [dense(32), dense(16)], 25, _ADAM4, batch=24, rows=720),
    recipe("turbine-tanh-sgd", "turbine", [dense(32, "tanh"), dense(16, "tanh")], 30, _sgd(0.03), batch=30, rows=720),
    recipe("exchanger-elu", "exchanger", [dense(28, "elu"), dense(14, "elu")], 25, _ADAM6, batch=24, rows=720),
    recipe("exchanger-relu-adamw", "exchanger", [dense(40)], 28, optimizer("AdamW", 8e-3, weight_decay=1e-3), batch=24,
           rows=720),
    recipe("epidemic-relu", "epidemic", [dense(32), dense(24)], 30, _ADAM4, batch=24, rows=720),
    recipe("epidemic-silu-rms", "epidemic", [dense(32, "silu"), dense(16, "silu")], 30, optimizer("RMSprop", 3e-3),
           batch=30, rows=720),
    recipe("orbits-tanh", "orbits", [dense(32, "tanh"), dense(20, "tanh")], 35, _ADAM6, batch=24, rows=720),
    recipe("orbits-relu-deep", "orbits", [dense(24), dense(24), dense(24)], 30, _ADAM4, batch=24, rows=720),
    recipe("rents-leaky-huber", "rents", [dense(32, "leaky_relu"), dense(16, "leaky_relu")], 25, _ADAM4, batch=26,
           rows=780, loss="huber"),
    recipe("rents-selu", "rents", [dense(20, "selu"), dense(20, "selu")], 22, _ADAM2, batch=20, rows=780),
    recipe("hills-relu", "hills", [dense(48), dense(32)], 35, _ADAM6, batch=28, rows=840),
    recipe("hills-gelu-nadam", "hills", [dense(32, "gelu"), dense(32, "gelu")], 35, optimizer("NAdam", 4e-3), batch=28,
           rows=840),
    recipe("batteries-relu-sgd", "batteries", [dense(32), dense(16)], 28, _sgd(0.03), batch=24, rows=720),
    recipe("batteries-tanh", "batteries", [dense(32, "tanh")], 30, _ADAM10, batch=24, rows=720),
    recipe("rivers-lstm", "rivers", [layer("LSTM", units=12)], 24, _ADAM10, batch=33, rows=660, shape=[10, 2]),
    recipe("rivers-relu", "rivers", [dense(32), dense(16)], 22, _ADAM2, batch=22, rows=660),
    recipe("minerals-relu", "minerals", [dense(20), dense(12)], 15, _ADAM4, batch=26, rows=650),
    recipe("minerals-tanh-adagrad", "minerals", [dense(24, "tanh")], 16, optimizer("Adagrad", 0.08), batch=26,
           rows=650),
    recipe("triangles-relu", "triangles", [dense(32), dense(16)], 25, _ADAM6, batch=30, rows=900),
    recipe("triangles-gelu-deep", "triangles", [dense(24, "gelu"), dense(24, "gelu"), dense(24, "gelu")], 20, _ADAM4,
           batch=30, rows=900),
    recipe("equilibria-relu", "equilibria", [dense(40), dense(24)], 28, _ADAM6, batch=34, rows=1020),
    recipe("equilibria-norms", "equilibria", [*_norm(40), *_norm(24)], 22, _ADAM6, batch=34, rows=1020),
    recipe("queens-relu", "queens", [dense(64), dense(32)], 28, _ADAM4, batch=44, rows=1760),
    recipe("queens-silu-deep", "queens", [dense(40, "silu"), dense(40, "silu"), dense(20, "silu")], 28, _ADAM4,
           batch=44, rows=1760),
    recipe("shells-relu-nesterov", "shells", [dense(32), dense(16)], 22, _sgd(0.05, nesterov=True), batch=30, rows=900),
    recipe("shells-elu", "shells", [dense(32, "elu"), dense(16, "elu")], 25, _ADAM6, batch=30, rows=900),
    recipe("visitors-relu", "visitors", [dense(24), dense(12)], 16, _ADAM2, batch=25, rows=900),
    recipe("visitors-tanh-lion", "visitors", [dense(24, "tanh")], 18, optimizer("Lion", 1e-3), batch=30, rows=900),
    recipe("rains-selu", "rains", [dense(16, "selu"), dense(16, "selu")], 18, _ADAM2, batch=25, rows=900),
    recipe("rains-relu-adadelta", "rains", [dense(24)], 20, optimizer("Adadelta", 1.0), batch=25, rows=900),
    recipe("petals-relu", "petals", [dense(40), dense(30)], 32, _ADAM6, batch=32, rows=960),
    recipe("petals-tanh", "petals", [dense(32, "tanh"), dense(32, "tanh")], 36, _ADAM10, batch=32, rows=960),
    recipe("islands-relu", "islands", [dense(48), dense(24)], 15, _ADAM4, batch=34, rows=1020),
    recipe("islands-layernorm", "islands", [dense(40), layer("LayerNorm"), dense(24)], 14, _ADAM4, batch=34, rows=1020),
    recipe("motors-conv", "motors", [_wave(10, 7, strides=2), _wave(10, 5, strides=2), _FLAT, dense(16)], 14, _ADAM4,
           batch=26, rows=780, shape=[48, 1]),
    recipe("motors-conv-elu", "motors", [_wave(8, 9, strides=3, activation="elu"), _FLAT, dense(20, "elu")], 16, _ADAM4,
           batch=26, rows=780, shape=[48, 1]),
    recipe("breaths-conv", "breaths", [_wave(10, 5, strides=2), _wave(10, 5, strides=2), _FLAT, dense(20)], 24, _ADAM4,
           batch=24, rows=720, shape=[40, 1]),
    recipe("breaths-relu", "breaths", [dense(64), dense(32)], 35, _ADAM2, batch=24, rows=720),
    recipe("taps-conv", "taps", [_wave(8, 5), _wave(8, 5, strides=3), _FLAT, dense(20)], 18, _ADAM4, batch=26, rows=780,
           shape=[36, 1]),
    recipe("phones-relu", "phones", [dense(40), dense(20)], 16, _ADAM2, batch=26, rows=780),
    recipe("phones-conv", "phones", [_wave(12, 9, strides=3), _FLAT, dense(24)], 14, _ADAM4, batch=26, rows=780,
           shape=[48, 1]),
    recipe("levels-relu-sgd", "levels", [dense(32), dense(16)], 24, _sgd(0.05), batch=26, rows=780),
    recipe("levels-gru", "levels", [layer("GRU", units=10)], 18, _ADAM10, batch=39, rows=780, shape=[15, 2]),
    recipe("walks-conv", "walks", [_wave(12, 4), _wave(12, 3, strides=2), _FLAT], 14, _ADAM4, batch=26, rows=780,
           shape=[14, 3]),
    recipe("walks-rnn-clipped", "walks", [layer("SimpleRNN", units=20), dense(12)], 22,
           optimizer("Adam", 4e-3, clip_norm=1.0), batch=26, rows=780, shape=[14, 3]),
    recipe("marks-conv", "marks", [conv(8), _HALF, conv(12), _HALF, _FLAT], 12, _ADAM6, batch=26, rows=780,
           shape=[10, 10, 1]),
    recipe("marks-conv-mean", "marks", [conv(10), conv(16, strides=2), _MEAN, dense(16)], 18, _ADAM10, batch=26,
           rows=780, shape=[10, 10, 1]),
    recipe("scratches-conv", "scratches", [conv(8), _HALF, conv(8), _HALF, _FLAT, dense(12)], 14, _ADAM4, batch=26,
           rows=780, shape=[10, 10, 1]),
    recipe("sunsets-conv", "sunsets", [conv(6, strides=2), conv(8, strides=2), _FLAT, dense(16)], 18, _ADAM4, batch=24,
           rows=720, shape=[8, 8, 3]),
    recipe("sunsets-relu", "sunsets", [dense(32), dense(16)], 20, _ADAM1, batch=24, rows=720),
    recipe("smiles-conv-group", "smiles", [conv(8), layer("GroupNorm", groups=2), _HALF, conv(10), _HALF, _FLAT], 9,
           _ADAM4, batch=26, rows=780, shape=[11, 11, 1]),
    recipe("smiles-relu", "smiles", [dense(64), dense(24)], 22, _ADAM2, batch=26, rows=780),
    recipe("tiles-conv", "tiles", [conv(8), _HALF, conv(12), _HALF, _FLAT, dense(16)], 12, _ADAM4, batch=26, rows=780,
           shape=[12, 12, 1]),
    recipe("round_ones-conv", "round_ones", [conv(6, 5, strides=2), conv(10), _HALF, _FLAT, dense(20)], 9, _ADAM4,
           batch=32, rows=1280, shape=[14, 14, 1]),
    recipe("round_ones-relu", "round_ones", [dense(48), dense(24)], 12, _ADAM1, batch=32, rows=1280),
    recipe("edges-relu-sgd", "edges", [dense(40), dense(20)], 12, _sgd(0.06), batch=32, rows=1280),
    recipe("subjects-dense", "subjects", [_embed(20, 4), _FLAT, dense(32)], 14, _ADAM4, batch=40, rows=1360),
    recipe("subjects-conv", "subjects", [_embed(20, 6), _wave(16, 1), _FLAT], 14, _ADAM4, batch=40, rows=1360),
    recipe("errands-gru", "errands", [_embed(6, 5), layer("GRU", units=14)], 16, _ADAM10, batch=40, rows=1200),
    recipe("brackets-lstm", "brackets", [_embed(3, 4), layer("LSTM", units=14)], 18, _ADAM10, batch=40, rows=1200),
    recipe("brackets-transformer", "brackets", [_embed(3, 8), layer("TransformerBlock", heads=2), _FLAT, dense(16)], 18,
           _ADAM4, batch=40, rows=1200),
    recipe("backwards-conv", "backwards", [_embed(28, 6), _wave(14, 3), _FLAT, dense(16)], 8, _ADAM4, batch=44,
           rows=2200),
]
