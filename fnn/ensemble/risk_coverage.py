"""Selective prediction: the risk of the examples that are answered, against their share."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from fnn import checks, trees
from fnn.errors import DTypeError, NonFiniteError, ShapeError
from fnn.objective.targets import expect_array, expect_floats
from fnn.types import Scalar


class RiskCoverage(NamedTuple):
    """The risk-coverage curve of n examples, in the order of their scores.

    Attributes:
        coverage: Share of the examples that are answered, 1/n, 2/n, ..., 1, (n,).
        risk: Mean loss of these examples, (n,).
        threshold: The largest score among them, (n,).
        area: Area under the curve (AURC), a scalar.
    """

    coverage: Array
    risk: Array
    threshold: Array
    area: Scalar

    def __repr__(self) -> str:
        # Of several curves, as under jax.vmap, or within jax.jit there is no text.
        is_known = isinstance(self.area, Array) and checks.is_concrete(self.area)
        if not is_known or self.area.ndim:
            return f"RiskCoverage({checks.show(self.area)})"
        n = len(self.risk)
        return f"RiskCoverage(area {self.area:.4g}, risk {self.risk[-1]:.4g} of all {n})"


def risk_coverage(scores: Any, losses: Any) -> RiskCoverage:
    """Compute the risk-coverage curve: the mean loss of the examples with the lowest scores.

    The area is that of the trapezoids between the coverages 1/n and 1, divided by 1 - 1/n: a mean
    risk over all coverages. Examples of equal scores are in a random order; the curve is the mean
    over all such orders. risk_coverage(losses, losses) has the least area that scores can reach
    [Geifman & El-Yaniv 2017, arXiv:1705.08500].

    Args:
        scores: (n,), higher for less certain examples, such as those of `outlier_scores`.
        losses: (n,), such as 1 for a wrong and 0 for a right prediction, of any dtype.

    Raises:
        DTypeError: An array does not hold numbers.
        NonFiniteError: A score is NaN.
        ShapeError: The shapes do not fit, or there are fewer than two examples.
    """
    expect_floats("risk_coverage scores", scores)
    expect_array("risk_coverage losses", losses)
    # One example would be a point, without an area.
    if scores.ndim != 1 or len(scores) < 2:
        raise ShapeError(
            "risk_coverage scores",
            "(n,) with two examples or more",
            scores.shape,
            "give one number an example",
        )
    if losses.shape != scores.shape:
        raise ShapeError(
            "risk_coverage losses",
            f"one for each score, {scores.shape}",
            losses.shape,
            "give one number an example, as of logits.argmax(-1) != labels",
        )
    if not jnp.issubdtype(losses.dtype, jnp.number) and losses.dtype != bool:
        raise DTypeError(
            "risk_coverage losses",
            "numbers",
            losses.dtype,
            "convert them",
        )
    own = jnp.asarray(scores, trees.wide(scores))
    # NaN has no rank among the scores.
    if checks.is_concrete(own) and bool(jnp.isnan(own).any()):
        raise NonFiniteError(
            "risk_coverage scores",
            "numbers",
            "NaN",
            "leave these examples out",
        )
    return _curve(own, jnp.asarray(losses))


@jax.jit
def _curve(scores: Array, losses: Array) -> RiskCoverage:
    # From the most to the least certain example.
    order = jnp.argsort(scores)
    ranked = scores[order]
    values = _mean_of_ties(ranked, losses[order].astype(ranked.dtype))
    n = len(ranked)
    number = jnp.arange(1, n + 1, dtype=ranked.dtype)
    # (n,): the mean loss of the first 1, 2, ..., n examples.
    risk = jnp.cumsum(values) / number
    # Trapezoids of width 1/n, over the length 1 - 1/n.
    area = ((risk[1:] + risk[:-1]) / 2).mean()
    return RiskCoverage(number / n, risk, ranked, area)


def _mean_of_ties(ranked: Array, values: Array) -> Array:
    """Replace the values of equal sorted scores by their mean, (n,)."""
    # True at the first example of each group of equal scores, (n,).
    is_new = jnp.pad(ranked[1:] != ranked[:-1], (1, 0), constant_values=True)
    group = jnp.cumsum(is_new) - 1  # (n,)
    n = len(ranked)
    # Static shapes: there are at most n groups, and unused ones are empty.
    totals = jax.ops.segment_sum(values, group, n)
    sizes = jax.ops.segment_sum(jnp.ones_like(values), group, n)
    # (groups,) -> (n,)
    return (totals / jnp.maximum(sizes, 1))[group]
