"""Properties of every recurrent layer: lengths, padding, precision, parts and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, RangeError, ShapeError, TreeMismatchError

SHAPE = (4, 2)
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, *SHAPE)), jnp.float32)
LENGTHS = jnp.array([4, 1, 2])


def gru_and_params(**options):
    layer = nn.gru(3, **options)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), SHAPE)[0])
    draw = np.random.default_rng(1)

    def random(p):
        return jnp.asarray(0.5 * draw.normal(size=p.shape), p.dtype)

    return layer, jax.tree.map(random, shapes)


def test_full_lengths_equal_none():
    layer, params = gru_and_params(bidirectional=True)
    y, _ = layer.apply(params, {}, (X, jnp.full(3, 4, jnp.uint8)))
    np.testing.assert_array_equal(y, layer.apply(params, {}, X)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_values_beyond_a_length_have_no_effect_even_nan(bidirectional):
    layer, params = gru_and_params(bidirectional=bidirectional)
    beyond = jnp.arange(4)[None] >= LENGTHS[:, None]
    padded = jnp.where(beyond[..., None], jnp.nan, X)

    def total(params, x):
        y, _ = layer.apply(params, {}, (x, LENGTHS))
        return y.sum(), y

    slopes = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    (grads, dx), y = slopes(params, padded)
    (expected_grads, _), expected_y = slopes(params, X)
    np.testing.assert_array_equal(y, expected_y)
    jax.tree.map(np.testing.assert_array_equal, grads, expected_grads)
    np.testing.assert_array_equal(dx[beyond], 0)


def test_last_output_is_that_at_the_length():
    layer, params = gru_and_params()
    last_layer, _ = gru_and_params(last=True)
    y, _ = layer.apply(params, {}, (X, LENGTHS))
    last, _ = last_layer.apply(params, {}, (X, LENGTHS))
    np.testing.assert_array_equal(last, y[jnp.arange(3), LENGTHS - 1])
    y, _ = layer.apply(params, {}, X)
    last, _ = last_layer.apply(params, {}, X)
    np.testing.assert_array_equal(last, y[:, -1])


@pytest.mark.parametrize(
    "options", [{}, {"last": True}, {"bidirectional": True}, {"bidirectional": True, "last": True}]
)
@pytest.mark.parametrize("shape", [SHAPE, (SHAPE, ())])
def test_init_returns_the_shape_of_apply(options, shape, key):
    layer, params = gru_and_params(**options)
    x = X if shape == SHAPE else (X, LENGTHS)
    y, _ = jax.eval_shape(layer.apply, params, {}, x)
    assert y.shape == (3, *layer.init(key, shape)[2])


@pytest.mark.parametrize("length", [5, -1])
def test_length_out_of_range_raises(length):
    layer, params = gru_and_params()
    message = rf"gru lengths: expected 0 <= length <= 4, got {length} at index \(1,\)"
    with pytest.raises(RangeError, match=message):
        layer.apply(params, {}, (X, LENGTHS.at[1].set(length)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [nn.rnn, nn.lstm, nn.gru])
@pytest.mark.parametrize("last", [False, True])
def test_a_sequence_of_length_0_is_0_and_changes_nothing(make, last, key):
    layer = make(5, bidirectional=True, last=last)
    params, _, _ = layer.init(key, SHAPE)
    lengths = LENGTHS.at[1].set(0)

    def total(params, x, lengths):
        y, _ = layer.apply(params, {}, (x, lengths))
        return jnp.sin(y).sum(), y

    apply = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    # NaN in place of values that do not count.
    (grads, slopes), y = apply(params, X.at[1].set(jnp.nan), lengths)
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(slopes[1], 0)
    (expected, _), others = apply(params, X[::2], lengths[::2])
    np.testing.assert_allclose(y[::2], others, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(grads, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"last": True}])
def test_traced_length_out_of_range_makes_values_and_gradients_nan(options):
    layer, params = gru_and_params(**options)

    def total(params, x, lengths):
        y, _ = layer.apply(params, {}, (x, lengths))
        return y.sum(), y

    grads, y = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, X, LENGTHS.at[1].set(5))
    assert np.isnan(y[1]).all() and np.isfinite(y[::2]).all()
    assert np.isnan(grads[0]["kernel"]).any() and np.isnan(grads[1][1]).any()


def to_bfloat16(tree):
    return jax.tree.map(lambda array: array.astype(jnp.bfloat16), tree)


def test_half_precision_is_close_to_float32():
    layer, params = gru_and_params(bidirectional=True)
    y, _ = layer.apply(to_bfloat16(params), {}, (to_bfloat16(X), LENGTHS))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(float), layer.apply(params, {}, (X, LENGTHS))[0], atol=0.03)


def test_memory_is_not_rounded_to_half_precision():
    """1 plus 64 times 1/1024, each of which bfloat16 would round off: a memory of 17/16."""
    open_gates = jnp.array([30.0, 30.0, 0.0, 30.0])
    params = {
        "kernel": jnp.array([[0.0, 0, 1, 0]]),
        "recurrent_kernel": jnp.zeros((1, 4)),
        "bias": open_gates,
    }
    x = jnp.full((1, 65, 1), 2.0**-10).at[0, 0, 0].set(jnp.arctanh(0.99))
    y, _ = nn.lstm(1, last=True).apply(to_bfloat16(params), {}, to_bfloat16(x))
    np.testing.assert_allclose(y.astype(float), [[np.tanh(0.99 + 1 / 16)]], atol=2**-8)


def test_each_direction_is_a_part_that_can_be_replaced(key):
    layer, _ = gru_and_params(bidirectional=True)
    only_forward = nn.replace(layer, "backward", nn.dense(5))
    params, state, shape = only_forward.init(key, SHAPE)
    assert (params.keys(), shape) == ({"forward", "backward"}, (4, 8))
    assert only_forward.apply(params, state, X)[0].shape == (3, 4, 8)


def test_directions_have_different_initial_params(key):
    params, _, _ = nn.rnn(3, bidirectional=True).init(key, SHAPE)
    assert not np.array_equal(params["forward"]["kernel"], params["backward"]["kernel"])


OTHER = {"kernel": jnp.ones((2, 9)), "recurrent_kernel": jnp.ones((3, 9)), "bias": jnp.ones(9)}
ERRORS = {
    "integers": (X.astype(int), DTypeError, "gru x: expected floating.*got int32"),
    "image": (X[..., None], ShapeError, r"gru x: expected a shape \(time, features\)"),
    "vector": (X[0], ShapeError, r"gru x: expected a shape \(time, features\)"),
    "no times": (X[:, :0], ShapeError, r"gru x: expected a shape \(time, features\)"),
    "width": (X[..., :1], ShapeError, r"gru x: expected \(..., 2\) as in its kernel"),
    "three": (
        (X, LENGTHS, LENGTHS),
        ShapeError,
        r"gru x: expected a shape .* or \(\(time, features\), \(\)\)",
    ),
    "float lengths": (
        (X, LENGTHS.astype(float)),
        DTypeError,
        "gru lengths: expected an integer dtype",
    ),
    "mask": ((X, jnp.ones((3, 4), bool)), ShapeError, r"gru x: expected a shape"),
    "few lengths": (
        (X, LENGTHS[:2]),
        ShapeError,
        r"gru lengths: expected one a sequence, \(3,\), got \(2,\)",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_wrong_inputs_raise(case):
    x, error, message = ERRORS[case]
    layer, params = gru_and_params()
    with pytest.raises(error, match=message):
        layer.apply(params, {}, x)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "gru kernel: .*no such leaf"),
        (OTHER, "gru recurrent_bias: .*no such leaf"),
        ([], "gru: expected a dict"),
    ],
)
def test_wrong_params_raise(params, message):
    with pytest.raises(TreeMismatchError, match=message):
        nn.gru(3).apply(params, {}, X)


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 2, 2), (0, 2), (4, 0), ((4, 2), (4,)), ((4, 2), (), ())]
)
def test_wrong_shapes_raise(shape, key):
    with pytest.raises(ShapeError, match=r"lstm: expected a shape \(time, features\)"):
        nn.lstm(3).init(key, shape)


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", True, None])
@pytest.mark.parametrize("maker", [nn.rnn, nn.lstm, nn.gru])
def test_invalid_units_raise(maker, units):
    with pytest.raises(ConfigError, match=f"{maker.__name__} units: expected"):
        maker(units)
