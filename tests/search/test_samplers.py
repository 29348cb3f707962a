"""Samplers: published points, even coverage, and dependence on the key alone."""

import jax
import numpy as np
import pytest

from fnn.errors import ConfigError
from fnn.search.samplers import SAMPLERS, unit_points


def test_sobol_points_are_the_published_ones(key):
    points = unit_points(key, 8, 2, sampler="sobol", scramble=False)
    expected = [
        (0, 0),
        (0.5, 0.5),
        (0.75, 0.25),
        (0.25, 0.75),
        (0.375, 0.375),
        (0.875, 0.875),
        (0.625, 0.125),
        (0.125, 0.625),
    ]
    np.testing.assert_allclose(points, expected)
    third = unit_points(key, 3, 5, sampler="sobol", scramble=False)[2]
    np.testing.assert_allclose(third, [0.75, 0.25, 0.25, 0.25, 0.75])


def test_halton_points_are_those_of_bases_2_3_5(key):
    points = unit_points(key, 4, 3, sampler="halton", scramble=False)
    expected = [(0, 0, 0), (1 / 2, 1 / 3, 1 / 5), (1 / 4, 2 / 3, 2 / 5), (3 / 4, 1 / 9, 3 / 5)]
    np.testing.assert_allclose(points, expected)


def test_scrambled_sobol_points_have_one_in_each_cell(key):
    points = unit_points(key, 16, 3, sampler="sobol")
    for column in points.T:
        assert sorted((column * 16).astype(int)) == list(range(16))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_points_follow_from_the_key_and_lie_in_the_cube(sampler, key):
    points = unit_points(key, 20, 4, sampler=sampler)
    assert points.shape == (20, 4)
    assert ((points >= 0) & (points < 1)).all()
    np.testing.assert_array_equal(points, unit_points(key, 20, 4, sampler=sampler))
    other = unit_points(jax.random.key(7), 20, 4, sampler=sampler)
    assert not np.array_equal(points, other)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_more_points_continue_fewer(sampler, key):
    few = unit_points(key, 8, 3, sampler=sampler)
    many = unit_points(key, 16, 3, sampler=sampler)
    np.testing.assert_array_equal(many[:8], few)


def test_unknown_samplers_raise_an_error(key):
    with pytest.raises(ConfigError, match="random, sobol, halton"):
        unit_points(key, 8, 3, sampler="latin")
