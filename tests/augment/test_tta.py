"""Predictions of several views, against the mean written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment
from fnn.errors import ConfigError

IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 6, 6, 3), np.float32))


def predict(images):
    return images[:, :, 0, :].sum(1)


def test_the_mean_over_views_is_taken():
    views = (augment.chain(), augment.flip_lr(1.0), augment.rot90(2))
    expected = (predict(IMAGES) + predict(IMAGES[:, :, ::-1]) + predict(IMAGES[:, ::-1, ::-1])) / 3
    np.testing.assert_allclose(jax.jit(augment.tta(predict, views=views))(IMAGES), expected, rtol=1e-6)


def test_maps_are_moved_back_before_the_mean():
    views = (augment.chain(), augment.flip_lr(1.0), augment.rot90(1), augment.translate(1 / 3, 0.0, mode="wrap"))
    shown = augment.tta(lambda images: {"map": images}, views=views, dense=True)(IMAGES)["map"]
    np.testing.assert_allclose(np.asarray(shown)[:, 1:4], np.asarray(IMAGES)[:, 1:4], atol=1e-5)


def test_a_view_that_draws_draws_the_same_at_every_call():
    seen = augment.tta(predict, views=[augment.random_crop(padding=2)])
    np.testing.assert_array_equal(seen(IMAGES), seen(IMAGES))


def test_no_view_is_refused():
    with pytest.raises(ConfigError, match="tta views: expected at least one augmentation"):
        augment.tta(predict, views=())
