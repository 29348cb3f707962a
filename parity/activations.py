"""Activations, compared with torch."""

import jax
import numpy as np
import torch
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import nn

SHAPE, UNITS, PIECES = (3, 4), 3, 2

# Functions of fnn and torch; some have an option, which is the number. By default the softplus of
# torch is linear from 20 on, with an error of 2e-9: here from 40 on.
POINTWISE = {
    "relu": (lambda number: nn.relu(), lambda x, number: F.relu(x)),
    "relu6": (lambda number: nn.relu6(), lambda x, number: F.relu6(x)),
    "leaky_relu": (nn.leaky_relu, F.leaky_relu),
    "elu": (nn.elu, F.elu),
    "selu": (lambda number: nn.selu(), lambda x, number: F.selu(x)),
    "gelu": (lambda number: nn.gelu(), lambda x, number: F.gelu(x)),
    "gelu by tanh": (
        lambda number: nn.gelu(approximate=True),
        lambda x, number: F.gelu(x, approximate="tanh"),
    ),
    "silu": (lambda number: nn.silu(), lambda x, number: F.silu(x)),
    "hard_swish": (lambda number: nn.hard_swish(), lambda x, number: F.hardswish(x)),
    "mish": (lambda number: nn.mish(), lambda x, number: F.mish(x)),
    "sigmoid": (lambda number: nn.sigmoid(), lambda x, number: torch.sigmoid(x)),
    "tanh": (lambda number: nn.tanh(), lambda x, number: torch.tanh(x)),
    "softplus": (lambda number: nn.softplus(), lambda x, number: F.softplus(x, threshold=40)),
    "softmax": (lambda number: nn.softmax(), lambda x, number: F.softmax(x, -1)),
    "log_softmax": (lambda number: nn.log_softmax(), lambda x, number: F.log_softmax(x, -1)),
}


def _applied(make):
    @jax.jit
    def ours(number, weight, x):
        return differentiated(lambda x: make(number).apply({}, {}, x)[0])(weight, x)

    return ours


OURS = {name: _applied(make) for name, (make, _) in POINTWISE.items()}


@family("torch")
def activations(draw: np.random.Generator, dtype: str):
    """One of the functions, on numbers near 0 and far from it."""
    name = list(POINTWISE)[draw.integers(len(POINTWISE))]
    number = draw.uniform(0, 1.5)
    weight = draw.normal(size=SHAPE).astype(dtype)
    x = (10 ** draw.uniform(-2, 2) * draw.normal(size=SHAPE)).astype(dtype)
    _, theirs = POINTWISE[name]
    expected = torch_differentiated(lambda x: theirs(x, number), weight, x)
    return OURS[name](number, weight, x), expected


@jax.jit
def _prelu(weight, x, slope):
    def apply(x, slope):
        return nn.prelu().apply({"slope": slope}, {}, x)[0]

    return differentiated(apply)(weight, x, slope)


@family("torch")
def prelu(draw: np.random.Generator, dtype: str):
    arguments = [draw.normal(size=shape).astype(dtype) for shape in (SHAPE, SHAPE, SHAPE[-1:])]
    return _prelu(*arguments), torch_differentiated(F.prelu, *arguments)


@jax.jit
def _maxout(weight, x, kernel, bias):
    def apply(x, kernel, bias):
        return nn.maxout(UNITS, pieces=PIECES).apply({"kernel": kernel, "bias": bias}, {}, x)[0]

    return differentiated(apply)(weight, x, kernel, bias)


@family("torch")
def maxout(draw: np.random.Generator, dtype: str):
    inputs, width = SHAPE[-1], UNITS * PIECES
    shapes = (SHAPE[0], UNITS), SHAPE, (inputs, width), (width,)
    arguments = [draw.normal(size=shape).astype(dtype) for shape in shapes]

    def theirs(x, kernel, bias):
        return F.linear(x, kernel.T, bias).unflatten(-1, (UNITS, PIECES)).amax(-1)

    return _maxout(*arguments), torch_differentiated(theirs, *arguments)
