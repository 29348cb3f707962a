"""Tests of the multi-task loss against the sum over the heads."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.objective import cross_entropy, ignoring, masked, multi_task, pcgrad, squared_error
from fnn.train.measure import mean

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


def test_the_learned_variance_has_its_optimum_at_twice_the_weighted_loss():
    """d/ds (exp(-s) w L + s / 2) = 0 at exp(s) = 2 w L: with w = 1/2 at the loss."""
    outputs, targets = problem()
    for weight in (1.0, 0.5):
        s = jnp.log(2 * weight * jnp.stack(head_losses(outputs, targets), 1))
        loss = multi_task(LOSSES, weights=dict.fromkeys(LOSSES, weight), learned=True)
        slope = jax.grad(lambda s, loss=loss: loss(outputs | {"log_variance": s}, targets).sum())(s)
        np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_learned_weights_do_not_depend_on_the_unit_of_a_loss():
    """With c times the loss, s is larger by log c, and the gradient by the outputs is the same."""
    outputs, targets = problem()
    s = jnp.log(jnp.stack(head_losses(outputs, targets), 1))

    def slope(c, s):
        loss = multi_task(LOSSES, weights={"angle": c}, learned=True)
        return jax.grad(lambda outputs: loss(outputs, targets).mean())(
            outputs | {"log_variance": s}
        )

    shift = jnp.broadcast_to(jnp.array([[0.0, jnp.log(7.0)]]), s.shape)
    wanted, got = slope(1.0, s), slope(7.0, s + shift)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, wanted)


def test_a_head_is_averaged_over_the_examples_that_it_counts_for():
    outputs, targets = problem()
    digit, angle = head_losses(outputs, targets)
    targets["digit"] = targets["digit"].at[1].set(-100)
    losses = LOSSES | {"digit": ignoring(cross_entropy, -100)}
    got = multi_task(losses, weights={"digit": 2.0})(outputs, targets)
    counts = np.array([1.0, 0.0, 1.0, 1.0])
    np.testing.assert_allclose(got.values, np.stack([2 * digit * counts, angle], 1), rtol=1e-6)
    np.testing.assert_array_equal(got.weights, np.stack([counts, np.ones(4)], 1))
    wanted = 2 * digit[counts > 0].mean() + angle.mean()
    np.testing.assert_allclose(mean(got), wanted, rtol=1e-6)


def test_a_head_without_any_label_adds_nothing():
    outputs, targets = problem()
    targets["digit"] = jnp.full(4, -100)
    losses = LOSSES | {"digit": ignoring(cross_entropy, -100)}
    for learned in (False, True):
        # Neither does the price of its variance.
        extra = {"log_variance": jnp.full((4, 2), 0.5)} if learned else {}
        got = mean(multi_task(losses, learned=learned)(outputs | extra, targets))
        angle = squared_error(outputs["angle"], targets["angle"]).mean()
        wanted = jnp.exp(-0.5) * angle + 0.25 if learned else angle
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_values_of_a_sequence_are_averaged_over_all_that_count():
    outputs = {"token": jnp.float32(np.random.default_rng(1).normal(size=(2, 3, 4)))}
    labels = jnp.array([[1, -100, -100], [0, 2, 3]])
    loss = ignoring(cross_entropy, -100)
    got = multi_task({"token": loss})(outputs, {"token": labels})
    np.testing.assert_array_equal(got.weights, [[1], [3]])
    np.testing.assert_allclose(mean(got), mean(loss(outputs["token"], labels)), rtol=1e-6)


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
    "maker": (
        lambda: multi_task(LOSSES, aggregator=pcgrad),
        ConfigError,
        "multi_task aggregator: expected an Aggregator, got the maker",
    ),
    "one head": (
        lambda: multi_task({"digit": cross_entropy}, aggregator=pcgrad()),
        ConfigError,
        "multi_task aggregator: expected None for a single head",
    ),
    "twice": (
        lambda: multi_task(LOSSES, learned=True, aggregator=pcgrad()),
        ConfigError,
        "multi_task aggregator: expected None with learned=True",
    ),
    "nested": (
        lambda: multi_task({"all": multi_task(LOSSES, aggregator=pcgrad())}),
        ConfigError,
        "multi_task losses all: expected a loss without an aggregator",
    ),
    "masked": (
        lambda: masked(multi_task(LOSSES, aggregator=pcgrad()))(OUTPUTS, (TARGETS, jnp.ones(4))),
        ConfigError,
        "loss: expected a loss with one value and one weight an example",
    ),
    "weights": (
        lambda: multi_task(LOSSES, weights=[1.0, 2.0]),
        ConfigError,
        r"multi_task weights: expected a number by head, or None, got \[1.0, 2.0\]; give a dict",
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
