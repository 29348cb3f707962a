"""Learning curves show the numbers of the history; histories that cannot be drawn raise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from full_disk import full_disk
from PIL import Image

from fnn import lab, optim, train
from fnn.errors import ConfigError, ShapeError, WriteError
from fnn.lab.plots.curves import LINE_COLOR, VALID_COLOR, find_drops
from fnn.types import History, Result, TrainState

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


def test_validation_is_drawn_if_there_is_any(tmp_path):
    target = tmp_path / "curves.png"
    color = np.array([int(VALID_COLOR[i : i + 2], 16) for i in (1, 3, 5)])
    assert (
        len(lab.plot_curves(history, target).axes) == 3
    )  # the figure is returned also with a path
    assert (pixels(target) == color).all(1).any()
    without = History(
        {name: values for name, values in history.items() if not name.startswith("valid_")}
    )
    lab.plot_curves(without, target)
    assert not (pixels(target) == color).all(1).any()


@pytest.mark.slow
def test_lanes_are_drawn_in_the_same_panels(tmp_path):
    lanes = History({name: jnp.stack([values, values]) for name, values in history.items()})
    target = tmp_path / "curves.png"
    shapes = []
    for one in (history, lanes):
        lab.plot_curves(one, target)
        shapes.append(pixels(target).shape)
    assert shapes[0] == shapes[1]


def test_only_the_picture_is_written(tmp_path):
    lab.plot_curves(history, tmp_path / "curves.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.svg"]


def panels(history):
    return {axes.get_title(): axes for axes in lab.plot_curves(history).axes}


def line(axes, label):
    (found,) = (one for one in axes.lines if one.get_label().startswith(label))
    return found


def test_without_a_path_the_figure_is_returned_and_shown_by_a_notebook():
    figure = lab.plot_curves(history)
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_moving_average_follows_the_points():
    axes = panels(history)["accuracy"]
    points, average = axes.lines[0], line(axes, "training, mean of 2 steps")
    np.testing.assert_array_equal(points.get_ydata(), history.accuracy)
    np.testing.assert_allclose(
        average.get_ydata(), (history.accuracy[1:] + history.accuracy[:-1]) / 2, rtol=1e-6
    )
    np.testing.assert_array_equal(average.get_xdata(), steps[1:])


def test_a_long_run_has_500_points_of_the_moving_average():
    loss = np.random.default_rng(0).normal(size=20_000) + 10
    average = line(panels(History({"loss": loss}))["loss"], "training, mean of 1000 steps")
    x, y = average.get_data()
    assert len(x) == 500 and (x[0], x[-1]) == (501, 19_501)
    np.testing.assert_allclose([y[0], y[-1]], [loss[:1000].mean(), loss[-1000:].mean()])


def test_the_best_epoch_is_that_of_the_lowest_validation_loss():
    arrays = dict(history) | {"valid_loss": jnp.array([1.0, 0.25, jnp.nan, 0.5])}
    for name, value in (("loss", 0.25), ("accuracy", 0.75)):
        star = line(panels(History(arrays))[name], "lowest valid_loss")
        assert star.get_label() == f"lowest valid_loss, epoch 2: {value}"
        assert (star.get_xdata(), star.get_ydata()) == (20, value)


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_best_epoch_is_the_one_that_early_stopping_kept(restore_best):
    arrays = dict(history) | {
        "valid_loss": jnp.array([1.0, 0.25, 0.5, 0.75]),
        "valid_accuracy": jnp.array([0.5, 0.25, 0.75, 0.5]),
    }
    stopping = train.early_stopping(2, by="valid_accuracy", mode="max", restore_best=restore_best)
    state = TrainState({}, {}, {}, jnp.int32(0), jax.random.key(0))
    state = stopping.begin(state, -1)
    for epoch in range(4):
        state = state._replace(step=jnp.int32(10 * (epoch + 1)))
        figures = {"valid_accuracy": arrays["valid_accuracy"][epoch]}
        state = stopping.observe(state, figures, -1)
    result = Result(stopping.finish(state), History(arrays))
    for name, value in (("loss", 0.5), ("accuracy", 0.75)):
        star = line(panels(result)[name], "best valid_accuracy")
        assert star.get_label() == f"best valid_accuracy, epoch 3: {value}"
        assert (star.get_xdata(), star.get_ydata()) == (30, value)
    # A run that never had a finite figure, and the history alone, know of no such epoch.
    never = Result(stopping.begin(state, -1), History(arrays))
    for shown in (never, History(arrays)):
        assert line(panels(shown)["loss"], "lowest valid_loss").get_xdata() == 20


def test_a_drop_of_the_rate_is_marked_in_every_panel():
    arrays = dict(history) | {
        "rate": jnp.repeat(jnp.array([1.0, 0.1, 0.09]), jnp.array([10, 20, 10]))
    }
    for axes in panels(History(arrays)).values():
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
def test_steps_of_a_schedule_are_drops_and_smooth_descents_are_not(schedule, wanted):
    rates = np.array([[schedule(jnp.int32(step)) for step in range(100)]])
    assert find_drops(rates).tolist() == wanted
    assert find_drops(np.concatenate([rates, np.ones((1, 100))])).tolist() == []
    assert find_drops(np.concatenate([rates, np.full((1, 100), np.nan)])).tolist() == wanted


def test_a_diverged_lane_does_not_hide_the_others():
    lanes = {name: jnp.stack([values, values]) for name, values in history.items()}
    lanes["loss"] = lanes["loss"].at[1, 20:].set(jnp.nan)
    lanes["valid_loss"] = lanes["valid_loss"].at[1, 2:].set(jnp.inf)
    lanes["accuracy"] = (
        lanes["accuracy"].at[1, 20:].set(0.1)
    )  # of which more is arrays than of the loss
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
def test_a_loss_with_a_large_ratio_has_a_logarithmic_axis(values, scale):
    for name in ("loss", "valid_loss"):
        arrays = {"loss": jnp.array([2.0, 1.0]), "valid_loss": jnp.ones(1)} | {
            name: jnp.array(values)
        }
        axes = panels(History(arrays))["loss"]
        assert axes.get_yscale() == scale


def test_rates_with_a_large_ratio_have_a_logarithmic_axis():
    for low, scale in ((0.05, "linear"), (1e-4, "log")):
        rates = jnp.stack([jnp.linspace(0, 0.1, 40), jnp.linspace(0, low, 40)])
        lanes = {name: jnp.stack([values, values]) for name, values in history.items()} | {
            "rate": rates
        }
        assert panels(History(lanes))["learning rate"].get_yscale() == scale
    assert panels(history)["learning rate"].get_ylim()[0] == 0


def test_a_run_that_diverged_at_its_first_step_is_drawn():
    diverged = {"loss": jnp.full(1, jnp.nan), "rate": jnp.ones(1), "valid_loss": jnp.ones(0)}
    axes = panels(History(diverged))["loss"]
    assert [one.get_label() for one in axes.lines][1:] == ["training", "not finite: 1"]
    assert axes.lines[1].get_color() == LINE_COLOR
    assert [text.get_text() for text in axes.texts] == ["no finite value"]


def test_no_history_raises():
    for wrong in (None, {"rate": jnp.ones(3)}):
        with pytest.raises(ConfigError, match="plot_curves: expected a result or its history"):
            lab.plot_curves(wrong)


def test_a_history_without_steps_raises(tmp_path):
    with pytest.raises(
        ShapeError,
        match=r"plot_curves: expected a history of one step or more, got History\(loss \(0,\)\)",
    ):
        lab.plot_curves(History({"loss": jnp.ones(0)}), tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "message"), [
    ("curves.txt", r"path: expected a suffix among .*png.*, got curves.txt"),
    ("curves", "path: expected a suffix among"),
    ("no/curves.png", "path: expected a folder that exists"),
])  # fmt: skip
def test_an_invalid_path_raises_and_nothing_is_written(name, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        lab.plot_curves(history, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_raises_and_the_picture_before_is_whole(tmp_path):
    target = tmp_path / "curves.png"
    lab.plot_curves(history, target)
    before = target.read_bytes()
    with full_disk(1000), pytest.raises(WriteError, match=r"picture curves\.png in "):
        lab.plot_curves(history, target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def run_history(loss, **figures):
    return History({"loss": np.asarray(loss, np.float32), **figures})


def visible_ticks(axes):
    low, high = axes.get_ylim()
    return [tick for tick in axes.get_yticks() if low <= tick <= high]


@pytest.mark.parametrize(("first", "last"), [(4.6, 1.08), (2.3, 0.01), (1e3, 1e-9)])
def test_a_logarithmic_axis_says_so_and_has_several_ticks(first, last):
    axes = panels(run_history(np.geomspace(first, last, 200)))["loss"]
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "(log scale)"
    assert len(visible_ticks(axes)) >= 4


def test_one_loss_of_0_keeps_the_logarithmic_axis_and_is_marked():
    loss = np.geomspace(2.3, 0.01, 200)
    loss[150] = 0
    axes = panels(run_history(loss))["loss"]
    assert axes.get_yscale() == "log"
    assert line(axes, "0 or less: 1").get_xdata().tolist() == [151]
    low, _ = axes.get_ylim()
    assert low > 0.001


def test_many_losses_below_0_have_a_linear_axis():
    assert panels(run_history(np.linspace(5, -1, 100)))["loss"].get_yscale() == "linear"


def test_a_spike_does_not_bend_the_line():
    loss = np.geomspace(2.3, 0.1, 200)
    loss[100] = 1e30
    axes = panels(run_history(loss))["loss"]
    median = line(axes, "training, median of 10 steps")
    assert median.get_ydata().max() < 2.3
    assert axes.get_ylim()[1] < 100
    assert line(axes, "higher: 1").get_xdata().tolist() == [101]


def test_steps_and_epochs_that_are_not_finite_are_marked():
    loss = np.linspace(2, 1, 100)
    loss[40:59] = np.nan
    valid = np.array([1.0, np.inf, np.nan, 1.0])
    axes = panels(run_history(loss, valid_loss=valid))["loss"]
    steps_marked = line(axes, "not finite: 19")
    np.testing.assert_array_equal(steps_marked.get_xdata(), np.arange(41, 60))
    assert line(axes, "not finite: 2").get_xdata().tolist() == [50, 75]


def test_a_panel_without_a_finite_value_says_so_and_spans_all_steps():
    axes = panels(run_history(np.full(100, np.nan), rate=np.full(100, np.nan)))["learning rate"]
    assert [text.get_text() for text in axes.texts] == ["no finite value"]
    low, high = axes.get_xlim()
    assert low <= 1 and high >= 100


def test_the_points_of_a_long_run_are_fainter_than_its_line():
    axes = panels(run_history(np.linspace(2, 1, 50_000)))["loss"]
    points, average = axes.lines[0], line(axes, "training")
    assert points.get_alpha() <= 0.02
    assert average.get_alpha() is None
    assert points.get_color() != average.get_color()


def test_a_single_step_is_visible():
    axes = panels(run_history([2.0]))["loss"]
    assert axes.lines[0].get_markersize() >= 6
    rates = panels(run_history([2.0], rate=[0.1]))["learning rate"]
    assert rates.lines[0].get_marker() == "o"


def test_many_panels_are_in_several_rows():
    figures = {f"head_{index}": np.ones(10) for index in range(11)}
    figure = lab.plot_curves(run_history(np.ones(10), **figures))
    assert len(figure.axes) == 12
    width, height = figure.get_size_inches()
    assert width / height < 2


@pytest.mark.parametrize(
    ("rates", "scale"),
    [
        (np.repeat([0.1, 0.001], 50), "log"),
        (0.05 * (1 + np.cos(np.linspace(0, np.pi, 100))), "linear"),
        (np.concatenate([np.linspace(0, 0.1, 20), np.full(80, 0.1)]), "linear"),
        (np.full(100, 1e-3), "linear"),
    ],
    ids=["far drop", "cosine", "warm-up", "constant"],
)
def test_a_rate_far_below_its_peak_has_a_logarithmic_axis(rates, scale):
    axes = panels(run_history(np.linspace(2, 1, 100), rate=rates))["learning rate"]
    assert axes.get_yscale() == scale


def test_the_ends_of_epochs_follow_from_their_steps():
    loss, valid = np.linspace(2, 1, 150), np.array([1.5])
    stopped = run_history(loss, valid_loss=valid)
    (axes, *_) = lab.plot_curves(stopped, steps_per_epoch=100).axes
    assert line(axes, "validation").get_xdata().tolist() == [100]
    for wrong in (75, 151):
        with pytest.raises(ConfigError, match="a number of which 150 steps hold 1 epochs"):
            lab.plot_curves(stopped, steps_per_epoch=wrong)
