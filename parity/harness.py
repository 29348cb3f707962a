"""How a family of layers or losses is held against a peer: random problems, the same for both, in both precisions.

A family is a function (draw, dtype) -> (got, wanted), trees of arrays in the same order: the values and the gradients
of fnn and of the peer on one random problem, all in that dtype, its numbers of order 1. The error is the largest
difference of an array, relative to the largest number of that array, or to `scale` if that is more, for small numbers
may be what is left of large ones. `worst` is over CONFIGURATIONS problems: the figure that the tests judge and
benchmarks/parity.py prints.
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
    """A function that draws and solves one problem, and whom it is held against."""

    compare: Callable[[np.random.Generator, str], tuple[Any, Any]]
    peer: str
    scale: float


def family(peer: str, *, scale: float = 1.0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function as a family, under its name."""

    def enter(compare: Callable[..., Any]) -> Callable[..., Any]:
        FAMILIES[compare.__name__] = Family(compare, peer, scale)
        return compare

    return enter


def worst(name: str, dtype: str, configurations: int = CONFIGURATIONS) -> float:
    """The largest error of a family over so many problems; NaN where one side has a NaN that the other lacks."""
    chosen = FAMILIES[name]
    problems = (
        chosen.compare(np.random.default_rng(seed), dtype) for seed in range(configurations)
    )
    return max(_error(got, wanted, chosen.scale) for got, wanted in problems)


def _error(got: Any, wanted: Any, scale: float) -> float:
    pairs = zip(jax.tree.leaves(got), map(as_numpy, jax.tree.leaves(wanted)), strict=True)
    return max(_array_error(np.asarray(one), other, scale) for one, other in pairs)


def _array_error(got: np.ndarray, wanted: np.ndarray, scale: float) -> float:
    assert got.shape == wanted.shape, f"{got.shape} is not the peer's {wanted.shape}"
    assert got.dtype == wanted.dtype, f"{got.dtype} is not the peer's {wanted.dtype}"
    size = max(np.abs(wanted).max(initial=0), scale, np.finfo(wanted.dtype).tiny)
    return float(np.abs(got.astype(np.float64) - wanted).max(initial=0) / size)


def as_numpy(value: Any) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def differentiated(apply: Callable[..., Any]) -> Callable[..., Any]:
    """(weight, *arguments) -> y and the gradients of Σ y weight by each argument, for fnn."""

    def evaluate(weight: Any, *arguments: Any) -> tuple[Any, ...]:
        y, pull = jax.vjp(apply, *arguments)
        return y, *pull(weight)

    return evaluate


def torch_differentiated(
    apply: Callable[..., Any], weight: np.ndarray, *arguments: np.ndarray
) -> tuple[Any, ...]:
    """The same for torch."""
    leaves = [torch.tensor(argument, requires_grad=True) for argument in arguments]
    y = apply(*leaves)
    return y, *torch.autograd.grad((y * torch.tensor(weight)).sum(), leaves)
