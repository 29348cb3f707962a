"""Profile of a network at one train state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, optim, train
from fnn.errors import ConfigError

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (1200, 6))
Y = jnp.arange(1200) % 3
NETWORK = nn.chain(
    nn.dense(8), nn.relu(), nn.repeat(nn.chain(nn.dense(8), nn.tanh()), 2), nn.dense(3)
)
RECIPE = train.recipe(NETWORK, optim.sgd(0.1))
START = train.start(KEY, RECIPE, (6,))


@pytest.mark.slow
def test_planted_dead_and_saturated_units_are_found_exactly():
    params = dict(START.params)
    # Three of eight units of relu_1 are dead; in the second copy all units of tanh are saturated.
    params["dense_0"] = params["dense_0"] | {"bias": jnp.zeros(8).at[:3].set(-10.0)}
    body = params["repeat_2"]["body"]["dense_0"]
    bias = body["bias"].at[1].set(5.0)
    params["repeat_2"] = {"body": {"dense_0": body | {"bias": bias}}}
    state = START._replace(params=params)
    profile = diagnose.profile(RECIPE, state, (X, Y))
    assert profile.examples == 1024
    dead = profile.dead_units["relu_1"]
    np.testing.assert_array_equal(dead, np.arange(8) < 3)
    shares = dict(zip(profile.layers, profile.dead_share, strict=True))
    assert shares["relu_1"] == 3 / 8
    assert np.isnan(shares["dense_0"])
    saturated = dict(zip(profile.layers, profile.saturated_share, strict=True))
    assert saturated["repeat_2/body/tanh_1[1]"] == 1
    assert saturated["repeat_2/body/tanh_1[0]"] == 0
    assert profile.saturation["repeat_2/body/tanh_1[1]"].shape == (8,)
    assert profile.kinds[1] == "relu"
    np.testing.assert_allclose(
        profile.grad_rms[profile.parameters.index("dense_0/bias")],
        rms_of_gradient(state)["dense_0"]["bias"],
        rtol=1e-3,
    )


def rms_of_gradient(state):
    def loss(params):
        rows = np.arange(1024) * 1200 // 1024
        logits, _ = NETWORK.apply(params, state.state, X[rows])
        return -jax.nn.log_softmax(logits)[jnp.arange(1024), Y[rows]].mean()

    grads = jax.grad(loss)(state.params)
    return jax.tree.map(lambda grad: jnp.sqrt(jnp.square(grad).mean()), grads)


@pytest.mark.slow
def test_lanes_are_profiled_alike():
    other = jax.tree.map(lambda leaf: leaf + 0.1, START.params)
    states = [START, START._replace(params=other)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(one.params for one in states))

    def of_params(params):
        return diagnose.profile(RECIPE, START._replace(params=params), (X, Y), examples=64)

    lanes = jax.vmap(of_params)(stacked)
    alone = of_params(other)
    for name, values in alone.figures.items():
        np.testing.assert_allclose(lanes.figures[name][1], values, rtol=1e-4, atol=1e-5)


def test_misuse_raises_an_error():
    with pytest.raises(ConfigError, match="profile recipe"):
        diagnose.profile(NETWORK, START, (X, Y))
    with pytest.raises(ConfigError, match="profile examples"):
        diagnose.profile(RECIPE, START, (X, Y), examples=0)
    with pytest.raises(ConfigError, match="profile train_state"):
        diagnose.profile(RECIPE, START.params, (X, Y))
    with pytest.raises(AttributeError, match="expected one of activation_mean"):
        _ = diagnose.profile(RECIPE, START, (X, Y), examples=64).loss
