"""Implicit hypergradients against closed forms of ridge regression and unrolled runs."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, search, train
from fnn.errors import ConfigError

pytestmark = pytest.mark.slow

rows, columns = 20, 3
x = np.random.default_rng(0).normal(size=(rows, columns))
y = x @ np.array([1.0, -2.0, 0.5]) + 0.3 * np.random.default_rng(1).normal(size=rows)
valid_x = np.random.default_rng(2).normal(size=(12, columns))
valid_y = valid_x @ np.array([1.0, -2.0, 0.5])
options = {"epochs": 400, "batch_size": rows}


def ridge(strength=0.05, optimizer=None, **changes):
    return train.recipe(
        nn.dense(1, use_bias=False),
        optim.sgd(0.2) if optimizer is None else optimizer,
        loss=objective.squared_error,
        regularizer=objective.l2(strength),
        **changes,
    )


def given():
    return (x, y[:, None]), {"valid": (valid_x, valid_y[:, None]), **options}


def closed_form(strength=0.05):
    """d valid_loss / d strength of the minimum of mean (x w - y)² + strength Σ w²."""
    matrix = x.T @ x / rows + strength * np.eye(columns)
    w = np.linalg.solve(matrix, x.T @ y / rows)
    slope = -np.linalg.solve(matrix, w)
    return 2 * ((valid_x @ w - valid_y)[:, None] * valid_x).mean(0) @ slope


STRENGTH = "regularizer.strength"


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_ridge_equals_its_closed_form(x64, key, solver):
    examples, rest = given()
    mode = search.implicit(solver=solver, iterations=200, rate=0.2)
    found = search.hypergradient(key, ridge(), examples, paths=[STRENGTH], mode=mode, **rest)
    np.testing.assert_allclose(found.gradient[STRENGTH], closed_form(), rtol=1e-9)
    assert (found.mode, found.steps, found.is_biased) == ("implicit", 0, False)
    assert found.residual < 1e-9


def test_ridge_equals_the_unrolled_run(x64, key):
    examples, rest = given()
    found = search.hypergradient(key, ridge(), examples, paths=[STRENGTH], mode="forward", **rest)
    np.testing.assert_allclose(found.gradient[STRENGTH], closed_form(), rtol=1e-9)


def test_batches_that_do_not_divide_the_data_change_nothing(x64, key):
    """The objective is the mean over all examples: full batches of 8 and a rest of 4."""
    examples, rest = given()
    short = ridge(optimizer=optim.sgd(optim.cosine(0.1, steps=800)))
    full, small = (
        search.hypergradient(
            key, short, examples, paths=[STRENGTH], mode="implicit", **rest | {"batch_size": size}
        )
        for size in (rows, 8)
    )
    # With batches of a part of the data, the run ends near the solution, not at it.
    assert full.residual < small.residual
    assert small.is_biased
    np.testing.assert_allclose(small.gradient[STRENGTH], full.gradient[STRENGTH], rtol=0.2)


def test_a_run_that_has_not_converged_is_biased(key):
    examples, rest = given()
    found = search.hypergradient(
        key, ridge(), examples, paths=[STRENGTH], mode="implicit", **rest | {"epochs": 2}
    )
    assert found.is_biased and found.residual > 1e-3


def test_frozen_parameters_are_constants(x64, key):
    """Of two layers one is frozen, so that the Hessian matrix has zeros."""
    network = nn.chain(fixed=nn.dense(3, use_bias=False), free=nn.dense(1, use_bias=False))
    frozen = optim.partition({"fixed": None}, optim.sgd(0.05))
    recipe = ridge(optimizer=frozen).replace(network=network)
    examples, rest = given()
    found = {
        mode: search.hypergradient(
            key, recipe, examples, paths=[STRENGTH], mode=mode, **rest | {"epochs": 3000}
        )
        for mode in ("implicit", "forward")
    }
    slopes = [one.gradient[STRENGTH] for one in found.values()]
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-6)


REFUSED = {
    "a learning rate": ({"paths": ["optimizer.rate", STRENGTH]}, "optimizer.rate, by which"),
    "a momentum": (
        {
            "recipe": ridge(optimizer=optim.momentum(0.1, momentum=0.9)),
            "paths": ["optimizer.momentum"],
        },
        "optimizer.momentum, by which",
    ),
    "all numbers": (
        {},
        'optimizer.rate, by which the derivative would be 0; give mode="reverse", '
        f"or paths=('{STRENGTH}',)",
    ),
    "an initializer": (
        {
            "recipe": ridge().replace(network=nn.dense(1, kernel_init=nn.normal(0.3))),
            "paths": ["network.kernel_init.std"],
        },
        "network.kernel_init.std, by which",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_numbers_that_the_solution_does_not_depend_on_are_refused(case, key):
    changes, message = REFUSED[case]
    examples, rest = given()
    arguments = {"recipe": ridge(), "mode": "implicit"} | rest | changes
    recipe = arguments.pop("recipe")
    with pytest.raises(ConfigError, match="numbers whose effect implicit mode can find") as caught:
        search.hypergradient(key, recipe, examples, **arguments)
    assert message in str(caught.value)


def history_alone(recipe, result):
    return result.history.valid_loss[-1]


def test_a_score_of_the_history_is_refused(key):
    examples, rest = given()
    with pytest.raises(ConfigError, match="a function of the last parameters of the run"):
        search.hypergradient(
            key, ridge(), examples, paths=[STRENGTH], mode="implicit", score=history_alone, **rest
        )


WRONG = {
    "solver": {"solver": "lu"},
    "iterations": {"iterations": 0},
    "damping": {"damping": -1.0},
    "rate": {"rate": 0.0},
    "tolerance": {"tolerance": jnp.inf},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options_raise(name):
    with pytest.raises(ConfigError, match=f"implicit {name}"):
        search.implicit(**WRONG[name])


def test_damping_shrinks_the_implicit_part(x64, key):
    examples, rest = given()
    slopes = [
        search.hypergradient(
            key, ridge(), examples, paths=[STRENGTH], mode=search.implicit(damping=damping), **rest
        ).gradient[STRENGTH]
        for damping in (0.0, 10.0)
    ]
    assert 0 < abs(slopes[1]) < 0.5 * abs(slopes[0])
    assert jnp.sign(slopes[0]) == jnp.sign(slopes[1])
