"""Pixels at any place, against SciPy's interpolation and NumPy's padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from fnn.augment import matrices
from fnn.augment.ops import Move
from fnn.augment.resample.borders import MODES
from fnn.augment.resample.warp import places, warped

# NumPy's modes under SciPy's names.
SCIPY = {
    "constant": "grid-constant",
    "edge": "nearest",
    "reflect": "mirror",
    "symmetric": "reflect",
    "wrap": "grid-wrap",
}
SHAPE, SIZE = (9, 8), (7, 11)
FILL = 0.6


def image(channels=3, dtype=np.float32, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (*SHAPE, channels))
    return levels.astype(np.uint8) if dtype == np.uint8 else (levels / 255).astype(dtype)


def matrix(seed, slant=0.02):
    """A turn, a stretch, a shift and a slant, under which most places of the new image lie near the old one."""
    draw = np.random.default_rng(seed)
    m = np.eye(3) + draw.normal(size=(3, 3)) * [[0.5, 0.5, 3], [0.5, 0.5, 3], [slant, slant, 0]]
    return m.astype(np.float32)


def at(m, field=0):
    """The rows and columns that the matrix sends the new pixels' places to, in float64."""
    new = (
        np.stack([*np.mgrid[: SIZE[0], : SIZE[1]], np.ones(SIZE)], -1) @ np.asarray(m, np.float64).T
    )
    return np.moveaxis(new[..., :2] / new[..., 2:] + field, -1, 0)


def oracle(levels, rows_columns, order, mode, fill):
    own = partial(
        scipy.ndimage.map_coordinates, order=order, mode=SCIPY[mode], cval=fill, prefilter=False
    )
    return np.stack(
        [own(levels[..., k].astype(np.float64), rows_columns) for k in range(levels.shape[-1])], -1
    )


def run(levels, m, *, mode="constant", order="bilinear", fill=FILL, field=None, whole=False):
    move = Move(
        jnp.asarray(m), SIZE, whole=whole, projective=True, border=mode, order=order, field=field
    )
    level = (
        jnp.asarray(fill * 255, jnp.uint8)
        if levels.dtype == np.uint8
        else jnp.asarray(fill, levels.dtype)
    )
    return np.asarray(
        jax.jit(lambda levels, m, level: warped(levels, move._replace(matrix=m), level))(
            levels, m, level
        )
    )


