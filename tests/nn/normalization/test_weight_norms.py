"""Normalized weights are compared with means, variances and singular values of NumPy."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.types import Layer

float64 = pytest.mark.usefixtures("x64")
KERNELS = {"dense": (nn.dense(5), (7,), (7, 5)), "conv": (nn.conv(5), (4, 4, 2), (3, 3, 2, 5))}
every_kernel = pytest.mark.parametrize("case", KERNELS)


def draw_case(case, dtype=None):
    """The layer, a kernel and a bias, and x."""
    layer, shape, kernel = KERNELS[case]
    draw = np.random.default_rng(0)
    params = {"kernel": draw.normal(2, 3, kernel), "bias": draw.normal(size=5)}
    return layer, params, jnp.array(draw.normal(size=(3, *shape)), dtype)


def arrays(params, dtype=None):
    return {name: jnp.array(leaf, dtype) for name, leaf in params.items()}


@float64
@every_kernel
@pytest.mark.parametrize("train", [True, False])
def test_weight_standardization_follows_its_formula(case, train):
    layer, params, x = draw_case(case)
    y, state = compiled(nn.weight_standardization(layer, eps=0.01)).apply(
        arrays(params), {}, x, train=train
    )
    over = tuple(range(params["kernel"].ndim - 1))
    kernel = (params["kernel"] - params["kernel"].mean(over)) / np.sqrt(
        params["kernel"].var(over) + 0.01
    )
    wanted, _ = layer.apply(arrays(params | {"kernel": kernel}), {}, x)
    chex.assert_trees_all_close(y, wanted, rtol=1e-12, atol=1e-12)
    assert state == {}


@float64
@every_kernel
def test_weight_norm_follows_its_formula(case):
    layer, params, x = draw_case(case)
    scale = np.arange(1.0, 6)
    own = arrays(params | {"kernel_scale": scale})
    over = tuple(range(params["kernel"].ndim - 1))
    kernel = scale * params["kernel"] / np.sqrt((params["kernel"] ** 2).sum(over))
    normalized = compiled(nn.weight_norm(layer))
    y, _ = normalized.apply(own, {}, x)
    wanted, _ = layer.apply(arrays(params | {"kernel": kernel}), {}, x)
    chex.assert_trees_all_close(y, wanted, rtol=1e-12, atol=1e-12)
    # The length of V does not matter, so that gradients are orthogonal to it.
    slopes = jax.jit(jax.grad(lambda own: (normalized.apply(own, {}, x)[0] ** 2).sum()))(own)
    along = (slopes["kernel"] * params["kernel"]).sum(over)
    np.testing.assert_allclose(along, 0, atol=1e-9 * float(abs(slopes["kernel"]).max()))


def test_weight_norm_begins_as_the_network_and_zeros_stay_finite(key):
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    plain = nn.chain(nn.dense(4), nn.relu(), nn.dense(2, kernel_init=nn.zeros()))
    network = nn.weight_norm(plain)
    params, state, _ = network.init(key, (6,))
    bare, _, _ = plain.init(key, (6,))
    assert params["dense_0"].keys() == {"kernel", "bias", "kernel_scale"}
    wanted, _ = plain.apply(bare, state, x)
    np.testing.assert_array_equal(network.apply(params, state, x)[0], wanted)
    slopes = jax.jit(jax.grad(lambda params: network.apply(params, state, x)[0].sum()))(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    with pytest.raises(TreeMismatchError, match=r"weight_norm kernel_scale: expected shape \(4,\)"):
        network.apply(bare, state, x)


def test_weight_standardization_is_computed_in_float32():
    layer, params, x = draw_case("dense", "bfloat16")
    half = arrays(params, "bfloat16")
    kernel = half["kernel"].astype(jnp.float32)
    kernel = (kernel - kernel.mean(0, keepdims=True)) / jnp.sqrt(
        kernel.var(0, keepdims=True) + 1e-5
    )
    wanted, _ = layer.apply(half | {"kernel": kernel.astype(jnp.bfloat16)}, {}, x)
    y, _ = compiled(nn.weight_standardization(layer)).apply(half, {}, x)
    chex.assert_trees_all_close(y, wanted, rtol=0.02)
    assert y.dtype == jnp.bfloat16


def test_a_single_weight_for_each_output_raises(key):
    layer = nn.weight_standardization(nn.chain(nn.conv(2, 1), nn.flatten(), nn.dense(3)))
    message = (
        r"weight_standardization kernel: expected more than 1 weight an output, got \(1, 1, 1, 2\)"
    )
    with pytest.raises(ShapeError, match=message) as caught:
        layer.init(key, (4, 4, 1))
    assert caught.value.__notes__[0].startswith("in layer conv_0")


@pytest.mark.parametrize("make", [nn.weight_standardization, nn.spectral_norm])
@pytest.mark.parametrize("eps", [0.0, -1.0, float("nan"), None])
def test_an_invalid_eps_raises(make, eps):
    with pytest.raises(ConfigError, match=f"{make.__name__} eps: expected"):
        make(nn.dense(3), eps=eps)


def spectral_case(case, **options):
    bare, params, x = draw_case(case)
    layer = nn.spectral_norm(bare, **options)
    draw, size = np.random.default_rng(1), params["kernel"].size // 5
    state = {
        name: {"kernel": jnp.array(draw.normal(size=n))} for name, n in (("u", 5), ("v", size))
    }
    return compiled(layer), bare, arrays(params), state, x


def compiled(layer):
    return Layer(layer.init, jax.jit(layer.apply, static_argnames="train"), layer.name)


@float64
@every_kernel
def test_many_iterations_give_the_largest_singular_value_of_numpy(case):
    layer, bare, params, state, x = spectral_case(case, iterations=300)
    y, state = layer.apply(params, state, x, train=True)
    matrix = np.asarray(params["kernel"]).reshape(-1, 5)
    left, values, right = np.linalg.svd(matrix)
    wanted, _ = bare.apply(params | {"kernel": params["kernel"] / values[0]}, {}, x)
    chex.assert_trees_all_close(y, wanted, rtol=1e-10)
    for vector, wanted in ((state["v"]["kernel"], left[:, 0]), (state["u"]["kernel"], right[0])):
        np.testing.assert_allclose(np.abs(vector @ wanted), 1, rtol=1e-12)


@float64
def test_power_iterations_continue_in_the_next_application():
    layer, _, params, state, x = spectral_case("dense", iterations=2)
    many, *_ = spectral_case("dense", iterations=6)
    _, wanted = many.apply(params, state, x, train=True)
    for _ in range(3):
        _, state = layer.apply(params, state, x, train=True)
    chex.assert_trees_all_close(state, wanted, rtol=1e-12)


@float64
def test_one_power_iteration_follows_its_formula():
    layer, bare, params, state, x = spectral_case("dense")
    matrix, v = (np.asarray(array) for array in (params["kernel"], state["v"]["kernel"]))
    u = v @ matrix / np.linalg.norm(v @ matrix)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    y, after = layer.apply(params, state, x, train=True)
    chex.assert_trees_all_close(after, {"u": {"kernel": u}, "v": {"kernel": v}}, rtol=1e-10)
    wanted, _ = bare.apply(params | {"kernel": params["kernel"] / (v @ matrix @ u)}, {}, x)
    chex.assert_trees_all_close(y, wanted, rtol=1e-10)


@float64
def test_evaluation_keeps_the_vectors_and_gives_the_y_of_the_last_step():
    layer, _, params, state, x = spectral_case("dense")
    y, state = layer.apply(params, state, x, train=True)
    evaluated, after = layer.apply(params, state, x, train=False)
    chex.assert_trees_all_equal(after, state)
    chex.assert_trees_all_close(evaluated, y, rtol=1e-13)


@float64
def test_gradients_hold_the_vectors_constant():
    """The derivative of W / σ along d is d / σ - W (vᵀ d u) / σ², for any u and v."""
    layer, _, params, state, x = spectral_case("dense")
    kernel, direction = params["kernel"], jnp.array(np.random.default_rng(1).normal(size=(7, 5)))

    def act(kernel):
        return layer.apply(params | {"kernel": kernel}, state, x, train=True)

    _, slope, after = jax.jvp(act, (kernel,), (direction,), has_aux=True)
    u, v = after["u"]["kernel"], after["v"]["kernel"]
    sigma = v @ kernel @ u
    wanted = x @ (direction / sigma - kernel * (v @ direction @ u) / sigma**2)
    chex.assert_trees_all_close(slope, wanted, rtol=1e-10)


def test_the_initial_vectors_are_near_the_singular_vectors(key):
    layer = nn.spectral_norm(nn.dense(30, use_bias=False))
    params, state, _ = layer.init(key, (40,))
    effective, _ = layer.apply(params, state, jnp.eye(40))
    assert 1 - 1e-5 < np.linalg.norm(effective, 2) < 1.1


def test_each_layer_has_its_vectors_and_its_state(key):
    layer = nn.spectral_norm(nn.chain(nn.conv(2), nn.batch_norm(), nn.flatten(), head=nn.dense(3)))
    params, state = jax.eval_shape(lambda key: layer.init(key, (4, 4, 1))[:2], key)
    shapes = jax.tree.map(jnp.shape, state)
    vectors = {"conv_0": ((2,), (9,)), "head": ((3,), (32,))}
    assert shapes == {
        name: {"u": {"kernel": u}, "v": {"kernel": v}} for name, (u, v) in vectors.items()
    } | {"batch_norm_1": {"mean": (2,), "var": (2,)}}
    _, after = jax.eval_shape(
        lambda *args: layer.apply(*args, train=True), params, state, jnp.ones((2, 4, 4, 1))
    )
    assert jax.tree.map(jnp.shape, after) == shapes


def test_a_layer_with_kernel_and_state_keeps_its_state(key):
    """A layer written by hand, with a counter in its state."""

    def init(key, shape):
        return {"kernel": jnp.eye(shape[-1])}, {"count": jnp.int32(0)}, shape

    def apply(params, state, x, *, key=None, train=False):
        return x @ params["kernel"], {"count": state["count"] + 1}

    layer = nn.spectral_norm(Layer(init, apply))
    params, state, _ = layer.init(key, (4,))
    assert state.keys() == {"body", "u", "v"}
    _, after = layer.apply(params, state, jnp.ones((2, 4)), train=True)
    assert after["body"] == {"count": 1}


def test_vectors_stay_float32_for_bfloat16_weights(key):
    layer = nn.spectral_norm(nn.dense(3))
    params, state = jax.eval_shape(lambda key: layer.init(key, (4,))[:2], key)
    half = jax.tree.map(lambda leaf: leaf.update(dtype=jnp.bfloat16), params)
    x = jnp.ones((2, 4), jnp.bfloat16)
    y, after = jax.eval_shape(lambda *args: layer.apply(*args, train=True), half, state, x)
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(after)} == {jnp.dtype("float32")}


def test_zero_weights_stay_zero_and_can_be_trained(key):
    """Values and gradients are finite, and after one step the norm is that of the new weights."""
    layer = nn.spectral_norm(nn.dense(3, kernel_init=nn.zeros()), iterations=30)
    params, state, _ = layer.init(key, (4,))
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, 4)))

    def total(params, state):
        y, state = layer.apply(params, state, x, train=True)
        return (y * jnp.arange(6.0).reshape(2, 3)).sum(), state

    (value, state), grads = jax.jit(jax.value_and_grad(total, has_aux=True))(params, state)
    assert value == 0
    kernel = grads["kernel"]
    np.testing.assert_allclose(kernel, x.T @ jnp.arange(6.0).reshape(2, 3), rtol=1e-6)
    y, _ = layer.apply({**params, "kernel": kernel}, state, x, train=True)
    np.testing.assert_allclose(y, x @ kernel / np.linalg.norm(kernel, 2), rtol=1e-4, atol=1e-5)


STATES = {
    "none": ({}, r"spectral_norm v kernel: expected shape \(4,\), got no such leaf"),
    "no u": (
        {"v": {"kernel": jnp.ones(4)}},
        r"spectral_norm u kernel: expected shape \(3,\), got no such leaf",
    ),
    "wrong u": (
        {"v": {"kernel": jnp.ones(4)}, "u": {"kernel": jnp.ones(4)}},
        r"expected shape \(3,\), got shape \(4,\)",
    ),
    "extra": ({"w": {"kernel": jnp.ones(4)}}, r"spectral_norm state: expected entries among"),
}


@pytest.mark.parametrize("case", STATES)
def test_a_wrong_state_raises(case):
    state, message = STATES[case]
    layer = nn.spectral_norm(nn.dense(3))
    params = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
    with pytest.raises(TreeMismatchError, match=message):
        layer.apply(params, state, jnp.ones((2, 4)))


@pytest.mark.parametrize("iterations", [0, -1, 1.0, None])
def test_an_invalid_number_of_iterations_raises(iterations):
    with pytest.raises(ConfigError, match="spectral_norm iterations: expected"):
        nn.spectral_norm(nn.dense(3), iterations=iterations)
