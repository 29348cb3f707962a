"""Functions over lanes one after another are jax.vmap of them."""

import jax
import jax.numpy as jnp
import numpy as np

from fnn.search.lane_axes import map_axes, sequential_map


def shift(own, common):
    kept, moved = own
    return {"sum": moved + common["shift"], "same": kept}, common["shift"]


def test_lanes_one_after_another_are_those_of_vmap():
    arguments = (jnp.arange(2.0), jnp.arange(6.0).reshape(3, 2)), {"shift": jnp.float32(5)}
    in_axes, out_axes = ((None, 0), None), ({"sum": 0, "same": None}, None)
    wanted = jax.vmap(shift, in_axes, out_axes)(*arguments)
    found = sequential_map(shift, in_axes, out_axes)(*arguments)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_parts_are_given_with_their_axis():
    """An axis stands for all leaves of its part."""
    found = map_axes(lambda axis, part: (axis, part), (0, None), ({"a": 1, "b": 2}, 3))
    assert found == ((0, {"a": 1, "b": 2}), (None, 3))
