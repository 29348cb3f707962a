"""Noise has its distribution, and is independent between pixels, channels and images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, as_floats, augmented, draws, pictures

from fnn import augment

pytestmark = pytest.mark.slow

MIDDLE = np.full((40, 12, 10, 3), 0.5, np.float32)


def test_noise_on_floats_is_normal_and_independent():
    noise = (augmented(augment.gaussian_noise(0.1), MIDDLE) - 0.5) / 0.1
    flat = noise.reshape(-1)
    assert scipy.stats.kstest(flat, "norm").pvalue > 1e-3
    n = flat.size
    assert abs(flat.mean()) < 4 / np.sqrt(n) and abs(flat.var() - 1) < 4 * np.sqrt(2 / n)
    # Neighbors along images, rows, columns and channels.
    for axis in range(4):
        along = np.moveaxis(noise, axis, 0)
        first = along[:-1].reshape(-1)
        second = along[1:].reshape(-1)
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(first.size)


def test_noise_on_bytes_is_normal_and_rounded():
    levels = augmented(augment.gaussian_noise(0.1), np.full_like(MIDDLE, 128, np.uint8))
    edges = np.arange(128 - 80, 128 + 81, 10) - 0.5
    counts, _ = np.histogram(levels, edges)
    parts = np.diff(scipy.stats.norm(128, 25.5).cdf(edges))
    inside = counts.sum()
    assert inside > 0.995 * levels.size
    assert scipy.stats.chisquare(counts, inside * parts / parts.sum()).pvalue > 1e-3
    assert abs(levels.mean() - 128) < 4 * 25.5 / np.sqrt(levels.size)


def test_noise_is_clipped():
    for white in (np.float32(1), np.uint8(255)):
        levels = augmented(augment.gaussian_noise(0.2), np.full_like(MIDDLE, white, type(white)))
        assert levels.max() == white
        # Half of the noise is above 0, and clipped.
        clipped = int((levels == white).sum())
        assert scipy.stats.binomtest(clipped, levels.size).pvalue > 1e-4


@pytest.mark.parametrize(
    "images", [np.full((40, 12, 10, 3), 99, np.uint8), MIDDLE], ids=["bytes", "floats"]
)
def test_the_share_of_salt_and_pepper_is_the_probability(images):
    results = augmented(augment.salt_and_pepper(0.3), images)
    np.testing.assert_array_equal(results.min(-1), results.max(-1))  # equal in all channels
    levels = results[..., 0]
    white = 255 if images.dtype == np.uint8 else 1
    assert set(np.unique(levels)) == {0, images.flat[0], white}
    for level in (0, white):
        assert scipy.stats.binomtest(int((levels == level).sum()), levels.size, 0.15).pvalue > 1e-3
    counts = (levels == white).sum(0).reshape(-1)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3  # uniform over the image


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_probabilities_zero_and_one_change_no_pixel_or_all(share):
    images = pictures(8) // 2 + 10
    results = augmented(augment.salt_and_pepper(share), images)
    expected = images if share == 0 else np.where(results == 0, 0, 255)
    np.testing.assert_array_equal(results, expected)


@pytest.mark.parametrize("images", [pictures(8), as_floats(pictures(8))], ids=["bytes", "floats"])
def test_deviation_zero_is_the_identity(images):
    np.testing.assert_array_equal(augmented(augment.gaussian_noise(0.0), images), images)


@pytest.mark.parametrize(
    ("maker", "name"),
    [(augment.gaussian_noise, "deviation"), (augment.salt_and_pepper, "probability")],
)
def test_magnitudes_are_uniform_and_independent_of_the_noise(maker, name):
    policy = maker((0.1, 0.4))
    drawn = draws(policy, 4000)
    assert scipy.stats.kstest(drawn[name], "uniform", (0.1, 0.3)).pvalue > 1e-4
    few = {key: values[:40] for key, values in drawn.items()}
    first = apply_draws(policy, few | {name: np.full(40, 0.05, np.float32)}, MIDDLE)
    second = apply_draws(policy, few | {name: np.full(40, 0.1, np.float32)}, MIDDLE)
    if name == "deviation":
        np.testing.assert_allclose(2 * (first - 0.5), second - 0.5, atol=1e-6)
    else:
        # More pixels change with the higher probability; black ones stay black, white ones may
        # become black.
        assert ((second != 0.5) | (first == 0.5)).all()
        assert ((second == 0) | (first != 0)).all()


def test_the_gradient_by_the_deviation_is_the_noise():
    image = jnp.asarray(MIDDLE[0])

    @jax.jit
    def both(deviation):
        def add_noise(deviation):
            return augment.gaussian_noise(deviation)(jax.random.key(0), image)

        noise = (add_noise(deviation) - image) / deviation
        return jax.jacfwd(add_noise)(deviation), noise

    slope, noise = both(jnp.float32(0.05))
    np.testing.assert_allclose(slope, noise, atol=1e-4)
