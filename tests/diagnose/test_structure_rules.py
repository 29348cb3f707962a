"""Rules on the structure of networks, which compute nothing."""

import jax
import pytest

import fnn
from fnn import nn
from fnn.diagnose.structure_rules import (
    describe,
    dropout_findings,
    last_activation,
    sequences,
    structure_findings,
)
from fnn.types import Layer


@fnn.maker
def block(width: int) -> Layer:
    return nn.chain(nn.dense(width), nn.relu())


def found(network, shape=(6,)):
    params = jax.eval_shape(lambda key: network.init(key, shape)[0], jax.random.key(0))
    everything = [*structure_findings(network, params), *dropout_findings(network)]
    return [(one.name, one.layer) for one in everything]


def test_sequences_are_the_layers_in_order():
    body = nn.chain(nn.dense(4), nn.relu())
    network = nn.chain(block(4), nn.residual(body), head=nn.dense(3))
    paths = [[leaf.path for leaf in sequence] for sequence in sequences(network)]
    assert paths == [
        ["block_0/dense_0", "block_0/relu_1", "residual_1", "head"],
        ["residual_1/body/dense_0", "residual_1/body/relu_1"],
    ]
    assert describe(block(4))[0] == "chain"


MODELS = {
    "mlp": (nn.mlp((8, 8, 3), drop_rate=0.3), (6,)),
    "lenet5": (nn.lenet5(10), (28, 28, 1)),
    "vgg": (nn.vgg(11, 10, width=4, units=8), (32, 32, 3)),
    "resnet_cifar": (nn.resnet_cifar(8, 10), (32, 32, 3)),
    "wide_resnet": (nn.wide_resnet(10, 1, classes=10, drop_rate=0.3), (32, 32, 3)),
    "resnet": (nn.resnet(50, 10, width=4), (64, 64, 3)),
    "mobilenet_v2": (nn.mobilenet_v2(10, width=0.1), (64, 64, 3)),
    "gpt": (nn.gpt(9, length=8, width=8, depth=1, heads=2, drop_rate=0.1), (8,)),
    "vit": (nn.vit(8, 10, size=32, width=8, depth=1, heads=2), (32, 32, 3)),
    "unet": (nn.unet((4, 8), 3), (16, 16, 1)),
    "whole blocks": (nn.chain(block(8), block(8), nn.dense(3)), (6,)),
    "low rank": (nn.chain(nn.dense(32), nn.relu(), nn.dense(2), nn.dense(32)), (6,)),
    "dropout at the end": (
        nn.chain(nn.dense(8), nn.batch_norm(), nn.relu(), nn.dropout(0.5), nn.dense(3)),
        (6,),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_healthy_networks_have_no_finding(name):
    network, shape = MODELS[name]
    assert found(network, shape) == []


FAULTS = {
    "two dense": (
        nn.chain(nn.dense(8), nn.dense(8), nn.relu(), nn.dense(3)),
        [("missing_nonlinearity", "dense_1")],
    ),
    "norm alone": (
        nn.chain(nn.dense(8), nn.batch_norm(), nn.dropout(0.1), nn.dense(8), nn.relu()),
        [("missing_nonlinearity", "dense_3")],
    ),
    "in a body": (
        nn.chain(nn.dense(8), nn.relu(), nn.residual(nn.chain(nn.dense(8), nn.dense(8)))),
        [("missing_nonlinearity", "residual_2/body/dense_1")],
    ),
    "dropout before batch norm": (
        nn.chain(nn.dense(8), nn.relu(), nn.dropout(0.5), nn.dense(8), nn.batch_norm(), nn.relu()),
        [("dropout_before_batch_norm", "batch_norm_4")],
    ),
    "high rate": (
        nn.chain(nn.dense(8), nn.relu(), nn.dropout(0.9), nn.dense(3)),
        [("high_drop_rate", "dropout_2")],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_found_with_their_layer(name):
    network, expected = FAULTS[name]
    assert found(network) == expected


def test_a_traced_rate_is_not_judged():
    def judge(rate):
        network = nn.chain(nn.dense(8), nn.relu(), nn.dropout(rate), nn.dense(3))
        assert found(network) == []
        return rate

    jax.eval_shape(judge, 0.9)


def test_the_last_activation_is_found_behind_layers_that_pass_values_on():
    network = nn.chain(nn.dense(3), nn.softmax(), nn.flatten())
    assert last_activation(network).path == "softmax_1"
    assert last_activation(nn.chain(nn.dense(3), nn.gelu())) is None
    assert last_activation(nn.dense(3)) is None
