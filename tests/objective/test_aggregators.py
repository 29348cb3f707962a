"""Aggregators against closed forms, brute force and their laws."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from fnn import objective
from fnn.errors import ConfigError, DTypeError, ShapeError

CONFLICT = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
DRAW = np.random.default_rng(0)


def combined(aggregator, gradients, key=None):
    return objective.aggregate(aggregator, jnp.asarray(gradients), key=key)[0]


def jacobian(tasks=3, size=6):
    return jnp.float32(DRAW.normal(size=(tasks, size)))


# PCGrad.


def test_pcgrad_of_two_conflicting_gradients():
    """(0.5, 0.5) and (0, 1), each projected on the original of the other; their sum."""
    np.testing.assert_allclose(combined(objective.pcgrad(), CONFLICT), [0.5, 1.5], atol=1e-7)


def test_pcgrad_without_conflict_is_the_sum():
    gradients = jnp.array([[1.0, 0.0, 2.0], [0.5, 3.0, 0.0], [0.0, 1.0, 1.0]])
    got = combined(objective.pcgrad(), gradients, jax.random.key(0))
    np.testing.assert_allclose(got, gradients.sum(0), rtol=1e-6)


def test_pcgrad_of_two_tasks_conflicts_with_neither():
    gradients = jnp.float32(DRAW.normal(size=(200, 2, 3)))
    got = jax.vmap(partial(combined, objective.pcgrad()))(gradients)
    assert (jnp.einsum("bi,bki->bk", got, gradients) > -1e-5).all()


def pcgrad_by_loop(gradients, orders):
    """The algorithm of the paper, in NumPy."""
    total = 0.0
    for i, order in enumerate(orders):
        g = gradients[i].copy()
        for j in order:
            product = g @ gradients[j]
            if product < 0:
                g -= product / (gradients[j] @ gradients[j]) * gradients[j]
        total = total + g
    return total


@pytest.mark.slow
def test_pcgrad_of_three_tasks_follows_one_of_the_orders_and_depends_on_the_key():
    gradients = np.array([[1.0, 0.2, 0.0], [-1.0, 0.5, 0.3], [-0.4, -1.0, 0.1]])
    wanted = [
        pcgrad_by_loop(gradients, [first, second, third])
        for first in ([1, 2], [2, 1])
        for second in ([0, 2], [2, 0])
        for third in ([0, 1], [1, 0])
    ]
    keys = jax.random.split(jax.random.key(0), 32)
    got = np.asarray(jax.vmap(lambda key: combined(objective.pcgrad(), gradients, key))(keys))
    distance = abs(got[:, None] - np.float32(wanted)).max(-1).min(1)
    assert distance.max() < 1e-6
    assert len(np.unique(np.round(got, 4), axis=0)) > 1


def test_conflicts_of_shared_parameters_leave_those_of_a_head_as_they_are():
    body = np.array([[1.0, 0.0], [-1.0, 1.0]])
    head = np.array([[5.0, 0.0], [0.0, 7.0]])  # each task has a number of its own
    tree = {"body": jnp.asarray(body), "head": jnp.asarray(head)}
    got, _ = objective.aggregate(objective.pcgrad(("body",)), tree)
    np.testing.assert_allclose(got["body"], [0.5, 1.5], rtol=1e-6)
    np.testing.assert_allclose(got["head"], [5, 7], rtol=1e-6)
    # Of all parameters, the norms contain the heads: less is subtracted.
    whole, _ = objective.aggregate(objective.pcgrad(), tree)
    wanted = pcgrad_by_loop(np.concatenate([body, head], 1), [[1], [0]])
    np.testing.assert_allclose(np.concatenate([whole["body"], whole["head"]]), wanted, rtol=1e-5)


# MGDA.


def test_mgda_of_two_tasks_is_the_closed_form():
    for gradients in DRAW.normal(size=(20, 2, 3)):
        first, second = gradients
        share = np.clip((second - first) @ second / ((first - second) ** 2).sum(), 0, 1)
        got = combined(objective.mgda(), np.float32(gradients))
        np.testing.assert_allclose(got, share * first + (1 - share) * second, atol=1e-5)


@pytest.mark.parametrize("tasks", [3, 6])
def test_mgda_is_the_shortest_gradient_of_the_simplex(tasks):
    for seed in range(5):
        gradients = np.random.default_rng(seed).normal(size=(tasks, 8)) + 0.3
        constraint = {"type": "eq", "fun": lambda c: c.sum() - 1}
        wanted = minimize(
            lambda c, gradients=gradients: ((c @ gradients) ** 2).sum(),
            np.full(tasks, 1 / tasks),
            bounds=[(0, 1)] * tasks,
            constraints=[constraint],
            tol=1e-12,
        )
        got = combined(objective.mgda(), np.float32(gradients))
        assert abs(float((got**2).sum()) - wanted.fun) < 1e-4


def test_mgda_lowers_no_task_to_raise_another():
    """g · g_k >= ‖g‖² for every task, the optimality condition."""
    gradients = jacobian(5, 12)
    got = combined(objective.mgda(), gradients)
    assert (gradients @ got >= got @ got - 1e-3).all()


# Laws of both.


@pytest.mark.parametrize("maker", [objective.pcgrad, objective.mgda])
def test_the_order_of_the_tasks_has_no_effect(maker):
    """Of two tasks for pcgrad, which draws an order for more."""
    gradients = jacobian(2 if maker is objective.pcgrad else 4)
    wanted = combined(maker(), gradients)
    np.testing.assert_allclose(combined(maker(), gradients[::-1]), wanted, atol=1e-4)


@pytest.mark.parametrize("maker", [objective.pcgrad, objective.mgda])
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_scaled_gradients_give_the_scaled_gradient(maker, scale):
    gradients = jacobian()
    wanted = combined(maker(), gradients, jax.random.key(1)) * scale
    got = combined(maker(), gradients * scale, jax.random.key(1))
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize("maker", [objective.pcgrad, objective.mgda])
@pytest.mark.parametrize("tasks", [2, 3])
def test_gradients_of_zero_and_equal_gradients_give_finite_results_and_slopes(maker, tasks):

    @jax.jit
    @jax.value_and_grad
    def total(gradients):
        return combined(maker(), gradients, jax.random.key(0)).sum()

    for gradients in (jnp.zeros((tasks, 4)), jnp.ones((tasks, 4))):
        value, slope = total(gradients)
        assert jnp.isfinite(value) and jnp.isfinite(slope).all()


# GradNorm and DWA.


def test_gradnorm_with_constant_norms_makes_them_equal():
    """Norms 1 and 4 with alpha = 0: 1.6 · 1 = 0.4 · 4."""
    aggregator = objective.gradnorm("layer", alpha=0.0, rate=1e-3)
    gradients = {"layer": jnp.array([[1.0, 0.0], [0.0, 4.0]]), "head": jnp.ones((2, 1))}

    def step(memory, _):
        got, memory = objective.aggregate(aggregator, gradients, losses=jnp.ones(2), memory=memory)
        return memory, got

    memory, got = jax.lax.scan(step, aggregator.init(2), length=2000)
    np.testing.assert_allclose(memory["weights"], [1.6, 0.4], atol=5e-3)
    np.testing.assert_allclose(got["layer"][-1], [1.6, 1.6], atol=2e-2)
    # The weights apply to all parameters; their sum is the number of tasks.
    np.testing.assert_allclose(got["head"][-1], 2, rtol=1e-6)


def test_a_step_of_gradnorm_descends_by_the_slope_of_its_loss_with_constant_targets():
    rate, alpha = 0.01, 1.5
    aggregator = objective.gradnorm("*", alpha=alpha, rate=rate)
    norms, first = np.array([0.5, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])
    gradients = {"layer": jnp.diag(jnp.float32(norms))}
    _, memory = objective.aggregate(aggregator, gradients, losses=jnp.float32(first))
    # L(0) is that of the first step; all speeds are equal in it.
    np.testing.assert_array_equal(memory["first_losses"], first)
    weights, losses = np.float64(memory["weights"]), np.array([0.9, 1.0, 3.0])
    _, memory = objective.aggregate(
        aggregator, gradients, losses=jnp.float32(losses), memory=memory
    )
    ratio = losses / first
    target = (weights * norms).mean() * (ratio / ratio.mean()) ** alpha

    def distance(w):
        return jnp.abs(w * norms - target).sum() / norms.mean()

    moved = weights - rate * jax.jit(jax.grad(distance))(jnp.float32(weights))
    np.testing.assert_allclose(memory["weights"], moved / moved.mean(), rtol=1e-5)


def test_gradnorm_leaves_a_task_without_gradient_out():
    aggregator = objective.gradnorm("*")
    gradients = {"layer": jnp.array([[1.0], [0.0], [2.0]])}
    _, memory = objective.aggregate(aggregator, gradients, losses=jnp.array([1.0, 0.0, 2.0]))
    assert memory["first_losses"][1] == 0
    assert jnp.isfinite(memory["weights"]).all()
    np.testing.assert_allclose(memory["weights"].sum(), 3, rtol=1e-6)


def test_dwa_weighs_by_the_means_of_the_last_two_epochs():
    steps, temperature = 3, 2.0
    aggregator = objective.dwa(steps)
    losses, memory, got = DRAW.uniform(1, 2, (9, 2)), None, []
    for row in losses:
        gradient, memory = objective.aggregate(
            aggregator, jnp.eye(2), losses=jnp.float32(row), memory=memory
        )
        got.append(gradient)
    means = losses.reshape(3, steps, 2).mean(1)
    share = np.exp(means[1] / means[0] / temperature)
    np.testing.assert_allclose(got[:6], np.ones((6, 2)), rtol=1e-6)
    np.testing.assert_allclose(got[6:], np.tile(2 * share / share.sum(), (3, 1)), rtol=1e-5)


def test_dwa_leaves_a_batch_without_labels_out_of_the_mean():
    aggregator, memory = objective.dwa(2), None
    for row in ([1.0, 2.0], [3.0, 0.0]):
        _, memory = objective.aggregate(
            aggregator, jnp.eye(2), losses=jnp.array(row), memory=memory
        )
    np.testing.assert_array_equal(memory["last"], [2, 2])


ERRORS = {
    "a string": (lambda: objective.pcgrad("body"), ConfigError, "pcgrad shared: expected patterns"),
    "no pattern": (lambda: objective.mgda(()), ConfigError, "mgda shared: expected patterns"),
    "no layer": (lambda: objective.gradnorm(None), ConfigError, "gradnorm layer: expected"),
    "temperature": (lambda: objective.dwa(3, temperature=0), ConfigError, "dwa temperature"),
    "a path": (
        lambda: objective.aggregate(objective.pcgrad(("bodi",)), {"body": CONFLICT}),
        ConfigError,
        r"aggregator shared: expected a path among \['body'\], got 'bodi'",
    ),
    "no key": (
        lambda: objective.aggregate(objective.pcgrad(), jnp.ones((3, 2))),
        DTypeError,
        "pcgrad key",
    ),
    "tasks": (
        lambda: objective.aggregate(objective.pcgrad(), CONFLICT, losses=jnp.ones(3)),
        ShapeError,
        "aggregate gradients: expected arrays",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_arguments_raise(case):
    call, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        call()


def test_gradients_and_aggregators_of_other_types_raise():
    with pytest.raises(DTypeError, match="aggregate gradients: expected floating-point numbers"):
        objective.aggregate(objective.mgda(), np.int32(CONFLICT))
    with pytest.raises(ShapeError, match="aggregate gradients: expected arrays"):
        objective.aggregate(objective.mgda(), CONFLICT[:0])
    with pytest.raises(
        ConfigError, match="aggregate aggregator: expected an Aggregator, got float"
    ):
        objective.aggregate(CONFLICT, objective.mgda())
