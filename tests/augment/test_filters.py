"""Filters against Pillow, SciPy and libjpeg."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from pictures import apply_draws, as_floats, augmented, augmented_at, draws, pictures, smooth
from PIL import Image as Pillow
from PIL import ImageEnhance

from fnn import augment
from fnn.errors import ShapeError

pytestmark = pytest.mark.slow

COUNT = 32
COLOR = pictures(COUNT)
GRAY = pictures(COUNT, (9, 13, 1), seed=1)
RANDOM_FACTORS = np.random.default_rng(2).uniform(0, 3, COUNT - 3)
FACTORS = np.concatenate([[0, 1, 2], RANDOM_FACTORS]).astype(np.float32)


def as_pillow(image):
    return Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


@pytest.mark.parametrize(
    "images", [COLOR, GRAY, pictures(COUNT, (6, 7, 4))], ids=["color", "gray", "alpha"]
)
def test_sharpness_of_bytes_equals_pillow(images):
    expected = []
    for image, factor in zip(images, FACTORS, strict=True):
        enhanced = ImageEnhance.Sharpness(as_pillow(image)).enhance(float(factor))
        expected.append(np.asarray(enhanced).reshape(image.shape))
    np.testing.assert_array_equal(
        augmented_at(augment.sharpness, images, FACTORS), np.stack(expected)
    )


def test_sharpness_of_floats_equals_the_formula():
    x = as_floats(COLOR).astype(np.float64)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])[None, :, :, None] / 13
    mean = scipy.ndimage.correlate(x, kernel)
    # The border is kept.
    mean[:, [0, -1]] = x[:, [0, -1]]
    mean[:, :, [0, -1]] = x[:, :, [0, -1]]
    expected = np.clip(mean + FACTORS[:, None, None, None] * (x - mean), 0, 1)
    found = augmented_at(augment.sharpness, as_floats(COLOR), FACTORS)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("size", [1, 3, 7, 11])
def test_gaussian_blur_equals_scipy(size):
    sigmas = np.random.default_rng(3).uniform(0.1, 3, COUNT).astype(np.float32)
    options = {"mode": "mirror", "radius": size // 2, "axes": (0, 1)}
    blurred = []
    for image, sigma in zip(COLOR.astype(np.float64) / 255, sigmas, strict=True):
        blurred.append(scipy.ndimage.gaussian_filter(image, float(sigma), **options))
    expected = np.stack(blurred)

    def blur(sigma):
        return augment.gaussian_blur(sigma, size=size)

    np.testing.assert_allclose(augmented_at(blur, as_floats(COLOR), sigmas), expected, atol=1e-5)
    assert np.abs(augmented_at(blur, COLOR, sigmas) - 255 * expected).max() < 0.5 + 1e-3


def test_images_smaller_than_half_the_window_raise():
    with pytest.raises(ShapeError, match="gaussian_blur: expected an image larger than 5 pixels"):
        augment.gaussian_blur(1.0, size=11)(jax.random.key(0), jnp.zeros((9, 5, 3)))


def field_of(policy, drawn):
    (op,) = policy.lower(drawn, COLOR.shape[1:])
    return op.field


def test_elastic_displacements_are_normal_with_their_deviation_everywhere():
    policy = augment.elastic(3.0)
    drawn = draws(policy, 3000)
    # (draws, height, width, 2)
    field = np.asarray(jax.jit(jax.vmap(lambda draw: field_of(policy, draw)))(drawn))
    assert np.abs(field.std(0) / 3 - 1).max() < 0.07  # 5 standard errors
    assert np.abs(field.mean(0)).max() < 5 * 3 / np.sqrt(3000)
    assert scipy.stats.kstest(field[:, 5, 5, 0], "norm", (0, 3)).pvalue > 1e-3
    assert abs(np.corrcoef(field[:, 5, 5].T)[0, 1]) < 0.08  # rows and columns are independent
    neighbors = np.corrcoef(field[:, 5, 4, 0], field[:, 5, 5, 0])[0, 1]
    assert neighbors > 0.9 > 0.2 > abs(np.corrcoef(field[:, 0, 0, 0], field[:, -1, -1, 0])[0, 1])


@pytest.mark.parametrize(
    ("border", "mode"),
    [("reflect", "mirror"), ("constant", "grid-constant")],
    ids=["reflect", "constant"],
)
def test_elastic_equals_scipy_at_the_displaced_coordinates(border, mode):
    policy = augment.elastic((0.0, 2.0), mode=border, fill=0.4)
    drawn = draws(policy, 16)
    images = as_floats(COLOR[:16])
    fields = np.asarray(jax.vmap(lambda draw: field_of(policy, draw))(drawn), np.float64)
    options = {"order": 1, "mode": mode, "cval": 0.4}
    for image, field, found in zip(images, fields, apply_draws(policy, drawn, images), strict=True):
        coordinates = np.indices(image.shape[:2]) + np.moveaxis(field, -1, 0)
        for k in range(3):
            channel = image[..., k].astype(np.float64)
            expected = scipy.ndimage.map_coordinates(channel, coordinates, **options)
            np.testing.assert_allclose(found[..., k], expected, atol=1e-4)


def test_displacement_zero_is_the_identity():
    for images in (COLOR, as_floats(COLOR)):
        np.testing.assert_array_equal(augmented(augment.elastic(0.0), images), images)


def by_libjpeg(image, quality):
    file = io.BytesIO()
    as_pillow(image).save(file, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Pillow.open(file)).reshape(image.shape)


# Also sizes that are not multiples of a block.
@pytest.mark.parametrize("shape", [(40, 36, 3), (32, 48, 3), (21, 19, 1), (16, 24, 1)])
def test_jpeg_is_close_to_libjpeg(shape):
    draw = np.random.default_rng(4)
    noisy = 255 * smooth(24, shape) + draw.normal(0, 12, (24, *shape))
    images = np.clip(noisy, 0, 255).astype(np.uint8)
    qualities = np.repeat([5, 10, 25, 49, 50, 51, 75, 95], 3)
    pairs = zip(images, qualities.tolist(), strict=True)
    expected = np.stack([by_libjpeg(image, quality) for image, quality in pairs])
    results = augmented_at(augment.jpeg, images, qualities)
    # libjpeg computes with whole numbers, so a few coefficients are rounded the other way. The
    # difference is compared with the loss by the compression.
    loss = np.abs(images.astype(int) - expected).mean((1, 2, 3))
    difference = np.abs(results.astype(int) - expected).mean((1, 2, 3))
    assert (difference < 0.2 * loss + 0.5).all() and (difference / loss).mean() < 0.15


def test_the_gradient_of_jpeg_ignores_the_rounding():
    image = jnp.asarray(0.3 + 0.4 * smooth(1, (16, 16, 1))[0])
    slope = jax.jit(jax.grad(lambda x: augment.jpeg(50.0)(jax.random.key(0), x).sum()))(image)
    np.testing.assert_allclose(slope, 1, atol=1e-4)


def test_jpeg_of_four_channels_raises():
    with pytest.raises(ShapeError, match="jpeg: expected 1 or 3 channels"):
        augment.jpeg(50.0)(jax.random.key(0), jnp.zeros((8, 8, 4)))


PAIRS = {
    "sharpness": (augment.sharpness, "factor", (0.1, 1.9)),
    "gaussian_blur": (augment.gaussian_blur, "sigma", (0.1, 2.0)),
    "elastic": (augment.elastic, "displacement", (0.5, 3.0)),
    "jpeg": (augment.jpeg, "quality", (20.0, 80.0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_drawn_uniformly(name):
    maker, parameter, (low, high) = PAIRS[name]
    drawn = draws(maker((low, high)), 4000)[parameter]
    assert scipy.stats.kstest(drawn, "uniform", (low, high - low)).pvalue > 1e-4


def test_gradients_by_sharpness_and_blur_equal_finite_differences():
    image = jnp.asarray(0.3 + 0.4 * as_floats(COLOR[2]))
    weights = jnp.asarray(np.random.default_rng(5).normal(size=image.shape), jnp.float32)

    @jax.jit
    def found(step):
        rows = []
        for maker in (augment.sharpness, augment.gaussian_blur):

            def level(magnitude, maker=maker):
                return (maker(magnitude)(jax.random.key(0), image) * weights).sum()

            difference = (level(1.2 + step) - level(1.2 - step)) / 2 / step
            rows.append(jnp.stack([jax.grad(level)(jnp.float32(1.2)), difference]))
        return jnp.stack(rows)

    slopes, differences = np.asarray(found(jnp.float32(1e-2))).T
    np.testing.assert_allclose(slopes, differences, rtol=5e-3)
