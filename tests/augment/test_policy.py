"""Policies are drawn, lowered and applied, with equal results under all transforms of JAX."""

import re
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import apply_draws, augmented, draws, pictures, smooth

from fnn import augment
from fnn.errors import ConfigError, DTypeError, ShapeError

COUNT = 8
SHAPE = (20, 18, 3)
BYTES = pictures(COUNT, SHAPE)
# A geometric op, then a point op or a filter.
POLICY = augment.chain(
    augment.rotate((-30.0, 30.0)), augment.one_of(augment.solarize(0.3), augment.sharpness(2.0))
)


@cache
def batch():
    """Each image, augmented with a different key."""
    return augmented(POLICY, BYTES)


@pytest.mark.slow
def test_a_stored_draw_applied_equals_the_call():
    drawn = draws(POLICY, COUNT, SHAPE)  # as NumPy arrays
    np.testing.assert_array_equal(apply_draws(POLICY, drawn, BYTES), batch())
    assert batch().dtype == np.uint8
    assert (batch() != BYTES).mean() > 0.3


def test_a_draw_has_named_parameters_in_units_of_the_operation():
    policy = augment.chain(augment.rotate((-30.0, 30.0)), augment.random_crop(padding=2))
    drawn = draws(policy, 200, SHAPE)
    assert [set(part) for part in drawn] == [{"degrees"}, {"top", "left"}]
    turned, cropped = drawn
    assert 20 < np.abs(turned["degrees"]).max() <= 30
    assert set(cropped["top"]) == {-2, -1, 0, 1, 2}


def test_a_draw_can_be_written_by_hand():
    drawn = {"factor": jnp.float32(2)}
    found = jax.jit(augment.brightness((0.1, 0.2)).apply)(drawn, jnp.asarray(BYTES[0]))
    np.testing.assert_array_equal(found, np.minimum(2 * BYTES[0].astype(int), 255))


@pytest.mark.slow
def test_single_images_batches_and_nested_batches_are_equal():
    keys = [jax.random.split(jax.random.key(1), COUNT) for _ in range(2)]
    nested = jax.jit(jax.vmap(jax.vmap(POLICY)))(keys[0].reshape(2, 4), BYTES.reshape(2, 4, *SHAPE))
    np.testing.assert_array_equal(nested.reshape(BYTES.shape), batch())
    alone = jax.jit(POLICY)
    single = [alone(key, image) for key, image in zip(keys[1], BYTES, strict=True)]
    np.testing.assert_array_equal(single, batch())


def test_a_scan_equals_the_batch():
    def step(carry, key_and_image):
        return carry, POLICY(*key_and_image)

    keys = jax.random.split(jax.random.key(1), COUNT)
    _, scanned = jax.jit(lambda keys, images: jax.lax.scan(step, 0, (keys, images)))(keys, BYTES)
    np.testing.assert_array_equal(scanned, batch())


def test_numpy_arrays_are_accepted_without_jit():
    policy = augment.translate(0.2, -0.1, method="nearest", mode="wrap")
    image = smooth(1, SHAPE)[0]
    drawn = jax.tree.map(np.asarray, policy.draw(jax.random.key(4), SHAPE))
    # Down by 0.2 of 20 rows, and to the left by 0.1 of 18 columns, rounded.
    expected = np.roll(image, (4, -2), (0, 1))
    for found in (policy.apply(drawn, image), policy(jax.random.key(4), image)):
        np.testing.assert_array_equal(found, expected)


def test_a_jitted_policy_can_be_lowered_by_jax():
    """The method `lower` of the jitted function is not the field of the policy."""
    policy = augment.flip_lr(1.0)
    operands = jax.random.key(0), jnp.asarray(BYTES[0])
    compiled = jax.jit(policy).lower(*operands).compile()
    np.testing.assert_array_equal(compiled(*operands), BYTES[0][:, ::-1])


SMOOTH = augment.chain(
    augment.rotate((-20.0, 20.0)), augment.contrast((0.8, 1.2)), augment.gaussian_blur(0.8)
)


