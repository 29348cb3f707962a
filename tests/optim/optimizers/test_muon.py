"""Orthogonal updates of kernels of any rank, and Adam's updates of vectors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.optim.optimizers.muon import orthogonalize


def random_array(*shape):
    return jnp.float32(np.random.default_rng(len(shape)).normal(size=shape))


@pytest.mark.parametrize("shape", [(8, 8), (4, 32), (64, 16)])
def test_orthogonalize_keeps_singular_vectors_and_brings_values_near_one(shape):
    x = random_array(*shape)
    u, values, v = np.linalg.svd(orthogonalize(x), full_matrices=False)
    assert values.min() > 0.6 and values.max() < 1.25
    np.testing.assert_allclose(
        u @ v, (lambda u, _, v: u @ v)(*np.linalg.svd(x, full_matrices=False)), atol=2e-3
    )


def update(grads, **knobs):
    optimizer = optim.muon(0.1, **knobs)
    return jax.jit(lambda g: optimizer.update(g, optimizer.init(g), g)[0])(grads)


def test_the_kernel_of_a_convolution_is_a_matrix_of_inputs_and_outputs():
    kernel = random_array(3, 3, 2, 4)
    chex.assert_trees_all_close(
        update(kernel), update(kernel.reshape(18, 4)).reshape(3, 3, 2, 4), rtol=1e-4, atol=1e-6
    )


def test_stacked_matrices_are_orthogonalized_one_by_one():
    stack, biases = random_array(3, 5, 4), random_array(3, 4)
    got = update({"kernel": stack, "bias": biases}, stacked=True)
    wanted = jnp.stack([update(matrix) for matrix in stack])
    chex.assert_trees_all_close(got["kernel"], wanted, rtol=1e-4, atol=1e-6)
    # Adam's first step
    chex.assert_trees_all_close(got["bias"], -0.1 * jnp.sign(biases), rtol=1e-5)


def test_only_vectors_have_a_second_moment():
    state = optim.muon(0.1).init({"kernel": random_array(5, 4), "bias": random_array(4)})
    assert jax.tree.map(jnp.shape, state.slots["square"]) == {"kernel": (), "bias": (4,)}
    assert len(jax.tree.leaves(state.slots["square"])) == 1
