"""Noise on the gradient: how much, and from which key."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import path, problem

from fnn import optim
from fnn.errors import ConfigError, DTypeError


def drawn(key, steps, size=20_000, **options):
    """The noise of each step on two leaves, as plain descent sees it, (steps, size) each."""
    optimizer = optim.noise(key, optim.sgd(1.0), **options)
    zeros = {"a": jnp.zeros(size), "b": jnp.zeros(size)}
    opt_state, seen = optimizer.init(zeros), []
    update = jax.jit(optimizer.update)
    for _ in range(steps):
        updates, opt_state = update(zeros, opt_state, zeros)
        seen.append(updates)
    return jax.tree.map(lambda *rows: np.stack(rows), *seen)


def test_its_variance_falls_as_told(key):
    noise = drawn(key, 4, variance=0.3, decay=0.8)
    wanted = 0.3 / (1 + np.arange(4)) ** 0.8
    for leaf in noise.values():
        np.testing.assert_allclose(leaf.var(1), wanted, rtol=0.04)  # its deviation is √(2 / 20000) = 0.01
        np.testing.assert_allclose(leaf.mean(1) / np.sqrt(wanted), np.zeros(4), atol=0.03)


def test_no_two_draws_are_alike(key):
    noise = drawn(key, 3, decay=0.0)
    rows = np.concatenate([noise["a"], noise["b"]])
    assert np.abs(np.corrcoef(rows) - np.eye(6)).max() < 0.04


def test_the_key_decides(key):
    params, grads = problem(3)
    first, again, other = (
        path(optim.noise(k, optim.sgd(0.1)), params, grads) for k in (key, jax.random.clone(key), jax.random.key(1))
    )
    chex.assert_trees_all_equal(first, again)
    assert not jnp.allclose(first["stem"]["bias"], other["stem"]["bias"])


def test_no_variance_is_no_noise_with_a_finite_slope(key):
    params, grads = problem(3)
    plain = path(optim.sgd(0.1), params, grads)
    chex.assert_trees_all_close(path(optim.noise(key, optim.sgd(0.1), variance=0.0), params, grads), plain, rtol=1e-6)
    final = lambda variance: path(optim.noise(key, optim.sgd(0.1), variance=variance), params, grads)  # noqa: E731
    chex.assert_tree_all_finite(jax.jacrev(final)(0.0))


def test_mistakes_are_told(key):
    with pytest.raises(DTypeError, match="noise key: expected a key"):
        optim.noise(0, optim.sgd(0.1))
    with pytest.raises(ConfigError, match=r"noise variance: expected a number in \[0, inf\)"):
        optim.noise(key, optim.sgd(0.1), variance=-1.0)
    with pytest.raises(ConfigError, match="noise optimizer: expected true gradients"):
        optim.noise(key, optim.loss_scale(optim.sgd(0.1))).init({"w": jnp.ones(2)})
