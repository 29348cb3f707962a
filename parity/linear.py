"""Linear maps, compared with torch."""

import jax
import numpy as np
from harness import differentiated, family, torch_differentiated
from torch.nn import functional as F

from fnn import nn

SHAPES = [(5, 4), (2, 3, 4), (1, 1)]


@jax.jit
def _dense(weight, x, kernel, bias):
    def apply(x, kernel, bias):
        return nn.dense(3).apply({"kernel": kernel, "bias": bias}, {}, x)[0]

    return differentiated(apply)(weight, x, kernel, bias)


@family("torch")
def dense(draw: np.random.Generator, dtype: str):
    shape = SHAPES[draw.integers(len(SHAPES))]
    shapes = (*shape[:-1], 3), shape, (shape[-1], 3), (3,)
    arguments = [draw.normal(size=s).astype(dtype) for s in shapes]
    wanted = torch_differentiated(lambda x, kernel, bias: F.linear(x, kernel.T, bias), *arguments)
    return _dense(*arguments), wanted
