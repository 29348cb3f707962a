"""Parts in evaluation mode within training: params, statistics and noise, each by choice."""

from itertools import product

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.errors import ConfigError
from fnn.types import FROZEN

X = jnp.float32(np.random.default_rng(0).normal(2, 3, size=(16, 4)))
BODY = nn.chain(
    nn.dense(4), nn.batch_norm(), nn.dropout(0.5), nn.attention(2, drop_rate=0.5, head_width=1)
)
SEQUENCES = X[:, None]
NETWORK = nn.chain(stem=nn.chain(nn.dense(4), nn.batch_norm(), nn.dropout(0.5)), head=nn.dense(3))


def trained(layer, params, state, x, key=1):
    return layer.apply(params, state, x, key=jax.random.key(key), train=True)


def test_a_layer_is_its_evaluation(key):
    params, state, _ = BODY.init(key, (1, 4))
    wanted, _ = BODY.apply(params, state, SEQUENCES, train=False)
    held = nn.inference(BODY)
    held_params, held_state, _ = held.init(jax.random.clone(key), (1, 4))
    assert held_params == {}
    y, new_state = trained(held, held_params, held_state, SEQUENCES)
    chex.assert_trees_all_equal((y, new_state), (wanted, held_state))
    chex.assert_trees_all_equal(nn.unfreeze(held_params, held_state), (params, state))


@pytest.mark.parametrize(("params", "statistics", "noise"), list(product([False, True], repeat=3)))
def test_each_of_the_three_is_held_alone(params, statistics, noise, key):
    held = nn.inference(BODY, params=params, statistics=statistics, noise=noise)
    own, state, _ = held.init(key, (1, 4))
    assert (own == {}) == params == (FROZEN in state)
    (y, new_state), (other, _) = (trained(held, own, state, SEQUENCES, key) for key in (1, 2))
    moved = np.any(new_state["batch_norm_1"]["mean"] != state["batch_norm_1"]["mean"])
    assert (moved, np.any(y != other)) == (not statistics, not noise)
    # In evaluation it is the layer.
    wanted, _ = BODY.apply(*nn.unfreeze(own, state), SEQUENCES)
    chex.assert_trees_all_equal(held.apply(own, state, SEQUENCES)[0], wanted)


def test_only_the_parts_at_the_paths_are_held(key):
    network = nn.chain(body=NETWORK, norm=nn.batch_norm())
    held = nn.inference(network, "*/batch_norm*", params=False)
    params, state, _ = held.init(key, (4,))
    (_, new), (_, plain) = (trained(layer, params, state, X) for layer in (held, network))
    chex.assert_trees_all_equal(new["body"], state["body"])
    chex.assert_trees_all_equal(new["norm"].keys(), plain["norm"].keys())
    assert np.any(new["norm"]["mean"] != state["norm"]["mean"])
    frozen = nn.inference(network, "*/batch_norm*", "body/stem/dropout*")
    own, state, _ = frozen.init(jax.random.clone(key), (4,))
    assert state[FROZEN].keys() == {"body"} and own["body"]["stem"].keys() == {"dense_0"}
    assert state[FROZEN]["body"]["stem"].keys() == {"batch_norm_1"}


def test_frozen_parameters_are_no_statistics(key):
    """They are in the state, which must not turn off the noise of their layer."""
    layer = nn.freeze(nn.drop_connect(nn.dense(3), 0.5))
    held = nn.inference(layer, params=False, noise=False)
    params, state, _ = held.init(key, (4,))
    assert FROZEN in state
    chex.assert_trees_all_equal(
        trained(held, params, state, X)[0], trained(layer, params, state, X)[0]
    )


def test_the_features_of_a_held_body_do_not_change_in_training(key):
    recipe = train.recipe(nn.cast(nn.inference(NETWORK, "stem")), optim.adam(1e-2))
    data = (np.asarray(X), np.arange(16) % 3)
    start = train.run(key, recipe, data, epochs=0, batch_size=4).train_state
    done = train.run(jax.random.clone(key), recipe, data, epochs=2, batch_size=4).train_state
    chex.assert_trees_all_equal(done.state, start.state)
    assert done.params.keys() == {"head"}


def test_it_reaches_into_repeated_layers(key):
    held = nn.inference(nn.repeat(nn.chain(nn.batch_norm(), nn.dropout(0.5)), 2), statistics=False)
    params, state, _ = held.init(key, (4,))
    (y, new_state), (other, _) = (trained(held, params, state, X, key) for key in (1, 2))
    np.testing.assert_array_equal(y, other)
    assert np.all(jax.tree.leaves(new_state)[-1] != jax.tree.leaves(state)[-1])


def test_it_keeps_names_and_parts(key):
    network = nn.chain(nn.inference(nn.conv(2)), nn.inference(nn.dropout(0.5)), nn.dense(3))
    params, state, _ = network.init(key, (4, 4, 2))
    assert (list(params), list(state)) == (["dense_2"], ["conv_0"])
    assert nn.take(nn.inference(NETWORK), "head") is nn.take(NETWORK, "head")


def test_a_path_of_no_layer_raises():
    with pytest.raises(ConfigError, match=r"inference path: expected a path among .* got 'haed'"):
        nn.inference(NETWORK, "haed")
    with pytest.raises(ConfigError, match="inference statistics: expected True or False"):
        nn.inference(NETWORK, statistics=1)
