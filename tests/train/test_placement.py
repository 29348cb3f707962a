"""Placement of arrays. Tests over several processes are in test_processes.py."""

import jax
import numpy as np
import process_runs
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from fnn.train.placement import own_copy, put


def test_arrays_and_keys_are_copied_to_the_devices_of_a_sharding():
    sharding = NamedSharding(process_runs.all_devices(), P("data"))
    key = jax.random.key(1)
    everywhere = NamedSharding(sharding.mesh, P())
    rows = put(np.arange(8), sharding)
    assert rows.sharding == sharding and rows.tolist() == list(range(8))
    placed = put(key, everywhere)
    assert len(placed.sharding.device_set) == 4
    assert (jax.random.key_data(placed) == jax.random.key_data(jax.random.key(1))).all()


def test_arrays_of_one_process_stay_as_they_are():
    tree = {"host": np.ones(2), "device": jax.numpy.ones(2)}
    copied = own_copy(tree)
    assert copied["host"] is tree["host"] and copied["device"] is tree["device"]
