"""Scores: their figure, their direction, and the order of trials."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn, objective, optim, search, train
from fnn.errors import ConfigError
from fnn.search.score import Score, find_score


def recipe(**metrics):
    metrics = metrics or {"accuracy": objective.accuracy}
    return train.recipe(nn.dense(2), optim.sgd(0.1), metrics=metrics)


def test_the_direction_is_that_of_the_figure():
    assert find_score(recipe(), "valid_loss", None, has_valid=True) == Score("valid_loss", 1)
    assert find_score(recipe(), "valid_accuracy", None, has_valid=True).sign == -1
    assert find_score(recipe(), "loss", None, has_valid=False).sign == 1
    assert find_score(recipe(), "loss", "max", has_valid=False).sign == -1


def test_the_score_is_the_figure_of_the_epoch_whose_weights_are_returned():
    figures = {"valid_loss": np.array([[3.0, 1.0, 2.0], [5.0, 4.0, np.nan]])}
    np.testing.assert_array_equal(Score().of(figures, 3), [2.0, np.nan])
    np.testing.assert_array_equal(Score().of(figures, np.array([2, 2])), [1.0, 4.0])


def test_the_accuracy_of_a_diverged_trial_is_no_score():
    figures = {
        "loss": np.array([[1.0, 1.0], [1.0, np.nan], [1.0, 1.0]]),
        "valid_loss": np.array([[1.0, 1.0], [1.0, np.nan], [np.inf, 1.0]]),
        "valid_accuracy": np.array([[0.5, 0.6], [0.5, 0.1], [0.1, 0.7]]),
    }
    accuracy = Score("valid_accuracy", -1)
    np.testing.assert_array_equal(accuracy.of(figures, 2), [0.6, np.nan, 0.7])
    np.testing.assert_array_equal(accuracy.of(figures, 1), [0.5, 0.5, np.nan])


@pytest.mark.parametrize("sign", [1, -1])
def test_scores_that_are_not_finite_come_last_in_either_direction(sign):
    scores = np.array([np.nan, 2.0, np.inf, 1.0, -np.inf, 2.0])
    order = Score("loss", sign).order(scores)
    finite = [3, 1, 5] if sign == 1 else [1, 5, 3]
    # Equal scores keep their order.
    assert order.tolist() == [*finite, 0, 2, 4]


def test_a_metric_of_a_user_needs_a_mode():
    def own(outputs, targets):
        return jnp.zeros(len(outputs))

    with pytest.raises(ConfigError, match='give mode="max"'):
        find_score(recipe(own=own), "valid_own", None, has_valid=True)
    assert find_score(recipe(own=own), "valid_own", "max", has_valid=True).sign == -1


def test_names_that_are_not_measured_raise_an_error():
    with pytest.raises(ConfigError, match="valid_loss, valid_accuracy"):
        find_score(recipe(), "valid_f1", None, has_valid=True)
    with pytest.raises(ConfigError, match="give valid="):
        find_score(recipe(), "valid_loss", None, has_valid=False)


def test_figures_of_training_are_no_scores_where_only_validation_is_read():
    X, Y = np.ones((8, 2), np.float32), np.arange(8) % 2
    one = train.recipe(nn.dense(2), optim.sgd(0.1))
    key = jax.random.key(0)
    options = {"epochs": 1, "batch_size": 2, "score": "accuracy"}
    with pytest.raises(ConfigError, match="cross_validate score: expected one of valid_loss, "):
        search.cross_validate(key, one, (X, Y), folds=2, **options)
    with pytest.raises(ConfigError, match="learning_curve score: expected one of valid_loss, "):
        search.learning_curve(key, one, (X, Y), valid=(X, Y), sizes=[4, 8], **options)
