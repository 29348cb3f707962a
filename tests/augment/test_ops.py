"""Merging of geometric ops: which pairs are merged, and the op that results."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment import matrices
from fnn.augment.ops import GeometricOp, PixelOp, PointOp, identity_op, merge_ops

SIZE = (6, 5)
TURN = matrices.around((2.5, 2), matrices.rotation(20.0))
DOWN = matrices.translation(-2, 1)
MIRROR = jnp.array([[1.0, 0, 0], [0, -1, 4], [0, 0, 1]])
FLIP = GeometricOp(MIRROR, SIZE, integral=True, reach=(0, 0))
ROTATE = GeometricOp(TURN, SIZE)
CROP = GeometricOp(DOWN, SIZE, integral=True, reach=(2, 1))
ZOOM = GeometricOp(matrices.scaling(2, 2), SIZE, support=(5, 5))
TILT = GeometricOp(TURN.at[2, 0].set(0.01), SIZE, projective=True)
WAVES = ROTATE._replace(field=jnp.ones((*SIZE, 2)))
LEVEL = jnp.float32(0.5)

# Two ops, and whether one op can do both.
PAIRS = {
    "equal options": (ROTATE, ROTATE, True),
    "a flip has no border": (FLIP, ROTATE._replace(mode="reflect", fill=0.3), True),
    "a window that stays inside has no border": (
        ROTATE._replace(mode="edge"),
        identity_op(SIZE),
        True,
    ),
    "an integral op has no method": (CROP, ROTATE._replace(method="nearest"), True),
    "windows": (CROP, CROP, True),
    "the same array of fill": (ROTATE._replace(fill=LEVEL), ROTATE._replace(fill=LEVEL), True),
    "tilted, then turned": (TILT, ROTATE, True),
    "turned, then tilted": (ROTATE, TILT, True),
    "antialiased, then flipped": (ZOOM, FLIP, True),
    "another mode": (ROTATE, ROTATE._replace(mode="reflect"), False),
    "another fill": (ROTATE, ROTATE._replace(fill=0.5), False),
    "unknown fills": (
        ROTATE._replace(fill=LEVEL),
        ROTATE._replace(fill=jnp.float32(0.5)),
        False,
    ),
    "another method": (ROTATE, ROTATE._replace(method="nearest"), False),
    "a window with another mode": (CROP._replace(mode="wrap"), ROTATE, False),
    "then antialiased": (FLIP, ZOOM, False),
    "antialiased, then turned": (ZOOM, ROTATE, False),
    "antialiased, then a window outside": (ZOOM, CROP, False),
    "antialiased, then a smaller window": (ZOOM, identity_op((3, 3)), False),
    "a field first": (WAVES, FLIP, False),
    "a field second": (FLIP, WAVES, False),
}


@pytest.mark.parametrize("case", PAIRS)
def test_ops_are_merged_only_if_one_op_can_do_both(case):
    first, second, fits = PAIRS[case]
    found = merge_ops([first, second])
    assert len(found) == (1 if fits else 2)
    if fits:
        (one,) = found
        expected = np.asarray(first.matrix) @ np.asarray(second.matrix)
        np.testing.assert_allclose(one.matrix, expected, atol=1e-6)
        assert one.size == second.size
        assert one.support == first.support
        assert one.projective == bool(np.abs(one.matrix[2, :2]).max())
    else:
        assert found[0] is first
        assert found[1] is second


def test_mode_and_method_are_those_of_the_ops_that_use_them():
    rotate = ROTATE._replace(mode="wrap", fill=0.7, method="nearest")
    (one,) = merge_ops([FLIP, rotate, FLIP])
    assert (one.mode, one.fill, one.method) == ("wrap", 0.7, "nearest")
    assert (one.integral, one.reach) == (False, None)
    (one,) = merge_ops([CROP._replace(mode="edge"), ROTATE._replace(mode="edge", method="nearest")])
    assert (one.mode, one.method, one.reach) == ("edge", "nearest", None)


def test_reaches_add_up():
    (one,) = merge_ops([CROP, FLIP, CROP._replace(reach=(1, 3))])
    assert one.integral
    assert one.reach == (3, 4)


def test_an_antialiased_op_keeps_its_kernel_when_flipped():
    (one,) = merge_ops([ZOOM._replace(method="bicubic"), FLIP])
    assert (one.support, one.method, one.integral) == ((5, 5), "bicubic", False)


def test_other_ops_between_geometric_ops_prevent_the_merge():
    point = PointOp(lambda levels, highest, statistics: levels)
    pixel = PixelOp(lambda image: image)
    assert merge_ops([FLIP, point, FLIP]) == [FLIP, point, FLIP]
    assert merge_ops([FLIP, pixel, point, FLIP]) == [FLIP, pixel, point, FLIP]
    assert merge_ops([]) == []


def test_the_identity_op_moves_nothing():
    op = identity_op(SIZE)
    np.testing.assert_array_equal(op.matrix, np.eye(3))
    assert (op.size, op.integral, op.reach) == (SIZE, True, (0, 0))
