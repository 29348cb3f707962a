"""Convex fits of a dense layer to fixed features: ridge in closed form, logistic by L-BFGS."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fnn import optim, trees
from fnn.objective import cross_entropy
from fnn.types import OptState, Params, Scalar, Step

PATIENCE = 10  # steps without a smaller gradient: the precision of the dtype is reached
EPS_POWER = 0.9  # a gradient below eps^0.9 is 0: 6e-7 in float32, 8e-15 in float64


@partial(jax.jit, static_argnums=(4, 5))
def fit_dense(
    x: jax.Array,
    y: jax.Array,
    weights: jax.Array,
    l2: Scalar,
    outputs: int,
    steps: int,
) -> tuple[Params, Scalar, Scalar, Scalar, Step]:
    """Return params, penalty, loss, the largest entry of the gradient, and the number of steps.

    Args:
        x: Features (n, width).
        y: Labels (n,) or floats (n, outputs).
        weights: Of the examples, >= 0, (n,).
        l2: Penalty.
        outputs: Number of classes or of outputs.
        steps: Largest number of steps.
    """
    share = (weights / weights.sum())[:, None]  # (n, 1)
    mean = (share * x).sum(0)  # (width,)
    centered = x - mean[None]  # (n, width)
    if y.ndim == 1:
        params, taken = _fit_labels(centered, y, weights, l2, outputs, steps)
    else:
        params, taken = _fit_floats(centered, y, share, l2), jnp.int32(0)
    # The bias of features that are not centered, (classes,).
    params["bias"] = params["bias"] - _product(mean[None], params["kernel"])[0]

    def total(params: Params) -> Scalar:
        return mean_loss(params, x, y, weights) + l2 / 2 * jnp.square(params["kernel"]).sum()

    gradient = jnp.abs(jax.grad(total)(params)["kernel"]).max()
    return params, l2, mean_loss(params, x, y, weights), gradient, taken


def _fit_floats(
    x: jax.Array,
    y: jax.Array,
    share: jax.Array,
    l2: Scalar,
) -> Params:
    """Return the ridge regression of centered features: (XᵀX / n + l2 I) W = XᵀY / n."""
    bias = (share * y).sum(0)  # (outputs,)
    # (width, width), (width, outputs)
    moments = _product(x.T, share * x) + l2 * jnp.eye(x.shape[1], dtype=x.dtype)
    products = _product(x.T, share * (y - bias[None]))
    kernel = jax.scipy.linalg.solve(moments, products, assume_a="pos")  # (width, outputs)
    return {"kernel": kernel, "bias": bias}


def _fit_labels(
    x: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    l2: Scalar,
    classes: int,
    steps: int,
) -> tuple[Params, Step]:
    """Return the logistic regression of centered features, and the number of steps of L-BFGS."""
    variance = (weights[:, None] * jnp.square(x)).sum(0) / weights.sum()  # (width,)
    # The curvature of the loss by an entry of the kernel, at zeros, and that of the penalty. In
    # these units all of them are 1.
    curvature = variance * (1 - 1 / classes) / classes + l2
    unit = jax.lax.rsqrt(curvature)[:, None]  # (width, 1)
    tolerance = float(jnp.finfo(x.dtype).eps) ** EPS_POWER

    def scaled(params: Params) -> Params:
        return {"kernel": unit * params["kernel"], "bias": params["bias"]}

    def value_fn(params: Params) -> Scalar:
        own = scaled(params)
        return mean_loss(own, x, labels, weights) + l2 / 2 * jnp.square(own["kernel"]).sum()

    def search(rate: float | None, patience: int, start: Search) -> Search:
        optimizer = optim.lbfgs(rate)

        def is_open(carry: Search) -> jax.Array:
            return (carry.step < steps) & (carry.best > tolerance) & (carry.stalled < patience)

        def advance(carry: Search) -> Search:
            value, grads = jax.value_and_grad(value_fn)(carry.params)
            params, opt_state = optim.step(
                optimizer, grads, carry.opt_state, carry.params, value_fn=value_fn
            )
            largest = jnp.stack([jnp.abs(leaf).max() for leaf in jax.tree.leaves(grads)]).max()
            is_best = largest < carry.best
            is_better = value < carry.value if rate is None else is_best
            return Search(
                params=params,
                opt_state=opt_state,
                value=value,
                kept=trees.select(is_best, carry.params, carry.kept),
                best=jnp.minimum(largest, carry.best),
                stalled=jnp.where(is_better, 0, carry.stalled + 1),
                step=carry.step + 1,
            )

        return jax.lax.while_loop(is_open, advance, start)

    first = {
        "kernel": jnp.zeros((x.shape[1], classes), x.dtype),
        "bias": jnp.zeros((classes,), x.dtype),
    }
    start = Search(
        params=first,
        opt_state=optim.lbfgs().init(first),
        value=jnp.array(jnp.inf, x.dtype),
        kept=first,
        best=jnp.array(jnp.inf, x.dtype),
        stalled=jnp.int32(0),
        step=jnp.int32(0),
    )
    # Near the optimum the value is constant to rounding, where a line search fails. The gradient
    # is not: whole steps continue until it no longer falls.
    near = search(None, 1, start)
    last = search(1.0, PATIENCE, near._replace(params=near.kept, stalled=jnp.int32(0)))
    return scaled(last.kept), last.step


class Search(NamedTuple):
    """The state of L-BFGS.

    Attributes:
        params: The next params.
        opt_state: Of L-BFGS.
        value: Loss and penalty of the params before.
        kept: The params with the least gradient.
        best: Its largest entry.
        stalled: Number of steps since.
        step: Number of steps.
    """

    params: Params
    opt_state: OptState
    value: Scalar
    kept: Params
    best: Scalar
    stalled: Step
    step: Step


def mean_loss(
    params: Params,
    x: jax.Array,
    y: jax.Array,
    weights: jax.Array,
) -> Scalar:
    """Return the weighted mean of the losses."""
    outputs = _product(x, params["kernel"]) + params["bias"][None]  # (n, outputs)
    losses = cross_entropy(outputs, y) if y.ndim == 1 else jnp.square(outputs - y).sum(1) / 2
    # Traced labels out of range give NaN.
    return (weights * losses).sum() / weights.sum()


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a matrix product of full precision, since GPUs would round the factors to 10 bits."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
