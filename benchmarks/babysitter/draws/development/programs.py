"""Base programs of this draw."""

from __future__ import annotations

from benchmarks.babysitter.recipes import Recipe, conv, dense, layer, optimizer, recipe

_ADAM, _ADAM3 = optimizer("Adam", 1e-3), optimizer("Adam", 3e-3)
_SGD, _RMS = optimizer("SGD", 0.05, momentum=0.9), optimizer("RMSprop", 1e-3)
_POOL, _FLAT, _BN = layer("MaxPool2D", pool_size=2), layer("Flatten"), layer("BatchNorm", momentum=0.9)

PROGRAMS: list[Recipe] = [
    recipe("digits-relu", "digits", [dense(64), dense(32)], 20, _ADAM3, rows=600),
    recipe("digits-tanh-sgd", "digits", [dense(48, "tanh"), dense(32, "tanh")], 15, _SGD, rows=600),
    recipe("digits-cnn", "digits", [conv(8), _POOL, _FLAT, dense(32)], 12, _ADAM3, rows=480, shape=[8, 8, 1]),
    recipe("digits-deep", "digits", [dense(48), dense(48), dense(48), dense(48)], 15, _ADAM, rows=750),
    recipe("wine-relu", "wine", [dense(16), dense(8)], 30, _ADAM3, batch=16),
    recipe("wine-tanh", "wine", [dense(16, "tanh")], 40, optimizer("SGD", 0.02, momentum=0.9), batch=16),
    recipe("diabetes-relu", "diabetes", [dense(16)], 15, _ADAM3, batch=16),
    recipe("auto-mpg-relu", "auto-mpg", [dense(32), dense(16)], 25, _ADAM3, batch=16),
    recipe("auto-mpg-elu-rms", "auto-mpg", [dense(24, "elu")], 30, optimizer("RMSprop", 3e-3), batch=16),
    recipe("circles-relu", "circles", [dense(16), dense(16)], 25, _ADAM3),
    recipe("circles-tanh-deep", "circles", [dense(16, "tanh"), dense(16, "tanh"), dense(16, "tanh")], 30, _ADAM3),
    recipe("moons-relu-sgd", "moons", [dense(24), dense(12)], 25, _SGD),
    recipe("blobs3-relu-rms", "blobs3", [dense(16), dense(16)], 15, _RMS),
    recipe("blobs3-bn", "blobs3", [dense(24, use_bias=False), _BN, dense(16)], 15, _ADAM3),
    recipe("waves-relu", "waves", [dense(32), dense(32)], 25, _ADAM3),
    recipe("waves-tanh-sgd", "waves", [dense(32, "tanh"), dense(16, "tanh")], 30, _SGD),
]

# columns of tables, and rows of pictures, as steps of a sequence
STEPS = {"digits": (8, 8), "wine": (13, 1), "diabetes": (10, 1), "auto-mpg": (7, 1), "blobs3": (6, 1), "waves": (4, 1)}
