"""RandAugment and TrivialAugment: distributions of their draws, and their results."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import apply_draws, draws, pictures

from fnn import augment
from fnn.augment.published.rand_augment import NAMES
from fnn.errors import ConfigError

SHAPE = (20, 18, 3)
BYTES = pictures(30, SHAPE)
COUNT = 6000


def chosen(draw, name):
    """The parameter of the chosen operation, for each image."""
    # (images, operations)
    parameters = np.stack([part[name] for part in draw["drawn"]], 1)
    return parameters[np.arange(len(draw["which"])), draw["which"]]


def test_the_operations_are_the_fourteen_of_the_paper():
    assert len(set(NAMES)) == 14
    assert "invert" not in NAMES
    assert NAMES[0] == "identity"


def test_rand_augment_draws_uniform_independent_operations_of_one_magnitude():
    first, second = draws(augment.rand_augment(magnitude=12.0), COUNT)
    pairs = np.zeros((14, 14))
    np.add.at(pairs, (first["which"], second["which"]), 1)
    assert scipy.stats.chisquare(pairs.ravel()).pvalue > 1e-3
    for draw in (first, second):
        np.testing.assert_allclose(chosen(draw, "strength"), np.full(COUNT, 0.4), rtol=1e-6)
        positive = int((chosen(draw, "sign") == 1).sum())
        assert scipy.stats.binomtest(positive, COUNT, 0.5).pvalue > 1e-3
        assert set(chosen(draw, "sign")) == {-1, 1}


def test_trivial_augment_draws_a_uniform_operation_and_strength():
    (draw,) = draws(augment.trivial_augment(), COUNT)
    assert scipy.stats.chisquare(np.bincount(draw["which"], minlength=14)).pvalue > 1e-3
    bins = chosen(draw, "strength") * 30
    np.testing.assert_allclose(bins, np.rint(bins), atol=1e-5)
    assert scipy.stats.chisquare(np.bincount(np.rint(bins).astype(int), minlength=31)).pvalue > 1e-3
    # The strength is independent of the operation and of the sign.
    table = np.histogram2d(draw["which"], np.rint(bins) // 8, (14, 4))[0]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    is_positive = chosen(draw, "sign") == 1
    assert scipy.stats.ks_2samp(bins[is_positive], bins[~is_positive]).pvalue > 1e-3


def test_strengths_are_the_magnitude_which_may_be_traced():
    @jax.jit
    def strengths(magnitude):
        policy = augment.rand_augment(count=3, magnitude=magnitude)
        draws = policy.draw(jax.random.key(0), SHAPE)
        return jnp.stack([part["strength"] for draw in draws for part in draw["drawn"]])

    assert strengths(jnp.float32(15)).shape == (42,)
    np.testing.assert_array_equal(strengths(jnp.float32(15)), np.full(42, 0.5, np.float32))
    np.testing.assert_allclose(strengths(jnp.float32(7)), np.full(42, 7 / 30), rtol=1e-6)


@pytest.mark.slow
def test_drawn_operations_are_applied_in_order():
    policy = augment.rand_augment(magnitude=20.0)
    first, second = jax.tree.map(np.array, draws(policy, len(BYTES), SHAPE))
    solarize = NAMES.index("solarize")
    posterize = NAMES.index("posterize")
    translate = NAMES.index("translate_y")
    first["which"][:4] = [0, 0, posterize, translate]
    second["which"][:4] = [0, solarize, solarize, 0]
    found = apply_draws(policy, [first, second], BYTES)
    assert found.dtype == np.uint8

    def solarized(image):
        return np.where(image >= 85, 255 - image, image)

    np.testing.assert_array_equal(found[0], BYTES[0])
    np.testing.assert_array_equal(found[1], solarized(BYTES[1]))
    # Posterize keeps 8 - round(4 x 20 / 30) = 5 bits.
    np.testing.assert_array_equal(found[2], solarized(BYTES[2] >> 3 << 3))
    shift = int(20 / 30 * 150 / 331 * SHAPE[0]) * int(chosen(first, "sign")[3])
    rows = np.arange(SHAPE[0]) - shift
    is_inside = (rows >= 0) & (rows < SHAPE[0])
    translated = BYTES[3][rows.clip(0, SHAPE[0] - 1)] * is_inside[:, None, None]
    np.testing.assert_array_equal(found[3], translated)
    assert (found[4:] != BYTES[4:]).any((1, 2, 3)).mean() > 0.7


MISTAKES = {
    "magnitude": (
        lambda: augment.rand_augment(magnitude=31.0),
        "rand_augment magnitude: expected a number in [0, 30]",
    ),
    "count": (lambda: augment.rand_augment(count=0), "some_of count: expected >= 1, got 0"),
    "mode": (
        lambda: augment.trivial_augment(mode="quick"),
        "some_of mode: expected one of fused, exact, got 'quick'",
    ),
    "order": (
        lambda: augment.rand_augment(method="cubic"),
        "rand_augment method: expected one of bilinear, nearest",
    ),
    "fill": (
        lambda: augment.trivial_augment(fill=128.0),
        "trivial_augment fill: expected a number in [0, 1], got 128",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_wrong_arguments_raise(case):
    make, message = MISTAKES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()
