"""Every layer and every loss: the gradient of every number, in float64, at three shapes, against differences."""

from functools import partial

import jax
import makers
import pytest

from fnn import diagnose
from fnn.types import Layer

pytestmark = pytest.mark.usefixtures("x64")
LAYERS = [name for name in makers.CALLS if makers.kind(name) is Layer]
GOAL = 1e-9


def layer_error(maker: str, seed: int) -> diagnose.GradientCheck:
    """In training, by the params and by x where it is made of floating-point numbers."""
    layer = makers.public()[maker](**makers.CALLS[maker])
    shape, x = makers.domain(maker).draw(seed)
    params, state, _ = layer.init(jax.random.key(seed), shape)

    def through(params, x):
        return layer.apply(params, state, x, key=jax.random.key(2), train=True)[0]

    return diagnose.check_gradients(jax.random.key(3), through, params, x)


def loss_error(loss: str, seed: int) -> diagnose.GradientCheck:
    outputs, targets = makers.batch_for(loss, seed)
    return diagnose.check_gradients(jax.random.key(3), partial(by_outputs, loss, targets), outputs)


def by_outputs(loss: str, targets, outputs):
    return makers.public()[loss](outputs, targets)


@pytest.mark.parametrize("maker", LAYERS)
def test_the_gradients_of_a_layer_are_right(maker):
    checked = [layer_error(maker, seed) for seed in range(3)]
    assert max(check.error for check in checked) <= GOAL, checked


@pytest.mark.parametrize("loss", makers.LOSSES)
def test_the_gradients_of_a_loss_are_right(loss):
    checked = [loss_error(loss, seed) for seed in range(3)]
    assert max(check.error for check in checked) <= GOAL, checked
