"""The picture of a run: that it is there whole, shows what the history holds, and refuses what cannot be drawn."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fnn import lab, optim
from fnn.errors import ConfigError, ShapeError
from fnn.lab.plots.curves import TRAIN_COLOR, VALID_COLOR, drops
from fnn.types import History

steps, epochs = jnp.arange(1.0, 41.0), jnp.arange(1.0, 5.0)
history = History(
    {
        "loss": 2.0 / steps,
        "accuracy": 1 - 1.0 / steps,
        "rate": jnp.linspace(1, 0, 40),
        "finite": jnp.ones(40, bool),
        "valid_accuracy": 1 - 0.5 / epochs,
        "valid_loss": 1.0 / epochs,
    }
)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)


def test_a_picture_shows_validation_if_there_is_any(tmp_path):
    target = tmp_path / "curves.png"
    color = np.array([int(VALID_COLOR[i : i + 2], 16) for i in (1, 3, 5)])
    assert len(lab.plot_curves(history, target).axes) == 3  # the figure is given all the same
    assert (pixels(target) == color).all(1).any()
    without = History(
        {name: values for name, values in history.items() if not name.startswith("valid_")}
    )
    lab.plot_curves(without, target)
    assert not (pixels(target) == color).all(1).any()


def test_lanes_are_drawn_as_one_population(tmp_path):
    lanes = History({name: jnp.stack([values, values]) for name, values in history.items()})
    target = tmp_path / "curves.png"
    shapes = []
    for one in (history, lanes):
        lab.plot_curves(one, target)
        shapes.append(pixels(target).shape)
    assert shapes[0] == shapes[1]


def test_nothing_is_left_beside_the_picture(tmp_path):
    lab.plot_curves(history, tmp_path / "curves.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.svg"]


def panels(history):
    return {axes.get_title(): axes for axes in lab.plot_curves(history).axes}


def line(axes, label):
    (found,) = (one for one in axes.lines if one.get_label().startswith(label))
    return found


def test_without_a_path_the_figure_is_given_and_a_notebook_shows_it():
    figure = lab.plot_curves(history)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_average_moves_over_the_points():
    axes = panels(history)["loss"]
    points, average = axes.lines[0], line(axes, "training, mean of 2 steps")
    np.testing.assert_array_equal(points.get_ydata(), history.loss)
    np.testing.assert_allclose(
        average.get_ydata(), (history.loss[1:] + history.loss[:-1]) / 2, rtol=1e-6
    )
    np.testing.assert_array_equal(average.get_xdata(), steps[1:])


def test_a_long_run_is_averaged_at_as_many_places_as_can_be_seen():
    loss = np.random.default_rng(0).normal(size=20_000) + 10
    average = line(panels(History({"loss": loss}))["loss"], "training, mean of 1000 steps")
    x, y = average.get_data()
    assert len(x) == 500 and (x[0], x[-1]) == (501, 19_501)
    np.testing.assert_allclose([y[0], y[-1]], [loss[:1000].mean(), loss[-1000:].mean()])


def test_the_best_epoch_is_that_of_the_lowest_validation_loss():
    told = dict(history) | {"valid_loss": jnp.array([1.0, 0.25, jnp.nan, 0.5])}
    for name, value in (("loss", 0.25), ("accuracy", 0.75)):
        star = line(panels(History(told))[name], "best epoch")
        assert star.get_label() == f"best epoch, 2: {value}"
        assert (star.get_xdata(), star.get_ydata()) == (20, value)


def test_a_rate_that_drops_is_marked_in_every_panel():
    told = dict(history) | {
        "rate": jnp.repeat(jnp.array([1.0, 0.1, 0.09]), jnp.array([10, 20, 10]))
    }
    for axes in panels(History(told)).values():
        (mark,) = (one for one in axes.lines if one.get_linewidth() == 0.8)
        assert set(mark.get_xdata()) == {11}
    mark = line(axes, "dropped")
    assert (mark.get_xdata(), mark.get_ydata()) == (11, pytest.approx(0.1))


@pytest.mark.parametrize(("schedule", "wanted"), [
    (optim.cosine(0.1, steps=100), []),
    (optim.one_cycle(0.1, steps=100), []),
    (optim.linear(0.1, steps=100), []),
    (optim.exponential_decay(0.1, steps=1, factor=0.5), []),
    (optim.step_decay(0.1, steps=30, factor=0.5), [31, 61, 91]),
    (optim.piecewise([0.1, 0.09, 0.01, 0.0], boundaries=[20, 50, 80]), [51, 81]),
])  # fmt: skip
def test_steps_are_drops_and_smooth_descents_are_none(schedule, wanted):
    rates = np.array([[schedule(jnp.int32(step)) for step in range(100)]])
    assert drops(rates).tolist() == wanted
    assert drops(np.concatenate([rates, np.ones((1, 100))])).tolist() == []
    assert drops(np.concatenate([rates, np.full((1, 100), np.nan)])).tolist() == wanted


def test_a_lane_that_is_lost_hides_no_other():
    lanes = {name: jnp.stack([values, values]) for name, values in history.items()}
    lanes["loss"] = lanes["loss"].at[1, 20:].set(jnp.nan)
    lanes["valid_loss"] = lanes["valid_loss"].at[1, 2:].set(jnp.inf)
    lanes["accuracy"] = (
        lanes["accuracy"].at[1, 20:].set(0.1)
    )  # of which more is told than of the loss
    shown = panels(History(lanes))
    axes = shown["loss, 1 of 2 runs left"]
    assert axes.get_yscale() == "log"
    for end in (
        line(shown["accuracy"], "training").get_ydata()[-1],
        line(shown["accuracy"], "validation").get_ydata()[-1],
    ):
        assert end > 0.8
    np.testing.assert_allclose(line(axes, "validation").get_ydata(), history.valid_loss)
    pairs = [
        own[np.isfinite(own)] for own in np.split(np.asarray(lanes["loss"][:, :40]), 20, axis=1)
    ]
    average = line(axes, "training").get_ydata()[::2]
    np.testing.assert_allclose(average, [pair.mean() for pair in pairs], rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "scale"), [((2.0, 1.0), "linear"), ((2.0, 0.1), "log"), ((2.0, -1.0), "linear")]
)
def test_a_loss_that_falls_far_is_shown_by_its_logarithm(values, scale):
    for name in ("loss", "valid_loss"):
        told = {"loss": jnp.array([2.0, 1.0]), "valid_loss": jnp.ones(1)} | {
            name: jnp.array(values)
        }
        axes = panels(History(told))["loss"]
        assert axes.get_yscale() == scale


def test_rates_that_differ_far_are_shown_by_their_logarithms():
    for low, scale in ((0.05, "linear"), (1e-4, "log")):
        rates = jnp.stack([jnp.linspace(0, 0.1, 40), jnp.linspace(0, low, 40)])
        lanes = {name: jnp.stack([values, values]) for name, values in history.items()} | {
            "rate": rates
        }
        assert panels(History(lanes))["learning rate"].get_yscale() == scale
    assert panels(history)["learning rate"].get_ylim()[0] == 0


def test_a_run_that_was_lost_or_broke_off_at_once_is_drawn():
    nothing = {"loss": jnp.full(1, jnp.nan), "rate": jnp.ones(1), "valid_loss": jnp.ones(0)}
    axes = panels(History(nothing))["loss"]
    assert [one.get_label() for one in axes.lines][1:] == ["training"] and axes.lines[
        1
    ].get_color() == TRAIN_COLOR


def test_a_history_of_no_step_is_told(tmp_path):
    with pytest.raises(
        ShapeError,
        match=r"curves: expected a history of one step or more, got History\(loss \(0,\)\)",
    ):
        lab.plot_curves(History({"loss": jnp.ones(0)}), tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [
    ("curves.txt", r"path: expected a suffix among .*png.*, got curves.txt"),
    ("curves", "path: expected a suffix among"),
    ("no/curves.png", "path: expected a folder that exists"),
])  # fmt: skip
def test_a_path_that_cannot_be_is_told_before_anything_is_written(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        lab.plot_curves(history, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
