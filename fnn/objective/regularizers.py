"""Penalties of parameters, and max-norm constraints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.types import Constraint, Number, Params, Regularizer, Scalar
from fnn.values import Made, maker, shown


@dataclass(frozen=True, eq=False)
class Penalty:
    """A regularizer that can be added to another, scaled, and kept to some of the parameters.

    function: params, any pytree of floating-point arrays, one bare array too -> scalar. A scale may be traced.
    """

    function: Regularizer
    __array_ufunc__ = None  # a NumPy number to the left leaves the product to this class

    def __call__(self, params: Params) -> Scalar:
        """The value; DTypeError for parameters that are no floating-point numbers."""
        return self.function(params)

    def __add__(self, other: "Penalty") -> "Penalty":
        """The sum of both."""
        return plus(self, other) if isinstance(other, Penalty) else NotImplemented

    def __mul__(self, scale: Number) -> "Penalty":
        """The penalty times a number, which may be traced."""
        return times(scale, self)

    __rmul__ = __mul__

    def on(self, *patterns: str) -> "Penalty":
        """The penalty of the parameters at these paths alone: `*` stands for any text, as in l2(1e-4).on("*kernel").

        ConfigError, when it meets params, for a pattern that names none of them.
        """
        return on(self, *patterns)


def _apart(penalty: Penalty, *makers: Any) -> str:
    """The text of a penalty as a part of another: in brackets if one of these made it."""
    stands = isinstance(penalty, Made) and penalty.maker in makers
    return f"({shown(penalty)})" if stands else shown(penalty)


def _shown_sum(first: Penalty, second: Penalty) -> str:
    return f"{shown(first)} + {_apart(second, plus)}"


def _shown_product(scale: Number, penalty: Penalty) -> str:
    return f"{shown(scale)} * {_apart(penalty, plus, times)}"


def _shown_choice(penalty: Penalty, *patterns: str) -> str:
    return f"{_apart(penalty, plus, times)}.on({', '.join(map(repr, patterns))})"


@maker(show=_shown_sum)
def plus(first: Penalty, second: Penalty) -> Penalty:
    """The sum of two penalties."""
    return Penalty(lambda params: first(params) + second(params))


@maker(show=_shown_product)
def times(scale: Number, penalty: Penalty) -> Penalty:
    """A penalty times a number."""
    checks.number("penalty scale", scale, "(-inf, inf)")

    def scaled(params: Params) -> Scalar:
        value = penalty(params)
        return trees.knob(scale, value) * value

    return Penalty(scaled)


@maker(show=_shown_choice)
def on(penalty: Penalty, *patterns: str) -> Penalty:
    """A penalty of some of the parameters."""

    def chosen(params: Params) -> Scalar:
        named = trees.matching("penalty on", params, patterns)
        return penalty(
            {path: leaf for path, leaf in trees.named_leaves(params).items() if named[path]}
        )

    return Penalty(chosen)


@maker
def l1(strength: Number = 1.0) -> Penalty:
    """λ Σ |θ| over all parameters, which draws them to exactly 0; ConfigError unless λ >= 0 [Tibshirani 1996]."""
    checks.number("l1 strength", strength, "[0, inf)")
    return strength * _summed(lambda p: (p * jnp.sign(p)).sum())


@maker
def l2(strength: Number = 1.0) -> Penalty:
    """λ Σ θ² over all parameters, without a half; ConfigError unless λ >= 0 [Hoerl & Kennard 1970]."""
    checks.number("l2 strength", strength, "[0, inf)")
    return strength * _summed(lambda p: jnp.square(p).sum())


@maker
def elastic_net(strength: Number = 1.0, *, alpha: Number = 0.5) -> Penalty:
    """λ Σ (1 - α) |θ| + α θ² over all parameters; ConfigError unless λ >= 0 and 0 <= α <= 1 [Zou & Hastie 2005]."""
    checks.number("elastic_net strength", strength, "[0, inf)")
    checks.number("elastic_net alpha", alpha, "[0, 1]")

    def penalty(p: jax.Array) -> jax.Array:
        part = trees.knob(alpha, p)
        return (1 - part) * (p * jnp.sign(p)).sum() + part * jnp.square(p).sum()

    return strength * _summed(penalty)


@maker
def orthogonal(strength: Number = 1.0) -> Penalty:
    """λ Σ ‖WᵀW - I‖² over the kernels, each as a matrix W (inputs, outputs): how far columns are from orthonormal.

    Kernels are the parameters of two axes or more, the last being the outputs. Where there are more outputs than inputs
    it is ‖WWᵀ - I‖², which has the same gradient and can be 0. ConfigError unless λ >= 0 [Brock et al. 2017,
    arXiv:1609.07093].
    """
    checks.number("orthogonal strength", strength, "[0, inf)")
    return strength * _summed(_gram_error)


def _gram_error(p: jax.Array) -> jax.Array:
    if p.ndim < 2:
        return jnp.zeros((), p.dtype)
    w = p.reshape(-1, p.shape[-1])
    w = w if w.shape[0] >= w.shape[1] else w.T
    gram = jnp.matmul(w.T, w, precision="highest")
    return jnp.square(gram - jnp.eye(len(gram), dtype=p.dtype)).sum()


def _summed(one: Callable[[jax.Array], jax.Array]) -> Penalty:
    """The sum over the parameter arrays, each computed in float32 at least."""

    def total(params: Params) -> Scalar:
        arrays: dict[str, Any] = trees.named_leaves(params)
        for path, leaf in arrays.items():
            checks.floating(f"params {path}".strip(), leaf)
        dtypes = [trees.wide(leaf) for leaf in arrays.values()]
        widest = max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))
        terms = [
            one(leaf.astype(wide)).astype(widest)
            for leaf, wide in zip(arrays.values(), dtypes, strict=True)
        ]
        return sum(terms, jnp.zeros((), widest))

    return Penalty(total)


@maker
def max_norm(limit: Number, *, paths: Sequence[str] = ()) -> Constraint:
    """Params whose units' incoming weights are scaled down to a norm of at most the limit, w <- w min(1, limit / |w|).

    A unit's weights lie along all axes but the last, of kernels: the parameters of two axes or more; others stay, as
    does what is not at these `paths`, if any are given (see Penalty.on). The gradient is finite at 0. ConfigError
    unless limit > 0, or for a path that names nothing [Srivastava et al. 2014, JMLR 15, sec. 5.1].
    """
    checks.number("max_norm limit", limit, "(0, inf)")

    def constraint(params: Params) -> Params:
        named = trees.matching("max_norm paths", params, paths)
        leaves = [
            _shortened(leaf, limit) if leaf.ndim >= 2 and (named[path] or not paths) else leaf
            for path, leaf in trees.named_leaves(params).items()
        ]
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    return constraint


def _shortened(p: jax.Array, limit: Number) -> jax.Array:
    wide = checks.floating("max_norm params", p).astype(trees.wide(p))
    bound = trees.knob(limit, wide)
    square = jnp.square(wide).sum(tuple(range(p.ndim - 1)), keepdims=True)
    over = square > bound * bound
    scale = jnp.where(
        over, bound / jnp.sqrt(jnp.where(over, square, 1)), 1
    )  # no root of 0, whose slope is infinite
    return (wide * scale).astype(p.dtype)
