"""What every loss promises: a value an example, in float32 at least, finite far out; what does not fit is told."""

import chex
import jax
import jax.numpy as jnp
import makers
import numpy as np
import pytest
from beartype import beartype
from domains import LOSSES, batch_for
from jaxtyping import jaxtyped

from fnn.errors import DTypeError, ShapeError

every_loss = pytest.mark.parametrize("name", LOSSES)


def problem(name, seed=7):
    outputs, targets = batch_for(name, seed)
    return makers.public()[name], outputs, targets


def floats(function, tree):
    """function(leaf) for the leaves that hold floating-point numbers."""
    return jax.tree.map(
        lambda leaf: function(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def slope(loss, outputs, targets):
    """The gradients by the outputs that are floating-point numbers."""
    grads = jax.grad(lambda outputs: loss(outputs, targets).sum(), allow_int=True)(outputs)
    return [leaf for leaf in jax.tree.leaves(grads) if leaf.dtype != jax.dtypes.float0]


@every_loss
def test_it_gives_a_value_an_example(name):
    loss, outputs, targets = problem(name)
    values = jax.jit(loss)(outputs, targets)
    chex.assert_shape(values, (len(jax.tree.leaves(outputs)[0]),))
    chex.assert_tree_all_finite(values)


@every_loss
def test_its_arrays_are_what_its_signature_says(name):
    loss, outputs, targets = problem(name)
    jaxtyped(typechecker=beartype)(loss.function)(outputs, targets)


@every_loss
def test_examples_in_another_order_have_their_own_values(name):
    loss, outputs, targets = problem(name)
    order = np.random.default_rng(0).permutation(len(jax.tree.leaves(outputs)[0]))
    got = loss(*jax.tree.map(lambda leaf: leaf[order], (outputs, targets)))
    np.testing.assert_allclose(got, loss(outputs, targets)[order], rtol=1e-6, atol=1e-7)


@every_loss
def test_short_outputs_are_computed_in_float32(name):
    loss, outputs, targets = problem(name)
    short = floats(lambda leaf: leaf.astype(jnp.bfloat16), outputs)
    got, wanted = (
        loss(short, targets),
        loss(floats(lambda leaf: leaf.astype(jnp.float32), short), targets),
    )
    chex.assert_trees_all_equal(got, wanted)
    chex.assert_type(got, jnp.float32)
    chex.assert_type(slope(loss, short, targets), jnp.bfloat16)


# exp(1e4) is no number; the others are finite for all finite outputs.
@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"objective.poisson_nll", "objective.nll"}))
@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_it_and_its_gradient_are_finite_far_out_and_at_zero(name, scale):
    loss, outputs, targets = problem(name)
    far = floats(lambda leaf: scale * leaf, outputs)
    if name == "objective.gaussian_nll":
        far = far[0], abs(far[1])
    chex.assert_tree_all_finite((loss(far, targets), slope(loss, far, targets)))


@every_loss
def test_fewer_targets_than_outputs_are_told(name):
    loss, outputs, targets = problem(name)
    for wrong in (
        jax.tree.map(lambda leaf: leaf[:1], targets),
        jax.tree.map(lambda leaf: leaf[None], targets),
    ):
        with pytest.raises((ShapeError, DTypeError), match=r"expected .*, got"):
            loss(outputs, wrong)


@every_loss
@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool"])
def test_outputs_that_are_no_floats_are_told(name, dtype):
    loss, outputs, targets = problem(name)
    with pytest.raises(DTypeError, match=f"expected floating-point numbers, got {dtype}"):
        loss(floats(lambda leaf: leaf.astype(dtype), outputs), targets)


@every_loss
def test_outputs_without_a_batch_are_told(name):
    loss, outputs, targets = problem(name)
    alone = jax.tree.map(lambda leaf: leaf.reshape(-1)[0], (outputs, targets))
    with pytest.raises((ShapeError, DTypeError), match=r"expected .*, got"):
        loss(*alone)
