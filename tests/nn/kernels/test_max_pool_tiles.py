"""The largest of each window and its place, against NumPy; as max-pooling it is tested with the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.nn.kernels.max_pool_tiles import largest, winners

X = (
    np.random.default_rng(0).integers(0, 4, (3, 2, 4, 6, 5)).astype(np.float32)
)  # members, batch, ..., channels


def flat_windows(x):
    """(members, batch, 2, 2, channels, 6): windows of 2 x 3, each as a row."""
    x = x.reshape(3, 2, 2, 2, 2, 3, 5)
    return np.moveaxis(x, (3, 5), (-2, -1)).reshape(3, 2, 2, 2, 5, 6)


@pytest.mark.parametrize("mapped", [False, True], ids=["alone", "members"])
def test_the_largest_value_and_the_first_place_where_it_is(mapped):
    windows = flat_windows(X)
    find = jax.jit(
        jax.vmap(lambda x: winners(x, (2, 3))) if mapped else lambda x: winners(x, (2, 3))
    )
    top, place = find(X) if mapped else [own[None] for own in find(X[0])]
    count = len(top)
    np.testing.assert_array_equal(top, windows.max(-1)[:count])
    np.testing.assert_array_equal(place, windows.argmax(-1)[:count])
    assert find.lower(X if mapped else X[0]).compile().as_text().count(" conditional(") == 1


def test_a_window_with_nan_has_no_place_and_passes_no_gradient():
    x = jnp.asarray(X[0]).at[0, 0, 0, 0].set(jnp.nan)
    top, place = winners(x, (2, 3))
    assert np.isnan(top[0, 0, 0, 0])
    assert place[0, 0, 0, 0] == 6
    _, pull = jax.vjp(lambda x: largest(x, (2, 3)), x)
    (gradient,) = pull(jnp.ones((2, 2, 2, 5)))
    assert not gradient[0, :2, :3, 0].any()
    assert gradient.sum() == 39


def test_a_large_window_of_narrow_numbers_has_all_its_places():
    x = jnp.zeros((1, 18, 18, 1), jnp.bfloat16).at[0, 16, 17, 0].set(1)
    top, place = winners(x, (18, 18))
    assert (top.item(), place.item()) == (1, 16 * 18 + 17)
    assert jax.grad(lambda x: largest(x, (18, 18)).sum())(x)[0, 16, 17, 0] == 1


@pytest.mark.parametrize("split", ["batch", "members"])
def test_its_derivative_goes_over_devices(split):
    x = jnp.asarray(X[:2] if split == "members" else X[0])
    mesh, spec = (
        jax.sharding.Mesh(jax.devices()[:2], ("devices",)),
        jax.sharding.PartitionSpec("devices"),
    )

    def gradient(x):
        pool = (
            jax.vmap(lambda x: largest(x, (2, 3)))
            if split == "members"
            else lambda x: largest(x, (2, 3))
        )
        return jax.grad(lambda x: (pool(x) ** 2).sum())(x)

    spread = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=spec, out_specs=spec))
    np.testing.assert_array_equal(spread(x), gradient(x))
