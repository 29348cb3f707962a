"""The checker passes what is right and finds every planted error, however small."""

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


def test_every_leaf_is_named_and_integers_are_passed_by():
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


def test_a_gradient_that_is_zero_is_right():
    assert check(lambda x: 0 * x + 1, draw(3)).error == 0


def test_a_gradient_that_is_not_a_number_is_wrong():
    checked = check(lambda x: jnp.where(x > 10, jnp.sqrt(x - 10), x), draw(3))
    assert np.isnan(checked.error) and checked.worst == "0"


def test_a_kink_is_seen():
    assert check(jax.nn.relu, jnp.array([0.004, 1.0])).error > 1e-3
    assert check(jax.nn.relu, jnp.array([0.02, 1.0])).error < 1e-12


def test_half_precision_is_refused():
    with pytest.raises(
        DTypeError, match="check_gradients 0/kernel: expected float64, got float32; run under"
    ):
        check(lambda params: params["kernel"], {"kernel": jnp.ones(3, jnp.float32)})


@pytest.mark.parametrize("mutant", planted.MUTANTS)
def test_a_planted_error_is_found(mutant):
    assert planted.error(mutant) > GOAL


@pytest.mark.parametrize("function, args", [planted.CONV, planted.NORM])
def test_what_no_error_was_planted_in_is_right(function, args):
    assert check(function, *args).error <= GOAL
