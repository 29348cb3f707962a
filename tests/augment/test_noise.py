"""Random levels: their distributions, and that each pixel, channel and image draws its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import as_floats, draws, pictures, seen, seen_as

from fnn import augment

MIDDLE = np.full((40, 12, 10, 3), 0.5, np.float32)


def test_noise_on_floats_is_normal_and_independent():
    noise = (seen(augment.gaussian_noise(0.1), MIDDLE) - 0.5) / 0.1
    flat = noise.reshape(-1)
    assert scipy.stats.kstest(flat, "norm").pvalue > 1e-3
    n = flat.size
    assert abs(flat.mean()) < 4 / np.sqrt(n) and abs(flat.var() - 1) < 4 * np.sqrt(2 / n)
    for axis in range(4):  # images, rows, columns, channels
        first, second = np.moveaxis(noise, axis, 0)[:-1], np.moveaxis(noise, axis, 0)[1:]
        assert abs(np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1]) < 4 / np.sqrt(
            first.size
        )


def test_noise_on_bytes_is_normal_and_rounded():
    levels = seen(augment.gaussian_noise(0.1), np.full_like(MIDDLE, 128, np.uint8))
    edges = np.arange(128 - 80, 128 + 81, 10) - 0.5
    counts, _ = np.histogram(levels, edges)
    parts = np.diff(scipy.stats.norm(128, 25.5).cdf(edges))
    inside = counts.sum()
    assert inside > 0.995 * levels.size
    assert scipy.stats.chisquare(counts, inside * parts / parts.sum()).pvalue > 1e-3
    assert abs(levels.mean() - 128) < 4 * 25.5 / np.sqrt(levels.size)


def test_noise_is_clipped():
    for white in (np.float32(1), np.uint8(255)):
        levels = seen(augment.gaussian_noise(0.2), np.full_like(MIDDLE, white, type(white)))
        assert (
            levels.max() == white
            and scipy.stats.binomtest(int((levels == white).sum()), levels.size).pvalue > 1e-4
        )


@pytest.mark.parametrize(
    "images", [np.full((40, 12, 10, 3), 99, np.uint8), MIDDLE], ids=["bytes", "floats"]
)
def test_this_share_of_the_pixels_is_salt_or_pepper(images):
    shown = seen(augment.salt_and_pepper(0.3), images)
    np.testing.assert_array_equal(shown.min(-1), shown.max(-1))  # all channels of a pixel alike
    levels, white = shown[..., 0], 255 if images.dtype == np.uint8 else 1
    assert set(np.unique(levels)) == {0, images.flat[0], white}
    for level in (0, white):
        assert scipy.stats.binomtest(int((levels == level).sum()), levels.size, 0.15).pvalue > 1e-3
    counts = (levels == white).sum(0).reshape(-1)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3  # any place as often


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_pixels_or_none_may_be_salt_or_pepper(share):
    images = pictures(8) // 2 + 10
    shown = seen(augment.salt_and_pepper(share), images)
    expected = images if share == 0 else np.where(shown == 0, 0, 255)
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("images", [pictures(8), as_floats(pictures(8))], ids=["bytes", "floats"])
def test_no_noise_is_the_identity(images):
    np.testing.assert_array_equal(seen(augment.gaussian_noise(0.0), images), images)


@pytest.mark.parametrize(
    ("maker", "name"),
    [(augment.gaussian_noise, "deviation"), (augment.salt_and_pepper, "probability")],
)
def test_a_magnitude_is_drawn_for_each_image_apart_from_its_noise(maker, name):
    policy = maker((0.1, 0.4))
    drawn = draws(policy, 4000)
    assert scipy.stats.kstest(drawn[name], "uniform", (0.1, 0.3)).pvalue > 1e-4
    few = {own: value[:40] for own, value in drawn.items()}
    first, second = (
        seen_as(policy, few | {name: np.full(40, own, np.float32)}, MIDDLE) for own in (0.05, 0.1)
    )
    if name == "deviation":
        np.testing.assert_allclose(2 * (first - 0.5), second - 0.5, atol=1e-6)
    else:
        # The lesser share's pixels are among the greater one's; only what is white may have been black.
        assert ((second != 0.5) | (first == 0.5)).all() and ((second == 0) | (first != 0)).all()


def test_the_slope_by_the_deviation_is_the_noise():
    image = jnp.asarray(MIDDLE[0])

    @jax.jit
    def both(deviation):
        def shown(own):
            return augment.gaussian_noise(own)(jax.random.key(0), image)

        return jax.jacfwd(shown)(deviation), (shown(deviation) - image) / deviation

    slope, noise = both(jnp.float32(0.05))
    np.testing.assert_allclose(slope, noise, atol=1e-4)
