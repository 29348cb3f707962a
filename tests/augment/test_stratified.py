"""Choices dealt out over a batch: each as often as its share tells, each done as alone."""

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


def shown(policy, batch, count=1):
    images = jnp.asarray(np.stack([IMAGE] * batch))
    own, _ = jax.jit(lambda key: augment.stratified(policy)(key, images))(jax.random.key(0))
    return [image.tobytes() for image in np.asarray(own)]


def alone(*policies):
    return np.asarray(augment.chain(*policies)(jax.random.key(0), jnp.asarray(IMAGE))).tobytes()


def test_each_part_gets_its_share_of_the_batch_and_does_what_it_does_alone():
    seen = shown(augment.one_of(*PARTS), 20)
    assert [seen.count(alone(part)) for part in PARTS] == [4] * 5


def test_weights_tell_the_shares():
    seen = shown(augment.one_of(*PARTS[:3], weights=(0.5, 0.3, 0.2)), 10)
    assert [seen.count(alone(part)) for part in PARTS[:3]] == [5, 3, 2]


def test_of_two_draws_each_pair_is_as_frequent():
    parts = PARTS[:3]
    seen = shown(augment.some_of(*parts, count=2), 18)
    pairs = [alone(first, second) for first in parts for second in parts]
    # Some pairs come to the same image, as a flip and an inversion in either order.
    assert all(seen.count(pair) == 2 * pairs.count(pair) for pair in pairs)
    assert sum(seen.count(pair) for pair in set(pairs)) == 18


@pytest.mark.parametrize("batch", [5])
def test_any_batch_size_will_do(batch):
    assert len(shown(augment.rand_augment(), batch)) == batch


def test_signs_and_magnitudes_are_drawn_by_the_number_of_the_example():
    policy = augment.stratified(augment.one_of(augment.brightness((0.2, 1.8))))
    images = jnp.asarray(np.stack([IMAGE] * 6))
    whole, _ = policy(jax.random.key(1), images, None, jnp.arange(6))
    part, _ = policy(jax.random.key(1), images[:2], None, jnp.array([4, 1]))
    np.testing.assert_array_equal(part, np.asarray(whole)[[4, 1]])
    assert len({image.tobytes() for image in np.asarray(whole)}) == 6


def test_bytes_of_an_image_of_randaugment():
    """The form for accelerators and for CPU alike: nothing is done for all images to be chosen from."""
    policy = augment.stratified(augment.rand_augment())
    images = jax.ShapeDtypeStruct((28, 224, 224, 3), jnp.uint8)
    compiled = (
        jax.jit(lambda key, images: policy(key, images)[0])
        .lower(jax.random.key(0), images)
        .compile()
    )
    assert compiled.cost_analysis()["bytes accessed"] / 28 <= 6.5e6


def test_what_does_not_choose_is_refused():
    with pytest.raises(
        ConfigError, match="stratified: expected a policy that chooses, as rand_augment"
    ):
        augment.stratified(augment.flip_lr())
