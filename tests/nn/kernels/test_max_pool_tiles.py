"""The maximum of each window and its index, against NumPy; see also test_pool.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels.max_pool_tiles import max_and_index, max_pool

# (members, batch, height, width, channels)
X = np.random.default_rng(0).integers(0, 4, (3, 2, 4, 6, 5)).astype(np.float32)


def flat_windows(x):
    """Windows of 2 x 3, each as a row: (members, batch, 2, 2, channels, 6)."""
    x = x.reshape(3, 2, 2, 2, 2, 3, 5)
    return np.moveaxis(x, (3, 5), (-2, -1)).reshape(3, 2, 2, 2, 5, 6)


@pytest.mark.parametrize("mapped", [False, True], ids=["alone", "members"])
def test_maximum_and_its_first_index_equal_numpy(mapped):
    def single(x):
        return max_and_index(x, (2, 3))

    windows = flat_windows(X) if mapped else flat_windows(X)[0]
    x = X if mapped else X[0]
    find = jax.jit(jax.vmap(single) if mapped else single)
    top, index = find(x)
    np.testing.assert_array_equal(top, windows.max(-1))
    np.testing.assert_array_equal(index, windows.argmax(-1))
    # The fusion barrier.
    assert find.lower(x).compile().as_text().count(" conditional(") == 1


def test_window_with_nan_has_an_index_past_its_end_and_no_gradient():
    x = jnp.asarray(X[0]).at[0, 0, 0, 0].set(jnp.nan)
    top, index = max_and_index(x, (2, 3))
    assert np.isnan(top[0, 0, 0, 0])
    assert index[0, 0, 0, 0] == 6
    _, pull = jax.vjp(lambda x: max_pool(x, (2, 3)), x)
    (gradient,) = pull(jnp.ones((2, 2, 2, 5)))
    assert not gradient[0, :2, :3, 0].any()
    assert gradient.sum() == 39


@pytest.mark.slow
def test_index_in_a_large_window_of_half_precision_is_exact():
    x = jnp.zeros((1, 18, 18, 1), jnp.bfloat16).at[0, 16, 17, 0].set(1)
    top, index = max_and_index(x, (18, 18))
    assert (top.item(), index.item()) == (1, 16 * 18 + 17)
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, (18, 18)).sum()))(x)
    assert gradient[0, 16, 17, 0] == 1


@pytest.mark.parametrize("split", ["batch", "members"])
def test_gradient_in_a_shard_map(split):
    x = jnp.asarray(X[:2] if split == "members" else X[0])
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("devices",))
    spec = jax.sharding.PartitionSpec("devices")

    def single(x):
        return max_pool(x, (2, 3))

    pool = jax.vmap(single) if split == "members" else single

    def gradient(x):
        return jax.grad(lambda x: (pool(x) ** 2).sum())(x)

    sharded = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec))
    np.testing.assert_array_equal(sharded(x), gradient(x))
