"""The pooling layers are held to NumPy's windows and to torch."""

from math import ceil, floor
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

float64 = pytest.mark.usefixtures("x64")
MAKERS = {"max": nn.max_pool, "avg": nn.avg_pool}
every_pool = pytest.mark.parametrize("kind", MAKERS)


def golden():
    with np.load(Path(__file__).parents[2] / "golden" / "pooling.npz") as file:
        return dict(file)


GOLDEN = golden()
CASES = sorted({name.split("/")[0] for name in GOLDEN})


@float64
@every_pool
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_torch(case, kind):
    """The images hold equal maxima: the first of them takes the gradient."""
    wh, ww, sh, sw, ph, pw = GOLDEN[f"{case}/options"].tolist()
    layer = MAKERS[kind]((wh, ww), stride=(sh, sw), padding=((ph, ph), (pw, pw)))
    x, y, dx, weight = (GOLDEN[f"{case}/{kind}/{name}"] for name in ("x", "y", "dx", "weight"))

    @jax.jit
    def evaluate(x, weight):
        y, pull = jax.vjp(lambda x: layer.apply({}, {}, x)[0], x)
        return y, *pull(weight)

    got, slope = evaluate(jnp.array(x), jnp.array(weight))
    np.testing.assert_allclose(got, y, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(slope, dx, rtol=1e-12, atol=1e-14)


def direct(kind, x, window, stride, low, high):
    """One window after another; what is padded is NaN, and does not count."""
    x = np.pad(x, ((0, 0), *zip(low, high, strict=True), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(x, window, (1, 2))[
        :, :: stride[0], :: stride[1]
    ]
    return {"max": np.nanmax, "avg": np.nanmean}[kind](windows, (-2, -1))


# arguments of the layer, and the window, stride and padding that they mean for a 6 x 5 image
DIRECT = {
    "default": ((), {}, (2, 2), (2, 2), (0, 0), (0, 0)),
    "window": ((3,), {}, (3, 3), (3, 3), (0, 0), (0, 0)),
    "pair": (([1, 2],), {}, (1, 2), (1, 2), (0, 0), (0, 0)),
    "stride": ((3,), {"stride": 2}, (3, 3), (2, 2), (0, 0), (0, 0)),
    "gaps": ((2,), {"stride": (3, 2)}, (2, 2), (3, 2), (0, 0), (0, 0)),
    "same": ((2,), {"padding": "SAME"}, (2, 2), (2, 2), (0, 0), (0, 1)),
    "same, overlapping": ((3,), {"stride": 1, "padding": "SAME"}, (3, 3), (1, 1), (1, 1), (1, 1)),
    "int": ((3,), {"stride": 2, "padding": 1}, (3, 3), (2, 2), (1, 1), (1, 1)),
    "pairs": ((3,), {"stride": 1, "padding": [(0, 2), (1, 0)]}, (3, 3), (1, 1), (0, 1), (2, 0)),
    "whole image": (((6, 5),), {}, (6, 5), (6, 5), (0, 0), (0, 0)),
}


@float64
@every_pool
@pytest.mark.parametrize("case", DIRECT)
def test_windows_are_where_they_should_be(case, kind, key):
    arguments, options, window, stride, low, high = DIRECT[case]
    layer = MAKERS[kind](*arguments, **options)
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3))
    params, state, out_shape = layer.init(key, (6, 5, 3))
    y, state = jax.jit(layer.apply)(params, state, jnp.array(x))
    np.testing.assert_allclose(
        y, direct(kind, x, window, stride, low, high), rtol=1e-13, atol=1e-15
    )
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


def direct_along_all(kind, x, window, stride, pads):
    """The same for any number of axes."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=np.nan)
    axes = len(window)
    windows = np.lib.stride_tricks.sliding_window_view(x, window, tuple(range(1, axes + 1)))
    windows = windows[:, *(slice(None, None, s) for s in stride)]
    return {"max": np.nanmax, "avg": np.nanmean}[kind](windows, tuple(range(-axes, 0)))


# maker's suffix, arguments, image, and the window, stride and padding that they mean
AXES = {
    "signal": ("_1d", {}, (7,), (2,), (2,), ((0, 0),)),
    "signal, same": (
        "_1d",
        {"window": [3], "stride": 2, "padding": "SAME"},
        (6,),
        (3,),
        (2,),
        ((0, 1),),
    ),
    "volume": ("_3d", {}, (4, 3, 5), (2,) * 3, (2,) * 3, ((0, 0),) * 3),
    "volume, uneven": (
        "_3d",
        {"window": (2, 1, 3), "stride": (1, 2, 2), "padding": [(1, 0), (0, 0), (1, 2)]},
        (3, 4, 4),
        (2, 1, 3),
        (1, 2, 2),
        ((1, 0), (0, 0), (1, 2)),
    ),
}


@float64
@every_pool
@pytest.mark.parametrize("case", AXES)
def test_signals_and_volumes_have_windows_too(case, kind, key):
    suffix, options, image, window, stride, pads = AXES[case]
    layer = getattr(nn, f"{kind}_pool{suffix}")(**options)
    x = np.random.default_rng(0).normal(size=(2, *image, 3))
    params, state, out_shape = layer.init(key, (*image, 3))
    y, state = jax.jit(layer.apply)(params, state, jnp.array(x))
    np.testing.assert_allclose(
        y, direct_along_all(kind, x, window, stride, pads), rtol=1e-13, atol=1e-15
    )
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


def test_the_first_of_equals_in_a_volume_takes_the_gradient():
    """Row by row: the last axis runs first."""
    x = jnp.zeros((1, 2, 2, 2, 1)).at[0, 0, 1].set(1).at[0, 1, 0, 0].set(1)
    slope = jax.grad(lambda x: nn.max_pool_3d().apply({}, {}, x)[0].sum())(x)
    chex.assert_trees_all_equal(slope, jnp.zeros_like(x).at[0, 0, 1, 0].set(1))


GLOBAL = {"avg": (nn.global_avg_pool(), np.mean), "max": (nn.global_max_pool(), np.max)}


@every_pool
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (1, 1, 1, 2), (3, 2, 2, 1), (2, 7, 3), (2, 2, 3, 2, 3), (0, 2, 2, 1)]
)
def test_a_global_pool_is_that_of_all_places(shape, kind, key):
    x = np.float32(np.random.default_rng(0).normal(size=shape))
    layer, oracle = GLOBAL[kind]
    params, state, out_shape = layer.init(key, shape[1:])
    y, state = layer.apply(params, state, jnp.array(x))
    np.testing.assert_allclose(
        y, oracle(np.float64(x), tuple(range(1, x.ndim - 1))), rtol=1e-5, atol=1e-6
    )
    assert (params, state, out_shape) == ({}, {}, shape[-1:])


def test_the_first_of_equals_in_an_image_takes_the_gradient():
    x = jnp.zeros((1, 2, 3, 2)).at[0, 0, 2, 0].set(1).at[0, 1, 1, 0].set(1)
    slope = jax.grad(lambda x: nn.global_max_pool().apply({}, {}, x)[0].sum())(x)
    chex.assert_trees_all_equal(
        slope, jnp.zeros_like(x).at[0, 0, 2, 0].set(1).at[0, 0, 0, 1].set(1)
    )


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, -3.0])
def test_global_max_pool_keeps_extremes(value):
    x = jnp.full((1, 2, 2, 1), -np.inf).at[0, 1, 0, 0].set(value)
    np.testing.assert_array_equal(nn.global_max_pool().apply({}, {}, x)[0], [[value]])


@pytest.mark.parametrize(
    "layer", [nn.max_pool(), nn.avg_pool(), nn.global_avg_pool(), nn.global_max_pool()]
)
def test_dtype_stays(layer):
    assert layer.apply({}, {}, jnp.ones((1, 2, 2, 1), jnp.bfloat16))[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("layer", [nn.avg_pool(16), nn.global_avg_pool(), nn.adaptive_avg_pool(1)])
def test_a_mean_of_narrow_numbers_is_rounded_once(layer):
    x = jnp.ones((1, 16, 16, 1), jnp.bfloat16)
    assert jnp.all(layer.apply({}, {}, x)[0] == 1)


@pytest.mark.parametrize("value", [-1e30, -np.inf, np.inf])
def test_max_pool_keeps_extremes(value):
    x = jnp.full((1, 3, 3, 1), value)
    chex.assert_trees_all_equal(nn.max_pool(3, stride=1, padding=1).apply({}, {}, x)[0], x)


OPTIONS = {
    "window": ({"window": 0}, "window: expected >= 1"),
    "window of three axes": ({"window": (2, 2, 2)}, "window: expected one int or two"),
    "float window": ({"window": 2.0}, "window: expected a whole number"),
    "stride": ({"stride": 0}, "stride: expected >= 1"),
    "padding": ({"padding": "FULL"}, 'padding: expected "SAME"'),
    "padding -1": ({"padding": -1}, "padding: expected >= 0"),
}


@every_pool
@pytest.mark.parametrize("case", OPTIONS)
def test_an_option_out_of_range_is_told_at_once(case, kind):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=f"{kind}_pool {message}"):
        MAKERS[kind](**options)


@every_pool
def test_a_window_larger_than_the_image_is_told(kind, key):
    message = rf"{kind}_pool: expected an image of at least \(4, 4\) after padding, got \(5, 3\)"
    with pytest.raises(ShapeError, match=message):
        MAKERS[kind](4).init(key, (5, 3, 1))
    with pytest.raises(ShapeError, match=message):
        MAKERS[kind](4).apply({}, {}, jnp.ones((1, 5, 3, 1)))


@pytest.mark.parametrize("name", ["global_avg_pool", "global_max_pool"])
def test_what_has_no_places_is_told(name, key):
    layer = getattr(nn, name)()
    with pytest.raises(
        ShapeError, match=rf"{name}: expected a shape .* of at least one place, got \(4,\)"
    ):
        layer.init(key, (4,))
    with pytest.raises(
        ShapeError, match=rf"{name}: expected a shape .* of at least one place, got \(4,\)"
    ):
        layer.apply({}, {}, jnp.ones((2, 4)))
    with pytest.raises(ShapeError, match=rf"{name}: expected at least one pixel, got \(3, 0, 4\)"):
        layer.apply({}, {}, jnp.ones((2, 3, 0, 4)))
    with pytest.raises(DTypeError, match=rf"{name} x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))


def test_an_image_is_no_signal_and_no_volume(key):
    with pytest.raises(
        ShapeError, match=r"max_pool_1d: expected \(length, channels\), got \(4, 4, 1\)"
    ):
        nn.max_pool_1d().init(key, (4, 4, 1))
    with pytest.raises(
        ShapeError, match=r"avg_pool_3d x: expected rank 5 \(N, D, H, W, C\), got \(1, 4, 4, 1\)"
    ):
        nn.avg_pool_3d().apply({}, {}, jnp.ones((1, 4, 4, 1)))


POOLS = {
    "max_pool": nn.max_pool(),
    "avg_pool": nn.avg_pool(),
    "adaptive_max_pool": nn.adaptive_max_pool(2),
}


@pytest.mark.parametrize("name", POOLS)
def test_what_is_no_image_is_told(name, key):
    with pytest.raises(
        ShapeError, match=rf"{name}: expected \(height, width, channels\), got \(4, 4\)"
    ):
        POOLS[name].init(key, (4, 4))
    with pytest.raises(
        ShapeError, match=rf"{name} x: expected rank 4 \(N, H, W, C\), got \(4, 4, 1\)"
    ):
        POOLS[name].apply({}, {}, jnp.ones((4, 4, 1)))
    with pytest.raises(DTypeError, match=f"{name} x: expected floating.*got uint8"):
        POOLS[name].apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))


REGIONS_MAKERS = {"max": (nn.adaptive_max_pool, np.max), "avg": (nn.adaptive_avg_pool, np.mean)}
every_pool_of_regions = pytest.mark.parametrize("kind", REGIONS_MAKERS)


def one_after_another(x, size, oracle):
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for places in np.ndindex(*size):
        axes = zip(places, x.shape[1:], size, strict=False)
        region = (slice(floor(i * n / m), ceil((i + 1) * n / m)) for i, n, m in axes)
        y[(slice(None), *places)] = oracle(x[:, *region], (1, 2))
    return y


# size, image: regions that divide, that overlap, of single pixels, and more than there are pixels
REGIONS_CASES = [
    ((2, 3), (4, 6)),
    (3, (7, 8)),
    ((1, 5), (3, 7)),
    ((4, 4), (4, 5)),
    ((5, 3), (2, 2)),
    (7, (10, 3)),
]


@float64
@every_pool_of_regions
@pytest.mark.parametrize(("size", "image"), REGIONS_CASES)
def test_each_region_is_pooled(size, image, kind, key):
    maker, oracle = REGIONS_MAKERS[kind]
    layer = maker(size)
    x = np.random.default_rng(0).normal(size=(2, *image, 3))
    params, state, out_shape = layer.init(key, (*image, 3))
    y, state = layer.apply(params, state, jnp.array(x))
    wanted = one_after_another(x, np.broadcast_to(size, 2).tolist(), oracle)
    np.testing.assert_allclose(y, wanted, rtol=1e-13, atol=1e-15)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@every_pool_of_regions
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_regions(kind, value):
    maker, oracle = REGIONS_MAKERS[kind]
    x = np.zeros((1, 5, 5, 1), np.float32)
    x[0, 0, 4, 0] = value
    np.testing.assert_array_equal(
        maker(3).apply({}, {}, jnp.array(x))[0], one_after_another(x, (3, 3), oracle)
    )


def test_the_first_of_equals_in_each_region_takes_the_gradient():
    slope = jax.grad(lambda x: nn.adaptive_max_pool((1, 2)).apply({}, {}, x)[0].sum())(
        jnp.zeros((1, 2, 3, 1))
    )
    chex.assert_trees_all_equal(slope[0, ..., 0], jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


@every_pool_of_regions
def test_what_does_not_fit_is_told(kind, key):
    maker, _ = REGIONS_MAKERS[kind]
    with pytest.raises(ConfigError, match=f"adaptive_{kind}_pool size: expected >= 1"):
        maker(0)
    with pytest.raises(ConfigError, match=f"adaptive_{kind}_pool size: expected one int or two"):
        maker((1, 2, 3))
    with pytest.raises(ShapeError, match=f"adaptive_{kind}_pool: expected at least one pixel"):
        maker(2).init(key, (0, 4, 1))
    with pytest.raises(
        ShapeError, match=rf"adaptive_{kind}_pool x: expected rank 4 \(N, H, W, C\)"
    ):
        maker(2).apply({}, {}, jnp.ones((4, 4, 1)))
