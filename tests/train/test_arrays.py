"""Conversion of arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data
from fnn.errors import DTypeError
from fnn.train.arrays import Conversion, validate_data

LABELS = np.zeros(4, np.int32)


def test_batch_is_copied():
    batch = (
        {"a": np.ones((64, 64), np.float32), "b": np.ones((64, 64), np.float32)},
        np.zeros(64, np.int32),
    )
    inputs, targets = validate_data("batch", batch)
    for buffer in jax.tree.leaves(batch):
        buffer[...] = 7
    assert all((leaf == 1).all() for leaf in inputs.values()) and (targets == 0).all()


def test_nan_is_allowed_where_steps_may_be_skipped():
    inputs = np.array([[np.nan], [np.inf], [1.0], [2.0]])
    validate_data("batch", (inputs, LABELS), Conversion(finite=False))
    with pytest.raises(DTypeError, match=r"inputs: expected numbers that fit float32, got 1e\+300"):
        validate_data("batch", (inputs * 1e300, LABELS), Conversion(finite=False))


SECONDS = 1.6e9 + np.arange(4.0)


@pytest.mark.parametrize(
    ("far", "where"),
    [
        (np.stack([[0.1, -1e9, 1e9, 0.5], SECONDS], 1), "inputs column 1"),
        (SECONDS, "inputs"),
        (SECONDS[:, None, None] * np.ones((2, 3)), "inputs column 0"),
        (np.stack([SECONDS, SECONDS], 1)[:, :1], "inputs column 0"),
    ],
)
def test_a_column_that_float32_blurs_is_named(far, where):
    with pytest.warns(
        UserWarning,
        match=rf"^{where}: float32 rounds numbers in \[16\d+, 1600000003\] .*standardize\(x\)",
    ):
        validate_data("data", (far, LABELS))
    with pytest.warns(UserWarning, match="^valid targets"):
        validate_data("valid", (LABELS, far))
    mapped = data.standardize(far.reshape(4, -1))(far.reshape(4, -1))
    validate_data("data", (mapped, LABELS))
    with jax.enable_x64(True):
        validate_data("data", (far, LABELS))


@pytest.mark.parametrize(
    "near",
    [
        np.full(4, 1.6e9 + 0.1),
        np.array([2019.0, 2020, 2021, 2022]),
        np.array([0.0, 1e9, 2e9, 3e9]),
        np.array([1e-9, 2e-9, 1e30, 1e-30]),
    ],
)
def test_rounding_that_loses_nothing_is_silent(near):
    validate_data("data", (near[:, None], near))


def test_time_spans_are_no_numbers():
    with pytest.raises(DTypeError, match=r"inputs: expected an array of numbers, got .*timedelta"):
        validate_data("data", (np.zeros((4, 1), "m8[s]"), LABELS))


def test_integers_of_64_bits_are_narrowed_where_they_fit():
    _, targets = validate_data("batch", (LABELS, np.array([0, 1, 2**31 - 1, -(2**31)])))
    assert targets.dtype == jnp.int32 and targets[2] == 2**31 - 1


def test_a_mask_without_masked_entries_is_no_mask():
    masked = np.ma.masked_less(np.ones((4, 2), np.float32), 0)
    inputs, _ = validate_data("batch", (masked, LABELS))
    np.testing.assert_array_equal(inputs, np.ones((4, 2)))
