"""What an image of a batch gets follows from its number alone, however the batch is cut, mapped or spread."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from pictures import pictures

from fnn import augment
from fnn.augment.batches import keys_of
from fnn.errors import DTypeError

SHAPE = (10, 8, 3)
IMAGES = pictures(12, SHAPE)
POLICY = augment.chain(
    augment.brightness((0.3, 1.5)), augment.one_of(augment.invert(), augment.solarize((0.2, 0.8))), augment.cutout(3)
)
MAPPED = jax.jit(augment.per_image(POLICY))


@cache
def whole():
    return np.asarray(MAPPED(jax.random.key(0), IMAGES))


def test_each_image_is_seen_with_the_key_of_its_number():
    alone = jax.jit(lambda example, image: POLICY(jax.random.fold_in(jax.random.key(0), example), image))
    np.testing.assert_array_equal(whole(), [alone(jnp.int32(place), image) for place, image in enumerate(IMAGES)])


def test_neither_its_place_nor_the_size_of_the_batch_matters():
    order = np.array([7, 2, 11])
    part = MAPPED(jax.random.key(0), IMAGES[order], jnp.asarray(order))
    np.testing.assert_array_equal(part, whole()[order])
    assert (whole() != IMAGES).any((1, 2, 3)).sum() > 6


def test_batches_of_an_epoch_mapped_or_scanned_are_the_batch():
    batches, examples = IMAGES.reshape(3, 4, *SHAPE), jnp.arange(12).reshape(3, 4)
    policy = augment.per_image(POLICY)
    mapped = jax.jit(jax.vmap(policy, (None, 0, 0)))(jax.random.key(0), batches, examples)
    np.testing.assert_array_equal(mapped.reshape(IMAGES.shape), whole())

    def epoch(key, batches, examples):
        return jax.lax.scan(lambda carry, own: (carry, policy(key, *own)), 0, (batches, examples))[1]

    scanned = jax.jit(epoch)(jax.random.key(0), batches, examples)
    np.testing.assert_array_equal(scanned.reshape(IMAGES.shape), whole())


def test_spread_over_devices_it_is_the_same_batch():
    assert jax.device_count() == 4
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    split, same = PartitionSpec("batch"), PartitionSpec()
    images, examples = (jax.device_put(own, NamedSharding(mesh, split)) for own in (IMAGES, np.arange(12)))
    policy = augment.per_image(POLICY)
    mapped = jax.jit(jax.shard_map(policy, mesh=mesh, in_specs=(same, split, split), out_specs=split))
    np.testing.assert_array_equal(mapped(jax.random.key(0), images, examples), whole())
    partitioned = MAPPED(jax.random.key(0), images, examples)
    np.testing.assert_array_equal(partitioned, whole())


def test_a_plain_function_is_mapped_too():
    shift = partial(jnp.roll, shift=1, axis=0)
    found = augment.per_image(lambda key, image: shift(image))(jax.random.key(0), IMAGES)
    np.testing.assert_array_equal(found, np.roll(IMAGES, 1, 1))


def test_the_keys_differ_by_number_and_are_those_of_fold_in():
    keys = jax.random.key_data(keys_of(jax.random.key(5), 3, None))
    np.testing.assert_array_equal(
        keys, [jax.random.key_data(jax.random.fold_in(jax.random.key(5), k)) for k in range(3)]
    )
    assert len(np.unique(keys, axis=0)) == 3


def test_a_key_must_be_one():
    message = "augmentation key: expected a key from jax.random.key(...), got int 0"
    with pytest.raises(DTypeError, match=re.escape(message)):
        augment.per_image(POLICY)(0, IMAGES)
