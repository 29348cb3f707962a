"""Tests of fnn.xla: barriers change no value, in any transformation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim
from fnn.types import Optimizer
from fnn.xla import (
    LARGE,
    from_batched,
    fused_alone,
    fusion_barrier,
    in_sequence,
    materialize,
    on_cpu_else,
    update_in_place,
)

BYTES = np.random.default_rng(0).integers(0, 100, (4, 5, 1), np.uint8)


def test_a_barrier_keeps_all_results():
    for first in (jnp.nan, -jnp.inf, jnp.inf):
        found = jax.jit(lambda x: fusion_barrier(lambda x: 2 * x, x))(jnp.array([first, 1.0]))
        np.testing.assert_array_equal(found, [2 * first, 2.0])


def test_a_barrier_changes_no_value_and_is_in_the_compiled_program():
    def function(image):
        return {"twice": image * 2, "sum": image.astype(jnp.int32).sum()}

    image = jnp.asarray(BYTES)
    compiled = jax.jit(lambda image: fusion_barrier(function, image)).lower(image).compile()
    assert " conditional(" in compiled.as_text()
    assert " conditional(" not in jax.jit(function).lower(image).compile().as_text()
    found, expected = compiled(image), function(image)
    np.testing.assert_array_equal(found["twice"], expected["twice"])
    assert found["sum"] == expected["sum"]
    elsewhere = (
        jax.jit(lambda image: fusion_barrier(function, image))
        .trace(image)
        .lower(lowering_platforms=("cuda",))
        .as_text()
    )
    assert (
        "stablehlo.compare" not in elsewhere
    )  # the condition is a constant, by which the conditional goes
    empty = jax.jit(lambda image: fusion_barrier(lambda x: x + 1, image))(
        jnp.zeros((0, 3), jnp.uint8)
    )
    assert empty.shape == (0, 3)


def test_the_platform_chooses_the_function():
    function = on_cpu_else(lambda x: x + 1, lambda x: x - 1)
    assert jax.jit(function)(jnp.float32(1)) == 2
    lowered = jax.jit(function).trace(jnp.float32(1)).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.subtract" in lowered
    assert "stablehlo.add" not in lowered


OPTIMIZERS = {
    "adam": optim.adam(0.1),
    "momentum": optim.momentum(0.1),
    "of another library": Optimizer(
        optim.sgd(0.1).init, lambda g, s, p: (jax.tree.map(lambda g: -0.1 * g, g), s)
    ),
}


def problem(size):
    draw = np.random.default_rng(3)
    params, grads = (
        {"w": jnp.float32(draw.normal(size=(size // 64, 64))), "b": jnp.ones(3)} for _ in range(2)
    )
    return params, grads


def two_steps(optimizer, params, grads, step=optim.step):
    opt_state = optimizer.init(params)
    for _ in range(2):
        params, opt_state = step(optimizer, grads, opt_state, params)
    return params, opt_state


def by_hand(optimizer, grads, opt_state, params):
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optim.apply_updates(params, updates), opt_state


@pytest.mark.parametrize("size", [64, LARGE])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_adds_the_updates(name, size):
    got, wanted = (
        jax.jit(lambda *problem, step=step: two_steps(OPTIMIZERS[name], *problem, step))(
            *problem(size)
        )
        for step in (optim.step, by_hand)
    )
    chex.assert_trees_all_close(got, wanted, rtol=1e-6)


@pytest.mark.slow
def test_a_large_step_has_derivatives_and_lanes():
    """The conditional can be differentiated and mapped."""
    params, grads = problem(LARGE)

    def length(rate):
        params_after, _ = two_steps(optim.adam(rate), params, grads)
        return sum(jnp.square(p).mean() for p in jax.tree.leaves(params_after))

    both = jax.jit(lambda rate: (jax.grad(length)(rate), jax.jvp(length, (rate,), (1.0,))[1]))
    reverse, forward = both(0.1)
    difference = (length(0.1 + 1e-2) - length(0.1 - 1e-2)) / 2e-2
    np.testing.assert_allclose([reverse, forward], [difference] * 2, rtol=1e-3)
    lanes = jax.jit(jax.vmap(length))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(lanes, [length(0.1), length(0.2)], rtol=1e-5)


def test_a_run_of_steps_keeps_no_copy_of_large_params():
    params, grads = problem(4 * LARGE)
    adam = optim.adam(0.1)

    def steps(params, opt_state, grads):
        return jax.lax.scan(
            lambda carry, _: (optim.step(adam, grads, *carry[::-1]), None),
            (params, opt_state),
            length=3,
        )

    program = (
        jax.jit(steps, donate_argnums=(0, 1)).lower(params, adam.init(params), grads).compile()
    )
    assert program.memory_analysis().temp_size_in_bytes < params["w"].nbytes / 10


@pytest.mark.parametrize("size", [8, LARGE])
def test_an_update_in_place_gives_the_result_of_the_function(size):
    kept, other = (jnp.arange(float(size)), jnp.ones(size)), jnp.full(size, 2.0)

    def function(kept, other):
        return kept[0] + other, kept[1] * other

    got = jax.jit(lambda: update_in_place(function, jnp.int32(0), kept, other))()
    chex.assert_trees_all_equal(got, function(kept, other))


BATCHED_BYTES = np.random.default_rng(0).integers(0, 100, (2, 3, 4, 5, 1), np.uint8)


@pytest.fixture
def doubling():
    """from_batched of x -> 2 x + shift, and the batch sizes of its calls."""
    sizes = []

    def many(images, shifts):
        sizes.append(images.shape[0])
        return 2 * images + shifts[:, None, None, None].astype(images.dtype)

    return from_batched(many), sizes


def test_nested_vmaps_are_one_batch(doubling):
    double, sizes = doubling
    shifts = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = jax.jit(jax.vmap(jax.vmap(double)))(BATCHED_BYTES, shifts)
    np.testing.assert_array_equal(
        found, 2 * BATCHED_BYTES + shifts.astype(np.uint8)[..., None, None, None]
    )
    assert sizes[-1] == 6


def test_arguments_that_are_not_mapped_are_broadcast(doubling):
    double, sizes = doubling
    found = jax.jit(jax.vmap(double, (None, 0)))(BATCHED_BYTES[0, 0], jnp.arange(4.0))
    np.testing.assert_array_equal(
        found, 2 * BATCHED_BYTES[0, 0][None] + np.arange(4, dtype=np.uint8)[:, None, None, None]
    )
    assert sizes[-1] == 4
    alone = double(BATCHED_BYTES[0, 0], jnp.float32(1))
    np.testing.assert_array_equal(alone, 2 * BATCHED_BYTES[0, 0] + 1)


def test_floats_are_differentiable_under_vmap(doubling):
    double, _ = doubling
    floats = jnp.asarray(BATCHED_BYTES[0], jnp.float32)

    def total(image, shift):
        return (double(image, shift) ** 2).sum()

    by_image, by_shift = jax.jit(jax.vmap(jax.grad(total, (0, 1))))(floats, jnp.ones(3))
    np.testing.assert_allclose(by_image, 4 * (2 * floats + 1))
    np.testing.assert_allclose(by_shift, (2 * (2 * floats + 1)).sum((1, 2, 3)))


def test_a_switch_for_each_image_is_one_batch(doubling):
    """Under vmap a switch becomes a selection, and its branches get the whole batch."""
    double, _ = doubling

    def choose(which, image):
        return jax.lax.switch(which, [lambda x: x, lambda x: double(x, jnp.float32(3))], image)

    which = jnp.array([0, 1, 1])
    found = jax.jit(jax.vmap(choose))(which, BATCHED_BYTES[0])
    np.testing.assert_array_equal(
        found,
        np.where(
            np.asarray(which)[:, None, None, None] == 1, 2 * BATCHED_BYTES[0] + 3, BATCHED_BYTES[0]
        ),
    )


def scaled_and_sum(image, factor):
    x = image.astype(jnp.float32) * factor
    return x, x.sum()


def test_fused_alone_is_the_function_under_vmap_and_for_floats():
    own = fused_alone(scaled_and_sum)
    images, factors = BATCHED_BYTES[0], jnp.array([0.5, 1.0, 2.0])
    expected = [
        scaled_and_sum(image, factor) for image, factor in zip(images, factors, strict=True)
    ]
    for x, total in (
        jax.jit(jax.vmap(own))(images, factors),
        jax.vmap(own, (0, 0))(images, factors),
    ):
        np.testing.assert_array_equal(x, [value for value, _ in expected])
        np.testing.assert_allclose(total, [total for _, total in expected])
    shared = jax.jit(jax.vmap(own, (0, None)))(images, jnp.float32(2))
    np.testing.assert_array_equal(shared[0], 2.0 * images)
    slope = jax.jit(jax.grad(lambda x: own(x, jnp.float32(3))[1]))(
        jnp.asarray(images[0], jnp.float32)
    )
    np.testing.assert_array_equal(slope, np.full(images[0].shape, 3.0))


def test_results_of_bytes_have_no_gradient_by_other_arguments():
    slope = jax.jit(
        jax.grad(
            lambda factor: fused_alone(scaled_and_sum)(jnp.asarray(BATCHED_BYTES[0, 0]), factor)[1]
        )
    )(1.0)
    assert slope == 0


def test_materialized_arrays_and_their_gradients_are_unchanged():
    tree = {
        "angle": jnp.float32(0.5),
        "knots": jnp.arange(6.0).reshape(2, 3),
        "which": jnp.int32(2),
    }
    again = jax.jit(materialize)(tree)
    assert again.keys() == tree.keys()
    assert all(np.array_equal(again[name], tree[name]) for name in tree)
    assert materialize({}) == {}
    slope = jax.jit(jax.vmap(jax.grad(lambda x: (materialize((x, 2 * x))[1] ** 2).sum())))(
        jnp.arange(3.0)
    )
    np.testing.assert_allclose(slope, 8 * np.arange(3.0))
    compiled = jax.jit(lambda x: materialize(x * 2) + 1).lower(jnp.arange(3.0)).compile().as_text()
    assert " conditional(" in compiled


MATRICES = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4, 4)), jnp.float32)
SYMMETRIC = MATRICES + MATRICES.mT


def test_lanes_in_sequence_are_those_of_a_batch():
    eigh = in_sequence(jnp.linalg.eigh)
    values, vectors = jax.vmap(jax.vmap(eigh))(SYMMETRIC)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(SYMMETRIC), rtol=1e-5, atol=1e-5)
    restored = vectors @ (values[..., None] * vectors.mT)
    np.testing.assert_allclose(restored, SYMMETRIC, rtol=1e-5, atol=1e-5)


def test_lanes_in_sequence_are_differentiable():
    def largest(matrix):
        return in_sequence(jnp.linalg.eigh)(matrix)[0][-1]

    found = jax.vmap(jax.grad(largest))(SYMMETRIC[0])
    # The derivative of an eigenvalue by the matrix is v vᵀ.
    vectors = np.linalg.eigh(SYMMETRIC[0])[1][..., -1]
    expected = vectors[:, :, None] * vectors[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["shampoo", "soap"])
def test_lanes_of_an_optimizer_call_lapack_with_single_matrices(name):
    # Several batches at once can wait for each other for ever.
    params = {"first": jnp.ones((2, 4, 3)), "second": jnp.ones((2, 3, 2))}
    optimizer: Optimizer = getattr(optim, name)(0.1)
    states = jax.vmap(optimizer.init)(params)
    program = jax.jit(jax.vmap(optimizer.update)).lower(params, states, params).compile()
    calls = [line for line in program.as_text().splitlines() if "lapack" in line]
    assert calls
    # f32[4,4] or f32[1,4,4], and not f32[2,4,4]
    assert not [line for line in calls if "f32[2,4,4]" in line or "f32[2,3,3]" in line]


def test_lanes_of_an_initializer_call_lapack_with_single_matrices():
    keys = jax.random.split(jax.random.key(0), 5)
    kernels = jax.jit(jax.vmap(lambda key: nn.orthogonal()(key, (4, 3))))
    program = kernels.lower(keys).compile()
    calls = [line for line in program.as_text().splitlines() if "lapack" in line]
    assert calls
    assert not [line for line in calls if "f32[5," in line]
