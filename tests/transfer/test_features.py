import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data, nn, optim, train, transfer
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.types import Weights

draw = np.random.default_rng(0)
IMAGES = draw.integers(0, 256, (7, 6, 6, 1), np.uint8)
body = nn.chain(nn.conv(3), nn.batch_norm(), nn.relu(), nn.flatten())
network = nn.chain(body=body, middle=nn.dense(5), norm=nn.relu(), head=nn.dense(4))
recipe = train.recipe(network, optim.sgd(0.1))


@pytest.fixture(scope="module")
def weights():
    params, state, _ = network.init(jax.random.key(0), (6, 6, 1))
    # Not those of initialization, which batch norm would not show.
    return Weights(params, jax.tree.map(lambda leaf: leaf + 0.5, state))


def test_features_are_the_input_of_the_head_in_inference_mode(weights):
    found = transfer.features(recipe, weights, IMAGES, batch_size=3)
    x, _ = body.apply(weights.params["body"], weights.state["body"], data.to_float(IMAGES))
    middle, _ = nn.dense(5).apply(weights.params["middle"], {}, x)
    np.testing.assert_allclose(found, jax.nn.relu(middle), rtol=1e-5, atol=1e-6)
    # The head of these features is the network.
    logits, _ = nn.dense(4).apply(weights.params["head"], {}, found)
    np.testing.assert_allclose(logits, train.predict(recipe, weights, IMAGES), rtol=1e-5, atol=1e-6)


def test_a_layer_is_chosen_by_its_path(weights):
    found = transfer.features(network, weights, IMAGES, layer="body/conv_0")
    kernel = weights.params["body"]["conv_0"]
    expected, _ = nn.conv(3).apply(kernel, {}, data.to_float(IMAGES))
    assert found.shape == (7, 6, 6, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    whole = transfer.features(network, weights, IMAGES, layer="head")
    np.testing.assert_allclose(whole, train.predict(recipe, weights, IMAGES), rtol=1e-5, atol=1e-6)


def test_inputs_and_outputs_may_be_several_arrays():
    both = nn.graph(
        a=(nn.dense(2), "x/a"), b=(nn.dense(3), "x/b"), pair=(nn.chain(), {"a": "a", "b": "b"}),
        y=(nn.chain(nn.pick("a"), nn.dense(2)), "pair"),
    )  # fmt: skip
    inputs = {"a": np.ones((5, 4), np.float32), "b": np.ones((5, 2), np.float32)}
    given = Weights(*both.init(jax.random.key(0), {"a": (4,), "b": (2,)})[:2])
    found = transfer.features(both, given, inputs, layer="pair", batch_size=2)
    assert {name: leaf.shape for name, leaf in found.items()} == {"a": (5, 2), "b": (5, 3)}


def test_a_missing_layer_raises_an_error_with_close_paths(weights):
    with pytest.raises(
        ConfigError, match=r"features layer: .*such as body/conv_0.*got 'body/cov_0'"
    ):
        transfer.features(recipe, weights, IMAGES, layer="body/cov_0")
    with pytest.raises(ConfigError, match="such as body, body/conv_0"):
        transfer.features(recipe, weights, IMAGES, layer=3)


def test_weights_of_another_network_are_refused(weights):
    other = nn.chain(body=body, middle=nn.dense(6), norm=nn.relu(), head=nn.dense(4))
    with pytest.raises(TreeMismatchError, match="features params head/kernel"):
        transfer.features(other, weights, IMAGES)
    with pytest.raises(ConfigError, match="TrainState, or Weights"):
        transfer.features(recipe, weights.params, IMAGES)
    with pytest.raises(ShapeError):
        transfer.features(recipe, weights, IMAGES[..., 0])


def test_a_network_of_several_outputs_needs_a_layer():
    heads = nn.chain(nn.dense(4), nn.parallel(a=nn.dense(2), b=nn.dense(3), join="dict"))
    given = Weights(*heads.init(jax.random.key(0), (4,))[:2])
    x = np.ones((3, 4), np.float32)
    with pytest.raises(ConfigError, match="of a network with several outputs"):
        transfer.features(heads, given, x)
    assert transfer.features(heads, given, x, layer="dense_0").shape == (3, 4)


def test_features_of_a_train_state_use_its_averaged_params():
    averaged = train.recipe(
        nn.chain(nn.dense(3), nn.relu(), nn.dense(2)), optim.ema(optim.sgd(0.5), 0.5)
    )
    x = jnp.asarray(draw.normal(size=(8, 4)), jnp.float32)
    state = train.start(jax.random.key(0), averaged, (4,))
    state, _ = train.step(averaged, state, (x, jnp.arange(8) % 2))
    found = transfer.features(averaged, state, x)
    expected = transfer.features(averaged, train.weights(averaged, state), x)
    assert (found == expected).all()
