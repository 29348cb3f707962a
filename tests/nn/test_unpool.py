"""Max unpooling against loops over windows, and as the transpose of max pooling."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import DTypeError, ShapeError

draw = np.random.default_rng(0)
X = draw.permutation(2 * 7 * 9 * 3).reshape(2, 7, 9, 3).astype(np.float32)
OPTIONS = [
    {},
    {"window": 3, "padding": 1},
    {"window": (2, 3), "ceil_mode": True},
    {"window": 2, "stride": 4},
    {"window": 2, "dilation": 2, "stride": 4},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_values_go_to_the_places_of_the_maxima(options):
    pool = jax.jit(partial(nn.max_pool(**options).apply, {}, {}))
    z, _ = pool(jnp.asarray(X))
    values = draw.uniform(1, 2, z.shape).astype(np.float32)
    unpool = jax.jit(partial(nn.max_unpool(**options).apply, {}, {}))
    y, _ = unpool((jnp.asarray(values), jnp.asarray(X)))
    # The maxima differ everywhere, so that each value of z has one place.
    expected = np.zeros_like(X)
    for place in np.ndindex(z.shape):
        expected[z[place] == X] = values[place]
    np.testing.assert_array_equal(y, expected)
    # All other places are 0.
    again, _ = pool(y)
    np.testing.assert_array_equal(again, values)


def test_a_graph_pools_and_unpools_with_gradients_for_the_values_alone(key):
    network = nn.graph(
        low=(nn.chain(nn.max_pool(), nn.conv(3)), "x"),
        y=(nn.max_unpool(), "low", "x"),
    )
    x = jnp.asarray(X[:, :6, :8])
    params, state, shape = network.init(key, x.shape[1:])
    assert shape == x.shape[1:]

    def total(params, x):
        return jnp.square(network.apply(params, state, x)[0]).sum()

    by_params, _ = jax.jit(jax.grad(total, (0, 1)))(params, x)
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(by_params))
    by_x = jax.jit(jax.grad(lambda x: nn.max_unpool().apply({}, {}, (x[:, ::2, ::2], x))[0].sum()))(
        x
    )
    # From the values alone: each of them goes to one place.
    np.testing.assert_array_equal(by_x[:, ::2, ::2], 1)
    assert by_x.sum() == x[:, ::2, ::2].size


def test_wrong_inputs_raise():
    layer = nn.max_unpool()
    with pytest.raises(ShapeError, match=r"max_unpool: expected a pair .z, x., got float32"):
        layer.apply({}, {}, jnp.asarray(X))
    with pytest.raises(
        ShapeError, match=r"max_unpool z: expected the shape of the pooled x, .3, 4"
    ):
        layer.init(jax.random.key(0), ((4, 4, 3), (7, 9, 3)))
    with pytest.raises(DTypeError, match="max_unpool z: expected float32 as x, got bfloat16"):
        layer.apply({}, {}, (jnp.zeros((2, 3, 4, 3), jnp.bfloat16), jnp.asarray(X)))
