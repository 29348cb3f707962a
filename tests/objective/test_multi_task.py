"""Tests of the multi-task loss against the sum over the heads."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.objective import cross_entropy, ignoring, multi_task, squared_error

LOSSES = {"digit": cross_entropy, "angle": squared_error}


def problem():
    draw = np.random.default_rng(0)
    outputs = {"digit": draw.normal(size=(4, 3)), "angle": draw.normal(size=(4, 2))}
    targets = {
        "digit": jnp.array(draw.integers(0, 3, 4)),
        "angle": jnp.float32(draw.normal(size=(4, 2))),
    }
    return jax.tree.map(jnp.float32, outputs), targets


def head_losses(outputs, targets):
    digit = cross_entropy(outputs["digit"], targets["digit"])
    angle = squared_error(outputs["angle"], targets["angle"])
    return digit, angle


def test_it_equals_the_weighted_sum_over_the_heads():
    digit, angle = head_losses(*problem())
    chex.assert_trees_all_close(multi_task(LOSSES)(*problem()), digit + angle, rtol=1e-6)
    chex.assert_trees_all_close(
        multi_task(LOSSES, weights={"angle": 0.3})(*problem()), digit + 0.3 * angle, rtol=1e-6
    )


def test_weights_may_be_traced():
    digit, angle = head_losses(*problem())
    values = jax.jit(jax.vmap(lambda w: multi_task(LOSSES, weights={"digit": w})(*problem())))(
        jnp.array([0.0, 2.0])
    )
    np.testing.assert_allclose(values, np.stack([angle, 2 * digit + angle]), rtol=1e-6)


def test_learned_weights_equal_the_formula_of_the_paper():
    outputs, targets = problem()
    digit, angle = head_losses(outputs, targets)
    s = jnp.broadcast_to(jnp.array([[0.5, -1.0]]), (4, 2))
    got = multi_task(LOSSES, learned=True)(outputs | {"log_variance": s}, targets)
    np.testing.assert_allclose(
        got, np.exp(-0.5) * digit + 0.25 + np.exp(1) * angle - 0.5, rtol=1e-6
    )


def test_the_learned_variance_has_its_optimum_at_twice_the_loss():
    """d/ds (exp(-s) L + s / 2) = 0 at exp(s) = 2 L."""
    outputs, targets = problem()
    s = jnp.log(2 * jnp.stack(head_losses(outputs, targets), 1))
    slope = jax.grad(
        lambda s: multi_task(LOSSES, learned=True)(outputs | {"log_variance": s}, targets).sum()
    )(s)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_a_head_that_does_not_count_for_an_example_adds_nothing():
    outputs, targets = problem()
    digit, angle = head_losses(outputs, targets)
    targets["digit"] = targets["digit"].at[1].set(-100)
    got = multi_task(LOSSES | {"digit": ignoring(cross_entropy, -100)})(outputs, targets)
    np.testing.assert_allclose(got, angle + jnp.where(jnp.arange(4) == 1, 0, digit), rtol=1e-6)


def test_a_head_with_several_values_counts_by_their_mean():
    outputs, targets = {"map": jnp.zeros((2, 3, 4))}, {"map": jnp.zeros((2, 3), jnp.int32)}
    np.testing.assert_allclose(
        multi_task({"map": cross_entropy})(outputs, targets), np.log(4), rtol=1e-6
    )


OUTPUTS, TARGETS = problem()
VARIANCES = {"log_variance": jnp.zeros((4, 1))}
ERRORS = {
    "no losses": (lambda: multi_task({}), ConfigError, "multi_task losses: expected a loss a head"),
    "no dict": (
        lambda: multi_task([cross_entropy]),
        ConfigError,
        "multi_task losses: expected a loss a head",
    ),
    "taken": (
        lambda: multi_task({"log_variance": cross_entropy}),
        ConfigError,
        "another name than log_variance",
    ),
    "weight": (
        lambda: multi_task(LOSSES, weights={"angel": 1.0}),
        ConfigError,
        r"weights: .*got \['angel'\]",
    ),
    "negative": (
        lambda: multi_task(LOSSES, weights={"angle": -1.0}),
        ConfigError,
        "multi_task weights angle",
    ),
    "missing": (
        lambda: multi_task(LOSSES)({"digit": OUTPUTS["digit"]}, TARGETS),
        TreeMismatchError,
        r"multi_task outputs: expected the heads \['digit', 'angle'\], got \['digit'\]",
    ),
    "left over": (
        lambda: multi_task(LOSSES)(OUTPUTS | VARIANCES, TARGETS),
        TreeMismatchError,
        "multi_task outputs",
    ),
    "targets": (
        lambda: multi_task(LOSSES)(OUTPUTS, TARGETS["digit"]),
        TreeMismatchError,
        "multi_task targets",
    ),
    "unlearned": (
        lambda: multi_task(LOSSES, learned=True)(OUTPUTS, TARGETS),
        TreeMismatchError,
        "log_variance",
    ),
    "variances": (
        lambda: multi_task(LOSSES, learned=True)(OUTPUTS | VARIANCES, TARGETS),
        ShapeError,
        r"log_variance: expected \(batch, heads\) \(4, 2\), got \(4, 1\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()
