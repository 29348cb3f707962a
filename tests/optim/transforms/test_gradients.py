"""What a clipped optimizer is given, against norms by NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, path, problem

from fnn import optim
from fnn.errors import ConfigError, DTypeError

float64 = pytest.mark.usefixtures("x64")
gradient_is_step = optim.sgd(1.0)
CLIPS = {
    "clip_by_value": optim.clip_by_value,
    "clip_by_global_norm": optim.clip_by_global_norm,
    "adaptive_clip": optim.adaptive_clip,
}
every_clip = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)


def given(transform, params, grads):
    """The gradient that the optimizer inside was given, for plain descent with rate 1."""
    updates, _ = jax.jit(transform(gradient_is_step).update)(
        grads, gradient_is_step.init(params), params
    )
    return jax.tree.map(jnp.negative, updates)


def first_problem():
    params, grads = problem(1)
    return params, at(grads, 0)


@float64
def test_each_number_is_kept_within_the_limit():
    params, grads = first_problem()
    got = given(lambda inner: optim.clip_by_value(inner, 0.3), params, grads)
    chex.assert_trees_all_equal(got, jax.tree.map(lambda g: np.clip(g, -0.3, 0.3), grads))


@float64
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e3, jnp.inf])
def test_the_whole_gradient_is_shortened_to_the_limit(limit):
    params, grads = first_problem()
    length = np.sqrt(sum((np.asarray(g) ** 2).sum() for g in jax.tree.leaves(grads)))
    assert 1 < length < 1e3
    got = given(lambda inner: optim.clip_by_global_norm(inner, limit), params, grads)
    chex.assert_trees_all_close(
        got, jax.tree.map(lambda g: g * min(1, limit / length), grads), rtol=1e-14
    )


@float64
def test_eps_is_added_to_the_length():
    """So a gradient just below the limit is shortened as well."""
    for length in (0.8, 1.0, 3.0):
        got = given(
            lambda inner: optim.clip_by_global_norm(inner, 1.0, eps=0.5),
            jnp.ones(1),
            jnp.array([length]),
        )
        np.testing.assert_allclose(got, length / (length + 0.5), rtol=1e-14)


@float64
@pytest.mark.parametrize(
    ("limit", "floor"), [(0.01, 1e-3), (1.0, 1e-3), (0.5, 5.0), (jnp.inf, 1.0)]
)
def test_each_units_gradient_is_shortened_to_a_share_of_the_unit(limit, floor):
    params, grads = first_problem()
    got = given(lambda inner: optim.adaptive_clip(inner, limit, floor=floor), params, grads)

    def unit(g, p):
        g, p = np.asarray(g), np.asarray(p)
        most = limit * max(np.linalg.norm(p), floor)
        return g if np.linalg.norm(g) <= most else g * most / np.linalg.norm(g)

    for layer, name in (("stem", "kernel"), ("head", "kernel")):
        for column in range(3):
            place = (..., column)
            wanted = unit(grads[layer][name][place], params[layer][name][place])
            np.testing.assert_allclose(got[layer][name][place], wanted, rtol=1e-13)
    wanted = unit(grads["stem"]["bias"], params["stem"]["bias"])
    np.testing.assert_allclose(got["stem"]["bias"], wanted, rtol=1e-13)


def test_a_scalar_is_a_unit_of_its_own():
    p, g = jnp.float32(-2.0), jnp.float32(3.0)
    np.testing.assert_allclose(
        given(lambda inner: optim.adaptive_clip(inner, 0.1), p, g), 0.2, rtol=1e-6
    )


@every_clip
def test_an_infinite_limit_is_off(clip):
    params, grads = problem(3)
    got = path(clip(optim.adam(0.1), jnp.inf), params, grads)
    chex.assert_trees_all_equal(got, path(optim.adam(0.1), params, grads))


@every_clip
def test_gradients_of_zero_stay_zero_and_have_finite_slopes(clip):
    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}

    def length(limit, grads):
        return sum(
            jnp.square(u - 1).sum()
            for u in jax.tree.leaves(given(lambda i: clip(i, limit), params, grads))
        )

    value, slopes = jax.value_and_grad(length, (0, 1))(0.1, params)
    assert value == 9
    chex.assert_tree_all_finite(slopes)


@every_clip
def test_half_precision_is_clipped_in_float32(clip):
    """The squares of such numbers would overflow in float16."""
    params = {"kernel": jnp.full((4, 2), 100.0, jnp.float16)}
    grads = {"kernel": jnp.full((4, 2), 4000.0, jnp.float16)}
    got = given(lambda inner: clip(inner, 0.5), params, grads)["kernel"]
    wanted = {"clip_by_value": 0.5, "clip_by_global_norm": 0.5 / np.sqrt(8), "adaptive_clip": 50.0}[
        clip.__name__
    ]
    assert got.dtype == jnp.float16
    np.testing.assert_allclose(got, np.full((4, 2), wanted), rtol=1e-3)


@every_clip
def test_an_empty_tree_is_clipped(clip):
    assert given(lambda inner: clip(inner, 0.5), {}, {}) == {}


@every_clip
def test_what_is_not_finite_stays_to_be_seen(clip):
    params, grads = first_problem()
    grads["stem"]["bias"] = grads["stem"]["bias"].at[1].set(jnp.nan)
    assert jnp.isnan(given(lambda inner: clip(inner, 0.5), params, grads)["stem"]["bias"][1])


@every_clip
def test_mistakes_are_told(clip):
    for wrong in (0.0, -1.0):
        with pytest.raises(
            ConfigError, match=rf"{clip.__name__} limit: expected a number in \(0, inf\]"
        ):
            clip(optim.sgd(0.1), wrong)
    with pytest.raises(ConfigError, match=f"{clip.__name__} optimizer: expected a pair"):
        clip(optim.sgd, 1.0)
    with pytest.raises(ConfigError, match=f"{clip.__name__} optimizer: expected true gradients"):
        clip(optim.loss_scale(optim.sgd(0.1)), 1.0).init(first_problem()[0])


def centered(g, axis):
    """Each unit's gradient less its mean, unit by unit."""
    g = np.moveaxis(np.array(g), axis, 0)
    return np.moveaxis(np.stack([unit - unit.mean() for unit in g]), 0, axis)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("axis", [-1, 0])
