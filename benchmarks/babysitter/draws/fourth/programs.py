"""Base programs of this draw."""

from __future__ import annotations

from typing import Any

from benchmarks.babysitter.recipes import Recipe, conv, dense, layer, optimizer, recipe

_ADAM, _ADAM3, _ADAM5, _ADAM8 = (optimizer("Adam", rate) for rate in (1.5e-3, 3e-3, 5e-3, 8e-3))
_FLAT, _HALF, _MEAN = layer("Flatten"), layer("MaxPool2D", pool_size=2), layer("GlobalAvgPool2D")
_SOFT = layer("AvgPool2D", pool_size=2)


def _sgd(rate: float, momentum: float = 0.9, **more: Any) -> dict[str, Any]:
    return optimizer("SGD", rate, momentum=momentum, **more)


def _wave(filters: int, size: int, **more: Any) -> dict[str, Any]:
    return layer("Conv1D", **{
        "filters": filters, "kernel_size": size, "activation": "relu", "kernel_initializer": "he_normal", **more})


def _embed(count: int, width: int) -> dict[str, Any]:
    return layer("Embedding", input_dim=count, output_dim=width)


def _norm(units: int) -> list[dict[str, Any]]:
    """Return a layer as it stands in most books: dense, normalized, bent."""
    return [layer("Dense", units=units, use_bias=False, kernel_initializer="he_normal"),
            layer("BatchNorm", momentum=0.9), layer("Activation", activation="relu")]


