"""Normalizations, compared with torch."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import nn

BATCHES = 100
IMAGES, CHANNELS = (4, 3, 2, 6), 6
SHAPES = [(4, 6), (3, 5, 6), IMAGES]
OFFSETS = (0, 10, 1000)


def nchw(x):
    return x.movedim(-1, 1)


def nhwc(x):
    return x.movedim(1, -1)


def draw_arrays(
    draw: np.random.Generator, dtype: str, shape: tuple[int, ...], affine: tuple[int, ...]
):
    """Weights of y, x whose channels differ in offset and scale, and a scale and a bias."""
    scales = 2 ** draw.uniform(-1, 1, shape[-1])
    x = scales * (draw.normal(size=shape[-1]) + draw.normal(size=shape))
    weight = draw.normal(size=shape)
    scale, bias = draw.normal(size=(2, *affine))
    return [array.astype(dtype) for array in (weight, x, scale, bias)]


def draw_knobs(draw: np.random.Generator) -> tuple[float, float]:
    """A momentum and an eps that are exact in float32, so that both libraries get the same."""
    return float(np.float32(draw.uniform())), float(np.float32(10 ** draw.uniform(-6, -1)))


@jax.jit
def _batch_norm(momentum, eps, batches, weight, x, scale, bias):
    layer, params = nn.batch_norm(momentum=momentum, eps=eps), {"scale": scale, "bias": bias}

    def one(state, x):
        _, state = layer.apply(params, state, x, train=True)
        return state, state

    zeros = jnp.zeros(CHANNELS, x.dtype)
    state, states = jax.lax.scan(one, {"mean": zeros, "var": zeros + 1}, batches)

    def trained(x, scale, bias):
        return layer.apply({"scale": scale, "bias": bias}, state, x, train=True)[0]

    evaluated, _ = layer.apply(params, state, x, train=False)
    values = differentiated(trained)(weight, x, scale, bias)
    return states["mean"], states["var"], evaluated, *values


@family("torch")
def batch_norm(draw: np.random.Generator, dtype: str):
    """The running statistics after each of 100 batches, and then values and gradients."""
    momentum, eps = draw_knobs(draw)
    weight, x, scale, bias = draw_arrays(draw, dtype, IMAGES, (CHANNELS,))
    batches = x + draw.normal(size=(BATCHES, *IMAGES)).astype(dtype)
    mean = torch.zeros(CHANNELS, dtype=torch.tensor(x).dtype)
    affine = (torch.tensor(scale), torch.tensor(bias))
    var = mean + 1
    means, variances = [], []
    for batch in torch.tensor(batches):
        F.batch_norm(nchw(batch), mean, var, *affine, True, 1 - momentum, eps)
        means.append(mean.clone())
        variances.append(var.clone())
    evaluated = nhwc(F.batch_norm(nchw(torch.tensor(x)), mean, var, *affine, False, 0.0, eps))

    def trained(x, scale, bias):
        return nhwc(F.batch_norm(nchw(x), None, None, scale, bias, True, 0.0, eps))

    values = torch_differentiated(trained, weight, x, scale, bias)
    wanted = torch.stack(means), torch.stack(variances), evaluated, *values
    return _batch_norm(momentum, eps, batches, weight, x, scale, bias), wanted


def batch_norm_offset_errors() -> dict[int, tuple[float, float]]:
    """By offset of float32 numbers of deviation 1, the errors of fnn and torch against float64."""
    layer = nn.batch_norm(affine=False)
    errors = {}
    _, state, _ = layer.init(jax.random.key(0), (8, 8, 16))
    for offset in OFFSETS:
        x = np.float32(offset + np.random.default_rng(0).normal(size=(64, 8, 8, 16)))
        wide = x.astype(np.float64)
        axes = (0, 1, 2)
        wanted = (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-5)
        ours, _ = layer.apply({}, state, jnp.array(x), train=True)
        statistics_and_affine = [None] * 4
        theirs = F.batch_norm(nchw(torch.tensor(x)), *statistics_and_affine, True, 0.0, 1e-5)
        outputs = [np.asarray(y, np.float64) for y in (ours, nhwc(theirs).numpy())]
        errors[offset] = tuple(float(np.abs(y - wanted).max()) for y in outputs)
    return errors


def _affine(make):
    """The values and the gradients of a normalization that scales and shifts."""

    @jax.jit
    def ours(eps, weight, x, scale, bias):
        def apply(x, scale, bias):
            return make(eps).apply({"scale": scale, "bias": bias}, {}, x)[0]

        return differentiated(apply)(weight, x, scale, bias)

    return ours


def _layer_norm(axes):
    return _affine(lambda eps: nn.layer_norm(axes=axes, eps=eps))


def _group_norm(groups):
    return _affine(lambda eps: nn.group_norm(groups, eps=eps))


_layer_norms = {axes: _layer_norm(axes) for axes in (1, 2)}
_group_norms = {groups: _group_norm(groups) for groups in (1, 2, 3)}
_instance_norm = _affine(lambda eps: nn.instance_norm(eps=eps, affine=True))


@family("torch")
def layer_norm(draw: np.random.Generator, dtype: str):
    axes = int(draw.integers(1, 3))
    shape, eps = SHAPES[draw.integers(axes - 1, len(SHAPES))], draw_knobs(draw)[1]
    arrays = draw_arrays(draw, dtype, shape, shape[-axes:])

    def theirs(x, scale, bias):
        return F.layer_norm(x, shape[-axes:], scale, bias, eps)

    return _layer_norms[axes](eps, *arrays), torch_differentiated(theirs, *arrays)


@family("torch")
def group_norm(draw: np.random.Generator, dtype: str):
    """At least ten values per group.

    Two values of a group may be so close that the float32 error is 1e-5 in torch and 3e-6 in fnn.
    """
    groups = int(draw.integers(1, 4))
    shape = SHAPES[draw.integers(1, len(SHAPES))]
    eps = draw_knobs(draw)[1]
    arrays = draw_arrays(draw, dtype, shape, (CHANNELS,))

    def theirs(x, scale, bias):
        return nhwc(F.group_norm(nchw(x), groups, scale, bias, eps))

    return _group_norms[groups](eps, *arrays), torch_differentiated(theirs, *arrays)


@family("torch")
def instance_norm(draw: np.random.Generator, dtype: str):
    shape, eps = SHAPES[draw.integers(1, len(SHAPES))], draw_knobs(draw)[1]
    arrays = draw_arrays(draw, dtype, shape, (CHANNELS,))

    def theirs(x, scale, bias):
        return nhwc(F.instance_norm(nchw(x), None, None, scale, bias, True, 0.0, eps))

    return _instance_norm(eps, *arrays), torch_differentiated(theirs, *arrays)


@jax.jit
def _rms_norm(eps, weight, x, scale):
    def apply(x, scale):
        return nn.rms_norm(eps=eps).apply({"scale": scale}, {}, x)[0]

    return differentiated(apply)(weight, x, scale)


@family("torch")
def rms_norm(draw: np.random.Generator, dtype: str):
    shape, eps = SHAPES[draw.integers(len(SHAPES))], draw_knobs(draw)[1]
    weight, x, scale, _ = draw_arrays(draw, dtype, shape, (CHANNELS,))

    def theirs(x, scale):
        return F.rms_norm(x, shape[-1:], scale, eps)

    return _rms_norm(eps, weight, x, scale), torch_differentiated(theirs, weight, x, scale)


ITERATIONS, TINY = 2, 1e-30  # torch divides by max(norm, eps), fnn by norm + eps


@jax.jit
def _spectral_norm(weight, x, kernel, u, v):
    dense = nn.dense(kernel.shape[-1], use_bias=False)
    layer = nn.spectral_norm(dense, iterations=ITERATIONS, eps=TINY)
    state = {"u": {"kernel": u}, "v": {"kernel": v}}

    def trained(x, kernel):
        return layer.apply({"kernel": kernel}, state, x, train=True)

    y, pull, after = jax.vjp(trained, x, kernel, has_aux=True)
    evaluated, _ = layer.apply({"kernel": kernel}, after, x, train=False)
    return after["u"]["kernel"], after["v"]["kernel"], evaluated, y, *pull(weight)


@family("torch")
def spectral_norm(draw: np.random.Generator, dtype: str):
    """The vectors after two iterations, and then values and gradients."""
    weight, x, kernel = (draw.normal(size=size).astype(dtype) for size in ((5, 3), (5, 4), (4, 3)))
    linear = torch.nn.Linear(4, 3, bias=False, dtype=torch.tensor(x).dtype)
    linear.weight = torch.nn.Parameter(torch.tensor(kernel.T))
    torch.nn.utils.parametrizations.spectral_norm(linear, n_power_iterations=ITERATIONS, eps=TINY)
    norm = linear.parametrizations.weight[0]
    u, v = (draw.normal(size=size).astype(dtype) for size in (3, 4))
    norm._u.copy_(torch.tensor(u))
    norm._v.copy_(torch.tensor(v))
    leaf = torch.tensor(x, requires_grad=True)
    y = linear(leaf)
    total = (y * torch.tensor(weight)).sum()
    original = linear.parametrizations.weight.original
    dx, dkernel = torch.autograd.grad(total, (leaf, original))
    wanted = norm._u, norm._v, linear.eval()(leaf), y, dx, dkernel.T
    return _spectral_norm(weight, x, kernel, u, v), wanted