def test_each_unit_loses_its_mean(axis):
    params, grads = problem(1)
    got = path(optim.centralize(optim.sgd(1.0), axis=axis), params, grads)
    for layer, name in (("stem", "kernel"), ("head", "kernel")):
        wanted = params[layer][name] - centered(grads[layer][name][0], axis)
        np.testing.assert_allclose(got[layer][name][0], wanted, rtol=1e-13)
    chex.assert_trees_all_equal(
        got["stem"]["bias"][0], params["stem"]["bias"] - grads["stem"]["bias"][0]
    )


@pytest.mark.usefixtures("x64")
def test_twice_is_once():
    params, grads = problem(4)
    once, twice = (
        optim.centralize(optim.momentum(0.1)),
        optim.centralize(optim.centralize(optim.momentum(0.1))),
    )
    chex.assert_trees_all_close(path(twice, params, grads), path(once, params, grads), rtol=1e-10)


def test_half_precision_is_centered_in_float32():
    """The sum of these numbers overflows in float16."""
    grads = {"kernel": jnp.full((8, 1), 60000.0, jnp.float16)}
    optimizer = optim.centralize(optim.sgd(1.0))
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, grads))


def test_an_axis_that_holds_no_units_is_told():
    with pytest.raises(ConfigError, match="centralize axis: expected one of -1, 0, got 1"):
        optim.centralize(optim.sgd(0.1), axis=1)


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
        np.testing.assert_allclose(
            leaf.var(1), wanted, rtol=0.04
        )  # its deviation is √(2 / 20000) = 0.01
        np.testing.assert_allclose(leaf.mean(1) / np.sqrt(wanted), np.zeros(4), atol=0.03)


def test_no_two_draws_are_alike(key):
    noise = drawn(key, 3, decay=0.0)
    rows = np.concatenate([noise["a"], noise["b"]])
    assert np.abs(np.corrcoef(rows) - np.eye(6)).max() < 0.04


def test_the_key_decides(key):
    params, grads = problem(3)
    first, again, other = (
        path(optim.noise(k, optim.sgd(0.1)), params, grads)
        for k in (key, jax.random.clone(key), jax.random.key(1))
    )
    chex.assert_trees_all_equal(first, again)
    assert not jnp.allclose(first["stem"]["bias"], other["stem"]["bias"])


def test_no_variance_is_no_noise_with_a_finite_slope(key):
    params, grads = problem(3)
    plain = path(optim.sgd(0.1), params, grads)
    chex.assert_trees_all_close(
        path(optim.noise(key, optim.sgd(0.1), variance=0.0), params, grads), plain, rtol=1e-6
    )
    final = lambda variance: path(
        optim.noise(key, optim.sgd(0.1), variance=variance), params, grads
    )
    chex.assert_tree_all_finite(jax.jacrev(final)(0.0))


def test_mistakes_are_told_of_noise(key):
    with pytest.raises(DTypeError, match="noise key: expected a key"):
        optim.noise(0, optim.sgd(0.1))
    with pytest.raises(ConfigError, match=r"noise variance: expected a number in \[0, inf\)"):
        optim.noise(key, optim.sgd(0.1), variance=-1.0)
    with pytest.raises(ConfigError, match="noise optimizer: expected true gradients"):
        optim.noise(key, optim.loss_scale(optim.sgd(0.1))).init({"w": jnp.ones(2)})
