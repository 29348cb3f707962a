"""RandAugment and TrivialAugment draw what they are said to, and do what they drew."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from pictures import draws, pictures, seen_as

from fnn import augment
from fnn.augment.published.rand_augment import NAMES
from fnn.errors import ConfigError

SHAPE = (20, 18, 3)
BYTES = pictures(30, SHAPE)
COUNT = 6000


def own(turn, name):
    """What was drawn for the operation that was chosen."""
    return np.stack([part[name] for part in turn["drawn"]], 1)[
        np.arange(len(turn["which"])), turn["which"]
    ]


def test_the_operations_are_the_fourteen_of_the_paper():
    assert len(set(NAMES)) == 14
    assert "invert" not in NAMES
    assert NAMES[0] == "identity"


def test_two_operations_are_drawn_each_as_likely_after_any_other_at_one_magnitude():
    turns = draws(augment.rand_augment(magnitude=12.0), COUNT)
    pairs = np.zeros((14, 14))
    np.add.at(pairs, (turns[0]["which"], turns[1]["which"]), 1)
    assert scipy.stats.chisquare(pairs.ravel()).pvalue > 1e-3
    for turn in turns:
        np.testing.assert_allclose(own(turn, "strength"), np.full(COUNT, 0.4), rtol=1e-6)
        right = int((own(turn, "sign") == 1).sum())
        assert scipy.stats.binomtest(right, COUNT, 0.5).pvalue > 1e-3
        assert set(own(turn, "sign")) == {-1, 1}


def test_one_of_thirty_one_strengths_is_drawn_by_trivial_augment():
    (turn,) = draws(augment.trivial_augment(), COUNT)
    assert scipy.stats.chisquare(np.bincount(turn["which"], minlength=14)).pvalue > 1e-3
    bins = own(turn, "strength") * 30
    np.testing.assert_allclose(bins, np.rint(bins), atol=1e-5)
    assert scipy.stats.chisquare(np.bincount(np.rint(bins).astype(int), minlength=31)).pvalue > 1e-3
    # The strength knows nothing of the operation, nor of the sign.
    table = np.histogram2d(turn["which"], np.rint(bins) // 8, (14, 4))[0]
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    assert (
        scipy.stats.ks_2samp(bins[own(turn, "sign") == 1], bins[own(turn, "sign") == -1]).pvalue
        > 1e-3
    )


def test_an_image_gets_what_was_drawn_for_it_and_the_magnitude_may_be_traced():
    """The strength that is drawn is the magnitude's, and the second operation is done after the first."""

    def drawn(magnitude):
        return augment.rand_augment(count=3, magnitude=magnitude).draw(jax.random.key(0), SHAPE)

    strengths = jax.jit(
        lambda m: jnp.stack([part["strength"] for turn in drawn(m) for part in turn["drawn"]])
    )
    assert strengths(jnp.float32(15)).shape == (42,)
    np.testing.assert_array_equal(strengths(jnp.float32(15)), np.full(42, 0.5, np.float32))
    np.testing.assert_allclose(strengths(jnp.float32(7)), np.full(42, 7 / 30), rtol=1e-6)


def test_images_are_changed_as_drawn_and_not_where_both_are_the_identity():
    policy = augment.rand_augment(magnitude=20.0)
    turns = jax.tree.map(np.array, draws(policy, len(BYTES), SHAPE))
    solarize, posterize, down = (
        NAMES.index(name) for name in ("solarize", "posterize", "translate_y")
    )
    turns[0]["which"][:4] = [0, 0, posterize, down]
    turns[1]["which"][:4] = [0, solarize, solarize, 0]
    found = seen_as(policy, turns, BYTES)
    assert found.dtype == np.uint8

    def solarized(image):
        return np.where(image >= 85, 255 - image, image)

    np.testing.assert_array_equal(found[0], BYTES[0])
    np.testing.assert_array_equal(found[1], solarized(BYTES[1]))
    np.testing.assert_array_equal(
        found[2], solarized(BYTES[2] >> 3 << 3)
    )  # 8 - round(4 x 20 / 30) bits are kept
    rows = np.arange(SHAPE[0]) - int(20 / 30 * 150 / 331 * SHAPE[0]) * own(turns[0], "sign")[
        3
    ].astype(int)
    inside = (rows >= 0) & (rows < SHAPE[0])
    np.testing.assert_array_equal(
        found[3], BYTES[3][rows.clip(0, SHAPE[0] - 1)] * inside[:, None, None]
    )
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
def test_a_mistake_is_told(case):
    make, message = MISTAKES[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        make()
