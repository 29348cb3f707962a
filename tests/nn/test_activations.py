"""Activations are compared with their formulas in SciPy and with torch, near 0 and far from it."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError, TreeMismatchError

pytestmark = pytest.mark.slow

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
def test_values_follow_the_formula(name):
    x = np.concatenate([np.linspace(-30, 30, 121), [-1e-9, 0.0, 1e-9, 1e-300]])
    np.testing.assert_allclose(
        activate(name, jnp.array(x)), FORMULAS[name](x), rtol=1e-13, atol=1e-14
    )


@float64
@every_activation
def test_values_and_slopes_equal_torch(name):
    with np.load(Path(__file__).parents[1] / "golden" / "activations.npz") as file:
        x, y, dx, weight = (file[f"{name}/{array}"] for array in ("x", "y", "dx", "weight"))
    got, pull = jax.vjp(partial(activate, name), jnp.array(x))
    np.testing.assert_allclose(got, y, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(pull(jnp.array(weight))[0], dx, rtol=1e-12, atol=1e-14)


@every_activation
def test_values_and_slopes_far_from_zero_reach_their_limits(name):
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
def test_nan_stays_nan(name):
    assert np.isnan(activate(name, jnp.array([jnp.nan]))).all()


@every_activation
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_shape_and_dtype_are_kept(name, dtype, key):
    layer = LAYERS[name]
    assert layer.init(key, (2, 3)) == ({}, {}, (2, 3))
    y, state = layer.apply({}, {"count": 1}, jnp.ones((4, 2, 3), dtype))
    assert (y.shape, y.dtype, state) == ((4, 2, 3), jnp.dtype(dtype), {"count": 1})


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
def test_gradient_by_the_option_has_a_closed_form(make, slope):
    x = np.array([-1e3, -2.0, -0.5, 0.0, 3.0, 1e3])
    got = jax.jit(jax.jacfwd(lambda number: make(number).apply({}, {}, jnp.array(x))[0]))(0.3)
    np.testing.assert_allclose(got, slope(np.minimum(x, 0)), rtol=1e-13)


FUNCTIONS = {
    "def": jnp.square,
    "lambda": lambda x: x * x,
    "partial": partial(jax.lax.integer_pow, y=2),
    "jitted": jax.jit(lambda x: x * x),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_elementwise_takes_any_callable(kind):
    y, _ = nn.elementwise(FUNCTIONS[kind]).apply({}, {}, jnp.array([1.0, -3.0]))
    chex.assert_trees_all_close(y, jnp.array([1.0, 9.0]))


@every_activation
def test_integers_raise(name):
    with pytest.raises(DTypeError, match=r"\w+ x: expected floating.*got uint8; scale first"):
        activate(name, jnp.ones(2, jnp.uint8))


@pytest.mark.parametrize(
    ("make", "option"), [(nn.leaky_relu, "leaky_relu slope"), (nn.elu, "elu alpha")]
)
@pytest.mark.parametrize("value", ["0.1", None, [0.1, 0.2], float("nan"), float("inf")])
def test_an_option_out_of_range_raises(make, option, value):
    with pytest.raises(ConfigError, match=f"{option}: expected"):
        make(value)


@float64
def test_selu_keeps_mean_and_variance():
    """For x ~ N(0, 1): its two constants solve ∫ y(x) φ(x) dx = 0 and ∫ y(x)² φ(x) dx = 1."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    x = np.concatenate([6 * nodes - 6, 6 * nodes + 6])  # two halves of [-12, 12], for the kink at 0
    density = np.tile(6 * weights, 2) * stats.norm.pdf(x)
    y = np.asarray(activate("selu", jnp.array(x)))
    np.testing.assert_allclose([density @ y, density @ y**2], [0, 1], atol=1e-14)


@float64
def test_gelu_and_its_approximation_differ_by_less_than_documented():
    x = jnp.linspace(-10, 10, 20_001)
    assert 4e-4 < np.abs(activate("gelu", x) - activate("gelu_tanh", x)).max() < 5e-4


SOFTMAX_FORMULAS = {
    "softmax": (nn.softmax(), special.softmax),
    "log_softmax": (nn.log_softmax(), special.log_softmax),
}
every_softmax = pytest.mark.parametrize("name", SOFTMAX_FORMULAS)


