"""The loss of the members of a network is the mean of their losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError, ShapeError

draw = np.random.default_rng(0)
LOGITS = jnp.asarray(draw.normal(size=(6, 3, 4)), jnp.float32)
LABELS = draw.integers(0, 4, 6)


@pytest.mark.parametrize(
    "loss",
    [
        objective.cross_entropy(label_smoothing=0.1),
        objective.ignoring(objective.cross_entropy, 2),
        objective.class_weighted(objective.cross_entropy, (1.0, 2.0, 3.0, 4.0)),
    ],
)
def test_the_loss_is_the_mean_of_those_of_the_members(loss):
    found = objective.per_member(loss)(LOGITS, LABELS)
    each = [loss(LOGITS[:, index], LABELS) for index in range(3)]
    expected = jax.tree.map(lambda *values: np.mean(values, 0), *each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


@pytest.mark.slow
def test_members_of_one_network_train_as_they_do_alone(key):
    x = draw.normal(size=(16, 5)).astype(np.float32)
    y = draw.integers(0, 3, 16)
    member = nn.chain(nn.dense(4), nn.tanh(), nn.dense(3))
    loss = objective.per_member(objective.cross_entropy)
    # The mean over 2 members halves the gradient of each.
    recipe = train.recipe(nn.ensemble(member, 2), optim.sgd(0.2), loss=loss)
    result = train.run(key, recipe, (x, y), epochs=3, batch_size=8, valid=(x, y))
    alone = train.recipe(member, optim.sgd(0.1))
    started = train.start(key, recipe, (5,))
    for index in range(2):
        params = jax.tree.map(lambda leaf, index=index: leaf[index], started.params["body"])
        pretrained = alone.replace(network=nn.pretrained(member, params, {}))
        own = train.run(key, pretrained, (x, y), epochs=3, batch_size=8, valid=(x, y))
        for a, b in zip(
            jax.tree.leaves(result.train_state.params["body"]),
            jax.tree.leaves(own.train_state.params),
            strict=True,
        ):
            np.testing.assert_allclose(a[index], b, rtol=1e-4, atol=1e-5)
    assert {"accuracy", "valid_accuracy"} <= set(result.history)


def test_outputs_without_members_and_metrics_of_a_set_raise():
    loss = objective.per_member(objective.squared_error)
    with pytest.raises(ShapeError, match=r"per_member outputs: expected arrays \(batch, members"):
        loss(jnp.ones(3), jnp.ones(3))
    with pytest.raises(ConfigError, match="per_member loss: expected a function"):
        objective.per_member(objective.f1())
    with pytest.raises(ConfigError, match="per_member loss"):
        objective.per_member(3)
