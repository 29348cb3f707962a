"""Tests of every loss: one value for each example, float32 at least, finite, checked arguments."""

import chex
import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from beartype import beartype
from jaxtyping import jaxtyped
from makers import LOSSES
from registry import batch_for

from fnn.errors import DTypeError, ShapeError

pytestmark = pytest.mark.slow

every_loss = pytest.mark.parametrize("name", LOSSES)


def problem(name, seed=7):
    outputs, targets = batch_for(name, seed)
    return makers.public()[name], outputs, targets


def floats(function, tree):
    """function(leaf) for the leaves that hold floating-point numbers."""
    return jax.tree.map(
        lambda leaf: function(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def total(loss, outputs, targets):
    return loss(outputs, targets).sum()


slopes = jax.jit(jax.grad(total, argnums=1, allow_int=True), static_argnums=0)


def slope(loss, outputs, targets):
    """The gradients by the outputs that are floating-point numbers."""
    grads = slopes(loss, outputs, targets)
    return [leaf for leaf in jax.tree.leaves(grads) if leaf.dtype != jax.dtypes.float0]


@every_loss
def test_every_loss_returns_one_value_for_each_example(name):
    loss, outputs, targets = problem(name)
    values = jax.jit(loss)(outputs, targets)
    chex.assert_shape(values, (len(jax.tree.leaves(outputs)[0]),))
    chex.assert_tree_all_finite(values)


@every_loss
def test_arrays_have_the_types_of_the_signature(name):
    loss, outputs, targets = problem(name)
    jaxtyped(typechecker=beartype)(loss.function)(outputs, targets)


@every_loss
def test_a_permutation_of_examples_permutes_the_values(name):
    loss, outputs, targets = problem(name)
    order = np.random.default_rng(0).permutation(len(jax.tree.leaves(outputs)[0]))
    got = loss(*jax.tree.map(lambda leaf: leaf[order], (outputs, targets)))
    np.testing.assert_allclose(got, loss(outputs, targets)[order], rtol=1e-6, atol=1e-7)


@every_loss
def test_half_precision_outputs_are_computed_in_float32(name):
    loss, outputs, targets = problem(name)
    short = floats(lambda leaf: leaf.astype(jnp.bfloat16), outputs)
    got = loss(short, targets)
    wanted = loss(floats(lambda leaf: leaf.astype(jnp.float32), short), targets)
    chex.assert_trees_all_equal(got, wanted)
    chex.assert_type(got, jnp.float32)
    chex.assert_type(slope(loss, short, targets), jnp.bfloat16)


# exp(1e4) overflows; the others are finite for all finite outputs.
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"objective.poisson_nll", "objective.nll"}))
@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_values_and_gradients_are_finite_at_zero_and_far_out(name, scale):
    loss, outputs, targets = problem(name)
    far = floats(lambda leaf: scale * leaf, outputs)
    if name == "objective.gaussian_nll":
        far = far[0], abs(far[1])
    chex.assert_tree_all_finite((loss(far, targets), slope(loss, far, targets)))


@every_loss
def test_targets_of_another_size_raise(name):
    if name == "objective.adversarial":
        pytest.skip("its targets are ignored")
    loss, outputs, targets = problem(name)
    for wrong in (
        jax.tree.map(lambda leaf: leaf[:1], targets),
        jax.tree.map(lambda leaf: leaf[None], targets),
    ):
        with pytest.raises((ShapeError, DTypeError), match=r"expected .*, got"):
            loss(outputs, wrong)


@every_loss
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_outputs_that_are_not_floats_raise(name, dtype):
    loss, outputs, targets = problem(name)
    with pytest.raises(DTypeError, match=f"expected floating-point numbers, got {dtype}"):
        loss(floats(lambda leaf: leaf.astype(dtype), outputs), targets)


@every_loss
def test_outputs_without_a_batch_axis_raise(name):
    loss, outputs, targets = problem(name)
    alone = jax.tree.map(lambda leaf: leaf.reshape(-1)[0], (outputs, targets))
    with pytest.raises((ShapeError, DTypeError), match=r"expected .*, got"):
        loss(*alone)