@float64
@every_softmax
@pytest.mark.parametrize("shape", [(3, 1), (3, 5), (2, 3, 5), (2, 3, 4, 5), (0, 5)])
def test_softmax_follows_its_formula_over_the_last_axis(name, shape):
    layer, formula = SOFTMAX_FORMULAS[name]
    x = 5 * np.random.default_rng(0).normal(size=shape)
    y, state = layer.apply({}, {}, jnp.array(x))
    np.testing.assert_allclose(y, formula(x, -1), rtol=1e-13)
    assert state == {}


@every_softmax
def test_softmax_of_large_numbers_is_finite_with_finite_gradients(name):
    layer, formula = SOFTMAX_FORMULAS[name]
    x = np.float32([[1e30, 0, -1e30], [1e4, 1e4, 0], [-1e30, -1e30, -1e30]])
    y, pull = jax.vjp(lambda x: layer.apply({}, {}, x)[0], jnp.array(x))
    np.testing.assert_allclose(y, formula(np.float64(x), -1), rtol=1e-6)
    chex.assert_tree_all_finite(pull(jnp.ones((3, 3))))


@every_softmax
def test_softmax_sums_bfloat16_in_float32(name):
    layer, _ = SOFTMAX_FORMULAS[name]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1000)), jnp.bfloat16)
    y, _ = layer.apply({}, {}, x)
    chex.assert_trees_all_equal(
        y, layer.apply({}, {}, x.astype(jnp.float32))[0].astype(jnp.bfloat16)
    )


@every_softmax
def test_softmax_keeps_the_shape_and_has_no_params(name, key):
    assert SOFTMAX_FORMULAS[name][0].init(key, (2, 3)) == ({}, {}, (2, 3))


@every_softmax
def test_softmax_of_a_wrong_shape_or_dtype_raises(name, key):
    layer, _ = SOFTMAX_FORMULAS[name]
    for shape in ((), (3, 0)):
        message = rf"{name}: expected a shape \(\.\.\., features\)"
        with pytest.raises(ShapeError, match=message):
            layer.init(key, shape)
        with pytest.raises(ShapeError, match=message):
            layer.apply({}, {}, jnp.ones((2, *shape)))
    with pytest.raises(DTypeError, match=rf"{name} x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((2, 3), jnp.uint8))


PRELU_SLOPES = np.array([0.1, -0.5, 2.0])


@float64
@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (2, 2, 4, 3)])
def test_prelu_follows_its_formula_for_each_channel(shape):
    x, weight = np.random.default_rng(0).normal(size=(2, *shape))

    def apply(slope, x):
        return nn.prelu().apply({"slope": slope}, {}, x)[0]

    y, pull = jax.vjp(apply, jnp.array(PRELU_SLOPES), jnp.array(x))
    dslope, dx = pull(jnp.array(weight))
    np.testing.assert_allclose(y, np.where(x > 0, x, PRELU_SLOPES * x), rtol=1e-13)
    np.testing.assert_allclose(dx, np.where(x > 0, 1, PRELU_SLOPES) * weight, rtol=1e-13)
    np.testing.assert_allclose(
        dslope, (np.minimum(x, 0) * weight).reshape(-1, 3).sum(0), rtol=1e-12
    )


def test_prelu_begins_as_leaky_relu(key):
    x = jnp.linspace(-3, 3, 10).reshape(2, 5)
    for layer, slope in ((nn.prelu(), 0.25), (nn.prelu(0.1), 0.1)):
        params, state, out_shape = layer.init(key, (5,))
        chex.assert_trees_all_equal(params, {"slope": jnp.full(5, slope)})
        assert (state, out_shape) == ({}, (5,))
        chex.assert_trees_all_close(
            layer.apply(params, {}, x), nn.leaky_relu(slope).apply({}, {}, x)
        )


