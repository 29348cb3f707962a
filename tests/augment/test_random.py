"""Random words and what is read from them, against the distributions that are promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fnn.augment import random
from fnn.augment.random import expect_magnitude
from fnn.errors import ConfigError

COUNT = 4096
EDGES = jnp.array([0, 1, 255, 256, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 1], jnp.uint32)


def words(seed=0):
    return random.words(jax.random.key(seed), COUNT)


def test_more_words_leave_the_first_as_they_are():
    few, more = (np.asarray(random.words(jax.random.key(3), count)) for count in (5, 17))
    assert few.dtype == np.uint32
    np.testing.assert_array_equal(more[:5], few)
    assert len(np.unique(more)) == 17


def test_a_unit_is_the_upper_24_bits_of_a_word_exactly():
    for own in (EDGES, words()):
        unit = np.asarray(random.unit(own))
        assert unit.dtype == np.float32
        np.testing.assert_array_equal(unit.astype(np.float64), (np.asarray(own) >> 8) / 2.0**24)
    assert random.unit(EDGES).max() < 1
    assert scipy.stats.kstest(random.unit(words()), "uniform").pvalue > 1e-3


def test_one_number_is_taken_exactly_and_a_pair_is_drawn_between_its_ends():
    exact = np.asarray(random.within(words(), 0.7))
    np.testing.assert_array_equal(exact, np.full(COUNT, np.float32(0.7)))
    drawn = np.asarray(random.within(words(1), (-3.0, 5.0)))
    assert drawn.dtype == np.float32
    assert drawn.min() >= -3
    assert drawn.max() <= 5
    assert scipy.stats.kstest(drawn, scipy.stats.uniform(-3, 8).cdf).pvalue > 1e-3
    assert random.between(jnp.uint32(0), -3.0, 5.0) == -3


@pytest.mark.parametrize("limit", [1, 2, 3, 14, 25, 31])
def test_whole_numbers_below_a_limit_are_equally_likely(limit):
    drawn = np.asarray(random.below(words(limit), limit))
    assert drawn.dtype == np.int32
    counts = np.bincount(drawn, minlength=limit)
    assert len(counts) == limit
    assert limit == 1 or scipy.stats.chisquare(counts).pvalue > 1e-3


def test_no_limit_is_ever_reached():
    last = jax.vmap(lambda limit: random.below(jnp.uint32(2**32 - 1), limit))(jnp.arange(1, 9000))
    np.testing.assert_array_equal(last, np.arange(9000 - 1))


def test_what_is_sure_happens_always_and_what_has_no_chance_never():
    assert random.happens(EDGES, 1.0).all()
    assert not random.happens(EDGES, 0.0).any()
    happened = int(random.happens(words(2), 0.3).sum())
    assert scipy.stats.binomtest(happened, COUNT, 0.3).pvalue > 1e-3


def test_a_sign_is_the_highest_bit():
    np.testing.assert_array_equal(random.sign(EDGES), [1, 1, 1, 1, 1, -1, -1, -1])


def test_normal_numbers_are_normal_and_finite_at_the_ends():
    assert scipy.stats.kstest(random.normal(words(4)), "norm").pvalue > 1e-3
    halves = ((2 * np.asarray(EDGES).astype(np.int64) % 2**32 >> 8) / 2.0**24 + 2.0**-25) / 2
    signs = np.where(np.asarray(EDGES) < 2**31, 1, -1)
    np.testing.assert_allclose(
        random.normal(EDGES), signs * scipy.stats.norm.ppf(halves), rtol=1e-5, atol=1e-6
    )
    assert np.isfinite(random.normal(EDGES)).all()


def test_a_key_of_two_words_is_those_words():
    two = jnp.array([7, 11], jnp.uint32)
    np.testing.assert_array_equal(jax.random.key_data(random.own_key(two)), two)
    a, b = (jax.random.bits(random.own_key(own)) for own in (two, two.at[1].set(12)))
    assert a != b


@pytest.mark.parametrize(
    "magnitude", [0, 0.25, np.float32(1), jnp.float32(0.5), (0.0, 1.0), (0.5, 0.5), (0, 1)]
)
def test_one_number_or_a_rising_pair_within_the_interval_is_given_back(magnitude):
    assert expect_magnitude("blur", magnitude, "[0, 1]") == magnitude


REJECTED = {
    "beyond": (1.5, r"blur: expected a number in \[0, 1\], got 1.5"),
    "low end beyond": ((-0.1, 1.0), r"blur low: expected a number in \[0, 1\], got -0.1"),
    "high end beyond": ((0.5, 1.1), r"blur high: expected a number in \[0, 1\], got 1.1"),
    "falling": ((0.8, 0.2), r"blur: expected \(low, high\) with low <= high, got \(0.8, 0.2\)"),
    "three": (
        (0.1, 0.2, 0.3),
        r"blur: expected one number or \(low, high\), got \(0.1, 0.2, 0.3\)",
    ),
    "a list": ([0.1, 0.2], r"blur: expected one number in \[0, 1\], got \[0.1, 0.2\]"),
    "a word": ("strong", r"blur: expected one number in \[0, 1\], got 'strong'"),
    "an array": (
        jnp.zeros(2),
        r"blur: expected one number in \[0, 1\], got an array of shape \(2,\)",
    ),
    "no number": (float("nan"), r"blur: expected a number in \[0, 1\], got nan"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_anything_else_is_named_with_what_was_expected(case):
    magnitude, message = REJECTED[case]
    with pytest.raises(ConfigError, match=message):
        expect_magnitude("blur", magnitude, "[0, 1]")


def test_without_an_interval_any_number_will_do():
    assert expect_magnitude("turn", (-1e9, 1e9)) == (-1e9, 1e9)


def test_a_traced_magnitude_passes_for_its_number_is_not_known_yet():
    total = jax.jit(lambda low, high: sum(expect_magnitude("blur", (low, high), "[0, 1]")))
    assert total(jnp.float32(7), jnp.float32(-3)) == 4
