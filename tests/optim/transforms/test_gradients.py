"""Clipping and centralization against NumPy, and the distribution of gradient noise."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, path, problem

from fnn import optim
from fnn.errors import ConfigError, DTypeError

float64 = pytest.mark.usefixtures("x64")
negate = optim.sgd(1.0)  # its updates are the negated gradients
CLIPS = {
    "clip_by_value": optim.clip_by_value,
    "clip_by_global_norm": optim.clip_by_global_norm,
    "adaptive_clip": optim.adaptive_clip,
}
every_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)


def transformed_grads(transform, params, grads):
    """The gradients that the inner optimizer gets."""
    updates, _ = jax.jit(transform(negate).update)(grads, negate.init(params), params)
    return jax.tree.map(jnp.negative, updates)


def first_problem():
    params, grads = problem(1)
    return params, at(grads, 0)


# Clipping.


@float64
def test_clip_by_value_clips_each_number():
    params, grads = first_problem()
    got = transformed_grads(lambda inner: optim.clip_by_value(inner, 0.3), params, grads)
    chex.assert_trees_all_equal(got, jax.tree.map(lambda g: np.clip(g, -0.3, 0.3), grads))


@float64
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3, jnp.inf])
def test_clip_by_global_norm_rescales_to_the_limit(limit):
    params, grads = first_problem()
    length = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(grads)))
    assert 1 < length < 1e3
    got = transformed_grads(lambda inner: optim.clip_by_global_norm(inner, limit), params, grads)
    chex.assert_trees_all_close(
        got, jax.tree.map(lambda g: g * min(1, limit / length), grads), rtol=1e-14
    )


@float64
def test_clip_by_global_norm_adds_eps_to_the_norm():
    """So a gradient just below the limit is rescaled too."""
    for length in (0.8, 1.0, 3.0):
        got = transformed_grads(
            lambda inner: optim.clip_by_global_norm(inner, 1.0, eps=0.5),
            jnp.ones(1),
            jnp.array([length]),
        )
        np.testing.assert_allclose(got, length / (length + 0.5), rtol=1e-14)


@float64
@pytest.mark.parametrize(
    ("limit", "floor"), [(0.01, 1e-3), (1.0, 1e-3), (0.5, 5.0), (jnp.inf, 1.0)]
)
def test_adaptive_clip_limits_each_unit_relative_to_its_norm(limit, floor):
    params, grads = first_problem()
    got = transformed_grads(
        lambda inner: optim.adaptive_clip(inner, limit, floor=floor), params, grads
    )

    def unit(g, p):
        g, p = np.asarray(g), np.asarray(p)
        largest = limit * max(np.linalg.norm(p), floor)
        norm = np.linalg.norm(g)
        return g if norm <= largest else g * largest / norm

    for layer, name in (("stem", "kernel"), ("head", "kernel")):
        for column in range(3):
            index = (..., column)
            wanted = unit(grads[layer][name][index], params[layer][name][index])
            np.testing.assert_allclose(got[layer][name][index], wanted, rtol=1e-13)
    wanted = unit(grads["stem"]["bias"], params["stem"]["bias"])
    np.testing.assert_allclose(got["stem"]["bias"], wanted, rtol=1e-13)


def test_adaptive_clip_treats_a_scalar_as_a_unit():
    p, g = jnp.float32(-2.0), jnp.float32(3.0)
    np.testing.assert_allclose(
        transformed_grads(lambda inner: optim.adaptive_clip(inner, 0.1), p, g), 0.2, rtol=1e-6
    )


@every_clip
def test_an_infinite_limit_does_not_clip(clip):
    params, grads = problem(3)
    got = path(clip(optim.adam(0.1), jnp.inf), params, grads)
    chex.assert_trees_all_equal(got, path(optim.adam(0.1), params, grads))


@every_clip
def test_gradients_of_zero_stay_zero_and_have_finite_derivatives(clip):
    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}

    def length(limit, grads):
        return sum(
            jnp.square(u - 1).sum()
            for u in jax.tree.leaves(transformed_grads(lambda i: clip(i, limit), params, grads))
        )

    value, slopes = jax.jit(jax.value_and_grad(length, (0, 1)))(0.1, params)
    assert value == 9
    chex.assert_tree_all_finite(slopes)


@every_clip
def test_clipping_computes_in_float32(clip):
    """The squares of these numbers overflow in float16."""
    params = {"kernel": jnp.full((4, 2), 100.0, jnp.float16)}
    grads = {"kernel": jnp.full((4, 2), 4000.0, jnp.float16)}
    got = transformed_grads(lambda inner: clip(inner, 0.5), params, grads)["kernel"]
    wanted = {"clip_by_value": 0.5, "clip_by_global_norm": 0.5 / np.sqrt(8), "adaptive_clip": 50.0}[
        clip.__name__
    ]
    assert got.dtype == jnp.float16
    np.testing.assert_allclose(got, np.full((4, 2), wanted), rtol=1e-3)


@every_clip
def test_clipping_accepts_an_empty_tree(clip):
    assert transformed_grads(lambda inner: clip(inner, 0.5), {}, {}) == {}


@every_clip
def test_clipping_keeps_nan(clip):
    params, grads = first_problem()
    grads["stem"]["bias"] = grads["stem"]["bias"].at[1].set(jnp.nan)
    assert jnp.isnan(
        transformed_grads(lambda inner: clip(inner, 0.5), params, grads)["stem"]["bias"][1]
    )


@every_clip
def test_invalid_arguments_of_clipping_raise(clip):
    for wrong in (0.0, -1.0):
        with pytest.raises(
            ConfigError, match=rf"{clip.__name__} limit: expected a number in \(0, inf\]"
        ):
            clip(optim.sgd(0.1), wrong)
    with pytest.raises(ConfigError, match=f"{clip.__name__} optimizer: expected a pair"):
        clip(optim.sgd, 1.0)
    with pytest.raises(ConfigError, match=f"{clip.__name__} optimizer: expected true gradients"):
        clip(optim.loss_scale(optim.sgd(0.1)), 1.0).init(first_problem()[0])


# Centralization.


def center(g, axis):
    """Subtract the mean of each unit, unit by unit."""
    g = np.moveaxis(np.array(g), axis, 0)
    return np.moveaxis(np.stack([unit - unit.mean() for unit in g]), 0, axis)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("axis", [-1, 0])
def test_centralize_subtracts_the_mean_of_each_unit(axis):
    params, grads = problem(1)
    got = path(optim.centralize(optim.sgd(1.0), axis=axis), params, grads)
    for layer, name in (("stem", "kernel"), ("head", "kernel")):
        wanted = params[layer][name] - center(grads[layer][name][0], axis)
        np.testing.assert_allclose(got[layer][name][0], wanted, rtol=1e-13)
    chex.assert_trees_all_equal(
        got["stem"]["bias"][0], params["stem"]["bias"] - grads["stem"]["bias"][0]
    )


@pytest.mark.usefixtures("x64")
def test_centralize_twice_equals_once():
    params, grads = problem(4)
    once, twice = (
        optim.centralize(optim.momentum(0.1)),
        optim.centralize(optim.centralize(optim.momentum(0.1))),
    )
    chex.assert_trees_all_close(path(twice, params, grads), path(once, params, grads), rtol=1e-10)


def test_centralize_computes_in_float32():
    """The sum of these numbers overflows in float16."""
    grads = {"kernel": jnp.full((8, 1), 60000.0, jnp.float16)}
    optimizer = optim.centralize(optim.sgd(1.0))
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, grads))


def test_centralize_with_another_axis_raises():
    with pytest.raises(ConfigError, match="centralize axis: expected one of -1, 0, got 1"):
        optim.centralize(optim.sgd(0.1), axis=1)


# Noise.


def sample_noise(key, steps, size=20_000, **options):
    """The noise of each step on two leaves, (steps, size) each."""
    optimizer = optim.noise(key, optim.sgd(1.0), **options)
    zeros = {"a": jnp.zeros(size), "b": jnp.zeros(size)}
    opt_state, noise = optimizer.init(zeros), []
    update = jax.jit(optimizer.update)
    for _ in range(steps):
        updates, opt_state = update(zeros, opt_state, zeros)
        noise.append(updates)
    return jax.tree.map(lambda *rows: np.stack(rows), *noise)


def test_the_variance_of_noise_follows_its_formula(key):
    noise = sample_noise(key, 4, variance=0.3, decay=0.8)
    wanted = 0.3 / (1 + np.arange(4)) ** 0.8
    for leaf in noise.values():
        # The standard deviation of a variance of 20000 draws is √(2 / 20000) = 0.01.
        np.testing.assert_allclose(leaf.var(1), wanted, rtol=0.04)
        np.testing.assert_allclose(leaf.mean(1) / np.sqrt(wanted), np.zeros(4), atol=0.03)


def test_noise_is_independent_between_steps_and_leaves(key):
    noise = sample_noise(key, 3, decay=0.0)
    rows = np.concatenate([noise["a"], noise["b"]])
    assert np.abs(np.corrcoef(rows) - np.eye(6)).max() < 0.04


def test_noise_depends_only_on_the_key(key):
    params, grads = problem(3)
    first, again, other = (
        path(optim.noise(k, optim.sgd(0.1)), params, grads)
        for k in (key, jax.random.clone(key), jax.random.key(1))
    )
    chex.assert_trees_all_equal(first, again)
    assert not jnp.allclose(first["stem"]["bias"], other["stem"]["bias"])


@pytest.mark.slow
def test_variance_zero_is_no_noise_and_has_a_finite_derivative(key):
    params, grads = problem(3)
    plain = path(optim.sgd(0.1), params, grads)
    chex.assert_trees_all_close(
        path(optim.noise(key, optim.sgd(0.1), variance=0.0), params, grads), plain, rtol=1e-6
    )

    def final(variance):
        return path(optim.noise(key, optim.sgd(0.1), variance=variance), params, grads)

    chex.assert_tree_all_finite(jax.jit(jax.jacrev(final))(0.0))


def test_invalid_arguments_of_noise_raise(key):
    with pytest.raises(DTypeError, match="noise key: expected a key"):
        optim.noise(0, optim.sgd(0.1))
    with pytest.raises(ConfigError, match=r"noise variance: expected a number in \[0, inf\)"):
        optim.noise(key, optim.sgd(0.1), variance=-1.0)
    with pytest.raises(ConfigError, match="noise optimizer: expected true gradients"):
        optim.noise(key, optim.loss_scale(optim.sgd(0.1))).init({"w": jnp.ones(2)})
