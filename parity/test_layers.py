"""Layers give the values and the gradients that torch's and flax's give."""

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fnn import nn

pytestmark = pytest.mark.usefixtures("x64")
CONFIGURATIONS = 50
TOLERANCES = {"float64": 1e-12, "float32": 2e-6}
DTYPES = tuple(TOLERANCES)
PADDINGS = ("SAME", "VALID")
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def expect_close(got, wanted, dtype, scale=None):
    """Within the tolerance of the dtype, relative to the largest number."""
    for one, other in zip(got, wanted, strict=True):
        other = other.detach().numpy() if isinstance(other, torch.Tensor) else np.asarray(other)
        atol = TOLERANCES[dtype] * max(np.abs(other).max(initial=0), scale or 0)
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def differentiated(apply):
    """(weight, *arguments) -> y and the gradients of Σ y weight by each argument."""

    def evaluate(weight, *arguments):
        y, pull = jax.vjp(apply, *arguments)
        return y, *pull(weight)

    return jax.jit(evaluate)


def torch_differentiated(apply, weight, *arguments):
    leaves = [torch.tensor(argument, requires_grad=True) for argument in arguments]
    y = apply(*leaves)
    return y, *torch.autograd.grad((y * torch.tensor(weight)).sum(), leaves)


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


def draw_convolution(seed):
    draw = np.random.default_rng(seed)
    window, stride, dilation = draw.integers(1, 4, 2), draw.integers(1, 4, 2), draw.integers(1, 3, 2)
    padding = draw.integers(0, 3, 2)
    groups = int(draw.integers(1, 4))
    inputs, outputs = groups * draw.integers(1, 4, 2)
    image = np.maximum((window - 1) * dilation + 1 - 2 * padding, 1) + draw.integers(0, 5, 2)
    shapes = (3, *image, inputs), (*window, inputs // groups, outputs), (outputs,)
    options = {"stride": stride.tolist(), "dilation": dilation.tolist(), "groups": groups}
    return options, padding.tolist(), [draw.normal(size=shape) for shape in shapes], draw


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_conv_is_that_of_torch(seed):
    options, (ph, pw), arrays, draw = draw_convolution(seed)
    window, outputs = arrays[1].shape[:2], arrays[1].shape[-1]
    layer = nn.conv(outputs, window, padding=((ph, ph), (pw, pw)), **options)

    def ours(x, kernel, bias):
        return layer.apply({"kernel": kernel, "bias": bias}, {}, x)[0]

    def theirs(x, kernel, bias):
        return nhwc(F.conv2d(nchw(x), kernel.permute(3, 2, 0, 1), bias, padding=(ph, pw), **options))

    weight = draw.normal(size=jax.eval_shape(ours, *arrays).shape)
    dtype = DTYPES[seed % 2]
    arguments = [array.astype(dtype) for array in (weight, *arrays)]
    expect_close(differentiated(ours)(*arguments), torch_differentiated(theirs, *arguments), dtype)


@pytest.mark.parametrize("padding", PADDINGS)
def test_conv_is_that_of_flax(padding, peer):
    for seed in range(PADDINGS.index(padding), 16, 2):
        options, _, (x, kernel, bias), draw = draw_convolution(seed)
        inputs, outputs = x.shape[-1], kernel.shape[-1]
        x = draw.normal(size=(2, 6 + seed % 3, 7, inputs))
        window = kernel.shape[:2]
        ours = nn.conv(outputs, window, padding=padding, **options)
        got, _ = ours.apply({"kernel": jnp.array(kernel), "bias": jnp.array(bias)}, {}, jnp.array(x))
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


@pytest.mark.parametrize("seed", range(CONFIGURATIONS))
def test_pools_are_those_of_torch(seed):
    """Torch allows a padding of half a window; whole numbers, so that a window holds equal maxima."""
    draw = np.random.default_rng(seed)
    window, stride = draw.integers(1, 4, 2), draw.integers(1, 4, 2)
    padding = draw.integers(0, window // 2 + 1)
    image = window + draw.integers(0, 5, 2)
    options = {"stride": stride.tolist(), "padding": [(p, p) for p in padding.tolist()]}
    layers = [make(window.tolist(), **options) for make in (nn.max_pool, nn.avg_pool)]
    torch_options = {"kernel_size": window.tolist(), "stride": stride.tolist(), "padding": padding.tolist()}

    def ours(x):
        return jnp.stack([layer.apply({}, {}, x)[0] for layer in layers])

    def theirs(x):
        pooled = F.max_pool2d(nchw(x), **torch_options), F.avg_pool2d(nchw(x), **torch_options, count_include_pad=False)
        return torch.stack([nhwc(y) for y in pooled])

    x = draw.integers(-2, 3, size=(2, *image, 2)).astype(np.float64)
    weight = draw.normal(size=jax.eval_shape(ours, x).shape)
    dtype = DTYPES[seed % 2]
    arguments = [array.astype(dtype) for array in (weight, x)]
    expect_close(differentiated(ours)(*arguments), torch_differentiated(theirs, *arguments), dtype)


def draw_batches(seed, batches, dtype):
    draw = np.random.default_rng(seed)
    offset, scale = 3 * draw.normal(size=3), 10 ** draw.uniform(-1, 1, 3)
    x = (scale * (offset + draw.normal(size=(batches, 4, 3, 2, 3)))).astype(dtype)
    knobs = draw.uniform(0, 1), 10 ** draw.uniform(-6, -1)
    return *knobs, x, *draw.normal(size=(2, 3)).astype(dtype), draw.normal(size=(4, 3, 2, 3)).astype(dtype)


@every_dtype
def test_batch_norm_is_that_of_torch_over_a_hundred_batches(dtype):
    @jax.jit
    def ours(momentum, epsilon, x, scale, bias, weight):
        layer, params = nn.batch_norm(momentum=momentum, epsilon=epsilon), {"scale": scale, "bias": bias}

        def one(state, x):
            _, state = layer.apply(params, state, x, train=True)
            return state, state

        state, states = jax.lax.scan(one, {"mean": jnp.zeros(3, dtype), "var": jnp.ones(3, dtype)}, x)

        def trained(x, scale, bias):
            return layer.apply({"scale": scale, "bias": bias}, state, x, train=True)[0]

        y, pull = jax.vjp(trained, x[-1], scale, bias)
        evaluated, _ = layer.apply(params, state, x[0], train=False)
        return states["mean"], states["var"], evaluated, y, *pull(weight)

    for seed in range(CONFIGURATIONS):
        momentum, epsilon, x, scale, bias, weight = draw_batches(seed, 100, dtype)
        mean, var, means, variances = torch.zeros(3, dtype=torch.tensor(x).dtype), torch.ones(3), [], []
        var = var.to(mean.dtype)
        affine = torch.tensor(scale), torch.tensor(bias)
        for batch in torch.tensor(x):
            F.batch_norm(nchw(batch), mean, var, *affine, True, 1 - momentum, epsilon)
            means.append(mean.numpy().copy())
            variances.append(var.numpy().copy())
        evaluated = nhwc(F.batch_norm(nchw(torch.tensor(x[0])), mean, var, *affine, False, 0.0, epsilon))
        trained = torch_differentiated(
            lambda x, scale, bias, epsilon=epsilon: nhwc(
                F.batch_norm(nchw(x), None, None, scale, bias, True, 0.0, epsilon)
            ),
            weight,
            x[-1],
            scale,
            bias,
        )
        wanted = np.stack(means), np.stack(variances), evaluated, *trained
        expect_close(ours(momentum, epsilon, x, scale, bias, weight), wanted, dtype, scale=1)


def test_batch_norm_is_that_of_flax_but_for_the_running_variance(peer):
    """Flax keeps the biased variance of a batch: of n values a channel, ours is n / (n - 1) times theirs."""
    n = 4 * 3 * 2
    for seed in range(CONFIGURATIONS):
        momentum, epsilon, x, scale, bias, _ = draw_batches(seed, 3, "float64")
        layer = nn.batch_norm(momentum=momentum, epsilon=epsilon)
        params, state = {"scale": jnp.array(scale), "bias": jnp.array(bias)}, {"mean": jnp.zeros(3), "var": jnp.ones(3)}
        with peer():
            theirs = flax.nnx.BatchNorm(
                3, momentum=momentum, epsilon=epsilon, param_dtype=jnp.float64, rngs=flax.nnx.Rngs(0)
            )
            theirs.scale[...], theirs.bias[...] = scale, bias
            theirs.mean.set_value(state["mean"])
            theirs.var.set_value(state["var"])
        for step, batch in enumerate(jnp.array(x), 1):
            y, state = layer.apply(params, state, batch, train=True)
            with peer():
                wanted = theirs(batch, use_running_average=False)
            expect_close([y, state["mean"]], [wanted, theirs.mean[...]], "float64", scale=1e2)
            start = momentum**step  # what is left of the variance 1 that both begin with
            grown = start + n / (n - 1) * (np.asarray(theirs.var[...]) - start)
            expect_close([state["var"]], [grown], "float64", scale=1e2)


def flax_dense(kernel, bias):
    layer = flax.nnx.Linear(*kernel.shape, param_dtype=jnp.float64, rngs=flax.nnx.Rngs(0))
    layer.kernel[...], layer.bias[...] = kernel, bias
    return layer


def test_dense_is_that_of_flax(peer):
    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        x, kernel, bias = (jnp.array(draw.normal(size=shape)) for shape in ((2, 5, 4), (4, 3), (3,)))
        with peer():
            wanted = flax_dense(kernel, bias)(x)
        expect_close([nn.dense(3).apply({"kernel": kernel, "bias": bias}, {}, x)[0]], [wanted], "float64")


ACTIVATIONS = {
    "relu": (lambda number: nn.relu(), lambda x, number: F.relu(x)),
    "leaky_relu": (nn.leaky_relu, F.leaky_relu),
    "elu": (nn.elu, F.elu),
    "gelu": (lambda number: nn.gelu(), lambda x, number: F.gelu(x)),
    "silu": (lambda number: nn.silu(), lambda x, number: F.silu(x)),
    "sigmoid": (lambda number: nn.sigmoid(), lambda x, number: torch.sigmoid(x)),
    "tanh": (lambda number: nn.tanh(), lambda x, number: torch.tanh(x)),
    "softplus": (lambda number: nn.softplus(), lambda x, number: F.softplus(x, threshold=40)),
}


@every_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_torch(name, dtype):
    """Torch's softplus is a line from 20 on by default, 2e-9 off: here from 40 on."""
    make, theirs = ACTIVATIONS[name]

    @jax.jit
    def ours(number, weight, x):
        y, pull = jax.vjp(lambda x: make(number).apply({}, {}, x)[0], x)
        return y, *pull(weight)

    for seed in range(CONFIGURATIONS):
        draw = np.random.default_rng(seed)
        number, x = draw.uniform(0, 1.5), (10 ** draw.uniform(-2, 2) * draw.normal(size=(3, 4))).astype(dtype)
        weight = draw.normal(size=(3, 4)).astype(dtype)
        wanted = torch_differentiated(lambda x, number=number: theirs(x, number), weight, x)
        expect_close(ours(number, weight, x), wanted, dtype, scale=1)
