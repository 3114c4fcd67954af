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
from deepbabysit.layers.layer import Layer, training
from deepbabysit.layers.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from deepbabysit.layers.pooling import AvgPool2D, GlobalAvgPool2D, MaxPool2D
from deepbabysit.layers.recurrent import GRU, LSTM, Bidirectional, SimpleRNN
from deepbabysit.layers.registry import add_layers, layer_from_config, layer_to_config, register
from deepbabysit.layers.symbolic import Input

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


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    from deepbabysit.errors import unknown

    raise AttributeError(f"deepbabysit.layers: {unknown('layer', name, __all__)}")
