"""What a clipped optimizer is given, against norms by NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, path, problem

from fnn import optim
from fnn.errors import ConfigError

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
    updates, _ = jax.jit(transform(gradient_is_step).update)(grads, gradient_is_step.init(params), params)
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
    chex.assert_trees_all_close(got, jax.tree.map(lambda g: g * min(1, limit / length), grads), rtol=1e-14)


@float64
def test_eps_is_added_to_the_length():
    """So a gradient just below the limit is shortened as well."""
    for length in (0.8, 1.0, 3.0):
        got = given(lambda inner: optim.clip_by_global_norm(inner, 1.0, eps=0.5), jnp.ones(1), jnp.array([length]))
        np.testing.assert_allclose(got, length / (length + 0.5), rtol=1e-14)


@float64
@pytest.mark.parametrize(("limit", "floor"), [(0.01, 1e-3), (1.0, 1e-3), (0.5, 5.0), (jnp.inf, 1.0)])
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
    np.testing.assert_allclose(given(lambda inner: optim.adaptive_clip(inner, 0.1), p, g), 0.2, rtol=1e-6)


@every_clip
def test_an_infinite_limit_is_off(clip):
    params, grads = problem(3)
    got = path(clip(optim.adam(0.1), jnp.inf), params, grads)
    chex.assert_trees_all_equal(got, path(optim.adam(0.1), params, grads))


@every_clip
def test_gradients_of_zero_stay_zero_and_have_finite_slopes(clip):
    params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}

    def length(limit, grads):
        return sum(jnp.square(u - 1).sum() for u in jax.tree.leaves(given(lambda i: clip(i, limit), params, grads)))

    value, slopes = jax.value_and_grad(length, (0, 1))(0.1, params)
    assert value == 9
    chex.assert_tree_all_finite(slopes)


@every_clip
def test_half_precision_is_clipped_in_float32(clip):
    """The squares of such numbers would overflow in float16."""
    params = {"kernel": jnp.full((4, 2), 100.0, jnp.float16)}
    grads = {"kernel": jnp.full((4, 2), 4000.0, jnp.float16)}
    got = given(lambda inner: clip(inner, 0.5), params, grads)["kernel"]
    wanted = {"clip_by_value": 0.5, "clip_by_global_norm": 0.5 / np.sqrt(8), "adaptive_clip": 50.0}[clip.__name__]
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
        with pytest.raises(ConfigError, match=rf"{clip.__name__} limit: expected a number in \(0, inf\]"):
            clip(optim.sgd(0.1), wrong)
    with pytest.raises(ConfigError, match=f"{clip.__name__} optimizer: expected a pair"):
        clip(optim.sgd, 1.0)
    with pytest.raises(ConfigError, match=f"{clip.__name__} optimizer: expected true gradients"):
        clip(optim.loss_scale(optim.sgd(0.1)), 1.0).init(first_problem()[0])
