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


@maker
def mlp(
    units: Sequence[int], *, activation: Layer | None = None, drop_rate: Number | None = None
) -> Layer:
    """Dense layers of so many units, and an activation between each two: y = W_n f(... f(W_1 x + b_1)) + b_n.

    x (batch, ..., inputs) -> y (batch, ..., units[-1]); relu unless an activation is given, dropout after it if a
    drop_rate is. For images put nn.flatten() before it. ConfigError for no units, or units below 1
    [Rosenblatt 1961; Rumelhart et al. 1986].
    """
    if not isinstance(units, Sequence) or not units:
        raise ConfigError(
            "mlp units", "a sequence of one or more", repr(units), "list the widths, as in (64, 10)"
        )
    widths = [checks.whole("mlp units", width) for width in units]
    bend = relu() if activation is None else activation
    parts: dict[str, Layer] = {}
    for place, width in enumerate(widths, 1):
        parts[f"dense_{place}"] = dense(width)
        if place < len(widths):
            parts[f"activation_{place}"] = bend
            parts |= {} if drop_rate is None else {f"dropout_{place}": dropout(drop_rate)}
    return chain(**parts)


@maker
def lenet5(classes: int = 10) -> Layer:
    """LeNet-5, two convolutions with pooling and three dense layers, for small gray images.

    x (batch, height, width, channels) -> logits (batch, classes); 61,706 parameters for 32 x 32 x 1, where the sizes go
    28, 14, 10, 5. As today: all feature maps are connected, the pools hold no parameters and the end is linear.
    ShapeError for images below 16 x 16 [LeCun et al. 1998, Gradient-based learning applied to document recognition].
    """
    checks.whole("lenet5 classes", classes)
    return chain(
        conv_1=conv(6, 5, padding="VALID"), tanh_1=tanh(), pool_1=avg_pool(),
        conv_2=conv(16, 5, padding="VALID"), tanh_2=tanh(), pool_2=avg_pool(),
        flatten=flatten(), dense_1=dense(120), tanh_3=tanh(), dense_2=dense(84), tanh_4=tanh(), dense_3=dense(classes),
    )  # fmt: skip


STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
END = 7  # pixels of the last feature map, height and width, that the dense layers see


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
    """The VGG network of depth 11, 13, 16 or 19: stages of 3 x 3 convolutions, each ended by a pool, then dense layers.

    x (batch, height, width, channels) -> logits (batch, classes); five stages of width, 2, 4, 8 and 8 times width
    channels, and two hidden layers of so many units. The last map is averaged to 7 x 7, as in torchvision, so any size
    from 32 x 32 on will do. ConfigError for another depth [Simonyan & Zisserman 2015, arXiv:1409.1556].
    """
    if checks.whole("vgg depth", depth) not in STAGES:
        raise ConfigError(
            "vgg depth",
            f"one of {list(STAGES)}",
            depth,
            "the depth counts convolutions and dense layers",
        )
    checks.whole("vgg width", width)
    checks.whole("vgg units", units)
    checks.whole("vgg classes", classes)
    checks.flag("vgg batch_norm", batch_norm)
    stages = [
        _stage(width * min(2**place, 8), count, batch_norm)
        for place, count in enumerate(STAGES[depth])
    ]
    return chain(
        **{f"stage_{place}": stage for place, stage in enumerate(stages, 1)},
        pool=adaptive_avg_pool(END), flatten=flatten(),
        dense_1=dense(units), relu_1=relu(), dropout_1=dropout(drop_rate),
        dense_2=dense(units), relu_2=relu(), dropout_2=dropout(drop_rate),
        dense_3=dense(classes),
    )  # fmt: skip


def _stage(channels: int, count: int, batch_norm: bool) -> Layer:
    parts: dict[str, Layer] = {}
    for place in range(1, count + 1):
        parts[f"conv_{place}"] = conv(channels)
        parts |= {f"norm_{place}": normalization.batch_norm()} if batch_norm else {}
        parts[f"relu_{place}"] = relu()
    return chain(**parts, pool=max_pool())
