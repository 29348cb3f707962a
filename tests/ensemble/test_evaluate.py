"""Figures of an ensemble: those of its members, and of the prediction that fits the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import ensemble, nn, objective, train
from fnn.ensemble.evaluate import combination_of
from fnn.errors import ConfigError
from fnn.types import Weights

draw = np.random.default_rng(0)
X = draw.normal(size=(30, 5)).astype(np.float32)
Y = draw.integers(0, 3, 30)
TARGETS = draw.normal(size=(30, 2)).astype(np.float32)


def members(recipe, count=3):
    inits = [recipe.network.init(jax.random.key(seed), (5,)) for seed in range(count)]
    return ensemble.collect(recipe, [Weights(*init[:2]) for init in inits])


@pytest.mark.slow
def test_figures_of_members_are_those_of_train_evaluate():
    metrics = {"accuracy": objective.accuracy, "f1": objective.f1()}
    recipe = train.recipe(nn.dense(3), metrics=metrics)
    own = members(recipe)
    found = ensemble.evaluate(own, (X, Y))
    assert list(found.combined) == ["loss", "accuracy", "f1"]
    for index, member in enumerate(own):
        expected = train.evaluate(*member, (X, Y))
        for name, figure in expected.items():
            np.testing.assert_allclose(found.members[name][index], figure, rtol=1e-5)
    combined = ensemble.average_probabilities(ensemble.predict(own, X))
    loss = objective.cross_entropy(combined, Y).mean()
    np.testing.assert_allclose(found.combined["loss"], loss, rtol=1e-5)
    assert found.combined["loss"] < found.members["loss"].mean()
    assert str(found).splitlines()[0].startswith(f"loss {loss:.4g}; members")


def test_the_combination_of_a_regression_is_the_mean_or_the_mixture():
    own = members(train.recipe(nn.dense(2), loss=objective.squared_error))
    found = ensemble.evaluate(own, (X, TARGETS), batch_size=7)
    mean = np.asarray(ensemble.predict(own, X)).mean(0)
    np.testing.assert_allclose(found.combined["loss"], np.square(mean - TARGETS).mean(), rtol=1e-5)
    spread = nn.chain(nn.dense(2), nn.softplus())
    pair = nn.parallel(nn.dense(2), spread, join="tuple")
    own = members(train.recipe(pair, loss=objective.gaussian_nll))
    found = ensemble.evaluate(own, (X, TARGETS))
    moments = ensemble.mixture_moments(*ensemble.predict(own, X))
    expected = objective.gaussian_nll(moments, TARGETS).mean()
    np.testing.assert_allclose(found.combined["loss"], expected, rtol=1e-5)


def test_heads_and_weights_are_combined_by_their_loss():
    logits = jnp.asarray(draw.normal(size=(3, 4, 2)), jnp.float32)
    loss = objective.multi_task(
        {
            "digit": objective.class_weighted(objective.cross_entropy(label_smoothing=0.1), (1, 2)),
            "flags": objective.binary_cross_entropy,
            "size": objective.squared_error,
        }
    )
    found = combination_of(train.recipe(nn.dense(1), loss=loss, metrics={}).loss)(
        {"digit": logits, "flags": logits, "size": logits}
    )
    expected = ensemble.average_probabilities(logits)
    np.testing.assert_array_equal(found["digit"], expected)
    p = jax.nn.sigmoid(logits).mean(0)
    np.testing.assert_allclose(jax.nn.sigmoid(found["flags"]), p, rtol=1e-5)
    np.testing.assert_array_equal(found["size"], logits.mean(0))


def test_a_combination_can_be_given():
    own = members(train.recipe(nn.dense(3)))
    found = ensemble.evaluate(own, (X, Y), combine=lambda outputs: outputs[1])
    np.testing.assert_allclose(found.combined["loss"], found.members["loss"][1], rtol=1e-6)


def test_wrong_arguments_raise():
    recipe = train.recipe(nn.dense(3))
    with pytest.raises(ConfigError, match="evaluate members: expected Members"):
        ensemble.evaluate(recipe, (X, Y))
    with pytest.raises(ConfigError, match="evaluate combine: expected a function"):
        ensemble.evaluate(members(recipe), (X, Y), combine="votes")
    coupled = train.recipe(nn.dense(3), loss=objective.nt_xent)
    with pytest.raises(ConfigError, match="evaluate recipe: expected a loss and metrics of separ"):
        ensemble.evaluate(members(coupled), (X, Y))
