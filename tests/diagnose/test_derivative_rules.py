"""Gradient check of a user's own layers and loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.diagnose.derivative_rules import derivative_findings

draw = np.random.default_rng(0)
X = draw.normal(size=(8, 6)).astype(np.float32)
LABELS = np.arange(8, dtype=np.int32) % 3
OUTPUTS = draw.normal(size=(8, 3)).astype(np.float32)


@jax.custom_vjp
def right(x):
    return jnp.tanh(x)


@jax.custom_vjp
def wrong(x):
    return jnp.tanh(x)


def forward(x):
    return jnp.tanh(x), x


right.defvjp(forward, lambda x, g: (g * (1 - jnp.tanh(x) ** 2),))
wrong.defvjp(forward, lambda x, g: (g * (1 - jnp.tanh(x)),))


def straight_through(x):
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def right_loss(outputs, labels):
    return objective.cross_entropy(right(outputs), labels)


def wrong_loss(outputs, labels):
    return objective.cross_entropy(wrong(outputs), labels)


def unbounded_loss(outputs, labels):
    """A loss without a part of this library, which stops the gradient of a sum that rounds."""
    picked = jnp.take_along_axis(wrong(outputs), labels[:, None], 1)
    return -picked[:, 0]


def found(function, loss=objective.cross_entropy):
    network = nn.chain(nn.dense(4), nn.residual(nn.elementwise(function)), nn.dense(3))
    recipe = train.recipe(network, optim.sgd(0.1), loss=loss)
    findings = derivative_findings(jax.random.key(0), recipe, X, OUTPUTS, LABELS)
    return [(one.name, one.severity, one.layer) for one in findings]


@pytest.mark.slow
def test_right_derivatives_have_no_finding():
    assert found(right, right_loss) == []
    # Automatic derivatives are not checked, and neither are those that are 0 on purpose.
    assert found(jnp.sin) == []
    assert found(straight_through) == []


@pytest.mark.slow
def test_wrong_derivatives_are_an_error_with_their_place():
    assert found(wrong) == [("wrong_gradient", "error", "residual_1/body")]
    assert found(jnp.sin, unbounded_loss) == [("wrong_gradient", "error", "loss")]
    # Cross-entropy stops a gradient, so that the cause is not certain.
    assert found(jnp.sin, wrong_loss) == [("wrong_gradient", "info", "loss")]
