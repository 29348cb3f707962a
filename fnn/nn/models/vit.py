"""The vision transformer."""

from collections.abc import Sequence

import jax

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.attention.transformer import transformer_block
from fnn.nn.combinators.chain import chain
from fnn.nn.combinators.parallel import parallel
from fnn.nn.combinators.repeat import repeat
from fnn.nn.convolution.conv import conv
from fnn.nn.core.stateless import plain
from fnn.nn.dropout import dropout
from fnn.nn.embedding import learned_positions
from fnn.nn.initializers.fixed import zeros
from fnn.nn.linear import dense, parameter
from fnn.nn.normalization.layer_norm import layer_norm
from fnn.types import Layer, Number, Shape
from fnn.values import maker

EPSILON = 1e-6  # of the norms, as in the authors' code


@maker
def vit(
    patch: int | Sequence[int] = 16,
    classes: int = 1000,
    *,
    size: int | Sequence[int] = 224,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    expansion: int = 4,
    drop_rate: Number | None = None,
    drop_path_rate: Number | None = None,
) -> Layer:
    """The vision transformer: an image as a sequence of patches, and a class token; the defaults are ViT-B/16.

    x (batch, height, width, channels), height and width being `size` -> logits (batch, classes). Of `depth` blocks
    number i drops whole branches at the rate drop_path_rate i / depth. Compiling takes as long as for one block; the
    params of all stand stacked under `blocks/body`. lab.load_weights reads weights of torchvision and timm into it.
    ConfigError unless patches fill the image and heads the width; ShapeError for another size
    [Dosovitskiy et al. 2021, arXiv:2010.11929].
    """
    patches, image = checks.pair("vit patch", patch), checks.pair("vit size", size)
    if any(whole % part for whole, part in zip(image, patches, strict=True)):
        raise ConfigError(
            "vit size", f"a multiple of the patch {patches}", image, "resize the images"
        )
    if checks.whole("vit width", width) % checks.whole("vit heads", heads):
        raise ConfigError(
            "vit width", f"a multiple of heads={heads}", width, "choose another width"
        )
    checks.whole("vit depth", depth)
    checks.whole("vit classes", classes)
    if drop_path_rate is not None:
        checks.number("vit drop_path_rate", drop_path_rate, "[0, 1)")

    def block(reached: jax.Array) -> Layer:
        skipped = None if drop_path_rate is None else trees.knob(drop_path_rate, reached) * reached
        norm = layer_norm(eps=EPSILON)
        return transformer_block(
            heads, expansion=expansion, drop_rate=drop_rate, drop_path_rate=skipped, norm=norm
        )

    count = (image[0] // patches[0]) * (image[1] // patches[1])
    return chain(
        size=_sized(image),
        patches=conv(width, patches, stride=patches, padding="VALID"),
        sequence=_sequence(),
        tokens=parallel(token=parameter(1, width, init=zeros()), patches=chain(), axis=1),
        positions=learned_positions(count + 1),
        **({} if drop_rate is None else {"dropout": dropout(drop_rate)}),
        blocks=repeat(block, depth),
        norm=layer_norm(eps=EPSILON),
        first=_first(),
        head=dense(classes, kernel_init=zeros()),
    )


def _sized(size: tuple[int, int]) -> Layer:
    """Other sizes would give other patches the positions of these."""

    def expect(shape: Shape) -> Shape:
        if checks.image_shape("vit", shape)[:2] != size:
            raise ShapeError(
                "vit x", f"images of {size}", shape, "resize them, or give size= to vit"
            )
        return shape

    def through(x: jax.Array) -> jax.Array:
        expect(checks.image_batch("vit x", x).shape[1:])
        return x

    return plain("size", expect, through)


def _sequence() -> Layer:
    def sequence(x: jax.Array) -> jax.Array:
        return x.reshape(
            x.shape[0], -1, x.shape[-1]
        )  # (batch, rows, columns, width) -> (batch, patches, width)

    return plain("sequence", lambda shape: (shape[0] * shape[1], shape[2]), sequence)


def _first() -> Layer:
    return plain("first", lambda shape: shape[1:], lambda x: x[:, 0])
