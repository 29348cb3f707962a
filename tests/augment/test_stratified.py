"""Stratified choices: the frequency of each option is its share, and each equals the option."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment
from fnn.errors import ConfigError

IMAGE = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
PARTS = [
    augment.flip_lr(1.0),
    augment.invert(),
    augment.flip_ud(1.0),
    augment.posterize(2.0),
    augment.sharpness(0.0),
]


def stratify(policy, size):
    batch = augment.Batch(jnp.asarray(np.stack([IMAGE] * size)))
    result = jax.jit(augment.stratified(policy))(jax.random.key(0), batch)
    return [image.tobytes() for image in np.asarray(result.images)]


def alone(*policies):
    return np.asarray(augment.chain(*policies)(jax.random.key(0), jnp.asarray(IMAGE))).tobytes()


@pytest.mark.slow
def test_each_option_is_applied_to_its_share_of_the_batch():
    results = stratify(augment.one_of(*PARTS), 20)
    assert [results.count(alone(part)) for part in PARTS] == [4] * 5


def test_shares_are_the_weights():
    results = stratify(augment.one_of(*PARTS[:3], weights=(0.5, 0.3, 0.2)), 10)
    assert [results.count(alone(part)) for part in PARTS[:3]] == [5, 3, 2]


@pytest.mark.slow
def test_all_pairs_of_two_draws_are_equally_frequent():
    parts = PARTS[:3]
    results = stratify(augment.some_of(*parts, count=2), 18)
    pairs = [alone(first, second) for first in parts for second in parts]
    # Some pairs give the same image, as a flip and an inversion in either order.
    assert all(results.count(pair) == 2 * pairs.count(pair) for pair in pairs)
    assert sum(results.count(pair) for pair in set(pairs)) == 18


@pytest.mark.slow
@pytest.mark.parametrize("size", [5])
def test_a_batch_may_be_smaller_than_the_number_of_options(size):
    assert len(stratify(augment.rand_augment(), size)) == size


@pytest.mark.slow
def test_signs_and_magnitudes_depend_on_the_index_of_the_example():
    policy = augment.stratified(augment.one_of(augment.brightness((0.2, 1.8))))
    images = jnp.asarray(np.stack([IMAGE] * 6))
    key = jax.random.key(1)
    full = policy(key, augment.Batch(images, examples=jnp.arange(6))).images
    part = policy(key, augment.Batch(images[:2], examples=jnp.array([4, 1]))).images
    np.testing.assert_array_equal(part, np.asarray(full)[[4, 1]])
    assert len({image.tobytes() for image in np.asarray(full)}) == 6


@pytest.mark.slow
def test_memory_traffic_of_randaugment_is_bounded():
    """Each image executes only its option, on accelerators and on CPU."""
    policy = augment.stratified(augment.rand_augment())
    batch = augment.Batch(jax.ShapeDtypeStruct((28, 224, 224, 3), jnp.uint8))
    compiled = jax.jit(policy).lower(jax.random.key(0), batch).compile()
    assert compiled.cost_analysis()["bytes accessed"] / 28 <= 6.5e6


def test_a_policy_that_does_not_choose_raises():
    message = "stratified: expected a policy that chooses, as rand_augment"
    with pytest.raises(ConfigError, match=message):
        augment.stratified(augment.flip_lr())
