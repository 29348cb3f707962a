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
from fnn.nn.core.stateless import stateless
from fnn.nn.dropout import dropout
from fnn.nn.embedding import learned_positions
from fnn.nn.initializers.fixed import zeros
from fnn.nn.linear import dense, parameter
from fnn.nn.normalization.layer_norm import layer_norm
from fnn.types import Layer, Number, Shape
from fnn.values import maker

EPSILON = 1e-6  # of the normalizations, as in the authors' code


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
    """Vision transformer: an image as a sequence of patches and a class token; default ViT-B/16.

    x (batch, height, width, channels) -> logits (batch, classes). Compiling takes as long as for
    one block: the params of all blocks are stacked under `blocks/body`. lab.load_weights reads
    weights of torchvision and timm [Dosovitskiy et al. 2021, arXiv:2010.11929].

    Args:
        patch: Height and width of a patch, in pixels; one number or two.
        classes: Number of classes.
        size: Height and width of the images, multiples of those of a patch; one number or two.
        width: Size of the vector of a patch; a multiple of `heads`.
        depth: Number of blocks.
        heads: Number of attention heads.
        expansion: Size of the hidden layer of a block, by `width`.
        drop_rate: Rate of dropout of embeddings and branches, in [0, 1); no dropout if None.
        drop_path_rate: Rate of dropping whole branches of the last block, in [0, 1); block i of
            `depth` has i / depth times this rate. None drops no branches.

    Raises:
        ConfigError: An option is out of range, the patches do not fill the image, or `heads` does
            not divide `width`.
        ShapeError: The images have another size.
        DTypeError: x is not of floating point.
    """
    patches = checks.pair("vit patch", patch)
    image = checks.pair("vit size", size)
    # Patches in each direction, and pixels that they would not cover.
    rows, cut_rows = divmod(image[0], patches[0])
    columns, cut_columns = divmod(image[1], patches[1])
    if cut_rows or cut_columns:
        raise ConfigError(
            "vit size",
            f"a multiple of the patch {patches}",
            image,
            "resize the images",
        )
    if checks.whole("vit width", width) % checks.whole("vit heads", heads):
        raise ConfigError(
            "vit width",
            f"a multiple of heads={heads}",
            width,
            "choose another width",
        )
    checks.whole("vit depth", depth)
    checks.whole("vit classes", classes)
    if drop_path_rate is not None:
        checks.number("vit drop_path_rate", drop_path_rate, "[0, 1)")

    # `repeat` passes i / depth to block i: a traced rate, one compilation for all blocks.
    def block(depth_fraction: jax.Array) -> Layer:
        own_rate = None
        if drop_path_rate is not None:
            own_rate = trees.knob(drop_path_rate, depth_fraction) * depth_fraction
        return transformer_block(
            heads,
            expansion=expansion,
            drop_rate=drop_rate,
            drop_path_rate=own_rate,
            norm=layer_norm(eps=EPSILON),
        )

    positions = rows * columns + 1  # with that of the class token
    # Zeros, as in the authors' code; so is the kernel of the head.
    class_token = parameter(1, width, init=zeros())
    optional_dropout = {} if drop_rate is None else {"dropout": dropout(drop_rate)}
    return chain(
        size=_expect_size(image),
        # A convolution with the stride of its window is a linear map of each patch.
        patches=conv(width, patches, stride=patches, padding="VALID"),
        sequence=_sequence(),
        # (batch, patches, width) -> (batch, 1 + patches, width)
        tokens=parallel(token=class_token, patches=chain(), axis=1),
        positions=learned_positions(positions),
        **optional_dropout,
        blocks=repeat(block, depth),
        norm=layer_norm(eps=EPSILON),
        # The classifier uses the class token alone.
        first=_first(),
        head=dense(classes, kernel_init=zeros()),
    )


def _expect_size(size: tuple[int, int]) -> Layer:
    """Make an identity layer that raises for images of another size.

    Smaller images would pass otherwise, with the position vectors of other patches.
    """

    def expect(shape: Shape) -> Shape:
        if checks.image_shape("vit", shape)[:2] != size:
            raise ShapeError(
                "vit x",
                f"images of {size}",
                shape,
                "resize them, or give size= to vit",
            )
        return shape

    def identity(x: jax.Array) -> jax.Array:
        checks.image_batch("vit x", x)
        expect(x.shape[1:])
        return x

    return stateless("size", expect, identity)


def _sequence() -> Layer:
    """Make a layer that puts the patches in one sequence, row by row."""

    def out_shape(shape: Shape) -> Shape:
        rows, columns, width = shape
        return rows * columns, width

    def sequence(x: jax.Array) -> jax.Array:
        # (batch, rows, columns, width) -> (batch, patches, width)
        batch, rows, columns, width = x.shape
        return x.reshape(batch, rows * columns, width)

    return stateless("sequence", out_shape, sequence)


def _first() -> Layer:
    """Make a layer that takes the class token: (batch, time, width) -> (batch, width)."""
    return stateless("first", lambda shape: shape[1:], lambda x: x[:, 0])
