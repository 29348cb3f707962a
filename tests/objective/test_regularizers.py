"""Tests of penalties against NumPy, of their algebra and repr, and of the max-norm constraint."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import objective
from fnn.errors import ConfigError, DTypeError
from fnn.objective import elastic_net, l1, l2, max_norm, orthogonal

float64 = pytest.mark.usefixtures("x64")


def params():
    draw = np.random.default_rng(0)
    return {
        "conv": {
            "kernel": jnp.array(draw.normal(size=(2, 2, 3, 5))),
            "bias": jnp.array(draw.normal(size=5)),
        },
        "head": [jnp.array(draw.normal(size=(3, 2)))],
    }


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@float64
def test_penalties_equal_numpy():
    theta = flat(params())
    one, two = np.abs(theta).sum(), (theta**2).sum()
    np.testing.assert_allclose(l1(0.3)(params()), 0.3 * one, rtol=1e-13)
    np.testing.assert_allclose(l2(0.3)(params()), 0.3 * two, rtol=1e-13)
    np.testing.assert_allclose(
        elastic_net(0.3, alpha=0.2)(params()), 0.3 * (0.8 * one + 0.2 * two), rtol=1e-13
    )


@float64
def test_gradients_of_penalties_have_their_closed_form():
    tree = jax.tree.map(lambda leaf: leaf.at[..., 0].set(0), params())
    chex.assert_trees_all_close(
        jax.jit(jax.grad(l1(0.3)))(tree), jax.tree.map(lambda p: 0.3 * jnp.sign(p), tree)
    )
    chex.assert_trees_all_close(
        jax.jit(jax.grad(l2(0.3)))(tree), jax.tree.map(lambda p: 0.6 * p, tree), rtol=1e-14
    )


@float64
@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (2, 2, 3, 4)])
def test_orthogonal_uses_the_smaller_gram_matrix(shape):
    kernel = np.random.default_rng(0).normal(size=shape)
    w = kernel.reshape(-1, shape[-1])
    gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
    got = orthogonal(2.0)({"kernel": jnp.array(kernel), "bias": jnp.ones(3)})
    np.testing.assert_allclose(got, 2 * ((gram - np.eye(len(gram))) ** 2).sum(), rtol=1e-13)


@float64
def test_orthogonal_has_the_same_gradient_for_both_gram_matrices():
    w = jnp.array(np.random.default_rng(0).normal(size=(3, 5)))
    wanted = jax.jit(jax.grad(lambda w: jnp.square(w.T @ w - jnp.eye(5)).sum()))(w)
    np.testing.assert_allclose(jax.jit(jax.grad(orthogonal()))(w), wanted, rtol=1e-12)
    q = np.linalg.qr(w.T)[0].T
    np.testing.assert_allclose(orthogonal()(jnp.array(q)), 0, atol=1e-28)


@float64
def test_penalties_are_added_scaled_and_restricted():
    tree = params()
    both = 0.5 * l2().on("*kernel") + l1(0.1) * 2
    kernels = np.square(tree["conv"]["kernel"]).sum()
    np.testing.assert_allclose(
        both(tree), 0.5 * kernels + 0.2 * np.abs(flat(tree)).sum(), rtol=1e-13
    )
    np.testing.assert_allclose(both.on("conv")(tree), both({"conv": tree["conv"]}), rtol=1e-14)
    for scale in (np.float32(0.5), np.array(0.5), jnp.float32(0.5), 0.5):
        np.testing.assert_allclose(
            (scale * l2())(tree), 0.5 * np.square(flat(tree)).sum(), rtol=1e-13
        )


def test_only_the_selected_params_have_a_gradient():
    tree = jax.tree.map(jnp.float32, params())
    grads = jax.jit(jax.grad(l2().on("*kernel", "head")))(tree)
    assert grads["conv"]["kernel"].any()
    assert grads["head"][0].any()
    assert not grads["conv"]["bias"].any()


def test_a_bare_array_and_no_parameters_have_values():
    np.testing.assert_allclose(l2(2.0)(jnp.array([1.0, 2.0])), 10)
    chex.assert_trees_all_equal((l1() + l2())({}), jnp.float32(0))


def test_half_precision_params_are_summed_in_float32():
    ones = {"a": jnp.ones(1000, jnp.bfloat16), "b": jnp.ones(24)}
    chex.assert_trees_all_equal(l2()(ones), jnp.float32(1024))
    chex.assert_trees_all_equal(l1(jnp.float32(2))(ones), jnp.float32(2048))
    chex.assert_type(jax.tree.leaves(jax.jit(jax.grad(l2()))(ones)), [jnp.bfloat16, jnp.float32])


@float64
def test_params_of_mixed_precision_are_summed_in_the_widest_dtype():
    chex.assert_trees_all_equal(l2()([jnp.ones(3, jnp.float32), jnp.ones(3)]), jnp.float64(6))


# Penalties by their repr, with their leaves.
ALGEBRA = {
    "objective.l1() + objective.l2()": (l1() + l2(), []),
    "0.01 * (objective.l2().on('*kernel') + objective.l1(0.0001))": (
        0.01 * (l2().on("*kernel") + l1(1e-4)),
        [0.01, 1e-4],
    ),
    "objective.l1(2) + objective.l2() + objective.l1(3)": (l1(2) + l2() + l1(3), [2, 3]),
    "objective.l1(2) + (objective.l2() + objective.l1(3))": (l1(2) + (l2() + l1(3)), [2, 3]),
    "objective.l1() + 2 * objective.l2()": (l1() + l2() * 2, [2]),
    "2 * (3 * objective.l2())": (2 * (3 * l2()), [2, 3]),
    "-0.5 * objective.l2(0.25)": (np.float32(-0.5) * l2(np.float32(0.25)), [-0.5, 0.25]),
    "2 * objective.l2().on('conv')": (2 * l2().on("conv"), [2]),
    "(2 * objective.l2()).on('conv')": ((2 * l2()).on("conv"), [2]),
    "(objective.l1() + objective.l2()).on('*kernel', '*bias').on('conv')": (
        (l1() + l2()).on("*kernel", "*bias").on("conv"),
        [],
    ),
    "0.5 * objective.orthogonal(2) + objective.elastic_net(0.1, alpha=0.3)": (
        0.5 * orthogonal(2) + elastic_net(0.1, alpha=0.3),
        [0.5, 2, 0.1, 0.3],
    ),
}
every_penalty = pytest.mark.parametrize("text", ALGEBRA)


@every_penalty
def test_the_repr_of_a_penalty_evaluates_to_it(text):
    penalty, _ = ALGEBRA[text]
    assert repr(penalty) == text
    again = eval(text, {"objective": objective})
    assert again == penalty
    assert hash(again) == hash(penalty)
    assert isinstance(penalty, objective.Penalty)
    tree = jax.tree.map(jnp.float32, params())
    chex.assert_trees_all_equal(again(tree), penalty(tree))


def test_penalties_of_different_expressions_differ():
    every = [penalty for penalty, _ in ALGEBRA.values()]
    assert len({*every, *every}) == len(every)
    assert l1() + l2() != l2() + l1()
    assert 2 * l2() != 3 * l2()
    assert l2().on("conv") != l2().on("head")


@every_penalty
def test_the_numbers_of_a_penalty_are_its_leaves(text):
    penalty, numbers = ALGEBRA[text]
    leaves, structure = jax.tree.flatten(penalty)
    assert leaves == numbers and structure.unflatten(leaves) == penalty
    tree = jax.tree.map(jnp.float32, params())
    chex.assert_trees_all_close(
        jax.jit(lambda penalty: penalty(tree))(penalty), penalty(tree), rtol=1e-6
    )


@float64
@pytest.mark.parametrize("text", [text for text, (_, numbers) in ALGEBRA.items() if numbers])
def test_the_gradient_by_the_numbers_equals_finite_differences(text):
    """A penalty is linear in each number, so differences are exact but for rounding."""
    penalty, tree, h = ALGEBRA[text][0], params(), 1e-5
    leaves, structure = jax.tree.flatten(penalty)
    slope = jax.jit(jax.grad(lambda penalty: penalty(tree)))(penalty)
    assert jax.tree.structure(slope) == structure
    for index, gradient in enumerate(jax.tree.leaves(slope)):
        values = []
        for step in (h, -h):
            moved = [*leaves[:index], float(leaves[index]) + step, *leaves[index + 1 :]]
            values.append(structure.unflatten(moved)(tree))
        above, below = values
        np.testing.assert_allclose(gradient, (above - below) / (2 * h), rtol=1e-6)


def test_a_vmap_lane_equals_the_penalty_alone():
    tree = jax.tree.map(jnp.float32, params())
    chex.clear_trace_counter()
    program = jax.jit(chex.assert_max_traces(lambda penalty: penalty(tree), n=1))
    each = [
        scale * (l2().on("*kernel") + l1(strength)) for scale, strength in ((0.5, 1e-4), (2.0, 0.3))
    ]
    alone = [program(penalty) for penalty in each]
    np.testing.assert_allclose(alone, [penalty(tree) for penalty in each], rtol=1e-6)
    lanes = jax.vmap(lambda penalty: penalty(tree))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    )
    np.testing.assert_allclose(lanes, alone, rtol=1e-6)


def test_wrong_arguments_of_penalties_raise():
    for make in (l1, l2, elastic_net, orthogonal):
        with pytest.raises(ConfigError, match=f"{make.__name__} strength: expected a number in"):
            make(-1.0)
    with pytest.raises(ConfigError, match="elastic_net alpha"):
        elastic_net(alpha=1.5)
    with pytest.raises(ConfigError, match=r"penalty on: expected a path among .*got '\*kernle'"):
        l2().on("*kernle")(params())
    with pytest.raises(
        DTypeError, match="params count: expected floating-point numbers, got int32"
    ):
        l2()({"count": jnp.ones(3, jnp.int32)})
    with pytest.raises(TypeError):
        l2() + 1
    with pytest.raises(ConfigError, match="penalty scale: expected one number"):
        l2() * "2"
    with pytest.raises(ConfigError, match=r"l1 strength: expected a number in \[0, inf\), got -1"):
        jax.tree.map(lambda leaf: -leaf, l1(1.0))({})


def kernel(*shape):
    return np.random.default_rng(0).normal(size=shape) * np.linspace(0.1, 2, shape[-1])


@float64
@pytest.mark.parametrize("shape", [(4, 5), (2, 2, 3, 5)])
def test_max_norm_scales_units_above_the_limit(shape):
    w = kernel(*shape)
    norms = np.linalg.norm(w.reshape(-1, shape[-1]), axis=0)
    assert (norms > 1).any() and (norms < 1).any()
    got = max_norm(1.0)({"kernel": jnp.array(w), "bias": jnp.full(5, 7.0)})
    np.testing.assert_allclose(got["kernel"], w * np.minimum(1, 1 / norms), rtol=1e-14)
    np.testing.assert_array_equal(got["kernel"][..., norms < 1], w[..., norms < 1])
    np.testing.assert_array_equal(got["bias"], 7)


def test_max_norm_changes_only_the_selected_params():
    tree = {"stem": {"kernel": jnp.ones((3, 2))}, "head": [jnp.ones((3, 2))]}
    got = max_norm(0.5, paths=["stem"])(tree)
    np.testing.assert_allclose(jnp.linalg.norm(got["stem"]["kernel"], axis=0), 0.5, rtol=1e-6)
    chex.assert_trees_all_equal(got["head"], tree["head"])


def test_max_norm_of_a_zero_unit_has_a_finite_gradient():
    w, constraint = jnp.zeros((3, 2)).at[:, 1].set(4), max_norm(jnp.float32(1))
    assert not constraint(w)[:, 0].any()
    slope = jax.jit(jax.jacrev(constraint))(w)
    chex.assert_tree_all_finite(slope)
    np.testing.assert_allclose(slope[:, 0, :, 0], np.eye(3))


def test_max_norm_keeps_the_dtype():
    chex.assert_type(max_norm(0.1)(jnp.ones((3, 2), jnp.bfloat16)), jnp.bfloat16)


def test_wrong_arguments_of_max_norm_raise():
    with pytest.raises(ConfigError, match="max_norm limit: expected a number in"):
        max_norm(0.0)
    with pytest.raises(ConfigError, match=r"max_norm paths: expected a path among .*got 'steam'"):
        max_norm(1.0, paths=["steam"])({"stem": jnp.ones((2, 2))})
