"""The number of steps per segment."""

import math

import pytest

from fnn.lab.fit.chunks import SECONDS_PER_CHUNK, count_steps, next_chunk


@pytest.mark.parametrize(
    ("steps", "seconds", "expected"),
    [
        (10, SECONDS_PER_CHUNK, 10),
        (10, SECONDS_PER_CHUNK / 2, 20),
        (10, SECONDS_PER_CHUNK * 2, 5),
        (10, SECONDS_PER_CHUNK / 1000, 2560),
        (160, SECONDS_PER_CHUNK * 100, 10),
        (1, 1e3, 1),
    ],
)
def test_a_chunk_takes_a_fixed_time_and_changes_by_limited_factors(steps, seconds, expected):
    assert next_chunk(steps, seconds) == expected


@pytest.mark.parametrize(
    ("step", "last_step", "boundary", "expected"),
    [
        (3, math.inf, None, 7),
        (3, 8, None, 5),
        (3, math.inf, 5, 2),
        (5, math.inf, 5, 5),
        (3, 4, 5, 1),
    ],
)
def test_a_segment_ends_at_the_end_of_the_run_and_at_boundaries(
    step, last_step, boundary, expected
):
    assert count_steps(step, 7, last_step, boundary) == expected
