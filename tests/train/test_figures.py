"""Figures of a run: their names, and what an epoch makes of those of its steps."""

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
    of_epoch,
    validation,
)


def test_validation_has_the_names_of_steps_with_a_prefix():
    assert validation("accuracy") == "valid_accuracy" and VALID_LOSS == "valid_loss"
    assert is_validation("valid_loss") and not any(map(is_validation, OWN))
    assert {FINITE} == FLAGS


def test_an_epoch_has_the_mean_of_its_steps_and_the_last_rate():
    values = np.array([1.0, 2.0, 6.0])
    assert (
        of_epoch("loss", values) == 3
        and of_epoch("anything", values) == 3
        and of_epoch(RATE, values) == 6
    )


@pytest.mark.parametrize("name", [*OWN, "valid_accuracy"])
@pytest.mark.parametrize("option", ["metrics", "measures"])
def test_a_name_that_is_taken_is_no_name_of_a_metric_or_measure(name, option):
    with pytest.raises(
        ConfigError,
        match=r"recipe metrics: expected names other than loss, .* begin with valid_, got",
    ):
        train.recipe(nn.dense(3), optim.sgd(0.1), **{option: {name: objective.accuracy}})
