"""The loss of a network with several heads."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.objective.loss import as_loss
from fnn.objective.targets import per_example
from fnn.objective.weights import as_weighted
from fnn.types import Loss, LossFunction, Number, PerExample
from fnn.values import maker

LOG_VARIANCE = "log_variance"  # where the outputs hold what `learned` weighs by


@maker
def multi_task(
    losses: Mapping[str, LossFunction],
    *,
    weights: Mapping[str, Number] | None = None,
    learned: bool = False,
) -> Loss:
    """The loss of several heads, Σ_k w_k L_k for each example; outputs and targets are dicts with an entry a head.

    Where a head's loss gives weights, it is Σ_k w_k m_k L_k: a head that does not count for an example adds nothing.
    With learned, outputs hold "log_variance" s (batch, heads) too, in the order of the losses, as from nn.parameter,
    and the loss is Σ_k exp(-s_k) w_k L_k + s_k / 2 [Kendall, Gal & Cipolla 2018, arXiv:1705.07115, eq. 10; in its form
    for regression, eq. 7, L is halved]. ConfigError for losses or weights that are none, or weights of no head;
    TreeMismatchError for heads missing or left over.
    """
    if not isinstance(losses, Mapping) or not losses or not all(map(callable, losses.values())):
        raise ConfigError(
            "multi_task losses",
            "a loss a head",
            repr(losses),
            "give a dict of them, by the heads' names",
        )
    if LOG_VARIANCE in losses:
        raise ConfigError(
            "multi_task losses",
            f"a head of another name than {LOG_VARIANCE}",
            list(losses),
            "rename it",
        )
    _expect_heads("multi_task weights", dict(weights or {}), losses, ConfigError, complete=False)
    own = {
        head: checks.number(f"multi_task weights {head}", w, "[0, inf)")
        for head, w in (weights or {}).items()
    }
    checks.flag("multi_task learned", learned)
    functions = {head: as_loss(f"multi_task losses {head}", loss) for head, loss in losses.items()}
    extra = [LOG_VARIANCE] if learned else []

    def weighed(head: str, outputs: Any, targets: Any) -> PerExample:
        values, counts = as_weighted(functions[head](outputs, targets))
        return per_example(values * counts) * trees.knob(own.get(head, 1.0), values)

    def total(outputs: Any, targets: Any) -> PerExample:
        _expect_heads("multi_task outputs", outputs, [*functions, *extra], TreeMismatchError)
        _expect_heads("multi_task targets", targets, functions, TreeMismatchError)
        heads = [weighed(head, outputs[head], targets[head]) for head in functions]
        if not learned:
            return sum(heads[1:], heads[0])
        return _by_uncertainty(outputs[LOG_VARIANCE], jnp.stack(heads, 1))

    return Loss(total, heads=functions)


def _by_uncertainty(log_variance: jax.Array, values: jax.Array) -> PerExample:
    s = checks.floating("multi_task log_variance", log_variance)
    if s.shape != values.shape:
        raise ShapeError(
            "multi_task log_variance", f"(batch, heads) {values.shape}", s.shape, "give one a head"
        )
    s = s.astype(values.dtype)
    return (jnp.exp(-s) * values + s / 2).sum(1)


def _expect_heads(
    where: str, got: Any, heads: Any, error: type[ValueError], *, complete: bool = True
) -> None:
    """Raise unless it is a mapping with an entry for every head, and for nothing else."""
    if not isinstance(got, Mapping):
        raise error(
            where, f"a dict of the heads {list(heads)}", type(got).__name__, "give an entry a head"
        )
    if set(got) - set(heads) or (complete and set(heads) - set(got)):
        raise error(
            where, f"the heads {list(heads)}", list(got), "give an entry a head, and no other"
        )
