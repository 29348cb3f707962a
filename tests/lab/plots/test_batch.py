"""The picture of a batch: what a run of that key sees at that step, to the last bit."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import augment, data, lab, nn, optim, train
from fnn.errors import ConfigError, DTypeError, ShapeError
from fnn.lab.plots.batch import batch_seen

digits = data.digits()
few = (digits.train[0][:40], digits.train[1][:40])
policy = augment.chain(augment.rotate((-20, 20)), augment.random_crop(padding=1))
mixing = augment.batch_chain(policy, augment.mixup(classes=10))
recipe = train.recipe(nn.chain(nn.flatten(), nn.dense(10)))


def standardized(images):
    return (data.to_float(images) - 0.3) / 0.3


@cache
def seen_by_a_run(policy):
    """What the network of a run is given, step by step."""
    seen, key = [], jax.random.key(0)

    def spy(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return x

    network = nn.chain(nn.elementwise(spy), nn.flatten(), nn.dense(10))
    spied = train.recipe(network, optim.sgd(0.1), augment=policy, prepare=standardized)
    train_state = train.start(key, spied, (8, 8, 1))
    for _ in range(2):
        train_state, _ = train.epoch(spied, train_state, few, batch_size=16)
    jax.effects_barrier()
    return seen


@pytest.mark.parametrize("policy", [None, policy, mixing], ids=["none", "each", "batch"])
@pytest.mark.parametrize("step", [0, 3])
def test_it_shows_what_a_run_sees(policy, step, key):
    wanted = seen_by_a_run(policy)[step]
    own = recipe.replace(augment=policy, prepare=standardized)
    inputs, _ = batch_seen(key, own, few, batch_size=16, step=step)
    np.testing.assert_array_equal(inputs, wanted)
    figure = lab.plot_batch(key, own, few, batch_size=16, step=step)
    shown = np.stack([axes.images[0].get_array() for axes in figure.axes])
    np.testing.assert_allclose(shown, (wanted[..., 0] - wanted.min()) / np.ptp(wanted), atol=1e-6)
    assert figure.get_suptitle() == f"what step {step} sees: 16 of 16"


def test_each_image_has_its_class_above(key):
    names = [f"digit {place}" for place in range(10)]
    for own, prefix in ((None, ""), (names, "digit ")):
        figure = lab.plot_batch(key, recipe, few, batch_size=16, names=own, count=5)
        _, labels = batch_seen(key, recipe, few, batch_size=16, step=0)
        assert [axes.get_title() for axes in figure.axes] == [
            f"{prefix}{label}" for label in labels[:5]
        ]


def test_a_mixed_target_names_its_classes_with_their_shares(key):
    mixed = recipe.replace(augment=mixing)
    _, targets = batch_seen(key, mixed, few, batch_size=16, step=0)
    titles = [axes.get_title() for axes in lab.plot_batch(key, mixed, few, batch_size=16).axes]
    for title, target in zip(titles, targets, strict=True):
        for told in title.split("\n"):
            name, share = told.split()
            assert share == f"{target[int(name)]:.0%}"
    assert any("\n" in title for title in titles)


def test_what_is_of_no_class_has_no_title(key):
    heights = np.ones(40, np.float32)
    assert {
        axes.get_title()
        for axes in lab.plot_batch(key, recipe, (few[0], heights), batch_size=16).axes
    } == {""}


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"key": 0}, DTypeError, "key: expected a key from"),
    ({"data": few[0]}, ConfigError, r"data: expected a pair \(inputs, targets\)"),
    ({"data": (jnp.ones((40, 3)), few[1])}, ShapeError, r"seen inputs: expected \(n, height, width, channels\)"),
    ({"batch_size": 41}, ConfigError, "batch_size: expected at most the 40 examples"),
    ({"step": -1}, ConfigError, "seen step: expected >= 0"),
    ({"count": 0}, ConfigError, "seen count: expected >= 1"),
    ({"names": ["zero"]}, ConfigError, "seen names: expected a name for class"),
    ({"recipe": recipe.network}, ConfigError, "seen recipe: expected what train.recipe gives, got a Layer"),
])  # fmt: skip
def test_mistakes_are_told_and_nothing_is_written(change, error, message, key, tmp_path):
    with pytest.raises(error, match=message):
        lab.plot_batch(
            **{
                "key": key,
                "recipe": recipe,
                "data": few,
                "path": tmp_path / "seen.png",
                "batch_size": 16,
            }
            | change
        )
    assert list(tmp_path.iterdir()) == []
