"""Logarithmic axes of every figure say so, and have labels at two values or more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from fnn import lab, nn, optim, search, train
from fnn.lab.plots.axis import set_log_x, set_scale
from fnn.search import HalvingTrials, LearningCurve, RateTest, brackets
from fnn.search.columns import hyperparameter_columns
from fnn.search.rate_band import find_band
from fnn.search.samplers import unit_points
from fnn.search.score import Score
from fnn.search.space import as_space
from fnn.search.trials import Trials
from fnn.types import History

STEPS = jnp.arange(1.0, 41.0)


def search_trials():
    """Trials of a rate in less than one decade, whose losses differ by powers of ten."""
    recipe = train.recipe(nn.dense(2), optim.sgd(search.log_uniform(2e-2, 9e-2)))
    space = as_space("test", recipe)
    drawn = [space.draw(point) for point in unit_points(jax.random.key(0), 12, 1)]
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    scores = np.geomspace(1e-3, 10, 12)[:, None]
    recipes = [recipe for recipe, _ in drawn]
    return Trials(space, recipes, columns, scores, {}, np.full(12, 5), Score(), {})


def halving_trials():
    epochs = np.array([9, 3, 3, *[1] * 6, 9, *[3] * 4, 9, 9, 9])
    losses = np.geomspace(1e-3, 1, 17)[:, None] / np.arange(1, 10)
    losses = np.where(np.arange(9) < epochs[:, None], losses, np.nan)
    return HalvingTrials(
        space=None,
        recipes=[None] * 17,
        hyperparameters={},
        scores=losses[np.arange(17), epochs - 1][:, None],
        histories={"valid_loss": losses[:, None]},
        epochs=epochs,
        figure=Score(),
        kept={},
        brackets=brackets(9),
        bracket=np.repeat([0, 1, 2], [9, 5, 3]),
    )


def rate_test():
    rates = np.array([0.1, 0.2, 0.4, 0.8])
    losses = np.repeat(np.array([0.9, 0.4, 0.1, 0.5])[:, None, None], 8, 2)
    band = find_band(rates, losses, np.ones((1, 8)))
    recipe = train.recipe(nn.dense(1), optim.sgd(0.1))
    return RateTest(rates, losses, np.ones((1, 8)), band, (band,), "optimizer.rate", recipe)


def learning_curve():
    sizes = np.array([100, 110, 120])
    scores = 0.1 + 3 * sizes[:, None] ** -0.5 + np.array([0, 0.01])
    return LearningCurve(sizes, scores, np.ones(3, int), np.zeros((2, 120), int), {}, Score())


FIGURES = {
    "curves": lambda: lab.plot_curves(History({"loss": 3.0 / STEPS, "rate": 0.5**STEPS})),
    "schedule": lambda: lab.plot_schedule(
        {"a": optim.cosine(1.0, steps=10), "b": optim.cosine(1e-4, steps=10)}, steps=10
    ),
    "rate_test": lambda: lab.plot_rate_test(rate_test()),
    "learning_curve": lambda: lab.plot_learning_curve(learning_curve()),
    "search": lambda: lab.plot_search(search_trials()),
    "best_of_n": lambda: lab.plot_best_of_n(search_trials()),
    "rungs": lambda: lab.plot_rungs(halving_trials()),
}


def assert_labeled(axis, labels):
    if axis.get_scale() != "log":
        return 0
    assert any("(log scale)" in label for label in labels)
    low, high = sorted(axis.get_view_interval())
    shown = [
        tick
        for tick, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
        if low <= tick <= high and label.get_text()
    ]
    assert len(shown) >= 2
    return 1


@pytest.mark.parametrize("name", FIGURES)
def test_a_logarithmic_axis_says_so_and_has_labels(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    count = 0
    # Panels that share an axis have its label once.
    labels = [axes.get_ylabel() for axes in figure.axes]
    for axes in figure.axes:
        count += assert_labeled(axes.xaxis, [axes.get_xlabel()])
        count += assert_labeled(axes.yaxis, labels)
    assert count > 0


@pytest.mark.parametrize("start", [1e-7, 1.3, 7.2, 96.0])
def test_any_range_has_labels(start):
    for ratio in (1.05, 1.3, 2, 4.1, 9, 30, 100, 1e3, 1e5, 1e12):
        axes = Figure().subplots()
        values = start * np.geomspace(1, ratio, 20)
        axes.plot(values, values)
        set_log_x(axes)
        set_scale(axes, values)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = axis.get_view_interval()
            ticks = axis.get_majorticklocs()
            inside = ((ticks >= low) & (ticks <= high)).sum()
            assert 2 <= inside <= 12, (ratio, axis)
