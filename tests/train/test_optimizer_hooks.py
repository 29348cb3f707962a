"""Support of a run for optimizers: validation loss, loss scale, averaged parameters, value_fn."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import lab, nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.train.inputs import validate_data
from fnn.train.nonfinite import replay_to_step
from fnn.train.step import start_on_data
from fnn.types import Optimizer, Weights

pytestmark = pytest.mark.slow

draw = np.random.default_rng(0)
Y = np.arange(64, dtype=np.int32) % 3
X = np.float32(draw.normal(size=(64, 5)) + 2 * np.eye(3, 5)[Y])
data, valid = (X, Y), (X[:30] + np.float32(draw.normal(size=(30, 5))), Y[:30])
network = nn.chain(body=nn.dense(8), bend=nn.tanh(), head=nn.dense(3))
half = nn.cast(network, "float16")
ENTRIES = {"run": train.run, "fit": partial(lab.fit, show=False, chunk=3)}
every_entry = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


@every_entry
def test_plateau_receives_the_validation_loss_of_every_epoch(entry, key):
    optimizer = optim.plateau(optim.sgd(0.5), factor=0.5, patience=0, threshold=0.3)
    recipe = train.recipe(network, optimizer)
    history = entry(key, recipe, data, epochs=6, batch_size=32, valid=valid).history
    factor, best, rates = 1.0, np.inf, []
    for loss in history.valid_loss:
        rates += [0.5 * factor] * 2
        if loss < 0.7 * best:
            best = loss
        else:
            factor *= 0.5
    assert 0.5 / 2**5 < rates[-1] < 0.5
    np.testing.assert_array_equal(history.rate, np.float32(rates))


def test_replay_includes_the_updates_on_validation(key):
    """The plateau lowers the rate before the third epoch, which changes the state after it."""
    recipe = train.recipe(
        network, optim.plateau(optim.sgd(0.5), factor=0.01, patience=0, threshold=0.9)
    )
    options = {"epochs": 3, "batch_size": 32, "valid": valid, "max_steps": 5, "show": False}
    wanted, history = lab.fit(key, recipe, data, **options)
    assert history.rate[4] < 0.5
    start = start_on_data(recipe, key, data)
    found = replay_to_step(recipe, start, validate_data("data", data), valid, 32, 5)
    chex.assert_trees_all_equal(found[:4], wanted[:4])


def test_plateau_depends_on_the_loss_of_its_lane(key):
    def last_rate(factor):
        recipe = train.recipe(
            network, optim.plateau(optim.sgd(0.5), factor=factor, patience=0, threshold=0.9)
        )
        return train.run(key, recipe, data, epochs=3, batch_size=32, valid=valid).history.rate[-1]

    np.testing.assert_allclose(
        jax.jit(jax.vmap(last_rate))(jnp.array([0.5, 0.1, 1.0])), [0.25, 0.05, 0.5], rtol=1e-6
    )


@every_entry
def test_plateau_without_validation_raises(entry, key):
    recipe = train.recipe(network, optim.ema(optim.plateau(optim.sgd(0.1))))
    with pytest.raises(
        ConfigError, match=r"valid: expected validation data, whose loss optim\.plateau monitors"
    ):
        entry(key, recipe, data, epochs=1, batch_size=32)


@pytest.mark.parametrize(
    "averaging",
    [partial(optim.ema, decay=0.9), partial(optim.lookahead, steps=3)],
    ids=["ema", "lookahead"],
)
def test_validation_uses_averaged_parameters(averaging, key):
    recipe = train.recipe(network, averaging(optim.adam(0.05)))
    result = train.run(key, recipe, data, epochs=2, batch_size=16, valid=valid)
    state = result.train_state
    mean = optim.averaged_params(state.opt_state, state.params)
    own = [Weights(params, state.state) for params in (mean, state.params)]
    figures = [train.evaluate(recipe, weights, valid)["loss"] for weights in own]
    np.testing.assert_allclose(result.history.valid_loss[-1], figures[0], rtol=1e-6)
    assert abs(figures[1] - figures[0]) > 1e-3
    assert train.evaluate(recipe, state, valid)["loss"] == figures[0]
    chex.assert_trees_all_equal(train.weights(recipe, state), own[0])
    chex.assert_trees_all_equal(
        train.predict(recipe, state, valid[0]), train.predict(recipe, own[0], valid[0])
    )
    assert result.history.loss[-1] < result.history.loss[0]


@pytest.mark.usefixtures("x64")
def test_accumulated_epoch_equals_a_step_on_all_examples(key):
    whole = train.recipe(network, optim.momentum(0.1), prepare=lambda x: x.astype(float))
    parts = whole.replace(optimizer=optim.accumulate(optim.momentum(0.1), 4))
    parts, whole = (
        train.run(key, recipe, data, epochs=3, batch_size=size)
        for recipe, size in ((parts, 16), (whole, 64))
    )
    chex.assert_trees_all_close(parts.train_state.params, whole.train_state.params, rtol=1e-12)
    np.testing.assert_array_equal(parts.history.rate, [0, 0, 0, 0.1] * 3)


@every_entry
def test_loss_scale_backs_off_at_overflows_in_half_precision(entry, key):
    recipe = train.recipe(
        half, optim.loss_scale(optim.adam(0.05), 2.0**20, steps=8), on_nonfinite="skip"
    )
    result = entry(key, recipe, data, epochs=8, batch_size=32)
    finite, opt_state = np.asarray(result.history.finite), result.train_state.opt_state
    overflows = int((~finite).sum())
    assert not finite[0] and 0 < overflows < 8
    scale, row = 2.0**20, 0
    for one in finite:
        row = row + 1 if one else 0
        scale, row = (scale / 2, 0) if not one else (scale * 2, 0) if row == 8 else (scale, row)
    assert (opt_state.scale, opt_state.finite_steps, opt_state.inner.step) == (
        scale,
        row,
        finite.sum(),
    )
    assert result.history.loss[-1] < 0.5 * result.history.loss[0] < 5  # recorded without the scale
    chex.assert_tree_all_finite(result.train_state.params)


def test_loss_scale_keeps_small_gradients_in_half_precision(key):
    """Gradients of a loss times 1e-7 are below 2⁻²⁴, the smallest number of float16."""

    def loss(outputs, targets):
        return 1e-7 * objective.cross_entropy(outputs, targets)

    def kernel(network, optimizer, epochs=1):
        recipe = train.recipe(network, optimizer, loss=loss, on_nonfinite="skip")
        return train.run(key, recipe, data, epochs=epochs, batch_size=64).train_state.params[
            "body"
        ]["kernel"]

    plain = optim.sgd(1e6)
    start, exact, lost = kernel(network, plain, 0), kernel(network, plain), kernel(half, plain)
    scaled = kernel(half, optim.loss_scale(plain, 2.0**24))
    np.testing.assert_array_equal(lost, start)
    assert np.abs(exact - start).max() > 1e-3
    np.testing.assert_allclose(
        scaled - start, exact - start, atol=0.02 * np.abs(exact - start).max()
    )


@every_entry
def test_loss_scale_with_raise_raises(entry, key):
    recipe = train.recipe(half, optim.loss_scale(optim.adam(0.05)))
    with pytest.raises(
        ConfigError,
        match=r"on_nonfinite: expected skip or ignore, since optim\.loss_scale overflows",
    ):
        entry(key, recipe, data, epochs=1, batch_size=32)


def test_frozen_parts_are_bitwise_unchanged(key):
    recipe = train.recipe(
        network, optim.partition({"body": None, "*bias": optim.sgd(0.1)}, optim.adam(0.05))
    )
    start, result = (
        train.run(key, recipe, data, epochs=epochs, batch_size=16) for epochs in (0, 2)
    )
    before, after = start.train_state.params, result.train_state.params
    for name, leaf in before["body"].items():
        np.testing.assert_array_equal(
            np.asarray(leaf).view(np.uint32), np.asarray(after["body"][name]).view(np.uint32)
        )
    assert all(
        bool((before["head"][name] != after["head"][name]).all()) for name in ("kernel", "bias")
    )
    assert result.history.loss[-1] < result.history.loss[0]


def test_optimizer_receives_value_grad_and_value_fn(key):
    """Polyak steps, value / ‖g‖², by value and grad or by value_fn, are equal: so is the noise."""
    noisy = nn.chain(body=nn.dense(8), drop=nn.dropout(0.3), head=nn.dense(3))

    def by_values(grads, opt_state, params, *, value, grad):
        return polyak(value, grad), opt_state

    def by_function(grads, opt_state, params, *, value_fn):
        value, again = jax.value_and_grad(value_fn)(params)
        chex.assert_trees_all_equal_shapes_and_dtypes(again, grads)
        return polyak(value, again), opt_state

    def polyak(value, grad):
        square = sum(jnp.square(g).sum() for g in jax.tree.leaves(grad))
        return jax.tree.map(lambda g: -0.1 * value / square * g, grad)

    recipes = [
        train.recipe(noisy, Optimizer(lambda params: (), update), regularizer=objective.l2(1e-2))
        for update in (by_values, by_function)
    ]
    first, second = (train.run(key, recipe, data, epochs=2, batch_size=16) for recipe in recipes)
    chex.assert_trees_all_close(
        first.train_state.params, second.train_state.params, rtol=1e-4, atol=1e-6
    )
    assert first.history.loss[-1] < first.history.loss[0]
