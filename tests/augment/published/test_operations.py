"""Each operation of the automatic policies at every strength, against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from fnn.augment.choice import selected
from fnn.augment.execute import rendered
from fnn.augment.published.operations import LOWERINGS, Looks, Span, operations
from fnn.augment.published.rand_augment import LAST_BIN, WIDE

SHAPE = (37, 29, 3)
FILL = 0.4
IMAGE = pictures(3, SHAPE)[2]
NAMES = list(LOWERINGS)
STRENGTHS = (np.arange(LAST_BIN + 1) / np.float32(LAST_BIN)).astype(np.float32)
ROWS = [(strength, sign) for strength in STRENGTHS for sign in (np.float32(1), np.float32(-1))]


@pytest.fixture(scope="module")
def found():
    """The image after each operation (operations, strengths and signs, *shape), all by one fused choice."""
    parts = operations(NAMES, lambda word: word, Span(), Looks("nearest", FILL))

    def change(which, strength, sign):
        steps = [part.lower({"strength": strength, "sign": sign}, SHAPE) for part in parts]
        return rendered(selected(which, steps, SHAPE, "fused"), jnp.asarray(IMAGE))

    strengths, signs = np.array(ROWS).T
    each = jax.vmap(jax.vmap(change, (None, 0, 0)), (0, None, None))
    return np.asarray(jax.jit(each)(jnp.arange(len(NAMES)), strengths, signs))


def enhanced(kind):
    return lambda factor: np.asarray(kind(Pillow.fromarray(IMAGE)).enhance(float(factor)))


def recolored(change):
    return lambda s, sign: np.asarray(change(Pillow.fromarray(IMAGE), s))


ENHANCED = {
    "brightness": enhanced(ImageEnhance.Brightness),
    "color": enhanced(ImageEnhance.Color),
    "contrast": enhanced(ImageEnhance.Contrast),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("name", ENHANCED)
def test_factors_are_one_and_up_to_nine_tenths_more_or_less(name, found):
    """At given factors they are Pillow's to the last bit, see test_recoloring.

    Here XLA may round a factor and its product once, not twice, and of what is then just below a whole number that is
    a level less or more.
    """
    expected = np.stack(
        [ENHANCED[name](1 + strength * sign * np.float32(0.9)) for strength, sign in ROWS]
    )
    own = found[NAMES.index(name)].astype(int)
    assert np.abs(own - expected).max() <= 1
    assert (own == expected).mean() > 0.995
    assert (own[-1] != IMAGE).mean() > 0.3


EXACT = {
    "identity": lambda s, sign: IMAGE,
    "posterize": recolored(lambda image, s: ImageOps.posterize(image, 8 - round(float(s) * 4))),
    "solarize": recolored(
        lambda image, s: ImageOps.solarize(image, round(255 * (1 - float(s)), 3))
    ),
    "autocontrast": recolored(lambda image, s: ImageOps.autocontrast(image)),
    "equalize": recolored(lambda image, s: ImageOps.equalize(image)),
    "invert": recolored(lambda image, s: ImageOps.invert(image)),
}


@pytest.mark.parametrize("name", EXACT)
def test_levels_are_pillows_to_the_last_bit(name, found):
    expected = np.stack([EXACT[name](*row) for row in ROWS])
    np.testing.assert_array_equal(found[NAMES.index(name)], expected)
    if name not in ("identity", "posterize"):
        assert (expected[-1] != IMAGE).mean() > 0.3


def turned(strength, sign):
    """Pillow's affine coefficients of a turn about the center, in its places, which count from the corner."""
    angle = np.deg2rad(strength * sign * 30.0)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = SHAPE[1] / 2, SHAPE[0] / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


# The old place of (x, y): a x + b y + c, d x + e y + f.
MOVES = {
    "shear_x": lambda s, sign: (1, s * sign * 0.3, 0, 0, 1, 0),
    "shear_y": lambda s, sign: (1, 0, 0, s * sign * 0.3, 1, 0),
    "translate_x": lambda s, sign: (1, 0, -np.trunc(s * sign * 150 / 331 * SHAPE[1]), 0, 1, 0),
    "translate_y": lambda s, sign: (1, 0, 0, 0, 1, -np.trunc(s * sign * 150 / 331 * SHAPE[0])),
    "rotate": turned,
}


@pytest.mark.parametrize("name", MOVES)
def test_pixels_move_as_in_pillow_off_the_ties(name, found):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    compared = 0.0
    for row, own in zip(ROWS, found[NAMES.index(name)], strict=True):
        a, b, c, d, e, f = matrix = MOVES[name](*map(float, row))
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        off = np.all([np.abs(place - np.round(place)) > 2e-3 for place in (x, y)], 0)
        level = (round(FILL * 255),) * 3
        transform = Pillow.fromarray(IMAGE).transform
        expected = np.asarray(
            transform(SHAPE[1::-1], Pillow.Transform.AFFINE, matrix, fillcolor=level)
        )
        np.testing.assert_array_equal(own[off], expected[off])
        compared += off.mean() / len(ROWS)
    assert compared > 0.95


def test_at_no_strength_what_has_a_strength_leaves_the_image():
    """But solarize, whose highest threshold is white itself, as in torchvision."""
    parts = operations(NAMES, lambda word: word, Span(), Looks("nearest", FILL))
    drawn = {"strength": jnp.float32(0), "sign": jnp.float32(-1)}
    still = {
        name: parts[NAMES.index(name)].lower(drawn, SHAPE)
        for name in ("rotate", "shear_x", "translate_y")
    }
    for (move,) in still.values():
        np.testing.assert_allclose(move.matrix, np.eye(3), atol=1e-6)


def test_the_wide_span_is_trivial_augments():
    """Shears of tan 0.99, moves of 32 pixels, 135 degrees, 2 bits, factors of 1 ± 0.99."""
    parts = dict(
        zip(NAMES, operations(NAMES, lambda word: word, WIDE, Looks("nearest", FILL)), strict=True)
    )
    drawn = {"strength": jnp.float32(1), "sign": jnp.float32(1)}
    lowered = {name: part.lower(drawn, SHAPE) for name, part in parts.items()}
    np.testing.assert_allclose(lowered["shear_x"][0].matrix[0], [1, 0, 0])
    np.testing.assert_allclose(lowered["shear_x"][0].matrix[1, 0], 0.99, rtol=1e-6)
    np.testing.assert_array_equal(lowered["translate_y"][0].matrix[:2, 2], [-32, 0])
    np.testing.assert_allclose(
        lowered["rotate"][0].matrix[0, 0], np.cos(np.deg2rad(135)), rtol=1e-5
    )
    levels = jnp.arange(256.0)[:, None]
    np.testing.assert_array_equal(
        lowered["posterize"][0].change(levels, 255.0, None), levels // 64 * 64
    )
    np.testing.assert_allclose(
        lowered["brightness"][0].change(levels, 255.0, None), 1.99 * levels, rtol=1e-6
    )
