"""What a magnitude may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.magnitudes import expect_magnitude
from fnn.errors import ConfigError


@pytest.mark.parametrize("magnitude", [0, 0.25, np.float32(1), jnp.float32(0.5), (0.0, 1.0), (0.5, 0.5), (0, 1)])
def test_one_number_or_a_rising_pair_within_the_interval_is_given_back(magnitude):
    assert expect_magnitude("blur", magnitude, "[0, 1]") == magnitude


REJECTED = {
    "beyond": (1.5, r"blur: expected a number in \[0, 1\], got 1.5"),
    "low end beyond": ((-0.1, 1.0), r"blur low: expected a number in \[0, 1\], got -0.1"),
    "high end beyond": ((0.5, 1.1), r"blur high: expected a number in \[0, 1\], got 1.1"),
    "falling": ((0.8, 0.2), r"blur: expected \(low, high\) with low <= high, got \(0.8, 0.2\)"),
    "three": ((0.1, 0.2, 0.3), r"blur: expected one number or \(low, high\), got \(0.1, 0.2, 0.3\)"),
    "a list": ([0.1, 0.2], r"blur: expected one number in \[0, 1\], got \[0.1, 0.2\]"),
    "a word": ("strong", r"blur: expected one number in \[0, 1\], got 'strong'"),
    "an array": (jnp.zeros(2), r"blur: expected one number in \[0, 1\], got an array of shape \(2,\)"),
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
