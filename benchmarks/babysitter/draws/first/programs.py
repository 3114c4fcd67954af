"""Base programs of this draw."""

from __future__ import annotations

from benchmarks.babysitter.recipes import Recipe, conv, dense, layer, optimizer, recipe

_ADAM, _ADAM3 = optimizer("Adam", 1e-3), optimizer("Adam", 3e-3)
_SGD, _RMS = optimizer("SGD", 0.05, momentum=0.9), optimizer("RMSprop", 1e-3)
_POOL, _FLAT, _BN = layer("MaxPool2D", pool_size=2), layer("Flatten"), layer("BatchNorm", momentum=0.9)

PROGRAMS: list[Recipe] = [
    recipe("cancer-relu", "breast_cancer", [dense(24), dense(12)], 15, _ADAM),
    recipe("cancer-tanh-sgd", "breast_cancer", [dense(16, "tanh")], 20, optimizer("SGD", 0.02, momentum=0.9)),
    recipe("heart-relu", "heart", [dense(12)], 20, _ADAM3, batch=16),
    recipe("heart-elu-sgd", "heart", [dense(8, "elu")], 25, optimizer("SGD", 0.01, momentum=0.9), batch=16),
    recipe("concrete-relu", "concrete", [dense(32), dense(16)], 30, _ADAM3),
    recipe("concrete-tanh-deep", "concrete", [dense(24, "tanh")] * 3, 30, _ADAM3),
    recipe("mnist-relu", "mnist", [dense(64), dense(32)], 12, _ADAM3, rows=1200),
    recipe("mnist-deep", "mnist", [dense(48)] * 4, 12, _ADAM, rows=1500),
    recipe("mnist-cnn", "mnist", [conv(6), _POOL, conv(8), _POOL, _FLAT], 8, _ADAM3, rows=800, shape=[14, 14, 1]),
    recipe("mnist-sgd", "mnist", [dense(48)], 12, _SGD, rows=1200),
    recipe("spirals-relu", "spirals", [dense(32), dense(32)], 30, _ADAM3, rows=720),
    recipe("spirals-tanh-rms", "spirals", [dense(32, "tanh"), dense(32, "tanh")], 30, optimizer("RMSprop", 3e-3),
           rows=720),
    recipe("blobs6-relu", "blobs6", [dense(24), dense(24)], 15, _ADAM, rows=720),
    recipe("blobs6-bn-sgd", "blobs6", [dense(24, use_bias=False), _BN, dense(24)], 15, _SGD, rows=720),
    recipe("friedman-relu", "friedman", [dense(32), dense(16)], 30, _ADAM3),
    recipe("friedman-leaky-sgd", "friedman", [dense(32, "leaky_relu")], 30, optimizer("SGD", 0.02, momentum=0.9)),
    recipe("gratings-cnn", "gratings", [conv(8, 5), _POOL, _FLAT, dense(24)], 12, _ADAM3, shape=[10, 10, 1]),
]
