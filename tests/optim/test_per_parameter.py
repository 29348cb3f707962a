"""A rule on one array becomes an optimizer on a tree; `root` is √ with gradients that stay finite."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.errors import ConfigError, DTypeError, TreeMismatchError
from fnn.optim.per_parameter import lift, norm, root, zeros

float64 = pytest.mark.usefixtures("x64")


def echo(g, p, first, second, rate, t, knob):
    """A rule that shows what it is given."""
    return rate * g + t * p, first + knob, second + g


@float64
def test_root_is_the_square_root():
    x = np.array([0.0, 1e-300, 1e-8, 0.25, 2.0, 1e300])
    np.testing.assert_array_equal(root(jnp.array(x)), np.sqrt(x))


@float64
@pytest.mark.parametrize("differentiate", [jax.grad, jax.jacfwd, jax.jacrev])
def test_root_has_the_slope_of_the_square_root(differentiate):
    x = np.array([1e-8, 0.25, 2.0, 1e8])
    np.testing.assert_allclose(
        jax.vmap(differentiate(root))(jnp.array(x)), 0.5 * x**-0.5, rtol=1e-14
    )


SECOND = {
    "reverse over reverse": lambda f: jax.grad(jax.grad(f)),
    "forward over reverse": lambda f: jax.jacfwd(jax.grad(f)),
    "reverse over forward": lambda f: jax.grad(jax.jacfwd(f)),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
}
every_mode = pytest.mark.parametrize("mode", SECOND)


@float64
@every_mode
def test_root_has_the_curvature_of_the_square_root(mode):
    x = np.array([1e-4, 0.25, 2.0])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(SECOND[mode](root)))(jnp.array(x)), -0.25 * x**-1.5, rtol=1e-14
    )


@every_mode
def test_root_has_no_slope_and_no_curvature_at_zero(mode):
    slopes = jax.jit(
        lambda x: jnp.stack([jax.grad(root)(x), jax.jacfwd(root)(x), SECOND[mode](root)(x)])
    )
    chex.assert_trees_all_equal(slopes(0.0), jnp.zeros(3))


def test_root_of_the_mean_square_of_zeros_has_a_finite_gradient():
    slope = jax.grad(lambda x: 1 / (root(jnp.square(x).mean()) + 1e-8))(jnp.zeros(3))
    chex.assert_trees_all_equal(slope, jnp.zeros(3))


def test_apply_updates_adds_leaf_by_leaf():
    params = {"a": jnp.array([1.0, 2.0]), "b": (jnp.array(3.0),)}
    updates = {"a": jnp.array([0.5, -2.0]), "b": (jnp.array(-1.0),)}
    chex.assert_trees_all_equal(
        optim.apply_updates(params, updates), {"a": jnp.array([1.5, 0.0]), "b": (jnp.array(2.0),)}
    )


UPDATES = {
    "missing": ({"a": jnp.ones(2)}, "updates b: expected float32"),
    "extra": (
        {"a": jnp.ones(2), "b": jnp.ones(3), "c": jnp.ones(3)},
        "updates c: expected no such leaf",
    ),
    "broadcast": (
        {"a": jnp.ones(2), "b": jnp.ones(1)},
        r"updates b: expected float32\[3\], got float32\[1\]",
    ),
    "dtype": (
        {"a": jnp.ones(2), "b": jnp.ones(3, jnp.bfloat16)},
        "updates b: expected float32.*got bfloat16",
    ),
}


@pytest.mark.parametrize("case", UPDATES)
def test_apply_updates_tells_the_first_leaf_that_differs(case):
    updates, message = UPDATES[case]
    with pytest.raises(TreeMismatchError, match=message):
        optim.apply_updates({"a": jnp.ones(2), "b": jnp.ones(3)}, updates)


def test_apply_updates_tells_containers_that_differ():
    with pytest.raises(TreeMismatchError, match="containers"):
        optim.apply_updates([jnp.ones(2)], (jnp.ones(2),))


def test_apply_updates_does_not_truncate_integers():
    with pytest.raises(DTypeError, match="params a: expected floating-point numbers, got int32"):
        optim.apply_updates({"a": jnp.array([5, 5])}, {"a": jnp.array([-0.1, 0.1])})


def test_a_rule_sees_the_rate_the_count_and_its_slots():
    optimizer = lift("echo", echo, 0.5, slots=zeros("first", "second"), knob=2.0)
    params, grads = {"a": jnp.ones(2)}, {"a": jnp.array([10.0, 20.0])}
    opt_state = optimizer.init(params)
    chex.assert_trees_all_equal(
        opt_state.slots, {"first": {"a": jnp.zeros(2)}, "second": {"a": jnp.zeros(2)}}
    )
    for t in (1, 2, 3):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        chex.assert_trees_all_close(updates, {"a": jnp.array([5.0 + t, 10.0 + t])})
    chex.assert_trees_all_close(opt_state.slots["first"], {"a": jnp.array([6.0, 6.0])})
    chex.assert_trees_all_close(opt_state.slots["second"], {"a": jnp.array([30.0, 60.0])})
    assert (opt_state.step, opt_state.rate) == (3, 0.5)


@pytest.mark.parametrize(
    ("dtype", "inside"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64",) * 2],
)
@float64
def test_a_rule_works_in_float32_at_least(dtype, inside):
    seen = []

    def rule(g, p, slot, rate, t, knob):
        seen.extend(value.dtype for value in (g, p, slot, rate, t, knob))
        return g, slot

    optimizer = lift("spy", rule, 0.5, slots=zeros("slot"), knob=jnp.array(2.0))
    params = jnp.ones(2, dtype)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert set(seen) == {jnp.dtype(inside)}
    assert updates.dtype == dtype


def test_an_empty_tree_has_nothing_to_update():
    optimizer = lift("echo", echo, 0.5, slots=zeros("first", "second"), knob=2.0)
    updates, opt_state = optimizer.update({}, optimizer.init({}), {})
    assert (updates, opt_state.step) == ({}, 1)


def test_the_name_stands_in_errors():
    with pytest.raises(ConfigError, match="mine rate: expected"):
        lift("mine", echo, -0.5)
    with pytest.raises(
        DTypeError, match="mine params w: expected floating-point numbers, got int32"
    ):
        lift("mine", echo, 0.5).init({"w": jnp.array([1])})


@float64
def test_norm_is_the_length_and_has_a_slope_even_at_zero():
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(norm(jnp.array(x)), np.linalg.norm(x), rtol=1e-15)
    np.testing.assert_allclose(jax.grad(norm)(jnp.array(x)), x / np.linalg.norm(x), rtol=1e-14)
    chex.assert_trees_all_equal(jax.grad(norm)(jnp.zeros(3)), jnp.zeros(3))


def test_a_slot_may_begin_as_any_tree_of_the_parameter():
    def rule(g, p, sums, rate, t):
        rows, _ = sums
        return -rate * g, (rows + g.sum(0), g)

    slots = {"sums": lambda p: (jnp.zeros(p.shape[1:]), p)}
    optimizer = lift("tree", rule, 0.5, slots=slots)
    params = {"a": jnp.ones((2, 3))}
    opt_state = optimizer.init(params)
    chex.assert_trees_all_equal(opt_state.slots["sums"], {"a": (jnp.zeros(3), jnp.ones((2, 3)))})
    _, opt_state = optimizer.update({"a": jnp.full((2, 3), 2.0)}, opt_state, params)
    chex.assert_trees_all_equal(
        opt_state.slots["sums"], {"a": (jnp.full(3, 4.0), jnp.full((2, 3), 2.0))}
    )
