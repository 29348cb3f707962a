"""Layers match flax; test_families.py compares them with torch."""

import flax.nnx
import jax.numpy as jnp
import numpy as np
import pytest
from normalizations import batch_norm_offset_errors

from fnn import nn

pytestmark = pytest.mark.usefixtures("x64")
CONFIGURATIONS = 50
TOLERANCES = {"float64": 1e-12, "float32": 2e-6}
PADDINGS = ("SAME", "VALID")


def expect_close(got, wanted, dtype, scale=None):
    """Within the tolerance of the dtype, relative to the largest number."""
    for one, other in zip(got, wanted, strict=True):
        other = np.asarray(other)
        atol = TOLERANCES[dtype] * max(np.abs(other).max(initial=0), scale or 0)
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def draw_convolution(seed):
    draw = np.random.default_rng(seed)
    window = draw.integers(1, 4, 2)
    stride = draw.integers(1, 4, 2)
    dilation = draw.integers(1, 3, 2)
    padding = draw.integers(0, 3, 2)
    groups = int(draw.integers(1, 4))
    inputs, outputs = groups * draw.integers(1, 4, 2)
    image = np.maximum((window - 1) * dilation + 1 - 2 * padding, 1) + draw.integers(0, 5, 2)
    shapes = (3, *image, inputs), (*window, inputs // groups, outputs), (outputs,)
    options = {"stride": stride.tolist(), "dilation": dilation.tolist(), "groups": groups}
    return options, padding.tolist(), [draw.normal(size=shape) for shape in shapes], draw


@pytest.mark.parametrize("padding", PADDINGS)
def test_conv_matches_flax(padding, peer):
    for seed in range(PADDINGS.index(padding), 16, 2):
        options, _, (x, kernel, bias), draw = draw_convolution(seed)
        inputs, outputs = x.shape[-1], kernel.shape[-1]
        x = draw.normal(size=(2, 6 + seed % 3, 7, inputs))
        window = kernel.shape[:2]
        ours = nn.conv(outputs, window, padding=padding, **options)
        params = {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}
        got, _ = ours.apply(params, {}, jnp.array(x))
        with peer():
            theirs = flax.nnx.Conv(
                inputs,
                outputs,
                window,
                strides=options["stride"],
                kernel_dilation=options["dilation"],
                feature_group_count=options["groups"],
                padding=padding,
                param_dtype=jnp.float64,
                kernel_init=flax.nnx.initializers.zeros_init(),
                rngs=flax.nnx.Rngs(0),
            )
            theirs.kernel[...], theirs.bias[...] = kernel, bias
            expect_close([got], [theirs(jnp.array(x))], "float64")


def draw_batches(seed, batches, dtype):
    draw = np.random.default_rng(seed)
    offset, scale = 3 * draw.normal(size=3), 10 ** draw.uniform(-1, 1, 3)
    x = (scale * (offset + draw.normal(size=(batches, 4, 3, 2, 3)))).astype(dtype)
    momentum, eps = draw.uniform(0, 1), 10 ** draw.uniform(-6, -1)
    return momentum, eps, x, *draw.normal(size=(2, 3)).astype(dtype)


def test_batch_norm_far_from_zero_is_at_least_as_exact_as_torch():
    errors = batch_norm_offset_errors()
    assert errors.keys() == {0, 10, 1000}
    assert all(ours <= theirs for ours, theirs in errors.values()), errors


def test_batch_norm_matches_flax_except_for_the_running_variance(peer):
    """Flax keeps the biased variance: ours is n / (n - 1) times theirs for n values per channel."""
    n = 4 * 3 * 2
    for seed in range(CONFIGURATIONS):
        momentum, eps, x, scale, bias = draw_batches(seed, 3, "float64")
        layer = nn.batch_norm(momentum=momentum, eps=eps)
        params = {"scale": jnp.array(scale), "bias": jnp.array(bias)}
        state = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
        options = {"momentum": momentum, "epsilon": eps, "param_dtype": jnp.float64}
        with peer():
            theirs = flax.nnx.BatchNorm(3, rngs=flax.nnx.Rngs(0), **options)
            theirs.scale[...], theirs.bias[...] = scale, bias
            theirs.mean.set_value(state["mean"])
            theirs.var.set_value(state["var"])
        for step, batch in enumerate(jnp.array(x), 1):
            y, state = layer.apply(params, state, batch, train=True)
            with peer():
                wanted = theirs(batch, use_running_average=False)
            expect_close([y, state["mean"]], [wanted, theirs.mean[...]], "float64", scale=1e2)
            start = momentum**step  # share of the first variance, which is 1 in both
            unbiased = start + n / (n - 1) * (np.asarray(theirs.var[...]) - start)
            expect_close([state["var"]], [unbiased], "float64", scale=1e2)


def flax_dense(kernel, bias):
    layer = flax.nnx.Linear(*kernel.shape, param_dtype=jnp.float64, rngs=flax.nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = kernel, bias
    return layer


def test_dense_matches_flax(peer):
    shapes = ((2, 5, 4), (4, 3), (3,))
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        x, kernel, bias = (jnp.array(draw.normal(size=shape)) for shape in shapes)
        with peer():
            wanted = flax_dense(kernel, bias)(x)
        got, _ = nn.dense(3).apply({"kernel": kernel, "bias": bias}, {}, x)
        expect_close([got], [wanted], "float64")
