"""Penalties on parameters, their sums and products, and max-norm constraints."""

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
    """A regularizer that can be added to another, scaled, and restricted to some parameters.

    As in 1e-4 * (l2().on("*kernel") + l1(0.1)).

    Attributes:
        function: params -> scalar, for any pytree of floating-point arrays.
    """

    function: Regularizer
    # A NumPy number on the left leaves the product to __rmul__ here.
    __array_ufunc__ = None

    def __call__(self, params: Params) -> Scalar:
        """Return the value; DTypeError for parameters that are not floating-point numbers."""
        return self.function(params)

    def __add__(self, other: "Penalty") -> "Penalty":
        """Return the sum of both."""
        return add(self, other) if isinstance(other, Penalty) else NotImplemented

    def __mul__(self, scale: Number) -> "Penalty":
        """Return the penalty times a number, which may be traced."""
        return multiply(scale, self)

    __rmul__ = __mul__

    def on(self, *patterns: str) -> "Penalty":
        """Restrict the penalty to the parameters at some paths, as in l2(1e-4).on("*kernel").

        Args:
            patterns: Paths of parameters, or the beginnings of paths; `*` stands for any text.

        Raises:
            ConfigError: When called with params, a pattern matches none of them.
        """
        return restrict(self, *patterns)


# Penalties.


@maker
def l1(strength: Number = 1.0) -> Penalty:
    """L1 penalty, λ Σ |θ| over all parameters; it makes many exactly 0 [Tibshirani 1996].

    Args:
        strength: λ >= 0.

    Raises:
        ConfigError: `strength` is negative.
    """
    checks.number("l1 strength", strength, "[0, inf)")
    return strength * _sum_over_leaves(_absolute_sum)


@maker
def l2(strength: Number = 1.0) -> Penalty:
    """L2 penalty, λ Σ θ² over all parameters, without a factor 1/2 [Hoerl & Kennard 1970].

    Args:
        strength: λ >= 0.

    Raises:
        ConfigError: `strength` is negative.
    """
    checks.number("l2 strength", strength, "[0, inf)")
    return strength * _sum_over_leaves(_square_sum)


@maker
def elastic_net(strength: Number = 1.0, *, alpha: Number = 0.5) -> Penalty:
    """Elastic net, λ Σ (1 - α) |θ| + α θ² over all parameters [Zou & Hastie 2005].

    Args:
        strength: λ >= 0.
        alpha: Share α of the L2 penalty, in [0, 1].

    Raises:
        ConfigError: `strength` is negative, or `alpha` is outside of [0, 1].
    """
    checks.number("elastic_net strength", strength, "[0, inf)")
    checks.number("elastic_net alpha", alpha, "[0, 1]")

    def penalty(p: jax.Array) -> jax.Array:
        share = trees.knob(alpha, p)
        return (1 - share) * _absolute_sum(p) + share * _square_sum(p)

    return strength * _sum_over_leaves(penalty)


@maker
def orthogonal(strength: Number = 1.0) -> Penalty:
    """Orthogonality penalty, λ Σ ‖WᵀW - I‖² over the kernels, as matrices W (inputs, outputs).

    Kernels are the parameters of two axes or more, the last being the outputs. With more outputs
    than inputs it is ‖WWᵀ - I‖², which has the same gradient and can be 0 [Brock et al. 2017,
    arXiv:1609.07093].

    Args:
        strength: λ >= 0.

    Raises:
        ConfigError: `strength` is negative.
    """
    checks.number("orthogonal strength", strength, "[0, inf)")
    return strength * _sum_over_leaves(_gram_error)


def _absolute_sum(p: jax.Array) -> jax.Array:
    # The slope is 0 at 0; that of jnp.abs is 1.
    return (p * jnp.sign(p)).sum()


def _square_sum(p: jax.Array) -> jax.Array:
    return jnp.square(p).sum()


def _gram_error(p: jax.Array) -> jax.Array:
    if p.ndim < 2:
        return jnp.zeros((), p.dtype)
    w = p.reshape(-1, p.shape[-1])  # (inputs, outputs)
    # The smaller of the two Gram matrices.
    w = w if w.shape[0] >= w.shape[1] else w.T
    gram = jnp.matmul(w.T, w, precision="highest")
    return jnp.square(gram - jnp.eye(len(gram), dtype=p.dtype)).sum()


