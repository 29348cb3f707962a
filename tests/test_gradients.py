"""Gradients of every layer and loss against finite differences, in float64, at three shapes."""

import gradient_checks
import pytest
from makers import LOSSES
from planted import GOAL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]


@pytest.mark.parametrize("maker", gradient_checks.LAYERS)
def test_the_gradients_of_a_layer_are_right(maker):
    assert gradient_checks.layer_error(maker) <= GOAL


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradients_of_a_loss_are_right(loss):
    assert gradient_checks.loss_error(loss) <= GOAL
