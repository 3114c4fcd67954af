"""The layers."""

from deepbabysit.layers.attention import MultiHeadAttention, TransformerBlock
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
from deepbabysit.layers.convolution import Conv1D, Conv2D, ConvTranspose2D, DepthwiseConv2D
from deepbabysit.layers.dense import Dense
from deepbabysit.layers.embedding import Embedding
from deepbabysit.layers.layer import Layer
from deepbabysit.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from deepbabysit.layers.pooling import AvgPool2D, GlobalAvgPool2D, MaxPool2D
from deepbabysit.layers.recurrent import GRU, LSTM, Bidirectional, SimpleRNN
from deepbabysit.layers.registry import add_layers, layer_from_config, layer_to_config, register
from deepbabysit.layers.symbolic import Input
from deepbabysit.layers.updates import training

# Keras' longer names
BatchNormalization = BatchNorm
LayerNormalization = LayerNorm
GroupNormalization = GroupNorm
RMSNormalization = RMSNorm
Conv2DTranspose = ConvTranspose2D
Convolution1D = Conv1D
Convolution2D = Conv2D
MaxPooling2D = MaxPool2D
AveragePooling2D = AvgPool2D
GlobalAveragePooling2D = GlobalAvgPool2D

_CLASSES: tuple[type[Layer], ...] = (
    Activation, Add, AvgPool2D, BatchNorm, Bidirectional, Concatenate, Conv1D, Conv2D, ConvTranspose2D, Dense,
    DepthwiseConv2D, Dropout, Embedding, Flatten, GRU, GlobalAvgPool2D, GroupNorm, LSTM, Lambda, LayerNorm, LeakyReLU,
    MaxPool2D, MultiHeadAttention, RMSNorm, Reshape, SimpleRNN, TransformerBlock,
)
_ALIASES: dict[str, type[Layer]] = {
    "BatchNormalization": BatchNorm, "LayerNormalization": LayerNorm, "GroupNormalization": GroupNorm,
    "RMSNormalization": RMSNorm, "Conv2DTranspose": ConvTranspose2D, "Convolution1D": Conv1D, "Convolution2D": Conv2D,
    "MaxPooling2D": MaxPool2D, "AveragePooling2D": AvgPool2D, "GlobalAveragePooling2D": GlobalAvgPool2D,
}
add_layers(*_CLASSES, **_ALIASES)

__all__ = [
    *(cls.__name__ for cls in _CLASSES), *_ALIASES, "Input", "Layer", "layer_from_config", "layer_to_config",
    "register", "training",
]


# what other libraries have as a layer, and how it is written here
_ELSEWHERE = {
    "ReLU": 'Activation("relu")', "GELU": 'Activation("gelu")', "ELU": 'Activation("elu")',
    "SELU": 'Activation("selu")', "SiLU": 'Activation("silu")', "Sigmoid": 'Activation("sigmoid")',
    "Softmax": 'Activation("softmax")', "Tanh": 'Activation("tanh")', "Softplus": 'Activation("softplus")',
    "LogSoftmax": 'Activation("log_softmax")', "Linear": "Dense(units); the number of inputs is found by itself",
    "BatchNorm1d": "BatchNorm()", "BatchNorm2d": "BatchNorm()", "Conv2d": "Conv2D(filters, kernel_size)",
    "Conv1d": "Conv1D(filters, kernel_size)", "MaxPool2d": "MaxPool2D(pool_size)",
    "AvgPool2d": "AvgPool2D(pool_size)", "Dropout2d": 'Dropout(rate, per="channel")',
    "RNN": "SimpleRNN(units)", "TimeDistributed": "the layer itself: Dense works on the last axis of any input",
    "InputLayer": "db.Input(shape)", "Input": "db.Input(shape)",
}


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    from deepbabysit.errors import unknown

    if name in _ELSEWHERE:
        raise AttributeError(f"deepbabysit.layers has no {name!r}; write {_ELSEWHERE[name]}")
    raise AttributeError(f"deepbabysit.layers: {unknown('layer', name, __all__)}")