@pytest.mark.slow
def test_gradients_by_float_images_in_a_batch():
    images = smooth(COUNT, SHAPE) * 0.5 + 0.25
    drawn = jax.tree.map(jnp.asarray, draws(SMOOTH, COUNT, SHAPE))
    weights, towards = np.random.default_rng(0).normal(size=(2, *images.shape)).astype(np.float32)

    def value(image, drawn, weight):
        return (SMOOTH.apply(drawn, image) * weight).sum()

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(value)))(images, drawn, weights)
    apart = jax.jit(jax.vmap(value))
    higher = apart(images + 0.01 * towards, drawn, weights)
    lower = apart(images - 0.01 * towards, drawn, weights)
    # The policy is homogeneous of degree 1 in the image, since nothing is clipped.
    by_slope = (slopes * towards).sum((1, 2, 3))
    np.testing.assert_allclose(by_slope, (higher - lower) / 0.02, rtol=1e-2, atol=0.05)
    np.testing.assert_allclose(values, (slopes * images).sum((1, 2, 3)), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_gradients_by_magnitudes_and_one_compilation_for_all_values():
    image = jnp.asarray(smooth(1, SHAPE)[0])

    def value(magnitudes):
        stretched = augment.scale(magnitudes[0], mode="reflect")
        policy = augment.chain(stretched, augment.gamma((magnitudes[1], magnitudes[1])))
        return (policy(jax.random.key(0), image) ** 2).mean()

    usual = jnp.array([1.31, 0.8])
    slope = jax.jit(jax.grad(value))(usual)
    compiled = jax.jit(chex.assert_max_traces(value, n=1))
    for k in (0, 1):
        step = jnp.zeros(2).at[k].set(5e-3)
        difference = (compiled(usual + step) - compiled(usual - step)) / 1e-2
        np.testing.assert_allclose(difference, slope[k], rtol=0.03, atol=1e-5)


IMAGE = jnp.zeros((8, 8, 3), jnp.uint8)
FLIP = augment.flip_lr()
NO_KEY = "augmentation key: expected a key from jax.random.key(...), got"


def fresh():
    return jax.random.key(0)


MISTAKES = {
    "a batch": lambda: FLIP(fresh(), IMAGE[None]),
    "no channels": lambda: FLIP(fresh(), IMAGE[..., 0]),
    "channels first": lambda: FLIP(fresh(), jnp.zeros((3, 8, 8))),
    "floats up to 255": lambda: FLIP(fresh(), jnp.full((8, 8, 3), 200.0)),
    "whole numbers": lambda: FLIP(fresh(), IMAGE.astype(jnp.int32)),
    "a number for a key": lambda: FLIP(0, IMAGE),
    "an old key": lambda: FLIP(jax.random.PRNGKey(0), IMAGE),
    "many keys": lambda: FLIP(jax.random.split(fresh(), 2), IMAGE),
    "a number to draw from": lambda: FLIP.draw(7, (8, 8, 3)),
    "maybe smaller": lambda: augment.maybe(augment.crop(4))(fresh(), IMAGE),
    "one of sizes": lambda: augment.one_of(FLIP, augment.resize(4))(fresh(), IMAGE),
    "one of none": lambda: augment.one_of(),
    "too few weights": lambda: augment.one_of(FLIP, FLIP, weights=(1.0,)),
    "a negative weight": lambda: augment.one_of(FLIP, FLIP, weights=(1.0, -1.0)),
    "no weight": lambda: augment.one_of(FLIP, FLIP, weights=(0.0, 0.0)),
    "another mode": lambda: augment.one_of(FLIP, mode="fast"),
    "none of some": lambda: augment.some_of(FLIP, count=0),
    "a chance": lambda: augment.maybe(FLIP, 1.5),
    "no augmentation": lambda: augment.chain(FLIP, 0.5),
    "maybe nothing": lambda: augment.maybe(None),
    "one of a word": lambda: augment.one_of("flip"),
}
ANSWERS = {
    "a batch": (
        ShapeError,
        "(height, width, channels), got (1, 8, 8, 3); for a batch use augment.per_image",
    ),
    "no channels": (ShapeError, "expected one image (height, width, channels), got (8, 8)"),
    "channels first": (
        ShapeError,
        "expected channels last (height, width, channels), got (3, 8, 8); move the channel",
    ),
    "floats up to 255": (
        ConfigError,
        "image: expected [0, 1], got max 200; keep it uint8, or divide by 255",
    ),
    "whole numbers": (
        DTypeError,
        "expected uint8, or floats in [0, 1], got int32; convert the image first",
    ),
    "a number for a key": (DTypeError, f"{NO_KEY} int 0"),
    "an old key": (DTypeError, f"{NO_KEY} uint32[2]"),
    "many keys": (ShapeError, "augmentation key: expected one key, got keys of shape (2,)"),
    "a number to draw from": (DTypeError, f"{NO_KEY} int 7"),
    "maybe smaller": (
        ConfigError,
        "maybe: expected augmentations that keep the size (8, 8), got (4, 4); resize in a",
    ),
    "one of sizes": (
        ConfigError,
        "one_of: expected augmentations that keep the size (8, 8), got (4, 4)",
    ),
    "one of none": (ConfigError, "one_of: expected at least one augmentation, got none; give some"),
    "too few weights": (
        ConfigError,
        "one_of weights: expected 2 weights, got 1; give one weight per augmentation",
    ),
    "a negative weight": (ConfigError, "one_of weights 1: expected a number in [0, inf), got -1.0"),
    "no weight": (ConfigError, "one_of weights: expected one above 0, got (0.0, 0.0)"),
    "another mode": (ConfigError, "some_of mode: expected one of fused, exact, got 'fast'"),
    "none of some": (ConfigError, "some_of count: expected >= 1, got 0"),
    "a chance": (ConfigError, "maybe probability: expected a number in [0, 1], got 1.5"),
    "no augmentation": (
        ConfigError,
        "chain 1: expected an augmentation (key, image) -> image, got 0.5; call its",
    ),
    "maybe nothing": (
        ConfigError,
        "maybe augmentation: expected an augmentation (key, image) -> image, got None",
    ),
    "one of a word": (
        ConfigError,
        "one_of 0: expected an augmentation (key, image) -> image, got 'flip'",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_raise_with_location_expectation_and_value(case):
    error, message = ANSWERS[case]
    with pytest.raises(error, match=re.escape(message)):
        MISTAKES[case]()
