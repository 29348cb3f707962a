"""Windows, against counting one by one, NumPy and the definition of "SAME"."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fnn.errors import ConfigError, ShapeError
from fnn.nn.core.windows import check_padding, make_windows, pad_pairs, window_count

small = settings(max_examples=100, deadline=None, derandomize=True)
pairs = st.tuples(st.integers(1, 5), st.integers(1, 5))
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
pads = st.tuples(st.integers(0, 3), st.integers(0, 3))


def brute_count(size, window, stride, pad):
    """Count the windows that begin at a multiple of the stride and end in the padded axis."""
    return sum(start + window <= size + sum(pad) for start in range(0, size + sum(pad), stride))


@pytest.mark.slow
@small
@given(sizes, pairs, pairs, st.tuples(pads, pads))
def test_window_count_equals_brute_force(size, window, stride, padding):
    axes = zip(size, window, stride, padding, strict=True)
    expected = tuple(brute_count(*axis) for axis in axes)
    if 0 in expected:
        with pytest.raises(ShapeError, match="somewhere: expected an image of at least"):
            window_count("somewhere", size, window, stride, padding)
    else:
        assert window_count("somewhere", size, window, stride, padding) == expected


@pytest.mark.slow
@small
@given(sizes, pairs, pairs)
def test_window_count_equals_that_of_numpy(size, window, stride):
    if size[0] >= window[0] and size[1] >= window[1]:
        view = np.lib.stride_tricks.sliding_window_view(np.zeros(size), window)
        view = view[:: stride[0], :: stride[1]]
        assert window_count("somewhere", size, window, stride, "VALID") == view.shape[:2]


@small
@given(sizes, pairs, pairs)
def test_same_has_ceil_size_over_stride_windows_and_least_padding(size, window, stride):
    padding = pad_pairs("SAME", size, window, stride)
    count = window_count("somewhere", size, window, stride, "SAME")
    assert count == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    for n, w, s, (low, high), outputs in zip(size, window, stride, padding, count, strict=True):
        enough = [total for total in range(20) if brute_count(n, w, s, (0, total)) >= outputs]
        assert low + high == min(enough)
        assert high - low in (0, 1)


def test_odd_pixel_of_same_is_high():
    assert pad_pairs("SAME", (5, 6), (4, 3), (1, 2)) == ((1, 2), (0, 1))


def test_int_pads_every_side():
    assert pad_pairs(2, (5, 6), (3, 3), (1, 1)) == ((2, 2), (2, 2))


def test_valid_has_zero_padding():
    assert pad_pairs("VALID", (5, 6), (3, 3), (1, 1)) == ((0, 0), (0, 0))


def test_pairs_are_returned():
    assert pad_pairs(((0, 1), (2, 3)), (5, 6), (3, 3), (1, 1)) == ((0, 1), (2, 3))


@pytest.mark.parametrize("padding", ["SAME", "VALID", 0, 3, ((0, 1), (2, 3))])
def test_checked_padding_is_unchanged(padding):
    assert check_padding("conv", padding) == padding


def test_padding_given_as_lists_is_hashable():
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
def test_invalid_padding_raises(padding):
    with pytest.raises(ConfigError, match="conv padding: expected"):
        check_padding("conv", padding)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_windows_have_every_number_of_axes(axes):
    windows = make_windows("conv", axes, 3, 2, 1, 4)
    assert windows.axes == axes
    assert windows.reach == (9,) * axes
    assert windows.dilation == (4,) * axes
    assert windows.pads((8,) * axes) == ((1, 1),) * axes
    assert brute_count(8, 9, 2, (1, 1)) == 1
    assert windows.outputs((8,) * axes) == (1,) * axes


@pytest.mark.parametrize("name", ["kernel", "stride", "dilation"])
def test_invalid_option_raises_an_error_with_its_name(name):
    options = {"kernel": 3, "stride": 1, "padding": 0, "dilation": 1} | {name: (1, 2)}
    with pytest.raises(ConfigError, match=f"conv {name}: expected one int or three"):
        make_windows("conv", 3, **options)


def test_image_smaller_than_the_window_raises():
    message = r"conv: expected an image of at least \(3, 5\) after padding, got \(4, 4\); "
    message += "use a smaller window"
    with pytest.raises(ShapeError, match=message):
        window_count("conv", (2, 2), (3, 5), (1, 1), 1)
