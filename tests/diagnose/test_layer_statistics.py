"""Statistics of layers: depth profiles that theory knows, and limits of numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import diagnose, nn, optim, train
from fnn.diagnose.layer_statistics import (
    dead_share,
    histogram,
    mean,
    quantiles,
    root_mean_square,
    update_ratio,
)
from fnn.diagnose.layers import LayerOutput

KEY = jax.random.key(0)
DEPTH, WIDTH = 6, 64
X = jax.random.normal(jax.random.key(1), (64, WIDTH))
Y = jnp.zeros((64, WIDTH))


def profile(network):
    recipe = train.recipe(network, optim.sgd(0.1), loss=lambda outputs, targets: outputs.mean(1))
    return diagnose.profile(recipe, train.start(KEY, recipe, (WIDTH,)), (X, Y))


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_planted_gain_vanishes_and_explodes_with_depth(gain):
    # Orthogonal kernels keep the norm of outputs and of gradients, times the gain.
    dense = nn.dense(WIDTH, kernel_init=nn.orthogonal(gain))
    found = profile(nn.chain(*[dense for _ in range(DEPTH)]))
    second_moment = found.activation_std**2 + found.activation_mean**2
    ratios = np.sqrt(second_moment[1:] / second_moment[:-1])
    np.testing.assert_allclose(ratios, gain, rtol=1e-3)
    biases = [name.endswith("bias") for name in found.parameters]
    # The gradient by the bias of layer l passes through the layers behind it.
    grads = np.asarray(found.grad_rms)[biases]
    np.testing.assert_allclose(grads[:-1] / grads[1:], gain, rtol=1e-3)


@pytest.mark.slow
def test_he_initialization_keeps_the_second_moment():
    dense = nn.dense(WIDTH, kernel_init=nn.he_normal())
    layers = [layer for _ in range(DEPTH) for layer in (dense, nn.relu())]
    found = profile(nn.chain(*layers))
    second_moment = np.asarray(found.activation_std**2 + found.activation_mean**2)
    # E z² is 2 E a² of the relu before; the log of the norm varies by 5 L / n.
    before_relu = second_moment[::2]
    spread = np.sqrt(5 * DEPTH / WIDTH)
    assert np.abs(np.log(before_relu / before_relu[0])).max() < 3 * spread
    np.testing.assert_allclose(second_moment[1::2] / before_relu, 0.5, rtol=0.3)


def test_the_root_mean_square_neither_over_nor_underflows():
    rows = jnp.array([[3e30, 4e30], [3e-30, 4e-30], [0.0, 0.0]])
    wanted = np.sqrt(12.5) * np.array([1e30, 1e-30, 0])
    np.testing.assert_allclose(root_mean_square(rows), wanted, rtol=1e-6)
    assert np.isnan(root_mean_square(jnp.array([[1.0, jnp.nan]]))).all()


def test_the_update_ratio_of_zeros():
    before = jnp.array([[0.0], [0.0], [2.0]])
    after = jnp.array([[0.0], [1.0], [1.0]])
    np.testing.assert_array_equal(update_ratio(before, after), [0, np.inf, 0.5])


def test_quantiles_of_many_values_are_those_of_a_sample_of_all_units():
    # Each of 64 units has a value of its own, in 64 examples.
    y = jnp.tile(jnp.arange(64.0), (1, 64, 1))
    found = quantiles(LayerOutput("dense_0", "dense", y, ()))[0]
    wanted = np.percentile(np.arange(64.0), [5, 25, 50, 75, 95])
    # The standard error of a rank in 1,024 values is at most 1.6 % of 64.
    np.testing.assert_allclose(found, wanted, atol=3)


def test_a_value_that_is_not_a_number_shows_in_all_statistics():
    y = jnp.ones((1, 4, 3)).at[0, 1, 1].set(jnp.nan)
    output = LayerOutput("relu_0", "relu", y, ())
    for statistic in (mean, quantiles, histogram):
        assert np.isnan(statistic(output)).all()
    # It is no dead unit.
    assert dead_share(output) == 0
