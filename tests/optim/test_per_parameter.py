"""Optimizers from rules of one array, and the numerical functions that rules use."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.errors import ConfigError, DTypeError, TreeMismatchError
from fnn.optim.per_parameter import norm, per_parameter, root, zeros

float64 = pytest.mark.usefixtures("x64")


def echo(g, p, first, second, h):
    """A rule whose results show all of its arguments."""
    return h.rate * g + h.t * p, first + h.knob, second + g


@float64
def test_root_is_the_square_root():
    x = np.array([0.0, 1e-300, 1e-8, 0.25, 2.0, 1e300])
    np.testing.assert_array_equal(root(jnp.array(x)), np.sqrt(x))


@float64
@pytest.mark.parametrize("differentiate", [jax.grad, jax.jacfwd, jax.jacrev])
def test_root_has_the_derivative_of_the_square_root(differentiate):
    x = np.array([1e-8, 0.25, 2.0, 1e8])
    np.testing.assert_allclose(
        jax.vmap(differentiate(root))(jnp.array(x)), 0.5 * x**-0.5, rtol=1e-14
    )


SECOND_DERIVATIVES = {
    "reverse over reverse": lambda f: jax.grad(jax.grad(f)),
    "forward over reverse": lambda f: jax.jacfwd(jax.grad(f)),
    "reverse over forward": lambda f: jax.grad(jax.jacfwd(f)),
    "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
}
every_mode = pytest.mark.parametrize("mode", SECOND_DERIVATIVES)


@float64
@every_mode
def test_root_has_the_second_derivative_of_the_square_root(mode):
    x = np.array([1e-4, 0.25, 2.0])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(SECOND_DERIVATIVES[mode](root)))(jnp.array(x)), -0.25 * x**-1.5, rtol=1e-14
    )


@every_mode
def test_root_has_zero_derivatives_at_zero(mode):
    slopes = jax.jit(
        lambda x: jnp.stack(
            [jax.grad(root)(x), jax.jacfwd(root)(x), SECOND_DERIVATIVES[mode](root)(x)]
        )
    )
    chex.assert_trees_all_equal(slopes(0.0), jnp.zeros(3))


def test_root_of_the_mean_square_of_zeros_has_a_finite_gradient():
    slope = jax.jit(jax.grad(lambda x: 1 / (root(jnp.square(x).mean()) + 1e-8)))(jnp.zeros(3))
    chex.assert_trees_all_equal(slope, jnp.zeros(3))


def test_apply_updates_adds_leaf_by_leaf():
    params = {"a": jnp.array([1.0, 2.0]), "b": (jnp.array(3.0),)}
    updates = {"a": jnp.array([0.5, -2.0]), "b": (jnp.array(-1.0),)}
    chex.assert_trees_all_equal(
        optim.apply_updates(params, updates), {"a": jnp.array([1.5, 0.0]), "b": (jnp.array(2.0),)}
    )


WRONG_UPDATES = {
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


@pytest.mark.parametrize("case", WRONG_UPDATES)
def test_apply_updates_names_the_first_leaf_that_differs(case):
    updates, message = WRONG_UPDATES[case]
    with pytest.raises(TreeMismatchError, match=message):
        optim.apply_updates({"a": jnp.ones(2), "b": jnp.ones(3)}, updates)


def test_apply_updates_names_containers_that_differ():
    with pytest.raises(TreeMismatchError, match="containers"):
        optim.apply_updates([jnp.ones(2)], (jnp.ones(2),))


def test_apply_updates_raises_for_integers():
    with pytest.raises(DTypeError, match="params a: expected floating-point numbers, got int32"):
        optim.apply_updates({"a": jnp.array([5, 5])}, {"a": jnp.array([-0.1, 0.1])})


def test_complex_parameters_raise_with_their_own_advice():
    with pytest.raises(DTypeError, match="got complex64; give both parts as arrays"):
        optim.sgd(0.1).init({"a": jnp.ones(2, jnp.complex64)})


def test_a_rule_gets_the_rate_the_step_count_and_its_slots():
    optimizer = per_parameter("echo", echo, 0.5, slots=zeros("first", "second"), knob=2.0)
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
def test_a_rule_computes_in_float32_or_wider(dtype, inside):
    dtypes = []

    def rule(g, p, slot, h):
        dtypes.extend(value.dtype for value in (g, p, slot, h.rate, h.t, h.knob))
        return g, slot

    optimizer = per_parameter("spy", rule, 0.5, slots=zeros("slot"), knob=jnp.array(2.0))
    params = jnp.ones(2, dtype)
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    assert set(dtypes) == {jnp.dtype(inside)}
    assert updates.dtype == dtype


def test_the_numbers_of_a_recipe_are_parameters_of_an_outer_optimizer():
    inner, outer = optim.adamw(0.5, weight_decay=0.25), optim.adam(0.1)
    slopes = jax.tree.map(jnp.ones_like, inner)
    changed, _ = optim.step(outer, slopes, outer.init(inner), inner)
    # The first step of Adam has the length of the rate.
    np.testing.assert_allclose(jax.tree.leaves(changed), [0.4, 0.15], rtol=1e-5)


def test_an_empty_tree_has_empty_updates():
    optimizer = per_parameter("echo", echo, 0.5, slots=zeros("first", "second"), knob=2.0)
    updates, opt_state = optimizer.update({}, optimizer.init({}), {})
    assert (updates, opt_state.step) == ({}, 1)


def test_errors_begin_with_the_name():
    with pytest.raises(ConfigError, match="mine rate: expected"):
        per_parameter("mine", echo, -0.5)
    with pytest.raises(
        DTypeError, match="mine params w: expected floating-point numbers, got int32"
    ):
        per_parameter("mine", echo, 0.5).init({"w": jnp.array([1])})


@float64
def test_norm_is_the_euclidean_norm_with_derivative_zero_at_zero():
    x = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(norm(jnp.array(x)), np.linalg.norm(x), rtol=1e-15)
    np.testing.assert_allclose(
        jax.jit(jax.grad(norm))(jnp.array(x)), x / np.linalg.norm(x), rtol=1e-14
    )
    chex.assert_trees_all_equal(jax.jit(jax.grad(norm))(jnp.zeros(3)), jnp.zeros(3))


def test_a_slot_may_hold_a_pytree():
    def rule(g, p, sums, h):
        rows, _ = sums
        return -h.rate * g, (rows + g.sum(0), g)

    slots = {"sums": lambda p: (jnp.zeros(p.shape[1:]), p)}
    optimizer = per_parameter("tree", rule, 0.5, slots=slots)
    params = {"a": jnp.ones((2, 3))}
    opt_state = optimizer.init(params)
    chex.assert_trees_all_equal(opt_state.slots["sums"], {"a": (jnp.zeros(3), jnp.ones((2, 3)))})
    _, opt_state = optimizer.update({"a": jnp.full((2, 3), 2.0)}, opt_state, params)
    chex.assert_trees_all_equal(
        opt_state.slots["sums"], {"a": (jnp.full(3, 4.0), jnp.full((2, 3), 2.0))}
    )
