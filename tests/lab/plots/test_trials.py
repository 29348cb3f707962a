"""Plots of a search: positions of trials, marked edges and diverged trials, scales and labels."""

import jax
import numpy as np
import pytest

from fnn import lab, nn, optim, search, train
from fnn.errors import ConfigError
from fnn.lab.plots.trials import EDGE_COLOR, NOT_CHOSEN
from fnn.search.columns import hyperparameter_columns
from fnn.search.samplers import unit_points
from fnn.search.score import Score
from fnn.search.space import as_space
from fnn.search.trials import Trials

RATES = search.log_uniform(1e-6, 1e-2)
SPACE = train.recipe(
    nn.chain(nn.dense(search.choice(8, 16)), nn.dropout(search.uniform(0, 0.5)), nn.dense(2)),
    search.choice(optim.sgd(RATES), optim.adam(1e-3)),
)
LOSS, ACCURACY = Score(), Score("valid_accuracy", -1)
UNITS, DROP, OPTIMIZER, RATE = range(4)


def planted(function, space=SPACE, count=40, seeds=2, score=LOSS):
    """Trials whose scores are a function of their positions."""
    space = as_space("test", space)
    points = unit_points(jax.random.key(0), count, len(space.distributions))
    drawn = [space.draw(point) for point in points]
    noise = np.random.default_rng(0).normal(size=(count, seeds))
    scores = function(points.T)[:, None] + 0.01 * noise
    columns = hyperparameter_columns(space, [values for _, values in drawn])
    recipes = [recipe for recipe, _ in drawn]
    return Trials(space, recipes, columns, scores, {}, np.full(count, 5), score, {})


@pytest.fixture(scope="module")
def trials():
    """Losses from 0.1 to 100 that fall with the rate; the highest dropout rates diverge."""

    def loss(u):
        return np.where(u[DROP] > 0.9, np.nan, 10 ** (2 - 3 * u[RATE]))

    return planted(loss, count=60)


def points_of(axes):
    """The points (n, 2) of a panel, without crosses and triangles at its edges."""
    drawn = [line.get_xydata() for line in axes.lines if line.get_marker() in ("o", "*")]
    return np.concatenate(drawn)


def test_each_panel_has_the_trials_at_their_values(trials):
    panels = lab.plot_search(trials).axes
    assert [axes.get_title().split("\n")[0] for axes in panels] == list(trials.hyperparameters)
    finite = ~trials.is_diverged
    drop = trials.hyperparameters["network.1.drop_rate"]
    expected = np.stack([drop, trials.mean_scores], 1)[finite]
    found = points_of(panels[DROP])
    np.testing.assert_allclose(found[found[:, 0].argsort()], expected[expected[:, 0].argsort()])
    assert panels[RATE].get_xscale() == "log" and panels[DROP].get_xscale() == "linear"
    assert panels[0].get_yscale() == "log" and "log scale" in panels[0].get_ylabel()


def test_diverged_trials_are_crosses_at_the_edge_of_worse_scores(trials):
    accuracies = planted(lambda u: np.where(u[UNITS] > 0.8, np.nan, u[DROP]), score=ACCURACY)
    for one, edge in ((trials, 1), (accuracies, 0)):
        figure = lab.plot_search(one)
        crosses = [line for line in figure.axes[DROP].lines if line.get_marker() == "x"]
        assert len(crosses) == 1
        count = one.is_diverged.sum()
        assert crosses[0].get_ydata().tolist() == [edge] * count
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert f"diverged: {count}" in labels


def test_an_interval_that_ends_too_early_is_marked(trials):
    panels = lab.plot_search(trials).axes
    assert panels[RATE].get_title() == "optimizer.sgd.rate\nwiden above 0.01"
    assert panels[RATE].lines[-1].get_color() == EDGE_COLOR
    assert "widen" not in panels[DROP].get_title()


def test_options_are_named(trials):
    panels = lab.plot_search(trials).axes
    for index, expected in ((UNITS, ["8", "16"]), (OPTIMIZER, ["optim.sgd", "optim.adam"])):
        labels = [label.get_text() for label in panels[index].get_xticklabels()]
        assert labels == expected
        nearest = np.rint(points_of(panels[index])[:, 0])
        assert set(nearest) == {0, 1}


def test_the_best_of_n_is_drawn_with_its_band(trials, tmp_path):
    target = tmp_path / "best.png"
    (axes,) = lab.plot_best_of_n(trials, target, confidence=0.8).axes
    expected, so_far = axes.lines
    np.testing.assert_allclose(expected.get_ydata(), trials.best_of_n().mean)
    assert so_far.get_ydata()[-1] == pytest.approx(trials.best.score)
    assert axes.get_legend_handles_labels()[1][0] == "80% of searches"
    assert target.read_bytes().startswith(b"\x89PNG")


def test_lines_of_parallel_coordinates_pass_through_the_positions(trials):
    (axes,) = lab.plot_parallel(trials).axes
    lines = [line.get_ydata() for line in axes.lines[: len(trials)]]
    drawn = dict(zip(trials.ranked[::-1].tolist(), lines, strict=True))
    rates, drops = trials.positions("optimizer.sgd.rate"), trials.positions("network.1.drop_rate")
    for index, line in drawn.items():
        assert line[DROP] == pytest.approx(drops[index])
        assert line[RATE] == pytest.approx(NOT_CHOSEN if np.isnan(rates[index]) else rates[index])
    # The last axis is the rank: 1 is the best.
    assert drawn[trials.best.index][-1] == 1
    assert drawn[int(trials.ranked[-1])][-1] == 0
    texts = [text.get_text() for text in axes.texts]
    assert {"1e-06", "0.01", "optim.sgd", "diverged", "not chosen"} <= set(texts)


@pytest.mark.parametrize("plot", [lab.plot_search, lab.plot_best_of_n, lab.plot_parallel])
def test_small_searches_are_drawn(plot, tmp_path):
    space = train.recipe(nn.dropout(search.normal(0.5, 0.05)), optim.sgd(search.integer(1, 3)))
    for count, seeds in ((1, 1), (2, 3)):
        target = tmp_path / f"{count}.png"
        plot(planted(lambda u: u[0], space=space, count=count, seeds=seeds), target)
        assert target.read_bytes().startswith(b"\x89PNG")
    name = plot.__name__
    with pytest.raises(ConfigError, match=f"{name}: expected the trials of a search, got"):
        plot({"score": 1})
    with pytest.raises(ConfigError, match="path: expected a suffix among"):
        plot(planted(lambda u: u[0], space=space, count=2), "x.nothing")
