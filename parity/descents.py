"""Comparison of an optimizer with that of a peer: params after each step on the same gradients.

An entry has two functions that make the optimizer from a rate and options, and functions that draw
the options. Both sides get the same gradients, with sizes that differ between the numbers, because
gradients at the params of each side would make the difference grow chaotically. `worst` is the
largest difference over CONFIGURATIONS problems of STEPS steps, relative to the largest number of
the params on the path, or to 1 if that is larger: the figure of the tests and of
benchmarks/descent_parity.py.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

CONFIGURATIONS, STEPS = 200, 300
SHAPES = {"bias": (3,), "kernel": (4, 3)}
GOALS = {"float64": 1e-13, "float32": 2e-5}
DESCENTS: dict[str, "Descent"] = {}

Draw = Callable[[np.random.Generator], float]


class Descent(NamedTuple):
    """An optimizer of fnn and the steps of its peer.

    Attributes:
        peer: Name of the library.
        ours: Function (rate, **knobs) -> optimizer of fnn.
        theirs: Function of the problems that returns the params of the peer after every step.
        knobs: Functions that draw the options, by name.
        rate: Function that draws the rate.
        goals: Largest error, by dtype.
    """

    peer: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    knobs: dict[str, Draw]
    rate: Draw
    goals: dict[str, float]


def near_one(low: float, high: float) -> Draw:
    """Draw a decay 1 - 10ˣ with x uniform between low and high."""
    return lambda draw: 1 - 10 ** draw.uniform(low, high)


def power(low: float, high: float) -> Draw:
    """Draw a positive number 10ˣ with x uniform between low and high."""
    return lambda draw: 10 ** draw.uniform(low, high)


RATE = power(-3, -0.5)
BETAS = {"b1": near_one(-2.5, -0.05), "b2": near_one(-3.5, -0.5)}
EPS = {"eps": power(-9, -1)}


def against_torch(
    name: str,
    ours: Any,
    theirs: Any,
    *,
    rate: Draw = RATE,
    float32: float = GOALS["float32"],
    **knobs: Draw,
) -> None:
    """Enter an optimizer of fnn and torch.

    Args:
        name: Name of the entry.
        ours: Function (rate, **knobs) -> optimizer of fnn.
        theirs: Function (params, rate, **knobs) -> optimizer of torch.
        rate: Function that draws the rate.
        float32: Goal in float32.
        **knobs: Functions that draw the options.
    """

    def steps(rates: Any, knobs: Any, params: Any, grads: Any) -> Any:
        problems = (rates, knobs, params, grads)
        paths = []
        for i in range(len(rates)):
            problem = jax.tree.map(lambda array, i=i: array[i], problems)
            paths.append(_follow_torch(theirs, *problem))
        return jax.tree.map(lambda *paths: np.stack(paths), *paths)

    DESCENTS[name] = Descent("torch", ours, steps, knobs, rate, GOALS | {"float32": float32})


def against_optax(
    name: str,
    ours: Any,
    theirs: Any,
    *,
    rate: Draw = RATE,
    float32: float = GOALS["float32"],
    **knobs: Draw,
) -> None:
    """Enter an optimizer of fnn and optax; theirs is a function (rate, **knobs) -> optimizer.

    The other arguments are those of against_torch.
    """
    steps = _followed(theirs)

    def lenient(*problem: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return steps(*problem)

    DESCENTS[name] = Descent("optax", ours, lenient, knobs, rate, GOALS | {"float32": float32})


def worst(name: str, dtype: str, configurations: int = CONFIGURATIONS) -> float:
    """The largest error over the problems."""
    entry = DESCENTS[name]
    problem = problems(entry, dtype, configurations)
    got, wanted = _followed(entry.ours)(*problem), entry.theirs(*problem)
    errors = jax.tree.map(_error, got, dict(wanted))
    return float(np.max(jax.tree.leaves(errors)))


def problems(entry: Descent, dtype: str, configurations: int) -> tuple[Any, Any, Any, Any]:
    """Rates and knobs (n,), params (n, ...) and gradients (n, steps, ...)."""
    drawn = [_problem(entry, np.random.default_rng(seed)) for seed in range(configurations)]
    return jax.tree.map(lambda *values: np.stack(values).astype(dtype), *drawn)


def _problem(entry: Descent, draw: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    rate = entry.rate(draw)
    knobs = {name: knob(draw) for name, knob in entry.knobs.items()}
    params = {name: draw.normal(size=shape) for name, shape in SHAPES.items()}
    scales = {name: 10 ** draw.uniform(-3, 3, size=shape) for name, shape in SHAPES.items()}
    grads = {}
    for name, shape in SHAPES.items():
        grads[name] = scales[name] * draw.normal(size=(STEPS, *shape))
    return np.float64(rate), knobs, params, grads


def _error(got: Any, wanted: np.ndarray) -> float:
    """The largest relative error over the problems, which are the first axis."""
    got = np.asarray(got)
    assert got.shape == wanted.shape, f"expected {wanted.shape}, got {got.shape}"
    assert got.dtype == wanted.dtype, f"expected {wanted.dtype}, got {got.dtype}"
    axes = tuple(range(1, got.ndim))
    scales = np.maximum(1, np.abs(wanted).max(axes))
    return (np.abs(got - wanted).max(axes) / scales).max()


def _followed(make: Any) -> Any:
    """A function (rates, knobs, params, grads) -> params after every step, for many problems."""

    def follow(rate: Any, knobs: Any, params: Any, grads: Any) -> Any:
        optimizer = make(rate, **knobs)

        def one(carry: Any, grads: Any) -> Any:
            params, opt_state = carry
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = jax.tree.map(jnp.add, params, updates)
            return (params, opt_state), params

        return jax.lax.scan(one, (params, optimizer.init(params)), grads)[1]

    return jax.jit(jax.vmap(follow))


def _follow_torch(
    make: Any, rate: Any, knobs: Any, params: Any, grads: Any
) -> dict[str, np.ndarray]:
    leaves = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in params.items()}
    gradients = {name: torch.tensor(array) for name, array in grads.items()}
    path: dict[str, list[np.ndarray]] = {name: [] for name in leaves}
    # Some optimizers keep numbers in the default dtype.
    torch.set_default_dtype(gradients["bias"].dtype)
    options = {name: float(knob) for name, knob in knobs.items()}
    optimizer = make(list(leaves.values()), float(rate), **options)
    for step in range(STEPS):
        for name, leaf in leaves.items():
            leaf.grad = gradients[name][step]
        optimizer.step()
        for name, leaf in leaves.items():
            path[name].append(leaf.detach().numpy().copy())
    torch.set_default_dtype(torch.float32)
    return {name: np.stack(arrays) for name, arrays in path.items()}
