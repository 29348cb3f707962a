"""Weight decay in both forms, rates by depth, and projected steps."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, path, problem

from fnn import objective, optim
from fnn.errors import ConfigError
from fnn.types import Optimizer

float64 = pytest.mark.usefixtures("x64")
foreign = Optimizer(lambda params: (), lambda grads, opt_state, params: (grads, opt_state))


# Weight decay.


@float64
def test_decoupled_decay_of_adam_is_adamw():
    params, grads = problem(20)
    schedule = optim.cosine(0.1, steps=20, warmup_steps=5)
    got = path(optim.weight_decay(optim.adam(schedule), 0.2), params, grads)
    wanted = path(optim.adamw(schedule, weight_decay=0.2), params, grads)
    chex.assert_trees_all_close(got, wanted, rtol=1e-13, atol=1e-13)


@float64
def test_coupled_decay_is_the_gradient_of_half_the_squared_norm():
    params, grads = problem(1)
    got = path(optim.weight_decay(optim.sgd(0.1), 0.2, decoupled=False), params, grads)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * (g[0] + 0.2 * p), params, grads)
    chex.assert_trees_all_close(at(got, 0), wanted, rtol=1e-14)


@float64
def test_both_forms_are_equal_for_sgd_but_not_for_adam():
    params, grads = problem(5)
    for inner, same in ((optim.sgd, True), (optim.adam, False)):
        one, other = (
            path(optim.weight_decay(inner(0.1), 0.2, decoupled=way), params, grads)
            for way in (True, False)
        )
        kernels = one["stem"]["kernel"], other["stem"]["kernel"]
        assert bool(jnp.allclose(*kernels, rtol=1e-12, atol=1e-12)) is same


@float64
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("on", [("*kernel",), ["stem/kernel", "head"]])
def test_only_matching_paths_decay(on, decoupled):
    params, grads = problem(5)
    got = path(
        optim.weight_decay(optim.momentum(0.1), 0.3, paths=on, decoupled=decoupled), params, grads
    )
    every = path(optim.weight_decay(optim.momentum(0.1), 0.3, decoupled=decoupled), params, grads)
    plain = path(optim.momentum(0.1), params, grads)
    chex.assert_trees_all_equal(got["stem"]["bias"], plain["stem"]["bias"])
    chex.assert_trees_all_equal(
        (got["stem"]["kernel"], got["head"]), (every["stem"]["kernel"], every["head"])
    )
    assert not jnp.allclose(got["head"]["kernel"], plain["head"]["kernel"])


@pytest.mark.parametrize("decoupled", [True, False])
def test_strength_zero_is_the_optimizer(decoupled):
    params, grads = problem(5)
    got = path(optim.weight_decay(optim.adam(0.1), 0.0, decoupled=decoupled), params, grads)
    chex.assert_trees_all_close(got, path(optim.adam(0.1), params, grads), rtol=1e-6, atol=1e-6)


@float64
def test_weight_decay_commutes_with_accumulation():
    """Between steps, nothing decays."""
    params, grads = problem(7)
    decay, accumulate = (
        partial(optim.weight_decay, strength=0.3),
        partial(optim.accumulate, steps=3),
    )
    got, wanted = (
        path(outer(inner(optim.adam(0.1))), params, grads)
        for outer, inner in ((decay, accumulate), (accumulate, decay))
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-13)


@float64
def test_weight_decay_uses_the_rate_after_a_plateau():
    optimizer = optim.weight_decay(optim.plateau(optim.sgd(0.1), factor=0.5, patience=0), 0.3)
    params, grads = problem(1)
    opt_state = optimizer.init(params)
    for loss in (1.0, 1.0, 1.0):
        opt_state = optim.observe_loss(opt_state, loss)
    updates, _ = optimizer.update(at(grads, 0), opt_state, params)
    wanted = jax.tree.map(lambda p, g: -0.025 * (g[0] + 0.3 * p), params, grads)
    chex.assert_trees_all_close(updates, wanted, rtol=1e-13)


def test_invalid_arguments_of_weight_decay_raise():
    params, _ = problem(1)
    with pytest.raises(
        ConfigError, match="weight_decay optimizer: expected a state with one rate, got 0 rates"
    ):
        optim.weight_decay(foreign, 0.1).init(params)
    for several in (
        optim.partition({"head": optim.sgd(0.1)}, optim.sgd(0.2)),
        optim.chain(optim.sgd(0.1), optim.sgd(0.1)),
    ):
        with pytest.raises(
            ConfigError, match="expected a state with one rate, got 2 rates; let each part decay"
        ):
            optim.weight_decay(several, 0.1).init(params)
    with pytest.raises(
        ConfigError, match="weight_decay optimizer: expected a state with one rate, got 0"
    ):
        optim.weight_decay(optim.plateau(foreign), 0.1).init(params)
    for way in (True, False):
        with pytest.raises(
            ConfigError, match=r"weight_decay paths: expected a path among .*got 'kernel'"
        ):
            path(
                optim.weight_decay(optim.sgd(0.1), 0.1, paths=("kernel",), decoupled=way),
                *problem(1),
            )
    with pytest.raises(
        ConfigError, match="weight_decay paths: expected patterns of paths, got 'head'"
    ):
        optim.weight_decay(optim.sgd(0.1), 0.1, paths="head")
    with pytest.raises(
        ConfigError, match=r"weight_decay strength: expected a number in \[0, inf\)"
    ):
        optim.weight_decay(optim.sgd(0.1), -0.1)
    optim.weight_decay(foreign, 0.1, decoupled=False).init(params)


# Rates by depth.


@pytest.mark.usefixtures("x64")
def test_scale_by_depth_multiplies_by_a_power_of_the_factor():
    params, grads = problem(1)
    layers = ("stem/kernel", "stem", "head")
    got = at(path(optim.scale_by_depth(optim.sgd(0.1), 0.7, paths=layers), params, grads), 0)
    rates = {"stem": {"kernel": 0.1 * 0.7**2, "bias": 0.1 * 0.7}, "head": {"kernel": 0.1}}
    chex.assert_trees_all_close(
        got, jax.tree.map(lambda p, g, r: p - r * g[0], params, grads, rates), rtol=1e-13
    )


def test_factor_one_is_the_optimizer_and_factor_zero_trains_only_the_last_layer():
    params, grads = problem(3)
    one, zero = (
        path(optim.scale_by_depth(optim.momentum(0.1), f, paths=("stem", "*")), params, grads)
        for f in (1.0, 0.0)
    )
    plain = path(optim.momentum(0.1), params, grads)
    chex.assert_trees_all_equal(one, plain)
    chex.assert_trees_all_equal(zero["head"], plain["head"])
    chex.assert_trees_all_equal(at(zero, 2)["stem"], params["stem"])


@pytest.mark.usefixtures("x64")
def test_a_layer_of_depth_may_have_several_patterns_or_be_one_of_a_stack():
    params = {name: jnp.ones((3, 2)) for name in ("blocks", "head", "norm", "stem")}
    layers = ("stem", "blocks", ("norm", "head"))
    optimizer = optim.scale_by_depth(
        optim.sgd(1.0), 0.5, paths=layers, stacked=("blocks",), min_scale=0.2
    )
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    # Depths 4, 3 to 1, and 0.
    expected = {"stem": 0.2, "blocks": [0.2, 0.25, 0.5], "norm": 1.0, "head": 1.0}
    for name, update in updates.items():
        column = jnp.broadcast_to(jnp.asarray(expected[name]), (3,))
        chex.assert_trees_all_close(update, -jnp.stack([column, column], 1), rtol=1e-14)
    with pytest.raises(ConfigError, match=r"stacked: expected patterns of one layer each.*'norm'"):
        optim.scale_by_depth(optim.sgd(1.0), 0.5, paths=layers, stacked=("norm",))
    wrong = optim.scale_by_depth(optim.sgd(1.0), 0.5, paths=("*",), stacked=("*",))
    uneven = params | {"head": jnp.ones(2)}
    with pytest.raises(ConfigError, match=r"stacked \*: expected leaves whose first axis"):
        wrong.update(uneven, wrong.init(uneven), uneven)


def test_invalid_arguments_of_scale_by_depth_raise():
    params, grads = problem(1)

    def with_layers(layers):
        return path(optim.scale_by_depth(optim.sgd(0.1), 0.5, paths=layers), params, grads)

    with pytest.raises(
        ConfigError, match="scale_by_depth paths: expected one that names stem/bias"
    ):
        with_layers(("stem/kernel", "head"))
    with pytest.raises(
        ConfigError, match=r"scale_by_depth paths: expected a path among .*, got 'body"
    ):
        with_layers(("stem", "body*", "head"))
    with pytest.raises(
        ConfigError, match="expected a leaf that no earlier pattern names, got 'head'"
    ):
        with_layers(("*", "head"))
    with pytest.raises(
        ConfigError, match="scale_by_depth paths: expected patterns of paths, got 'stem'"
    ):
        with_layers("stem")
    with pytest.raises(
        ConfigError, match=r"scale_by_depth factor: expected a number in \[0, inf\)"
    ):
        optim.scale_by_depth(optim.sgd(0.1), -0.5, paths=("stem",))


# Projected steps.


def descend(optimizer, steps=5):
    params = {"kernel": jnp.array([[0.1, 3.0], [0.2, 4.0]]), "bias": jnp.zeros(2)}
    opt_state = optimizer.init(params)
    for step in range(steps):
        grads = jax.tree.map(lambda p, step=step: jnp.sin(p + step), params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optim.apply_updates(params, updates)
    return params, opt_state


def test_project_satisfies_the_constraint_after_every_step():
    """For sgd, that is the step followed by the constraint."""
    limit = objective.max_norm(1.0)
    got, _ = descend(optim.project(optim.sgd(0.1), limit))
    wanted = {"kernel": jnp.array([[0.1, 3.0], [0.2, 4.0]]), "bias": jnp.zeros(2)}
    for step in range(5):
        wanted = limit(jax.tree.map(lambda p, step=step: p - 0.1 * jnp.sin(p + step), wanted))
    chex.assert_trees_all_close(got, wanted, rtol=1e-5)
    assert (jnp.linalg.norm(got["kernel"], axis=0) <= 1 + 1e-6).all()


def test_an_inactive_constraint_is_the_optimizer():
    plain, inside = (
        descend(optim.adam(0.1)),
        descend(optim.project(optim.adam(0.1), objective.max_norm(100.0))),
    )
    chex.assert_trees_all_close(plain, inside, rtol=1e-6)
    assert plain[1].rate == inside[1].rate == np.float32(0.1)


def test_a_constraint_may_be_any_function_of_params():
    positive = optim.project(optim.momentum(0.5), lambda params: jax.tree.map(jax.nn.relu, params))
    params, _ = descend(positive)
    assert all((leaf >= 0).all() for leaf in jax.tree.leaves(params))


def test_invalid_arguments_of_project_raise():
    with pytest.raises(ConfigError, match=r"project optimizer: expected a pair \(init, update\)"):
        optim.project(optim.sgd, objective.max_norm(1.0))
    with pytest.raises(ConfigError, match="project constraint: expected a function"):
        optim.project(optim.sgd(0.1), 1.0)
