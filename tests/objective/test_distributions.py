"""The divergence of distributions is held to SciPy and to cross-entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr, softmax

from fnn.errors import DTypeError, ShapeError
from fnn.objective import cross_entropy, kl_divergence

float64 = pytest.mark.usefixtures("x64")


def problem():
    draw = np.random.default_rng(0)
    q = draw.dirichlet(np.ones(4), size=3)
    q[0] = [0, 0.25, 0.75, 0]
    return 3 * draw.normal(size=(3, 4)), q


@float64
def test_it_is_the_relative_entropy():
    logits, q = problem()
    wanted = rel_entr(q, softmax(logits, -1)).sum(-1)
    np.testing.assert_allclose(kl_divergence(jnp.array(logits), jnp.array(q)), wanted, rtol=1e-13)


@float64
def test_by_the_logits_its_gradient_is_that_of_cross_entropy():
    logits, q = (jnp.array(array) for array in problem())
    ours, theirs = (jax.grad(lambda x, loss=loss: loss(x, q).sum())(logits) for loss in (kl_divergence, cross_entropy))
    np.testing.assert_allclose(ours, theirs, atol=1e-15)


@float64
def test_it_is_zero_with_zero_slope_where_they_agree():
    _, q = problem()
    log_q = jnp.log(jnp.array(q[1:]))
    np.testing.assert_allclose(kl_divergence(log_q, jnp.array(q[1:])), 0, atol=1e-15)
    np.testing.assert_allclose(jax.grad(lambda x: kl_divergence(x, jnp.array(q[1:])).sum())(log_q), 0, atol=1e-15)


@pytest.mark.parametrize("row", [[0.0, 0, 0], [0.7, 0.7, 0], [1.1, -0.1, 0], [np.nan, 0.5, 0.5]])
def test_what_is_no_distribution_is_an_alarm(row):
    targets = jnp.array([[0.2, 0.3, 0.5], row])
    assert np.isnan(jax.jit(kl_divergence)(jnp.ones((2, 3)), targets)).tolist() == [False, True]
    if min(row) >= 0:
        gradient = jax.jit(jax.grad(lambda x: kl_divergence(x, targets).sum()))(jnp.ones((2, 3)))
        assert np.isnan(gradient).tolist() == [[False] * 3, [True] * 3]


@pytest.mark.parametrize(
    ("targets", "error"), [(jnp.array([0, 1]), ShapeError), (jnp.ones((2, 3), jnp.int32), DTypeError)]
)
def test_labels_are_told(targets, error):
    with pytest.raises(error, match="targets: expected"):
        kl_divergence(jnp.ones((2, 3)), targets)
