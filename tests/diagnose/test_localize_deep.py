"""Localization in networks with loops, branches and a loss of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, objective, optim, train
from fnn.diagnose.localize import BACKWARD, FORWARD

pytestmark = pytest.mark.slow

IMAGES = np.random.default_rng(0).random((16, 8, 8, 1)).astype(np.float32)
LABELS = np.arange(16, dtype=np.int32) % 2


def log(x):
    return jnp.log(x - 1e3)


def root(x):
    return x + jnp.sqrt(jnp.square(x - x))


def half_root(x):
    # `where` hides the forward fault, not that of the gradient.
    return jnp.where(x > 1e3, jnp.sqrt(x - 1e3), x)


def bad_loss(outputs, targets):
    return objective.cross_entropy(outputs, targets) + jnp.log(outputs - 1e6).sum(-1)


BAD = {
    log: FORWARD,
    root: BACKWARD,
    half_root: BACKWARD,
}
NETWORKS = {
    "residual": lambda bad: nn.chain(
        nn.flatten(),
        nn.dense(8),
        nn.residual(nn.chain(nn.dense(8), nn.relu(), bad, nn.dense(8))),
        nn.dense(2),
    ),
    "conv": lambda bad: nn.chain(
        nn.conv(4), nn.batch_norm(), nn.relu(), bad, nn.global_avg_pool(), nn.dense(2)
    ),
    "repeat": lambda bad: nn.chain(
        nn.flatten(), nn.dense(8), nn.repeat(nn.chain(nn.dense(8), bad), 3), nn.dense(2)
    ),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("function", BAD, ids=lambda function: function.__name__)
def test_the_layer_and_the_direction_are_named(network, function):
    layer = NETWORKS[network](nn.elementwise(function))
    recipe = train.recipe(layer, optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), recipe, (8, 8, 1))
    found = diagnose.localize(recipe, train_state, (IMAGES, LABELS), batch_size=8)
    name = found.layer.split("/")[-1].rpartition("_")[0]
    assert (name, found.direction) == (function.__name__, BAD[function])
    if network == "repeat":
        # Forward the first copy fails, backward the last.
        assert found.copy == (0 if found.direction == FORWARD else 2)


def test_a_loss_that_is_not_finite_is_named():
    recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(2)), optim.sgd(0.1), loss=bad_loss)
    train_state = train.start(jax.random.key(0), recipe, (8, 8, 1))
    found = diagnose.localize(recipe, train_state, (IMAGES, LABELS), batch_size=8)
    assert (found.layer, found.direction) == ("loss", FORWARD)
