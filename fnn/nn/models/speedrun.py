"""The network of the CIFAR-10 speed runs."""

from collections.abc import Sequence

import jax

from fnn import checks, trees
from fnn.errors import ConfigError
from fnn.nn.activations import elementwise, gelu
from fnn.nn.combinators.chain import chain
from fnn.nn.convolution.conv import conv
from fnn.nn.initializers.fixed import dirac
from fnn.nn.initializers.random import variance_scaling
from fnn.nn.initializers.whitening import whitening
from fnn.nn.linear import dense
from fnn.nn.normalization.batch_norm import batch_norm
from fnn.nn.pooling import global_max_pool, max_pool
from fnn.nn.transforms.freeze import freeze
from fnn.types import Images, Layer, Number, Shape
from fnn.values import maker


@maker
def cifar_speedrun(
    images: Images,
    classes: int = 10,
    *,
    widths: Sequence[int] = (64, 256, 256),
    scale: Number = 1 / 9,
) -> Layer:
    """The network of airbench94, which reaches 94% on CIFAR-10 in about ten epochs.

    x (batch, height, width, channels) -> logits (batch, classes). The first convolution, 2 x 2,
    whitens the patches of the images (nn.whitening) and is frozen, as are the scales of the
    normalizations. The other kernels begin as the identity on their first outputs. 1,972,792
    parameters with the frozen ones, for images of 3 channels [Jordan 2024, arXiv:2404.00498].

    Args:
        images: A batch of images (batch, height, width, channels), prepared as in training.
        classes: Number of classes.
        widths: Channels of each stage.
        scale: Factor of the logits: an inverse temperature.

    Raises:
        ConfigError: An option is out of range.
        ShapeError: `images` is not a batch of images.
        DTypeError: `images` are not of floating point.
    """
    if not isinstance(widths, Sequence) or not widths:
        raise ConfigError(
            "cifar_speedrun widths",
            "a sequence of one or more",
            repr(widths),
            "as in (64, 256, 256)",
        )
    checks.image_batch("cifar_speedrun images", images)
    # A patch of 2 x 2 has 2 * 2 * channels directions, each used with both signs.
    outputs = 2 * (2 * 2 * images.shape[-1])
    whiten = conv(outputs, 2, padding="VALID", kernel_init=whitening(images))

    # The name of the function is the name of the layer.
    def temper(x: jax.Array) -> jax.Array:
        return trees.knob(scale, x) * x

    checks.whole("cifar_speedrun classes", classes)
    checks.number("cifar_speedrun scale", scale, "(-inf, inf)")
    stages = {f"stage_{index}": _stage(width) for index, width in enumerate(widths, 1)}
    return chain(
        # Its bias is trained.
        whiten=freeze(whiten, "kernel"),
        gelu=gelu(),
        **stages,
        pool=global_max_pool(),
        head=dense(classes, use_bias=False),
        temper=elementwise(temper),
    )


def _stage(channels: int) -> Layer:
    return chain(
        conv_1=_conv(channels),
        pool=max_pool(),
        norm_1=_norm(),
        gelu_1=gelu(),
        conv_2=_conv(channels),
        norm_2=_norm(),
        gelu_2=gelu(),
    )


def _conv(channels: int) -> Layer:
    return conv(channels, use_bias=False, kernel_init=_identity_or_random)


def _norm() -> Layer:
    # Momentum and eps of the paper; the bias is trained, the scale stays 1.
    return freeze(batch_norm(momentum=0.6, eps=1e-12), "scale")


def _identity_or_random(key: jax.Array, shape: Shape) -> jax.Array:
    """Initialize the first outputs as the inputs, and the others at random, as in torch."""
    *window, inputs, outputs = shape
    passed = min(inputs, outputs)
    identity = dirac()(key, (*window, inputs, passed))
    # torch's default: U(-a, a) with a = 1 / √fan_in, whose variance is 1 / (3 fan_in).
    random = variance_scaling(1 / 3, mode="fan_in", distribution="uniform")(key, shape)
    return random.at[..., :passed].set(identity)
