"""How an optimizer is held against a peer's: both are fed one stream of gradients, the params compared at each step.

An entry says how each side makes the optimizer from a rate and knobs, and how the knobs are drawn. Closed loops, where
each side differentiates at its own params, would be chaotic, so both are given the same gradients, whose size differs
from number to number. `worst` is the largest difference over CONFIGURATIONS problems of STEPS steps, relative to the
largest number of the params' path or to 1 if that is more: what the tests judge, and what
benchmarks/descent_parity.py prints.
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
    """An optimizer of fnn, (rate, **knobs) -> optimizer, and the steps of its peer on the same problems."""

    peer: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    knobs: dict[str, Draw]
    rate: Draw
    goals: dict[str, float]


def near_one(low: float, high: float) -> Draw:
    """A decay: 1 - 10ˣ with x drawn between these two."""
    return lambda draw: 1 - 10 ** draw.uniform(low, high)


def power(low: float, high: float) -> Draw:
    """A positive number: 10ˣ with x drawn between these two."""
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
    """Enter an optimizer, where theirs is (params, rate, **knobs) -> torch's; float32 is its goal in that precision."""

    def steps(rates: Any, knobs: Any, params: Any, grads: Any) -> Any:
        problems = range(len(rates))
        at = [
            jax.tree.map(lambda array, i=i: array[i], (rates, knobs, params, grads))
            for i in problems
        ]
        paths = [_follow_torch(theirs, *problem) for problem in at]
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
    """Enter an optimizer, where theirs is (rate, **knobs) -> optax's; float32 is its goal in that precision."""
    steps = _followed(theirs)

    def lenient(*problem: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return steps(*problem)

    DESCENTS[name] = Descent("optax", ours, lenient, knobs, rate, GOALS | {"float32": float32})


def worst(name: str, dtype: str, configurations: int = CONFIGURATIONS) -> float:
    """The largest error over so many problems."""
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
    rate, knobs = entry.rate(draw), {name: knob(draw) for name, knob in entry.knobs.items()}
    params = {name: draw.normal(size=shape) for name, shape in SHAPES.items()}
    scales = {name: 10 ** draw.uniform(-3, 3, size=shape) for name, shape in SHAPES.items()}
    grads = {
        name: scales[name] * draw.normal(size=(STEPS, *shape)) for name, shape in SHAPES.items()
    }
    return np.float64(rate), knobs, params, grads


def _error(got: Any, wanted: np.ndarray) -> float:
    got = np.asarray(got)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype), (
        f"{got.shape} {got.dtype} is not the peer's"
    )
    axes = tuple(range(1, got.ndim))
    return (np.abs(got - wanted).max(axes) / np.maximum(1, np.abs(wanted).max(axes))).max()


def _followed(make: Any) -> Any:
    """(rates, knobs, params, grads), for many problems at once -> the params after every step."""

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
    torch.set_default_dtype(
        gradients["bias"].dtype
    )  # some keep numbers of their own, of that dtype
    optimizer = make(
        list(leaves.values()), float(rate), **{name: float(knob) for name, knob in knobs.items()}
    )
    for step in range(STEPS):
        for name, leaf in leaves.items():
            leaf.grad = gradients[name][step]
        optimizer.step()
        for name, leaf in leaves.items():
            path[name].append(leaf.detach().numpy().copy())
    torch.set_default_dtype(torch.float32)
    return {name: np.stack(arrays) for name, arrays in path.items()}
