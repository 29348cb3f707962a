"""The layout of images: channels last, as every layer expects them."""

from typing import Any

import jax
import jax.numpy as jnp

from fnn import trees
from fnn.errors import ShapeError
from fnn.nn.core.composite import map_leaves
from fnn.types import Layer, Params, Shape, State

# Numbers of channels that images have: gray, RGB, RGB with alpha.
IMAGE_CHANNELS = (1, 3, 4)
# The smallest side of an image that is not a board or a patch.
MIN_SIDE = 8


def expect_channels_last(
    where: str,
    network: Layer,
    shape: Any,
    dtype: Any,
) -> None:
    """Raise ShapeError if a network would convolve images that have their channels first.

    These are arrays whose first axis is 1, 3 or 4 and whose other axes are at least 8, either all
    equal or, of bytes, of any size, if they reach a convolution as they are. A convolution with
    `in_channels` is not asked, so that such a shape can be declared to be right.

    Args:
        where: Name of the inputs in errors.
        network: The network.
        shape: Shape of one example, without the batch axis, or a tree of such shapes.
        dtype: Dtype of the inputs before they are prepared, one for all arrays or a tree of one for
            each.
    """
    shapes = jax.tree.leaves(shape, is_leaf=trees.is_shape)
    dtypes = jax.tree.leaves(dtype)
    if len(dtypes) == 1:
        dtypes *= len(shapes)
    suspects = []
    for size, own_dtype in zip(shapes, dtypes, strict=True):
        if _seems_channels_first(size, own_dtype):
            suspects.append(tuple(size))
    # Almost always there is none, and the network is not traced.
    if not suspects:
        return

    def check(path: str, leaf: Layer) -> Layer:
        return _checked(where, leaf, suspects)

    checked = map_leaves(check, network)

    def init() -> tuple[Params, State]:
        key = jax.random.key(0)
        params, state, _ = checked.init(key, shape)
        return params, state

    # Only shapes are needed, and no parameter is drawn.
    jax.eval_shape(init)


def _seems_channels_first(shape: Shape, dtype: Any) -> bool:
    if len(shape) not in (3, 4):
        return False
    channels, *sides = shape
    if channels not in IMAGE_CHANNELS or min(sides) < MIN_SIDE:
        return False
    # An image of height 3 may have many channels, but hardly as many as its width, nor bytes.
    is_square = len(set(sides)) == 1
    return is_square or jnp.dtype(dtype) == jnp.uint8


def _checked(
    where: str,
    layer: Layer,
    suspects: list[Shape],
) -> Layer:
    """Make a convolution raise ShapeError for these shapes."""
    if not layer.any_channels:
        return layer

    def init(key: jax.Array, shape: Any) -> tuple[Params, State, Any]:
        if tuple(shape) in suspects:
            # The axes of a batch, hence one more than those of the shape.
            spatial = range(2, len(shape) + 1)
            axes = ", ".join(map(str, spatial))
            advice = f"move them last, as in x.transpose(0, {axes}, 1); if they are last, "
            advice += f"give the convolution in_channels={shape[-1]}"
            expected = "images with channels last, (height, width, channels)"
            raise ShapeError(where, expected, shape, advice)
        return layer.init(key, shape)

    return Layer(init, layer.apply, layer.name)
