"""Names and order of the layers and parameters of a network."""

import jax
import jax.numpy as jnp
import pytest

from fnn import diagnose, nn, optim, train
from fnn.diagnose.layers import layer_outputs
from fnn.errors import ConfigError

KEY = jax.random.key(0)
BLOCK = nn.chain(nn.dense(4), nn.relu())


def names(network, shape=(4,)):
    recipe = train.recipe(network, optim.sgd(0.1))
    return diagnose.layer_names(recipe, shape), diagnose.parameter_names(recipe, shape)


def test_names_are_in_the_order_of_the_network():
    network = nn.chain(*[nn.dense(4) for _ in range(11)])
    layers, parameters = names(network)
    assert layers == tuple(f"dense_{index}" for index in range(11))
    kernels = [name for name in parameters if name.endswith("kernel")]
    assert kernels == [f"dense_{index}/kernel" for index in range(11)]


def test_each_copy_of_a_layer_has_a_name_and_all_layers_of_a_copy_come_first():
    layers, parameters = names(nn.chain(nn.dense(4), nn.repeat(BLOCK, 2), nn.ensemble(BLOCK, 2)))
    body = ["dense_0[0]", "relu_1[0]", "dense_0[1]", "relu_1[1]"]
    in_repeat = [f"repeat_1/body/{name}" for name in body]
    in_ensemble = [f"ensemble_2/body/{name}" for name in body]
    assert layers == ("dense_0", *in_repeat, *in_ensemble)
    assert parameters[:4] == (
        "dense_0/bias",
        "dense_0/kernel",
        "repeat_1/body/dense_0/bias[0]",
        "repeat_1/body/dense_0/kernel[0]",
    )


def test_a_shared_layer_is_measured_at_each_position():
    network = nn.chain(
        nn.dense(4), nn.shared(BLOCK, lambda tied: nn.chain(tied, nn.tanh(), tied)), nn.dense(2)
    )
    layers, parameters = names(network)
    assert layers == (
        "dense_0",
        "shared_1/body/chain_0/dense_0",
        "shared_1/body/chain_0/relu_1",
        "shared_1/body/tanh_1",
        "shared_1/body/chain_2/dense_0",
        "shared_1/body/chain_2/relu_1",
        "dense_2",
    )
    assert parameters[2:4] == ("shared_1/shared/dense_0/bias", "shared_1/shared/dense_0/kernel")
    params, state, _ = network.init(KEY, (4,))
    outputs = layer_outputs(network, params, state, jnp.ones((2, 4)), key=KEY)
    kinds = {output.path: output.kind for output in outputs}
    assert kinds["shared_1/body/chain_2/relu_1"] == "relu"


def test_a_network_of_one_layer_and_outputs_of_several_arrays():
    assert names(nn.dense(2)) == (("dense",), ("bias", "kernel"))
    # The output of `parallel` is a tuple; its parts are single arrays.
    layers, _ = names(nn.chain(nn.parallel(nn.dense(2), nn.dense(3))))
    assert layers == ("parallel_0/dense_0", "parallel_0/dense_1")


def test_transformers_and_recurrent_networks_have_names():
    layers, _ = names(nn.chain(nn.embed(10, 4), nn.lstm(3), nn.dense(2)), (5,))
    assert layers == ("embed_0", "lstm_1", "dense_2")
    layers, _ = names(nn.repeat(nn.transformer_block(2), 2), (5, 4))
    in_second = [name for name in layers if name.endswith("[1]")]
    assert in_second[0] == "body/attention_norm[1]"
    assert layers.index("body/mlp/down[0]") < layers.index(in_second[0])


def test_misuse_raises_an_error():
    with pytest.raises(ConfigError, match="layer_names recipe"):
        diagnose.layer_names(BLOCK, (4,))
    with pytest.raises(ConfigError, match="parameter_names recipe"):
        diagnose.parameter_names(BLOCK, (4,))
