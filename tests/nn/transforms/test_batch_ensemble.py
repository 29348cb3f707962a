"""BatchEnsemble against networks with the kernels W ∘ (r sᵀ), written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble, nn, optim, train
from fnn.errors import ConfigError, ShapeError, TreeMismatchError

draw = np.random.default_rng(0)
IMAGES = jnp.asarray(draw.normal(size=(6, 5, 5, 2)), jnp.float32)
N = 3


def network():
    return nn.chain(
        nn.conv(4), nn.batch_norm(), nn.relu(), nn.global_avg_pool(), nn.dense(5, use_bias=False),
        nn.tanh(), nn.dense(3),
    )  # fmt: skip


def spread(tree, seed=1):
    """The tree with noise, so that no bias is 0."""
    noise = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.3 * noise.normal(size=leaf.shape).astype("f"), tree)


def member_params(params, index):
    """The params of a plain network that is member i."""
    plain = {}
    for name, part in params.items():
        if "kernel" not in part:
            plain[name] = part
            continue
        r, s = part["input_scale"][index], part["output_scale"][index]
        plain[name] = {"kernel": jnp.asarray(np.asarray(part["kernel"]) * np.outer(r, s))}
        if "bias" in part:
            plain[name]["bias"] = part["bias"][index]
    return plain


@pytest.mark.slow
def test_members_are_networks_of_scaled_kernels(key):
    layer = nn.batch_ensemble(network(), N, join="members")
    params, state, out_shape = layer.init(key, (5, 5, 2))
    assert out_shape == (N, 3)
    params = spread(params)
    y, _ = layer.apply(params, state, IMAGES)
    assert y.shape == (6, N, 3)
    for index in range(N):
        own = member_params(params, index)
        expected, _ = network().apply(own, state, IMAGES)
        np.testing.assert_allclose(y[:, index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_example_trains_one_member(key):
    layer = nn.batch_ensemble(nn.dense(4), N, join="mean")
    params, state, _ = layer.init(key, (5,))
    params = spread(params)
    x = jnp.asarray(draw.normal(size=(7, 5)), jnp.float32)
    y, _ = layer.apply(params, state, x, train=True)
    several, _ = nn.batch_ensemble(nn.dense(4), N, join="members").apply(params, state, x)
    np.testing.assert_allclose(y, np.asarray(several)[range(7), np.arange(7) % N], rtol=1e-5)
    mean, _ = layer.apply(params, state, x)
    np.testing.assert_allclose(mean, several.mean(1), rtol=1e-5, atol=1e-6)
    logits, _ = nn.batch_ensemble(nn.dense(4), N, join="probabilities").apply(params, state, x)
    expected = ensemble.average_probabilities(jnp.moveaxis(several, 1, 0))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)


def test_one_member_with_factors_of_1_is_the_plain_layer(key):
    layer = nn.batch_ensemble(nn.dense(4), 1, join="members", std=0.0)
    params, _, _ = layer.init(key, (5,))
    assert (params["input_scale"] == 1).all() and (params["output_scale"] == 1).all()
    plain, _, _ = nn.dense(4).init(jax.random.fold_in(key, 0), (5,))
    np.testing.assert_array_equal(params["kernel"], plain["kernel"])
    x = jnp.ones((2, 5))
    y, _ = layer.apply(params, {}, x, train=True)
    np.testing.assert_array_equal(y[:, 0], nn.dense(4).apply(plain, {}, x)[0])


def test_a_member_costs_inputs_and_twice_the_outputs(key):
    layer = nn.batch_ensemble(nn.conv(6, 3), 4, join="mean")
    params, _, _ = layer.init(key, (5, 5, 2))
    sizes = {name: leaf.size for name, leaf in params.items()}
    assert sizes.pop("kernel") == 3 * 3 * 2 * 6
    assert sum(sizes.values()) == 4 * (2 + 6 + 6)


def test_factors_are_normal_or_random_signs(key):
    def scales(**options):
        params, _, _ = nn.batch_ensemble(nn.dense(50), 40, join="mean", **options).init(key, (50,))
        return np.concatenate([params["input_scale"], params["output_scale"]])

    normal = scales()
    assert abs(normal.mean() - 1) < 0.03 and abs(normal.std() - 0.5) < 0.03
    signs = scales(std=None)
    assert set(np.unique(signs)) == {-1, 1} and abs(signs.mean()) < 0.05


@pytest.mark.slow
def test_it_trains_in_a_recipe_and_exposes_its_members(key):
    x = draw.normal(size=(24, 5)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    body = nn.chain(nn.dense(8), nn.relu(), nn.dense(2))
    recipe = train.recipe(nn.batch_ensemble(body, N, join="probabilities"), optim.adam(0.05))
    result = train.run(key, recipe, (x, y), epochs=20, batch_size=6, valid=(x, y))
    assert result.history.valid_loss[-1] < 0.5 * result.history.valid_loss[0]
    several = recipe.replace(network=nn.batch_ensemble(body, N, join="members"))
    weights = train.weights(recipe, result.train_state)
    outputs = jnp.moveaxis(train.predict(several, weights, x), 1, 0)
    expected = train.predict(recipe, weights, x)
    np.testing.assert_allclose(ensemble.average_probabilities(outputs), expected, rtol=1e-4)


def test_parts_are_layers_of_members(key):
    body = nn.chain(nn.dense(8), nn.relu(), nn.dense(2))
    layer = nn.batch_ensemble(body, N, join="mean")
    params, state, _ = layer.init(key, (5,))
    x = jnp.ones((6, 5))
    first = nn.take(layer, "dense_0")
    expected, _ = first.apply(params["dense_0"], {}, jnp.repeat(x, N, 0))
    (_, taps), _ = nn.tap(layer, "dense_0").apply(params, state, x)
    np.testing.assert_allclose(taps["dense_0"], expected, rtol=1e-6)


def test_wrong_networks_and_arrays_raise(key):
    with pytest.raises(ConfigError, match="batch_ensemble join: expected one of probabilities"):
        nn.batch_ensemble(nn.dense(3), 2, join="sum")
    with pytest.raises(ConfigError, match="batch_ensemble network: expected one with a kernel"):
        nn.batch_ensemble(nn.relu(), 2, join="mean").init(key, (3,))
    with pytest.raises(ConfigError, match="layers whose params are kernel and bias, got lstm"):
        nn.batch_ensemble(nn.lstm(3), 2, join="mean").init(key, (4, 3))
    layer = nn.batch_ensemble(nn.dense(3), 2, join="mean")
    params, state, _ = layer.init(key, (5,))
    with pytest.raises(ShapeError, match=r"batch_ensemble x: expected \(batch, ..., 5\)"):
        layer.apply(params, state, jnp.ones((2, 4)))
    with pytest.raises(TreeMismatchError, match=r"input_scale: expected shape \(3, 5\)"):
        nn.batch_ensemble(nn.dense(3), 3, join="mean").apply(params, state, jnp.ones((2, 5)))
