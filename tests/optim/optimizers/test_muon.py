"""Muon's matrices are nearly orthogonal, whatever axes a kernel has; its vectors are Adam's."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import optim
from fnn.optim.optimizers.muon import orthogonalized


def drawn(*shape):
    return jnp.float32(np.random.default_rng(len(shape)).normal(size=shape))


@pytest.mark.parametrize("shape", [(8, 8), (4, 32), (64, 16)])
def test_singular_values_come_near_to_one_and_singular_vectors_stay(shape):
    x = drawn(*shape)
    u, values, v = np.linalg.svd(orthogonalized(x, 5), full_matrices=False)
    assert values.min() > 0.6 and values.max() < 1.25
    np.testing.assert_allclose(
        u @ v, (lambda u, _, v: u @ v)(*np.linalg.svd(x, full_matrices=False)), atol=2e-3
    )


def update(grads, **knobs):
    optimizer = optim.muon(0.1, **knobs)
    return jax.jit(lambda g: optimizer.update(g, optimizer.init(g), g)[0])(grads)


def test_the_kernel_of_a_convolution_is_a_matrix_of_inputs_and_outputs():
    kernel = drawn(3, 3, 2, 4)
    chex.assert_trees_all_close(
        update(kernel), update(kernel.reshape(18, 4)).reshape(3, 3, 2, 4), rtol=1e-4, atol=1e-6
    )


def test_stacked_matrices_are_matrices_of_their_own():
    stack, biases = drawn(3, 5, 4), drawn(3, 4)
    got = update({"kernel": stack, "bias": biases}, stacked=True)
    wanted = jnp.stack([update(matrix) for matrix in stack])
    chex.assert_trees_all_close(got["kernel"], wanted, rtol=1e-4, atol=1e-6)
    chex.assert_trees_all_close(
        got["bias"], -0.1 * jnp.sign(biases), rtol=1e-5
    )  # Adam's first step


def test_what_is_no_kernel_has_no_matrix_to_keep_and_a_kernel_no_square():
    state = optim.muon(0.1).init({"kernel": drawn(5, 4), "bias": drawn(4)})
    assert jax.tree.map(jnp.shape, state.slots["square"]) == {"kernel": (), "bias": (4,)}
    assert len(jax.tree.leaves(state.slots["square"])) == 1
