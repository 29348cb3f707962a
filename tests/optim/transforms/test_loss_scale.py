"""Skipped steps and dynamic loss scaling, against torch's rule for the scale."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, path, problem

from fnn import optim
from fnn.errors import ConfigError, DTypeError
from fnn.types import Optimizer

# Skipped steps.


def poison(grads, steps, value=jnp.nan):
    """Put a value that is not finite into the gradients of these steps."""

    def one(g):
        return g.at[np.array(steps), 0].set(value) if g.ndim == 2 else g

    return jax.tree.map(one, grads)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_a_skipped_step_changes_nothing(value):
    params, grads = problem(6)
    wrong = [1, 4, 5]
    right = np.array([0, 2, 3])
    got, opt_state = follow(
        optim.skip_nonfinite(optim.momentum(0.1)), params, poison(grads, wrong, value)
    )
    wanted, inner = follow(optim.momentum(0.1), params, jax.tree.map(lambda g: g[right], grads))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[right], got), wanted)
    chex.assert_trees_all_equal(opt_state.inner, inner)
    chex.assert_trees_all_equal(at(got, 5), at(got, 3))
    assert (opt_state.skipped, opt_state.in_a_row) == (3, 2)


def test_all_steps_may_be_skipped():
    params, grads = problem(40)
    got, opt_state = follow(
        optim.skip_nonfinite(optim.momentum(0.1)), params, poison(grads, range(40))
    )
    chex.assert_trees_all_equal(at(got, 39), params)
    assert (opt_state.skipped, opt_state.in_a_row) == (40, 40)


def test_a_step_with_an_infinite_update_is_skipped():
    """1e38 times 1e38 is infinite in float32."""
    params, grads = {"w": jnp.ones(2)}, {"w": jnp.full((1, 2), 1e38)}
    got, opt_state = follow(optim.skip_nonfinite(optim.sgd(1e38)), params, grads)
    chex.assert_trees_all_equal(at(got, 0), params)
    assert opt_state.skipped == 1


def test_finite_steps_are_those_of_the_optimizer():
    params, grads = problem(5)
    got = path(optim.skip_nonfinite(optim.momentum(0.1)), params, grads)
    chex.assert_trees_all_equal(got, path(optim.momentum(0.1), params, grads))


def test_gradients_through_a_skipped_step_are_finite():
    params, grads = problem(4)

    def final(rate):
        optimizer = optim.skip_nonfinite(optim.adam(rate))
        return sum(
            leaf[-1].sum() for leaf in jax.tree.leaves(path(optimizer, params, poison(grads, [1])))
        )

    slope = jax.jit(jax.grad(final))(0.1)
    step = 1e-2
    central = (final(0.1 + step) - final(0.1 - step)) / (2 * step)
    np.testing.assert_allclose(slope, central, rtol=1e-2)


def test_an_empty_tree_is_finite():
    optimizer = optim.skip_nonfinite(optim.sgd(0.1))
    _, opt_state = optimizer.update({}, optimizer.init({}), {})
    assert opt_state.skipped == 0 and opt_state.inner.step == 1


def test_an_argument_that_is_not_an_optimizer_raises():
    with pytest.raises(ConfigError, match="skip_nonfinite optimizer: expected a pair"):
        optim.skip_nonfinite(optim.adam)


# Loss scaling.


def scales_after(optimizer, finite):
    """The scale after each step, whose gradient is finite or not."""
    params = {"w": jnp.ones(2)}
    grads = jnp.where(jnp.asarray(finite)[:, None], 1.0, jnp.inf) * jnp.ones((len(finite), 2))
    opt_state = optimizer.init(params)

    def one(opt_state, g):
        _, opt_state = optimizer.update({"w": g}, opt_state, params)
        return opt_state, opt_state.scale

    return jax.jit(lambda: jax.lax.scan(one, opt_state, grads))()[1]


def reference(finite, scale, growth, backoff, steps):
    """The rule of torch.amp.GradScaler: lower at once, grow after `steps` finite steps in a row."""
    count = 0
    scales = []
    for one in finite:
        count = count + 1 if one else 0
        if not one:
            scale = scale * backoff
        elif count >= steps:
            scale, count = scale * growth, 0
        scales.append(scale)
    return np.float32(scales)


@pytest.mark.parametrize(
    ("growth", "backoff", "steps"), [(2.0, 0.5, 3), (4.0, 0.25, 1), (1.0, 1.0, 2), (1.5, 0.5, 4)]
)
def test_the_scale_follows_the_rule_of_torch(growth, backoff, steps):
    finite = np.random.default_rng(0).random(60) < 0.8
    optimizer = optim.loss_scale(
        optim.sgd(0.1), 2.0**8, growth=growth, backoff=backoff, steps=steps
    )
    np.testing.assert_allclose(
        scales_after(optimizer, finite),
        reference(finite, 2.0**8, growth, backoff, steps),
        rtol=1e-6,
    )


def test_the_scale_becomes_neither_infinite_nor_zero():
    grows = optim.loss_scale(optim.sgd(0.1), 2.0**125, steps=1)
    np.testing.assert_array_equal(
        scales_after(grows, [True] * 5), np.float32(2.0) ** [126, 127, 127, 127, 127]
    )
    falls = optim.loss_scale(optim.sgd(0.1), 2.0**-125)
    np.testing.assert_array_equal(
        scales_after(falls, [False] * 4), np.float32(2.0) ** [-126, -126, -126, -126]
    )


def test_scaled_gradients_give_the_same_steps():
    params, grads = problem(6)
    larger = jax.tree.map(lambda g: 2.0**10 * g, grads)
    got = path(optim.loss_scale(optim.momentum(0.1), 2.0**10), params, larger)
    chex.assert_trees_all_equal(got, path(optim.momentum(0.1), params, grads))


def test_an_overflow_changes_only_the_scale():
    params, grads = problem(3)
    grads["stem"]["bias"] = grads["stem"]["bias"].at[1, 2].set(jnp.inf)
    got, opt_state = follow(optim.loss_scale(optim.momentum(0.1), 1.0), params, grads)
    # After the overflow the scale is 0.5, so that the last gradient is of half the loss.
    true = jax.tree.map(lambda g: jnp.stack([g[0], 2 * g[2]]), grads)
    wanted, inner = follow(optim.momentum(0.1), params, true)
    chex.assert_trees_all_equal(at(got, 1), at(got, 0))
    chex.assert_trees_all_equal((at(got, 2), opt_state.inner), (at(wanted, 1), inner))
    assert (opt_state.scale, opt_state.finite_steps) == (0.5, 1)


def test_a_true_gradient_that_overflows_is_skipped():
    params = {"w": jnp.ones(2)}
    got, opt_state = follow(
        optim.loss_scale(optim.sgd(0.1), 2.0**-100), params, {"w": jnp.full((1, 2), 1e38)}
    )
    chex.assert_trees_all_equal(at(got, 0), params)
    assert opt_state.scale == 2.0**-101


def test_scale_loss_finds_the_scale_in_a_nested_state():
    params, _ = problem(1)
    inside = optim.ema(optim.skip_nonfinite(optim.loss_scale(optim.momentum(0.1), 8.0)))
    loss = jnp.bfloat16(1.5)
    assert (
        optim.scale_loss(inside.init(params), loss) == 12
        and optim.scale_loss(inside.init(params), loss).dtype == loss.dtype
    )
    assert optim.scale_loss(optim.momentum(0.1).init(params), loss) == loss


def test_back_off_scale_lowers_the_scale_and_resets_the_count():
    params, grads = problem(2)
    _, opt_state = follow(
        optim.ema(optim.loss_scale(optim.sgd(0.1), 8.0, backoff=0.25)), params, grads
    )
    lower = optim.back_off_scale(opt_state)
    assert (opt_state.inner.finite_steps, lower.inner.finite_steps, lower.inner.scale) == (2, 0, 2)
    chex.assert_trees_all_equal(lower.inner.inner, opt_state.inner.inner)
    plain = optim.momentum(0.1).init(params)
    chex.assert_trees_all_equal(optim.back_off_scale(plain), plain)


def test_the_keyword_grad_is_the_true_gradient():
    received = []

    def update(grads, opt_state, params, *, grad, **_):
        received.append(grad)
        return grads, opt_state

    inner = Optimizer(lambda params: (), update)
    optimizer, params = optim.loss_scale(inner, 4.0), {"w": jnp.ones(2)}
    optimizer.update(
        {"w": jnp.full(2, 8.0)}, optimizer.init(params), params, grad={"w": jnp.full(2, 8.0)}
    )
    chex.assert_trees_all_equal(received[0], {"w": jnp.full(2, 2.0)})


def test_numbers_may_be_traced():
    finite = [True, True, False, True, True, True]

    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(*numbers):
        scale, growth, backoff, steps = numbers
        return scales_after(
            optim.loss_scale(optim.sgd(0.1), scale, growth=growth, backoff=backoff, steps=steps),
            finite,
        )

    for numbers in ((8.0, 2.0, 0.5, 2.0), (16.0, 3.0, 0.25, 1.0)):
        np.testing.assert_allclose(run(*numbers), reference(finite, *numbers))


def test_invalid_arguments_raise():
    for name, wrong in (
        ("scale", 0.0),
        ("growth", 0.5),
        ("backoff", 0.0),
        ("backoff", 1.5),
        ("steps", 0),
    ):
        with pytest.raises(ConfigError, match=f"loss_scale {name}: expected a number in"):
            optim.loss_scale(optim.sgd(0.1), **{name: wrong})
    with pytest.raises(
        DTypeError, match="loss_scale params w: expected float32, got float16; keep them in float32"
    ):
        optim.loss_scale(optim.sgd(0.1)).init({"w": jnp.ones(2, jnp.float16)})
    with pytest.raises(ConfigError, match="loss_scale optimizer: expected true gradients"):
        optim.loss_scale(optim.loss_scale(optim.sgd(0.1))).init({"w": jnp.ones(2)})
