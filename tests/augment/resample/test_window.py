"""Flips and windows copied by rows equal numpy.pad and, bit for bit, the gather of `warp`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn.augment.ops import GeometricOp
from fnn.augment.resample.borders import MODES
from fnn.augment.resample.warp import warp
from fnn.augment.resample.window import copy_window

COUNT = 40
# Size of the image, size of the window, and reach, also larger than the image.
SIZES = {
    "within": ((6, 5), (4, 3), (0, 0)),
    "around": ((6, 5), (6, 5), (2, 3)),
    "far": ((4, 3), (9, 8), (7, 7)),
    "a pixel": ((5, 7), (1, 1), (1, 0)),
}


def problem(image, size, reach, channels, seed):
    """Random images, window offsets within reach, flips, fills, and the matrices of the ops."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (COUNT, *image, channels), np.uint8)
    fills = draw.integers(0, 256, COUNT, np.uint8)
    flipped = draw.random((COUNT, 2)) < 0.5
    axes = zip(image, size, reach, strict=True)
    offsets = np.stack([draw.integers(-r, n - w + r + 1, COUNT) for n, w, r in axes], 1)
    matrix = np.tile(np.eye(3, dtype=np.float32), (COUNT, 1, 1))
    for axis in (0, 1):
        # In the flipped image, the source index of i is length - 1 - (i + offset).
        flip, offset = flipped[:, axis], offsets[:, axis]
        matrix[:, axis, axis] = np.where(flip, -1, 1)
        matrix[:, axis, 2] = np.where(flip, image[axis] - 1 - offset, offset)
    return images, matrix, fills, offsets, flipped


def window_by_numpy(image, offset, flipped, fill, size, reach, mode):
    for axis in (0, 1):
        image = np.flip(image, axis) if flipped[axis] else image
    pads = [(r, r) for r in reach] + [(0, 0)]
    options = {"constant_values": fill} if mode == "constant" else {}
    padded = np.pad(image, pads, mode, **options)
    begin = offset + reach
    return padded[begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1]]


CASES = [
    *(("far", mode) for mode in MODES),
    ("within", "edge"),
    ("around", "constant"),
    ("a pixel", "reflect"),
]


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_copied_and_gathered_windows_equal_numpy(case, mode):
    image, size, reach = SIZES[case]
    channels = {"within": 3, "around": 1, "far": 3, "a pixel": 5}[case]
    images, matrices, fills, offsets, flipped = problem(
        image, size, reach, channels, seed=len(case)
    )

    def both(image, matrix, fill):
        op = GeometricOp(matrix, size, integral=True, reach=reach, mode=mode)
        return copy_window(image, op, fill), warp(image, op, fill)

    copied, gathered = jax.jit(jax.vmap(both))(images, matrices, fills)
    problems = zip(images, offsets, flipped, fills, strict=True)
    expected = [window_by_numpy(*arrays, size, reach, mode) for arrays in problems]
    assert copied.dtype == gathered.dtype == jnp.uint8
    np.testing.assert_array_equal(copied, expected)
    np.testing.assert_array_equal(gathered, expected)


def test_single_images_and_nested_batches_equal_one_batch():
    size, reach = (6, 5), (2, 3)
    images, matrices, fills, *_ = problem((6, 5), size, reach, 3, seed=1)
    apply = partial(reflected_window, size, reach)
    batch = jax.jit(jax.vmap(apply))(images, matrices, fills)
    parts = [array.reshape(8, 5, *array.shape[1:]) for array in (images, matrices, fills)]
    nested = jax.jit(jax.vmap(jax.vmap(apply)))(*parts)
    np.testing.assert_array_equal(nested.reshape(batch.shape), batch)
    single = jax.jit(apply)
    each = [single(images[k], matrices[k], fills[k]) for k in range(4)]
    np.testing.assert_array_equal(each, batch[:4])
    shared = jax.jit(jax.vmap(apply, (None, 0, 0)))(images[0], matrices, fills)
    np.testing.assert_array_equal(shared[0], batch[0])


def reflected_window(size, reach, image, matrix, fill):
    op = GeometricOp(matrix, size, integral=True, reach=reach, mode="reflect")
    return copy_window(image, op, fill)
