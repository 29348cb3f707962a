"""Pixels at arbitrary coordinates, against SciPy's interpolation and NumPy's padding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from fnn.augment import matrices
from fnn.augment.ops import GeometricOp
from fnn.augment.resample.borders import MODES
from fnn.augment.resample.warp import source_coordinates, warp

pytestmark = pytest.mark.slow

# NumPy's modes under SciPy's names.
SCIPY = {
    "constant": "grid-constant",
    "edge": "nearest",
    "reflect": "mirror",
    "symmetric": "reflect",
    "wrap": "grid-wrap",
}
SHAPE = (9, 8)  # of the old image
SIZE = (7, 11)  # of the new image
FILL = 0.6


def image(channels=3, dtype=np.float32, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, (*SHAPE, channels))
    return levels.astype(np.uint8) if dtype == np.uint8 else (levels / 255).astype(dtype)


def matrix(seed, slant=0.02):
    """A random warp whose source coordinates are mostly in or near the old image."""
    draw = np.random.default_rng(seed)
    m = np.eye(3) + draw.normal(size=(3, 3)) * [[0.5, 0.5, 3], [0.5, 0.5, 3], [slant, slant, 0]]
    return m.astype(np.float32)


def at(m, field=0):
    """Source rows and columns of the new pixels, in float64."""
    homogeneous = np.stack([*np.mgrid[: SIZE[0], : SIZE[1]], np.ones(SIZE)], -1)
    mapped = homogeneous @ np.asarray(m, np.float64).T
    return np.moveaxis(mapped[..., :2] / mapped[..., 2:] + field, -1, 0)


def oracle(levels, rows_columns, order, mode, fill):
    interpolate = partial(
        scipy.ndimage.map_coordinates, order=order, mode=SCIPY[mode], cval=fill, prefilter=False
    )
    channels = [levels[..., k].astype(np.float64) for k in range(levels.shape[-1])]
    return np.stack([interpolate(channel, rows_columns) for channel in channels], -1)


def run(levels, m, *, fill=FILL, **options):
    op = GeometricOp(jnp.asarray(m), SIZE, projective=True, **options)
    level = jnp.asarray(fill * 255 if levels.dtype == np.uint8 else fill, levels.dtype)

    def apply(levels, m, level):
        return warp(levels, op._replace(matrix=m), level)

    return np.asarray(jax.jit(apply)(levels, m, level))


def test_source_coordinates_are_mapped_by_the_matrix_and_displaced_by_the_field():
    m = matrix(0)
    field = np.random.default_rng(0).normal(size=(*SIZE, 2)).astype(np.float32)
    rows, columns = source_coordinates(SIZE, True, jnp.asarray(m)[None], jnp.asarray(field)[None])
    np.testing.assert_allclose(np.stack([rows[0], columns[0]]), at(m, field), rtol=1e-4, atol=1e-4)
    flat = matrix(0, slant=0)
    for projective in (False, True):
        rows, columns = source_coordinates(SIZE, projective, jnp.asarray(flat)[None])
        np.testing.assert_allclose(np.stack([rows[0], columns[0]]), at(flat), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_bilinear_equals_scipys_linear_interpolation(mode):
    m = matrix(3)
    found = run(image(), m, mode=mode)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, oracle(image(), at(m), 1, mode, FILL), atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_bytes_are_rounded_with_and_without_packing(channels):
    levels, m = image(channels, np.uint8), matrix(4)
    found = run(levels, m, mode="symmetric")
    exact = oracle(levels, at(m), 1, "symmetric", 0)
    assert found.dtype == np.uint8
    assert np.abs(found - exact).max() < 0.51  # half a level and the rounding of float32
    assert len(np.unique(found)) > 30


@pytest.mark.parametrize(
    ("mode", "dtype"), [*((mode, np.uint8) for mode in MODES), ("constant", np.float32)]
)
def test_nearest_takes_the_pixel_that_contains_the_coordinate(mode, dtype):
    levels, m = image(dtype=dtype), matrix(5)
    found = run(levels, m, mode=mode, method="nearest")
    far = 60
    fill = {}
    if mode == "constant":
        fill["constant_values"] = np.uint8(FILL * 255) if dtype == np.uint8 else np.float32(FILL)
    padded = np.pad(levels, ((far, far), (far, far), (0, 0)), mode, **fill)
    rows, columns = at(m)
    # Without ties, where rounding decides.
    off_ties = (np.abs(rows % 1 - 0.5) > 1e-3) & (np.abs(columns % 1 - 0.5) > 1e-3)
    assert off_ties.mean() > 0.9
    expected = padded[np.rint(rows).astype(int) + far, np.rint(columns).astype(int) + far]
    np.testing.assert_array_equal(found[off_ties], expected[off_ties])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_integral_warps_are_not_interpolated(dtype):
    m = np.array([[0, 1, -1], [-1, 0, 6], [0, 0, 1]], np.float32)  # a quarter turn and a shift
    levels = image(dtype=dtype)
    integral = run(levels, m, integral=True)
    np.testing.assert_array_equal(integral, run(levels, m))
    np.testing.assert_array_equal(integral, run(levels, m, method="nearest"))
    padded = np.pad(levels, ((9, 9), (9, 9), (0, 0)), constant_values=integral[0, 0, 0])
    rows, columns = at(m).astype(int)
    np.testing.assert_array_equal(integral, padded[rows + 9, columns + 9])
    fill = int(FILL * 255) if dtype == np.uint8 else FILL
    np.testing.assert_array_equal(integral[0, 0], np.full(3, fill, dtype))


def test_a_field_displaces_each_coordinate():
    field = np.random.default_rng(6).normal(size=(*SIZE, 2)).astype(np.float32)
    found = run(image(), np.eye(3, dtype=np.float32), mode="reflect", field=jnp.asarray(field))
    expected = oracle(image(), at(np.eye(3), field), 1, "reflect", 0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(dtype):
    levels, m = jnp.asarray(image()).astype(dtype), matrix(7)
    op = GeometricOp(jnp.asarray(m), SIZE, projective=True, mode="edge")
    found = jax.jit(lambda levels: warp(levels, op, jnp.zeros((), dtype)))(levels)
    wider = run(np.asarray(levels.astype(jnp.float32)), m, mode="edge")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, jnp.asarray(wider).astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_batches_and_nested_batches_equal_single_images(dtype):
    images = np.stack([image(dtype=dtype, seed=seed) for seed in range(6)])
    turns = np.stack([matrix(seed) for seed in range(6)])
    fill = jnp.zeros((), dtype)

    def apply(levels, m):
        return warp(levels, GeometricOp(m, SIZE, projective=True), fill)

    batch = jax.jit(jax.vmap(apply))(images, turns)
    nested = jax.jit(jax.vmap(jax.vmap(apply)))(
        images.reshape(2, 3, *images.shape[1:]), turns.reshape(2, 3, 3, 3)
    )
    single = [jax.jit(apply)(levels, m) for levels, m in zip(images, turns, strict=True)]
    np.testing.assert_array_equal(nested.reshape(batch.shape), batch)
    np.testing.assert_array_equal(batch, single)


def test_gradients_by_levels_and_matrix_equal_differences():
    levels = jnp.asarray(image())
    # No source coordinate is a whole number, where the derivative by the matrix jumps.
    m = matrices.product(matrices.rotation(10.0), matrices.translation(0.4, 0.3))
    weight = jnp.asarray(np.random.default_rng(8).normal(size=(*SIZE, 3)).astype(np.float32))

    def value(levels, m):
        op = GeometricOp(m, SIZE, projective=True, mode="edge")
        return (warp(levels, op, jnp.float32(0)) * weight).sum()

    by_levels, by_matrix = jax.jit(jax.grad(value, (0, 1)))(levels, m)
    compiled = jax.jit(value)
    towards = jnp.asarray(np.random.default_rng(9).normal(size=levels.shape).astype(np.float32))
    # Exact, because the warp is linear in the levels.
    difference = compiled(levels + towards / 2, m) - compiled(levels - towards / 2, m)
    np.testing.assert_allclose(difference, (by_levels * towards).sum(), rtol=1e-3, atol=1e-3)
    shift = jnp.zeros((3, 3)).at[0, 2].set(1e-3)
    difference = (compiled(levels, m + shift) - compiled(levels, m - shift)) / 2e-3
    np.testing.assert_allclose(difference, by_matrix[0, 2], rtol=0.02, atol=0.02)
