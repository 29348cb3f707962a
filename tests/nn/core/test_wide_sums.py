"""Gradients of broadcasts and lookups in half precision count beyond 256; float32 is unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.nn.core.wide_sums import along_last, broadcast, take_rows

HALF = pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
N = 30_000


def gradient(layer, shape, x, dtype):
    """The gradients of the sum of y by the params, under cast."""
    layer = nn.cast(layer, dtype)

    @jax.jit
    def program(key, x):
        params, state, _ = layer.init(key, shape)
        return jax.grad(lambda params: layer.apply(params, state, x)[0].sum())(params)

    return program(jax.random.key(0), x)


@HALF
@pytest.mark.parametrize(
    ("layer", "name", "shape", "x"),
    [
        (nn.dense(2), "bias", (3,), np.ones((N, 3), np.float32)),
        (nn.conv(2, 1), "bias", (10, 10, 1), np.ones((N // 100, 10, 10, 1), np.float32)),
        (nn.conv_transpose(2, 1), "bias", (10, 10, 1), np.ones((N // 100, 10, 10, 1), np.float32)),
        (nn.prelu(), "slope", (2,), -np.ones((N, 2), np.float32)),
        (nn.maxout(2, pieces=1), "bias", (3,), np.ones((N, 3), np.float32)),
        (nn.parameter(2, init=nn.zeros()), "value", (3,), np.ones((N, 3), np.float32)),
        (nn.learned_positions(1), "table", (1, 2), np.ones((N, 1, 2), np.float32)),
        (nn.embed(1, 2), "table", (), np.zeros(N, np.int32)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_gradient_counts_the_places(layer, name, shape, x, dtype):
    grads = gradient(layer, shape, x, dtype)[name]
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(abs(grads), np.full(grads.shape, N), rtol=rounding)


@HALF
def test_the_gradient_of_a_recurrent_layer_counts_the_steps(dtype):
    layer = nn.rnn(1, activation=lambda x: x, kernel_init=nn.zeros(), recurrent_init=nn.zeros())
    grads = gradient(layer, (1000, 1), np.ones((2, 1000, 1), np.float32), dtype)
    np.testing.assert_allclose(grads["bias"], [2000], rtol=float(jnp.finfo(dtype).eps))


X = jnp.ones((4, 5, 3))
FUNCTIONS = {
    "along_last": lambda array: along_last(array, X) * X.astype(array.dtype),
    "broadcast": lambda array: broadcast(array, (5, 3)),
    "take_rows": lambda array: take_rows(array[:, None], jnp.array([0, 2, 2, 7])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float32_has_no_derivative_of_its_own(name):
    program = jax.make_jaxpr(FUNCTIONS[name])(jnp.ones(3))
    assert "custom_jvp" not in str(program) and "bf16" not in str(program)


@HALF
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_in_half_precision_equal_those_in_float32(name, dtype):
    function = FUNCTIONS[name]
    array = jnp.array([1.0, -2.0, 0.5])
    low = array.astype(dtype)
    low_y = function(low)
    assert low_y.dtype == dtype
    weights = jnp.asarray(np.random.default_rng(0).uniform(size=low_y.shape), jnp.float32)

    def total(array):
        y = function(array).astype(jnp.float32)
        return (jnp.square(y) * weights).sum()

    np.testing.assert_array_equal(jax.vmap(function)(low[None])[0], function(array))
    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        program = jax.jit(derivative(total))
        np.testing.assert_allclose(np.float32(program(low)), program(array), rtol=2**-6)
