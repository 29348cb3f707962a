"""Random words, and the numbers derived from them, against their distributions."""

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


def test_more_words_keep_the_first_words():
    few, more = (np.asarray(random.words(jax.random.key(3), count)) for count in (5, 17))
    assert few.dtype == np.uint32
    np.testing.assert_array_equal(more[:5], few)
    assert len(np.unique(more)) == 17


def test_unit_uniform_is_the_upper_24_bits_of_a_word():
    for sample in (EDGES, words()):
        unit = np.asarray(random.unit_uniform(sample))
        assert unit.dtype == np.float32
        np.testing.assert_array_equal(unit.astype(np.float64), (np.asarray(sample) >> 8) / 2.0**24)
    assert random.unit_uniform(EDGES).max() < 1
    assert scipy.stats.kstest(random.unit_uniform(words()), "uniform").pvalue > 1e-3


def test_a_number_is_kept_and_a_pair_is_drawn_uniformly():
    exact = np.asarray(random.sample_magnitude(words(), 0.7))
    np.testing.assert_array_equal(exact, np.full(COUNT, np.float32(0.7)))
    drawn = np.asarray(random.sample_magnitude(words(1), (-3.0, 5.0)))
    assert drawn.dtype == np.float32
    assert drawn.min() >= -3
    assert drawn.max() <= 5
    assert scipy.stats.kstest(drawn, scipy.stats.uniform(-3, 8).cdf).pvalue > 1e-3
    assert random.uniform(jnp.uint32(0), -3.0, 5.0) == -3


@pytest.mark.parametrize("limit", [1, 2, 3, 14, 25, 31])
def test_integers_are_equally_likely(limit):
    drawn = np.asarray(random.integers(words(limit), limit))
    assert drawn.dtype == np.int32
    counts = np.bincount(drawn, minlength=limit)
    assert len(counts) == limit
    assert limit == 1 or scipy.stats.chisquare(counts).pvalue > 1e-3


def test_integers_never_reach_their_limit():
    highest = jnp.uint32(2**32 - 1)
    last = jax.vmap(lambda limit: random.integers(highest, limit))(jnp.arange(1, 9000))
    np.testing.assert_array_equal(last, np.arange(9000 - 1))


def test_bernoulli_of_probability_one_is_always_true_and_of_zero_never():
    assert random.bernoulli(EDGES, 1.0).all()
    assert not random.bernoulli(EDGES, 0.0).any()
    successes = int(random.bernoulli(words(2), 0.3).sum())
    assert scipy.stats.binomtest(successes, COUNT, 0.3).pvalue > 1e-3


def test_sign_is_the_highest_bit():
    np.testing.assert_array_equal(random.sign(EDGES), [1, 1, 1, 1, 1, -1, -1, -1])


def test_normal_numbers_are_normal_and_always_finite():
    assert scipy.stats.kstest(random.normal(words(4)), "norm").pvalue > 1e-3
    halves = ((2 * np.asarray(EDGES).astype(np.int64) % 2**32 >> 8) / 2.0**24 + 2.0**-25) / 2
    signs = np.where(np.asarray(EDGES) < 2**31, 1, -1)
    expected = signs * scipy.stats.norm.ppf(halves)
    np.testing.assert_allclose(random.normal(EDGES), expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(random.normal(EDGES)).all()


def test_a_key_from_words_holds_these_words():
    two = jnp.array([7, 11], jnp.uint32)
    np.testing.assert_array_equal(jax.random.key_data(random.key_from_words(two)), two)
    other = two.at[1].set(12)
    a, b = (jax.random.bits(random.key_from_words(key_data)) for key_data in (two, other))
    assert a != b


@pytest.mark.parametrize(
    "magnitude", [0, 0.25, np.float32(1), jnp.float32(0.5), (0.0, 1.0), (0.5, 0.5), (0, 1)]
)
def test_a_magnitude_in_the_interval_is_returned(magnitude):
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
    "a list": ([0.1, 0.2], r"blur: .* tuple \(low, high\), got \[0.1, 0.2\]"),
    "a word": ("strong", r"blur: expected one number in \[0, 1\], got 'strong'"),
    "an array": (
        jnp.zeros(2),
        r"blur: expected one number in \[0, 1\], got an array of shape \(2,\)",
    ),
    "no number": (float("nan"), r"blur: expected a number in \[0, 1\], got nan"),
}


@pytest.mark.parametrize("case", REJECTED)
def test_other_magnitudes_raise(case):
    magnitude, message = REJECTED[case]
    with pytest.raises(ConfigError, match=message):
        expect_magnitude("blur", magnitude, "[0, 1]")


def test_the_default_interval_contains_all_numbers():
    assert expect_magnitude("turn", (-1e9, 1e9)) == (-1e9, 1e9)


def test_a_traced_magnitude_is_accepted_because_its_value_is_unknown():
    total = jax.jit(lambda low, high: sum(expect_magnitude("blur", (low, high), "[0, 1]")))
    assert total(jnp.float32(7), jnp.float32(-3)) == 4
