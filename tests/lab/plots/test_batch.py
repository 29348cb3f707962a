"""The plotted batch equals, bit by bit, the batch that a run of the same key gets."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, objective, optim, train
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.lab.plots.batch import batch_at_step

digits = data.digits()
small = (digits.train[0][:40], digits.train[1][:40])
policy = augment.chain(augment.rotate((-20, 20)), augment.random_crop(padding=1))
mixing = augment.batch_chain(policy, augment.mixup(classes=10))
recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)))


def standardized(images):
    return (data.to_float(images) - 0.3) / 0.3


@cache
def inputs_of_a_run(policy):
    """The inputs of the network in a run, step by step."""
    inputs, key = [], jax.random.key(0)

    def record(x):
        jax.debug.callback(lambda x: inputs.append(np.asarray(x)), x)
        return x

    network = nn.chain(nn.elementwise(record), nn.flatten(), nn.dense(10))
    recorded = train.recipe(network, optim.sgd(0.1), augment=policy, prepare=standardized)
    train_state = train.start(key, recorded, (8, 8, 1))
    for _ in range(2):
        train_state, _ = train.epoch(recorded, train_state, small, batch_size=16)
    jax.effects_barrier()
    return inputs


@pytest.mark.slow
@pytest.mark.parametrize("policy", [None, policy, mixing], ids=["none", "each", "batch"])
@pytest.mark.parametrize("step", [0, 3])
def test_the_batch_is_that_of_a_run(policy, step, key):
    wanted = inputs_of_a_run(policy)[step]
    own = recipe.replace(augment=policy, prepare=standardized)
    inputs, _ = batch_at_step(key, own, small, batch_size=16, step=step)
    np.testing.assert_array_equal(inputs, wanted)
    figure = lab.plot_batch(key, own, small, batch_size=16, step=step)
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    low, high = np.percentile(wanted, [1, 99])
    stretched = np.clip((wanted[..., 0] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(shown, stretched, atol=1e-6)
    levels = f"black is {low:.3g}, white is {high:.3g}"
    assert figure.get_suptitle() == f"batch of step {step}: 16 of 16 images; {levels}"


def test_the_title_of_an_image_is_its_class(key):
    names = [f"digit {index}" for index in range(10)]
    for own, prefix in ((None, ""), (names, "digit ")):
        figure = lab.plot_batch(key, recipe, small, batch_size=16, names=own, count=5)
        _, labels = batch_at_step(key, recipe, small, batch_size=16, step=0)
        assert [axes.get_title() for axes in figure.axes] == [
            f"{prefix}{label}" for label in labels[:5]
        ]


@pytest.mark.slow
def test_the_title_of_a_mixed_target_has_classes_and_shares(key):
    mixed = recipe.replace(augment=mixing)
    _, targets = batch_at_step(key, mixed, small, batch_size=16, step=0)
    titles = [axes.get_title() for axes in lab.plot_batch(key, mixed, small, batch_size=16).axes]
    for title, target in zip(titles, targets, strict=True):
        for class_share in title.split("\n"):
            name, share = class_share.split()
            assert share == f"{target[int(name)]:.0%}"
    assert any("\n" in title for title in titles)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_the_title_of_a_multi_label_target_has_all_classes(dtype, key):
    targets = np.tile(np.array([1, 1, 0, 1], dtype), (40, 1))
    targets[7:] = 0
    # A row with a single 1 is no probability in a batch of these.
    targets[7, 2] = 1
    own = recipe.replace(loss=objective.binary_cross_entropy, metrics={})
    figure = lab.plot_batch(key, own, (small[0], targets), batch_size=40, count=40)
    titles = sorted(axes.get_title() for axes in figure.axes)
    assert titles == ["0\n1\n3"] * 7 + ["2"] + ["no class"] * 32


def test_the_title_of_many_labels_is_cut(key):
    targets = np.ones((40, 30), np.float32)
    own = recipe.replace(loss=objective.binary_cross_entropy, metrics={})
    figure = lab.plot_batch(key, own, (small[0], targets), batch_size=40, count=1)
    assert figure.axes[0].get_title() == "0\n1\n2\n3\n4\nand 25 more"


def test_a_regression_target_has_no_title(key):
    heights = np.ones(40, np.float32)
    assert {
        axes.get_title()
        for axes in lab.plot_batch(key, recipe, (small[0], heights), batch_size=16).axes
    } == {""}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"key": 0}, DTypeError, "key: expected a key from"),
        ({"data": small[0]}, ConfigError, r"data: expected a pair \(inputs, targets\)"),
        (
            {"data": (jnp.ones((40, 3)), small[1])},
            ShapeError,
            r"plot_batch inputs: expected \(n, height, width, channels\)",
        ),
        ({"batch_size": 41}, ConfigError, "batch_size: expected at most the 40 examples"),
        ({"step": -1}, ConfigError, "plot_batch step: expected >= 0"),
        ({"count": 0}, ConfigError, "plot_batch count: expected >= 1"),
        ({"names": ["zero"]}, ConfigError, "plot_batch names: expected a name for class"),
        (
            {"recipe": recipe.network},
            ConfigError,
            "plot_batch recipe: expected a recipe from train.recipe, got a Layer",
        ),
    ],
)
def test_wrong_arguments_raise_and_nothing_is_written(change, error, message, key, tmp_path):
    with pytest.raises(error, match=message):
        lab.plot_batch(
            **{
                "key": key,
                "recipe": recipe,
                "data": small,
                "path": tmp_path / "batch.png",
                "batch_size": 16,
            }
            | change
        )
    assert list(tmp_path.iterdir()) == []
