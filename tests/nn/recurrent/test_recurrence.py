"""What every recurrent layer owes to how it reads: lengths, padding, precision, parts and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, RangeError, ShapeError, TreeMismatchError

SHAPE = (4, 2)
X = jnp.asarray(np.random.default_rng(0).normal(size=(3, *SHAPE)), jnp.float32)
LENGTHS = jnp.array([4, 1, 2])


def reader(**options):
    layer = nn.gru(3, **options)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), SHAPE)[0])
    draw = np.random.default_rng(1)
    return layer, jax.tree.map(
        lambda p: jnp.asarray(0.5 * draw.normal(size=p.shape), p.dtype), shapes
    )


def test_full_lengths_are_no_lengths():
    layer, params = reader(bidirectional=True)
    told, _ = layer.apply(params, {}, (X, jnp.full(3, 4, jnp.uint8)))
    np.testing.assert_array_equal(told, layer.apply(params, {}, X)[0])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_what_stands_beyond_a_length_has_no_influence_be_it_nan(bidirectional):
    layer, params = reader(bidirectional=bidirectional)
    beyond = jnp.arange(4)[None] >= LENGTHS[:, None]
    padded = jnp.where(beyond[..., None], jnp.nan, X)

    def total(params, x):
        y, _ = layer.apply(params, {}, (x, LENGTHS))
        return y.sum(), y

    slopes = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    ((grads, dx), y), ((wanted, _), y_wanted) = slopes(params, padded), slopes(params, X)
    np.testing.assert_array_equal(y, y_wanted)
    jax.tree.map(np.testing.assert_array_equal, grads, wanted)
    np.testing.assert_array_equal(dx[beyond], 0)


def test_the_last_output_is_that_at_the_length():
    (layer, params), (last, _) = reader(), reader(last=True)
    y, _ = layer.apply(params, {}, (X, LENGTHS))
    np.testing.assert_array_equal(
        last.apply(params, {}, (X, LENGTHS))[0], y[jnp.arange(3), LENGTHS - 1]
    )
    np.testing.assert_array_equal(
        last.apply(params, {}, X)[0], layer.apply(params, {}, X)[0][:, -1]
    )


@pytest.mark.parametrize(
    "options", [{}, {"last": True}, {"bidirectional": True}, {"bidirectional": True, "last": True}]
)
@pytest.mark.parametrize("shape", [SHAPE, (SHAPE, ())])
def test_init_gives_the_shape_that_apply_gives(options, shape, key):
    layer, params = reader(**options)
    x = X if shape == SHAPE else (X, LENGTHS)
    y, _ = jax.eval_shape(layer.apply, params, {}, x)
    assert y.shape == (3, *layer.init(key, shape)[2])


@pytest.mark.parametrize("length", [0, 5, -1])
def test_a_length_out_of_range_is_told(length):
    layer, params = reader()
    with pytest.raises(
        RangeError, match=rf"gru lengths: expected 1 <= length <= 4, got {length} at index \(1,\)"
    ):
        layer.apply(params, {}, (X, LENGTHS.at[1].set(length)))


@pytest.mark.parametrize("options", [{}, {"last": True}])
def test_a_traced_length_out_of_range_makes_values_and_gradients_nan(options):
    layer, params = reader(**options)

    def total(params, x, lengths):
        y, _ = layer.apply(params, {}, (x, lengths))
        return y.sum(), y

    grads, y = jax.jit(jax.grad(total, (0, 1), has_aux=True))(params, X, LENGTHS.at[1].set(5))
    assert np.isnan(y[1]).all() and np.isfinite(y[::2]).all()
    assert np.isnan(grads[0]["kernel"]).any() and np.isnan(grads[1][1]).any()


def halved(tree):
    return jax.tree.map(lambda array: array.astype(jnp.bfloat16), tree)


def test_in_half_precision_it_is_near():
    layer, params = reader(bidirectional=True)
    y, _ = layer.apply(halved(params), {}, (halved(X), LENGTHS))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(float), layer.apply(params, {}, (X, LENGTHS))[0], atol=0.03)


def test_in_half_precision_the_memory_is_not_rounded():
    """1 and then 64 times 1/1024, each of which would be lost in bfloat16: a memory of 17/16."""
    open_gates = jnp.array([30.0, 30.0, 0.0, 30.0])
    params = {
        "kernel": jnp.array([[0.0, 0, 1, 0]]),
        "recurrent_kernel": jnp.zeros((1, 4)),
        "bias": open_gates,
    }
    x = jnp.full((1, 65, 1), 2.0**-10).at[0, 0, 0].set(jnp.arctanh(0.99))
    y, _ = nn.lstm(1, last=True).apply(halved(params), {}, halved(x))
    np.testing.assert_allclose(y.astype(float), [[np.tanh(0.99 + 1 / 16)]], atol=2**-8)


def test_each_end_is_a_part_that_may_be_replaced(key):
    layer, _ = reader(bidirectional=True)
    only_forward = nn.replace(layer, "backward", nn.dense(5))
    params, state, shape = only_forward.init(key, SHAPE)
    assert (params.keys(), shape) == ({"forward", "backward"}, (4, 8))
    assert only_forward.apply(params, state, X)[0].shape == (3, 4, 8)


def test_the_two_ends_begin_apart(key):
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
def test_what_does_not_fit_is_told(case):
    x, error, message = ERRORS[case]
    layer, params = reader()
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
def test_params_that_do_not_fit_are_told(params, message):
    with pytest.raises(TreeMismatchError, match=message):
        nn.gru(3).apply(params, {}, X)


@pytest.mark.parametrize(
    "shape", [(), (4,), (4, 2, 2), (0, 2), (4, 0), ((4, 2), (4,)), ((4, 2), (), ())]
)
def test_a_shape_of_no_sequences_is_told(shape, key):
    with pytest.raises(ShapeError, match=r"lstm: expected a shape \(time, features\)"):
        nn.lstm(3).init(key, shape)


@pytest.mark.parametrize("units", [0, -1, 2.0, "3", True, None])
@pytest.mark.parametrize("maker", [nn.rnn, nn.lstm, nn.gru])
def test_units_out_of_range_are_told_at_once(maker, units):
    with pytest.raises(ConfigError, match=f"{maker.__name__} units: expected"):
        maker(units)
