"""Tests of the switch: each example against its layer alone, in value and in gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

X = jnp.float32(np.random.default_rng(0).normal(size=(5, 4)))
INDEX = jnp.array([2, 0, 1, 1, 2])
LAYERS = nn.dense(3), nn.chain(nn.dense(3), nn.tanh()), nn.dense(3, use_bias=False)
SWITCH = nn.switch(*LAYERS)


def test_each_example_gets_the_output_of_its_layer(key):
    params, state, out_shape = SWITCH.init(key, ((), (4,)))
    y, _ = jax.jit(SWITCH.apply)(params, state, (INDEX, X))
    outputs = []
    for layer, layer_params in zip(LAYERS, params.values(), strict=True):
        outputs.append(layer.apply(layer_params, {}, X)[0])
    wanted = [outputs[index][row] for row, index in enumerate(INDEX)]
    np.testing.assert_allclose(y, wanted, rtol=1e-6)
    assert out_shape == (3,)


def test_a_layer_gets_gradients_of_its_examples_only(key):
    params, state, _ = SWITCH.init(key, ((), (4,)))

    def total(params, index):
        return SWITCH.apply(params, state, (index, X))[0].sum()

    slopes = jax.jit(jax.grad(total))(params, INDEX)
    np.testing.assert_allclose(slopes["dense_0"]["kernel"], X[1][:, None].repeat(3, 1), rtol=1e-6)
    np.testing.assert_allclose(
        slopes["dense_2"]["kernel"], (X[0] + X[4])[:, None].repeat(3, 1), rtol=1e-6
    )
    alone = jax.jit(jax.grad(total))(params, jnp.zeros(5, jnp.int32))
    assert not np.any(alone["chain_1"]["dense_0"]["kernel"])


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_index_out_of_range_raises_or_gives_nan(wrong, key):
    params, state, _ = SWITCH.init(key, ((), (4,)))
    index = INDEX.at[3].set(wrong)
    with pytest.raises(ConfigError, match=rf"switch index: expected 0 <= index < 3, got {wrong}"):
        SWITCH.apply(params, state, (index, X))

    @jax.jit
    def slopes(params, x, index):
        y, pull = jax.vjp(lambda params, x: SWITCH.apply(params, state, (index, x))[0], params, x)
        return y, *pull(jnp.ones_like(y))

    y, by_params, by_x = slopes(params, X, index)
    np.testing.assert_array_equal(np.isnan(y).all(1), np.arange(5) == 3)
    np.testing.assert_array_equal(np.isnan(y).any(1), np.arange(5) == 3)
    assert np.isnan(by_params["dense_0"]["kernel"]).all()
    assert np.isnan(by_x[3]).all()


PAIRS = {
    "no pair": (X, ShapeError, r"switch: expected a pair \(index, x\)"),
    "floats": ((X[:, 0], X), DTypeError, "switch index: expected an integer dtype"),
    "one for all": (
        (jnp.int32(1), X),
        ShapeError,
        r"switch index: expected one for each example, \(5,\)",
    ),
    "too few": ((INDEX[:2], X), ShapeError, "switch index"),
    "a column": ((INDEX[:, None], X), ShapeError, "switch index"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_inputs_other_than_a_pair_of_index_and_x_raise(case, key):
    pair, error, message = PAIRS[case]
    params, state, _ = SWITCH.init(key, ((), (4,)))
    with pytest.raises(error, match=message):
        SWITCH.apply(params, state, pair)


@pytest.mark.parametrize("shape", [(4,), ((4,), (4,)), ((), (4,), (4,))])
def test_shapes_other_than_those_of_a_pair_raise(shape, key):
    with pytest.raises(ShapeError, match=r"switch: expected the shapes \(\(\), \(...\)\)"):
        SWITCH.init(key, shape)


def test_layers_with_different_output_shapes_raise(key):
    with pytest.raises(
        ShapeError, match=r"switch: expected arrays of one shape, got \[\(3,\), \(2,\)\]"
    ):
        nn.switch(nn.dense(3), nn.dense(2)).init(key, ((), (4,)))
    with pytest.raises(ConfigError, match="switch: expected at least one layer"):
        nn.switch()
