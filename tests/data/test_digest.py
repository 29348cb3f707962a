"""Digests are equal for equal data, and differ otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import data
from fnn.errors import DTypeError

X = np.arange(12, dtype=np.float32).reshape(3, 4)
Y = np.array([0, 1, 2], np.int32)


def test_equal_data_has_equal_digests():
    wanted = data.digest((X, Y))
    assert len(wanted) == 64
    for equal in (
        (jnp.asarray(X), jnp.asarray(Y)),
        (np.asfortranarray(X), Y),
        (X.astype(">f4"), Y.astype(">i4")),
        [X[::-1][::-1], Y],
    ):
        assert data.digest(equal) == wanted


def test_other_data_has_other_digests():
    one_bit = X.copy()
    one_bit.view(np.uint8)[2, 3] ^= 1
    variants = [
        (X, Y),
        (one_bit, Y),
        (X[::-1], Y),
        (X.reshape(4, 3), Y),
        (X.view(np.int32), Y),
        (Y, X),
        {"x": X, "y": Y},
        (X, Y, np.zeros((0, 2))),
        (X, Y, np.zeros((0, 3))),
        (X.astype(jnp.bfloat16), Y),
        (X, np.int32(3)),
        X,
    ]
    assert len({data.digest(variant) for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    "wrong",
    [np.array(["a"]), np.array([{}]), np.ma.masked_equal(Y, 1), np.array(["2020"], "M8[D]")],
)
def test_arrays_that_are_no_numbers_raise(wrong):
    with pytest.raises(DTypeError, match=r"digest 1: expected an array"):
        data.digest((X, wrong))
    with pytest.raises(DTypeError, match="got a traced array"):
        jax.jit(lambda x: len(data.digest(x)))(X)
