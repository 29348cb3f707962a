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
from fnn.nn.core.composite import Go, composite, wrap_layer
from fnn.nn.core.stateless import stateless
from fnn.nn.dropout import dropout
from fnn.nn.embedding import learned_positions
from fnn.nn.initializers.fixed import zeros
from fnn.nn.initializers.random import normal, truncated_normal
from fnn.nn.linear import dense, parameter
from fnn.nn.normalization.layer_norm import layer_norm
from fnn.types import Layer, Number, Params, Shape, State
from fnn.values import maker

REGISTER_STD = 1e-6  # of the initial registers, as in the authors' code
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
    layer_scale: Number | None = None,
    distilled: bool = False,
    registers: int = 0,
) -> Layer:
    """Vision transformer: an image as a sequence of patches and a class token; default ViT-B/16.

    x (batch, height, width, channels) -> logits (batch, classes). Compiling takes as long as for
    one block: the params of all blocks are stacked under `blocks/body`. lab.load_weights reads
    weights of torchvision, timm, DeiT and DINOv2 [Dosovitskiy et al. 2021, arXiv:2010.11929].

    A distilled network has a second token with a head of its own, which learns the outputs of a
    teacher. In training y is {"classes": logits, "distillation": logits}, of which a loss compares
    the first with the labels and the second with the teacher; else it is the mean of both
    [Touvron et al. 2021, arXiv:2012.12877]. With the labels and the teacher's as targets:

        def loss(outputs, targets):
            labels, teacher = targets
            if not isinstance(outputs, dict):  # in evaluation
                return cross_entropy(outputs, labels)
            of_labels = cross_entropy(outputs["classes"], labels)
            return (of_labels + cross_entropy(outputs["distillation"], teacher)) / 2

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
        layer_scale: Initial value of the factors of the channels at the end of each branch, as in
            `transformer_block`; no factors if None. It is 1e-5 in DINOv2.
        distilled: Whether there is a distillation token.
        registers: Number of trained tokens without position at the end of the sequence, in which
            attention may keep what is common to the image [Darcet et al. 2024, arXiv:2309.16588].

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
    checks.flag("vit distilled", distilled)
    checks.whole("vit registers", registers, 0)
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
            layer_scale=layer_scale,
            norm=layer_norm(eps=EPSILON),
        )

    # Zeros, as in the authors' code; so is the kernel of the head.
    token = parameter(1, width, init=zeros())
    prefix = 1
    tokens = parallel(token=token, patches=chain(), axis=1)
    if distilled:
        second = parameter(1, width, init=truncated_normal())
        prefix = 2
        tokens = parallel(token=token, distillation=second, patches=chain(), axis=1)
    optional: dict[str, Layer] = {}
    if registers:
        # Tiny, but not equal: equal tokens would stay equal in training.
        own = parameter(registers, width, init=normal(REGISTER_STD))
        # (batch, tokens, width) -> (batch, tokens + registers, width)
        optional["registers"] = parallel(tokens=chain(), registers=own, axis=1)
    if drop_rate is not None:
        optional["dropout"] = dropout(drop_rate)
    return chain(
        size=_expect_size(image),
        # A convolution with the stride of its window is a linear map of each patch.
        patches=conv(width, patches, stride=patches, padding="VALID"),
        sequence=_sequence(),
        # (batch, patches, width) -> (batch, prefix + patches, width)
        tokens=tokens,
        positions=learned_positions(prefix + rows * columns),
        **optional,
        blocks=repeat(block, depth),
        norm=layer_norm(eps=EPSILON),
        # The classifier uses the class token alone, or that of distillation too.
        first=_first_two() if distilled else _first(),
        head=_two_heads(classes) if distilled else dense(classes, kernel_init=zeros()),
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


def _first_two() -> Layer:
    """Make a layer that takes two tokens: (batch, time, width) -> (batch, 2, width)."""
    return stateless("first", lambda shape: (2, *shape[1:]), lambda x: x[:, :2])


def _two_heads(classes: int) -> Layer:
    """Make the classifiers of both tokens, whose mean is the output except in training."""
    head = dense(classes, kernel_init=zeros())
    parts = {"classes": head, "distillation": head}

    def shapes(go: Go, shape: Shape) -> Shape:
        for name in parts:
            logits = go(name, shape[1:])
        return logits

    def arrays(go: Go, x: jax.Array) -> dict[str, jax.Array]:
        return {name: go(name, x[:, index]) for index, name in enumerate(parts)}

    return _mean_of_heads(composite("two_heads", parts, shapes, arrays))


def _mean_of_heads(heads: Layer) -> Layer:
    def apply(
        params: Params,
        state: State,
        x: jax.Array,
        *,
        key: jax.Array | None = None,
        train: bool = False,
    ):
        logits, new_state = heads.apply(params, state, x, key=key, train=train)
        if train:
            return logits, new_state
        return (logits["classes"] + logits["distillation"]) / 2, new_state

    return wrap_layer(heads, Layer(heads.init, apply), _mean_of_heads)
