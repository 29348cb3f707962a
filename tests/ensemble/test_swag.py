"""Networks of SWAG against the Gaussian that the deviations of a run define."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble, nn, optim, train
from fnn.errors import ConfigError

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
X = draw.normal(size=(12, 3)).astype(np.float32)
Y = draw.integers(0, 2, 12)
NETWORK = nn.chain(body=nn.dense(2), bend=nn.tanh(), head=nn.dense(2))


def trained(key, optimizer, epochs=4):
    recipe = train.recipe(NETWORK, optimizer)
    return recipe, train.run(key, recipe, (X, Y), epochs=epochs, batch_size=4).train_state


def flat(params):
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(params)])


def rows(members):
    leaves = jax.tree.leaves(members.weights.params)
    return np.concatenate([np.asarray(leaf).reshape(len(members), -1) for leaf in leaves], 1)


@pytest.mark.parametrize(("rank", "columns"), [(4, 4), (20, 12)])
def test_samples_have_the_covariance_of_the_deviations_also_across_layers(key, rank, columns):
    recipe, train_state = trained(key, optim.swag(optim.sgd(0.5), rank=rank))
    posterior = train_state.opt_state.posterior(train_state.params)
    deviations = np.stack(
        [flat(jax.tree.map(lambda d, k=k: d[k], posterior.deviations)) for k in range(rank)]
    )
    expected = (np.diag(flat(posterior.var)) + deviations.T @ deviations / (columns - 1)) / 2
    samples = rows(ensemble.sample_swag(key, recipe, train_state, n=20_000))
    scales = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(samples.mean(0), flat(posterior.mean), atol=0.05 * scales.max())
    covariance = np.cov(samples, rowvar=False)
    error = np.abs(covariance - expected) / np.outer(scales, scales)
    assert error.max() < 0.05
    # Layers are correlated: the biases of the two are the leaves 0 and 2.
    assert np.abs(expected / np.outer(scales, scales))[:2, 8:10].max() > 0.1


def test_samples_of_scale_zero_are_the_average_and_draws_follow_the_key(key):
    recipe, train_state = trained(key, optim.swag(optim.sgd(0.5), start=5, every=2, rank=3))
    mean = train.weights(recipe, train_state)
    members = ensemble.sample_swag(key, recipe, train_state, n=2, scale=0)
    for member in members:
        jax.tree.map(np.testing.assert_array_equal, member.weights, mean)
    few, many = (ensemble.sample_swag(key, recipe, train_state, n=n) for n in (2, 3))
    np.testing.assert_array_equal(rows(few), rows(many)[:2])
    scaled = jax.jit(lambda scale: rows_of(key, recipe, train_state, scale))(jnp.float32(0.5))
    np.testing.assert_allclose(scaled, rows(few), rtol=1e-5)
    assert len({row.tobytes() for row in rows(many)}) == 3


def rows_of(key, recipe, train_state, scale):
    members = ensemble.sample_swag(key, recipe, train_state, n=2, scale=scale)
    leaves = jax.tree.leaves(members.weights.params)
    return jnp.concatenate([leaf.reshape(2, -1) for leaf in leaves], 1)


def test_frozen_parameters_are_those_of_the_run(key):
    frozen = optim.partition({"body": None}, optim.sgd(0.5))
    recipe, train_state = trained(key, optim.swag(frozen, rank=3))
    members = ensemble.sample_swag(key, recipe, train_state, n=2)
    for member in members:
        params = member.weights.params
        jax.tree.map(np.testing.assert_array_equal, params["body"], train_state.params["body"])
        assert (params["head"]["kernel"] != train_state.params["head"]["kernel"]).any()


def test_samples_get_statistics_of_batch_norm_of_their_own(key):
    network = nn.chain(nn.dense(3), nn.batch_norm(), nn.dense(2))
    recipe = train.recipe(network, optim.swag(optim.sgd(0.5), rank=3))
    train_state = train.run(key, recipe, (X, Y), epochs=2, batch_size=4).train_state
    members = ensemble.sample_swag(key, recipe, train_state, n=3)
    refreshed = ensemble.refresh_members(key, members, (X, Y), batch_size=5)
    for before, after in zip(members, refreshed, strict=True):
        one = ensemble.refresh_statistics(key, recipe, before.weights, (X, Y), batch_size=5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after.weights, one
        )
    means = refreshed.weights.state["batch_norm_1"]["mean"]
    assert not np.allclose(means[0], means[1], rtol=1e-2)


def test_runs_without_a_distribution_raise(key):
    def sample(optimizer, **options):
        recipe = train.recipe(NETWORK, optimizer)
        return ensemble.sample_swag(key, recipe, train.start(key, recipe, (3,)), **options)

    swag = optim.swag(optim.sgd(0.1))
    parts = optim.partition({"body": swag}, swag)
    part = optim.partition({"body": swag}, optim.sgd(0.1))
    for optimizer, message in [
        (optim.swa(optim.sgd(0.1)), "expected a train state of one optim.swag .* got none"),
        (parts, "one optim.swag around the whole optimizer, got 2"),
        (part, "one optim.swag around .* got one of a part of the parameters"),
        (swag, "sample_swag train_state: expected at least 2 snapshots, got fewer"),
    ]:
        with pytest.raises(ConfigError, match=message):
            sample(optimizer, n=2)
    recipe, train_state = trained(key, optim.swag(optim.sgd(0.1), start=3), 1)
    with pytest.raises(ConfigError, match="expected at least 2 snapshots, got fewer; train longer"):
        ensemble.sample_swag(key, recipe, train_state, n=2)
    with pytest.raises(ConfigError, match="sample_swag n: expected >= 1, got 0"):
        sample(swag, n=0)
    with pytest.raises(ConfigError, match="sample_swag scale: expected a number in"):
        sample(swag, n=1, scale=-1)
    with pytest.raises(ConfigError, match="sample_swag train_state: expected a TrainState, got"):
        ensemble.sample_swag(key, recipe, train.weights(recipe, train_state), n=1)
