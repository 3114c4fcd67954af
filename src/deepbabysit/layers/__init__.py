"""The layers."""

from deepbabysit.layers.basic import (
    Activation,
    Add,
    Concatenate,
    Dropout,
    Flatten,
    Lambda,
    LeakyReLU,
    Reshape,
)
from deepbabysit.layers.dense import Dense
from deepbabysit.layers.layer import Layer, training
from deepbabysit.layers.registry import add_layers, layer_from_config, layer_to_config, register

add_layers(Activation, Add, Concatenate, Dense, Dropout, Flatten, Lambda, LeakyReLU, Reshape)

__all__ = [
    "Activation",
    "Add",
    "Concatenate",
    "Dense",
    "Dropout",
    "Flatten",
    "Lambda",
    "Layer",
    "LeakyReLU",
    "Reshape",
    "layer_from_config",
    "layer_to_config",
    "register",
    "training",
]
