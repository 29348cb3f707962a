"""Comparison of a family of layers or losses with a peer, on random problems in two precisions.

A family is a function (draw, dtype) -> (got, wanted), trees of arrays in the same order: the values
and gradients of fnn and of the peer on one random problem with numbers of order 1, in that dtype.
The error is the largest difference of an array, relative to the largest number of that array or to
`scale` if that is larger, because small numbers may be differences of large ones. `worst` is the
largest error over CONFIGURATIONS problems: the figure of the tests and of benchmarks/parity.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

CONFIGURATIONS = 200
GOALS = {"float64": 1e-12, "float32": 2e-6}
FAMILIES: dict[str, "Family"] = {}


class Family(NamedTuple):
    """A function that draws and solves one problem, the name of the peer, and the scale."""

    compare: Callable[[np.random.Generator, str], tuple[Any, Any]]
    peer: str
    scale: float


def family(peer: str, *, scale: float = 1.0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as a family under its name."""

    def enter(compare: Callable[..., Any]) -> Callable[..., Any]:
        FAMILIES[compare.__name__] = Family(compare, peer, scale)
        return compare

    return enter


def worst(name: str, dtype: str, configurations: int = CONFIGURATIONS) -> float:
    """The largest error of a family over the problems; NaN where only one side has a NaN."""
    chosen = FAMILIES[name]
    errors = []
    for seed in range(configurations):
        got, wanted = chosen.compare(np.random.default_rng(seed), dtype)
        errors.append(_error(got, wanted, chosen.scale))
    return max(errors)


def _error(got: Any, wanted: Any, scale: float) -> float:
    wanted_arrays = [as_numpy(leaf) for leaf in jax.tree.leaves(wanted)]
    pairs = zip(jax.tree.leaves(got), wanted_arrays, strict=True)
    return max(_array_error(np.asarray(one), other, scale) for one, other in pairs)


def _array_error(got: np.ndarray, wanted: np.ndarray, scale: float) -> float:
    assert got.shape == wanted.shape, f"expected {wanted.shape}, got {got.shape}"
    assert got.dtype == wanted.dtype, f"expected {wanted.dtype}, got {got.dtype}"
    size = max(np.abs(wanted).max(initial=0), scale, np.finfo(wanted.dtype).tiny)
    return float(np.abs(got.astype(np.float64) - wanted).max(initial=0) / size)


def as_numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def differentiated(apply: Callable[..., Any]) -> Callable[..., Any]:
    """A function (weight, *arguments) -> y and the gradients of Σ y weight by each argument."""

    def evaluate(weight: Any, *arguments: Any) -> tuple[Any, ...]:
        y, pull = jax.vjp(apply, *arguments)
        return y, *pull(weight)

    return evaluate


def torch_differentiated(
    apply: Callable[..., Any], weight: np.ndarray, *arguments: np.ndarray
) -> tuple[Any, ...]:
    """y and the gradients of Σ y weight by each argument, in torch."""
    leaves = [torch.tensor(argument, requires_grad=True) for argument in arguments]
    y = apply(*leaves)
    return y, *torch.autograd.grad((y * torch.tensor(weight)).sum(), leaves)