def test_places_are_what_the_matrix_sends_them_to():
    m = matrix(0)
    field = np.random.default_rng(0).normal(size=(*SIZE, 2)).astype(np.float32)
    rows, columns = places(SIZE, True, jnp.asarray(m)[None], jnp.asarray(field)[None])
    np.testing.assert_allclose(np.stack([rows[0], columns[0]]), at(m, field), rtol=1e-4, atol=1e-4)
    flat = matrix(0, slant=0)
    for projective in (False, True):
        rows, columns = places(SIZE, projective, jnp.asarray(flat)[None])
        np.testing.assert_allclose(np.stack([rows[0], columns[0]]), at(flat), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_between_pixels_is_scipys_linear_interpolation(mode):
    m = matrix(3)
    found = run(image(), m, mode=mode)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, oracle(image(), at(m), 1, mode, FILL), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_bytes_are_rounded_whether_they_are_packed_as_words_or_not(channels):
    levels, m = image(channels, np.uint8), matrix(4)
    found = run(levels, m, mode="symmetric")
    exact = oracle(levels, at(m), 1, "symmetric", 0)
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() < 0.51  # half a level, and what float32 leaves
    assert len(np.unique(found)) > 30


@pytest.mark.parametrize(
    ("mode", "dtype"), [*((mode, np.uint8) for mode in MODES), ("constant", np.float32)]
)
def test_nearest_is_the_pixel_that_the_place_lies_in(mode, dtype):
    levels, m = image(dtype=dtype), matrix(5)
    found = run(levels, m, mode=mode, order="nearest")
    far = 60
    fill = {"constant_values": np.uint8(FILL * 255) if dtype == np.uint8 else np.float32(FILL)}
    padded = np.pad(
        levels, ((far, far), (far, far), (0, 0)), mode, **(fill if mode == "constant" else {})
    )
    rows, columns = at(m)
    off_ties = np.all([np.abs(own % 1 - 0.5) > 1e-3 for own in (rows, columns)], 0)
    assert off_ties.mean() > 0.9
    expected = padded[np.rint(rows).astype(int) + far, np.rint(columns).astype(int) + far]
    np.testing.assert_array_equal(found[off_ties], expected[off_ties])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_at_whole_places_nothing_is_interpolated(dtype):
    m = np.array([[0, 1, -1], [-1, 0, 6], [0, 0, 1]], np.float32)  # a quarter turn and a shift
    levels = image(dtype=dtype)
    by_whole = run(levels, m, whole=True)
    np.testing.assert_array_equal(by_whole, run(levels, m))
    np.testing.assert_array_equal(by_whole, run(levels, m, order="nearest"))
    shown = np.pad(levels, ((9, 9), (9, 9), (0, 0)), constant_values=by_whole[0, 0, 0])
    rows, columns = at(m).astype(int)
    np.testing.assert_array_equal(by_whole, shown[rows + 9, columns + 9])
    np.testing.assert_array_equal(
        by_whole[0, 0], np.full(3, int(FILL * 255) if dtype == np.uint8 else FILL, dtype)
    )


def test_a_field_is_added_to_each_place():
    field = np.random.default_rng(6).normal(size=(*SIZE, 2)).astype(np.float32)
    found = run(image(), np.eye(3, dtype=np.float32), mode="reflect", field=jnp.asarray(field))
    np.testing.assert_allclose(
        found, oracle(image(), at(np.eye(3), field), 1, "reflect", 0), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_floats_are_calculated_in_float32_and_rounded_once(dtype):
    levels, m = jnp.asarray(image()).astype(dtype), matrix(7)
    found = jax.jit(
        lambda levels: warped(
            levels, Move(jnp.asarray(m), SIZE, projective=True, border="edge"), jnp.zeros((), dtype)
        )
    )(levels)
    wider = run(np.asarray(levels.astype(jnp.float32)), m, mode="edge")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, jnp.asarray(wider).astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_batch_under_one_vmap_or_two_is_its_images(dtype):
    images = np.stack([image(dtype=dtype, seed=seed) for seed in range(6)])
    turns = np.stack([matrix(seed) for seed in range(6)])
    fill = jnp.zeros((), dtype)

    def show(levels, m):
        return warped(levels, Move(m, SIZE, projective=True), fill)

    batch = jax.jit(jax.vmap(show))(images, turns)
    nested = jax.jit(jax.vmap(jax.vmap(show)))(
        images.reshape(2, 3, *images.shape[1:]), turns.reshape(2, 3, 3, 3)
    )
    alone = jax.jit(show)
    np.testing.assert_array_equal(nested.reshape(batch.shape), batch)
    np.testing.assert_array_equal(batch, [alone(*own) for own in zip(images, turns, strict=True)])


def test_levels_and_places_have_slopes():
    """The derivative by the levels and by the matrix, against differences."""
    turn = matrices.product(
        matrices.rotation(10.0), matrices.translation(0.4, 0.3)
    )  # no place is whole
    levels, m = jnp.asarray(image()), turn
    weight = jnp.asarray(np.random.default_rng(8).normal(size=(*SIZE, 3)).astype(np.float32))

    def value(levels, m):
        return (
            warped(levels, Move(m, SIZE, projective=True, border="edge"), jnp.float32(0)) * weight
        ).sum()

    by_levels, by_matrix = jax.jit(jax.grad(value, (0, 1)))(levels, m)
    compiled = jax.jit(value)
    towards = jnp.asarray(np.random.default_rng(9).normal(size=levels.shape).astype(np.float32))
    difference = compiled(levels + towards / 2, m) - compiled(
        levels - towards / 2, m
    )  # which is exact: it is linear
    np.testing.assert_allclose(difference, (by_levels * towards).sum(), rtol=1e-3, atol=1e-3)
    shift = jnp.zeros((3, 3)).at[0, 2].set(1e-3)
    difference = (compiled(levels, m + shift) - compiled(levels, m - shift)) / 2e-3
    np.testing.assert_allclose(difference, by_matrix[0, 2], rtol=0.02, atol=0.02)