@pytest.mark.parametrize(
    ("layer", "slope"),
    [(nn.relu(), 0), (nn.leaky_relu(0.1), 0.1), (nn.prelu(0.2), 0.2), (nn.elu(0.5), 0.5)],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_slope_at_0_is_that_of_negative_numbers(layer, slope, key):
    """As in torch."""
    params, state, _ = layer.init(key, (1,))
    got = jax.jit(jax.grad(lambda x: layer.apply(params, state, x)[0].sum()))(jnp.zeros((1, 1)))
    np.testing.assert_allclose(got, slope, rtol=1e-6)


def test_prelu_takes_the_dtype_of_x():
    y, _ = nn.prelu().apply({"slope": jnp.full(3, 0.5)}, {}, jnp.full((2, 3), -2.0, jnp.bfloat16))
    chex.assert_trees_all_equal(y, jnp.full((2, 3), -1.0, jnp.bfloat16))


@pytest.mark.parametrize("slope", ["0.1", None, [0.1, 0.2], float("nan"), float("inf")])
def test_an_invalid_slope_of_prelu_raises(slope):
    with pytest.raises(ConfigError, match="prelu slope: expected"):
        nn.prelu(slope)


def test_wrong_inputs_and_params_of_prelu_raise(key):
    good = {"slope": jnp.ones(3)}
    for shape in ((), (4, 0)):
        with pytest.raises(ShapeError, match=r"prelu: expected a shape \(\.\.\., channels\)"):
            nn.prelu().init(key, shape)
    with pytest.raises(
        TreeMismatchError, match=r"prelu slope: expected shape \(4,\), got shape \(3,\)"
    ):
        nn.prelu().apply(good, {}, jnp.ones((2, 4)))
    with pytest.raises(TreeMismatchError, match=r"prelu slope: .*no such leaf"):
        nn.prelu().apply({}, {}, jnp.ones((2, 3)))
    with pytest.raises(DTypeError, match=r"prelu x: expected floating.*got uint8"):
        nn.prelu().apply(good, {}, jnp.ones((2, 3), jnp.uint8))


@float64
@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("use_bias", [True, False])
def test_maxout_is_the_maximum_of_its_pieces(shape, pieces, use_bias):
    draw = np.random.default_rng(0)
    x, kernel, bias = (
        draw.normal(size=shape),
        draw.normal(size=(4, 5, pieces)),
        draw.normal(size=(5, pieces)),
    )
    params = {"kernel": kernel.reshape(4, -1)} | ({"bias": bias.reshape(-1)} if use_bias else {})
    layer = nn.maxout(5, pieces=pieces, use_bias=use_bias)
    y, state = layer.apply(
        {name: jnp.array(leaf) for name, leaf in params.items()}, {}, jnp.array(x)
    )
    wanted = (np.einsum("...i,iup->...up", x, kernel) + (bias if use_bias else 0)).max(-1)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-13)
    assert state == {}


def test_maxout_can_compute_the_absolute_value():
    x = jnp.linspace(-2, 2, 8).reshape(4, 2)
    # The pieces of each output are x and -x.
    kernel = jnp.array([[1.0, -1, 0, 0], [0, 0, 1, -1]])
    y, _ = nn.maxout(2, use_bias=False).apply({"kernel": kernel}, {}, x)
    np.testing.assert_allclose(y, np.abs(x), rtol=1e-6)


def test_init_and_apply_of_maxout_agree_on_the_shape(key):
    layer = nn.maxout(3, pieces=4)
    params, state, out_shape = layer.init(key, (6, 200))
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "kernel": (200, 12),
        "bias": (12,),
    }
    assert layer.apply(params, state, jnp.ones((2, 6, 200)))[0].shape == (2, *out_shape)
    assert not params["bias"].any()
    assert abs(np.std(params["kernel"]) * 200**0.5 - 1) < 4 / (2 * 2400) ** 0.5


def test_maxout_uses_kernel_init(key):
    layer = nn.maxout(3, kernel_init=lambda key, shape: jnp.full(shape, 7.0))
    np.testing.assert_array_equal(layer.init(key, (2,))[0]["kernel"], np.full((2, 6), 7.0))


@pytest.mark.parametrize("option", ["units", "pieces"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True, None])
def test_an_invalid_count_of_maxout_raises(option, value):
    with pytest.raises(ConfigError, match=f"maxout {option}: expected"):
        nn.maxout(**{"units": 3} | {option: value})


def test_wrong_inputs_and_params_of_maxout_raise(key):
    layer, good = nn.maxout(3), {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)}
    with pytest.raises(ShapeError, match=r"maxout: expected a shape \(\.\.\., inputs\), got \(\)"):
        layer.init(key, ())
    with pytest.raises(ShapeError, match=r"maxout x: expected \(\.\.\., 4\).*got \(2, 5\)"):
        layer.apply(good, {}, jnp.ones((2, 5)))
    with pytest.raises(
        TreeMismatchError, match=r"maxout kernel: expected shape \(4, 9\), got shape \(4, 6\)"
    ):
        nn.maxout(3, pieces=3).apply(good, {}, jnp.ones((2, 4)))
    with pytest.raises(DTypeError, match=r"maxout x: expected floating.*got uint8"):
        layer.apply(good, {}, jnp.ones((2, 4), jnp.uint8))
