"""Pooling layers, against torch and the windows of NumPy."""

from math import ceil, floor
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fnn import nn
from fnn.errors import ConfigError, DTypeError, ShapeError

pytestmark = pytest.mark.slow

float64 = pytest.mark.usefixtures("x64")
MAKERS = {"max": nn.max_pool, "avg": nn.avg_pool}
every_pool = pytest.mark.parametrize("kind", MAKERS)


def load_golden():
    with np.load(Path(__file__).parents[1] / "golden" / "pooling.npz") as file:
        return dict(file)


GOLDEN = load_golden()
CASES = sorted({name.split("/")[0] for name in GOLDEN})


@float64
@every_pool
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_torch(case, kind):
    """The images have equal maxima, of which the first takes the gradient."""
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
    """Reduce the windows of NumPy; padding is NaN, which does not count."""
    x = np.pad(x, ((0, 0), *zip(low, high, strict=True), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(x, window, (1, 2))
    windows = windows[:, :: stride[0], :: stride[1]]
    return {"max": np.nanmax, "avg": np.nanmean}[kind](windows, (-2, -1))


# (arguments and options of the layer, and the expected window, stride, low and high padding)
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
def test_images_equal_numpy(case, kind, key):
    arguments, options, window, stride, low, high = DIRECT[case]
    layer = MAKERS[kind](*arguments, **options)
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3))
    params, state, out_shape = layer.init(key, (6, 5, 3))
    y, state = jax.jit(layer.apply)(params, state, jnp.array(x))
    expected = direct(kind, x, window, stride, low, high)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


