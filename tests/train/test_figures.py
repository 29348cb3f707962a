"""Figures of a run: their names, and their reduction to one value per epoch."""

import numpy as np
import pytest

from fnn import nn, objective, optim, train
from fnn.errors import ConfigError
from fnn.train.figures import (
    FINITE,
    FLAGS,
    OWN,
    RATE,
    VALID_LOSS,
    is_validation,
    summarize_epoch,
    validation_name,
)


def test_names_of_validation_have_a_prefix():
    assert validation_name("accuracy") == "valid_accuracy" and VALID_LOSS == "valid_loss"
    assert is_validation("valid_loss") and not any(map(is_validation, OWN))
    assert {FINITE} == FLAGS


def test_epoch_has_the_mean_of_its_steps_and_the_last_rate():
    values = np.array([1.0, 2.0, 6.0])
    assert summarize_epoch("loss", values) == 3
    assert summarize_epoch("anything", values) == 3
    assert summarize_epoch(RATE, values) == 6


@pytest.mark.parametrize("name", [*OWN, "valid_accuracy"])
@pytest.mark.parametrize("option", ["metrics", "measures"])
def test_reserved_names_of_metrics_and_measures_raise(name, option):
    with pytest.raises(
        ConfigError,
        match=r"recipe metrics: expected names other than loss, .* begin with valid_, got",
    ):
        train.recipe(nn.dense(3), optim.sgd(0.1), **{option: {name: objective.accuracy}})
