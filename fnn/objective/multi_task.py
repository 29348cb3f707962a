"""Multi-task loss: one loss for each head of a network."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fnn import checks, trees
from fnn.errors import ConfigError, ShapeError, TreeMismatchError
from fnn.objective.loss import as_loss
from fnn.objective.targets import mean_per_example
from fnn.objective.weights import as_weighted
from fnn.types import Loss, LossFunction, Number, PerExample
from fnn.values import maker

LOG_VARIANCE = "log_variance"  # the entry of the outputs with the learned uncertainties


@maker
def multi_task(
    losses: Mapping[str, LossFunction],
    *,
    weights: Mapping[str, Number] | None = None,
    learned: bool = False,
) -> Loss:
    """Multi-task loss, Σ_k w_k L_k for each example, over the heads k of a network.

    Outputs and targets are dicts with an entry for each head. If a loss returns weights m, its
    term is w_k m_k L_k: a head that does not count for an example adds 0. Learned uncertainty is
    [Kendall, Gal & Cipolla 2018, arXiv:1705.07115, eq. 10; in its form for regression, eq. 7, L is
    halved].

    Args:
        losses: A loss for each head, by the head's name.
        weights: w_k >= 0 by head; 1 for a head that is left out. They may be traced.
        learned: Weigh by learned uncertainty, Σ_k exp(-s_k) w_k L_k + s_k / 2. Then the outputs
            have the entry "log_variance", s (batch, heads) in the order of `losses`, as from
            nn.parameter.

    Raises:
        ConfigError: `losses` is not a dict of functions, a head is named "log_variance", or
            `weights` has a negative number or a name that is not a head.
        ShapeError: When called, "log_variance" is not (batch, heads).
        TreeMismatchError: When called, outputs or targets lack a head or have another entry.
    """
    if not isinstance(losses, Mapping) or not losses or not all(map(callable, losses.values())):
        advice = "give a dict of them, by the heads' names"
        raise ConfigError(
            "multi_task losses",
            "a loss a head",
            repr(losses),
            advice,
        )
    if LOG_VARIANCE in losses:
        expected = f"a head of another name than {LOG_VARIANCE}"
        raise ConfigError(
            "multi_task losses",
            expected,
            list(losses),
            "rename it",
        )
    # The weight of a misspelled head would have no effect, so the names are checked.
    given = dict(weights or {})
    _expect_heads("multi_task weights", given, losses, ConfigError, complete=False)
    head_weights = {}
    for head, weight in given.items():
        head_weights[head] = checks.number(f"multi_task weights {head}", weight, "[0, inf)")
    checks.flag("multi_task learned", learned)
    functions = {}
    for head, loss in losses.items():
        functions[head] = as_loss(f"multi_task losses {head}", loss)
    # With learned uncertainty, the outputs have one more entry than heads.
    entries = [*functions, LOG_VARIANCE] if learned else [*functions]

    def head_loss(head: str, outputs: Any, targets: Any) -> PerExample:
        values, counts = as_weighted(functions[head](outputs, targets))
        # A head with several values an example, as for a sequence, counts by their mean.
        mean = mean_per_example(values * counts)
        return mean * trees.knob(head_weights.get(head, 1.0), values)

    def total(outputs: Any, targets: Any) -> PerExample:
        _expect_heads("multi_task outputs", outputs, entries, TreeMismatchError)
        _expect_heads("multi_task targets", targets, functions, TreeMismatchError)
        heads = [head_loss(head, outputs[head], targets[head]) for head in functions]
        if not learned:
            # From the first head on, since a sum from 0 would add an operation to the program.
            return sum(heads[1:], heads[0])
        by_head = jnp.stack(heads, 1)  # (batch, heads)
        return _weigh_by_uncertainty(outputs[LOG_VARIANCE], by_head)

    couples = [function.couples_examples for function in functions.values()]
    # One head that couples them is enough; one that may do so leaves it unknown.
    couples_examples = True if True in couples else None if None in couples else False
    return Loss(total, heads=functions, couples_examples=couples_examples, mode="min")


def _weigh_by_uncertainty(log_variance: jax.Array, values: jax.Array) -> PerExample:
    s = checks.floating("multi_task log_variance", log_variance)
    if s.shape != values.shape:
        expected = f"(batch, heads) {values.shape}"
        raise ShapeError(
            "multi_task log_variance",
            expected,
            s.shape,
            "give one a head",
        )
    s = s.astype(values.dtype)
    # exp(-s) is the precision of a head; s / 2 is the price of a large variance.
    return (jnp.exp(-s) * values + s / 2).sum(1)


def _expect_heads(
    where: str,
    got: Any,
    heads: Collection[str],
    error: type[ValueError],
    *,
    complete: bool = True,
) -> None:
    """Raise the error unless this is a dict of the heads: of all of them, if `complete`."""
    if not isinstance(got, Mapping):
        expected = f"a dict of the heads {list(heads)}"
        raise error(
            where,
            expected,
            type(got).__name__,
            "give an entry a head",
        )
    # Weights may leave heads out; outputs and targets may not.
    extra = set(got) - set(heads)
    missing = set(heads) - set(got)
    if extra or (complete and missing):
        expected = f"the heads {list(heads)}"
        raise error(
            where,
            expected,
            list(got),
            "give an entry a head, and no other",
        )
