"""Activations are held to their formulas in SciPy and to torch, near 0 and far from it."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError

float64 = pytest.mark.usefixtures("x64")

LAYERS = {
    "relu": nn.relu(),
    "leaky_relu": nn.leaky_relu(0.2),
    "elu": nn.elu(0.7),
    "gelu": nn.gelu(),
    "silu": nn.silu(),
    "sigmoid": nn.sigmoid(),
    "tanh": nn.tanh(),
    "softplus": nn.softplus(),
    "relu6": nn.relu6(),
    "selu": nn.selu(),
    "gelu_tanh": nn.gelu(approximate=True),
    "hard_swish": nn.hard_swish(),
    "mish": nn.mish(),
}
ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805  # of selu, from its paper
FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * stats.norm.cdf(x),
    "silu": lambda x: x * special.expit(x),
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: LAMBDA * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
    "gelu_tanh": lambda x: x * special.expit(2 * (2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
}
# The limits of the slope far to the left and far to the right.
SLOPES = {
    "relu": (0, 1),
    "leaky_relu": (0.2, 1),
    "elu": (0, 1),
    "gelu": (0, 1),
    "silu": (0, 1),
    "sigmoid": (0, 0),
    "tanh": (0, 0),
    "softplus": (0, 1),
    "relu6": (0, 0),
    "selu": (0, LAMBDA),
    "gelu_tanh": (0, 1),
    "hard_swish": (0, 1),
    "mish": (0, 1),
}
FAR = np.array([1e2, 1e4, 1e9, 1e30])

every_activation = pytest.mark.parametrize("name", LAYERS)


def activate(name, x):
    return LAYERS[name].apply({}, {}, x)[0]


@float64
@every_activation
def test_it_has_its_formula(name):
    x = np.concatenate([np.linspace(-30, 30, 121), [-1e-9, 0.0, 1e-9, 1e-300]])
    np.testing.assert_allclose(activate(name, jnp.array(x)), FORMULAS[name](x), rtol=1e-13, atol=1e-14)


@float64
@every_activation
def test_values_and_slopes_are_those_of_torch(name):
    with np.load(Path(__file__).parents[2] / "golden" / "activations.npz") as file:
        x, y, dx, weight = (file[f"{name}/{array}"] for array in ("x", "y", "dx", "weight"))
    got, pull = jax.vjp(partial(activate, name), jnp.array(x))
    np.testing.assert_allclose(got, y, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(pull(jnp.array(weight))[0], dx, rtol=1e-12, atol=1e-14)


@every_activation
def test_far_from_zero_values_and_slopes_are_their_limits(name):
    slope = jax.jit(jax.vmap(jax.value_and_grad(partial(activate, name))))
    for side, limit in zip((-1, 1), SLOPES[name], strict=True):
        x = np.float32(side * FAR)
        values, slopes = slope(jnp.array(x))
        np.testing.assert_allclose(values, FORMULAS[name](np.float64(x)), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(slopes, np.full(4, limit), rtol=1e-6, atol=1e-6)


@every_activation
def test_curvature_is_finite_everywhere(name):
    x = jnp.concatenate([-FAR.astype(np.float32), jnp.array([0.0]), FAR.astype(np.float32)])
    chex.assert_tree_all_finite(jax.jit(jax.vmap(jax.grad(jax.grad(partial(activate, name)))))(x))


@every_activation
def test_not_a_number_stays_so(name):
    assert np.isnan(activate(name, jnp.array([jnp.nan]))).all()


@every_activation
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_shape_and_dtype_stay(name, dtype, key):
    layer = LAYERS[name]
    assert layer.init(key, (2, 3)) == ({}, {}, (2, 3))
    y, state = layer.apply({}, {"kept": 1}, jnp.ones((4, 2, 3), dtype))
    assert (y.shape, y.dtype, state) == ((4, 2, 3), jnp.dtype(dtype), {"kept": 1})


@pytest.mark.parametrize("make", [nn.leaky_relu, nn.elu])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_traced_number_costs_one_compilation(make, dtype):
    x = jnp.array([-2.0, -0.5, 0.0, 3.0], dtype)

    def apply(number):
        return make(number).apply({}, {}, x)[0]

    numbers = (0.0, 0.3, 1.0, -0.2)
    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(apply, n=1))
    looped = jnp.stack([traced(number) for number in numbers])
    assert looped.dtype == x.dtype
    chex.assert_trees_all_close(looped, jnp.stack([apply(number) for number in numbers]), rtol=1e-2)
    chex.assert_trees_all_close(jax.vmap(apply)(jnp.array(numbers)), looped, rtol=1e-2)


@float64
@pytest.mark.parametrize(("make", "slope"), [(nn.leaky_relu, lambda x: x), (nn.elu, np.expm1)])
def test_gradient_by_its_number_has_a_closed_form(make, slope):
    x = np.array([-1e3, -2.0, -0.5, 0.0, 3.0, 1e3])
    got = jax.jacfwd(lambda number: make(number).apply({}, {}, jnp.array(x))[0])(0.3)
    np.testing.assert_allclose(got, slope(np.minimum(x, 0)), rtol=1e-13)


FUNCTIONS = {
    "def": jnp.square,
    "lambda": lambda x: x * x,
    "partial": partial(jax.lax.integer_pow, y=2),
    "jitted": jax.jit(lambda x: x * x),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_any_function_may_be_a_layer(kind):
    y, _ = nn.elementwise(FUNCTIONS[kind]).apply({}, {}, jnp.array([1.0, -3.0]))
    chex.assert_trees_all_close(y, jnp.array([1.0, 9.0]))


@every_activation
def test_what_is_no_float_is_told(name):
    with pytest.raises(DTypeError, match=r"\w+ x: expected floating.*got uint8; scale first"):
        activate(name, jnp.ones(2, jnp.uint8))


@pytest.mark.parametrize(("make", "knob"), [(nn.leaky_relu, "leaky_relu slope"), (nn.elu, "elu alpha")])
@pytest.mark.parametrize("value", ["0.1", None, [0.1, 0.2], float("nan"), float("inf")])
def test_a_number_out_of_range_is_told_at_once(make, knob, value):
    with pytest.raises(ConfigError, match=f"{knob}: expected"):
        make(value)


@float64
def test_selu_keeps_mean_and_variance():
    """Of what is normal: its two constants solve just this, ∫ y(x) φ(x) dx = 0 and ∫ y(x)² φ(x) dx = 1."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = np.concatenate([6 * nodes - 6, 6 * nodes + 6])  # two halves of [-12, 12], for the kink at 0
    density = np.tile(6 * weights, 2) * stats.norm.pdf(x)
    y = np.asarray(activate("selu", jnp.array(x)))
    np.testing.assert_allclose([density @ y, density @ y**2], [0, 1], atol=1e-14)


@float64
def test_the_two_gelus_lie_within_what_is_told():
    x = jnp.linspace(-10, 10, 20_001)
    assert 4e-4 < np.abs(activate("gelu", x) - activate("gelu_tanh", x)).max() < 5e-4
