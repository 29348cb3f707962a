"""check_gradients passes correct gradients and finds every planted error, also small ones."""

import jax
import jax.numpy as jnp
import numpy as np
import planted
import pytest
from planted import GOAL, check, draw

from fnn import nn, objective
from fnn.errors import DTypeError

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("power", range(1, 7))
def test_differences_are_exact_for_polynomials_to_the_sixth_degree(power):
    assert check(lambda x: x**power, draw(5)).error < 1e-12


@pytest.mark.slow
def test_all_float_leaves_are_named_and_integers_are_skipped():
    network = nn.chain(nn.dense(3), nn.tanh(), head=nn.dense(2))
    params, state, _ = network.init(jax.random.key(1), (4,))
    checked = check(
        lambda params, x, labels: objective.cross_entropy(
            network.apply(params, state, x)[0], labels
        ),
        params,
        draw(5, 4),
        jnp.array([0, 1, 1, 0, 1]),
    )
    assert set(checked.errors) == {
        "0/dense_0/bias",
        "0/dense_0/kernel",
        "0/head/bias",
        "0/head/kernel",
        "1",
    }
    assert checked.error <= GOAL and checked.worst in checked.errors


def test_zero_gradient_passes():
    assert check(lambda x: 0 * x + 1, draw(3)).error == 0


def test_nan_gradient_fails():
    checked = check(lambda x: jnp.where(x > 10, jnp.sqrt(x - 10), x), draw(3))
    assert np.isnan(checked.error) and checked.worst == "0"


def test_kink_within_a_step_fails():
    assert check(jax.nn.relu, jnp.array([0.004, 1.0])).error > 1e-3
    assert check(jax.nn.relu, jnp.array([0.02, 1.0])).error < 1e-12


def test_float32_raises():
    with pytest.raises(
        DTypeError, match="check_gradients 0/kernel: expected float64, got float32; run under"
    ):
        check(lambda params: params["kernel"], {"kernel": jnp.ones(3, jnp.float32)})


@pytest.mark.parametrize("mutant", planted.MUTANTS)
def test_planted_errors_are_found(mutant):
    assert planted.error(mutant) > GOAL


@pytest.mark.parametrize("function, args", [planted.CONV, planted.NORM])
def test_functions_without_planted_errors_pass(function, args):
    assert check(function, *args).error <= GOAL
