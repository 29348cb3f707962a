"""What looks at neighbors: against Pillow, SciPy and libjpeg."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as, seen_at, smooth
from PIL import Image as Pillow
from PIL import ImageEnhance

from fnn import augment
from fnn.errors import ShapeError

COUNT = 32
COLOR, LETTERS = pictures(COUNT), pictures(COUNT, (9, 13, 1), seed=1)
FACTORS = np.concatenate([[0, 1, 2], np.random.default_rng(2).uniform(0, 3, COUNT - 3)]).astype(
    np.float32
)


def as_pillow(image):
    return Pillow.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


@pytest.mark.parametrize(
    "images", [COLOR, LETTERS, pictures(COUNT, (6, 7, 4))], ids=["color", "gray", "alpha"]
)
def test_sharpness_of_bytes_is_pillows(images):
    expected = [
        np.asarray(ImageEnhance.Sharpness(as_pillow(image)).enhance(float(factor))).reshape(
            image.shape
        )
        for image, factor in zip(images, FACTORS, strict=True)
    ]
    np.testing.assert_array_equal(seen_at(augment.sharpness, images, FACTORS), np.stack(expected))


def test_sharpness_of_floats_is_away_from_the_mean_of_the_neighbors():
    x = as_floats(COLOR).astype(np.float64)
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]])[None, :, :, None] / 13
    mean = scipy.ndimage.correlate(x, kernel)
    mean[:, [0, -1]], mean[:, :, [0, -1]] = x[:, [0, -1]], x[:, :, [0, -1]]
    expected = np.clip(mean + FACTORS[:, None, None, None] * (x - mean), 0, 1)
    np.testing.assert_allclose(
        seen_at(augment.sharpness, as_floats(COLOR), FACTORS), expected, atol=2e-6
    )


@pytest.mark.parametrize("size", [1, 3, 7, 11])
def test_a_blur_is_scipys_in_a_window_with_reflected_edges(size):
    sigmas = np.random.default_rng(3).uniform(0.1, 3, COUNT).astype(np.float32)
    expected = np.stack(
        [
            scipy.ndimage.gaussian_filter(
                image.astype(np.float64) / 255,
                float(sigma),
                mode="mirror",
                radius=size // 2,
                axes=(0, 1),
            )
            for image, sigma in zip(COLOR, sigmas, strict=True)
        ]
    )

    def blur(sigma):
        return augment.gaussian_blur(sigma, size=size)

    np.testing.assert_allclose(seen_at(blur, as_floats(COLOR), sigmas), expected, atol=1e-5)
    assert np.abs(seen_at(blur, COLOR, sigmas) - 255 * expected).max() < 0.5 + 1e-3


def test_a_blur_needs_an_image_larger_than_half_its_window():
    with pytest.raises(ShapeError, match="gaussian_blur: expected an image larger than 5 pixels"):
        augment.gaussian_blur(1.0, size=11)(jax.random.key(0), jnp.zeros((9, 5, 3)))


def field_of(policy, drawn):
    (move,) = policy.lower(drawn, COLOR.shape[1:])
    return move.field


def test_elastic_waves_displace_by_their_deviation_everywhere():
    policy = augment.elastic(3.0)
    drawn = draws(policy, 3000)
    field = np.asarray(
        jax.jit(jax.vmap(lambda own: field_of(policy, own)))(drawn)
    )  # (3000, 12, 10, 2)
    assert np.abs(field.std(0) / 3 - 1).max() < 0.07  # 5 of its standard errors
    assert np.abs(field.mean(0)).max() < 5 * 3 / np.sqrt(3000)
    assert scipy.stats.kstest(field[:, 5, 5, 0], "norm", (0, 3)).pvalue > 1e-3
    assert abs(np.corrcoef(field[:, 5, 5].T)[0, 1]) < 0.08  # rows and columns by themselves
    neighbors = np.corrcoef(field[:, 5, 4, 0], field[:, 5, 5, 0])[0, 1]
    assert neighbors > 0.9 > 0.2 > abs(np.corrcoef(field[:, 0, 0, 0], field[:, -1, -1, 0])[0, 1])


@pytest.mark.parametrize(
    ("border", "mode"),
    [("reflect", "mirror"), ("constant", "grid-constant")],
    ids=["reflect", "constant"],
)
def test_elastic_shows_what_scipy_finds_at_the_displaced_places(border, mode):
    policy = augment.elastic((0.0, 2.0), mode=border, fill=0.4)
    drawn, images = draws(policy, 16), as_floats(COLOR[:16])
    fields = np.asarray(jax.vmap(lambda own: field_of(policy, own))(drawn), np.float64)
    for image, field, found in zip(images, fields, seen_as(policy, drawn, images), strict=True):
        places = np.indices(image.shape[:2]) + np.moveaxis(field, -1, 0)
        for k in range(3):
            channel = image[..., k].astype(np.float64)
            expected = scipy.ndimage.map_coordinates(channel, places, order=1, mode=mode, cval=0.4)
            np.testing.assert_allclose(found[..., k], expected, atol=1e-4)


def test_no_displacement_is_the_identity():
    for images in (COLOR, as_floats(COLOR)):
        np.testing.assert_array_equal(seen(augment.elastic(0.0), images), images)


def by_libjpeg(image, quality):
    file = io.BytesIO()
    as_pillow(image).save(file, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Pillow.open(file)).reshape(image.shape)


# Sizes that are no multiples of a block, too.
@pytest.mark.parametrize("shape", [(40, 36, 3), (32, 48, 3), (21, 19, 1), (16, 24, 1)])
def test_jpeg_leaves_what_libjpeg_leaves(shape):
    draw = np.random.default_rng(4)
    images = np.clip(255 * smooth(24, shape) + draw.normal(0, 12, (24, *shape)), 0, 255).astype(
        np.uint8
    )
    qualities = np.repeat([5, 10, 25, 49, 50, 51, 75, 95], 3)
    expected = np.stack(
        [by_libjpeg(image, own) for image, own in zip(images, qualities.tolist(), strict=True)]
    )
    shown = seen_at(augment.jpeg, images, qualities)
    lost = np.abs(images.astype(int) - expected).mean((1, 2, 3))
    apart = np.abs(shown.astype(int) - expected).mean((1, 2, 3))
    # libjpeg calculates in whole numbers, so that now and then a coefficient is rounded to its other neighbor.
    assert (apart < 0.2 * lost + 0.5).all() and (apart / lost).mean() < 0.15


def test_jpeg_passes_gradients_on():
    image = jnp.asarray(0.3 + 0.4 * smooth(1, (16, 16, 1))[0])
    slope = jax.jit(jax.grad(lambda x: augment.jpeg(50.0)(jax.random.key(0), x).sum()))(image)
    np.testing.assert_allclose(slope, 1, atol=1e-4)


def test_jpeg_has_gray_or_three_colors():
    with pytest.raises(ShapeError, match="jpeg: expected 1 or 3 channels"):
        augment.jpeg(50.0)(jax.random.key(0), jnp.zeros((8, 8, 4)))


PAIRS = {
    "sharpness": (augment.sharpness, "factor", (0.1, 1.9)),
    "gaussian_blur": (augment.gaussian_blur, "sigma", (0.1, 2.0)),
    "elastic": (augment.elastic, "displacement", (0.5, 3.0)),
    "jpeg": (augment.jpeg, "quality", (20.0, 80.0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_drawn_is_uniform_between_the_two(name):
    maker, own, (low, high) = PAIRS[name]
    drawn = draws(maker((low, high)), 4000)[own]
    assert scipy.stats.kstest(drawn, "uniform", (low, high - low)).pvalue > 1e-4


def test_the_slopes_by_sharpness_and_blur_are_those_of_differences():
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
