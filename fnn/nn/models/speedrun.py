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
    """The network of airbench94: CIFAR-10 at 94 % in some ten epochs; a first layer that whitens, and three stages.

    x (batch, height, width, channels) -> logits (batch, classes), times `scale`, which stands for a temperature. The
    first kernel, 2 x 2, is nn.whitening of the images, a batch as training will see them, and is not trained; nor are
    the scales of the norms. Other kernels begin as passing their inputs through. 1,972,792 parameters with the frozen
    ones for images of 3 channels. ConfigError for no widths [Jordan 2024, arXiv:2404.00498].
    """
    if not isinstance(widths, Sequence) or not widths:
        raise ConfigError(
            "cifar_speedrun widths",
            "a sequence of one or more",
            repr(widths),
            "as in (64, 256, 256)",
        )
    checks.image_batch("cifar_speedrun images", images)
    outputs = 2 * 2 * 2 * images.shape[-1]  # both signs of each direction in a patch of 2 x 2
    first = conv(outputs, 2, padding="VALID", kernel_init=whitening(images))

    def temper(x: jax.Array) -> jax.Array:
        return trees.knob(scale, x) * x

    checks.whole("cifar_speedrun classes", classes)
    checks.number("cifar_speedrun scale", scale, "(-inf, inf)")
    return chain(
        whiten=freeze(first, "kernel"),
        gelu=gelu(),
        **{f"stage_{place}": _stage(width) for place, width in enumerate(widths, 1)},
        pool=global_max_pool(),
        head=dense(classes, use_bias=False),
        temper=elementwise(temper),
    )


def _stage(channels: int) -> Layer:
    def half(place: int) -> dict[str, Layer]:
        norm = freeze(batch_norm(momentum=0.6, eps=1e-12), "scale")
        return {f"norm_{place}": norm, f"gelu_{place}": gelu()}

    first, last = (conv(channels, use_bias=False, kernel_init=_passing) for _ in range(2))
    return chain(conv_1=first, pool=max_pool(), **half(1), conv_2=last, **half(2))


def _passing(key: jax.Array, shape: Shape) -> jax.Array:
    """As many outputs as there are inputs pass them through; the rest begin at random, as in torch."""
    *field, inputs, outputs = shape
    through = dirac()(key, (*field, inputs, min(inputs, outputs)))
    drawn = variance_scaling(1 / 3, mode="fan_in", distribution="uniform")(key, shape)
    return drawn.at[..., : through.shape[-1]].set(through)
