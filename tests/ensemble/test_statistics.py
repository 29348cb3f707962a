"""Refreshed statistics of batch norm against those of explicit batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fnn
from fnn import ensemble, nn, optim, train
from fnn.data.batches import permutation
from fnn.errors import ConfigError, DTypeError
from fnn.train.inputs import ORDER
from fnn.types import Layer, Weights

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(12, 5)).astype(np.float32)
Y = draw.integers(0, 3, 12)


def first_weights(recipe, shape=(5,)):
    params, state, _ = recipe.network.init(jax.random.key(0), shape)
    return Weights(params, state)


def order_of(key, examples):
    """The order of the examples in the first epoch of a run with this key."""
    return np.asarray(permutation(jax.random.fold_in(jax.random.fold_in(key, ORDER), 0), examples))


def refresh(key, recipe, weights, x=X, y=Y, batch_size=12):
    return ensemble.refresh_statistics(key, recipe, weights, (x, y), batch_size=batch_size)


NORM = train.recipe(nn.batch_norm(affine=False), loss=lambda outputs, targets: outputs[:, 0])
FOUR = np.float32([[0], [2], [10], [12]])


def key_with(pair):
    """A key whose first batch of two has these examples, in any order."""
    keys = map(jax.random.key, range(100))
    return next(key for key in keys if set(order_of(key, 4)[:2]) == pair)


def test_statistics_are_means_of_those_within_batches():
    """A pooled variance would be 26, or 34.67 without bias."""
    key = key_with({0, 1})
    given = first_weights(NORM, (1,))
    state = refresh(key, NORM, given, FOUR, FOUR, batch_size=2).state
    np.testing.assert_allclose(state["mean"], [6], rtol=1e-6)
    np.testing.assert_allclose(state["var"], [2], rtol=1e-6)
    # One batch of all examples has the pooled variance.
    state = refresh(key, NORM, given, FOUR, FOUR, batch_size=4).state
    np.testing.assert_allclose(state["mean"], [6], rtol=1e-6)
    np.testing.assert_allclose(state["var"], [104 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "ends"), [(4, [4, 8, 12]), (5, [5, 10, 12]), (11, [12]), (99, [12])]
)
def test_batches_count_by_their_sizes_and_no_batch_has_one_example(key, batch_size, ends):
    recipe = NORM
    state = refresh(key, recipe, first_weights(recipe), batch_size=batch_size).state
    parts = np.split(X[order_of(key, 12)], ends[:-1])
    mean = sum(len(part) * part.mean(0) for part in parts) / 12
    var = sum(len(part) * part.var(0, ddof=1) for part in parts) / 12
    np.testing.assert_allclose(state["mean"], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state["var"], var, rtol=1e-5)


@fnn.maker
def own_norm(norm: Layer) -> Layer:
    return norm


def twice(norm):
    return nn.chain(norm, nn.tanh(), norm)


WRAPPERS = {
    "shared": lambda norm: nn.shared(norm, twice),
    "chain": lambda norm: nn.chain(nn.dense(4), norm, nn.tanh(), nn.dense(3), norm),
    "freeze": lambda norm: nn.chain(nn.freeze(norm, "scale"), nn.dense(3)),
    "cast": lambda norm: nn.cast(norm, "float32"),
    "remat": lambda norm: nn.remat(nn.chain(norm, nn.dense(3))),
    "repeat": lambda norm: nn.repeat(nn.chain(nn.dense(5), norm), 2),
    "ensemble": lambda norm: nn.ensemble(norm, 2),
    "pretrained": lambda norm: nn.pretrained(nn.chain(norm), {}, {}),
    "maker": lambda norm: nn.chain(own_norm(norm), nn.dense(3)),
    "spectral_norm": lambda norm: nn.chain(nn.spectral_norm(nn.dense(4)), norm),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_batch_norm_within_other_layers_is_found(name, key):
    """One batch of all examples: as a step of training with a momentum of 0."""
    if name == "pretrained":
        params, state, _ = nn.chain(nn.batch_norm()).init(key, (5,))
        recipe = train.recipe(nn.pretrained(nn.chain(nn.batch_norm()), params, state))
        reference = nn.chain(nn.batch_norm(momentum=0.0))
    else:
        recipe = train.recipe(WRAPPERS[name](nn.batch_norm()))
        reference = WRAPPERS[name](nn.batch_norm(momentum=0.0))
    given = first_weights(recipe)
    recipe = recipe.replace(loss=lambda outputs, targets: jnp.zeros(len(targets)))
    found = refresh(key, recipe, given)
    _, state = reference.apply(given.params, given.state, jnp.array(X), key=key, train=True)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found.state, state
    )
    jax.tree.map(np.testing.assert_array_equal, found.params, given.params)


def test_layers_in_inference_keep_their_statistics(key):
    frozen = nn.inference(nn.batch_norm())
    recipe = train.recipe(nn.chain(frozen, nn.batch_norm(), nn.dense(3)))
    given = first_weights(recipe)
    state = refresh(key, recipe, given).state
    jax.tree.map(np.testing.assert_array_equal, state["batch_norm_0"], given.state["batch_norm_0"])
    np.testing.assert_allclose(state["batch_norm_1"]["mean"], X.mean(0), rtol=1e-4, atol=1e-6)


def test_a_network_without_state_is_returned_as_it_is(key):
    recipe = train.recipe(nn.dense(3))
    given = first_weights(recipe)
    assert refresh(key, recipe, given) is given


def half(key, image):
    return image // 2


def test_inputs_are_augmented_and_prepared_as_in_training(key):
    network = nn.chain(nn.batch_norm(), nn.flatten(), nn.dense(3))
    recipe = train.recipe(network, augment=half)
    images = draw.integers(0, 256, (12, 2, 2, 3)).astype(np.uint8)
    state = refresh(key, recipe, first_weights(recipe, (2, 2, 3)), images).state["batch_norm_0"]
    np.testing.assert_allclose(state["mean"], (images // 2).mean((0, 1, 2)) / 255, rtol=1e-5)


def test_batches_of_a_recipe_with_micro_batches_are_micro_batches(key):
    recipe = train.recipe(nn.chain(nn.batch_norm(), nn.dense(3)))
    small = recipe.replace(micro_batch_size=3)
    given = first_weights(recipe)
    one = refresh(key, small, given, batch_size=6)
    other = refresh(key, recipe, given, batch_size=3)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_the_average_of_a_run_gets_its_statistics_and_the_run_stays(key):
    network = nn.chain(nn.dense(4), nn.batch_norm(), nn.relu(), nn.dense(3))
    recipe = train.recipe(network, optim.swa(optim.sgd(0.5)))
    result = train.run(key, recipe, (X, Y), epochs=2, batch_size=4)
    before = jax.tree.map(np.array, (result.train_state.params, result.train_state.state))
    found = refresh(key, recipe, result.train_state)
    average = train.weights(recipe, result.train_state)
    jax.tree.map(np.testing.assert_array_equal, found.params, average.params)
    dense = jax.tree.map(np.asarray, average.params["dense_0"])
    hidden = X @ dense["kernel"] + dense["bias"]
    state = found.state["batch_norm_1"]
    np.testing.assert_allclose(state["mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state["var"], hidden.var(0, ddof=1), rtol=1e-4)
    after = result.train_state.params, result.train_state.state
    jax.tree.map(np.testing.assert_array_equal, before, after)
    # Lanes of weights equal single weights.
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), average)
    lanes = jax.jit(jax.vmap(lambda weights: refresh(key, recipe, weights)))(stacked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5), lanes, found)


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_members_with_numbers_and_structures_of_their_own_are_refreshed(key, backend, monkeypatch):
    """On an accelerator members are mapped, on CPU computed one after another."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    slope = train.recipe(nn.chain(nn.dense(3), nn.leaky_relu(0.1), nn.batch_norm(affine=False)))
    plain = train.recipe(nn.dense(3))
    recipes = [slope, plain, slope.replace_at("network.1.slope", 0.9)]
    given = [first_weights(recipe) for recipe in recipes]
    members = ensemble.collect(recipes, given)
    # Each backend has a program of its own.
    batch_size = {"cpu": 5, "gpu": 7}[backend]
    found = ensemble.refresh_members(key, members, (X, Y), batch_size=batch_size)
    for recipe, weights, member in zip(recipes, given, found, strict=True):
        one = refresh(key, recipe, weights, batch_size=batch_size)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), member.weights, one
        )
    assert not np.allclose(*(found[i].weights.state["batch_norm_2"]["mean"] for i in (0, 2)))


def test_wrong_arguments_raise(key):
    given = first_weights(NORM, (1,))
    with pytest.raises(ConfigError, match="refresh_statistics batch_size: expected >= 1, got 0"):
        refresh(key, NORM, given, FOUR, FOUR, batch_size=0)
    with pytest.raises(DTypeError, match=r"refresh_statistics key: expected a key from jax"):
        refresh(0, NORM, given, FOUR, FOUR)
    with pytest.raises(ConfigError, match="expected a TrainState, or Weights, got dict"):
        refresh(key, NORM, given._asdict(), FOUR, FOUR)
    with pytest.raises(ConfigError, match="refresh_statistics recipe: expected a recipe from"):
        refresh(key, NORM.network, given, FOUR, FOUR)