PROGRAMS: list[Recipe] = [
    recipe("amplifier-relu", "amplifier", [dense(24), dense(12)], 25, _ADAM5, batch=25, rows=700),
    recipe("amplifier-tanh-nadam", "amplifier", [dense(24, "tanh")], 30, optimizer("NAdam", 5e-3), batch=28, rows=700),
    recipe("wing-relu-sgd", "wing", [dense(32)], 22, _sgd(0.02), batch=24, rows=720),
    recipe("wing-elu", "wing", [dense(24, "elu"), dense(16, "elu")], 22, _ADAM3, batch=24, rows=720),
    recipe("option-silu", "option", [dense(32, "silu"), dense(16, "silu")], 28, _ADAM5, batch=25, rows=700),
    recipe("option-relu-deep", "option", [dense(24), dense(24), dense(24)], 28, _ADAM3, batch=20, rows=700),
    recipe("hares-tanh", "hares", [dense(32, "tanh"), dense(16, "tanh")], 35, _ADAM5, batch=24, rows=720),
    recipe("hares-relu-rms", "hares", [dense(40), dense(20)], 35, optimizer("RMSprop", 1.5e-3), batch=24, rows=720),
    recipe("throw-relu", "throw", [dense(32), dense(32)], 30, _ADAM5, batch=30, rows=720),
    recipe("throw-gelu-adamw", "throw", [dense(40, "gelu")], 40, optimizer("AdamW", 8e-3, weight_decay=1e-3),
           batch=24, rows=720),
    recipe("blood-relu", "blood", [dense(32), dense(16)], 25, _ADAM3, batch=22, rows=660),
    recipe("blood-lstm", "blood", [layer("LSTM", units=12)], 30, _ADAM5, batch=30, rows=660, shape=[10, 1]),
    recipe("boilers-leaky", "boilers", [dense(32, "leaky_relu"), dense(16, "leaky_relu")], 25, _ADAM5, batch=24,
           rows=720),
    recipe("boilers-selu-huber", "boilers", [dense(20, "selu"), dense(20, "selu")], 25, _ADAM3, batch=24, rows=720,
           loss="huber"),
    recipe("ackley-tanh-deep", "ackley", [dense(28, "tanh"), dense(28, "tanh"), dense(28, "tanh")], 45, _ADAM5,
           batch=28, rows=840),
    recipe("ackley-relu", "ackley", [dense(48), dense(32)], 40, _ADAM5, batch=28, rows=840),
    recipe("crops-relu", "crops", [dense(20), dense(12)], 15, _ADAM3, batch=26, rows=650),
    recipe("crops-tanh-nesterov", "crops", [dense(20, "tanh")], 15, _sgd(0.03, nesterov=True), batch=26, rows=650),
    recipe("triage-relu", "triage", [dense(40), dense(20)], 26, _ADAM3, batch=32, rows=1600),
    recipe("triage-norms", "triage", [*_norm(32), *_norm(20)], 18, _ADAM3, batch=40, rows=1600),
    recipe("waveform-relu-sgd", "waveform", [dense(24)], 10, _sgd(0.02), batch=24, rows=720),
    recipe("waveform-selu", "waveform", [dense(16, "selu"), dense(16, "selu")], 14, _ADAM, batch=24, rows=720),
    recipe("ringnorm-relu", "ringnorm", [dense(32), dense(16)], 18, _ADAM3, batch=30, rows=1080),
    recipe("ringnorm-layernorm", "ringnorm", [dense(32), layer("LayerNorm"), dense(16)], 16, _ADAM3, batch=30,
           rows=1080),
    recipe("display-relu", "display", [dense(40), dense(24)], 15, _ADAM3, batch=30, rows=900),
    recipe("display-tanh-adagrad", "display", [dense(32, "tanh")], 22, optimizer("Adagrad", 0.06), batch=30, rows=900),
    recipe("yin_yang-relu", "yin_yang", [dense(40), dense(30)], 35, _ADAM5, batch=36, rows=900),
    recipe("yin_yang-silu-rms", "yin_yang", [dense(40, "silu"), dense(30, "silu")], 40, optimizer("RMSprop", 2e-3),
           batch=36, rows=900),
    recipe("links-tanh", "links", [dense(20, "tanh"), dense(20, "tanh")], 25, _ADAM8, batch=28, rows=700),
    recipe("links-relu-lion", "links", [dense(32), dense(16)], 25, optimizer("Lion", 1e-3), batch=28, rows=700),
    recipe("darts-relu", "darts", [dense(48), dense(32)], 40, _ADAM5, batch=40, rows=1080),
    recipe("darts-gelu-deep", "darts", [dense(32, "gelu"), dense(32, "gelu"), dense(32, "gelu")], 34, _ADAM5, batch=40,
           rows=1080),
    recipe("teacher-relu", "teacher", [dense(40), dense(20)], 18, _ADAM3, batch=32, rows=960),
    recipe("teacher-rmsnorm", "teacher", [dense(40, "elu"), layer("RMSNorm"), dense(20, "elu")], 18, _ADAM3, batch=32,
           rows=960),
    recipe("fraud-relu", "fraud", [dense(28), dense(14)], 25, _ADAM3, batch=30, rows=900),
    recipe("fraud-elu-adadelta", "fraud", [dense(20, "elu")], 18, optimizer("Adadelta", 1.0), batch=25, rows=900),
    recipe("modulated-conv", "modulated", [_wave(10, 7, strides=2), _wave(10, 5, strides=2), _FLAT, dense(16)], 16,
           _ADAM5, batch=26, rows=780, shape=[48, 1]),
    recipe("modulated-convs-gelu", "modulated", [_wave(12, 9, strides=3, activation="gelu"), _FLAT,
                                                dense(24, "gelu")], 18, _ADAM5, batch=26, rows=780, shape=[48, 1]),
    recipe("spectra-relu", "spectra", [dense(32), dense(16)], 30, _ADAM5, batch=22, rows=660),
    recipe("spectra-tanh-sgd", "spectra", [dense(24, "tanh")], 30, _sgd(0.02), batch=22, rows=660),
    recipe("quakes-conv", "quakes", [_wave(8, 5, strides=2), _wave(8, 3, strides=2), _FLAT, dense(16)], 20, _ADAM5,
           batch=24, rows=720, shape=[40, 1]),
    recipe("moods-conv", "moods", [_wave(10, 4), _wave(10, 3, strides=3), _FLAT], 20, _ADAM5, batch=24, rows=720,
           shape=[36, 1]),
    recipe("meters-gru", "meters", [layer("GRU", units=12)], 24, _ADAM5, batch=39, rows=780, shape=[12, 2]),
    recipe("meters-relu-sgd", "meters", [dense(32), dense(16)], 18, _sgd(0.03), batch=26, rows=780),
    recipe("arrows-conv", "arrows", [conv(8), _HALF, conv(12), _HALF, _FLAT], 12, _ADAM5, batch=26, rows=780,
           shape=[11, 11, 1]),
    recipe("arrows-convs-group", "arrows", [conv(8, 5, strides=2), layer("GroupNorm", groups=2), conv(12), _FLAT], 9,
           _ADAM5, batch=26, rows=780, shape=[11, 11, 1]),
    recipe("stars-conv", "stars", [conv(6), _HALF, conv(8), _SOFT, _FLAT, dense(16)], 16, _ADAM5, batch=24, rows=720,
           shape=[10, 10, 1]),
    recipe("flags-conv", "flags", [conv(8), _SOFT, conv(12), _SOFT, _FLAT], 12, _ADAM5, batch=28, rows=840,
           shape=[8, 8, 3]),
    recipe("flags-relu", "flags", [dense(64), dense(32)], 18, _ADAM, batch=28, rows=840),
    recipe("grids-conv", "grids", [conv(8), _HALF, conv(8), _MEAN, dense(12)], 16, _ADAM8, batch=26, rows=780,
           shape=[9, 9, 1]),
    recipe("alike-conv", "alike", [conv(6, 5, strides=2), conv(10), _HALF, _FLAT, dense(24)], 10, _ADAM3, batch=32,
           rows=1280, shape=[14, 14, 1]),
    recipe("alike-relu", "alike", [dense(48), dense(24)], 12, _ADAM, batch=32, rows=1280),
    recipe("upper_halves-relu-sgd", "upper_halves", [dense(40), dense(20)], 11, _sgd(0.06), batch=32, rows=1920),
    recipe("codons-conv", "codons", [_embed(4, 4), _wave(16, 4), _FLAT, dense(16)], 16, _ADAM8, batch=40, rows=1360),
    recipe("callers-gru", "callers", [_embed(8, 6), layer("GRU", units=12)], 16, _ADAM8, batch=40, rows=960),
    recipe("callers-transformer", "callers", [_embed(8, 8), layer("TransformerBlock", heads=2), _FLAT], 24, _ADAM3,
           batch=40, rows=960),
    recipe("scrambled-conv", "scrambled", [_embed(28, 6), _wave(12, 3), _FLAT, dense(12)], 8, _ADAM3, batch=45,
           rows=3150),
    recipe("baskets-dense", "baskets", [_embed(8, 4), _FLAT, dense(32)], 22, _ADAM8, batch=32, rows=1280),
]
