"""Rules on parameters, their gradients and their first changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, optim, train
from fnn.diagnose.parameter_rules import (
    StepFacts,
    first_steps,
    gradient_findings,
    kernel_paths,
    symmetry_findings,
)

draw = np.random.default_rng(0)
X = draw.normal(size=(3, 20, 6)).astype(np.float32)
Y = draw.integers(0, 3, (3, 20)).astype(np.int32)


def found(network, optimizer=None):
    """Names, severity and layer of the findings of three steps."""
    recipe = train.recipe(network, optimizer or optim.sgd(0.1))
    train_state = train.start(jax.random.key(0), recipe, (6,))
    facts = jax.device_get(first_steps(recipe, train_state, (X, Y)))
    kernels = kernel_paths(network, train_state.params)
    findings = [
        *symmetry_findings(train_state.params, kernels),
        *gradient_findings(train_state, facts, kernels),
    ]
    return [(one.name, one.severity, one.layer) for one in findings]


def mlp(first=None, last=None, inner=None):
    inner = inner or nn.relu()
    return nn.chain(nn.dense(8, kernel_init=first), inner, nn.dense(3, kernel_init=last))


def blocked(x):
    return jax.lax.stop_gradient(x)


@pytest.mark.slow
def test_healthy_networks_have_no_finding():
    assert found(mlp()) == []
    # The body gets a gradient from the second step on.
    assert found(mlp(last=nn.zeros())) == []
    # Frozen parameters are meant to stay.
    assert found(nn.chain(nn.freeze(nn.dense(8)), nn.relu(), nn.dense(3))) == []
    assert found(mlp(), optim.partition({"dense_0": None}, optim.sgd(0.1))) == []
    # The rate of the first step of a warm-up is 0.
    assert found(mlp(), optim.sgd(optim.cosine(0.1, steps=9, warmup_steps=2))) == []


def test_a_branch_without_gradient_is_named():
    assert found(mlp(inner=nn.elementwise(blocked))) == [
        ("dead_parameters", "warning", "dense_0/kernel")
    ]


def test_all_units_alike_are_an_error_and_one_layer_of_them_a_warning():
    assert found(mlp(nn.constant(0.1), nn.constant(0.1)))[0][:2] == ("symmetric_init", "error")
    assert found(mlp(nn.constant(0.1))) == [("symmetric_init", "warning", "dense_0/kernel")]
    # The classes differ by their labels.
    assert found(mlp(None, nn.constant(0.1))) == []


def facts(largest, change=1.0, finite=True, rms=1.0):
    def arrays(value):
        return {path: np.full(2, size * value) for path, size in largest.items()}

    flags = np.array([True, finite])
    return StepFacts(arrays(1.0), arrays(rms), arrays(change), np.full(2, 0.1), flags)


def of_facts(known, kernels=()):
    train_state = train.start(jax.random.key(0), train.recipe(mlp(), optim.sgd(0.1)), (6,))
    findings = gradient_findings(train_state, known, list(kernels))
    return [(one.name, one.severity, one.layer) for one in findings]


def test_steps_are_judged_by_hand_made_figures():
    assert of_facts(facts({"a/kernel": 1.0, "a/bias": 1.0})) == []
    # A normalization removes the bias before it.
    assert of_facts(facts({"a/kernel": 1.0, "a/bias": 0.0})) == [
        ("dead_parameters", "info", "a/bias")
    ]
    assert of_facts(facts({"a/kernel": 0.0, "a/bias": 0.0})) == [
        ("dead_parameters", "error", "a/kernel")
    ]
    assert of_facts(facts({"a/kernel": 1.0}, change=0.0)) == [
        ("dead_parameters", "warning", "a/kernel")
    ]
    assert of_facts(facts({"a/kernel": 1.0}, finite=False)) == []


def test_gradients_that_vanish_or_explode_with_depth_have_a_warning():
    paths = ["a/kernel", "b/kernel", "c/kernel"]
    for sizes, expected in (((1, 1, 1), 0), ((1e-7, 1e-4, 1e-2), 1), ((1e2, 1, 1e-2), 1)):
        known = facts(dict(zip(paths, sizes, strict=True)))
        assert of_facts(known, paths) == [("init_profile", "warning", "a/kernel")] * expected


def test_kernels_are_in_the_order_of_the_layers():
    network = nn.chain(z=nn.dense(4), a=nn.residual(nn.dense(4)), m=nn.dense(3))
    params, _, _ = network.init(jax.random.key(0), (6,))
    assert kernel_paths(network, params) == ["z/kernel", "a/body/kernel", "m/kernel"]
    assert kernel_paths(nn.dense(3), {"kernel": jnp.zeros((6, 3))}) == ["kernel"]
