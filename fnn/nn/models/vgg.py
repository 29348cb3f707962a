"""VGG networks."""

from fnn import checks
from fnn.errors import ConfigError
from fnn.nn.activations.pointwise import relu
from fnn.nn.combinators.chain import chain
from fnn.nn.convolution.conv import conv
from fnn.nn.linear.dense import dense
from fnn.nn.noise.dropout import dropout
from fnn.nn.normalization import batch_norm as normalization
from fnn.nn.pooling.regions import adaptive_avg_pool
from fnn.nn.pooling.windows import max_pool
from fnn.nn.reshaping.shape import flatten
from fnn.types import Layer, Number
from fnn.values import maker

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
            "vgg depth", f"one of {list(STAGES)}", depth, "the depth counts convolutions and dense layers"
        )
    checks.whole("vgg width", width)
    checks.whole("vgg units", units)
    checks.whole("vgg classes", classes)
    checks.flag("vgg batch_norm", batch_norm)
    stages = [_stage(width * min(2**place, 8), count, batch_norm) for place, count in enumerate(STAGES[depth])]
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
