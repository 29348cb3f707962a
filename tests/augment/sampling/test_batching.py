"""Functions of a batch under any number of vmaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.sampling.batching import apart, held, one_of_many

BYTES = np.random.default_rng(0).integers(0, 100, (2, 3, 4, 5, 1), np.uint8)


@pytest.fixture
def doubling():
    """one_of_many of x -> 2 x + shift, and the batch sizes that it was called with."""
    sizes = []

    def many(images, shifts):
        sizes.append(images.shape[0])
        return 2 * images + shifts[:, None, None, None].astype(images.dtype)

    return one_of_many(many), sizes


def test_all_images_of_nested_vmaps_come_as_one_batch(doubling):
    double, sizes = doubling
    shifts = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = jax.jit(jax.vmap(jax.vmap(double)))(BYTES, shifts)
    np.testing.assert_array_equal(found, 2 * BYTES + shifts.astype(np.uint8)[..., None, None, None])
    assert sizes[-1] == 6


def test_what_is_not_mapped_is_repeated(doubling):
    double, sizes = doubling
    found = jax.jit(jax.vmap(double, (None, 0)))(BYTES[0, 0], jnp.arange(4.0))
    np.testing.assert_array_equal(found, 2 * BYTES[0, 0][None] + np.arange(4, dtype=np.uint8)[:, None, None, None])
    assert sizes[-1] == 4
    alone = double(BYTES[0, 0], jnp.float32(1))
    np.testing.assert_array_equal(alone, 2 * BYTES[0, 0] + 1)


def test_floats_are_derived_under_vmap(doubling):
    double, _ = doubling
    floats = jnp.asarray(BYTES[0], jnp.float32)

    def total(image, shift):
        return (double(image, shift) ** 2).sum()

    by_image, by_shift = jax.jit(jax.vmap(jax.grad(total, (0, 1))))(floats, jnp.ones(3))
    np.testing.assert_allclose(by_image, 4 * (2 * floats + 1))
    np.testing.assert_allclose(by_shift, (2 * (2 * floats + 1)).sum((1, 2, 3)))


def test_a_choice_for_each_image_takes_it_in(doubling):
    """Under vmap a switch becomes a selection, whose branches see all they need as a batch."""
    double, _ = doubling

    def choose(which, image):
        return jax.lax.switch(which, [lambda x: x, lambda x: double(x, jnp.float32(3))], image)

    which = jnp.array([0, 1, 1])
    found = jax.jit(jax.vmap(choose))(which, BYTES[0])
    np.testing.assert_array_equal(
        found, np.where(np.asarray(which)[:, None, None, None] == 1, 2 * BYTES[0] + 3, BYTES[0])
    )


def scaled_and_sum(image, factor):
    x = image.astype(jnp.float32) * factor
    return x, x.sum()


def test_apart_is_the_function_alone_under_vmap_and_of_floats():
    own = apart(scaled_and_sum)
    images, factors = BYTES[0], jnp.array([0.5, 1.0, 2.0])
    expected = [scaled_and_sum(image, factor) for image, factor in zip(images, factors, strict=True)]
    for x, total in (jax.jit(jax.vmap(own))(images, factors), jax.vmap(own, (0, 0))(images, factors)):
        np.testing.assert_array_equal(x, [value for value, _ in expected])
        np.testing.assert_allclose(total, [total for _, total in expected])
    shared = jax.jit(jax.vmap(own, (0, None)))(images, jnp.float32(2))
    np.testing.assert_array_equal(shared[0], 2.0 * images)
    slope = jax.jit(jax.grad(lambda x: own(x, jnp.float32(3))[1]))(jnp.asarray(images[0], jnp.float32))
    np.testing.assert_array_equal(slope, np.full(images[0].shape, 3.0))


def test_what_is_of_bytes_has_no_slope_by_what_else_it_is_given():
    slope = jax.jit(jax.grad(lambda factor: apart(scaled_and_sum)(jnp.asarray(BYTES[0, 0]), factor)[1]))(1.0)
    assert slope == 0


def test_held_arrays_are_as_they_were_and_pass_their_slopes_on():
    tree = {"angle": jnp.float32(0.5), "knots": jnp.arange(6.0).reshape(2, 3), "which": jnp.int32(2)}
    again = jax.jit(held)(tree)
    assert again.keys() == tree.keys()
    assert all(np.array_equal(again[name], tree[name]) for name in tree)
    assert held({}) == {}
    slope = jax.jit(jax.vmap(jax.grad(lambda x: (held((x, 2 * x))[1] ** 2).sum())))(jnp.arange(3.0))
    np.testing.assert_allclose(slope, 8 * np.arange(3.0))
    compiled = jax.jit(lambda x: held(x * 2) + 1).lower(jnp.arange(3.0)).compile().as_text()
    assert " conditional(" in compiled
