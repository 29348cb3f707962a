"""Moves of pixels, against NumPy's padding and against the distribution that is promised."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from PIL import Image as Pillow
from PIL import ImageOps

from fnn import augment

BYTES = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


def draws(policy, image, count=600):
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(jax.jit(jax.vmap(policy, (0, None)))(keys, jnp.asarray(image)))


def windows(padding, mode, size):
    """Every window that a crop may show, by NumPy."""
    padded = np.pad(BYTES, ((padding, padding), (padding, padding), (0, 0)), mode)
    places = np.ndindex(padded.shape[0] - size[0] + 1, padded.shape[1] - size[1] + 1)
    return [padded[i : i + size[0], j : j + size[1]] for i, j in places]


@pytest.mark.parametrize("image", [BYTES, (BYTES / 255).astype(np.float32)], ids=["bytes", "floats"])
def test_flip_is_pillows_mirror_or_nothing(image):
    always, never = (draws(augment.flip_lr(chance), image, 3) for chance in (1.0, 0.0))
    mirrored = np.asarray(ImageOps.mirror(Pillow.fromarray(BYTES))) if image.dtype == np.uint8 else image[:, ::-1]
    np.testing.assert_array_equal(always, np.stack([mirrored] * 3))
    np.testing.assert_array_equal(never, np.stack([image] * 3))


def test_flip_comes_with_its_chance():
    flipped = (draws(augment.flip_lr(0.3), BYTES) == BYTES[:, ::-1]).all((1, 2, 3)).sum()
    assert scipy.stats.binomtest(int(flipped), 600, 0.3).pvalue > 1e-3


@pytest.mark.parametrize("mode", ["reflect", "symmetric", "edge", "wrap", "constant"])
@pytest.mark.parametrize(("padding", "size"), [(1, None), (2, (4, 3)), (0, 4), (4, None)])
def test_a_crop_is_one_of_numpys_windows_each_as_likely(mode, padding, size):
    sizes = BYTES.shape[:2] if size is None else (size, size) if isinstance(size, int) else size
    shown = draws(augment.random_crop(padding=padding, mode=mode, size=size), BYTES)
    assert shown.dtype == np.uint8
    allowed = {window.tobytes(): 0 for window in windows(padding, mode, sizes)}
    weights = dict.fromkeys(allowed, 0)
    for window in windows(padding, mode, sizes):
        weights[window.tobytes()] += 1
    for image in shown:
        allowed[image.tobytes()] += 1  # a KeyError is a window that NumPy does not have
    expected = np.array([600 * weights[name] / sum(weights.values()) for name in allowed])
    if len(allowed) > 1:
        assert scipy.stats.chisquare(list(allowed.values()), expected).pvalue > 1e-4


def test_an_image_is_augmented_alike_in_any_batch():
    images = np.random.default_rng(2).integers(0, 256, (12, 8, 8, 1), np.uint8)
    policy = augment.per_image(augment.chain(augment.random_crop(padding=2), augment.flip_lr(), augment.cutout(3)))
    whole = policy(jax.random.key(0), images, jnp.arange(12))
    order = np.array([7, 2, 11])
    part = policy(jax.random.key(0), images[order], jnp.asarray(order))
    np.testing.assert_array_equal(part, whole[order])
    chex.assert_trees_all_equal(policy(jax.random.key(0), images), whole)


def test_every_image_of_a_batch_draws_its_own():
    images = np.tile(np.random.default_rng(3).integers(0, 256, (1, 8, 8, 1), np.uint8), (200, 1, 1, 1))
    shown = augment.per_image(augment.random_crop(padding=3))(jax.random.key(0), images)
    assert len({np.asarray(image).tobytes() for image in shown}) > 40  # of 49 windows
