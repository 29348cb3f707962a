"""Which moves are made one, and what the one is."""

import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment import matrices
from fnn.augment.ops import Move, Paint, Recolor, joined, still

SIZE = (6, 5)
TURN = matrices.around((2.5, 2), matrices.rotation(20.0))
DOWN = matrices.translation(-2, 1)
FLIP = Move(jnp.array([[1.0, 0, 0], [0, -1, 4], [0, 0, 1]]), SIZE, whole=True, reach=(0, 0))
ROTATE = Move(TURN, SIZE)
CROP = Move(DOWN, SIZE, whole=True, reach=(2, 1))
ZOOM = Move(matrices.scaling(2, 2), SIZE, support=(5, 5))
TILT = Move(TURN.at[2, 0].set(0.01), SIZE, projective=True)
WAVES = ROTATE._replace(field=jnp.ones((*SIZE, 2)))
LEVEL = jnp.float32(0.5)

# Two moves, and whether one can do what both do.
PAIRS = {
    "alike": (ROTATE, ROTATE, True),
    "a flip looks at no border": (FLIP, ROTATE._replace(border="reflect", fill=0.3), True),
    "a window that stays inside looks at no border": (
        ROTATE._replace(border="edge"),
        still(SIZE),
        True,
    ),
    "a whole move has no order": (CROP, ROTATE._replace(order="nearest"), True),
    "windows": (CROP, CROP, True),
    "the same array of fill": (ROTATE._replace(fill=LEVEL), ROTATE._replace(fill=LEVEL), True),
    "tilted, then turned": (TILT, ROTATE, True),
    "turned, then tilted": (ROTATE, TILT, True),
    "antialiased, then flipped": (ZOOM, FLIP, True),
    "another border": (ROTATE, ROTATE._replace(border="reflect"), False),
    "another fill": (ROTATE, ROTATE._replace(fill=0.5), False),
    "fills that are not known": (
        ROTATE._replace(fill=LEVEL),
        ROTATE._replace(fill=jnp.float32(0.5)),
        False,
    ),
    "another order": (ROTATE, ROTATE._replace(order="nearest"), False),
    "a window with another border": (CROP._replace(border="wrap"), ROTATE, False),
    "then antialiased": (FLIP, ZOOM, False),
    "antialiased, then turned": (ZOOM, ROTATE, False),
    "antialiased, then a window outside": (ZOOM, CROP, False),
    "antialiased, then a smaller window": (ZOOM, still((3, 3)), False),
    "a field first": (WAVES, FLIP, False),
    "a field second": (FLIP, WAVES, False),
}


@pytest.mark.parametrize("case", PAIRS)
def test_moves_are_joined_only_if_one_can_do_what_both_do(case):
    first, second, fits = PAIRS[case]
    found = joined([first, second])
    assert len(found) == (1 if fits else 2)
    if fits:
        (one,) = found
        np.testing.assert_allclose(
            one.matrix, np.asarray(first.matrix) @ np.asarray(second.matrix), atol=1e-6
        )
        assert one.size == second.size
        assert one.support == first.support
        assert one.projective == bool(np.abs(one.matrix[2, :2]).max())
    else:
        assert found[0] is first
        assert found[1] is second


def test_the_one_looks_as_the_move_does_that_looks_outside_and_the_one_that_interpolates():
    (one,) = joined([FLIP, ROTATE._replace(border="wrap", fill=0.7, order="nearest"), FLIP])
    assert (one.border, one.fill, one.order, one.whole, one.reach) == (
        "wrap",
        0.7,
        "nearest",
        False,
        None,
    )
    (one,) = joined([CROP._replace(border="edge"), ROTATE._replace(border="edge", order="nearest")])
    assert (one.border, one.order, one.reach) == ("edge", "nearest", None)


def test_windows_reach_as_far_as_both():
    (one,) = joined([CROP, FLIP, CROP._replace(reach=(1, 3))])
    assert one.whole
    assert one.reach == (3, 4)


def test_an_antialiased_move_keeps_its_kernel_when_it_is_flipped():
    (one,) = joined([ZOOM._replace(order="bicubic"), FLIP])
    assert (one.support, one.order, one.whole) == ((5, 5), "bicubic", False)


def test_what_stands_between_moves_parts_them():
    recolor, paint = Recolor(lambda x, top, seen: x), Paint(lambda image: image)
    assert joined([FLIP, recolor, FLIP]) == [FLIP, recolor, FLIP]
    assert joined([FLIP, paint, recolor, FLIP]) == [FLIP, paint, recolor, FLIP]
    assert joined([]) == []


def test_the_still_move_moves_nothing():
    move = still(SIZE)
    np.testing.assert_array_equal(move.matrix, np.eye(3))
    assert (move.size, move.whole, move.reach) == (SIZE, True, (0, 0))
