"""Windows are counted one by one, and "SAME" is held to its definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.windows import check_padding, pad_pairs, window_count, windows

small = settings(max_examples=100, deadline=None, derandomize=True)
pairs = st.tuples(st.integers(1, 5), st.integers(1, 5))
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


def brute_count(size, window, stride, pad):
    """How many windows begin at a multiple of the stride and end within the padded axis."""
    return sum(start + window <= size + sum(pad) for start in range(0, size + sum(pad), stride))


@small
@given(sizes, pairs, pairs, st.tuples(pads, pads))
def test_windows_are_as_many_as_fit(size, window, stride, padding):
    wanted = tuple(brute_count(*axis) for axis in zip(size, window, stride, padding, strict=True))
    if 0 in wanted:
        with pytest.raises(ShapeError, match="somewhere: expected an image of at least"):
            window_count("somewhere", size, window, stride, padding)
    else:
        assert window_count("somewhere", size, window, stride, padding) == wanted


@small
@given(sizes, pairs, pairs)
def test_windows_are_as_many_as_numpy_slides(size, window, stride):
    if size[0] >= window[0] and size[1] >= window[1]:
        view = np.lib.stride_tricks.sliding_window_view(np.zeros(size), window)[
            :: stride[0], :: stride[1]
        ]
        assert window_count("somewhere", size, window, stride, "VALID") == view.shape[:2]


@small
@given(sizes, pairs, pairs)
def test_same_gives_one_window_a_stride_with_the_least_padding(size, window, stride):
    padding = pad_pairs("SAME", size, window, stride)
    count = window_count("somewhere", size, window, stride, "SAME")
    assert count == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    for n, w, s, (low, high), wanted in zip(size, window, stride, padding, count, strict=True):
        assert low + high == min(
            total for total in range(20) if brute_count(n, w, s, (0, total)) >= wanted
        )
        assert high - low in (0, 1)


def test_the_odd_pixel_goes_high():
    assert pad_pairs("SAME", (5, 6), (4, 3), (1, 2)) == ((1, 2), (0, 1))


def test_an_int_pads_every_side():
    assert pad_pairs(2, (5, 6), (3, 3), (1, 1)) == ((2, 2), (2, 2))


def test_valid_pads_nothing():
    assert pad_pairs("VALID", (5, 6), (3, 3), (1, 1)) == ((0, 0), (0, 0))


def test_pairs_pad_as_they_say():
    assert pad_pairs(((0, 1), (2, 3)), (5, 6), (3, 3), (1, 1)) == ((0, 1), (2, 3))


@pytest.mark.parametrize("padding", ["SAME", "VALID", 0, 3, ((0, 1), (2, 3))])
def test_padding_is_what_it_was(padding):
    assert check_padding("conv", padding) == padding


def test_padding_in_lists_can_be_hashed():
    assert hash(check_padding("conv", [[0, 1], [2, 3]])) == hash(((0, 1), (2, 3)))


BAD = [
    "same",
    "",
    "AB",
    -1,
    1.5,
    None,
    True,
    (1, 1, 1),
    ((1, 1),),
    ((1, 1), (1, 1), (1, 1)),
    ((1, 2, 3), (1, 2)),
]


@pytest.mark.parametrize(
    "padding", [*BAD, ((0, 1), (0, -1)), ((0, 1), (0, 1.0)), ("ab", "cd"), np.zeros((3, 2), int)]
)
def test_padding_out_of_range_is_told(padding):
    with pytest.raises(ConfigError, match="conv padding: expected"):
        check_padding("conv", padding)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_windows_lie_along_every_axis(axes):
    sliding = windows("conv", axes, 3, 2, 1, 4)
    assert (sliding.axes, sliding.reach, sliding.dilation) == (axes, (9,) * axes, (4,) * axes)
    assert sliding.pads((8,) * axes) == ((1, 1),) * axes
    assert (
        sliding.outputs((8,) * axes)
        == tuple(brute_count(8, 9, 2, (1, 1)) for _ in range(axes))
        == (1,) * axes
    )


@pytest.mark.parametrize("name", ["kernel", "stride", "dilation"])
def test_windows_out_of_range_are_told_by_name(name):
    with pytest.raises(ConfigError, match=f"conv {name}: expected one int or three"):
        windows(
            "conv", 3, **{"kernel": 3, "stride": 1, "padding": 0, "dilation": 1} | {name: (1, 2)}
        )


def test_an_image_smaller_than_the_window_is_told():
    message = r"conv: expected an image of at least \(3, 5\) after padding, got \(4, 4\); use a smaller window"
    with pytest.raises(ShapeError, match=message):
        window_count("conv", (2, 2), (3, 5), (1, 1), 1)