def direct_any_axes(kind, x, window, stride, pads):
    """The same for any number of axes."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=np.nan)
    axes = len(window)
    windows = np.lib.stride_tricks.sliding_window_view(x, window, tuple(range(1, axes + 1)))
    windows = windows[:, *(slice(None, None, s) for s in stride)]
    return {"max": np.nanmax, "avg": np.nanmean}[kind](windows, tuple(range(-axes, 0)))


# (suffix of the maker, options, image, and the expected window, stride and padding)
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
def test_signals_and_volumes_equal_numpy(case, kind, key):
    suffix, options, image, window, stride, pads = AXES[case]
    layer = getattr(nn, f"{kind}_pool{suffix}")(**options)
    x = np.random.default_rng(0).normal(size=(2, *image, 3))
    params, state, out_shape = layer.init(key, (*image, 3))
    y, state = jax.jit(layer.apply)(params, state, jnp.array(x))
    expected = direct_any_axes(kind, x, window, stride, pads)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


def test_first_of_equal_maxima_in_a_volume_takes_the_gradient():
    """In row-major order."""
    x = jnp.zeros((1, 2, 2, 2, 1)).at[0, 0, 1].set(1).at[0, 1, 0, 0].set(1)
    slope = jax.jit(jax.grad(lambda x: nn.max_pool_3d().apply({}, {}, x)[0].sum()))(x)
    chex.assert_trees_all_equal(slope, jnp.zeros_like(x).at[0, 0, 1, 0].set(1))


GLOBAL = {"avg": (nn.global_avg_pool(), np.mean), "max": (nn.global_max_pool(), np.max)}


@every_pool
@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (1, 1, 1, 2), (3, 2, 2, 1), (2, 7, 3), (2, 2, 3, 2, 3), (0, 2, 2, 1)]
)
def test_global_pool_equals_numpy(shape, kind, key):
    x = np.float32(np.random.default_rng(0).normal(size=shape))
    layer, oracle = GLOBAL[kind]
    params, state, out_shape = layer.init(key, shape[1:])
    y, state = layer.apply(params, state, jnp.array(x))
    expected = oracle(np.float64(x), tuple(range(1, x.ndim - 1)))
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert (params, state, out_shape) == ({}, {}, shape[-1:])


def test_first_of_equal_maxima_in_an_image_takes_the_gradient():
    x = jnp.zeros((1, 2, 3, 2)).at[0, 0, 2, 0].set(1).at[0, 1, 1, 0].set(1)
    slope = jax.jit(jax.grad(lambda x: nn.global_max_pool().apply({}, {}, x)[0].sum()))(x)
    expected = jnp.zeros_like(x).at[0, 0, 2, 0].set(1).at[0, 0, 0, 1].set(1)
    chex.assert_trees_all_equal(slope, expected)


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, -3.0])
def test_global_max_pool_keeps_extremes(value):
    x = jnp.full((1, 2, 2, 1), -np.inf).at[0, 1, 0, 0].set(value)
    np.testing.assert_array_equal(nn.global_max_pool().apply({}, {}, x)[0], [[value]])


@pytest.mark.parametrize(
    "layer", [nn.max_pool(), nn.avg_pool(), nn.global_avg_pool(), nn.global_max_pool()]
)
def test_dtype_is_kept(layer):
    assert layer.apply({}, {}, jnp.ones((1, 2, 2, 1), jnp.bfloat16))[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("layer", [nn.avg_pool(16), nn.global_avg_pool(), nn.adaptive_avg_pool(1)])
def test_mean_in_half_precision_is_rounded_once(layer):
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
def test_invalid_option_raises(case, kind):
    options, message = OPTIONS[case]
    with pytest.raises(ConfigError, match=f"{kind}_pool {message}"):
        MAKERS[kind](**options)


@every_pool
def test_window_larger_than_the_image_raises(kind, key):
    message = rf"{kind}_pool: expected an image of at least \(4, 4\) after padding, got \(5, 3\)"
    with pytest.raises(ShapeError, match=message):
        MAKERS[kind](4).init(key, (5, 3, 1))
    with pytest.raises(ShapeError, match=message):
        MAKERS[kind](4).apply({}, {}, jnp.ones((1, 5, 3, 1)))


@pytest.mark.parametrize("name", ["global_avg_pool", "global_max_pool"])
def test_global_pool_without_positions_raises(name, key):
    layer = getattr(nn, name)()
    message = rf"{name}: expected a shape .* of at least one position, got \(4,\)"
    with pytest.raises(ShapeError, match=message):
        layer.init(key, (4,))
    with pytest.raises(ShapeError, match=message):
        layer.apply({}, {}, jnp.ones((2, 4)))
    with pytest.raises(ShapeError, match=rf"{name}: expected at least one pixel, got \(3, 0, 4\)"):
        layer.apply({}, {}, jnp.ones((2, 3, 0, 4)))
    with pytest.raises(DTypeError, match=rf"{name} x: expected floating.*got uint8"):
        layer.apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))


def test_image_for_a_signal_or_a_volume_raises(key):
    message = r"max_pool_1d: expected \(length, channels\), got \(4, 4, 1\)"
    with pytest.raises(ShapeError, match=message):
        nn.max_pool_1d().init(key, (4, 4, 1))
    message = r"avg_pool_3d x: expected rank 5 \(N, D, H, W, C\), got \(1, 4, 4, 1\)"
    with pytest.raises(ShapeError, match=message):
        nn.avg_pool_3d().apply({}, {}, jnp.ones((1, 4, 4, 1)))


POOLS = {
    "max_pool": nn.max_pool(),
    "avg_pool": nn.avg_pool(),
    "adaptive_max_pool": nn.adaptive_max_pool(2),
}


@pytest.mark.parametrize("name", POOLS)
def test_other_shapes_and_dtypes_than_images_raise(name, key):
    message = rf"{name}: expected \(height, width, channels\), got \(4, 4\)"
    with pytest.raises(ShapeError, match=message):
        POOLS[name].init(key, (4, 4))
    message = rf"{name} x: expected rank 4 \(N, H, W, C\), got \(4, 4, 1\)"
    with pytest.raises(ShapeError, match=message):
        POOLS[name].apply({}, {}, jnp.ones((4, 4, 1)))
    with pytest.raises(DTypeError, match=f"{name} x: expected floating.*got uint8"):
        POOLS[name].apply({}, {}, jnp.ones((1, 4, 4, 1), jnp.uint8))


ADAPTIVE_MAKERS = {"max": (nn.adaptive_max_pool, np.max), "avg": (nn.adaptive_avg_pool, np.mean)}
every_adaptive_pool = pytest.mark.parametrize("kind", ADAPTIVE_MAKERS)


def pool_regions(x, size, oracle):
    """Pool region by region."""
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for index in np.ndindex(*size):
        axes = zip(index, x.shape[1:], size, strict=False)
        region = (slice(floor(i * n / m), ceil((i + 1) * n / m)) for i, n, m in axes)
        y[(slice(None), *index)] = oracle(x[:, *region], (1, 2))
    return y


# (size, image): regions that divide the image, overlap, are single pixels, or outnumber the pixels
ADAPTIVE_CASES = [
    ((2, 3), (4, 6)),
    (3, (7, 8)),
    ((1, 5), (3, 7)),
    ((4, 4), (4, 5)),
    ((5, 3), (2, 2)),
    (7, (10, 3)),
]


@float64
@every_adaptive_pool
@pytest.mark.parametrize(("size", "image"), ADAPTIVE_CASES)
def test_adaptive_pool_equals_region_by_region(size, image, kind, key):
    maker, oracle = ADAPTIVE_MAKERS[kind]
    layer = maker(size)
    x = np.random.default_rng(0).normal(size=(2, *image, 3))
    params, state, out_shape = layer.init(key, (*image, 3))
    y, state = layer.apply(params, state, jnp.array(x))
    expected = pool_regions(x, np.broadcast_to(size, 2).tolist(), oracle)
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-15)
    assert (params, state, y.shape) == ({}, {}, (2, *out_shape))


@every_adaptive_pool
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stay_in_their_regions(kind, value):
    maker, oracle = ADAPTIVE_MAKERS[kind]
    x = np.zeros((1, 5, 5, 1), np.float32)
    x[0, 0, 4, 0] = value
    y, _ = maker(3).apply({}, {}, jnp.array(x))
    np.testing.assert_array_equal(y, pool_regions(x, (3, 3), oracle))


def test_first_of_equal_maxima_in_each_region_takes_the_gradient():
    layer = nn.adaptive_max_pool((1, 2))
    slope = jax.jit(jax.grad(lambda x: layer.apply({}, {}, x)[0].sum()))(jnp.zeros((1, 2, 3, 1)))
    chex.assert_trees_all_equal(slope[0, ..., 0], jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))


@every_adaptive_pool
def test_adaptive_pool_raises_for_invalid_sizes_and_shapes(kind, key):
    maker, _ = ADAPTIVE_MAKERS[kind]
    with pytest.raises(ConfigError, match=f"adaptive_{kind}_pool size: expected >= 1"):
        maker(0)
    with pytest.raises(ConfigError, match=f"adaptive_{kind}_pool size: expected one int or two"):
        maker((1, 2, 3))
    with pytest.raises(ShapeError, match=f"adaptive_{kind}_pool: expected at least one pixel"):
        maker(2).init(key, (0, 4, 1))
    message = rf"adaptive_{kind}_pool x: expected rank 4 \(N, H, W, C\)"
    with pytest.raises(ShapeError, match=message):
        maker(2).apply({}, {}, jnp.ones((4, 4, 1)))


def channels_first(x):
    return np.moveaxis(x, -1, 1)


def compare_with_torch(layer, module, shape):
    """Compare values and the gradient of a weighted sum with those of a torch module."""
    import torch

    draw = np.random.default_rng(0)
    # Levels of few values, so that windows have equal maxima.
    x = draw.integers(-4, 5, (2, *shape)).astype(np.float64)
    images = torch.tensor(channels_first(x)).requires_grad_()
    wanted = module(images)
    weight = draw.normal(size=wanted.shape)
    wanted.backward(torch.tensor(weight))
    y, pull = jax.vjp(lambda x: layer.apply({}, {}, x)[0], jnp.array(x))
    assert layer.init(jax.random.key(0), shape)[2] == y.shape[1:]
    np.testing.assert_allclose(channels_first(y), wanted.detach().numpy(), rtol=1e-13, atol=1e-14)
    (slope,) = pull(jnp.array(np.moveaxis(weight, 1, -1)))
    np.testing.assert_allclose(channels_first(slope), images.grad.numpy(), rtol=1e-12, atol=1e-14)


# (window, stride, padding, dilation, size)
ROUNDED_UP = [
    (2, 2, 0, 1, (5, 6)),
    (3, 2, 1, 1, (6, 7)),
    (3, 3, 1, 1, (7, 8)),
    (2, 3, 1, 1, (6, 9)),
    (3, 2, 0, 2, (8, 9)),
    (2, 1, 1, 3, (5, 6)),
    (3, 5, 1, 1, (6, 5)),
]


@pytest.mark.torch
@float64
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("window", "stride", "padding", "dilation", "size"), ROUNDED_UP)
def test_dilated_and_rounded_up_max_pools_equal_torch(
    window, stride, padding, dilation, size, ceil_mode
):
    import torch

    options = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    makers = {1: nn.max_pool_1d, 2: nn.max_pool, 3: nn.max_pool_3d}
    for axes, maker in makers.items():
        module = getattr(torch.nn, f"MaxPool{axes}d")(window, **options)
        shape = (*(3, *size)[-axes:], 2) if axes < 3 else (6, *size, 2)
        compare_with_torch(maker(window, **options), module, shape)


@pytest.mark.torch
@float64
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("window", "stride", "padding", "dilation", "size"), ROUNDED_UP[:5])
def test_rounded_up_and_padded_means_equal_torch(
    window, stride, padding, dilation, size, ceil_mode, count_include_pad
):
    import torch

    options = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    options["count_include_pad"] = count_include_pad
    makers = {1: nn.avg_pool_1d, 2: nn.avg_pool, 3: nn.avg_pool_3d}
    for axes, maker in makers.items():
        module = getattr(torch.nn, f"AvgPool{axes}d")(window, **options)
        shape = (*size[-axes:], 2) if axes < 3 else (6, *size, 2)
        compare_with_torch(maker(window, **options), module, shape)


@pytest.mark.torch
@float64
@every_pool
@pytest.mark.parametrize("size", [1, 3, 7])
def test_adaptive_pools_of_signals_and_volumes_equal_torch(size, kind):
    import torch

    for axes, shape in {1: (6, 2), 3: (3, 6, 7, 2)}.items():
        module = getattr(torch.nn, f"Adaptive{kind.capitalize()}Pool{axes}d")(size)
        layer = getattr(nn, f"adaptive_{kind}_pool_{axes}d")(size)
        compare_with_torch(layer, module, shape)


def test_sizes_that_are_rounded_up_need_a_flag_and_a_dilated_window_fits(key):
    with pytest.raises(ConfigError, match="max_pool ceil_mode: expected True or False"):
        nn.max_pool(ceil_mode=1)
    with pytest.raises(ConfigError, match="avg_pool count_include_pad: expected True or False"):
        nn.avg_pool(count_include_pad="no")
    with pytest.raises(ShapeError, match=r"max_pool: expected an image of at least \(5, 5\)"):
        nn.max_pool(3, dilation=2).init(key, (4, 6, 1))
    # "SAME" rounds up in any case.
    same = nn.max_pool(3, stride=2, padding="SAME", ceil_mode=True)
    assert same.init(key, (5, 6, 1))[2] == (3, 3, 1)
