"""Flips and windows copied row by row are what numpy.pad shows, and bit for bit what an index map shows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.ops import Move
from fnn.augment.resample.borders import MODES
from fnn.augment.resample.warp import warped
from fnn.augment.resample.window import windowed

COUNT = 40
# The image's size, the window's, how far it may look outside: also farther than the image is long.
SIZES = {
    "within": ((6, 5), (4, 3), (0, 0)),
    "around": ((6, 5), (6, 5), (2, 3)),
    "far": ((4, 3), (9, 8), (7, 7)),
    "a pixel": ((5, 7), (1, 1), (1, 0)),
}


def problem(image, size, reach, channels, seed):
    """Random images, offsets of windows within reach, flips, fills, and the matrices of all that."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (COUNT, *image, channels), np.uint8)
    fills = draw.integers(0, 256, COUNT, np.uint8)
    flipped = draw.random((COUNT, 2)) < 0.5
    offsets = np.stack(
        [
            draw.integers(-r, n - w + r + 1, COUNT)
            for n, w, r in zip(image, size, reach, strict=True)
        ],
        1,
    )
    matrix = np.tile(np.eye(3, dtype=np.float32), (COUNT, 1, 1))
    for axis in (0, 1):
        # The window of the flipped image: place = length - 1 - (i + offset)
        matrix[:, axis, axis] = np.where(flipped[:, axis], -1, 1)
        matrix[:, axis, 2] = np.where(
            flipped[:, axis], image[axis] - 1 - offsets[:, axis], offsets[:, axis]
        )
    return images, matrix, fills, offsets, flipped


def shown(image, offset, flipped, fill, size, reach, mode):
    """The window, by NumPy."""
    for axis in (0, 1):
        image = np.flip(image, axis) if flipped[axis] else image
    pads = [(r, r) for r in reach] + [(0, 0)]
    padded = np.pad(image, pads, mode, **({"constant_values": fill} if mode == "constant" else {}))
    begin = offset + reach
    return padded[begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1]]


CASES = [
    *(("far", mode) for mode in MODES),
    ("within", "edge"),
    ("around", "constant"),
    ("a pixel", "reflect"),
]


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_a_window_is_numpys_and_the_index_map_shows_the_same(case, mode):
    image, size, reach = SIZES[case]
    channels = {"within": 3, "around": 1, "far": 3, "a pixel": 5}[case]
    images, matrices, fills, offsets, flipped = problem(
        image, size, reach, channels, seed=len(case)
    )

    def both(image, matrix, fill):
        move = Move(matrix, size, whole=True, reach=reach, border=mode)
        return windowed(image, move, fill), warped(image, move, fill)

    copied, gathered = jax.jit(jax.vmap(both))(images, matrices, fills)
    expected = [
        shown(*own, size, reach, mode) for own in zip(images, offsets, flipped, fills, strict=True)
    ]
    assert copied.dtype == gathered.dtype == jnp.uint8
    np.testing.assert_array_equal(copied, expected)
    np.testing.assert_array_equal(gathered, expected)


def test_one_image_alone_and_images_under_two_vmaps_are_seen_as_in_one_batch():
    size, reach = (6, 5), (2, 3)
    images, matrices, fills, *_ = problem((6, 5), size, reach, 3, seed=1)
    show = partial(_show, size, reach)
    whole = jax.jit(jax.vmap(show))(images, matrices, fills)
    nested = jax.jit(jax.vmap(jax.vmap(show)))(
        *(own.reshape(8, 5, *own.shape[1:]) for own in (images, matrices, fills))
    )
    np.testing.assert_array_equal(nested.reshape(whole.shape), whole)
    alone = jax.jit(show)
    np.testing.assert_array_equal(
        [alone(*own) for own in zip(images[:4], matrices, fills, strict=False)], whole[:4]
    )
    shared = jax.jit(jax.vmap(show, (None, 0, 0)))(images[0], matrices, fills)
    np.testing.assert_array_equal(shared[0], whole[0])


def _show(size, reach, image, matrix, fill):
    return windowed(image, Move(matrix, size, whole=True, reach=reach, border="reflect"), fill)
