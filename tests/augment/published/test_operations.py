"""The operations of the automatic policies at every strength, against Pillow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import pictures
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from fnn.augment.choice import select
from fnn.augment.execute import execute
from fnn.augment.published.operations import LOWERINGS, Sampling, Span, operations
from fnn.augment.published.rand_augment import LAST_BIN, WIDE

SHAPE = (37, 29, 3)
FILL = 0.4
IMAGE = pictures(3, SHAPE)[2]
NAMES = list(LOWERINGS)
STRENGTHS = (np.arange(LAST_BIN + 1) / np.float32(LAST_BIN)).astype(np.float32)
ROWS = [(strength, sign) for strength in STRENGTHS for sign in (np.float32(1), np.float32(-1))]


@pytest.fixture(scope="module")
def found():
    """Augmented images (operations, strengths and signs, *shape), from one fused choice."""
    policies = operations(NAMES, lambda word: word, Span(), Sampling("nearest", FILL))

    def change(index, strength, sign):
        drawn = {"strength": strength, "sign": sign}
        branches = [policy.lower(drawn, SHAPE) for policy in policies]
        return execute(select(index, branches, SHAPE, "fused"), jnp.asarray(IMAGE))

    strengths, signs = np.array(ROWS).T
    change_all = jax.vmap(jax.vmap(change, (None, 0, 0)), (0, None, None))
    return np.asarray(jax.jit(change_all)(jnp.arange(len(NAMES)), strengths, signs))


def enhance(kind):
    return lambda factor: np.asarray(kind(Pillow.fromarray(IMAGE)).enhance(float(factor)))


def by_pillow(change):
    return lambda s, sign: np.asarray(change(Pillow.fromarray(IMAGE), s))


ENHANCED = {
    "brightness": enhance(ImageEnhance.Brightness),
    "color": enhance(ImageEnhance.Color),
    "contrast": enhance(ImageEnhance.Contrast),
    "sharpness": enhance(ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("name", ENHANCED)
def test_factors_are_up_to_nine_tenths_around_one(name, found):
    # At given factors the bytes equal those of Pillow, see test_pointwise. Here XLA may round a
    # factor and its product once instead of twice, which moves a few values across a whole number.
    factors = [1 + strength * sign * np.float32(0.9) for strength, sign in ROWS]
    expected = np.stack([ENHANCED[name](factor) for factor in factors])
    results = found[NAMES.index(name)].astype(int)
    assert np.abs(results - expected).max() <= 1
    assert (results == expected).mean() > 0.995
    assert (results[-1] != IMAGE).mean() > 0.3


EXACT = {
    "identity": lambda s, sign: IMAGE,
    "posterize": by_pillow(lambda image, s: ImageOps.posterize(image, 8 - round(float(s) * 4))),
    "solarize": by_pillow(
        lambda image, s: ImageOps.solarize(image, round(255 * (1 - float(s)), 3))
    ),
    "autocontrast": by_pillow(lambda image, s: ImageOps.autocontrast(image)),
    "equalize": by_pillow(lambda image, s: ImageOps.equalize(image)),
    "invert": by_pillow(lambda image, s: ImageOps.invert(image)),
}


@pytest.mark.parametrize("name", EXACT)
def test_level_changes_equal_pillow(name, found):
    expected = np.stack([EXACT[name](*row) for row in ROWS])
    np.testing.assert_array_equal(found[NAMES.index(name)], expected)
    if name not in ("identity", "posterize"):
        assert (expected[-1] != IMAGE).mean() > 0.3


def rotation(strength, sign):
    """Pillow's coefficients of a rotation about the center; its coordinates begin at the corner."""
    angle = np.deg2rad(strength * sign * 30.0)
    cos, sin = np.cos(angle), np.sin(angle)
    x = SHAPE[1] / 2
    y = SHAPE[0] / 2
    return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y


# The source of (x, y) is (a x + b y + c, d x + e y + f).
WARPS = {
    "shear_x": lambda s, sign: (1, s * sign * 0.3, 0, 0, 1, 0),
    "shear_y": lambda s, sign: (1, 0, 0, s * sign * 0.3, 1, 0),
    "translate_x": lambda s, sign: (1, 0, -np.trunc(s * sign * 150 / 331 * SHAPE[1]), 0, 1, 0),
    "translate_y": lambda s, sign: (1, 0, 0, 0, 1, -np.trunc(s * sign * 150 / 331 * SHAPE[0])),
    "rotate": rotation,
}


@pytest.mark.parametrize("name", WARPS)
def test_warps_equal_pillow_except_at_ties(name, found):
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    compared = 0.0
    for row, result in zip(ROWS, found[NAMES.index(name)], strict=True):
        a, b, c, d, e, f = matrix = WARPS[name](*map(float, row))
        x = a * columns + b * rows + c
        y = d * columns + e * rows + f
        # Between two pixels, rounding decides which one is the nearest.
        is_tie = (np.abs(x - np.round(x)) <= 2e-3) | (np.abs(y - np.round(y)) <= 2e-3)
        level = (round(FILL * 255),) * 3
        transform = Pillow.fromarray(IMAGE).transform
        warped = transform(SHAPE[1::-1], Pillow.Transform.AFFINE, matrix, fillcolor=level)
        np.testing.assert_array_equal(result[~is_tie], np.asarray(warped)[~is_tie])
        compared += (~is_tie).mean() / len(ROWS)
    assert compared > 0.95


def test_warps_of_strength_zero_are_the_identity():
    names = ["rotate", "shear_x", "translate_y"]
    drawn = {"strength": jnp.float32(0), "sign": jnp.float32(-1)}
    for policy in operations(names, lambda word: word, Span(), Sampling("nearest", FILL)):
        (op,) = policy.lower(drawn, SHAPE)
        np.testing.assert_allclose(op.matrix, np.eye(3), atol=1e-6)


def test_the_wide_span_is_that_of_trivial_augment():
    # Shear of tan 0.99, translation by 32 pixels, 135 degrees, 2 bits kept, factors of 1 ± 0.99.
    policies = operations(NAMES, lambda word: word, WIDE, Sampling("nearest", FILL))
    drawn = {"strength": jnp.float32(1), "sign": jnp.float32(1)}
    lowered = {}
    for name, policy in zip(NAMES, policies, strict=True):
        lowered[name] = policy.lower(drawn, SHAPE)
    np.testing.assert_allclose(lowered["shear_x"][0].matrix[0], [1, 0, 0])
    np.testing.assert_allclose(lowered["shear_x"][0].matrix[1, 0], 0.99, rtol=1e-6)
    np.testing.assert_array_equal(lowered["translate_y"][0].matrix[:2, 2], [-32, 0])
    cosine = lowered["rotate"][0].matrix[0, 0]
    np.testing.assert_allclose(cosine, np.cos(np.deg2rad(135)), rtol=1e-5)
    levels = jnp.arange(256.0)[:, None]
    posterized = lowered["posterize"][0].change(levels, 255.0, None)
    np.testing.assert_array_equal(posterized, levels // 64 * 64)
    brightened = lowered["brightness"][0].change(levels, 255.0, None)
    np.testing.assert_allclose(brightened, 1.99 * levels, rtol=1e-6)
