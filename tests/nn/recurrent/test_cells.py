"""Recurrent layers, against a NumPy loop over each sequence, cut at its length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError

TIME, FEATURES, UNITS = 5, 4, 3
LENGTHS = np.array([5, 1, 3])
MAKERS = {"rnn": nn.rnn, "lstm": nn.lstm, "gru": nn.gru}
over_cells = pytest.mark.parametrize("name", MAKERS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def rnn(params, x, state):
    (h,) = state
    return (np.tanh(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"]),)


def lstm(params, x, state):
    h, c = state
    i, f, g, o = np.split(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(params, x, state):
    (h,) = state
    r_x, z_x, n_x = np.split(x @ params["kernel"] + params["bias"], 3)
    r_h, z_h, n_h = np.split(h @ params["recurrent_kernel"], 3)
    z = sigmoid(z_x + z_h)
    n = np.tanh(n_x + sigmoid(r_x + r_h) * (n_h + params["recurrent_bias"]))
    return ((1 - z) * n + z * h,)


CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def loop(name, params, x):
    """Return all outputs for one sequence (time, features)."""
    state = (np.zeros(UNITS),) * (2 if name == "lstm" else 1)
    outputs = []
    for x_t in x:
        state = CELLS[name](params, x_t, state)
        outputs.append(state[0])
    return np.stack(outputs)


def random_params_and_x(layer, seed=0):
    """Random params of the layer, none of them 0, and sequences."""
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: layer.init(jax.random.key(0), (TIME, FEATURES))[0])
    params = jax.tree.map(lambda p: draw.normal(size=p.shape), shapes)
    x = draw.normal(size=(3, TIME, FEATURES))
    return params, x


@pytest.mark.usefixtures("x64")
@over_cells
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_outputs_equal_a_loop(name, lengths):
    layer = MAKERS[name](UNITS)
    params, x = random_params_and_x(layer)
    y, state = jax.jit(layer.apply)(params, {}, x if lengths is None else (x, lengths))
    expected = np.zeros((3, TIME, UNITS))
    for row, length in enumerate([TIME] * 3 if lengths is None else lengths):
        expected[row, :length] = loop(name, params, x[row, :length])
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-13)
    assert state == {}


@pytest.mark.usefixtures("x64")
@over_cells
def test_bidirectional_outputs_equal_a_loop(name):
    layer = MAKERS[name](UNITS, bidirectional=True)
    last_layer = MAKERS[name](UNITS, bidirectional=True, last=True)
    params, x = random_params_and_x(layer)
    y, _ = jax.jit(layer.apply)(params, {}, (x, LENGTHS))
    last, _ = jax.jit(last_layer.apply)(params, {}, (x, LENGTHS))
    for row, length in enumerate(LENGTHS):
        forward = loop(name, params["forward"], x[row, :length])
        backward = loop(name, params["backward"], x[row, :length][::-1])
        expected = np.concatenate([forward, backward[::-1]], 1)
        np.testing.assert_allclose(y[row, :length], expected, rtol=1e-11)
        np.testing.assert_array_equal(y[row, length:], 0)
        expected = np.concatenate([forward[-1], backward[-1]])
        np.testing.assert_allclose(last[row], expected, rtol=1e-11)


@over_cells
def test_init_returns_the_documented_shapes(name, key):
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[name]
    params, state, shape = MAKERS[name](UNITS).init(key, ((TIME, FEATURES), ()))
    expected = {
        "kernel": (FEATURES, gates * UNITS),
        "recurrent_kernel": (UNITS, gates * UNITS),
        "bias": (gates * UNITS,),
    }
    if name == "gru":
        expected["recurrent_bias"] = (UNITS,)
    assert jax.tree.map(jnp.shape, params) == expected
    assert (state, shape) == ({}, (TIME, UNITS))
    for gate in range(gates):
        matrix = params["recurrent_kernel"][:, gate * UNITS : (gate + 1) * UNITS]
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(UNITS), atol=1e-6)


def test_initializers_are_applied_gate_by_gate(key):
    layer = nn.gru(2, kernel_init=nn.constant(7.0), recurrent_init=nn.identity())
    params, _, _ = layer.init(key, (TIME, FEATURES))
    np.testing.assert_array_equal(params["kernel"], np.full((FEATURES, 6), 7.0))
    np.testing.assert_array_equal(params["recurrent_kernel"], np.tile(np.eye(2), 3))


def test_gates_of_a_kernel_are_drawn_independently(key):
    params, _, _ = nn.lstm(50, recurrent_init=nn.lecun_normal()).init(key, (TIME, 200))
    for kernel, inputs in ((params["kernel"], 200), (params["recurrent_kernel"], 50)):
        assert abs(np.std(kernel) * inputs**0.5 - 1) < 4 / (2 * kernel.size) ** 0.5
        first, second = kernel[:, :50], kernel[:, 50:100]
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / first.size**0.5


@pytest.mark.parametrize(("options", "bias"), [({}, 1), ({"forget_bias": -2.0}, -2)])
def test_forget_bias_is_the_initial_bias_of_its_gate(options, bias, key):
    layer = nn.lstm(2, **options, kernel_init=nn.zeros(), recurrent_init=nn.zeros())
    params, _, _ = layer.init(key, (TIME, FEATURES))
    np.testing.assert_array_equal(params["bias"], [0, 0, bias, bias, 0, 0, 0, 0])


def test_forget_bias_that_is_not_a_number_raises():
    with pytest.raises(ConfigError, match="lstm forget_bias: expected"):
        nn.lstm(3, forget_bias="1")


def test_rnn_accepts_any_activation():
    layer = nn.rnn(2, activation=jax.nn.relu)
    params = {
        "kernel": jnp.ones((1, 2)),
        "recurrent_kernel": jnp.eye(2),
        "bias": jnp.array([0.0, -9.0]),
    }
    y, _ = layer.apply(params, {}, jnp.array([[[1.0], [2.0], [3.0]]]))
    np.testing.assert_array_equal(y, [[[1, 0], [3, 0], [6, 0]]])
