"""Rules on untrained activations, on hand-made statistics and on networks."""

import jax
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.diagnose.activation_rules import (
    INPUT,
    LayerFacts,
    observe,
    profile_findings,
    variance_findings,
    without_noise,
)
from fnn.diagnose.structure_rules import Leaf, sequences

X = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)


def facts(deviation=1.0, mean=0.0, dead=0.0, saturated=0.0, finite=True):
    return LayerFacts(mean, deviation, deviation**2, dead, saturated, finite)


def of_layers(kind, known):
    """Findings of layers of one kind with these statistics."""
    leaves = [Leaf(f"{kind}_{index}", kind, {}) for index in range(len(known))]
    by_path = dict(zip((leaf.path for leaf in leaves), known, strict=True))
    return list(profile_findings(leaves, by_path | {INPUT: facts()}))


def test_activations_of_one_scale_have_no_finding():
    assert of_layers("relu", [facts(0.7), facts(0.5), facts(0.4), facts(0.3)]) == []
    # Two decades over forty layers are slow.
    assert of_layers("relu", [facts(s) for s in np.geomspace(1, 0.01, 40)]) == []


@pytest.mark.parametrize(("end", "verb"), [(1e-3, "shrink"), (1e3, "grow")])
def test_activations_that_change_their_scale_with_depth_have_a_warning(end, verb):
    found = of_layers("tanh", [facts(s) for s in np.geomspace(1, end, 5)[1:]])
    assert [one.name for one in found] == ["init_profile"]
    assert verb in found[0].title and found[0].layer == "tanh_3"


def test_dead_and_saturated_units_are_found_with_their_layer():
    found = of_layers("relu", [facts(), facts(dead=0.95)])
    assert [(one.severity, one.layer) for one in found] == [("warning", "relu_1")]
    assert of_layers("relu", [facts(dead=1.0)])[0].severity == "error"
    # Padded shortcuts of residuals that begin as the identity.
    assert of_layers("relu", [facts(), facts(dead=0.75)]) == []
    found = of_layers("sigmoid", [facts(saturated=0.7)])
    assert [(one.severity, one.layer) for one in found] == [("warning", "sigmoid_0")]


def observed(network, recipe=None):
    recipe = recipe or train.recipe(network, optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), recipe, (6,))
    leaves = sequences(network)[0]
    key = jax.random.key(1)
    _, found = jax.device_get(observe(recipe, train_state, X, key))
    return leaves, found


def test_statistics_are_those_of_the_outputs():
    network = nn.chain(nn.dense(8, kernel_init=nn.normal(3.0)), nn.tanh())
    leaves, found = observed(network)
    recipe = train.recipe(network, optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), recipe, (6,))
    y, _ = network.apply(train_state.params, train_state.state, X)
    y = np.asarray(y)
    assert found["tanh_1"].deviation == pytest.approx(y.std(), rel=1e-4)
    assert found["tanh_1"].variance == pytest.approx(y.var(0).mean(), rel=1e-4)
    assert found["tanh_1"].saturated == (abs(y).mean(0) > 0.85).mean()
    names = [one.name for one in profile_findings(leaves, found)]
    assert names == ["init_profile"]


@pytest.mark.parametrize(("rate", "count"), [(0.5, 1), (0.02, 0)])
def test_dropout_that_shifts_the_variance_before_batch_norm_is_measured(rate, count):
    network = nn.chain(nn.dense(32), nn.relu(), nn.dropout(rate), nn.dense(32), nn.batch_norm())
    recipe = train.recipe(network, optim.sgd(0.1))
    _, noisy = observed(network, recipe)
    _, quiet = observed(network, without_noise(recipe))
    found = list(variance_findings(network, quiet, noisy))
    assert [one.layer for one in found] == ["batch_norm_4"] * count
    if found:
        assert found[0].measured["ratio"] < 0.8
