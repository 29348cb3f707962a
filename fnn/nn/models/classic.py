"""Classic networks: multilayer perceptron, LeNet-5 and VGG."""

from collections.abc import Sequence

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations import relu, tanh
from fnn.nn.combinators.chain import chain
from fnn.nn.convolution.conv import conv
from fnn.nn.dropout import dropout
from fnn.nn.linear import dense
from fnn.nn.normalization import batch_norm as normalization
from fnn.nn.pooling import adaptive_avg_pool, avg_pool, max_pool
from fnn.nn.shape import flatten
from fnn.types import Layer, Number
from fnn.values import maker

# Convolutions in each stage of VGG by depth: table 1 of the paper.
VGG_STAGES = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
VGG_POOLED_SIZE = 7  # height and width of the feature map that the dense layers of VGG get


@maker
def mlp(
    units: Sequence[int],
    *,
    activation: Layer | None = None,
    drop_rate: Number | None = None,
) -> Layer:
    """Multilayer perceptron: y = W_n f(... f(W_1 x + b_1)) + b_n.

    x (batch, ..., inputs) -> y (batch, ..., units[-1]). For images put nn.flatten() before it
    [Rosenblatt 1961; Rumelhart et al. 1986].

    Args:
        units: Number of outputs of each dense layer.
        activation: The layer f between dense layers; relu if None.
        drop_rate: Rate of dropout after each activation, in [0, 1); no dropout if None.

    Raises:
        ConfigError: `units` is not a sequence of whole numbers >= 1, or `drop_rate` is out of
            range.
    """
    if not isinstance(units, Sequence) or not units:
        raise ConfigError(
            "mlp units",
            "a sequence of one or more",
            repr(units),
            "list the widths, as in (64, 10)",
        )
    widths = [checks.whole("mlp units", width) for width in units]
    activation = relu() if activation is None else activation
    layers: dict[str, Layer] = {}
    for index, width in enumerate(widths, 1):
        # Layers are numbered from 1, and an activation has the number of its dense layer.
        layers[f"dense_{index}"] = dense(width)
        # The last dense layer gives the outputs.
        if index == len(widths):
            continue
        layers[f"activation_{index}"] = activation
        if drop_rate is not None:
            layers[f"dropout_{index}"] = dropout(drop_rate)
    return chain(**layers)


@maker
def lenet5(classes: int = 10) -> Layer:
    """LeNet-5: two convolutions with pooling and three dense layers, for small gray images.

    x (batch, height, width, channels) -> logits (batch, classes); 61,706 parameters for images of
    32 x 32 x 1, whose feature maps have the sizes 28, 14, 10, 5. As is usual today, all feature
    maps are connected, the pools have no parameters and the output is linear
    [LeCun et al. 1998, Gradient-based learning applied to document recognition].

    Args:
        classes: Number of classes.

    Raises:
        ConfigError: `classes` is not a whole number >= 1.
        ShapeError: The images are smaller than 16 x 16.
    """
    checks.whole("lenet5 classes", classes)
    return chain(
        # Sizes for images of 32 x 32: 28, 14.
        conv_1=conv(6, 5, padding="VALID"),
        tanh_1=tanh(),
        pool_1=avg_pool(),
        # Sizes 10, 5; 5 x 5 x 16 = 400 features.
        conv_2=conv(16, 5, padding="VALID"),
        tanh_2=tanh(),
        pool_2=avg_pool(),
        flatten=flatten(),
        dense_1=dense(120),
        tanh_3=tanh(),
        dense_2=dense(84),
        tanh_4=tanh(),
        dense_3=dense(classes),
    )


@maker
def vgg(
    depth: int,
    classes: int = 1000,
    *,
    width: int = 64,
    units: int = 4096,
    batch_norm: bool = True,
    drop_rate: Number = 0.5,
) -> Layer:
    """VGG: stages of 3 x 3 convolutions, each with a max pool at its end, then three dense layers.

    x (batch, height, width, channels) -> logits (batch, classes), for images from 32 x 32 on. The
    five stages have width, 2, 4, 8 and 8 times width channels. The last feature map is averaged to
    7 x 7, as in torchvision [Simonyan & Zisserman 2015, arXiv:1409.1556].

    Args:
        depth: Number of convolutions and dense layers: 11, 13, 16 or 19.
        classes: Number of classes.
        width: Channels of the first stage.
        units: Outputs of each of the two hidden dense layers.
        batch_norm: Whether a batch normalization follows each convolution; without it the deeper
            networks hardly train.
        drop_rate: Rate of dropout after each hidden dense layer, in [0, 1).

    Raises:
        ConfigError: An option is out of range.
    """
    if checks.whole("vgg depth", depth) not in VGG_STAGES:
        raise ConfigError(
            "vgg depth",
            f"one of {list(VGG_STAGES)}",
            depth,
            "the depth counts convolutions and dense layers",
        )
    checks.whole("vgg width", width)
    checks.whole("vgg units", units)
    checks.whole("vgg classes", classes)
    checks.flag("vgg batch_norm", batch_norm)
    stages = {}
    for index, count in enumerate(VGG_STAGES[depth]):
        # The channels double from stage to stage, up to 8 times the width.
        channels = width * min(2**index, 8)
        stages[f"stage_{index + 1}"] = _vgg_stage(channels, count, batch_norm)
    return chain(
        **stages,
        # So that the first dense layer has the same size for all images.
        pool=adaptive_avg_pool(VGG_POOLED_SIZE),
        flatten=flatten(),
        dense_1=dense(units),
        relu_1=relu(),
        dropout_1=dropout(drop_rate),
        dense_2=dense(units),
        relu_2=relu(),
        dropout_2=dropout(drop_rate),
        dense_3=dense(classes),
    )


def _vgg_stage(channels: int, count: int, batch_norm: bool) -> Layer:
    layers: dict[str, Layer] = {}
    for index in range(1, count + 1):
        layers[f"conv_{index}"] = conv(channels)
        # The flag hides the function of this name, which is taken from its module.
        if batch_norm:
            layers[f"norm_{index}"] = normalization.batch_norm()
        layers[f"relu_{index}"] = relu()
    return chain(**layers, pool=max_pool())
