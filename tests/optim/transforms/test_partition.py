"""Different optimizers for different parameters, and frozen parameters."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from following import at, follow, path, problem

from fnn import objective, optim
from fnn.errors import ConfigError, TreeMismatchError
from fnn.optim.transform import last_rate
from fnn.types import Optimizer

float64 = pytest.mark.usefixtures("x64")


@float64
def test_each_part_follows_its_own_optimizer():
    params, grads = problem(6)
    got = path(
        optim.partition({"head": optim.momentum(0.2), "*bias": optim.sgd(0.5)}, optim.adam(0.1)),
        params,
        grads,
    )
    adam, momentum, sgd = (
        path(o, params, grads) for o in (optim.adam(0.1), optim.momentum(0.2), optim.sgd(0.5))
    )
    wanted = {
        "head": momentum["head"],
        "stem": {"bias": sgd["stem"]["bias"], "kernel": adam["stem"]["kernel"]},
    }
    chex.assert_trees_all_close(got, wanted, rtol=1e-13)  # different programs, so up to rounding


def test_one_optimizer_for_all_parts_is_that_optimizer():
    params, grads = problem(4)
    got = path(
        optim.partition(
            {"head": optim.momentum(0.1), "*bias": optim.momentum(0.1)}, optim.momentum(0.1)
        ),
        params,
        grads,
    )
    chex.assert_trees_all_equal(got, path(optim.momentum(0.1), params, grads))
    chex.assert_trees_all_equal(path(optim.partition({}, optim.momentum(0.1)), params, grads), got)


def test_the_first_pattern_that_matches_a_leaf_decides():
    params, grads = problem(1)
    got = path(
        optim.partition({"stem/bias": optim.sgd(0.5), "stem": optim.sgd(0.1)}, None), params, grads
    )
    wanted = jax.tree.map(lambda p, g: p - 0.5 * g[0], params, grads)
    chex.assert_trees_all_close(got["stem"]["bias"][0], wanted["stem"]["bias"], rtol=1e-6)
    chex.assert_trees_all_equal(got["head"]["kernel"][0], params["head"]["kernel"])


def test_frozen_parameters_take_no_memory_and_keep_every_bit():
    params, grads = problem(3)
    params["head"]["kernel"] = params["head"]["kernel"].at[0].set(-0.0)
    grads["head"]["kernel"] = grads["head"]["kernel"].at[0].set(jnp.nan)
    optimizer = optim.partition({"head": None}, optim.momentum(0.1))
    got, opt_state = follow(optimizer, params, grads)
    bits = [np.asarray(leaf["head"]["kernel"]).view(np.uint32) for leaf in (params, at(got, 2))]
    np.testing.assert_array_equal(*bits)
    updates, _ = optimizer.update(at(grads, 0), optimizer.init(params), params)
    chex.assert_trees_all_equal(updates["head"]["kernel"], jnp.zeros((2, 2, 3)))
    chex.assert_tree_all_finite(got)
    size = sum(leaf.size for leaf in jax.tree.leaves(opt_state))
    assert size == 15 + 2  # the velocity of the stem, its step and rate


def test_all_parameters_may_be_frozen():
    params, grads = problem(2)
    got, opt_state = follow(optim.partition({}, None), params, grads)
    chex.assert_trees_all_equal(at(got, 1), params)
    assert jax.tree.leaves(opt_state) == []


def test_patterns_inside_match_the_same_paths():
    params, grads = problem(3)
    inner = optim.weight_decay(optim.sgd(0.1), 0.5, paths=("stem/kernel",))
    got = path(optim.partition({"head": None}, inner), params, grads)
    chex.assert_trees_all_equal(got["stem"], path(inner, params, grads)["stem"])


def test_partitions_nest():
    params, grads = problem(3)
    nested = optim.partition({"head": None}, optim.partition({"*bias": None}, optim.momentum(0.1)))
    flat = optim.partition({"head": None, "*bias": None}, optim.momentum(0.1))
    chex.assert_trees_all_equal(path(nested, params, grads), path(flat, params, grads))


def test_clipping_inside_uses_the_norm_of_its_part():
    params, grads = problem(1)
    optimizer = optim.partition({"head": optim.clip_by_global_norm(optim.sgd(1.0), 0.5)}, None)
    updates, _ = optimizer.update(at(grads, 0), optimizer.init(params), params)
    np.testing.assert_allclose(jnp.linalg.norm(updates["head"]["kernel"].ravel()), 0.5, rtol=1e-6)


def test_value_fn_and_grad_are_restricted_to_the_part():
    def update(grads, opt_state, params, *, value_fn, grad):
        return jax.grad(value_fn)(jax.tree.map(lambda p: 2 * p, params)), grad

    needs_loss = Optimizer(lambda params: params, update)
    params, grads = problem(1)
    optimizer = optim.partition({"head": needs_loss}, None)
    updates, opt_state = optimizer.update(
        at(grads, 0), optimizer.init(params), params, grad=at(grads, 0), value_fn=objective.l2()
    )
    chex.assert_trees_all_close(updates["head"]["kernel"], 4 * params["head"]["kernel"], rtol=1e-6)
    chex.assert_trees_all_equal(opt_state.inner[1], {"head/kernel": grads["head"]["kernel"][0]})


def test_averaged_params_joins_the_averages_of_parts():
    params, grads = problem(4)
    _, alone = follow(optim.ema(optim.sgd(0.1), 0.5), params, grads)
    got, opt_state = follow(
        optim.partition({"head": optim.ema(optim.sgd(0.1), 0.5)}, optim.sgd(0.1)), params, grads
    )
    now = at(got, 3)
    mean = optim.averaged_params(opt_state, now)
    chex.assert_trees_all_equal(mean["head"], optim.averaged_params(alone, now)["head"])
    chex.assert_trees_all_equal(mean["stem"], now["stem"])


def test_the_rate_is_that_of_the_default():
    params, _ = problem(1)
    opt_state = optim.partition({"head": optim.sgd(0.5)}, optim.sgd(0.1)).init(params)
    assert [state.rate is not None for state in opt_state.inner] == [True, True]
    _, opt_state = follow(optim.partition({"head": optim.sgd(0.5)}, optim.sgd(0.1)), *problem(1))
    assert last_rate(opt_state) == np.float32(0.1)


def test_invalid_arguments_raise():
    params, grads = problem(1)
    sgd = optim.sgd(0.1)
    with pytest.raises(ConfigError, match=r"partition parts: expected a path among .*, got 'haed'"):
        optim.partition({"haed": None}, sgd).init(params)
    with pytest.raises(
        ConfigError,
        match="partition parts: expected a leaf that no earlier pattern names, got 'head/k",
    ):
        optim.partition({"head": None, "head/kernel": sgd}, sgd).init(params)
    with pytest.raises(ConfigError, match=r"partition head: expected a pair \(init, update\)"):
        optim.partition({"head": optim.sgd}, sgd)
    with pytest.raises(ConfigError, match="partition default: expected a pair"):
        optim.partition({"head": None}, 0.1)
    with pytest.raises(ConfigError, match="partition parts: expected optimizers by pattern"):
        optim.partition(["head"], sgd)
    with pytest.raises(ConfigError, match="partition parts: expected patterns of paths"):
        optim.partition({0: sgd}, sgd)
    with pytest.raises(ConfigError, match=r"partition.*: expected true gradients"):
        optim.partition({"head": optim.loss_scale(sgd)}, sgd).init(params)
    optimizer = optim.partition({"head": None}, sgd)
    with pytest.raises(TreeMismatchError, match=r"partition grads head/kernel: .*no such leaf"):
        optimizer.update({"stem": at(grads, 0)["stem"]}, optimizer.init(params), params)
