"""Localization of non-finite numbers: planted at each layer, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, optim, train
from fnn.diagnose.localize import BACKWARD, FORWARD
from fnn.errors import ConfigError, NonFiniteError
from fnn.types import Layer, Number
from fnn.values import maker

INPUTS = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32)
DATA = INPUTS, (INPUTS.sum(1) > 0).astype(np.int32)
PLACES = ("planted_1", "planted_3", "planted_5")


@maker
def planted(factor: Number = 1.0, guard: Number = 1.0) -> Layer:
    """Multiply by a factor, and add a root of a guard whose derivative is 0 / 0 at a guard of 0."""

    def apply(params, state, x, *, key=None, train=False):
        root = jnp.sqrt(guard + 0 * jnp.square(x))
        return factor * x + root - jnp.sqrt(guard), state

    return Layer(lambda key, shape: ({}, {}, shape), apply)


def recipe(factors=(1.0, 1.0, 1.0), guards=(1.0, 1.0, 1.0), **options):
    # Faults are numbers, so that one program serves all of them.
    first, second, third = (planted(*pair) for pair in zip(factors, guards, strict=True))
    network = nn.chain(nn.dense(4), first, nn.dense(4), second, nn.dense(2), third)
    return train.recipe(network, optim.sgd(0.1), **options)


def localize(faulty):
    train_state = train.start(jax.random.key(0), faulty, (4,))
    return diagnose.localize(faulty, train_state, DATA, batch_size=16)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_found_in_its_layer(index, bad):
    factors = np.ones(3)
    factors[index] = bad
    found = localize(recipe(factors=factors.tolist()))
    assert (found.layer, found.direction, found.step) == (PLACES[index], FORWARD, 0)


@pytest.mark.parametrize("index", range(3))
def test_a_gradient_that_is_not_finite_is_found_in_its_layer(index):
    guards = np.ones(3)
    guards[index] = 0
    found = localize(recipe(guards=guards.tolist()))
    assert (found.layer, found.direction) == (PLACES[index], BACKWARD)
    assert np.isfinite(found.largest)


def test_a_finite_step_has_no_place():
    assert localize(recipe()) is None


def test_parameters_that_are_not_finite_are_named():
    faulty = recipe()
    train_state = train.start(jax.random.key(0), faulty, (4,))
    params = train_state.params
    params["dense_2"]["kernel"] = jnp.full_like(params["dense_2"]["kernel"], jnp.nan)
    found = diagnose.localize(faulty, train_state, DATA, batch_size=16)
    assert found.layer == "parameters params/dense_2/kernel"


@pytest.mark.slow
def test_an_examination_starts_from_the_error_of_a_run():
    faulty = recipe(guards=(1.0, 0.0, 1.0))
    with pytest.raises(NonFiniteError) as caught:
        train.run(jax.random.key(0), faulty, DATA, epochs=2, batch_size=16)
    (first, *_) = diagnose.examine(faulty, caught.value, DATA, batch_size=16)
    assert (first.id, first.layer) == ("T01", "planted_3")
    assert first.measured["direction"] == BACKWARD
    with pytest.raises(ConfigError, match="examine batch_size: expected the batch size"):
        diagnose.examine(faulty, caught.value, DATA)


@pytest.mark.slow
def test_statistics_that_overflow_are_found_in_their_layer():
    network = nn.chain(
        nn.dense(8, kernel_init=nn.normal(1e20)), nn.batch_norm(), nn.relu(), nn.dense(3)
    )
    recipe = train.recipe(network, optim.sgd(0.1), on_nonfinite="ignore")
    inputs = jax.random.normal(jax.random.key(0), (32, 4))
    state = train.start(jax.random.key(1), recipe, (4,))
    labels = jnp.zeros(32, jnp.int32)
    place = diagnose.localize(recipe, state, (inputs, labels), batch_size=32)
    assert place is not None and place.layer == "batch_norm_1"
