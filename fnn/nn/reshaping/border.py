"""An image with more around it, or less."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError
from fnn.nn.geometry import Pairs
from fnn.nn.plain import plain
from fnn.types import Layer, Number, Shape
from fnn.values import maker

MODES = ("constant", "reflect", "edge")
Border = int | Sequence[tuple[int, int]]


@maker
def pad(padding: Border, *, mode: str = "constant", value: Number = 0.0) -> Layer:
    """Each image with a border around it: of one `value`, of its mirror image ("reflect") or of its outermost pixels.

    x (batch, height, width, channels) -> y (batch, low + height + high, low + width + high, channels); the padding is
    an int, or a (low, high) pair an axis: one pair pads signals (batch, length, channels), and three pad volumes. The
    mirror stands on the outermost pixels, which are not repeated. ConfigError for an option out of range; ShapeError
    for an image too small to be mirrored.
    """
    pairs = _pairs("pad", padding)
    checks.number("pad value", value, "[-inf, inf]")
    checks.choice("pad mode", mode, MODES)
    least = [max(pair) + 1 if mode == "reflect" else int(mode == "edge" and any(pair)) for pair in pairs]

    def out_shape(shape: Shape) -> Shape:
        *places, channels = checks.image_shape("pad", shape, len(pairs))
        if any(n < minimum for n, minimum in zip(places, least, strict=True)):
            advice = "pad less, or by a constant"
            raise ShapeError("pad", f"at least {tuple(least)} pixels to take the border from", tuple(places), advice)
        return *(low + n + high for n, (low, high) in zip(places, pairs, strict=True)), channels

    def padded(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch("pad x", x, len(pairs)).shape[1:])
        if mode != "constant":
            return jnp.pad(x, ((0, 0), *pairs, (0, 0)), mode)
        widths = ((0, 0, 0), *((low, high, 0) for low, high in pairs), (0, 0, 0))
        return jax.lax.pad(x, jnp.asarray(trees.knob(value, x), x.dtype), widths)

    return plain("pad", out_shape, padded)


@maker
def crop(border: Border) -> Layer:
    """Each image without its border, what `pad` added.

    x (batch, height, width, channels) -> y (batch, height - low - high, width - low - high, channels), the border told
    as to `pad`. ConfigError for an option out of range; ShapeError for an image of which nothing would be left.
    """
    pairs = _pairs("crop", border, "border")

    def out_shape(shape: Shape) -> Shape:
        *places, channels = checks.image_shape("crop", shape, len(pairs))
        left = [n - low - high for n, (low, high) in zip(places, pairs, strict=True)]
        if min(left) < 1:
            expected = f"more than {tuple(map(sum, pairs))} pixels"
            raise ShapeError("crop", expected, tuple(places), "crop less")
        return *left, channels

    def cropped(x: jax.Array) -> jax.Array:
        out_shape(checks.image_batch("crop x", x, len(pairs)).shape[1:])
        inner = (slice(low, n - high) for n, (low, high) in zip(x.shape[1:], pairs, strict=False))
        return x[:, *inner]

    return plain("crop", out_shape, cropped)


def _pairs(where: str, border: Border, name: str = "padding") -> Pairs:
    where = f"{where} {name}"
    if not isinstance(border, Sequence):
        return ((checks.whole(where, border, 0),) * 2,) * 2
    if isinstance(border, str) or not 1 <= len(border) <= 3:
        raise ConfigError(where, "an int, or a (low, high) pair for one to three axes", repr(border), "try 1")
    return tuple(checks.pair(where, pair, 0) for pair in border)
