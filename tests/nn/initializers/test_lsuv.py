"""After lsuv every layer with a kernel gives variance 1 in a pass with the new params."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError
from fnn.nn.core.composite import map_leaves
from fnn.trees import named_leaves
from fnn.types import Layer

pytestmark = pytest.mark.slow


def variances(network, params, state, x):
    """The output variances in training of all layers with a kernel, stacked ones one by one."""

    def measured(path, leaf):
        def apply(params, state, x, *, key=None, train=False):
            y, new_state = leaf.apply(params, state, x, key=key, train=train)
            return y, {"variance": y.var()} if "kernel" in params else new_state

        return Layer(leaf.init, apply, leaf.name)

    _, new_state_tree = map_leaves(measured, network).apply(params, state, x, train=True)
    found = [
        leaf.reshape(-1)
        for path, leaf in named_leaves(new_state_tree).items()
        if path.endswith("variance")
    ]
    return jnp.concatenate(found)


def block(activation):
    return nn.residual(nn.chain(nn.conv(6), nn.batch_norm(), activation, nn.conv(6)))


def mlp(activation):
    return nn.chain(*[layer for _ in range(3) for layer in (nn.dense(20), activation)], nn.dense(5))


def resnet(activation):
    return nn.chain(
        nn.conv(6, 5),
        nn.batch_norm(),
        activation,
        block(activation),
        nn.repeat(block(activation), 3),
        nn.parallel(nn.conv(3, 1), activation),
        nn.conv(6, groups=3, use_bias=False),
        nn.global_avg_pool(),
        nn.dense(5),
    )


# The network, the shape of an example, and how many kernels it has.
NETWORKS = {
    "mlp relu": (mlp(nn.relu()), (10,), 4),
    "mlp tanh": (mlp(nn.tanh()), (10,), 4),
    "resnet relu": (resnet(nn.relu()), (6, 6, 3), 1 + 2 + 6 + 1 + 1 + 1),
    "resnet tanh": (resnet(nn.tanh()), (6, 6, 3), 1 + 2 + 6 + 1 + 1 + 1),
}


def initialize_case(name):
    network, shape, _ = NETWORKS[name]
    x = 3 + 2 * jax.random.normal(jax.random.key(7), (32, *shape))
    return network, *jax.jit(lambda key: network.init(key, shape)[:2])(jax.random.key(0)), x


def lsuv_params(network, params, state, x, **options):
    return jax.jit(lambda key, params: nn.lsuv(key, network, params, state, x, **options))(
        jax.random.key(5), params
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_with_a_kernel_gives_variance_1(name):
    network, params, state, x = initialize_case(name)
    measure = jax.jit(lambda params: variances(network, params, state, x))
    before, after = measure(params), measure(lsuv_params(network, params, state, x))
    assert after.shape == (NETWORKS[name][2],)
    np.testing.assert_allclose(after, 1, atol=1e-3)
    assert (np.abs(before - 1) > 0.1).any()


def test_kernels_are_orthonormal_up_to_a_scale_and_biases_are_kept():
    network, params, state, x = initialize_case("mlp relu")
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    scaled = lsuv_params(network, params, state, x)
    for name, own in scaled.items():
        kernel = (
            own["kernel"] if own["kernel"].shape[0] >= own["kernel"].shape[1] else own["kernel"].T
        )
        product = kernel.T @ kernel
        np.testing.assert_allclose(product / product[0, 0], np.eye(len(product)), atol=1e-5)
        chex.assert_trees_all_equal(own["bias"], params[name]["bias"])
    np.testing.assert_allclose(variances(network, scaled, state, x), 1, atol=1e-3)


@pytest.mark.parametrize("bias", [0.5, 5.0])
def test_the_variance_includes_the_bias_if_its_own_is_below_1(bias, key):
    params = {"kernel": jnp.ones((4, 2)), "bias": jnp.array([-bias, bias])}
    x = jax.random.normal(key, (500, 4)) + jnp.arange(4.0)[None]
    scaled = lsuv_params(nn.dense(2), params, {}, x)
    by_kernel = x @ scaled["kernel"]
    measured = by_kernel if bias > 1 else by_kernel + params["bias"][None]
    np.testing.assert_allclose(measured.var(), 1, atol=1e-4)


def test_without_orthonormal_kernels_are_only_scaled():
    network, params, state, x = initialize_case("mlp tanh")
    scaled = lsuv_params(network, params, state, x, orthonormal=False)
    for name, own in scaled.items():
        ratio = own["kernel"] / params[name]["kernel"]
        assert ratio.min() > 0
        np.testing.assert_allclose(ratio, np.full(ratio.shape, ratio[0, 0]), rtol=1e-4)
    np.testing.assert_allclose(variances(network, scaled, state, x), 1, atol=1e-3)


def test_a_lane_equals_a_single_call():
    network, params, state, x = initialize_case("mlp relu")
    keys = jax.random.split(jax.random.key(3), 2)
    scale = jax.jit(lambda key: nn.lsuv(key, network, params, state, x))
    lanes = jax.vmap(scale)(keys)
    for lane in range(2):
        own = jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes)
        chex.assert_trees_all_close(own, scale(keys[lane]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dead", ["input", "relu"])
def test_a_layer_with_constant_output_keeps_its_scale(dead, key):
    network = nn.chain(nn.dense(8), nn.relu(), nn.dense(8))
    params, state, _ = network.init(key, (4,))
    x = jnp.zeros((16, 4)) if dead == "input" else jax.random.normal(jax.random.key(1), (16, 4))
    params["dense_0"]["bias"] -= 0.0 if dead == "input" else 1e6
    scaled = lsuv_params(network, params, state, x)
    chex.assert_tree_all_finite(scaled)
    kernel = scaled["dense_2"]["kernel"]
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(8), atol=1e-5)


def test_dropout_is_off_and_frozen_kernels_are_kept(key):
    network = nn.chain(stem=nn.freeze(nn.dense(8)), drop=nn.dropout(0.9), head=nn.dense(8))
    params, state, _ = network.init(key, (4,))
    x = jax.random.normal(jax.random.key(1), (64, 4))
    scaled = lsuv_params(network, params, state, x)
    assert scaled.keys() == {"head"}
    np.testing.assert_allclose(network.apply(scaled, state, x)[0].var(), 1, atol=1e-3)


def test_members_and_shared_layers_are_scaled(key):
    x = 2 + jax.random.normal(jax.random.key(1), (64, 4))
    network = nn.ensemble(nn.dense(8), 3)
    params, state, _ = network.init(key, (4,))
    scaled = lsuv_params(network, params, state, x)
    np.testing.assert_allclose(
        network.apply(scaled, state, x)[0].var((0, 2)), np.ones(3), atol=1e-3
    )
    tied = nn.shared(nn.dense(4), lambda tied: nn.chain(tied, nn.tanh(), tied))
    params, state, _ = tied.init(jax.random.key(3), (4,))
    kernel = lsuv_params(tied, params, state, x)["shared"]["kernel"]
    np.testing.assert_allclose((x @ kernel).var(), 1, atol=1e-3)


def test_cast_layers_keep_the_dtype_of_their_params(key):
    network = nn.cast(nn.chain(nn.dense(8), nn.relu(), nn.dense(8)))
    params, state, _ = network.init(key, (4,))
    x = jax.random.normal(jax.random.key(1), (64, 4))
    scaled = lsuv_params(network, params, state, x)
    chex.assert_trees_all_equal_dtypes(scaled, params)
    np.testing.assert_allclose(network.apply(scaled, state, x)[0].var(), 1, atol=0.02)


@pytest.mark.usefixtures("x64")
def test_lsuv_runs_in_float64(key):
    network = nn.chain(nn.dense(8), nn.relu(), nn.dense(8))
    params, state, _ = network.init(key, (4,))
    x = jax.random.normal(jax.random.key(1), (16, 4))
    scaled = lsuv_params(network, params, state, x)
    np.testing.assert_allclose(network.apply(scaled, state, x)[0].var(), 1, rtol=1e-12)


def test_a_network_without_kernels_and_an_invalid_key_raise(key):
    with pytest.raises(ConfigError, match="lsuv network: expected a layer with a kernel"):
        nn.lsuv(key, nn.chain(nn.relu()), {}, {}, jnp.ones((2, 4)))
    with pytest.raises(DTypeError, match="lsuv key: expected a key"):
        nn.lsuv(0, nn.dense(3), {}, {}, jnp.ones((2, 4)))
