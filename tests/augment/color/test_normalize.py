"""Normalization as the last part of a policy, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import as_floats, augmented, pictures

from fnn import augment
from fnn.errors import ConfigError, ShapeError

IMAGES = pictures(8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("images", [IMAGES, as_floats(IMAGES)], ids=["bytes", "floats"])
@pytest.mark.parametrize("kind", [tuple, jnp.array], ids=["tuple", "array"])
def test_each_channel_is_normalized(images, kind):
    results = augmented(augment.normalize(kind(MEAN), kind(STD)), images)
    assert results.dtype == np.float32
    np.testing.assert_allclose(results, (IMAGES / 255 - np.array(MEAN)) / np.array(STD), atol=2e-6)


def test_gray_images_have_one_mean():
    results = augmented(augment.normalize((0.3,), (0.5,)), IMAGES[..., :1])
    np.testing.assert_allclose(results, (IMAGES[..., :1] / 255 - 0.3) / 0.5, atol=1e-6)


def test_the_result_has_the_given_dtype():
    policy = augment.normalize(MEAN, STD, dtype=jnp.bfloat16)
    keys = jax.random.split(jax.random.key(0), 8)
    results = jax.jit(jax.vmap(policy))(keys, IMAGES)
    assert results.dtype == jnp.bfloat16
    expected = (IMAGES / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(results.astype(jnp.float32), expected, rtol=2**-8, atol=1e-6)


def test_it_can_end_a_chain():
    policy = augment.chain(augment.invert(), augment.normalize(MEAN, STD))
    expected = ((255 - IMAGES) / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(augmented(policy, IMAGES), expected, atol=2e-6)


def test_gradients_by_mean_and_std_equal_the_formula():
    image = jnp.asarray(as_floats(IMAGES)[0])

    @jax.jit
    def slopes(mean, std):
        def total(mean, std):
            return augment.normalize(mean, std)(jax.random.key(0), image).sum((0, 1))

        return jax.jacfwd(total, (0, 1))(mean, std)

    by_mean, by_std = slopes(jnp.array(MEAN), jnp.array(STD))
    pixels = image.shape[0] * image.shape[1]
    np.testing.assert_allclose(by_mean, np.diag(-pixels / np.array(STD)), rtol=1e-5)
    expected = -(np.asarray(image, np.float64) - np.array(MEAN)).sum((0, 1)) / np.array(STD) ** 2
    np.testing.assert_allclose(by_std, np.diag(expected), rtol=1e-3, atol=1e-2)


def test_wrong_numbers_of_statistics_and_channels_raise():
    with pytest.raises(
        ConfigError, match="normalize std: expected 3 numbers, as many as mean, got 2"
    ):
        augment.normalize(MEAN, STD[:2])
    with pytest.raises(ConfigError, match=r"normalize std: expected a number in \(0, inf\), got 0"):
        augment.normalize(MEAN, (0.2, 0.0, 0.2))
    with pytest.raises(ShapeError, match="normalize: expected 3 channels, one for each mean"):
        augment.normalize(MEAN, STD)(jax.random.key(0), jnp.zeros((8, 8, 1)))


NORMALIZE = augment.normalize([0.5] * 3, [0.25] * 3)
INVALID = {
    "levels changed after it": (
        augment.chain(NORMALIZE, augment.jitter(brightness=0.4)),
        "chain: expected",
    ),
    "blurred after it": (
        augment.chain(augment.chain(NORMALIZE), augment.sharpness(1.5)),
        "chain: expected",
    ),
    "perhaps": (
        augment.maybe(NORMALIZE),
        "maybe: expected augmentations that give an image, got normalize",
    ),
    "one of": (
        augment.one_of(NORMALIZE, augment.flip_lr()),
        "one_of: expected augmentations that give an image",
    ),
    "one of, exactly": (
        augment.one_of(NORMALIZE, augment.invert(), mode="exact"),
        "one_of: expected",
    ),
    "another dtype perhaps": (
        augment.maybe(lambda key, image: image.astype(jnp.float32)),
        "maybe: expected an augmentation that keeps uint8, got float32",
    ),
    "another dtype chosen": (
        augment.one_of(lambda key, image: image.astype(jnp.float32), augment.invert()),
        "one_of: expected an augmentation that keeps uint8, got float32",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_combinations_raise(case):
    policy, message = INVALID[case]
    with pytest.raises(ConfigError, match=message):
        augmented(policy, pictures(2, (8, 8, 3)))


VALUE_AGNOSTIC = {
    "cutout": augment.cutout(3),
    "erasing": augment.random_erasing(1.0),
    "a channel": augment.channel_drop(1.0),
    "any function": lambda key, image: image.at[2:4].set(0),
}


@pytest.mark.parametrize("case", VALUE_AGNOSTIC)
def test_geometric_and_erasing_operations_may_follow(case):
    images = pictures(4, (8, 8, 3))
    after = augmented(augment.chain(NORMALIZE, augment.flip_lr(1.0), VALUE_AGNOSTIC[case]), images)
    before = augmented(augment.chain(augment.flip_lr(1.0), NORMALIZE), images)
    erased = after == 0
    assert erased.any() and not erased.all()
    np.testing.assert_array_equal(after[~erased], before[~erased])
