"""Treatments: numbers of a recipe that are changed within one structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.diagnose.treatments import adjust_rate, scale_inputs, shrink, weaken, weigh_classes
from fnn.types import Optimizer

PARAMS = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}
GRADS = {"kernel": jnp.array([[0.3, 0.1]]), "bias": jnp.array([-0.2])}
NETWORK = nn.chain(nn.dense(4), nn.relu(), nn.dropout(0.5), nn.dense(3))
# Optimizers whose updates are proportional to the rate, and three whose state depends on it.
RATED = {
    "sgd": optim.sgd,
    "adamw": optim.adamw,
    "clipped momentum": lambda rate: optim.clip_by_global_norm(optim.momentum(rate), 1.0),
    "parts": lambda rate: optim.partition({"kernel": optim.adam(rate)}, default=optim.sgd(rate)),
    "schedule-free": optim.schedule_free_sgd,
    "lookahead": lambda rate: optim.lookahead(optim.sgd(rate), steps=2),
    "decay": lambda rate: optim.weight_decay(optim.sgd(rate), 0.1),
}


def parameters(optimizer, steps=4):
    params, opt_state = PARAMS, optimizer.init(PARAMS)
    for _ in range(steps):
        params, opt_state = optim.step(optimizer, GRADS, opt_state, params)
    return params


def recipe(optimizer, **options):
    return train.recipe(NETWORK, optimizer, **options)


@pytest.mark.parametrize("make", RATED.values(), ids=RATED)
def test_an_adjusted_rate_is_that_rate_in_every_optimizer(make):
    schedule = optim.linear(0.2, steps=4, floor=0.1)
    adjusted = adjust_rate(recipe(make(schedule)), 0.1).optimizer
    wanted = make(optim.linear(0.02, steps=4, floor=0.01))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        parameters(adjusted),
        parameters(wanted),
    )


def test_the_default_rate_of_a_maker_is_adjusted():
    adjusted = adjust_rate(recipe(optim.adadelta()), 0.1).optimizer
    params = parameters(adjusted), parameters(optim.adadelta(0.1))
    np.testing.assert_allclose(params[0]["kernel"], params[1]["kernel"], rtol=1e-6)


def test_an_optimizer_without_a_rate_gets_its_updates_multiplied():
    def update(grads, opt_state, params):
        return jax.tree.map(jnp.negative, grads), opt_state

    foreign = Optimizer(lambda params: (), update)
    params = parameters(adjust_rate(recipe(foreign), 0.1).optimizer, steps=1)
    np.testing.assert_allclose(params["kernel"], PARAMS["kernel"] - 0.1 * GRADS["kernel"])


def test_a_kept_rate_is_that_before_the_first_step():
    schedule = optim.piecewise([1.0, 0.1], boundaries=[3])
    rate = adjust_rate(recipe(optim.sgd(schedule)), 1.0, kept=(3, 5))["optimizer.rate"]
    values = [float(rate(jnp.int32(step))) for step in range(7)]
    np.testing.assert_allclose(values, [1, 1, 1, 1, 1, 0.1, 0.1])
    late = adjust_rate(recipe(optim.sgd(0.5)), 0.1, since=2)["optimizer.rate"]
    np.testing.assert_allclose([late(jnp.int32(step)) for step in (0, 1, 2)], [0.5, 0.5, 0.05])


def test_a_treatment_and_its_control_have_one_structure():
    own = recipe(optim.adamw(0.1), regularizer=objective.l2(0.1))
    weights = np.ones(3)
    pairs = [
        (adjust_rate(own, 1.0), adjust_rate(own, 0.1, since=3, kept=(4, 9))),
        (scale_inputs(own, 1.0), scale_inputs(own, 0.0)),
        (shrink(own, 0.0), shrink(own, 0.1)),
        (weaken(own, 1.0), weaken(own, 0.1)),
        (weigh_classes(own, weights), weigh_classes(own, 2 * weights)),
    ]
    for control, treated in pairs:
        assert jax.tree.structure(control) == jax.tree.structure(treated)
        assert control != treated and control.identity == treated.identity


def test_inputs_times_zero_have_no_information():
    images = jnp.arange(4, dtype=jnp.uint8)
    prepare = scale_inputs(recipe(optim.sgd(0.1)), 0.0).prepare
    assert not prepare(images).any()
    tokens = jnp.arange(4, dtype=jnp.int32)
    assert not prepare({"tokens": tokens})["tokens"].any()


def test_a_shrunk_step_subtracts_a_share_of_each_kernel():
    optimizer = shrink(recipe(optim.sgd(0.0)), 0.25).optimizer
    params = parameters(optimizer, steps=1)
    np.testing.assert_allclose(params["kernel"], 0.75 * PARAMS["kernel"])
    np.testing.assert_array_equal(params["bias"], PARAMS["bias"])


def test_weaker_regularization_is_weaker_dropout_decay_and_penalty():
    own = recipe(optim.adamw(0.1), regularizer=objective.l2(0.1))
    weak = weaken(own, 0.1)
    # The decay was left at its default, 0.01.
    assert weak["optimizer.weight_decay"] == pytest.approx(1e-3)
    assert weak["network.2.drop_rate"] == pytest.approx(0.05)
    assert weak.regularizer(PARAMS) == pytest.approx(0.1 * own.regularizer(PARAMS))
    wrapped = weaken(recipe(optim.weight_decay(optim.sgd(0.1), 0.2)), 0.5)
    assert wrapped["optimizer.strength"] == pytest.approx(0.1)
    assert weaken(train.recipe(nn.dense(3), optim.sgd(0.1)), 0.1) is None
