"""Batch normalization is compared with its formula in NumPy, torch and finite differences."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fnn import nn
from fnn.errors import ConfigError, DTypeError, RangeError, ShapeError, TreeMismatchError

float64 = pytest.mark.usefixtures("x64")
PARAMS = {"scale": np.array([1.5, -0.5, 2.0]), "bias": np.array([0.1, 2.0, -1.0])}
STATE = {"mean": np.array([0.5, -1.0, 3.0]), "var": np.array([2.0, 0.3, 1.0])}


def arrays(tree, dtype=None):
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype), tree)


def normal(shape=(4, 3, 2, 3), offset=0.0):
    return offset + np.random.default_rng(5).normal(size=shape)


def normalize(x, mean, var, eps=1e-5):
    return PARAMS["scale"] * (x - mean) / np.sqrt(var + eps) + PARAMS["bias"]


def golden():
    with np.load(Path(__file__).parents[2] / "golden" / "normalization.npz") as file:
        return dict(file)


@float64
@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (4, 3, 2, 3)])
def test_training_normalizes_by_the_batch(shape):
    x = normal(shape)
    axes = tuple(range(len(shape) - 1))
    apply = jax.jit(partial(nn.batch_norm().apply, train=True))
    y, _ = apply(PARAMS, STATE, x)
    np.testing.assert_allclose(y, normalize(x, x.mean(axes), x.var(axes)), rtol=1e-12, atol=1e-12)


MASK = np.random.default_rng(7).random((4, 5)) < 0.6
LENGTHS = np.array([1, 5, 3, 2])
BY_LENGTH = np.arange(5)[None] < LENGTHS[:, None]
POSITIONS = {"mask": (MASK, MASK), "lengths": (LENGTHS, BY_LENGTH), "weights": (2.5 * MASK, MASK)}


@float64
@pytest.mark.parametrize("case", POSITIONS)
def test_positions_that_do_not_count_change_nothing(case):
    """y, state and gradients are those of the other positions alone; theirs are NaN."""
    positions, mask = POSITIONS[case]
    x = normal((4, 5, 3), offset=12345)
    layer = nn.batch_norm()

    def total(params, x):
        y, state = layer.apply(params, arrays(STATE), x, train=True)
        return jnp.sin(y).sum(), (y, state)

    gradients = jax.jit(jax.grad(total, (0, 1), has_aux=True))
    kept, wanted = gradients(arrays(PARAMS), x[mask])
    given = (jnp.where(mask[..., None], jnp.array(x), jnp.nan), jnp.array(positions))
    own, got = jax.jit(
        lambda params, x, positions: jax.grad(
            lambda params, x: total(params, (x, positions)), (0, 1), has_aux=True
        )(params, x)
    )(arrays(PARAMS), *given)
    y, state = got
    assert not y[~mask].any() and not own[1][~mask].any()
    trees = ((own[0], own[1][mask]), y[mask], state), (kept, *wanted)
    chex.assert_trees_all_close(*trees, rtol=1e-9, atol=1e-9)
    y, state = layer.apply(arrays(PARAMS), arrays(STATE), given, train=False)
    np.testing.assert_allclose(y[mask], normalize(x, **STATE)[mask], rtol=1e-12)
    assert not y[~mask].any()


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_of_less_than_two_positions_keeps_the_statistics(count):
    mask = jnp.arange(4) < count
    x = jnp.float32(normal((4, 3)))
    params, state = arrays(PARAMS, jnp.float32), arrays(STATE, jnp.float32)
    y, new_state = jax.jit(
        lambda x, mask: nn.batch_norm().apply(params, state, (x, mask), train=True)
    )(x, mask)
    chex.assert_trees_all_equal(new_state, state)
    np.testing.assert_array_equal(y, np.where(mask[:, None], params["bias"], 0))


def test_positions_of_another_shape_raise(key):
    layer = nn.batch_norm()
    assert layer.init(key, ((5, 3), ()))[2] == layer.init(jax.random.clone(key), (5, 3))[2]
    params, state = arrays(PARAMS, jnp.float32), arrays(STATE, jnp.float32)
    x = jnp.ones((4, 5, 3))
    for positions in (jnp.ones((4, 4)), jnp.ones(4), jnp.ones((4, 5, 3))):
        with pytest.raises(ShapeError, match="batch_norm"):
            layer.apply(params, state, (x, positions), train=True)
    with pytest.raises(ShapeError, match=r"batch_norm x: expected sequences"):
        layer.apply(params, state, (x[:, 0], jnp.ones(4, int)), train=True)
    with pytest.raises(RangeError, match=r"batch_norm lengths: expected 1 <= length <= 5, got 6"):
        layer.apply(params, state, (x, jnp.array([1, 6, 1, 1])), train=True)
    traced = jax.jit(lambda lengths: layer.apply(params, state, (x, lengths), train=False)[0])
    assert np.isnan(traced(jnp.array([1, 6, 1, 1]))[1]).any()


@float64
def test_evaluation_normalizes_by_the_running_statistics():
    x = normal()
    y, state = nn.batch_norm().apply(arrays(PARAMS), arrays(STATE), jnp.array(x), train=False)
    np.testing.assert_allclose(y, normalize(x, **STATE), rtol=1e-13, atol=1e-13)
    chex.assert_trees_all_equal(state, arrays(STATE))


@float64
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99, 1.0])
def test_running_statistics_move_to_the_unbiased_ones_of_the_batch(momentum):
    x = normal()
    _, state = nn.batch_norm(momentum=momentum).apply(
        arrays(PARAMS), arrays(STATE), jnp.array(x), train=True
    )
    batch = {"mean": x.mean((0, 1, 2)), "var": x.var((0, 1, 2), ddof=1)}
    for name in STATE:
        np.testing.assert_allclose(
            state[name], momentum * STATE[name] + (1 - momentum) * batch[name], rtol=1e-13
        )


@float64
def test_eps_is_added_under_the_root():
    x = normal()
    y, _ = nn.batch_norm(eps=0.5).apply(arrays(PARAMS), arrays(STATE), jnp.array(x), train=True)
    np.testing.assert_allclose(
        y, normalize(x, x.mean((0, 1, 2)), x.var((0, 1, 2)), 0.5), rtol=1e-12, atol=1e-12
    )


@float64
def test_values_statistics_and_gradients_equal_torch():
    known = golden()
    params = {name: jnp.array(known[f"eval/{name}"]) for name in PARAMS}
    state = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    for case in ("train_0", "train_1", "train_2", "eval"):
        given = {name: jnp.array(known[f"{case}/{name}"]) for name in ("x", "weight")}

        def apply(params, x, state=state, train=case != "eval"):
            return nn.batch_norm().apply(params, state, x, train=train)

        y, pull_back, state = jax.vjp(apply, params, given["x"], has_aux=True)
        grads, dx = pull_back(given["weight"])
        got = {"y": y, "dx": dx, "dscale": grads["scale"], "dbias": grads["bias"], **state}
        for name, value in got.items():
            np.testing.assert_allclose(value, known[f"{case}/{name}"], rtol=1e-11, atol=1e-12)


@float64
@pytest.mark.parametrize("train", [True, False])
def test_gradients_equal_finite_differences(train):
    weight = jnp.array(np.random.default_rng(6).normal(size=(4, 3)))

    @jax.jit
    def loss(params, x):
        return (nn.batch_norm().apply(params, arrays(STATE), x, train=train)[0] * weight).sum()

    args = arrays(PARAMS), jnp.array(normal((4, 3)))
    flat, restore = ravel_pytree(args)
    h = 1e-5
    wanted = [
        (loss(*restore(flat + h * e)) - loss(*restore(flat - h * e))) / (2 * h)
        for e in jnp.eye(flat.size)
    ]
    got, _ = ravel_pytree(jax.jit(jax.grad(loss, (0, 1)))(*args))
    np.testing.assert_allclose(got, jnp.stack(wanted), rtol=1e-7, atol=1e-8)


@float64
@pytest.mark.parametrize("option", ["momentum", "eps"])
def test_the_gradient_by_an_option_equals_finite_differences(option):
    x = jnp.array(normal((4, 3)))

    @jax.jit
    def value(number):
        y, state = nn.batch_norm(**{option: number}).apply(
            arrays(PARAMS), arrays(STATE), x, train=True
        )
        return (y**3).sum() + state["mean"].sum() + state["var"].sum()

    wanted = (value(0.3 + 1e-5) - value(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(value))(0.3), wanted, rtol=1e-7)


@pytest.mark.parametrize("option", ["momentum", "eps"])
def test_an_option_costs_one_compilation_and_a_lane_equals_a_single_call(option):
    x, params, state = (arrays(tree, "float32") for tree in (normal((4, 3)), PARAMS, STATE))

    def apply(number):
        return nn.batch_norm(**{option: number}).apply(params, state, x, train=True)

    chex.clear_trace_counter()
    traced = jax.jit(chex.assert_max_traces(apply, n=1))
    looped = [traced(number) for number in (0.5, 0.9, 1e-3)]
    chex.assert_trees_all_close(
        looped, [apply(number) for number in (0.5, 0.9, 1e-3)], rtol=1e-5, atol=1e-6
    )
    lanes = jax.vmap(apply)(jnp.array([0.5, 0.9, 1e-3]))
    chex.assert_trees_all_close(
        lanes, jax.tree.map(lambda *leaves: jnp.stack(leaves), *looped), rtol=1e-5, atol=1e-6
    )


# The tolerance is the error of torch in float32, at standard deviation 1.
@pytest.mark.parametrize(("offset", "tolerance"), [(0.0, 1e-6), (10.0, 4e-5), (1000.0, 2.5e-3)])
def test_an_offset_does_not_cancel_the_variance(offset, tolerance):
    """Against float64; E[x²] - E[x]² would be off by 6% at 1000, and lost at 3000."""
    x = np.float32(normal((64, 8, 8, 3), offset))
    wide = np.float64(x)
    wanted = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-5)
    y, _ = nn.batch_norm(affine=False).apply({}, arrays(STATE, "float32"), jnp.array(x), train=True)
    assert np.abs(y - wanted).max() < tolerance


def test_a_batch_sharded_over_devices_is_one_batch(key):
    """A step of training on four devices: y, statistics and gradients are those of one."""
    layer = nn.batch_norm()
    mesh = jax.sharding.Mesh(jax.devices("cpu")[:4], ("batch",))
    params, state, x = (
        arrays(PARAMS, "float32"),
        arrays(STATE, "float32"),
        jnp.float32(normal((8, 3, 2, 3), 5.0)),
    )
    weight = jnp.float32(np.random.default_rng(6).normal(size=x.shape))
    sharded = jax.device_put(
        x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    )
    assert len(sharded.sharding.device_set) == 4

    def loss(params, x):
        y, new_state = layer.apply(params, state, x, train=True)
        return (weight * y).sum(), (y, new_state)

    step = jax.jit(jax.grad(loss, has_aux=True))
    grads, got = step(params, sharded)
    wanted_grads, wanted = step(params, x)
    chex.assert_trees_all_close(got, wanted, rtol=1e-6, atol=1e-6)
    chex.assert_trees_all_close(grads, wanted_grads, rtol=1e-5)


def test_a_constant_channel_becomes_its_bias_with_finite_gradients():
    def loss(x):
        y, _ = nn.batch_norm().apply(
            arrays(PARAMS, "float32"), arrays(STATE, "float32"), x, train=True
        )
        return (y**2).sum(), y

    (_, y), dx = jax.jit(jax.value_and_grad(loss, has_aux=True))(jnp.full((4, 3), 5.0))
    np.testing.assert_allclose(y, np.tile(PARAMS["bias"], (4, 1)), rtol=1e-6)
    chex.assert_tree_all_finite(dx)


def test_bfloat16_is_normalized_in_float32():
    x = jnp.asarray(normal((64, 3), 10.0), jnp.bfloat16)
    params, state = arrays(PARAMS, "float32"), arrays(STATE, "float32")
    y, new_state = nn.batch_norm().apply(params, state, x, train=True)
    wanted, wanted_state = nn.batch_norm().apply(params, state, x.astype(jnp.float32), train=True)
    chex.assert_trees_all_equal(y, wanted.astype(jnp.bfloat16))
    chex.assert_trees_all_equal(new_state, wanted_state)


def test_params_may_have_less_precision_than_the_state():
    """As nn.cast passes them: params and x in bfloat16, the state in float32."""
    x = jnp.asarray(normal((64, 3), 10.0), jnp.bfloat16)
    half, state = arrays(PARAMS, "bfloat16"), arrays(STATE, "float32")
    for train in (True, False):
        y, new_state = nn.batch_norm().apply(half, state, x, train=train)
        whole = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)
        wanted, wanted_state = nn.batch_norm().apply(
            whole, state, x.astype(jnp.float32), train=train
        )
        chex.assert_trees_all_equal(y, wanted.astype(jnp.bfloat16))
        chex.assert_trees_all_equal(new_state, wanted_state)


@float64
def test_statistics_keep_the_dtype_of_the_state():
    x, state = jnp.asarray(normal(), jnp.float32), arrays(STATE)
    y, new_state = nn.batch_norm(momentum=0.5, affine=False).apply({}, state, x, train=True)
    assert (y.dtype, new_state["mean"].dtype) == (jnp.float32, jnp.float64)
    np.testing.assert_allclose(
        new_state["mean"], 0.5 * STATE["mean"] + 0.5 * normal().mean((0, 1, 2)), rtol=1e-5
    )


@float64
@pytest.mark.parametrize("train", [True, False])
def test_without_affine_there_is_no_scale_or_bias(train, key):
    x, layer = normal(), nn.batch_norm(affine=False)
    params, _, _ = layer.init(key, x.shape[1:])
    assert params == {}
    mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else STATE.values()
    y, _ = layer.apply({}, arrays(STATE), jnp.array(x), train=train)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12, atol=1e-12)


def test_the_scale_begins_by_scale_init(key):
    layer = nn.batch_norm(scale_init=lambda key, shape: jnp.full(shape, 0.5))
    params, _, _ = layer.init(key, (4, 3))
    chex.assert_trees_all_equal(params, {"scale": jnp.full(3, 0.5), "bias": jnp.zeros(3)})
    with pytest.raises(ConfigError, match="batch_norm scale_init: expected affine=True"):
        nn.batch_norm(affine=False, scale_init=lambda key, shape: jnp.ones(shape))


def test_it_begins_as_the_identity(key):
    params, state, out_shape = nn.batch_norm().init(key, (5, 4, 3))
    assert out_shape == (5, 4, 3)
    chex.assert_trees_all_equal(params, {"scale": jnp.ones(3), "bias": jnp.zeros(3)})
    chex.assert_trees_all_equal(state, {"mean": jnp.zeros(3), "var": jnp.ones(3)})


@pytest.mark.parametrize("shape", [(1, 3), (1, 1, 3), (1, 1, 1, 3), (0, 3), (0, 4, 4, 3)])
def test_one_value_per_channel_raises_in_training(shape):
    message = "batch_norm x: expected more than 1 value per channel when training, got"
    with pytest.raises(ShapeError, match=message):
        nn.batch_norm().apply(arrays(PARAMS), arrays(STATE), jnp.ones(shape), train=True)


def test_one_value_per_channel_is_enough_in_evaluation():
    params, state = arrays(PARAMS, "float32"), arrays(STATE, "float32")
    y, _ = nn.batch_norm().apply(params, state, jnp.ones((1, 3)), train=False)
    np.testing.assert_allclose(y[0], normalize(1.0, **STATE), rtol=1e-5)


def test_a_batch_of_one_image_is_enough(key):
    layer = nn.batch_norm()
    params, state, _ = layer.init(key, (2, 1, 1))
    y, _ = layer.apply(params, state, jnp.array([[[[1.0]], [[3.0]]]]), train=True)
    np.testing.assert_allclose(y.ravel(), [-1, 1], rtol=1e-4)


def test_train_must_be_given():
    with pytest.raises(TypeError, match="train"):
        nn.batch_norm().apply(arrays(PARAMS), arrays(STATE), jnp.ones((2, 3)))


OPTIONS = [
    ("momentum", -0.1),
    ("momentum", 1.1),
    ("momentum", float("nan")),
    ("eps", 0.0),
    ("eps", -1e-5),
]


@pytest.mark.parametrize(("option", "value"), OPTIONS)
def test_an_option_out_of_range_raises(option, value):
    with pytest.raises(ConfigError, match=f"batch_norm {option}: expected"):
        nn.batch_norm(**{option: value})


X = jnp.ones((2, 3))
ERRORS = {
    "uint8": (PARAMS, STATE, jnp.ones((2, 3), jnp.uint8), DTypeError, "batch_norm x: .*got uint8"),
    "width": (
        PARAMS,
        STATE,
        jnp.ones((2, 4)),
        TreeMismatchError,
        r"batch_norm scale: expected shape \(4,\)",
    ),
    "missing": (
        {"scale": PARAMS["scale"]},
        STATE,
        X,
        TreeMismatchError,
        "batch_norm bias: .*no such leaf",
    ),
    "extra": (
        PARAMS | {"kernel": X},
        STATE,
        X,
        TreeMismatchError,
        "batch_norm kernel: expected no such leaf",
    ),
    "state": (
        PARAMS,
        {"mean": STATE["mean"]},
        X,
        TreeMismatchError,
        "batch_norm var: .*no such leaf",
    ),
    "no state": (PARAMS, {}, X, TreeMismatchError, "batch_norm mean: .*no such leaf"),
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("case", ERRORS)
def test_wrong_inputs_params_and_state_raise(case, train):
    params, state, x, error, message = ERRORS[case]
    with pytest.raises(error, match=message):
        nn.batch_norm().apply(params, state, x, train=train)


@pytest.mark.parametrize("shape", [(), (4, 4, 0)])
def test_an_example_without_channels_raises(shape, key):
    with pytest.raises(ShapeError, match="batch_norm: expected a shape"):
        nn.batch_norm().init(key, shape)
