"""Windows of an image, as they are or resized."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from fnn import checks
from fnn.augment import matrices, random
from fnn.augment.ops import Move, Size, Steps
from fnn.augment.policy import Drawn, Policy
from fnn.augment.random import expect_magnitude
from fnn.augment.resample.borders import MODES
from fnn.augment.resample.scale import KERNELS
from fnn.errors import ConfigError, ShapeError
from fnn.types import ImageShape, Number
from fnn.values import maker

TRIES = 10  # windows drawn before the largest in the middle is taken, as in torchvision


@maker
def crop(size: int | tuple[int, int]) -> Policy:
    """The window of this size in the middle. ShapeError for an image that is smaller."""
    window = checks.pair("crop size", size)

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        room = _room("crop", shape, window, 0)
        return (_window([jnp.float32(round(spare / 2)) for spare in room], window, (0, 0)),)

    return Policy(0, lambda words, shape: {}, steps, lambda shape: (*window, shape[2]))


@maker(structure=("fill",))
def pad(padding: int | tuple[int, int], *, mode: str = "constant", fill: Number = 0.0) -> Policy:
    """So many more rows above and below, and columns on both sides.

    mode is one of numpy.pad's, "constant" showing fill. ConfigError for an option out of range.
    """
    rows, columns = checks.pair("pad padding", padding, 0)
    checks.choice("pad mode", mode, MODES)
    checks.number("pad fill", fill, "[0, 1]")

    def reshape(shape: ImageShape) -> ImageShape:
        return shape[0] + 2 * rows, shape[1] + 2 * columns, shape[2]

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (
            _window(
                [jnp.float32(-rows), jnp.float32(-columns)],
                reshape(shape)[:2],
                (rows, columns),
                mode,
                fill,
            ),
        )

    return Policy(0, lambda words, shape: {}, steps, reshape)


@maker(structure=("fill",))
def random_crop(
    *,
    padding: int = 4,
    mode: str = "reflect",
    size: int | tuple[int, int] | None = None,
    fill: Number = 0.0,
) -> Policy:
    """Pad by `padding` pixels on every side, then keep a window at whole offsets, each as likely as any.

    The window is as large as the image unless a size is given; mode is one of numpy.pad's, "constant" showing fill.
    ConfigError for an option out of range; ShapeError for a window larger than the padded image [He et al. 2016].
    """
    checks.whole("random_crop padding", padding, 0)
    checks.choice("random_crop mode", mode, MODES)
    checks.number("random_crop fill", fill, "[0, 1]")
    window = None if size is None else checks.pair("random_crop size", size)

    def read(words: Array, shape: ImageShape) -> Drawn:
        room = _room("random_crop", shape, window or shape[:2], padding)
        names = zip(("top", "left"), words, room, strict=True)
        return {name: random.below(word, spare + 1) - padding for name, word, spare in names}

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        offsets = [drawn[name].astype(jnp.float32) for name in ("top", "left")]
        return (_window(offsets, window or shape[:2], (padding, padding), mode, fill),)

    return Policy(2, read, steps, lambda shape: (*(window or shape[:2]), shape[2]))


def _room(name: str, shape: ImageShape, window: Size, padding: int) -> list[int]:
    padded = tuple(n + 2 * padding for n in shape[:2])
    if any(w > n for w, n in zip(window, padded, strict=True)):
        raise ShapeError(
            name, f"an image of at least {window} after padding", padded, "crop less or pad more"
        )
    return [n - w for n, w in zip(padded, window, strict=True)]


def _window(
    offsets: Sequence[Array], size: Size, reach: Size, mode: str = "constant", fill: Number = 0.0
) -> Move:
    shift = matrices.translation(offsets[0], offsets[1])
    return Move(shift, size, whole=True, reach=reach, cuts=True, border=mode, fill=fill)


@maker
def resize(size: int | tuple[int, int], *, method: str = "bilinear") -> Policy:
    """The whole image in another size, antialiased: each new pixel is the mean of all that it covers.

    method is "bilinear" or "bicubic"; as torch.nn.functional.interpolate(antialias=True) and Pillow do it.
    ConfigError for an option out of range.
    """
    window = checks.pair("resize size", size)
    checks.choice("resize method", method, list(KERNELS))

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        return (
            _zoom([jnp.float32(0)] * 2, [jnp.float32(n) for n in shape[:2]], shape, window, method),
        )

    return Policy(0, lambda words, shape: {}, steps, lambda shape: (*window, shape[2]))


@maker
def random_resized_crop(
    size: int | tuple[int, int],
    *,
    area: tuple[Number, Number] = (0.08, 1.0),
    ratio: tuple[Number, Number] = (3 / 4, 4 / 3),
    method: str = "bilinear",
) -> Policy:
    """A window of a random part of the area and a random ratio of width to height, resized, antialiased.

    The area is drawn as a part of the image's, log(ratio) between the logs of the two. Of ten such windows the first
    that fits is taken, else the largest in the middle within the ratios. ConfigError for an option out of range
    [Szegedy et al. 2015, arXiv:1409.4842; torchvision RandomResizedCrop].
    """
    window = checks.pair("random_resized_crop size", size)
    checks.choice("random_resized_crop method", method, list(KERNELS))
    areas = span("random_resized_crop area", area, "(0, 1]")
    ratios = span("random_resized_crop ratio", ratio, "(0, inf)")

    def read(words: Array, shape: ImageShape) -> Drawn:
        tries = words.reshape(TRIES, 4)
        height, width = _sides(tries, shape)
        fits = (height <= shape[0]) & (width <= shape[1]) & (height > 0) & (width > 0)
        fallback = _largest(shape)
        first = jnp.argmax(fits)
        height, width = (
            jnp.where(fits.any(), own[first], other)
            for own, other in zip((height, width), fallback, strict=True)
        )
        top = jnp.floor(random.unit(tries[first, 2]) * (shape[0] - height + 1))
        left = jnp.floor(random.unit(tries[first, 3]) * (shape[1] - width + 1))
        middle = [jnp.floor((n - own) / 2) for n, own in zip(shape[:2], fallback, strict=True)]
        top, left = (
            jnp.where(fits.any(), own, other)
            for own, other in zip((top, left), middle, strict=True)
        )
        return {"top": top, "left": left, "height": height, "width": width}

    def _sides(tries: Array, shape: ImageShape) -> tuple[Array, Array]:
        pixels = random.between(tries[:, 0], *areas) * (shape[0] * shape[1])
        wide = jnp.exp(
            random.between(tries[:, 1], *(jnp.log(jnp.asarray(r, jnp.float32)) for r in ratios))
        )
        return jnp.round(jnp.sqrt(pixels / wide)), jnp.round(jnp.sqrt(pixels * wide))

    def _largest(shape: ImageShape) -> tuple[Array, Array]:
        wide = jnp.clip(
            jnp.float32(shape[1] / shape[0]), *(jnp.asarray(r, jnp.float32) for r in ratios)
        )
        height = jnp.minimum(shape[0], jnp.round(shape[1] / wide))
        return height, jnp.minimum(shape[1], jnp.round(shape[0] * wide))

    def steps(drawn: Drawn, shape: ImageShape) -> Steps:
        corner, sides = [drawn["top"], drawn["left"]], [drawn["height"], drawn["width"]]
        return (_zoom(corner, sides, shape, window, method),)

    return Policy(4 * TRIES, read, steps, lambda shape: (*window, shape[2]))


def span(where: str, ends: tuple[Number, Number], interval: str) -> tuple[Number, Number]:
    """The two ends that something is drawn between, in the interval and in order."""
    if not isinstance(ends, tuple):
        raise ConfigError(where, "(low, high)", repr(ends), "give the two ends")
    expect_magnitude(where, ends, interval)
    return ends


def _zoom(
    corner: Sequence[Array], sides: Sequence[Array], shape: ImageShape, size: Size, method: str
) -> Move:
    """The move that shows a window of a corner and sides, in pixels, in another size."""
    factors = [side / new for side, new in zip(sides, size, strict=True)]
    # The new pixel i covers [i, i + 1) x factor of the window, and its center is half a pixel from its edge.
    starts = [begin + factor / 2 - 0.5 for begin, factor in zip(corner, factors, strict=True)]
    radius = KERNELS[method][1]
    support = [
        math.ceil(2 * radius * max(1, old / new)) + 1
        for old, new in zip(shape[:2], size, strict=True)
    ]
    m = matrices.product(
        matrices.translation(starts[0], starts[1]), matrices.scaling(factors[0], factors[1])
    )
    return Move(m, size, support=(support[0], support[1]), order=method)
