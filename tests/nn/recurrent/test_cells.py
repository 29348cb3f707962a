"""The recurrent layers are held to a loop in NumPy over each sequence alone, cut at its length."""

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
    r, z, n = np.split(x @ params["kernel"] + params["bias"], 3)
    own_r, own_z, own_n = np.split(h @ params["recurrent_kernel"], 3)
    n = np.tanh(n + sigmoid(r + own_r) * (own_n + params["recurrent_bias"]))
    return ((1 - sigmoid(z + own_z)) * n + sigmoid(z + own_z) * h,)


CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}


def loop(name, params, x):
    """All outputs for one sequence (time, features)."""
    state, outputs = (np.zeros(UNITS),) * (2 if name == "lstm" else 1), []
    for now in x:
        state = CELLS[name](params, now, state)
        outputs.append(state[0])
    return np.stack(outputs)


def drawn(layer, seed=0):
    """Params of the layer, none of them 0, and sequences."""
    draw = np.random.default_rng(seed)
    params = jax.eval_shape(lambda: layer.init(jax.random.key(0), (TIME, FEATURES))[0])
    return jax.tree.map(lambda p: draw.normal(size=p.shape), params), draw.normal(
        size=(3, TIME, FEATURES)
    )


@pytest.mark.usefixtures("x64")
@over_cells
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_it_reads_step_by_step(name, lengths):
    layer = MAKERS[name](UNITS)
    params, x = drawn(layer)
    y, state = jax.jit(layer.apply)(params, {}, x if lengths is None else (x, lengths))
    wanted = np.zeros((3, TIME, UNITS))
    for row, length in enumerate([TIME] * 3 if lengths is None else lengths):
        wanted[row, :length] = loop(name, params, x[row, :length])
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)
    assert state == {}


@pytest.mark.usefixtures("x64")
@over_cells
def test_it_reads_from_both_ends(name):
    layer, ends = (
        MAKERS[name](UNITS, bidirectional=True),
        MAKERS[name](UNITS, bidirectional=True, last=True),
    )
    params, x = drawn(layer)
    y, last = (jax.jit(reader.apply)(params, {}, (x, LENGTHS))[0] for reader in (layer, ends))
    for row, length in enumerate(LENGTHS):
        forward = loop(name, params["forward"], x[row, :length])
        backward = loop(name, params["backward"], x[row, :length][::-1])
        np.testing.assert_allclose(
            y[row, :length], np.concatenate([forward, backward[::-1]], 1), rtol=1e-11
        )
        np.testing.assert_array_equal(y[row, length:], 0)
        np.testing.assert_allclose(
            last[row], np.concatenate([forward[-1], backward[-1]]), rtol=1e-11
        )


@over_cells
def test_init_gives_the_params_and_shapes_that_the_docstring_tells(name, key):
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[name]
    params, state, shape = MAKERS[name](UNITS).init(key, ((TIME, FEATURES), ()))
    wanted = {
        "kernel": (FEATURES, gates * UNITS),
        "recurrent_kernel": (UNITS, gates * UNITS),
        "bias": (gates * UNITS,),
    }
    assert jax.tree.map(jnp.shape, params) == wanted | (
        {"recurrent_bias": (UNITS,)} if name == "gru" else {}
    )
    assert (state, shape) == ({}, (TIME, UNITS))
    for gate in range(gates):
        own = params["recurrent_kernel"][:, gate * UNITS : (gate + 1) * UNITS]
        np.testing.assert_allclose(own.T @ own, np.eye(UNITS), atol=1e-6)


def test_kernels_begin_gate_by_gate_as_they_are_told(key):
    layer = nn.gru(2, kernel_init=nn.constant(7.0), recurrent_init=nn.identity())
    params, _, _ = layer.init(key, (TIME, FEATURES))
    np.testing.assert_array_equal(params["kernel"], np.full((FEATURES, 6), 7.0))
    np.testing.assert_array_equal(params["recurrent_kernel"], np.tile(np.eye(2), 3))


def test_the_gates_of_a_kernel_are_drawn_apart(key):
    params, _, _ = nn.lstm(50, recurrent_init=nn.lecun_normal()).init(key, (TIME, 200))
    for kernel, inputs in ((params["kernel"], 200), (params["recurrent_kernel"], 50)):
        assert abs(np.std(kernel) * inputs**0.5 - 1) < 4 / (2 * kernel.size) ** 0.5
        first, second = kernel[:, :50], kernel[:, 50:100]
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / first.size**0.5


@pytest.mark.parametrize(("options", "bias"), [({}, 1), ({"forget_bias": -2.0}, -2)])
def test_the_forget_gate_begins_open(options, bias, key):
    layer = nn.lstm(2, **options, kernel_init=nn.zeros(), recurrent_init=nn.zeros())
    own = layer.init(key, (TIME, FEATURES))[0]["bias"]
    np.testing.assert_array_equal(own, [0, 0, bias, bias, 0, 0, 0, 0])


def test_a_forget_bias_that_is_no_number_is_told():
    with pytest.raises(ConfigError, match="lstm forget_bias: expected"):
        nn.lstm(3, forget_bias="1")


def test_an_rnn_takes_any_activation():
    layer = nn.rnn(2, activation=jax.nn.relu)
    params = {
        "kernel": jnp.ones((1, 2)),
        "recurrent_kernel": jnp.eye(2),
        "bias": jnp.array([0.0, -9.0]),
    }
    y, _ = layer.apply(params, {}, jnp.array([[[1.0], [2.0], [3.0]]]))
    np.testing.assert_array_equal(y, [[[1, 0], [3, 0], [6, 0]]])
