"""Calls of makers with arguments that do not fit: an error with the known names."""

import jax
import pytest

import fnn
from fnn import nn, objective, optim, train
from fnn.errors import ArgumentError, ConfigError
from fnn.types import Layer

CALLS = {
    "adam lr: expected one of rate, b1, .*; give rate=": lambda: optim.adam(lr=1e-3),
    "adam learning_rate: .*; give rate=": lambda: optim.adam(learning_rate=1e-3),
    "adam: expected an argument rate, got none": lambda: optim.adam(),
    "adamw decay: .*; give weight_decay=": lambda: optim.adamw(1e-3, decay=0.1),
    r"dense: expected at most 1 by position \(units\), got 2": lambda: nn.dense(64, 10),
    "conv kernel_size: .*; give kernel=": lambda: nn.conv(8, kernel_size=3),
    "dropout p: expected one of drop_rate, got 'p'; give drop_rate=": lambda: nn.dropout(p=0.5),
    "relu: expected no arguments by position, got 1": lambda: nn.relu(3),
    "batch_norm: .*; give others by name: momentum": lambda: nn.batch_norm(64),
    "recipe optimiser: .*; give optimizer=": lambda: train.recipe(nn.relu(), optimiser=None),
    "squared_error reduction: expected one of outputs, targets, got 'reduction'; leave it out": (
        lambda: objective.squared_error(reduction="mean")
    ),
    "dense units: expected it once": lambda: nn.dense(3, units=3),
}


@pytest.mark.parametrize("message", CALLS)
def test_a_call_that_does_not_fit_raises_with_the_known_names(message):
    with pytest.raises(ArgumentError, match=message) as caught:
        CALLS[message]()
    assert isinstance(caught.value, TypeError)


def test_the_order_of_arguments_by_name_does_not_matter():
    one = nn.conv(4, stride=2, kernel=5)
    other = nn.conv(kernel=5, channels=4, stride=2)
    assert one == other and repr(one) == repr(other) == "nn.conv(4, 5, stride=2)"


def test_a_type_error_within_a_maker_is_unchanged():
    @fnn.maker
    def wrong(units: int) -> Layer:
        raise TypeError("of the user")

    with pytest.raises(TypeError, match=r"^of the user$"):
        wrong(3)


@pytest.mark.parametrize("make", [nn.dense, nn.conv, nn.lstm])
def test_an_initializer_that_is_a_name_or_was_not_called_raises(make):
    message = "kernel_init: expected an initializer .*, got the maker itself; call it, as in nn.he"
    with pytest.raises(ConfigError, match=message):
        make(3, kernel_init=nn.he_normal)
    with pytest.raises(ConfigError, match=r"kernel_init: expected an initializer .*, got 'he'"):
        make(3, kernel_init="he")
    make(3, kernel_init=jax.nn.initializers.ones)