def _sum_over_leaves(penalty: Callable[[jax.Array], jax.Array]) -> Penalty:
    """Return the sum of a penalty over the parameter arrays, each in float32 at least."""

    def total(params: Params) -> Scalar:
        arrays: dict[str, Any] = trees.named_leaves(params)
        for path, leaf in arrays.items():
            # A bare array has the path "".
            checks.floating(f"params {path}".strip(), leaf)
        # Parameters of mixed precision: each is computed in its dtype, the sum in the widest.
        dtypes = [trees.wide(leaf) for leaf in arrays.values()]
        widest = max(dtypes, key=lambda dtype: dtype.itemsize, default=jnp.dtype(jnp.float32))
        terms = []
        for leaf, dtype in zip(arrays.values(), dtypes, strict=True):
            terms.append(penalty(leaf.astype(dtype)).astype(widest))
        return sum(terms, jnp.zeros((), widest))

    return Penalty(total)


# Sums, products and restrictions. Each prints as the expression that makes it.


def _shown_operand(penalty: Penalty, *makers: Any) -> str:
    """Return the text of a penalty, in parentheses if one of these makers made it."""
    if isinstance(penalty, Made) and penalty.maker in makers:
        return f"({shown(penalty)})"
    return shown(penalty)


def _shown_sum(first: Penalty, second: Penalty) -> str:
    # A sum associates to the left, so only a sum on the right needs parentheses.
    return f"{shown(first)} + {_shown_operand(second, add)}"


def _shown_product(scale: Number, penalty: Penalty) -> str:
    return f"{shown(scale)} * {_shown_operand(penalty, add, multiply)}"


def _shown_restriction(penalty: Penalty, *patterns: str) -> str:
    operand = _shown_operand(penalty, add, multiply)
    arguments = ", ".join(map(repr, patterns))
    return f"{operand}.on({arguments})"


@maker(show=_shown_sum)
def add(first: Penalty, second: Penalty) -> Penalty:
    """Return the sum of two penalties."""
    return Penalty(lambda params: first(params) + second(params))


@maker(show=_shown_product)
def multiply(scale: Number, penalty: Penalty) -> Penalty:
    """Return a penalty times a number."""
    checks.number("penalty scale", scale, "(-inf, inf)")

    def scaled(params: Params) -> Scalar:
        value = penalty(params)
        return trees.knob(scale, value) * value

    return Penalty(scaled)


@maker(show=_shown_restriction)
def restrict(penalty: Penalty, *patterns: str) -> Penalty:
    """Return a penalty of the parameters at some paths."""

    def restricted(params: Params) -> Scalar:
        matches = trees.matching("penalty on", params, patterns)
        leaves = trees.named_leaves(params)
        selected = {path: leaf for path, leaf in leaves.items() if matches[path]}
        return penalty(selected)

    return Penalty(restricted)


# Constraints.


@maker
def max_norm(limit: Number, *, paths: Sequence[str] = ()) -> Constraint:
    """Max-norm constraint: scale each unit's incoming weights w by min(1, limit / |w|).

    The incoming weights of a unit are along all axes of a kernel but the last. Kernels are the
    parameters of two axes or more; others stay the same [Srivastava et al. 2014, JMLR 15, sec.
    5.1].

    Args:
        limit: Largest norm of a unit's weights, > 0.
        paths: Paths of the kernels to constrain, as in Penalty.on; all by default.

    Raises:
        ConfigError: `limit` is not positive; or, when called with params, a path matches none.
    """
    checks.number("max_norm limit", limit, "(0, inf)")

    def constraint(params: Params) -> Params:
        # Without patterns nothing matches, and all kernels are constrained.
        matches = trees.matching("max_norm paths", params, paths)
        leaves = []
        for path, leaf in trees.named_leaves(params).items():
            is_chosen = matches[path] or not paths
            constrained = leaf.ndim >= 2 and is_chosen
            leaves.append(_limit_norms(leaf, limit) if constrained else leaf)
        return jax.tree.unflatten(jax.tree.structure(params), leaves)

    return constraint


def _limit_norms(p: jax.Array, limit: Number) -> jax.Array:
    wide = checks.floating("max_norm params", p).astype(trees.wide(p))
    bound = trees.knob(limit, wide)
    input_axes = tuple(range(p.ndim - 1))
    square = jnp.square(wide).sum(input_axes, keepdims=True)  # (1, ..., 1, units)
    over = square > bound * bound
    # The inner where keeps the root of 0, whose slope is infinite, out of the gradient.
    scale = jnp.where(over, bound / jnp.sqrt(jnp.where(over, square, 1)), 1)
    return (wide * scale).astype(p.dtype)
