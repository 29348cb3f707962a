"""Synthetic data sets follow their formulas, are balanced, separable and functions of the key."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from fnn.data import synthetic
from fnn.errors import ConfigError, DTypeError

pytestmark = pytest.mark.slow

MAKERS = {
    "blobs": partial(synthetic.blobs, spread=0.05),
    "moons": synthetic.moons,
    "spirals": synthetic.spirals,
    "gratings": synthetic.gratings,
}
NUMBERS = [("blobs", "spread"), ("moons", "noise"), ("spirals", "noise"), ("spirals", "turns")]
NUMBERS += [("gratings", "waves"), ("gratings", "noise")]
every = pytest.mark.parametrize("name", MAKERS)


@every
@pytest.mark.parametrize("examples", [1, 7, 200])
def test_classes_are_balanced_and_in_random_order(key, name, examples):
    inputs, labels = MAKERS[name](key, examples)
    assert len(inputs) == len(labels) == examples and labels.dtype == jnp.int32
    assert inputs.dtype == (jnp.uint8 if name == "gratings" else jnp.float32)
    counts = np.bincount(labels)
    assert counts.max() - counts.min() <= 1
    if examples == 200:
        assert (np.diff(labels) != 0).sum() > 60


@every
def test_draws_depend_on_the_key_alone(key, name):
    draw = MAKERS[name]
    for drawn, again in (
        (draw(key, 30), draw(key, 30)),
        (draw(key, 30), jax.jit(draw, static_argnums=1)(key, 30)),
    ):
        np.testing.assert_allclose(
            drawn[0].astype(float), again[0].astype(float), atol=1 if name == "gratings" else 1e-6
        )
        np.testing.assert_array_equal(drawn[1], again[1])
    assert (draw(key, 30)[0] != draw(jax.random.key(7), 30)[0]).any()


def test_moons_have_the_shape_of_those_of_scikit_learn(key):
    inputs, labels = synthetic.moons(key, 400, noise=0.0)
    theirs, kinds = make_moons(20_000, noise=0.0)
    for kind in (0, 1):
        nearest = np.linalg.norm(
            np.asarray(inputs)[labels == kind][:, None] - theirs[kinds == kind], axis=-1
        ).min(1)
        assert nearest.max() < 1e-3
    grown = KNeighborsClassifier(5).fit(*make_moons(1000, noise=0.1, random_state=0))
    assert grown.score(*map(np.asarray, synthetic.moons(key, 1000))) > 0.99


def test_blobs_are_isotropic_around_their_centers(key):
    inputs, labels = map(np.asarray, synthetic.blobs(key, 9000, classes=3, features=4, spread=0.25))
    centers = np.asarray(synthetic.blobs(key, 9000, classes=3, features=4, spread=0.0)[0])
    for kind in range(3):
        assert np.ptp(centers[labels == kind], axis=0).max() == 0
        around = inputs[labels == kind] - centers[labels == kind]
        np.testing.assert_allclose(around.mean(0), 0, atol=0.02)
        np.testing.assert_allclose(np.cov(around.T), 0.0625 * np.eye(4), atol=0.005)


@pytest.mark.parametrize("classes", [2, 5])
def test_spirals_are_on_their_arms(key, classes):
    draw = partial(synthetic.spirals, key, 500, classes=classes, turns=1.5)
    inputs, labels = map(np.asarray, draw(noise=0.0))
    radius = np.linalg.norm(inputs, axis=1)
    turns = np.arctan2(inputs[:, 1], inputs[:, 0]) / (2 * np.pi)
    # The angle is that of the formula up to full turns.
    difference = turns - 1.5 * radius - labels / classes
    np.testing.assert_allclose(difference, np.rint(difference), atol=1e-4)
    assert radius.max() <= 1 and abs((radius**2).mean() - 0.5) < 0.05
    noisy = np.asarray(draw(noise=0.1)[0])
    np.testing.assert_allclose((noisy - inputs).std(), 0.1, rtol=0.1)


def test_spirals_are_separable_but_not_linearly(key):
    inputs, labels = map(np.asarray, synthetic.spirals(key, 600))
    assert LogisticRegression().fit(inputs, labels).score(inputs, labels) < 0.75
    neighbors = KNeighborsClassifier(3).fit(inputs[:500], labels[:500])
    assert neighbors.score(inputs[500:], labels[500:]) > 0.97


def test_gratings_have_the_orientation_of_their_class(key):
    drawn = synthetic.gratings(key, 64, classes=4, size=32, waves=4.0, noise=0.0)
    images, labels = map(np.asarray, drawn)
    assert images.shape == (64, 32, 32, 1) and images.min() == 0 and images.max() == 255
    power = np.abs(np.fft.fft2(images[..., 0].astype(float) - 127.5))
    frequencies = np.fft.fftfreq(32) * 32  # waves per side
    for spectrum, label in zip(power, labels, strict=True):
        row, column = np.unravel_index(spectrum.argmax(), spectrum.shape)
        wanted = 4 * np.array([np.cos(np.pi * label / 4), np.sin(np.pi * label / 4)])
        found = np.array([frequencies[column], frequencies[row]])
        # The spectrum of a real image is symmetric, so either sign may be the maximum.
        assert min(np.abs(found - wanted).max(), np.abs(found + wanted).max()) < 1
    images, labels = map(np.asarray, synthetic.gratings(key, 2000))
    pixels = images.reshape(2000, -1) / 255
    # A linear model of pixels cannot separate the classes, because the phase is random.
    linear = LogisticRegression(max_iter=200).fit(pixels[:1000], labels[:1000])
    assert linear.score(pixels[1000:], labels[1000:]) < 0.45


@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_traced_numbers_share_one_compilation(key, name, option):
    traces = []

    @jax.jit
    def draw(value):
        traces.append(value)
        return MAKERS[name](key, 20, **{option: value})[0]

    for value in (0.2, 0.5):
        wanted = MAKERS[name](key, 20, **{option: value})[0]
        np.testing.assert_allclose(
            draw(jnp.asarray(value)).astype(float),
            wanted.astype(float),
            atol=1 if name == "gratings" else 1e-5,
        )
    assert len(traces) == 1


@every
def test_wrong_arguments_raise(key, name):
    with pytest.raises(ConfigError, match=f"{name} examples: expected >= 1, got 0"):
        MAKERS[name](key, 0)
    with pytest.raises(DTypeError, match=f"{name} key: expected a key"):
        MAKERS[name](0, 5)


@pytest.mark.parametrize(("name", "option"), NUMBERS)
def test_negative_numbers_raise(key, name, option):
    with pytest.raises(
        ConfigError, match=rf"{name} {option}: expected a number in \[0, inf\), got -1"
    ):
        MAKERS[name](key, 5, **{option: -1.0})
