"""The smallest and the largest number of arrays."""

import gc

import jax
import jax.numpy as jnp
import numpy as np

from fnn.train import extremes
from fnn.train.extremes import read_extremes


def test_extremes_of_arrays_of_jax_are_remembered_while_they_live(quick_collection):
    array = jnp.array([1.0, -2.0, 3.0])
    assert read_extremes(array) == (-2, 3)
    assert extremes._known[id(array)][1] == (-2, 3)
    identity = id(array)
    del array
    gc.collect()
    assert identity not in extremes._known


def test_traced_and_empty_arrays_have_no_extremes():
    assert read_extremes(np.zeros(0)) is None
    jax.eval_shape(lambda x: x if read_extremes(x) is None else 1 / 0, jnp.ones(2))


def test_values_of_a_sharded_array_are_read_on_its_devices():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    array = jax.device_put(np.array([1.0, 5.0, -1.0, 2.0], np.float32), split)
    assert read_extremes(array, wait=False) is None
    assert read_extremes(array) == (-1, 5)
