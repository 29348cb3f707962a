"""Golden files: problems and their solutions by torch, so that the tests need no torch.

Run this with `make golden`. A file holds arrays in fnn's layouts (images NHWC, kernels HWIO, dense
kernels (inputs, outputs)) under names such as `adam/float64/bias`. Gradients are those of
Σ y weight; the weight is stored as well.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

Arrays = dict[str, np.ndarray]

SNAPSHOTS = (10, 20, 30)
LEAVES = {"kernel": (3, 4), "bias": (4,), "scale": (2, 1, 3)}
OPTIMIZERS = {
    "sgd": lambda params: torch.optim.SGD(params, lr=0.05, foreach=False),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, foreach=False),
    "nesterov": lambda params: torch.optim.SGD(
        params, lr=0.05, momentum=0.9, nesterov=True, foreach=False
    ),
    "rmsprop": lambda params: torch.optim.RMSprop(
        params, lr=0.05, alpha=0.9, eps=1e-8, foreach=False
    ),
    "adam": lambda params: torch.optim.Adam(params, lr=0.05, eps=1e-8, foreach=False),
    "adamw": lambda params: torch.optim.AdamW(
        params, lr=0.05, eps=1e-8, weight_decay=0.02, foreach=False
    ),
}

# image, kernel (height, width, inputs / groups, outputs), stride, padding, dilation, groups
CONVOLUTIONS = {
    "plain": ((5, 4), (3, 3, 2, 3), (1, 1), (1, 1), (1, 1), 1),
    "unpadded": ((5, 6), (3, 2, 2, 2), (1, 1), (0, 0), (1, 1), 1),
    "pointwise": ((3, 4), (1, 1, 3, 2), (1, 1), (0, 0), (1, 1), 1),
    "strided": ((7, 6), (3, 3, 2, 2), (2, 2), (1, 1), (1, 1), 1),
    "uneven": ((8, 5), (2, 3, 1, 3), (3, 2), (0, 2), (1, 1), 1),
    "dilated": ((7, 7), (3, 2, 2, 2), (1, 1), (2, 0), (2, 3), 1),
    "strided_dilated": ((8, 7), (2, 3, 2, 2), (2, 3), (1, 2), (3, 2), 1),
    "grouped": ((5, 4), (3, 3, 2, 4), (1, 1), (1, 1), (1, 1), 2),
    "depthwise": ((5, 5), (3, 3, 1, 6), (2, 1), (1, 0), (1, 1), 3),
    "whole_image": ((4, 3), (4, 3, 2, 3), (1, 1), (0, 0), (1, 1), 1),
}

# image, window, stride, padding
POOLS = {
    "halves": ((4, 6), (2, 2), (2, 2), (0, 0)),
    "ragged": ((5, 7), (2, 3), (2, 3), (0, 0)),
    "overlapping": ((6, 7), (3, 3), (2, 1), (1, 1)),
    "gaps": ((7, 6), (2, 1), (3, 2), (1, 0)),
}

ACTIVATIONS = {
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 0.7),
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "relu6": F.relu6,
    "selu": F.selu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hard_swish": F.hardswish,
    "mish": F.mish,
}


def optimizers() -> Arrays:
    """Thirty steps on the same gradients; the params after every tenth, in both precisions."""
    draw = np.random.default_rng(0)
    start = {leaf: draw.normal(size=shape) for leaf, shape in LEAVES.items()}
    grads = {leaf: draw.normal(size=(SNAPSHOTS[-1], *shape)) for leaf, shape in LEAVES.items()}
    arrays = {f"start/{leaf}": value for leaf, value in start.items()}
    arrays |= {f"grads/{leaf}": value for leaf, value in grads.items()}
    for name, make in OPTIMIZERS.items():
        for dtype in (torch.float64, torch.float32):
            for leaf, path in trajectory(make, start, grads, dtype).items():
                arrays[f"{name}/{str(dtype).removeprefix('torch.')}/{leaf}"] = path
    return arrays


def trajectory(make, start: Arrays, grads: Arrays, dtype: torch.dtype) -> Arrays:
    params = {
        leaf: torch.nn.Parameter(torch.tensor(value, dtype=dtype)) for leaf, value in start.items()
    }
    optimizer = make(list(params.values()))
    seen: dict[str, list[np.ndarray]] = {leaf: [] for leaf in params}
    for step in range(SNAPSHOTS[-1]):
        for leaf, param in params.items():
            param.grad = torch.tensor(grads[leaf][step], dtype=dtype)
        optimizer.step()
        if step + 1 in SNAPSHOTS:
            for leaf, param in params.items():
                seen[leaf].append(param.detach().numpy().copy())
    return {leaf: np.stack(values) for leaf, values in seen.items()}


def convolution() -> Arrays:
    draw, arrays = np.random.default_rng(1), {}
    for name, (image, kernel_shape, stride, padding, dilation, groups) in CONVOLUTIONS.items():
        x = leaf(draw.normal(size=(2, *image, kernel_shape[2] * groups)))
        kernel, bias = (
            leaf(draw.normal(size=kernel_shape)),
            leaf(draw.normal(size=kernel_shape[-1])),
        )
        y = F.conv2d(
            nchw(x), kernel.permute(3, 2, 0, 1), bias, stride, padding, dilation, groups
        ).permute(0, 2, 3, 1)
        own = differentiate(draw, y, x=x, kernel=kernel, bias=bias)
        own["options"] = np.array([*stride, *padding, *dilation, groups])
        arrays |= under(name, own)
    return arrays


def normalization() -> Arrays:
    """Three batches in training, then one with the running statistics."""
    draw, arrays, channels = np.random.default_rng(2), {}, 3
    scale, bias = leaf(draw.normal(size=channels)), leaf(draw.normal(size=channels))
    mean, var = (
        torch.zeros(channels, dtype=torch.float64),
        torch.ones(channels, dtype=torch.float64),
    )
    for name in ("train_0", "train_1", "train_2", "eval"):
        x = leaf(2 + 3 * draw.normal(size=(4, 3, 2, channels)))
        y = F.batch_norm(nchw(x), mean, var, scale, bias, name != "eval", 0.1, 1e-5).permute(
            0, 2, 3, 1
        )
        own = differentiate(draw, y, x=x, scale=scale, bias=bias)
        arrays |= under(name, own | {"mean": mean.numpy().copy(), "var": var.numpy().copy()})
    return arrays


def dense() -> Arrays:
    draw = np.random.default_rng(3)
    x, kernel, bias = (leaf(draw.normal(size=shape)) for shape in ((2, 5, 4), (4, 3), (3,)))
    return differentiate(draw, F.linear(x, kernel.T, bias), x=x, kernel=kernel, bias=bias)


def pooling() -> Arrays:
    """Whole numbers as images, so that a window holds equal maxima."""
    draw, arrays = np.random.default_rng(4), {}
    for name, (image, window, stride, padding) in POOLS.items():
        x = leaf(draw.integers(-2, 3, size=(2, *image, 2)).astype(np.float64))
        arrays[f"{name}/options"] = np.array([*window, *stride, *padding])
        largest = F.max_pool2d(nchw(x), window, stride, padding)
        mean = F.avg_pool2d(nchw(x), window, stride, padding, count_include_pad=False)
        for kind, y in (("max", largest), ("avg", mean)):
            arrays |= under(f"{name}/{kind}", differentiate(draw, y.permute(0, 2, 3, 1), x=x))
    return arrays


def activations() -> Arrays:
    draw, arrays = np.random.default_rng(5), {}
    for name, function in ACTIVATIONS.items():
        x = leaf(np.linspace(-8, 8, 33))  # has 0 among them
        arrays |= under(name, differentiate(draw, function(x), x=x))
    return arrays


def losses() -> Arrays:
    draw, arrays = np.random.default_rng(6), {}
    labels = np.array([0, 4, 2, 2, 1, 3])
    for scale in (0.1, 1.0, 30.0):
        for smoothing in (0.0, 0.1, 1.0):
            x = leaf(scale * draw.normal(size=(6, 5)))
            y = F.cross_entropy(
                x, torch.tensor(labels), reduction="none", label_smoothing=smoothing
            )
            own = differentiate(draw, y, x=x) | {"labels": labels}
            arrays |= under(f"labels/{scale}/{smoothing}", own)
    targets = draw.dirichlet(np.ones(5), size=6)
    x = leaf(draw.normal(size=(6, 5)))
    y = F.cross_entropy(x, torch.tensor(targets), reduction="none", label_smoothing=0.1)
    arrays |= under("probabilities", differentiate(draw, y, x=x) | {"labels": targets})
    x, targets = leaf(draw.normal(size=(6, 5, 2))), draw.normal(size=(6, 5, 2))
    y = F.mse_loss(x, torch.tensor(targets), reduction="none").mean((1, 2))
    return arrays | under("squared_error", differentiate(draw, y, x=x) | {"labels": targets})


def differentiate(draw: np.random.Generator, y: torch.Tensor, **leaves: torch.Tensor) -> Arrays:
    """The values, and the gradients of Σ y weight for random weights."""
    weight = torch.tensor(draw.normal(size=tuple(y.shape)))
    grads = torch.autograd.grad((y * weight).sum(), list(leaves.values()))
    arrays = {name: value.detach().numpy().copy() for name, value in leaves.items()}
    arrays |= {
        f"d{name}": grad.contiguous().numpy() for name, grad in zip(leaves, grads, strict=True)
    }
    return arrays | {"y": y.detach().numpy().copy(), "weight": weight.numpy()}


def leaf(value: np.ndarray) -> torch.Tensor:
    return torch.tensor(value, requires_grad=True)


def nchw(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 3, 1, 2)


def under(name: str, arrays: Arrays) -> Arrays:
    return {f"{name}/{key}": value for key, value in arrays.items()}


FILES = {
    "activations": activations,
    "convolution": convolution,
    "dense": dense,
    "losses": losses,
    "normalization": normalization,
    "optimizers": optimizers,
    "pooling": pooling,
}


if __name__ == "__main__":
    for name, make in FILES.items():
        np.savez_compressed(Path(__file__).parent / f"{name}.npz", **make())
