"""Max pooling, against `lax.reduce_window` and torch's rule for ties; averages, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fnn.nn.kernels.pool import avg_pool, max_pool

HALVES = ((2, 2), (2, 2), ((0, 0), (0, 0)))
OVERLAPPING = ((3, 3), (2, 2), ((1, 1), (0, 1)))
either = pytest.mark.parametrize("pool", [max_pool, avg_pool])


def normal(shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


def windows(x, window, stride, padding):
    """All windows as NumPy arrays, NaN where padded: (batch, height, width, *window, channel)."""
    x = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)), constant_values=np.nan)
    view = np.lib.stride_tricks.sliding_window_view(x, window, (1, 2))
    view = view[:, :: stride[0], :: stride[1]]
    return np.moveaxis(view, 3, -1)


def squares(pool):
    """The pooled values and the gradient of half their sum of squares."""

    def evaluate(x):
        y, pull = jax.vjp(pool, x)
        return y, pull(y)[0]

    return jax.jit(evaluate)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def problems(draw):
    """Padding smaller than the window, so that every window has a real element."""
    window, stride = draw(pairs), draw(pairs)
    padding = tuple((draw(st.integers(0, w - 1)), draw(st.integers(0, w - 1))) for w in window)
    image = [draw(st.integers(w, 7)) for w in window]
    return (2, *image, 2), window, stride, padding


@pytest.mark.slow
@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems())
def test_max_equals_reduce_window(problem):
    """Values and, where no two elements are equal, derivatives."""
    shape, window, stride, padding = problem

    def oracle(x):
        pads = ((0, 0), *padding, (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *stride, 1), pads)

    x = normal(shape)
    ours, gradient = squares(lambda x: max_pool(x, window, stride, padding))(x)
    theirs, expected = squares(oracle)(x)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(problems())
def test_average_equals_the_mean_of_real_elements(problem):
    shape, *options = problem
    x = normal(shape)
    expected = np.nanmean(windows(x, *options), axis=(3, 4))
    y = jax.jit(lambda x: avg_pool(x, *options))(x)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [HALVES, OVERLAPPING])
def test_first_of_equal_maxima_takes_the_gradient(options):
    """In row-major order, as in torch. Small integers have many ties."""
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (3, 6, 6, 2)), "float32")
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, *options).sum()))(x)

    indices = windows(np.arange(x.size).reshape(x.shape), *options)
    values = windows(x, *options)
    flat = (*values.shape[:3], -1, values.shape[-1])
    first = np.nanargmax(values.reshape(flat), 3, keepdims=True)
    chosen = np.take_along_axis(indices.reshape(flat), first, 3).astype(int)
    expected = np.bincount(chosen.ravel(), minlength=x.size).reshape(x.shape)
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("options", [HALVES, OVERLAPPING])
def test_nan_is_the_largest(options):
    x = normal((1, 6, 6, 1)).at[0, 2, 3, 0].set(jnp.nan)
    is_nan = windows(np.isnan(np.asarray(x)), *options)
    expected = is_nan.any((3, 4), where=~np.isnan(is_nan))  # padding is NaN there
    y = jax.jit(lambda x: max_pool(x, *options))(x)
    np.testing.assert_array_equal(np.isnan(y), expected)


def test_image_is_cropped_to_whole_windows():
    x = normal((2, 5, 7, 3))
    pool = jax.jit(lambda x: max_pool(x, *HALVES))
    np.testing.assert_array_equal(pool(x), pool(x[:, :4, :6]))


@either
@pytest.mark.parametrize("options", [HALVES, OVERLAPPING])
def test_forward_and_reverse_mode_agree(pool, options):
    with jax.enable_x64(True):
        x = normal((2, 6, 5, 2), "float64")

        def objective(x):
            return jnp.sin(pool(x, *options)).sum()

        forward, reverse = jax.jit(jax.jacfwd(objective))(x), jax.jit(jax.grad(objective))(x)
        np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(reverse, slopes(jax.jit(objective), x), rtol=1e-6, atol=1e-8)
        direction = jnp.cos(x)
        forward = jax.jit(lambda x: jax.jvp(jax.grad(objective), (x,), (direction,))[1])(x)
        reverse = jax.jit(jax.grad(lambda x: jnp.vdot(jax.grad(objective)(x), direction)))(x)
        np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-12)


def slopes(f, x, step=1e-6):
    """Central differences in every element."""
    units = step * jnp.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape)
    return ((jax.vmap(lambda u: f(x + u) - f(x - u))(units)) / (2 * step)).reshape(x.shape)


@either
def test_vmap_equals_a_loop(pool):
    x = normal((3, 2, 6, 6, 2))
    gradient = jax.jit(jax.grad(lambda x: (pool(x, *OVERLAPPING) ** 2).sum()))
    expected = jnp.stack([gradient(a) for a in x])
    np.testing.assert_allclose(jax.vmap(gradient)(x), expected, rtol=1e-6)


@either
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_to_float32(pool, dtype):
    x = normal((2, 6, 6, 2), dtype)
    pooled = jax.jit(lambda x: pool(x, *OVERLAPPING))
    y = pooled(x)
    expected = pooled(x.astype(jnp.float32))
    assert y.dtype == dtype
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=8 * eps)


@either
def test_program_has_no_window_reduction(pool):
    """`reduce_window` and its gradient are slow on CPU."""
    step = jax.jit(jax.grad(lambda x: pool(x, *OVERLAPPING).sum()))
    text = step.lower(normal((2, 6, 6, 2))).as_text()
    assert "reduce_window" not in text
    assert "select_and_scatter" not in text
